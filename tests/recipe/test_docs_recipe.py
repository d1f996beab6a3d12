"""docs/recipe.md: every snippet is executed, and the tables are those of the dataclasses."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from registry.catalogue.grammar import plain_words, words
from trainer.recipe.load import load_recipe
from trainer.recipe.problems import render
from trainer.recipe.reading.references import FACTS
from trainer.recipe.recipe import Recipe
from trainer.recipe.sections import recipe_type, section_class, section_type

PAGE = Path(__file__).parents[2] / "docs" / "recipe.md"
BLOCK = re.compile(r"^```(\w+)( wrong)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TABLES = (
    "Recipe",
    "Data",
    "Fraction",
    "LRFinder",
    "Train",
    "Ema",
    "Best",
    "Checkpoint",
    "Answering",
    "StepOn",
    "Group",
)


def blocks() -> list[tuple[str, bool, str]]:
    return [(kind, bool(wrong), text) for kind, wrong, text in BLOCK.findall(PAGE.read_text(encoding="utf-8"))]


WHOLE = next(text for kind, _, text in blocks() if kind == "yaml")


@pytest.fixture(autouse=True)
def _inside_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("text", [text for kind, wrong, text in blocks() if kind == "yaml" and not wrong])
def test_a_snippet_is_a_right_recipe_or_a_right_part_of_one(text: str) -> None:
    Path("whole.yaml").write_text(WHOLE, encoding="utf-8")
    Path("recipe.yaml").write_text(text if "version:" in text else f"extends: whole.yaml\n{text}", encoding="utf-8")
    loaded = load_recipe("recipe.yaml")
    assert render(loaded.problems) == ""


def test_a_wrong_snippet_says_what_the_page_says() -> None:
    found = blocks()
    pairs = [(text, found[i + 1][2]) for i, (_, wrong, text) in enumerate(found) if wrong]
    assert pairs
    for text, said in pairs:
        Path("recipe.yaml").write_text(text, encoding="utf-8")
        assert render(load_recipe("recipe.yaml").problems) == said.rstrip("\n")


def test_the_command_lines_are_right() -> None:
    Path("recipe.yaml").write_text(WHOLE, encoding="utf-8")
    lines = [line for kind, _, text in blocks() if kind == "sh" for line in text.splitlines()]
    assert lines
    for line in lines:
        start, *rest = shlex.split(line)
        assert [start, *rest[:2]] == ["python", "-m", "trainer"]
        assert render(load_recipe(rest[2], rest[3:]).problems) == ""


def table(name: str) -> str:
    """Return the table of a section's keys as the page shows it."""
    cls = section_class(name)
    type_ = recipe_type() if cls is Recipe else section_type(cls)
    rows = ["| key | takes | default | |", "|---|---|---|---|"]
    for key, field in type_["fields"].items():
        kinds = field["type"]["of"] if field["type"]["kind"] == "union" else [field["type"]]
        takes = " or ".join("mapping" if of["kind"] == "record" else words(of) for of in kinds if of["kind"] != "null")
        default = "" if field["default"] in (None, "") else f"`{plain(field['default'])}` "
        default = "**required** " if field["required"] else default
        rows.append(f"| `{key}` | {takes} | {default}| {' '.join(field['doc'].split())} |")
    return "\n".join(rows)


def plain(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {plain(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(plain, value)) + "]"
    return value if isinstance(value, str) else plain_words(value)


@pytest.mark.parametrize("name", TABLES)
def test_a_sections_table_is_that_of_its_dataclass(name: str) -> None:
    assert table(name) in PAGE.read_text(encoding="utf-8")


def test_every_run_time_value_is_listed() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, type_ in FACTS.items():
        assert f"| `${name}` | {words(type_)} |" in page
