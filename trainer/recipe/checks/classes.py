"""Number of classes: how many a recipe takes for granted, and who says so; the data are not read.

Owns the places that count classes. Whether they agree, with one another or with the data, is the checks' matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from trainer.recipe.checks.draft import Draft
from trainer.recipe.recipe import Spec

COUNTED = ("model", "loss", "train.metrics", "train.mix", "data.dataset")  # what must be sound to count classes


class Count(NamedTuple):
    """A number of classes.

    Attributes:
        path: of the value that says it; "" where the dataset declares it.
        number: of classes.
        said: who says it, for messages: "CIFAR10 has 10 classes".
    """

    path: str
    number: int
    said: str


def counts(draft: Draft) -> Iterator[Count]:
    """Yield every number of classes in the recipe: `num_classes` of a component, the number of class weights."""
    recipe = draft.recipe
    mix = () if recipe.train.mix is None else (recipe.train.mix,)
    for spec in (recipe.model, recipe.loss, *draft.those("train.metrics"), *mix):
        if not isinstance(spec, Spec):
            continue
        number, weight = spec.arguments.get("num_classes"), spec.arguments.get("weight")
        if isinstance(number, int):
            path = f"{spec.path}.num_classes"
            yield Count(path, number, f"{path} says {number} classes")
        if spec.slot == "loss" and isinstance(weight, (list, tuple)):
            path = f"{spec.path}.weight"
            yield Count(path, len(weight), f"{path} has {len(weight)} weights")


def told(draft: Draft) -> Count | None:
    """Return what the dataset declares, else what the recipe itself says first; None where nobody does."""
    dataset = draft.recipe.data.dataset
    declared = draft.data_facts.classes
    if declared is not None:
        return Count("", declared, f"{dataset.type} has {declared} classes")
    return next(counts(draft), None)


def counted_classes(draft: Draft) -> dict[int | str, float]:
    """Return the weight in the loss of each class that the recipe weighs or ignores, by its index or its name."""
    loss = draft.recipe.loss
    weight, ignored = loss.arguments.get("weight"), draft.argument(loss, "ignore_index")
    weights: dict[int | str, float] = dict(enumerate(weight)) if isinstance(weight, (list, tuple)) else {}
    weights |= dict(weight) if isinstance(weight, Mapping) else {}
    if isinstance(ignored, int) and ignored >= 0:
        known = told(draft)
        if known is None or ignored < known.number:
            weights[ignored] = 0.0
    return weights
