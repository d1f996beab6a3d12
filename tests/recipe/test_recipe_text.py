"""The reader: what scalars mean, where nodes stand, and what survives any text at all."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.recipe.load import load_recipe
from trainer.recipe.problems import Collector, render
from trainer.recipe.reading import text as text_module
from trainer.recipe.reading.nodes import plain, walk
from trainer.recipe.reading.scalars import HOLDS_BYTES, resolve, spelling
from trainer.recipe.reading.text import compose, compose_value

RECIPES = sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml"))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("3e-6", 3e-6), ("1e3", 1000.0), ("1E+3", 1000.0), (".5", 0.5), ("-0.1", -0.1), ("+4", 4), ("0", 0), ("-7", -7),
        ("0x1F", 31), ("0o17", 15), ("2.", 2.0), ("true", True), ("False", False), ("null", None), ("~", None),
        ("", None),
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("010", "010"), ("1_000", "1_000"), ("nan", "nan"),
        ("2026-08-01", "2026-08-01"), ("12:30:45", "12:30:45"), ("1e", "1e"), ("-", "-"), (".", "."), ("0b1", "0b1"),
        ("1.2.3", "1.2.3"), ("TrUe", "TrUe"), ("=", "="), (".inf", math.inf), ("-.inf", -math.inf),
    ],
)  # fmt: skip
def test_a_plain_scalar_means_what_yaml_1_2_says(written: str, meant: object) -> None:
    value = resolve(written)
    assert value == meant
    assert type(value) is type(meant)


def test_not_a_number_is_a_float() -> None:
    value = resolve(".nan")
    assert isinstance(value, float)
    assert math.isnan(value)


def holds_no_stand_in(text: str) -> bool:
    """Say whether a text is free of the characters that stand for bytes which are no text."""
    return HOLDS_BYTES.search(text) is None


TEXTS = st.text(max_size=30).filter(holds_no_stand_in)


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXTS))
@settings(max_examples=300, deadline=None)
def test_a_value_that_is_spelt_reads_as_itself_in_block_and_flow_style(value: object) -> None:
    for document, unpack in ((f"a: {spelling(value)}", "a"), (f"a: [{spelling(value)}, 1]", None)):  # type: ignore[arg-type]
        problems = Collector()
        node = compose(document, "x.yaml", problems)
        assert not problems.found, document
        read = plain(node)["a"]  # type: ignore[arg-type,index,call-overload]
        read = read if unpack else read[0]
        assert read == value
        assert type(read) is type(value)


def test_every_value_knows_its_place() -> None:
    text = 'a: {x: [1, é, "q"], y: &z {k: 1}}\nb: *z\nc: |\n  text\nd:\n- - 5\n  - six\n'
    node = compose(text, "f.yaml", Collector())
    assert node is not None
    places = {".".join(path): str(at.origin) for path, at in walk(node)}
    assert places["a.x.0"] == "f.yaml:1:9"
    assert places["a.x.2"] == "f.yaml:1:15"
    assert places["b.k"] == places["a.y.k"] == "f.yaml:1:31"
    assert places["c"] == "f.yaml:3:4"
    assert places["d.0.1"] == "f.yaml:7:5"


@pytest.mark.parametrize("path", RECIPES, ids=[path.name for path in RECIPES])
def test_both_parsers_of_pyyaml_place_everything_alike(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = path.read_text(encoding="utf-8")

    def read() -> list[tuple[object, ...]]:
        node = compose(text, "f.yaml", Collector())
        assert node is not None
        return [(at, str(one.origin)) for at, one in walk(node)]

    fast = read()
    monkeypatch.setattr(text_module, "_Loader", yaml.Loader)
    assert read() == fast


def test_an_overrides_value_is_placed_in_the_argument() -> None:
    node = compose_value("{a: 1, b: [c, 1e3]}", "optimizer={a: 1, b: [c, 1e3]}", 2, Collector())
    assert node is not None
    assert [str(at.origin) for _, at in walk(node)][-1] == "command line:2:25"


def test_what_is_written_in_a_mapping_wins_over_what_it_merges() -> None:
    text = "one: &one {a: 1, b: 1}\ntwo: &two {b: 2, c: 2}\nboth: {<<: [*one, *two], a: 3}\n"
    node = compose(text, "f.yaml", Collector())
    assert node is not None
    assert plain(node)["both"] == {"a": 3, "b": 1, "c": 2}  # type: ignore[index,call-overload]


# -------------------------------------------------------------------------------------------------------------- fuzzing
NOISE = st.text(alphabet=st.sampled_from("{}[]:,&*!|>'\"%@`#-?\n\t $.~<=abc019é\u2028\ufeff\x00"), max_size=12)


def fuzz(folder: Path, data: st.DataObject) -> None:
    """Change a shipped recipe at random places; reading it must end in a recipe or in placed problems."""
    text = data.draw(st.sampled_from(RECIPES)).read_text(encoding="utf-8")
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        length = data.draw(st.sampled_from([0, 0, 1, 1, 5, 40]))
        text = text[:at] + data.draw(NOISE) + text[at + length :]
    path = folder / "recipe.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    loaded = load_recipe(path)
    assert (loaded.recipe is None) == bool(loaded.problems)
    lines = text.count("\n") + text.count("\u2028") + text.count("\r") + 2
    for problem in loaded.problems:
        assert 1 <= problem.origin.line <= lines
        assert problem.origin.column >= 1
        assert problem.text
    render(loaded.problems)


@given(data=st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_change_of_a_recipe_gives_a_recipe_or_placed_problems(tmp_path: Path, data: st.DataObject) -> None:
    fuzz(tmp_path, data)


@pytest.mark.slow  # ten thousand recipes
@given(data=st.data())
@settings(
    max_examples=10_000,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_ten_thousand_changes_give_a_recipe_or_placed_problems(tmp_path: Path, data: st.DataObject) -> None:
    fuzz(tmp_path, data)


@given(arguments=st.lists(st.text(max_size=30), max_size=3))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_override_gives_a_recipe_or_placed_problems(tmp_path: Path, arguments: list[str]) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPES[0].read_text(encoding="utf-8"), encoding="utf-8")
    keys = ("optimizer.lr=", "data.augment.1.", "train={", "data.augment=", "")
    loaded = load_recipe(path, [f"{keys[len(text) % len(keys)]}{text}" for text in arguments])
    assert (loaded.recipe is None) == bool(loaded.problems)
    assert all(problem.origin.line >= 1 and problem.origin.column >= 1 for problem in loaded.problems)
