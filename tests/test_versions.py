"""The floors of setup.py and the constraints by which they are installed and tested say the same."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
# What the lowest set leaves at the newest: libraries of several GB, and tools that no test calls.
NEWEST = {"torch", "torchvision", "ruff", "mypy"}


def requirements() -> list[str]:
    """What setup.py requires of other projects, for the package, its tests and its optional parts."""
    call = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body[-1].value
    declared = {item.arg: item.value for item in call.keywords}
    extras = ast.literal_eval(declared["extras_require"])
    tested = re.fullmatch(r"recipe-trainer\[([\w,]+)\]", extras["test"][0])[1].split(",")  # optional parts
    parts = [ast.literal_eval(declared["install_requires"]), *(extras[name] for name in ("test", *tested))]
    return [line for part in parts for line in part if not line.startswith("recipe-trainer[")]


def test_every_requirement_has_a_floor() -> None:
    assert [line for line in requirements() if not re.match(r"[\w-]+>=[\d.]+(,<\d+)?$", line)] == []


def test_the_lowest_set_is_every_floor_and_nothing_else() -> None:
    floors = dict(re.match(r"([\w-]+)>=([\d.]+)", line).groups() for line in requirements())
    lines = (ROOT / "tests" / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert pinned == {name: version for name, version in floors.items() if name not in NEWEST}
