"""Warnings of science: what a reviewer would ask, said once and stopping nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.recipe.checks.rules import RULES
from trainer.recipe.load import load_recipe
from trainer.recipe.problems import render

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
        "optimizer: {weight_decay: 0.1}",
    ),
    (
        "W003",
        "scheduler: ReduceLROnPlateau",
        "scheduler: {type: ReduceLROnPlateau, step: {monitor: val/loss}}",
    ),
    (
        "W004",
        "scheduler: {type: MultiStepLR, milestones: [30, 60]}",
        "scheduler: {type: MultiStepLR, milestones: [30, 49]}",
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
        "scheduler: {type: StepLR, step_size: 44, warmup: {epochs: 5}}",
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
        "W062",
        "scheduler: {type: ReduceLROnPlateau, factor: 0, step: {monitor: val/loss}}",
        "scheduler: {type: ReduceLROnPlateau, factor: 0, min_lr: 0.01, step: {monitor: val/loss}}",
    ),
    (
        "W062",
        "scheduler: {type: ReduceLROnPlateau, factor: 1.0e-9, step: {monitor: val/loss}}",
        "scheduler: {type: ReduceLROnPlateau, factor: 0.1, step: {monitor: val/loss}}",
    ),
    (
        "W065",
        "scheduler: {type: ReduceLROnPlateau, min_lr: 0.1, step: {monitor: val/loss}}",
        "scheduler: {type: ReduceLROnPlateau, min_lr: 0.09, step: {monitor: val/loss}}",
    ),
    (
        "W004",
        "scheduler: {type: StepLR, step_size: 50}",
        "scheduler: {type: StepLR, step_size: 49}",
    ),
    (
        "W004",
        "scheduler: {type: CosineAnnealingLR, T_max: $run.total_steps}",
        "scheduler: {type: CosineAnnealingLR, T_max: $run.total_steps, step: {each: step}}",
    ),
    (
        "W064",
        "scheduler: {type: StepLR, step_size: $run.epochs, step: {each: step}}",
        "scheduler: {type: StepLR, step_size: $run.steps_per_epoch, step: {each: step}}",
    ),
    (
        "W002",
        "optimizer: {type: SGD, lr: 0.1, groups: [{match: ['**'], weight_decay: 1.0e-3}]}\n"
        "regularizers: [{type: L2, strength: 1.0e-3}]",
        "optimizer: {type: SGD, lr: 0.1, groups: [{match: ['**'], weight_decay: 0}]}\n"
        "regularizers: [{type: L2, strength: 1.0e-3}]",
    ),
    (
        "W042",
        "data: {dataset: CIFAR10, limit: 300, batch_size: 128}\ntrain: {epochs: 50, accumulate: 4}",
        "data: {dataset: CIFAR10, limit: 300, batch_size: 128}\ntrain: {epochs: 50, accumulate: 3}",
    ),
    (
        "W066",
        "optimizer: {type: SGD, lr: 0.1, momentum: 0.9}\nscheduler: {type: OneCycleLR, max_lr: 0.1}",
        "optimizer: {type: SGD, lr: 0.1, momentum: 0.9}\n"
        "scheduler: {type: OneCycleLR, max_lr: 0.1, cycle_momentum: false}",
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
        "data: {preprocess: [{type: HorizontalFlip, p: 0.5}]}",
        "data: {preprocess: [{type: HorizontalFlip, p: 1}]}",
    ),
    ("W031", "data: {limit: 9}", "data: {limit: 10}"),
    (
        "W032",
        "data: {preprocess: [{type: Normalize, max_pixel_value: 1.0, mean: 120, std: 0.2}]}",
        "data: {preprocess: [{type: Normalize, max_pixel_value: 1.0, mean: 120, std: 60}]}",
    ),
    (
        "W032",
        "data: {preprocess: [{type: Normalize, mean: 0.5, std: 58}]}",
        "data: {preprocess: [ToFloat, {type: Normalize, max_pixel_value: 1.0}]}",
    ),
    (
        "W010",
        "data: {eval: [{type: HorizontalFlip, p: 0.5}]}",
        "data: {eval: [{type: CenterCrop, height: 9, width: 9}]}",
    ),
    ("W040", "optimizer: {type: Adam, lr: 10}", "optimizer: {type: Adam, lr: 0.1}"),
    ("W040", "optimizer: {lr: 1e-9}", "optimizer: {lr: 1e-6}"),
    ("W040", "optimizer: {weight_decay: 5}", "optimizer: {type: AdamW, lr: 1e-3, weight_decay: 0.3}"),
    (
        "W040",
        "optimizer: {type: Adam, lr: 1e-3, groups: [{match: ['@head'], lr: 1}]}",
        "optimizer: {type: Adam, lr: 1e-3, groups: [{match: ['@head'], lr: 0.01}]}",
    ),
    (
        "W040",
        "optimizer: {type: Adam, lr: 1e-3}\nscheduler: {type: OneCycleLR, max_lr: 1}",
        "scheduler: {type: OneCycleLR, max_lr: 1}",
    ),
    (
        "W040",
        "optimizer: {type: Adam, lr: $lr_finder.lr}\nlr_finder: {start: 1, end: 10}",
        "optimizer: {type: Adam, lr: $lr_finder.lr}\nlr_finder: {start: 1e-7, end: 10}",
    ),
    (
        "W040",
        "optimizer: {type: AdamW, lr: 1e-3, betas: [0.999, 0.9]}",
        "optimizer: {type: AdamW, lr: 1e-3, betas: [0.9, 0.95]}",
    ),
    ("W040", "regularizers: [{type: L1, strength: 3}]", "regularizers: [{type: L1, strength: 3e-6}]"),
    (
        "W041",
        "loss: {type: CrossEntropyLoss, label_smoothing: 0.9}",
        "loss: {type: CrossEntropyLoss, label_smoothing: 0.2}",
    ),
    ("W041", "model: {type: cifar_resnet18, dropout: 0.95}", "model: {type: cifar_resnet18, dropout: 0.5}"),
    (
        "W042",
        "callbacks: [{type: EarlyStopping, patience: 50}]",
        "callbacks: [{type: EarlyStopping, patience: 10}]",
    ),
    (
        "W080",
        "data: {augment: [{type: OneOf, transforms: [{type: ColorJitter, p: 0.5}, HorizontalFlip]}]}",
        "data: {augment: [{type: OneOf, transforms: [{type: ColorJitter, hue: 0, p: 0.5}, HorizontalFlip]}]}",
    ),
    ("W042", "train: {checkpoint: {every: 51}}", "train: {checkpoint: {every: 50}}"),
    ("W042", "train: {checkpoint: {steps: 17601}}", "train: {checkpoint: {steps: 17600}}"),
    ("W042", "train: {log_every: 20000}", "train: {log_every: 1000}"),
    ("W042", "train: {ema: {decay: 0.9, every: 353}}", "train: {ema: {decay: 0.9, every: 352}}"),
    ("W016", "optimizer: {as: outer}", "regularizers: [{type: L2, strength: 1e-4, as: decay}]"),
    (
        "W016",
        "data: {augment: [{type: OneOf, transforms: [HorizontalFlip, {type: Rotate, as: turn}]}]}",
        "train: {metrics: [{type: Accuracy, as: right}], best: {metric: val/right}}",
    ),
    ("W110", "answers: {abstain_below: 0.1}", "answers: {abstain_below: 0.11}"),
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


def test_a_default_that_does_not_fit_into_a_short_run_is_not_warned_of_where_it_stands_written_out() -> None:
    """As in every resolved.yaml, which `resume` and `report` read."""
    short = "data: {limit: 1000}\ntrain: {epochs: 1, log_every: %d, checkpoint: {every: 1}}"
    assert warned(short % 50) == []
    assert warned(short % 51) == ["W042"]


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
        "images (take {fraction: 0.1}; the test split then chooses nothing) [W001]\n"
        "    data: {dataset: CIFAR10, val: test}\n"
        "                                  ^"
    )


def test_a_warning_beside_a_problem_is_still_given() -> None:
    Path("recipe.yaml").write_text(RIGHT.replace("{fraction: 0.1}", "test").replace("lr: 0.1", "lr: fast"))
    loaded = load_recipe("recipe.yaml")
    assert [problem.rule for problem in loaded.problems] == ["R016"]
    assert [warning.rule for warning in loaded.warnings] == ["W001"]


def test_every_warning_of_the_text_has_a_case() -> None:
    told = {rule for rule, _, _ in CASES} | {"W014", "W015", "W044"}
    assert {rule for rule in RULES if rule.startswith("W")} - told == {
        "W011",
        "W012",
        "W030",
        "W033",
        "W013",
        "W024",
        "W026",
        "W043",
        "W045",
        "W061",
        "W085",
        "W086",
        "W160",
    }  # those of later tiers, and of sweeps


def test_a_plug_in_without_components_is_warned_of_unless_one_is_named_from_it() -> None:
    net = "from torch import nn\nclass Net(nn.Linear):\n    def __init__(self, num_classes: int) -> None: ...\n"
    Path("nets.py").write_text(net)
    assert warned("plugins: [./nets.py]") == ["W044"]
    assert warned("plugins: [./nets.py]\nmodel: {type: 'nets:Net'}") == []
    Path("marked.py").write_text(f"from registry import component\n{net}component('model')(Net)\n")
    assert warned("plugins: [./marked.py]") == []
