"""What happens to a recipe: it is read and checked (recipe), built (experiment), run (engine, stages, run) and kept.

The library's door, for notebooks and scripts: `validate`, `train` and `load`. Nothing heavy is imported before one of
them is called.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from registry.errors import RecipeError
from registry.threads import share_cores

if TYPE_CHECKING:
    from trainer.recipe.problems import Problem
    from trainer.run.loading import LoadedRun

__all__ = ["load", "train", "validate"]

share_cores()  # before anything imports torch


def load(
    run: str | Path, device: str = "auto", *, calibrated: bool | None = None, abstain_below: float | None = None
) -> LoadedRun:
    """Load a run that has been trained, by its folder or as `latest`; see `trainer.run.loading.load`."""
    from trainer.run.loading import load as act

    return act(_path(run, "a run's folder"), device, calibrated=calibrated, abstain_below=abstain_below)


def validate(recipe: str | Path, *overrides: str) -> tuple[Problem, ...]:
    """Return what is wrong with a recipe, by position, warnings after errors; nothing is run and no data are needed.

    Args:
        recipe: path of the file.
        overrides: "key.path=value", as on the command line.

    Raises:
        RecipeError: what is handed in is no path, or no text.
    """
    from trainer.experiment.checking import examined

    loaded = examined(_path(recipe, "a recipe's file"), _texts(overrides))
    return (*loaded.problems, *loaded.warnings)


def train(recipe: str | Path, *overrides: str, fast: bool = False, runs: str | Path = "runs") -> LoadedRun:
    """Train what a recipe says, in a new folder below `runs`.

    Args:
        recipe: path of the file.
        overrides: "key.path=value", as on the command line.
        fast: everything once, small.
        runs: where runs lie.

    Returns:
        The run, as `load` gives it, with the verdicts on what was expected; of several seeds or folds the last one's.

    Raises:
        RecipeError: the recipe has problems; its message shows them all.
        UserError: another of its kinds, as the exit codes of the command line tell them apart.
    """
    from trainer.cli.console import Console
    from trainer.cli.syntax import refuse_several
    from trainer.experiment.checking import examined
    from trainer.run.beginning import start
    from trainer.run.conduct import Order
    from trainer.run.loading import load as act

    file, root = _path(recipe, "a recipe's file"), _path(runs, "the folder of runs")
    typed = ("trainer.train", str(recipe), *_texts(overrides))
    refuse_several("trainer.train")
    order = Order.of(examined(file, overrides, fast=fast), typed)
    result = start(order, root, Console())
    run = act(result.folder.path, order.recipe.train.device)
    return replace(run, verdicts=result.verdicts, exit_code=result.exit_code)


def _path(given: object, what: str) -> Path:
    """Return a path that was handed in.

    Raises:
        RecipeError: it is none.
    """
    if isinstance(given, (str, os.PathLike)) and isinstance(path := os.fspath(given), str) and path:
        return Path(path)
    raise RecipeError(f"{what} is named by a path, got {given!r}", "as text or a pathlib.Path")


def _texts(overrides: tuple[object, ...]) -> tuple[str, ...]:
    """Return overrides that were handed in.

    Raises:
        RecipeError: one is no text.
    """
    for each in overrides:
        if not isinstance(each, str):
            raise RecipeError(
                f"an override is a text, got {each!r}",
                'each is a word of its own: "train.epochs=3", "seed=1"; of a list, *overrides',
            )
    return tuple(map(str, overrides))
