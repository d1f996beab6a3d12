"""Warnings of science: what a reviewer would ask, said once and stopping nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.recipe.load import load_recipe
from trainer.recipe.problems import render
from trainer.recipe.rules import RULES

RIGHT = """\
version: 1
name: mine
data: {dataset: CIFAR10, val: {fraction: 0.1}}
model: cifar_resnet18
optimizer: {type: SGD, lr: 0.1}
train: {epochs: 50}
"""
IN_TURN = "type: SequentialLR, milestones: [5]"
CASES = [  # rule, a setting it warns of, a setting like it that is fine
    ("W001", "data: {val: test}", "data: {val: {fraction: 0.2}}"),
    (
        "W002",
        "optimizer: {type: AdamW, lr: 1e-3}\nregularizers: [{type: L2, strength: 1}]",
        "regularizers: [{type: L2, strength: 1}]",
    ),
    (
        "W002",
        "optimizer: {weight_decay: 1e-4}\nregularizers: [{type: L2, strength: 1}]",
        "optimizer: {weight_decay: 1}",
    ),
    (
        "W003",
        "scheduler: ReduceLROnPlateau",
        "scheduler: {type: ReduceLROnPlateau, step: {monitor: val/loss}}",
    ),
    (
        "W004",
        "scheduler: {type: MultiStepLR, milestones: [30, 60]}",
        "scheduler: {type: MultiStepLR, milestones: [30, 50]}",
    ),
    (
        "W004",
        "scheduler: {type: StepLR, step_size: 51}",
        "scheduler: {type: StepLR, step_size: 51, step: {each: step}}",
    ),
    (
        "W004",
        "scheduler: {type: ChainedScheduler, schedulers: [{type: LinearLR, total_iters: 99}]}",
        "scheduler: {type: ChainedScheduler, schedulers: [{type: LinearLR, total_iters: 9}]}",
    ),
    (
        "W004",
        f"scheduler: {{{IN_TURN}, schedulers: [{{type: LinearLR, total_iters: 9}}, CosineAnnealingLR]}}",
        f"scheduler: {{{IN_TURN}, schedulers: [LinearLR, CosineAnnealingLR]}}",
    ),
    (
        "W004",
        "scheduler: {type: CosineAnnealingWarmRestarts, T_0: 60}",
        "scheduler: {type: CosineAnnealingWarmRestarts, T_0: 10}",
    ),
    (
        "W004",
        "scheduler: {type: CyclicLR, base_lr: 0.01, max_lr: 0.1, step: {each: epoch}}",  # step_size_up: 2000
        "scheduler: {type: CyclicLR, base_lr: 0.01, max_lr: 0.1, step_size_up: 9, step: {each: epoch}}",
    ),
    (
        "W004",
        "scheduler: {type: ReduceLROnPlateau, patience: 50, step: {monitor: val/loss}}",
        "scheduler: {type: ReduceLROnPlateau, patience: 49, step: {monitor: val/loss}}",
    ),
    (
        "W004",
        "scheduler: {type: StepLR, step_size: 48, warmup: {epochs: 5}}",
        "scheduler: {type: StepLR, step_size: 45, warmup: {epochs: 5}}",
    ),
    ("W005", "scheduler: {type: CosineAnnealingLR, T_max: 10}", "scheduler: CosineAnnealingLR"),
    (
        "W005",
        f"scheduler: {{{IN_TURN}, schedulers: [LinearLR, {{type: CosineAnnealingLR, T_max: 10}}]}}",
        f"scheduler: {{{IN_TURN}, schedulers: [LinearLR, CosineAnnealingLR]}}",
    ),
    (
        "W006",
        "lr_finder: {pick: steepest}\noptimizer: {lr: $lr_finder.lr}",
        "lr_finder: {pick: valley}\noptimizer: {lr: $lr_finder.lr}",
    ),
    ("W007", "lr_finder: {}", "lr_finder: {}\nscheduler: {type: OneCycleLR, max_lr: $lr_finder.lr}"),
    (
        "W007",
        "lr_finder: {}\noptimizer: {lr: $lr_finder.lr}\nscheduler: {type: OneCycleLR, max_lr: 0.1}",
        "lr_finder: {}\noptimizer: {lr: $lr_finder.lr}\nscheduler: {type: OneCycleLR, max_lr: $lr_finder.lr}",
    ),
    (
        "W007",
        "lr_finder: {}\noptimizer: {lr: $lr_finder.lr}\nscheduler: {type: CyclicLR, base_lr: 0.01, max_lr: 0.1}",
        "lr_finder: {}\noptimizer: {lr: $lr_finder.lr}\nscheduler: {type: StepLR, step_size: 9}",
    ),
    ("W063", "scheduler: {type: StepLR, step_size: 9, gamma: 10}", "scheduler: {type: StepLR, step_size: 9, gamma: 1}"),
    (
        "W064",
        "scheduler: {type: MultiStepLR, milestones: [20, 40], step: {each: step}}",
        "scheduler: {type: MultiStepLR, milestones: [7040, 14080], step: {each: step}}",
    ),
    (
        "W065",
        "scheduler: {type: ReduceLROnPlateau, min_lr: 0.1, step: {monitor: val/loss}}",
        "scheduler: {type: ReduceLROnPlateau, min_lr: 0.09, step: {monitor: val/loss}}",
    ),
    (
        "W065",
        "scheduler: {type: CosineAnnealingLR, eta_min: 0.2}",
        "scheduler: {type: CosineAnnealingLR, eta_min: 0.02}",
    ),
    (
        "W008",
        "data: {sampler: balanced}\nloss: {type: CrossEntropyLoss, weight: balanced}",
        "loss: {type: CrossEntropyLoss, weight: balanced}",
    ),
    (
        "W009",
        "train: {best: {metric: train/loss, mode: min}}",
        "train: {best: {metric: val/loss, mode: min}}",
    ),
    (
        "W025",
        "loss: {type: CrossEntropyLoss, ignore_index: 3}",
        "loss: {type: CrossEntropyLoss, ignore_index: 255}",
    ),
    (
        "W025",
        "loss: {type: MultiMarginLoss, weight: [0, 1, 1, 1, 1, 1, 1, 1, 1, 1]}",
        "loss: {type: MultiMarginLoss, weight: [0.1, 1, 1, 1, 1, 1, 1, 1, 1, 1]}",
    ),
    (
        "W010",
        "data: {eval: [{type: HorizontalFlip, p: 0.5}]}",
        "data: {eval: [{type: CenterCrop, height: 9, width: 9}]}",
    ),
]


def warned(text: str) -> list[str]:
    Path("right.yaml").write_text(RIGHT)
    Path("recipe.yaml").write_text(f"extends: right.yaml\nname: own\n{text}\n")
    loaded = load_recipe("recipe.yaml")
    assert loaded.recipe is not None, render(loaded.problems)
    return [warning.rule for warning in loaded.warnings]


@pytest.fixture(autouse=True)
def _inside_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("rule", "doubtful", "fine"), CASES)
def test_a_doubtful_setting_is_warned_of_and_a_fine_one_is_not(rule: str, doubtful: str, fine: str) -> None:
    assert warned(doubtful) == [rule]
    assert warned(fine) == []


def test_an_inherited_name_is_warned_of() -> None:
    Path("right.yaml").write_text(RIGHT)
    Path("recipe.yaml").write_text("extends: right.yaml\n")
    assert [warning.rule for warning in load_recipe("recipe.yaml").warnings] == ["W014"]
    assert load_recipe("recipe.yaml", ["name=own"]).warnings == ()


def test_an_inherited_band_is_warned_of_and_null_removes_it() -> None:
    Path("right.yaml").write_text(RIGHT + 'expect: {"val/loss": "<= 1"}\n')
    Path("recipe.yaml").write_text("extends: right.yaml\nname: own\n")
    assert [warning.rule for warning in load_recipe("recipe.yaml").warnings] == ["W015"]
    assert load_recipe("recipe.yaml", ["expect=null"]).warnings == ()


def test_a_warning_reads_like_a_problem_and_says_that_it_is_none() -> None:
    Path("recipe.yaml").write_text(RIGHT.replace("{fraction: 0.1}", "test"))
    assert render(load_recipe("recipe.yaml").warnings) == (
        "recipe.yaml:3:31: warning: the test split chooses the best epoch, so its accuracy is no estimate for new "
        "images (take {fraction: 0.1}; the test split is then evaluated once, at the end) [W001]\n"
        "    data: {dataset: CIFAR10, val: test}\n"
        "                                  ^"
    )


def test_a_warning_beside_a_problem_is_still_given() -> None:
    Path("recipe.yaml").write_text(RIGHT.replace("{fraction: 0.1}", "test").replace("lr: 0.1", "lr: fast"))
    loaded = load_recipe("recipe.yaml")
    assert [problem.rule for problem in loaded.problems] == ["R016"]
    assert [warning.rule for warning in loaded.warnings] == ["W001"]


def test_every_warning_of_the_text_has_a_case() -> None:
    told = {rule for rule, _, _ in CASES} | {"W014", "W015"}
    assert {rule for rule in RULES if rule.startswith("W")} - told == {
        "W011",
        "W012",
        "W013",
        "W024",
        "W026",
        "W061",
        "W062",
    }  # those of later tiers
