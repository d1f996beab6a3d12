"""Fast mode: what `--fast` makes of a recipe, so that everything happens once and small. Knows recipes only."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from registry import files
from trainer.recipe.recipe import Recipe, Spec

FAST_EPOCHS = 2
FAST_FINDER_STEPS = 20
FAST_BATCHES = 2  # of each part
_NUDGE = 1.001  # of OneCycleLR's pct_start: of so few steps the rise may be exactly one, which torch cannot divide by


def fast_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe cut down to two epochs and twenty finder steps, nothing made longer than it was.

    The data are limited where they are opened, to `fast_limit`.
    """
    finder = recipe.lr_finder
    return replace(
        recipe,
        fast=True,
        train=replace(recipe.train, epochs=min(recipe.train.epochs, FAST_EPOCHS), max_minutes=None),
        scheduler=_risen(recipe.scheduler),
        lr_finder=None if finder is None else replace(finder, steps=min(finder.steps, FAST_FINDER_STEPS)),
    )


def was_fast(resolved: Path) -> bool:
    """Whether the run that a resolved recipe lies in was cut down: its text is that of a whole run.

    Args:
        resolved: resolved.yaml in the run's folder.
    """
    try:
        with files.opened(resolved.parent / "summary.json") as file:
            summary = json.loads(file.read())
    except (OSError, ValueError):  # nobody says so
        return False
    return isinstance(summary, dict) and bool(summary.get("fast"))


def fast_limit(recipe: Recipe) -> int | None:
    """Return how many images of each part are taken at most; None for all, where the recipe is not cut down."""
    if not recipe.fast:
        return None
    return min(FAST_BATCHES * recipe.data.batch_size, recipe.data.limit or sys.maxsize)


def _risen(value: Any) -> Any:
    """Return a scheduler whose rise, and those of schedulers nested in it, is no whole number of steps."""
    if isinstance(value, (list, tuple)):
        return [_risen(item) for item in value]
    if not isinstance(value, Spec):
        return value
    arguments = {name: _risen(item) for name, item in value.arguments.items()}
    share = arguments.get("pct_start")
    if isinstance(share, float) and share * _NUDGE < 1:
        arguments["pct_start"] = share * _NUDGE
    return replace(value, arguments=arguments)
