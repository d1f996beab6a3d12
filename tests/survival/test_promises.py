"""The pages that make promises: every test they name exists, and their tables say what the code does."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from trainer.cli.main import main
from trainer.engine.interrupts import SIGNALS, Interrupted
from trainer.recipe.afterwards import FREE_AT_RESUME, READ_BY_EVALUATE

ROOT = Path(__file__).parent.parent.parent
RELIABILITY = ROOT / "docs" / "reliability.md"
SECURITY = ROOT / "docs" / "security.md"


def functions_of(path: Path) -> list[str]:
    return re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.M)


def named_tests(page: Path) -> list[tuple[str, str]]:
    """Return (file, function) of every test that a page names; "::function" belongs to the file named before."""
    found, file = [], ""
    for name in re.findall(r"`((?:tests/[\w/]+\.py)?::[\w*]+)`", page.read_text(encoding="utf-8")):
        before, _, function = name.partition("::")
        file = before or file
        found.append((file, function))
    return found


@pytest.mark.parametrize("page", [RELIABILITY, SECURITY], ids=lambda path: path.stem)
def test_every_test_that_a_page_names_exists(page):
    missing = [
        f"{file}::{function}"
        for file, function in named_tests(page)
        if not (ROOT / file).exists() or not any(fnmatch(name, function) for name in functions_of(ROOT / file))
    ]
    assert missing == []


def test_the_reliability_page_names_tests_for_at_least_sixty_cases():
    assert len(set(named_tests(RELIABILITY))) >= 60


def test_every_test_named_without_its_file_exists_somewhere():
    everywhere = [name for path in (ROOT / "tests").rglob("test_*.py") for name in functions_of(path)]
    wanted = re.findall(r"`(test_[\w*]+)`", SECURITY.read_text(encoding="utf-8"))
    assert [name for name in wanted if not any(fnmatch(each, name) for each in everywhere)] == []


@pytest.mark.parametrize(
    ("title", "command", "table"),
    [
        ("### What may change at resume", "resume", FREE_AT_RESUME),
        ("### What may be given anew at evaluate", "evaluate", READ_BY_EVALUATE),
    ],
)
def test_the_table_of_what_may_change_is_that_of_the_code_and_of_the_commands_help(title, command, table, capsys):
    text = RELIABILITY.read_text(encoding="utf-8").partition(title)[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(.+?)` \| (.+?) \|$", text, re.M)
    assert rows == [(free.pattern, free.why) for free in table]
    assert main([command, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert [f"{free.pattern} {free.why}" in shown for free in table] == [True] * len(table)


def test_the_page_names_the_exit_code_of_every_signal():
    text = RELIABILITY.read_text(encoding="utf-8")
    codes = ", ".join(str(code) for code in sorted(Interrupted(signum).exit_code for signum in SIGNALS))
    assert f"the printed line works; {codes} |" in text
    assert f"{codes.replace(', ', '/')} interrupted by SIGHUP" in text


@pytest.mark.parametrize("page", [RELIABILITY, SECURITY], ids=lambda path: path.stem)
def test_every_file_of_tests_that_a_page_names_exists(page):
    files = re.findall(r"`(tests/[\w/]+\.py)`", page.read_text(encoding="utf-8"))
    assert files or page == RELIABILITY
    assert [file for file in files if not (ROOT / file).exists()] == []
