"""The third tier: a recipe against the data it was given, before training.

Repeats the second tier with the truth in place of what the dataset declared, and asks what only the images can tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from registry.catalogue.catalog import Catalogue
from trainer.experiment.known import DataKnown
from trainer.experiment.tier2 import sources_of
from trainer.experiment.trial import Trial
from trainer.recipe.checks.classes import counts
from trainer.recipe.checks.consistency import explained_classes
from trainer.recipe.checks.draft import Draft
from trainer.recipe.problems import Collector, Problem, listed
from trainer.recipe.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.data.splits import LoadedData


def check_data(
    recipe: Recipe, catalogue: Catalogue, known: DataKnown, class_names: Sequence[str]
) -> tuple[Problem, ...]:
    """Return what is wrong with a recipe now that the data are known, by position; warnings are among them.

    Args:
        recipe: without problems in its text.
        catalogue: what it names.
        known: what was read.
        class_names: one per class, for messages.
    """
    problems = Collector(sources_of(recipe))
    draft = Draft(recipe, catalogue, problems)
    _class_counts(draft, known)
    _empty_classes(draft, known, class_names)
    explained_classes(draft, class_names)
    Trial(draft, known).run()
    return (*problems.sorted("error"), *problems.sorted("warning"))


def known_from(data: LoadedData) -> DataKnown:
    """Return what was read as the facts that a recipe is held against."""
    classes = len(data.class_names)
    counts = torch.bincount(data.train.targets, minlength=classes)
    return DataKnown(classes, data.channels, data.image_size, len(data.train), tuple(counts.tolist()))


def _class_counts(draft: Draft, known: DataKnown) -> None:
    """Hold every number of classes in the recipe against the data."""
    for path, number, _ in counts(draft):
        if number == known.num_classes:
            continue
        weights = path.endswith(".weight")
        text = f"{path}: the data have {known.num_classes} classes, got {number}{' weights' if weights else ''}"
        hint = "one per class, in the order of the classes" if weights else "leave it out: the engine supplies it"
        draft.report("R080", path, text, hint)


def _empty_classes(draft: Draft, known: DataKnown, class_names: Sequence[str]) -> None:
    empty = [name for name, count in zip(class_names, known.class_counts or (), strict=False) if count == 0]
    if empty:
        text = f"no training image is of {listed(map(repr, empty), 5)}"
        draft.report("W013", "data.dataset", text, "the network cannot learn it")
