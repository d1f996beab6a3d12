"""Plausible nonsense: numbers of the wrong unit, parts without effect, counts beyond the run; each has its answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.experiment.checking import check_built
from trainer.recipe.load import load_recipe

RIGHT = {
    "version": "version: 1",
    "name": "name: mine",
    "data": "data: {dataset: CIFAR10}",
    "model": "model: cifar_resnet18",
    "optimizer": "optimizer: {type: SGD, lr: 0.1}",
    "train": "train: {epochs: 50}",
}


def said(*sections: str) -> list[str]:
    """Return what is said of the right recipe with some sections put in place of its own."""
    given = {section.partition(":")[0]: section for section in sections}
    Path("recipe.yaml").write_text("\n".join({**RIGHT, **given}.values()) + "\n")
    loaded = load_recipe("recipe.yaml")
    problems = [*loaded.problems, *loaded.warnings]
    if loaded.recipe is not None and loaded.catalogue is not None:
        problems += check_built(loaded.recipe, loaded.catalogue)
    return [str(problem).partition(": ")[2] for problem in problems]


@pytest.fixture(autouse=True)
def _inside_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "section",
    [
        "train: {epochs: 50, best: {metric: lr}}",
        "train: {epochs: 50, best: {metric: seconds, mode: min}}",
        "scheduler: {type: ReduceLROnPlateau, step: {monitor: epoch}}",
    ],
)
def test_what_says_nothing_of_how_good_an_epoch_is_chooses_nothing(section: str) -> None:
    assert any("says nothing of how good an epoch is" in line for line in said(section))


@pytest.mark.parametrize(
    ("band", "answer"),
    [
        (
            '"best val/loss": "<= 1e999"',
            "expect: text '<= 1e999' is no band (as in '>= 0.9', '<= 0.3', '0.48 +- 0.03', '18..35') [R061]",
        ),
        (
            '"best val/accuracy": ">= 92"',
            "expect: val/accuracy lies between 0 and 1, so 'best val/accuracy: >= 92' cannot come true "
            "(it is a fraction: 92 % is 0.92) [R110]",
        ),
        (
            '"epoch 3 train/accuracy": "92 +- 1"',
            "expect: train/accuracy lies between 0 and 1, so 'epoch 3 train/accuracy: 92 +- 1' cannot come true "
            "(it is a fraction: 91..93 % is 0.91..0.93) [R110]",
        ),
        (
            '"val/accuracy": "<= 92"',
            "expect: val/accuracy lies between 0 and 1, so 'val/accuracy: <= 92' says nothing "
            "(it is a fraction: 92 % is 0.92) [R110]",
        ),
        (
            '"lr drop 1 epoch": "60..70"',
            "expect: the epoch of a drop lies between 2 and 50, so 'lr drop 1 epoch: 60..70' cannot come true [R110]",
        ),
    ],
)
def test_a_band_that_no_value_can_meet_or_miss_is_refused(band: str, answer: str) -> None:
    assert said(f"expect: {{{band}}}", "scheduler: {type: StepLR, step_size: 10}") == [answer]


@pytest.mark.parametrize(
    "band",
    [
        '"val/accuracy": ">= 0.92"',
        '"val/accuracy": "0.99 +- 0.02"',
        '"val/loss": "<= 92"',
        '"lr drop 1 epoch": "2..50"',
    ],
)
def test_a_band_within_reach_is_fine(band: str) -> None:
    assert said(f"expect: {{{band}}}", "scheduler: {type: StepLR, step_size: 10}") == []


def test_a_change_greater_than_the_metric_can_make_is_refused() -> None:
    stopping = "callbacks: [{type: EarlyStopping, monitor: val/accuracy, mode: max, min_delta: %s}]"
    assert said(stopping % 1) == [
        "callback EarlyStopping.min_delta: val/accuracy lies between 0 and 1, no change of it is greater than 1 [R110]"
    ]
    assert said(stopping % 0.001) == []


@pytest.mark.parametrize(
    ("sections", "answer"),
    [
        (
            ["regularizers: [{type: L1, strength: 1e-6, include: ['**.bias'], exclude: ['**.bias']}]"],
            "regularizer L1 has no effect: 'exclude' leaves nothing of what it acts on (leave it out) [R111]",
        ),
        (
            ["regularizers: [{type: L2, strength: 1e-4, exclude: ['**']}]"],
            "regularizer L2 has no effect: 'exclude' leaves nothing of what it acts on (leave it out) [R111]",
        ),
        (
            [
                "train: {epochs: 5, freeze: ['@bias']}",
                "regularizers: [{type: L2, strength: 1e-4, include: ['fc.bias']}]",
            ],
            "regularizer L2 has no effect: every parameter it acts on is frozen (leave it out) [R111]",
        ),
    ],
)
def test_a_penalty_on_nothing_that_learns_is_refused(sections: list[str], answer: str) -> None:
    assert said(*sections) == [answer]


def test_a_penalty_on_something_that_learns_is_fine() -> None:
    penalty = "regularizers: [{type: L2, strength: 1e-4, include: [fc], exclude: ['**.bias']}]"
    assert said("train: {epochs: 5, freeze: ['@bias']}", penalty) == []


@pytest.mark.parametrize(
    ("sections", "answer"),
    [
        (
            ["train: {epochs: 5, freeze: ['@head']}"],
            "warning: train.freeze keeps fc.weight as drawn at random: cifar_resnet18 has no pretrained weights "
            "(train.start_from) [W043]",
        ),
        (
            ["model: resnet18", "train: {epochs: 5, freeze: [conv1]}"],
            "warning: train.freeze keeps conv1.weight as drawn at random: resnet18 has no pretrained weights "
            "(set model.weights or train.start_from) [W043]",
        ),
        (
            ["model: {type: resnet18, weights: DEFAULT}", "train: {epochs: 5, freeze: [conv1, fc]}"],
            "warning: train.freeze keeps fc.weight as drawn at random: the last layer of resnet18 is made anew for "
            "these classes (let it learn) [W043]",
        ),
    ],
)
def test_weights_frozen_as_they_were_drawn_are_warned_of(sections: list[str], answer: str) -> None:
    assert said("report: []", *sections) == [answer]


def test_frozen_layers_that_hold_something_are_fine() -> None:
    assert said("train: {epochs: 5, freeze: ['@norm', '@bias']}") == []
    pretrained = "model: {type: resnet18, weights: DEFAULT}"
    assert said("report: []", pretrained, "train: {epochs: 5, freeze: [conv1, layer1]}") == []
    Path("best.pt").touch()
    assert said("train: {epochs: 5, freeze: [layer1], start_from: best.pt}") == []


def test_an_average_that_is_never_updated_is_refused() -> None:
    assert said("train: {epochs: 2, ema: {decay: 0.99, every: 705}}") == [
        "train.ema.every: the run takes 704 optimizer steps, so after 705 there is no update "
        "(the average, which is what is evaluated, would be the initial weights) [R112]"
    ]
    assert said("train: {epochs: 2, ema: {decay: 0.99, every: 352}}") == []


@pytest.mark.parametrize(
    "sections",
    [
        ["optimizer: {type: SGD, lr: 0}"],
        ["optimizer: {type: AdamW, lr: -1e-3}"],
        ["optimizer: {type: MuonConv, lr: 0}"],
        ["optimizer: {type: SGD, lr: 0.1, momentum: 90}"],
        ["optimizer: {type: SGD, lr: 0.1, momentum: 1}"],
        ["scheduler: {type: ExponentialLR, gamma: -0.9}"],
        ["scheduler: {type: CosineAnnealingLR, eta_min: -0.1}"],
        ["scheduler: {type: OneCycleLR, max_lr: 0.1, div_factor: -25}"],
        ["scheduler: {type: OneCycleLR, max_lr: 0.1, max_momentum: 5}"],
        ["scheduler: {type: ReduceLROnPlateau, patience: -3, step: {monitor: val/loss}}"],
        ["scheduler: {type: MultiStepLR, milestones: [-3, 5]}"],
        ["scheduler: {type: StepLR, step_size: -3}"],
        ["optimizer: {type: SGD, lr: 0.1, groups: [{match: ['@head'], momentum: 9}]}"],
        ["optimizer: {type: RMSprop, lr: 1e-3, alpha: 99}"],
        ["optimizer: {type: Adadelta, lr: 1, rho: 90}"],
        ["optimizer: {type: AdamW, lr: 1e-3, betas: [0.9, 999]}"],
        ["optimizer: {type: SGD, lr: 0.1, weight_decay: -5e-4}"],
        ["loss: {type: CrossEntropyLoss, label_smoothing: 1}"],
        ["model: {type: densenet121, drop_rate: 5}"],
        ["model: {type: efficientnet_b0, stochastic_depth_prob: 5}"],
        ["model: {type: vit_b_16, dropout: 1}"],
        ["seed: 9223372036854775808"],
        [f"seed: {10**350}"],
        ["seeds: [1, 99999999999999999999]"],
        ["data: {dataset: CIFAR10, val: {fraction: 0.1, seed: 99999999999999999999}}"],
        ["data: {dataset: CIFAR10, limit: 99999999999999999999}"],
        ["train: {epochs: 99999999999999999999}"],
    ],
)
def test_a_number_that_cannot_work_is_out_of_range(sections: list[str]) -> None:
    (answer,) = said(*sections)
    assert answer.endswith("[R017]")


def test_the_largest_seed_of_64_bits_draws() -> None:
    import torch

    from registry.transforms.draws import Draws
    from trainer.engine.rng import derived_seed, seed_everything

    largest = 2**63 - 1
    assert said(f"seed: {largest}") == []
    seed_everything(largest)
    assert 0 <= derived_seed("mix", largest, 1) < 2**63
    chance = Draws(largest, 1, torch.arange(4)).uniform(0)
    assert ((chance >= 0) & (chance < 1)).all()


def test_a_pattern_that_is_none_is_refused_before_anything_is_built() -> None:
    assert said("train: {epochs: 5, freeze: ['layer[3-1]']}") == [
        "train.freeze: 'layer[3-1]' is no pattern: bad character range 3-1 "
        "(as in 'layer1.**', 'layer[1-3]', '**.bias') [R057]"
    ]
    many = ", ".join(["fc"] * 1001)
    assert said(f"train: {{epochs: 5, freeze: [{many}]}}") == [
        "train.freeze: 1,001 patterns, and 1,000 are the most ('**' stands for many names) [R057]"
    ]


def test_a_pattern_of_many_stars_means_no_parameter() -> None:
    (answer,) = said(f"train: {{epochs: 5, freeze: ['{'**a' * 25}b']}}")
    assert answer.endswith("[R070]")
