"""How long a run is, as far as a recipe and what its dataset declares can tell."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainer.recipe.draft import Draft
from trainer.recipe.recipe import Fraction, Spec

DEFAULT_SHARE = 0.1  # of the training images, where a dataset has no validation split
EACH_STEP = ("OneCycleLR", "CyclicLR")  # schedulers that step with the optimizer where the recipe does not say
LENGTH = (  # what the length of a run depends on
    *("data.dataset.type", "data.val", "data.batch_size", "data.drop_last", "data.limit"),
    *("train.epochs", "train.accumulate", "scheduler.type", "scheduler.step"),
)


@dataclass(frozen=True)
class Length:
    """The length of a run in the unit in which its scheduler steps.

    Attributes:
        units: how many.
        unit: "step" or "epoch".
        train_images: images learnt from; None where the dataset does not say.
        steps_per_epoch: optimizer steps; None likewise.
    """

    units: int
    unit: str
    train_images: int | None
    steps_per_epoch: int | None

    @property
    def words(self) -> str:
        """The length in words."""
        return f"{self.units:,} {self.unit}{'' if self.units == 1 else 's'}"


def each(scheduler: Spec | None) -> str:
    """Return the unit in which a scheduler steps."""
    if scheduler is None:
        return "epoch"
    step = scheduler.knobs.get("step")
    if step is not None and step.each is not None:
        return str(step.each)
    return "step" if scheduler.type in EACH_STEP else "epoch"


def run_length(draft: Draft) -> Length | None:
    """Return the length of a run; None where its scheduler counts steps and the dataset does not say how many."""
    recipe = draft.recipe
    images = train_images(draft)
    steps = None if images is None else steps_per_epoch(draft, images)
    unit = each(recipe.scheduler)
    if unit == "epoch":
        return Length(recipe.train.epochs, unit, images, steps)
    return None if steps is None else Length(steps * recipe.train.epochs, unit, images, steps)


def train_images(draft: Draft) -> int | None:
    """Return how many images are learnt from, as the dataset declares and `val` and `limit` leave."""
    data = draft.recipe.data
    splits = draft.entry(data.dataset).facts.get("splits", {})
    count = data.dataset.arguments.get("train_size", splits.get("train"))  # made-up datasets are told their size
    if not isinstance(count, int):
        return None
    if isinstance(data.val, Fraction) or (data.val is None and "val" not in splits):
        share = data.val.fraction if isinstance(data.val, Fraction) else DEFAULT_SHARE
        count -= round(count * share)
    return min(count, data.limit) if data.limit is not None else count


def steps_per_epoch(draft: Draft, images: int) -> int:
    """Return the optimizer steps of an epoch."""
    data = draft.recipe.data
    batches = images // data.batch_size if data.drop_last else math.ceil(images / data.batch_size)
    return math.ceil(batches / draft.recipe.train.accumulate)
