"""expect: bands are read, judged, and not judged where the run was not as written."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.recipe.checks.expect import judge, not_judged_because
from trainer.recipe.load import load_recipe
from trainer.recipe.problems import render
from trainer.recipe.recipe import Recipe

RECIPE = """\
version: 1
data: {dataset: CIFAR10, val: %s}
model: cifar_resnet18
optimizer: {type: SGD, lr: 0.1}
train: {epochs: 5, tta: flip}
regularizers: [{type: L1, strength: 1e-5}]
callbacks: [ParameterNorms]
expect: {%s}
scheduler: {type: StepLR, step_size: 1}
"""


def recipe_of(folder: Path, expect: str, *overrides: str, val: str = "{fraction: 0.1}", fast: bool = False) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE % (val, expect))
    loaded = load_recipe(path, overrides, fast=fast)
    assert loaded.recipe is not None, render(loaded.problems)
    return loaded.recipe


HISTORY = [
    {"epoch": 1, "lr": 0.1, "val/accuracy": 0.40, "train/loss": 1.5},
    {"epoch": 2, "lr": 0.1, "val/accuracy": 0.60, "train/loss": 1.2},
    {"epoch": 3, "lr": 0.01, "val/accuracy": 0.70, "train/loss": 0.9},
    {"epoch": 4, "lr": 0.001, "val/accuracy": 0.65, "train/loss": 0.8},
]
SUMMARY = {
    "best": HISTORY[2] | {"val/tta/accuracy": 0.75},
    "final": HISTORY[3],
    "test": {"best": {"accuracy": 0.68, "loss": 0.5, "tta/accuracy": 0.69}, "final": {"accuracy": 0.6}},
}


@pytest.mark.parametrize(
    ("key", "band", "value", "ok"),
    [
        ("best val/accuracy", ">= 0.7", 0.70, True),
        ("best val/accuracy", ">= 0.71", 0.70, False),
        ("val/accuracy", "<= 0.65", 0.65, True),
        ("final val/accuracy", "0.7 +- 0.05", 0.65, True),
        ("final val/accuracy", "0.7 +- 0.04", 0.65, False),
        ("final train/loss", "0.75..0.85", 0.8, True),
        ("epoch 1 val/accuracy", "0.39 ± 0.01", 0.40, True),
        ("epoch 2 train/loss", "<=1", 1.2, False),
        ("lr drop 1 epoch", "3..3", 3, True),
        ("lr drop 2 epoch", "1..3", 4, False),
        ("lr drop 3 epoch", "1..9", None, False),
        ("best test/accuracy", ">= 0.68", 0.68, True),
        ("final test/accuracy", "<= 0.6", 0.6, True),
        ("best val/tta/accuracy", ">= 0.75", 0.75, True),
        ("best test/tta/accuracy", ">= 0.69", 0.69, True),
    ],
)
def test_a_band_is_held_against_the_right_number(
    key: str, band: str, value: float | None, ok: bool, tmp_path: Path
) -> None:
    val = "test" if key.startswith("best val/tta") else "{fraction: 0.1}"  # else the split held out is augmented
    recipe = recipe_of(tmp_path, f'"{key}": "{band}"', val=val)
    (verdict,) = judge(recipe.expect, HISTORY, SUMMARY)
    assert (verdict.value, verdict.ok) == (value, ok)


def test_a_number_that_is_not_finite_misses_every_band(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, '"val/loss": "<= 1"')
    (verdict,) = judge(recipe.expect, [{"epoch": 1, "lr": 0.1, "val/loss": float("nan")}], {})
    assert not verdict.ok


def test_what_callbacks_and_penalties_measure_can_be_expected(tmp_path: Path) -> None:
    assert len(recipe_of(tmp_path, '"train/penalty/l1": "<= 9", "parameters/sum_abs": ">= 0"').expect) == 2


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("best val/acuracy", "no metric 'val/acuracy' (did you mean 'val/accuracy'?)"),
        ("train/penalty/l2", "no metric 'train/penalty/l2' (did you mean 'train/penalty/l1'?)"),
        ("epoch 2 test/accuracy", "no metric 'test/accuracy'"),
        ("epoch 9 val/loss", "there is no epoch 9, training ends after 5"),
        ("first val/loss", "'first val/loss' cannot be read"),
        ("epoch 0 val/loss", "'epoch 0 val/loss' cannot be read"),
        ("lr drop epoch", "'lr drop epoch' cannot be read"),
    ],
)
def test_a_key_that_means_nothing_is_refused(key: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE % ("{fraction: 0.1}", f'"{key}": ">= 0"'))
    (problem,) = load_recipe(path).problems
    assert said in str(problem)
    assert problem.rule == "R060"
    assert (problem.origin.line, problem.origin.column) == (8, 10)


def test_the_test_split_cannot_be_expected_where_it_validates(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE % ("test", '"best test/accuracy": ">= 0"'))
    assert [problem.rule for problem in load_recipe(path).problems] == ["R060"]


NO_BANDS = ("", "0.9", "> 0.9", ">= 0.9 or so", "1..", "..1", "0.9 +-", "nan..1", "0x1..2", ">= 1_0")


@pytest.mark.parametrize("band", NO_BANDS)
def test_a_band_that_cannot_be_read_is_refused(band: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE % ("{fraction: 0.1}", f'"val/loss": "{band}"'))
    assert [problem.rule for problem in load_recipe(path).problems] == ["R061"]


def test_bands_that_touch_do_not_contradict_each_other(tmp_path: Path) -> None:
    assert len(recipe_of(tmp_path, '"val/loss": "<= 0.3", "final val/loss": ">= 0.3"').expect) == 2


@pytest.mark.parametrize(
    ("overrides", "fast", "why"),
    [
        ((), False, ""),
        (("data.dataset.root=/elsewhere", "name=mine", "train.device=cpu", "data.workers=2"), False, ""),
        (("train.epochs=6",), False, "train.epochs set on the command line"),
        (("name=x", "optimizer.lr=1", "seed=2"), False, "optimizer.lr, seed set on the command line"),
        ((), True, "--fast"),
    ],
)
def test_a_run_is_judged_only_as_written(overrides: tuple[str, ...], fast: bool, why: str, tmp_path: Path) -> None:
    assert not_judged_because(recipe_of(tmp_path, "", *overrides, fast=fast)) == why


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('"best val/tta/accuracy": ">= 0.9"', "is not measured where a test split is held out"),
        ('"lr drop 5 epoch": "2..5"', "cannot come: 5 epochs have fewer drops"),
        ('"lr drop 4 epoch": "2..4"', "the epoch of a drop lies between 5 and 5"),
        ('"best epoch": "1..5"', "epoch lies between 1 and 5, so 'best epoch: 1..5' says nothing"),
        ('"final lr": ">= 0"', "says nothing"),
        ('"final seconds": "<= 60"', ""),
        ('"best epoch": "2..5"', ""),
    ],
)
def test_a_band_that_never_or_always_holds_is_refused(line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE % ("{fraction: 0.1}", line))
    problems = load_recipe(tmp_path / "recipe.yaml").problems
    assert bool(problems) is bool(said), render(problems)
    assert said in render(problems)


def test_a_band_on_the_command_line_is_said_not_to_be_judged(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE % ("{fraction: 0.1}", ""))
    loaded = load_recipe(tmp_path / "recipe.yaml", ['expect={best val/accuracy: ">= 0.9"}'])
    (warning,) = [each for each in loaded.warnings if each.rule == "W015"]
    assert "is set on the command line, and so is shown and not judged" in warning.text
