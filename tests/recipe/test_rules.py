"""The reference of the rules: every example shows its rule, and that rule alone."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from trainer.experiment.checking import check_built, check_data
from trainer.experiment.known import DataKnown
from trainer.recipe.checks.rules import RULES
from trainer.recipe.load import load_recipe
from trainer.recipe.problems import Problem

BASE = {
    "version": "version: 1",
    "name": "name: mine",
    "data": "data: {dataset: CIFAR10}",
    "model": "model: cifar_resnet18",
    "optimizer": "optimizer: {type: SGD, lr: 0.1}",
    "train": "train: {epochs: 50}",
}
WHOLE = "\n".join(BASE.values()) + "\n"
SUMMED = """
from torch import nn
from registry import component

@component("loss")
class SummedLoss(nn.CrossEntropyLoss):
    def __init__(self) -> None:
        super().__init__(reduction="sum")
"""
OTHER_FILES = {
    "cifar10_resnet18_fast.yaml": WHOLE + 'expect: {"best val/accuracy": ">= 0.9175"}\n',
    "sgd.yaml": WHOLE,
    "adam.yaml": WHOLE.replace("SGD", "Adam"),
    "empty.py": "",
    "losses.py": SUMMED,
}
FOLDERS = {  # what a folder turned out to hold
    "photos": DataKnown(3, 3, (32, 32), train_images=12, class_counts=(6, 6, 0)),
    "scans": DataKnown(2, 3, (32, 32), train_images=1000, class_counts=(960, 40)),
    "onesided": DataKnown(2, 3, (32, 32), train_images=80, class_counts=(40, 40), measured={"val": (0, 20)}),
}
COMMAND = "python -m trainer recipe.yaml "


@pytest.fixture(autouse=True)
def _beside_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in OTHER_FILES.items():
        Path(name).write_text(text)


def written(example: str) -> bytes:
    """Return an example as a file: as it stands where it is one, else completed by the sections it leaves out."""
    if example.startswith("-") or re.match(r"extends:.*\.yaml", example):
        return example.encode()
    if r"\x" in example:
        return example.encode().decode("unicode_escape").encode("latin-1")
    given = set(re.findall(r"^([\w-]+):", example, re.MULTILINE))
    return "\n".join([example, *(text for name, text in BASE.items() if name not in given)]).encode()


SWEEP = {
    "version": "version: 1",
    "recipe": "recipe: sgd.yaml",
    "search": "search: {optimizer.lr: {type: FloatDistribution, low: 0.1, high: 1.0}}",
    "objective": "objective: {metric: val/accuracy}",
    "trials": "trials: 4",
}


def found_in_a_sweep(example: str) -> Sequence[Problem]:
    """Return what is said of a sweep, completed by the sections it leaves out."""
    pytest.importorskip("optuna", reason="optuna is an extra: pip install 'recipe-trainer[search]'")
    from trainer.search.reading import load_sweep

    given = set(re.findall(r"^([\w-]+):", example, re.MULTILINE))
    Path("sweep.yaml").write_text("\n".join([example, *(text for key, text in SWEEP.items() if key not in given)]))
    loaded = load_sweep("sweep.yaml")
    return (*loaded.problems, *loaded.warnings)


def found(example: str) -> Sequence[Problem]:
    """Return what is said of an example: of its text, else of what it builds, else of its data."""
    if example.startswith("sweep:"):
        return found_in_a_sweep(example)
    overrides = shlex.split(example.removeprefix(COMMAND)) if example.startswith(COMMAND) else []
    Path("recipe.yaml").write_bytes(WHOLE.encode() if overrides else written(example))
    loaded = load_recipe("recipe.yaml", overrides)
    if loaded.recipe is None or loaded.warnings:
        return (*loaded.problems, *loaded.warnings)
    assert loaded.catalogue is not None
    folder = next((name for name in FOLDERS if name in example), "")
    built = [] if folder else check_built(loaded.recipe, loaded.catalogue)
    if built:
        return built
    known = FOLDERS[folder or "photos"]
    return check_data(loaded.recipe, loaded.catalogue, known, ("cat", "dog", "fox")[: known.num_classes])


def test_the_recipe_that_examples_are_completed_with_is_right() -> None:
    Path("recipe.yaml").write_text(WHOLE)
    loaded = load_recipe("recipe.yaml")
    assert loaded.recipe is not None
    assert loaded.catalogue is not None
    assert (*loaded.warnings, *check_built(loaded.recipe, loaded.catalogue)) == ()


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_an_example_shows_its_rule_and_no_other(rule) -> None:
    said = found(rule.example)
    of_data = {"W013"} if rule.id == "R080" else set()  # one folder stands for both
    assert {problem.rule for problem in said} - of_data == {rule.id}, [str(problem) for problem in said]
