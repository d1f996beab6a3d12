"""Parameter groups and learning-rate schedules: which parameters a group takes, and its share of the rate.

The one place that turns `optimizer.groups` and `scheduler` into what torch is given; a run and its trial (trial.py)
both come here, so that what validates is what runs. Knows names of parameters, not how components are built: that is
handed in (assembly.py). How rates move from step to step is trainer/engine/schedule.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from registry.errors import RecipeError
from trainer.engine.schedule import Lead, Schedule, WarmupSteps
from trainer.recipe import patterns
from trainer.recipe.checks.lengths import each, phases
from trainer.recipe.reading.references import LR_FOUND
from trainer.recipe.recipe import Group, Reference, Spec, StepOn, Warmup

Bind = Callable[[Reference], object]  # gives a run-time reference its value

_RATES = ("max_lr", "base_lr", "min_lr")  # scheduler arguments that upstream also takes as a list, one value per group
_EPSILON = 1e-9  # of a step


class Make(Protocol):
    """Builds a component, what is supplied filled in where the recipe leaves it out."""

    def __call__(self, spec: Spec, /, **supplied: object) -> Any:
        """Return the component."""


@dataclass(frozen=True)
class ParameterGroup:
    """The parameters that one group takes, and what it says of them.

    Attributes:
        names: of its parameters, in the model's order.
        scale: factor on the optimizer's learning rate.
        own: a learning rate of its own, a number or a reference; None where it follows the optimizer's.
        arguments: the optimizer's other arguments, as far as they differ.
    """

    names: tuple[str, ...]
    scale: float
    own: object | None
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class ParameterGroups:
    """Every learnt parameter in exactly one group: those that no pattern names in the first, the loss's in the last.

    Attributes:
        base: the optimizer's learning rate as the recipe writes it.
        groups: none of them empty, in the order in which the optimizer is given them.
    """

    base: object
    groups: tuple[ParameterGroup, ...]

    @classmethod
    def of(cls, optimizer: Spec, model: nn.Module, loss: object = None) -> ParameterGroups:
        """Divide the parameters of `model` that require gradients; of the groups that match one, the first has it.

        Args:
            optimizer: whose `groups` say how.
            model: the network.
            loss: whose own parameters, where it has any, make a group of their own.
        """
        left = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        groups = []
        for group in named_groups(optimizer):
            taken = tuple(name for name in patterns.select(group.match, model) if name in left)
            left = [name for name in left if name not in taken]
            arguments = dict(group.arguments)
            if taken:
                groups.append(ParameterGroup(taken, group.lr_scale, arguments.pop("lr", None), arguments))
        rest = [ParameterGroup(tuple(left), 1.0, None, {})] if left or not groups else []
        own = tuple(learnt_by(loss))
        last = [ParameterGroup(own, 1.0, None, {})] if own else []
        return cls(optimizer.arguments["lr"], (*rest, *groups, *last))

    def swept(self) -> ParameterGroups:
        """Return the groups as a learning-rate sweep moves them.

        Where the recipe refers to the rate that is found, only what refers to it moves; else the optimizer's rate does,
        and with it every group that has none of its own.
        """
        written = (self.base, *(group.own for group in self.groups))
        if any(isinstance(rate, Reference) and rate.path == LR_FOUND for rate in written):
            return self
        return replace(self, base=Reference(LR_FOUND))

    def base_rate(self, bind: Bind) -> float:
        """Return the optimizer's learning rate, per step."""
        return _number(self.base, bind)

    def rates(self, bind: Bind) -> list[float]:
        """Return each group's learning rate, per step."""
        base = self.base_rate(bind)
        return [base * group.scale if group.own is None else _number(group.own, bind) for group in self.groups]

    def shares(self, bind: Bind) -> list[float]:
        """Return what each group gets of every rate that a scheduler gives: its rate over the optimizer's.

        Raises:
            RecipeError: the optimizer's rate is 0 and a group has one of its own.
        """
        base = self.base_rate(bind)
        if base == 0 and any(group.own is not None for group in self.groups):
            raise RecipeError(
                "optimizer.lr is 0, so no schedule can give a group its share of it",
                "write the rate that most parameters have as optimizer.lr, and freeze what shall not learn",
            )
        return [group.scale if group.own is None else _number(group.own, bind) / base for group in self.groups]

    def arguments(self, parameters: Mapping[str, Tensor], bind: Bind) -> list[dict[str, Any]]:
        """Return what an optimizer takes as `params`.

        Args:
            parameters: by name; all that the groups have.
            bind: gives run-time references their values.
        """
        return [
            {
                "params": [parameters[name] for name in group.names],
                "lr": rate,
                **{key: _bound(value, bind) for key, value in group.arguments.items()},
            }
            for group, rate in zip(self.groups, self.rates(bind), strict=True)
        ]


def learnt_by(loss: object) -> dict[str, nn.Parameter]:
    """Return the parameters that a loss has of its own and that learn, by names that no parameter of a network has."""
    named = loss.named_parameters() if isinstance(loss, nn.Module) else ()
    return {f"loss: {name}": parameter for name, parameter in named if parameter.requires_grad}


def named_groups(optimizer: Spec) -> tuple[Group, ...]:
    """Return what `optimizer.groups` holds."""
    return tuple(optimizer.knobs.get("groups", ()))


def make_schedule(
    spec: Spec | None,
    optimizer: Optimizer,
    groups: ParameterGroups,
    *,
    make: Make,
    bind: Bind,
    epochs: int,
    steps_per_epoch: int,
) -> Schedule:
    """Build a fresh schedule on `optimizer`.

    Every scheduler of torch is proportional: twice the rates in, twice the rates out. So where groups have shares that
    differ, or a warm-up is asked for, it moves one lead that all groups follow, and nothing in its arguments, nested
    or not, needs to know of groups.

    Args:
        spec: the recipe's `scheduler`; None keeps the rates.
        optimizer: whose groups are `groups`, in this order.
        groups: their shares.
        make: builds the scheduler.
        bind: gives run-time references their values.
        epochs: of the run.
        steps_per_epoch: optimizer steps.

    Raises:
        RecipeError: the scheduler refuses its arguments, or they leave it nothing to do.
    """
    if spec is None:
        return Schedule(optimizer, None, "epoch", None)
    unit, warmup = each(spec), spec.knobs.get("warmup")
    per_epoch = steps_per_epoch if unit == "step" else 1
    epochs_left = epochs if warmup is None else max(1, epochs - warmup.epochs)
    total = per_epoch * epochs_left
    _refuse_no_rise(spec, total)
    lead = _lead(spec, optimizer, groups, bind, steps_per_epoch)
    scheduler = make(
        spec,
        optimizer=optimizer if lead is None else lead,
        total_steps=total,
        total_iters=total,
        epochs=epochs_left,
        steps_per_epoch=per_epoch,
        T_max=total,
    )
    step: StepOn = spec.knobs.get("step", StepOn())
    monitor = step.monitor or ("val/loss" if spec.type == "ReduceLROnPlateau" else None)
    return Schedule(optimizer, scheduler, unit, monitor, lead)


def _lead(spec: Spec, optimizer: Optimizer, groups: ParameterGroups, bind: Bind, steps_per_epoch: int) -> Lead | None:
    """Return the one rate that all groups follow; None where the scheduler is better given the optimizer itself.

    Raises:
        RecipeError: there is a warm-up, and the scheduler has a rate for each group.
    """
    warmup, shares, per_group = spec.knobs.get("warmup"), groups.shares(bind), _per_group(spec)
    if warmup is None and (per_group or all(share == 1 for share in shares)):
        return None
    if per_group:
        raise RecipeError(
            f"{spec.origin}: {spec.type} has a rate for each group, which scheduler.warmup cannot warm up",
            "write one number; optimizer.groups' lr_scale gives each group its share",
        )
    return Lead(optimizer, shares, groups.base_rate(bind), _warmup_steps(warmup, steps_per_epoch))


def _warmup_steps(warmup: Warmup | None, steps_per_epoch: int) -> WarmupSteps | None:
    if warmup is None:
        return None
    return WarmupSteps(warmup.epochs * steps_per_epoch, warmup.epochs, warmup.start_factor)


def _per_group(value: object) -> bool:
    """Whether a scheduler, or one nested in it, is given a list of rates, one per group."""
    if isinstance(value, Spec):
        lists = any(isinstance(value.arguments.get(name), (list, tuple)) for name in _RATES)
        return lists or any(_per_group(item) for item in value.arguments.values())
    return isinstance(value, (list, tuple)) and any(_per_group(item) for item in value)


def _refuse_no_rise(spec: Spec, total: int) -> None:
    """Refuse a OneCycleLR whose rise ends where it begins: torch divides by its length."""
    for phase in phases(spec, total):
        one, share = phase.spec, phase.spec.arguments.get("pct_start", 0.3)
        length = one.arguments.get("total_steps", phase.units)
        if one.type != "OneCycleLR" or not isinstance(share, (int, float)) or not isinstance(length, int):
            continue
        if abs(share * length - 1) < _EPSILON:
            raise RecipeError(
                f"{one.origin}: {one.path}: OneCycleLR's rise would last 0 steps: pct_start {share:g} of {length} "
                "leaves one, which is already the highest",
                "take a larger pct_start, or step: {each: step}",
            )


def _bound(value: object, bind: Bind) -> object:
    return bind(value) if isinstance(value, Reference) else value


def _number(rate: object, bind: Bind) -> float:
    return float(_bound(rate, bind))  # type: ignore[arg-type]
