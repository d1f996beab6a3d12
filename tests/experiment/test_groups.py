"""Parameter groups under schedules: every group has its share of the rate, whatever the scheduler does with it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from registry.errors import CheckpointError, RecipeError
from trainer.engine.schedule import Schedule
from trainer.experiment.components import build
from trainer.experiment.groups import ParameterGroups, make_schedule
from trainer.recipe.load import load_recipe
from trainer.recipe.problems import render
from trainer.recipe.recipe import Recipe, Reference

STEPS, EPOCHS = 5, 8  # of the made-up run: 40 steps
BODY, HEAD = 'match: ["layer*"]', 'match: ["@head"]'
FACTS = {"lr_finder.lr": 0.2, "run.epochs": EPOCHS, "run.steps_per_epoch": STEPS, "run.total_steps": STEPS * EPOCHS}
SCHEDULERS = [
    "{type: StepLR, step_size: 2}",
    "{type: MultiStepLR, milestones: [2, 5]}",
    "{type: ConstantLR, total_iters: 3}",
    "{type: LinearLR, total_iters: 4}",
    "{type: ExponentialLR, gamma: 0.7}",
    "{type: PolynomialLR, power: 2}",
    "{type: CosineAnnealingLR, eta_min: 0.02}",
    "{type: CosineAnnealingLR, eta_min: 0.02, step: {each: step}}",
    "{type: CosineAnnealingWarmRestarts, T_0: 3, eta_min: 0.02}",
    "{type: OneCycleLR, max_lr: 0.3}",
    "{type: CyclicLR, base_lr: 0.05, max_lr: 0.3, step_size_up: 7}",
    "{type: ReduceLROnPlateau, patience: 0, threshold: 1, min_lr: 0.02, step: {monitor: val/loss}}",
    "{type: ChainedScheduler, schedulers: [{type: LinearLR, total_iters: 3}, {type: ExponentialLR, gamma: 0.9}]}",
    "{type: SequentialLR, milestones: [2], schedulers: [LinearLR, {type: CosineAnnealingLR, eta_min: 0.02}]}",
    "{type: SequentialLR, milestones: [4], step: {each: step}, schedulers: [LinearLR, {type: OneCycleLR, max_lr: 1}]}",
    "{type: StepLR, step_size: 2, warmup: {epochs: 2}}",
    "{type: CosineAnnealingLR, step: {each: step}, warmup: {epochs: 2, start_factor: 0.2}}",
]


class Net(nn.Module):
    """Two named parts."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.layer2 = nn.Linear(3, 3), nn.Linear(3, 3)
        self.fc = nn.Linear(3, 2)


@pytest.fixture
def recipe_of(tmp_path: Path) -> Callable[..., Recipe]:
    def made(groups: str = "", scheduler: str = "", lr: str = "0.1", optimizer: str = "SGD, momentum: 0.9") -> Recipe:
        lines = ["version: 1", "data: {dataset: Shapes}", "model: SmallCNN", "lr_finder: {start: 1e-3, end: 10}"]
        lines += [f"optimizer: {{type: {optimizer}, lr: {lr}, groups: [{groups}]}}", "train: {epochs: 8}"]
        lines += [f"scheduler: {scheduler}"] if scheduler else []
        path = tmp_path / "recipe.yaml"
        path.write_text("\n".join(lines))
        loaded = load_recipe(path)
        assert loaded.recipe is not None, render(loaded.problems)
        return loaded.recipe

    return made


class Run:
    """An optimizer and its schedule, as a run builds them."""

    def __init__(self, recipe: Recipe) -> None:
        net = Net()
        self.groups = ParameterGroups.of(recipe.optimizer, net)
        parameters = dict(net.named_parameters())
        kind = getattr(torch.optim, recipe.optimizer.type)
        others = {name: value for name, value in recipe.optimizer.arguments.items() if name != "lr"}
        groups = self.groups.arguments(parameters, bind)
        for group in groups:
            group.update({name: tuple(value) for name, value in group.items() if name == "betas"})
        self.optimizer = kind(groups, lr=self.groups.base_rate(bind), **others)
        self.schedule: Schedule = make_schedule(
            recipe.scheduler,
            self.optimizer,
            self.groups,
            make=lambda spec, /, **supplied: build(spec, supplied=supplied, bind=bind),
            bind=bind,
            epochs=EPOCHS,
            steps_per_epoch=STEPS,
        )

    @property
    def rates(self) -> list[float]:
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def steps(self, first: int = 0, last: int = STEPS * EPOCHS) -> list[list[float]]:
        """Return the groups' rates of each step from `first` to before `last`."""
        seen = []
        for index in range(first, last):
            seen.append(self.rates)
            self.optimizer.step()
            self.schedule.step_finished()
            if (index + 1) % STEPS == 0:
                self.schedule.epoch_finished({"val/loss": 1.0})
        return seen


def bind(reference: Reference) -> object:
    return FACTS[reference.path]


# ------------------------------------------------------------------------------------------------------------- shares
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_groups_rate_is_its_share_of_the_lone_groups_at_every_step(recipe_of: Callable, scheduler: str) -> None:
    alone = Run(recipe_of("", scheduler)).steps()
    shared = Run(recipe_of(f"{{{BODY}, lr_scale: 0.1}}, {{{HEAD}, lr: 0.5}}", scheduler)).steps()
    for (rate,), (body, head) in zip(alone, shared, strict=True):
        assert (body, head) == pytest.approx((0.1 * rate, 5 * rate), rel=1e-12)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_naming_the_rest_as_a_group_changes_nothing(recipe_of: Callable, scheduler: str) -> None:
    rest_first = Run(recipe_of(f"{{{BODY}, lr_scale: 0.1}}", scheduler)).steps()
    both_named = Run(recipe_of(f"{{{BODY}, lr_scale: 0.1}}, {{{HEAD}}}", scheduler)).steps()
    assert [rates[::-1] for rates in rest_first] == both_named


def test_the_peak_of_one_cycle_is_each_groups_share_in_whatever_order_they_stand(recipe_of: Callable) -> None:
    one_cycle = "{type: OneCycleLR, max_lr: 0.1}"
    for groups, peaks in [
        (f"{{{BODY}, lr_scale: 0.1}}, {{{HEAD}, lr_scale: 1.0}}", (0.01, 0.1)),
        (f"{{{HEAD}, lr_scale: 10}}, {{{BODY}}}", (1.0, 0.1)),
        (f"{{{HEAD}, lr: 0.001}}", (0.1, 0.001)),
        (f"{{{HEAD}, lr: 0.001}}, {{match: [layer1], lr_scale: 0.1}}", (0.1, 0.001, 0.01)),
    ]:
        highest = torch.tensor(Run(recipe_of(groups, one_cycle)).steps()).max(dim=0).values
        assert highest.tolist() == pytest.approx(peaks)


def test_a_share_of_nothing_is_a_rate_of_zero(recipe_of: Callable) -> None:
    rates = Run(recipe_of(f"{{{BODY}, lr_scale: 0}}, {{{HEAD}}}", "{type: OneCycleLR, max_lr: 0.1}")).steps()
    assert {body for body, _ in rates} == {0.0}
    assert max(head for _, head in rates) == pytest.approx(0.1)


def test_momentum_that_a_schedule_cycles_reaches_every_group(recipe_of: Callable) -> None:
    run = Run(recipe_of(f"{{{BODY}, lr_scale: 0.1}}", "{type: OneCycleLR, max_lr: 0.1}"))
    alone = Run(recipe_of("", "{type: OneCycleLR, max_lr: 0.1}"))
    for _ in range(STEPS * EPOCHS):
        wanted = alone.optimizer.param_groups[0]["momentum"]
        assert [group["momentum"] for group in run.optimizer.param_groups] == [wanted, wanted]
        for one in (run, alone):
            one.optimizer.step()
            one.schedule.step_finished()


@pytest.mark.parametrize(
    "scheduler", ["{type: OneCycleLR, max_lr: 0.1}", "{type: CyclicLR, base_lr: 0.01, max_lr: 0.1}"]
)
def test_a_groups_second_beta_is_its_own_whatever_a_schedule_does_with_the_first(
    recipe_of: Callable, scheduler: str
) -> None:
    recipe = recipe_of(f"{{{HEAD}, lr_scale: 2, betas: [0.7, 0.5]}}", scheduler, optimizer="Adam")
    run, alone = Run(recipe), Run(recipe_of(f"{{{HEAD}, betas: [0.7, 0.5]}}", scheduler, optimizer="Adam"))
    for _ in range(STEPS * EPOCHS):
        assert [group["betas"] for group in run.optimizer.param_groups] == [
            group["betas"] for group in alone.optimizer.param_groups
        ]
        for one in (run, alone):
            one.optimizer.step()
            one.schedule.step_finished()


def test_a_list_of_rates_gives_each_group_its_own(recipe_of: Callable) -> None:
    run = Run(recipe_of(f"{{{HEAD}}}", "{type: OneCycleLR, max_lr: [0.3, 0.7]}"))
    assert torch.tensor(run.steps()).max(dim=0).values.tolist() == pytest.approx([0.3, 0.7])


def test_a_reference_in_a_group_is_what_was_found(recipe_of: Callable) -> None:
    assert Run(recipe_of(f"{{{HEAD}, lr: $lr_finder.lr}}", lr="0.05")).rates == [0.05, 0.2]


def test_a_rate_of_zero_cannot_be_shared(recipe_of: Callable) -> None:
    groups = ParameterGroups.of(recipe_of(f"{{{HEAD}, lr: 0.5}}").optimizer, Net())
    with pytest.raises(RecipeError, match=r"optimizer\.lr is 0"):
        ParameterGroups(0, groups.groups).shares(bind)


# -------------------------------------------------------------------------------------------------------- groups taken
def test_of_the_groups_that_match_a_parameter_the_first_has_it(recipe_of: Callable) -> None:
    net = Net()
    net.layer2.weight.requires_grad_(False)
    groups = ParameterGroups.of(recipe_of(f'{{match: ["@bias"], weight_decay: 0}}, {{{BODY}}}').optimizer, net)
    assert [group.names for group in groups.groups] == [
        ("fc.weight",),
        ("layer1.bias", "layer2.bias", "fc.bias"),
        ("layer1.weight",),
    ]


# -------------------------------------------------------------------------------------------------------------- sweep
@pytest.mark.parametrize(
    ("lr", "groups", "at_a_half"),
    [
        ("$lr_finder.lr", f"{{{HEAD}, lr: 0.01}}", [0.5, 0.01]),  # a rate of its own stays
        ("$lr_finder.lr", f"{{{HEAD}, lr_scale: 10}}", [0.5, 5.0]),
        ("0.1", f"{{{HEAD}, lr: $lr_finder.lr}}", [0.1, 0.5]),  # only the head's is looked for
        ("0.1", f"{{{HEAD}, lr: 0.01}}", [0.5, 0.01]),  # nobody reads it: the sweep reports on the optimizer's
    ],
)
def test_a_sweep_moves_the_rates_that_are_looked_for(
    recipe_of: Callable, lr: str, groups: str, at_a_half: list[float]
) -> None:
    swept = ParameterGroups.of(recipe_of(groups, lr=lr).optimizer, Net()).swept()
    assert swept.rates(lambda reference: 0.5) == at_a_half


# ------------------------------------------------------------------------------------------------------------ warm-up
def test_a_warm_up_rises_step_by_step_and_the_scheduler_counts_from_its_end(recipe_of: Callable) -> None:
    plateau = "{type: ReduceLROnPlateau, factor: 0.5, patience: 1, step: {monitor: val/loss}, warmup: {epochs: 3}}"
    rates = [rate for (rate,) in Run(recipe_of("", plateau)).steps()]
    assert rates[:15] == pytest.approx([0.1 * (0.1 + 0.9 * step / 15) for step in range(15)])
    assert rates[15:30] == [0.1] * 15  # epochs 4 to 6: the best loss, then two that are no better
    assert rates[30:] == [0.05] * 10


def test_a_schedule_after_a_warm_up_is_planned_on_what_is_left(recipe_of: Callable) -> None:
    cosine = "{type: CosineAnnealingLR, step: {each: step}, warmup: {epochs: 2}}"
    rates = [rate for (rate,) in Run(recipe_of("", cosine)).steps()]
    wanted = [
        0.05 * (1 + torch.cos(torch.tensor(torch.pi * step / 30, dtype=torch.float64)).item()) for step in range(30)
    ]
    assert rates[10:] == pytest.approx(wanted)


# ------------------------------------------------------------------------------------------------------------- resume
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_schedule_goes_on_from_any_step_as_if_it_had_not_stopped(recipe_of: Callable, scheduler: str) -> None:
    recipe = recipe_of(f"{{{BODY}, lr_scale: 0.1}}", scheduler)
    whole = Run(recipe).steps()
    for cut in (1, 7, 10, 11, 23):
        first, second = Run(recipe), Run(recipe)
        first.steps(0, cut)
        second.optimizer.load_state_dict(first.optimizer.state_dict())
        second.schedule.load(first.schedule.state())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert second.steps(cut) == whole[cut:]


def test_the_state_of_a_version_without_shares_is_refused(recipe_of: Callable) -> None:
    run = Run(recipe_of(f"{{{BODY}, lr_scale: 0.1}}", "{type: StepLR, step_size: 2}"))
    with pytest.raises(CheckpointError, match="moved the groups' rates in another way"):
        run.schedule.load({"last_epoch": 3, "base_lrs": [0.1, 0.01]})
