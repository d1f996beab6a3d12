"""Learning-rate schedule: a torch scheduler, its interval, the metric it watches, and who follows its rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from registry.errors import CheckpointError
from trainer.engine.checkpoint import as_kept


@dataclass(frozen=True)
class WarmupSteps:
    """A linear warm-up (Goyal et al., arXiv 1706.02677), in optimizer steps.

    Attributes:
        steps: until the full rate is reached.
        epochs: that those steps fill.
        start_factor: share of the rate that the first step uses.
    """

    steps: int
    epochs: int
    start_factor: float

    def factor(self, done: int) -> float:
        """Return the share of the rate that the step after `done` steps uses."""
        return 1.0 if done >= self.steps else self.start_factor + (1 - self.start_factor) * done / self.steps


class Lead(Optimizer):
    """One learning rate for a scheduler to move, which parameter groups follow, each at its share.

    Has no parameters and takes no steps. Whatever else a scheduler moves (OneCycleLR cycles the momentum) is handed on
    as it is.

    Args:
        followers: the optimizer whose groups follow.
        shares: of the rate, one per group.
        lr: rate of the lead, per step.
        warmup: scales all rates in the first epochs; None for no warm-up.
    """

    def __init__(
        self, followers: Optimizer, shares: Sequence[float], lr: float, warmup: WarmupSteps | None = None
    ) -> None:
        super().__init__([torch.zeros(0)], {**followers.defaults, "lr": lr})
        self.followers, self.shares, self.warmup = followers, list(shares), warmup
        self.steps = self.epochs = 0  # done
        self._first = {key: value for key, value in self.param_groups[0].items() if key not in ("params", "lr")}
        # What the scheduler has changed beside the rate: a key, and of a tuple (Adam's betas) the place in it.
        self._moved: set[tuple[str, int | None]] = set()

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take no step: torch asks that one was taken before a scheduler moves."""

    @property
    def warming_up(self) -> bool:
        """Whether the last step, or the epoch that ends with it, was part of the warm-up."""
        return self.warmup is not None and self.steps <= self.warmup.steps

    def cycles_momentum(self) -> None:
        """Hand the momentum on from the start, Adam's first beta: what a cycle begins with may be what it was."""
        self._moved.add(("betas", 0) if "betas" in self.defaults else ("momentum", None))

    def hand_on(self) -> None:
        """Give every group its share of the rate as it is now."""
        lead = self.param_groups[0]
        rate = lead["lr"] if self.warmup is None else lead["lr"] * self.warmup.factor(self.steps)
        for key, first in self._first.items():
            if lead[key] != first:
                self._moved.update(_differences(key, first, lead[key]))
        for group, share in zip(self.followers.param_groups, self.shares, strict=True):
            group["lr"] = rate * share
            for key, place in self._moved:
                group[key] = lead[key] if place is None else _with(group[key], place, lead[key][place])

    def saved(self) -> dict[str, Any]:
        """Return plain values for `restore`: an optimizer's `state` is of its parameters, and there are none."""
        values = {key: value for key, value in self.param_groups[0].items() if key != "params"}
        return {"group": values, "steps": self.steps, "epochs": self.epochs}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Continue from what was `saved`; the groups have their own."""
        self.param_groups[0].update(as_kept(saved["group"], self.param_groups[0]))
        self.steps, self.epochs = saved["steps"], saved["epochs"]


def _within(scheduler: Any) -> Iterator[Any]:
    """Yield a scheduler and those nested in it."""
    yield scheduler
    for one in getattr(scheduler, "_schedulers", ()):
        yield from _within(one)


def _differences(key: str, one: Any, other: Any) -> list[tuple[str, int | None]]:
    """Return where two values of a key differ: its places where both are tuples, else the key as a whole."""
    if not isinstance(one, tuple) or not isinstance(other, tuple) or len(one) != len(other):
        return [(key, None)]
    return [(key, place) for place, (left, right) in enumerate(zip(one, other, strict=True)) if left != right]


def _with(values: tuple[Any, ...], place: int, value: Any) -> tuple[Any, ...]:
    """Return a tuple with another value at one place."""
    return (*values[:place], value, *values[place + 1 :])


class Schedule:
    """Learning-rate schedule: a scheduler of torch, stepped at its interval.

    Args:
        optimizer: whose learning rates move.
        scheduler: of torch.optim.lr_scheduler, already built on `lead` where there is one, else on `optimizer`; None
            keeps the rate.
        each: "step" after every optimizer step, "epoch" after every validation.
        monitor: key of the epoch's row that ReduceLROnPlateau is given.
        lead: what the groups of `optimizer` follow; None where the scheduler moves them itself.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        scheduler: LRScheduler | ReduceLROnPlateau | None,
        each: Literal["step", "epoch"],
        monitor: str | None,
        lead: Lead | None = None,
    ) -> None:
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._monitor = monitor
        self._lead = lead
        self.every_step = scheduler is not None and (each == "step" or (lead is not None and lead.warmup is not None))
        self.every_epoch = scheduler is not None and each == "epoch"
        self._by_step = each == "step"
        if lead is not None and scheduler is not None:
            if any(getattr(one, "cycle_momentum", False) for one in _within(scheduler)):
                lead.cycles_momentum()
            lead.step()  # torch warns of schedulers that move before the first step
            lead.hand_on()

    @property
    def rates(self) -> list[float]:
        """Learning rate of every parameter group, as the next step will use it."""
        return [float(group["lr"]) for group in self._optimizer.param_groups]

    @property
    def lr(self) -> float:
        """Learning rate of the first parameter group, as the next step will use it."""
        return float(self._optimizer.param_groups[0]["lr"])

    def step_finished(self) -> None:
        """After an optimizer step."""
        if not self.every_step:
            return
        lead = self._lead
        if lead is None:
            self._scheduler.step()  # type: ignore[union-attr,call-arg]
            return
        lead.steps += 1
        if self._by_step and not lead.warming_up:
            self._scheduler.step()  # type: ignore[union-attr,call-arg]
        lead.hand_on()

    def epoch_finished(self, row: Mapping[str, float]) -> None:
        """After the validation whose numbers are in `row`."""
        if not self.every_epoch:
            return
        lead = self._lead
        if lead is not None:
            lead.epochs += 1
            if lead.warmup is not None and lead.epochs <= lead.warmup.epochs:
                return
        if isinstance(self._scheduler, ReduceLROnPlateau):
            self._scheduler.step(row.get(self._monitor or "", math.nan))  # what was not measured is no improvement
        else:
            self._scheduler.step()  # type: ignore[union-attr]
        if lead is not None:
            lead.hand_on()

    def state(self) -> dict[str, Any]:
        """Return the scheduler's state, with the lead's where there is one."""
        if self._scheduler is None:
            return {}
        state: dict[str, Any] = self._scheduler.state_dict()
        return state if self._lead is None else {"scheduler": state, "lead": self._lead.saved()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`.

        Raises:
            CheckpointError: it is of a version in which groups had schedules of their own.
        """
        if self._scheduler is None:
            return
        if self._lead is None:
            self._scheduler.load_state_dict(as_kept(state, self._scheduler.state_dict()))
            return
        if "lead" not in state:
            raise CheckpointError(
                "the checkpoint was written by a version that moved the groups' rates in another way",
                "resume it with that version, or start a new run with train.start_from",
            )
        self._scheduler.load_state_dict(as_kept(state["scheduler"], self._scheduler.state_dict()))
        self._lead.restore(state["lead"])
