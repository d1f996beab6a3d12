"""A schedule and an optimizer go on from a checkpoint as if nothing had been between, whatever holds their numbers."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer, Rprop, lr_scheduler

from trainer.engine import checkpoint
from trainer.engine.schedule import Lead, Schedule

STEPS = 8


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))]


def sgd() -> Optimizer:
    return SGD(parameters(), lr=0.1)


def grouped() -> Optimizer:
    first, second = parameters()
    return AdamW([{"params": [first]}, {"params": [second], "betas": (0.5, 0.9)}], lr=0.1)


def rprop() -> Optimizer:
    first, second = parameters()
    return Rprop([{"params": [first]}, {"params": [second], "etas": (0.4, 1.1)}], lr=0.1)


def in_turn(optimizer: Optimizer) -> lr_scheduler.LRScheduler:
    first = lr_scheduler.LinearLR(optimizer, 0.4, total_iters=3)
    second = lr_scheduler.MultiStepLR(optimizer, [2, 4])
    return lr_scheduler.SequentialLR(optimizer, [first, second], [3])


SCHEDULERS = {
    "MultiStepLR": lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [2, 4, 4]),
    "SequentialLR": in_turn,
    "ChainedScheduler": lambda optimizer: lr_scheduler.ChainedScheduler(
        [lr_scheduler.MultiStepLR(optimizer, [2, 4]), lr_scheduler.ExponentialLR(optimizer, 0.9)], optimizer
    ),
    "ExponentialLR": lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.9),
    "OneCycleLR": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=2 * STEPS),
    "CosineAnnealingWarmRestarts": lambda optimizer: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 3),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter in:UserWarning")  # SequentialLR itself uses it
@pytest.mark.parametrize("make", [sgd, grouped, rprop])
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("led", [False, True])
@pytest.mark.parametrize("cut", [1, 2, 3, 5])
def test_a_schedule_goes_on_as_if_it_had_not_been_cut(make, name, led, cut):
    if name == "OneCycleLR" and make is rprop:
        pytest.skip("it has no momentum to cycle")

    def started() -> tuple[Optimizer, Schedule]:
        optimizer = make()
        lead = Lead(optimizer, [1.0] * len(optimizer.param_groups), 0.1) if led else None
        return optimizer, Schedule(optimizer, SCHEDULERS[name](lead or optimizer), "step", None, lead)

    def values(optimizer: Optimizer) -> list[dict]:
        return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]

    def moved(optimizer: Optimizer, schedule: Schedule, steps: int) -> list[list[dict]]:
        told = []
        for _ in range(steps):
            optimizer.step()
            schedule.step_finished()
            told.append(values(optimizer))
        return told

    whole = moved(*started(), STEPS)
    optimizer, schedule = started()
    moved(optimizer, schedule, cut)
    kept = checkpoint.snapshot({"optimizer": optimizer.state_dict(), "schedule": schedule.state()})
    optimizer, schedule = started()
    optimizer.load_state_dict(checkpoint.as_kept(kept["optimizer"], optimizer.state_dict()))
    schedule.load(kept["schedule"])
    assert moved(optimizer, schedule, STEPS - cut) == whole[cut:]


def test_what_is_kept_comes_back_in_the_containers_of_what_it_replaces():
    now = {"a": (1, [2, (3,)]), "b": Counter([4, 4]), "c": {"d": ()}, "new": (5,)}
    back = checkpoint.as_kept(checkpoint.snapshot({**now, "gone": (6,)}), now)
    assert {key: back[key] for key in now} == now
    assert isinstance(back["b"], Counter)
    assert back["gone"] == [6]
