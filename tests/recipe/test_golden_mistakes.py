"""The mistakes every comparable system gets wrong, and many more: each message is held to its last character."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainer.recipe.checks.rules import RULES
from trainer.recipe.load import load_recipe
from trainer.recipe.problems import render, to_json

TABLE = yaml.safe_load(Path(__file__).with_name("mistakes.yaml").read_text(encoding="utf-8"))
RIGHT: str = TABLE["right"]
MISTAKES: list[Mapping[str, Any]] = TABLE["mistakes"]

THE_TWELVE = (
    *("a misspelt component", "a misspelt argument", "a value of the wrong type", "an unknown section"),
    *("a mistyped override", "a mistyped argument of a callback", "a number in quotes", "a key given twice"),
    *("a dead reference", "an argument renamed upstream", "a metric that nobody measures", "a nested component"),
)


@pytest.fixture(autouse=True)
def _inside_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(mistake: Mapping[str, Any]) -> None:
    old = mistake.get("right", "")
    assert not old or RIGHT.count(old) == 1
    Path("recipe.yaml").write_text(RIGHT.replace(old, mistake["wrong"]) if old else RIGHT, encoding="utf-8")
    for name, text in mistake.get("files", {}).items():
        Path(name).write_text(text, encoding="utf-8")


def test_the_recipe_that_the_mistakes_are_made_in_is_right() -> None:
    Path("recipe.yaml").write_text(RIGHT, encoding="utf-8")
    loaded = load_recipe("recipe.yaml")
    assert render(loaded.problems) == ""
    assert loaded.warnings == ()


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake["name"] for mistake in MISTAKES])
def test_a_mistake_is_answered_word_for_word(mistake: Mapping[str, Any], tmp_path: Path) -> None:
    write(mistake)
    loaded = load_recipe("recipe.yaml", mistake.get("overrides", ()))
    said = [str(problem).replace(str(tmp_path.resolve()), "{folder}") for problem in loaded.problems]
    assert said == mistake["said"]
    assert loaded.recipe is None


def test_the_table_covers_what_it_promises() -> None:
    rules = {re.findall(r"\[([RW]\d+)\]$", said)[0] for mistake in MISTAKES for said in mistake["said"]}
    assert len(MISTAKES) >= 40
    assert len(rules) >= 25
    assert rules <= set(RULES)
    assert set(THE_TWELVE) <= {mistake["name"] for mistake in MISTAKES}


def test_a_report_shows_the_line_and_points_at_the_place() -> None:
    Path("recipe.yaml").write_text(RIGHT.replace("num_holes_range: [1, 1]", "max_height: 16"), encoding="utf-8")
    assert render(load_recipe("recipe.yaml").problems) == (
        "recipe.yaml:10:29: transform CoarseDropout takes no argument 'max_height' "
        "(renamed: use 'hole_height_range') [R021]\n"
        "        - {type: CoarseDropout, max_height: 16, p: 0.75}\n"
        "                                ^"
    )


def test_all_mistakes_are_reported_at_once_and_by_position() -> None:
    text = RIGHT
    for old, new in (("epochs: 50", "epocs: 50"), ("type: SGD,", "type: SGDD,"), ("patience: 5", "patience: five")):
        text = text.replace(old, new)
    Path("recipe.yaml").write_text(text, encoding="utf-8")
    problems = load_recipe("recipe.yaml", ["data.batch_size=0"]).problems
    assert [(problem.rule, problem.origin.line) for problem in problems] == [
        ("R020", 16),
        ("R011", 19),
        ("R016", 20),
        ("R017", 1),
    ]
    assert problems[-1].origin.file == "command line"


def test_a_line_of_japanese_is_pointed_at_under_the_right_cell() -> None:
    Path("recipe.yaml").write_text(RIGHT.replace("name: mine", "description: {日本語: 1}"), encoding="utf-8")
    _, line, caret = render(load_recipe("recipe.yaml").problems).splitlines()
    assert line == "    description: {日本語: 1}"
    assert caret == "                 ^"


def test_a_very_long_line_is_shown_around_the_place() -> None:
    Path("recipe.yaml").write_text(RIGHT + "x-note: [" + "1, " * 500 + "]\n", encoding="utf-8")
    text = Path("recipe.yaml").read_text(encoding="utf-8")
    Path("recipe.yaml").write_text(text.replace("x-note: [", "callbaks: ["), encoding="utf-8")
    _, line, caret = render(load_recipe("recipe.yaml").problems).splitlines()
    assert len(line) < 200
    assert caret.index("^") == line.index("callbaks")


def test_control_characters_of_a_message_do_not_reach_the_terminal() -> None:
    Path("recipe.yaml").write_text(RIGHT.replace("type: SGD,", 'type: "S\\e[31mD",'), encoding="utf-8")
    assert "\x1b" not in render(load_recipe("recipe.yaml").problems)


def test_problems_as_json_say_the_same() -> None:
    Path("recipe.yaml").write_text(RIGHT.replace("momentum", "momentun"), encoding="utf-8")
    assert to_json(load_recipe("recipe.yaml").problems) == [
        {
            "file": "recipe.yaml",
            "line": 16,
            "column": 43,
            "severity": "error",
            "rule": "R021",
            "message": "optimizer SGD takes no argument 'momentun'",
            "hint": "did you mean 'momentum'?",
            "path": "optimizer.momentum",
        }
    ]


def test_every_rule_that_a_check_names_is_explained() -> None:
    sources = Path(__file__).parents[2].joinpath("trainer").rglob("*.py")
    named = {rule for source in sources for rule in re.findall(r'"([RW]\d{3})"', source.read_text(encoding="utf-8"))}
    assert named == set(RULES)


def test_the_page_of_rules_is_the_one_beside_the_code() -> None:
    page = Path(__file__).parents[2] / "docs" / "rules.md"
    text = Path(__file__).parents[2] / "trainer" / "recipe" / "checks" / "rules.md"
    assert page.read_text(encoding="utf-8") == text.read_text(encoding="utf-8")
