"""Run length: epochs and steps, as far as a recipe and what its dataset declares can tell."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from trainer.recipe.checks.draft import Draft
from trainer.recipe.recipe import DEFAULT_VAL, Fraction, Spec

EACH_STEP = ("OneCycleLR", "CyclicLR")  # schedulers that step with the optimizer where the recipe does not say
LENGTH = (  # what the length of a run depends on
    *("data.dataset", "data.val", "data.batch_size", "data.drop_last", "data.limit"),
    *("train.epochs", "train.accumulate", "scheduler.type", "scheduler.step", "scheduler.warmup"),
)


@dataclass(frozen=True)
class Length:
    """The length of a run in the unit in which its scheduler steps.

    Attributes:
        units: how many.
        unit: "step" or "epoch".
        train_images: images learnt from; None where the dataset does not say.
        steps_per_epoch: optimizer steps; None likewise.
        scheduled: what `scheduler.warmup` leaves of the units.
    """

    units: int
    unit: str
    train_images: int | None
    steps_per_epoch: int | None
    scheduled: int

    @property
    def words(self) -> str:
        """The length in words."""
        return f"{self.units:,} {self.unit}{'' if self.units == 1 else 's'}"


def each(scheduler: Spec | None) -> Literal["step", "epoch"]:
    """Return the unit in which a scheduler steps."""
    if scheduler is None:
        return "epoch"
    step = scheduler.knobs.get("step")
    if step is not None and step.each is not None:
        return step.each  # type: ignore[no-any-return]
    return "step" if scheduler.type in EACH_STEP else "epoch"


def run_length(draft: Draft) -> Length | None:
    """Return the length of a run; None where its scheduler counts steps and the dataset does not say how many."""
    recipe = draft.recipe
    images = train_images(draft)
    steps = None if images is None else steps_per_epoch(draft, images)
    unit, epochs = each(recipe.scheduler), recipe.train.epochs
    warmup = None if recipe.scheduler is None else recipe.scheduler.knobs.get("warmup")
    left = epochs if warmup is None else max(1, epochs - warmup.epochs)
    if unit == "epoch":
        return Length(epochs, unit, images, steps, left)
    return None if steps is None else Length(steps * epochs, unit, images, steps, steps * left)


def total_steps(draft: Draft) -> int | None:
    """Return the optimizer steps of the whole run; None where the dataset does not say how many images it has."""
    images = train_images(draft)
    return None if images is None else steps_per_epoch(draft, images) * draft.recipe.train.epochs


def train_images(draft: Draft) -> int | None:
    """Return how many images are learnt from, as the dataset declares and `val` and `limit` leave."""
    data = draft.recipe.data
    splits = draft.data_facts.splits
    count = splits.get("train")
    if count is None:
        return None
    if isinstance(data.val, Fraction) or (data.val is None and "val" not in splits):
        count -= (data.val if isinstance(data.val, Fraction) else DEFAULT_VAL).count(count)
    return min(count, data.limit) if data.limit is not None else count


def steps_per_epoch(draft: Draft, images: int) -> int:
    """Return the optimizer steps of an epoch."""
    data = draft.recipe.data
    batches = images // data.batch_size if data.drop_last else math.ceil(images / data.batch_size)
    return math.ceil(batches / draft.recipe.train.accumulate)


@dataclass(frozen=True)
class Phase:
    """A scheduler and how long it is in force.

    Attributes:
        spec: the scheduler.
        units: of its own unit, steps or epochs.
        whole: whether that is the whole run.
    """

    spec: Spec
    units: int
    whole: bool = True


def phases(scheduler: Spec, units: int) -> Iterator[Phase]:
    """Yield a scheduler and those nested in it, each with the time it is in force.

    Args:
        scheduler: of a recipe.
        units: how long it is in force itself.
    """
    yield from _phases(Phase(scheduler, units))


def _phases(phase: Phase) -> Iterator[Phase]:
    yield phase
    nested = [one for one in phase.spec.arguments.get("schedulers") or () if isinstance(one, Spec)]
    ends = phase.spec.arguments.get("milestones")
    in_turn = phase.spec.type == "SequentialLR" and isinstance(ends, (list, tuple)) and all(map(_is_count, ends))
    lengths = phase_lengths(phase.units, ends) if in_turn else [phase.units] * len(nested)
    for spec, units in zip(nested, lengths, strict=False):  # how many they must be is for torch to say
        yield from _phases(Phase(spec, units, phase.whole and not in_turn))


def phase_lengths(total: Any, ends: Any) -> list[int]:
    """Return how long each phase lasts, at least 1: the first ends at `ends[0]`, the last at `total`."""
    return [max(1, end - start) for start, end in pairwise([0, *ends, total])]


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
