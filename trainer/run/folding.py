"""Out-of-fold answers: a run per fold of the training split, each asked for the pictures it has not learnt from.

    runs/<name>-labels/<digest>-fold-1/ ...     ordinary runs, kept; given again, the complete ones are taken as they
                                                are, one that was broken off goes on, and those missing are begun

The digest is of the recipe and its pictures, so that other ones have other folds. Knows how a run is ordered; what its
answers mean is trainer/audit's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from registry.errors import CheckpointError
from trainer.data.fingerprint import print_of
from trainer.data.splits import Part, divided, limited, readable
from trainer.experiment.experiment import Experiment
from trainer.recipe.load import load_recipe
from trainer.recipe.recipe import DEFAULT_VAL, Fraction, Recipe
from trainer.recipe.resolve import resolved_yaml
from trainer.run import predictions as predictions_file
from trainer.run.beginning import start_as
from trainer.run.conduct import Order, short_digest
from trainer.run.display import Display
from trainer.run.folder import RunFolder
from trainer.run.resuming import take_up

_NOT_JUDGED = "a fold of a label review is not judged"


@dataclass(frozen=True)
class Answered:
    """What networks answer to pictures that they have not learnt from.

    Attributes:
        part: the whole training split.
        indices: places of the pictures in it, int64 (n,).
        logits: float32 (n, C).
    """

    part: Part
    indices: NDArray[np.int64]
    logits: NDArray[np.float32]


def out_of_fold(experiment: Experiment, folds: int, root: Path, command: Sequence[str], display: Display) -> Answered:
    """Train a network per fold and return what each answers to the pictures of its fold.

    Args:
        experiment: on the data whose training split is folded; its recipe is trained.
        folds: how many, at least 2.
        root: of the run folders.
        command: the command line, for the records.
        display: shows the runs.

    Raises:
        UserError: a run failed; those that are complete are kept.
    """
    recipe, store = experiment.recipe, experiment.data.train.store
    whole = Part("train", store, experiment.data.train.indices, "train")
    folded = print_of(replace(whole, indices=readable(store)))  # with the share that the recipe validates on
    digest = short_digest(f"{resolved_yaml(_of_fold(recipe, folds, None))} {folded}")
    places, logits = [], []
    for fold in range(folds):
        single = _of_fold(recipe, folds, fold)
        folder = RunFolder(root / single.name / f"{digest}-fold-{fold + 1}")
        display.line(f"fold {fold + 1} of {folds}: {folder.path}")
        _run(single, folder, root, command, display)
        assert isinstance(single.data.val, Fraction)
        held_out = divided(store, single.data.val)[1]
        if single.data.limit is not None:
            held_out = limited(held_out, single.data.limit, single.seed)
        places.append(held_out.indices.numpy())
        logits.append(_answers(folder, held_out))
    return Answered(whole, np.concatenate(places), np.concatenate(logits))


def _of_fold(recipe: Recipe, folds: int, fold: int | None) -> Recipe:
    """Return the recipe of one fold; a share that the recipe cuts off keeps its seed, classes and groups."""
    share = recipe.data.val if isinstance(recipe.data.val, Fraction) else DEFAULT_VAL
    val = replace(share, fraction=None, folds=folds, fold=fold)
    return replace(
        recipe, name=f"{recipe.name}-labels", seeds=None, expect=(), data=replace(recipe.data, val=val), overrides=()
    )


def _run(recipe: Recipe, folder: RunFolder, root: Path, command: Sequence[str], display: Display) -> None:
    """Train a fold, from where it stands."""
    order = Order(recipe, (), _NOT_JUDGED, tuple(command), page=False, spares_test=True)
    if not folder.resolved.exists():
        start_as(order, root, folder.path.name, display)
    elif folder.read_summary().get("status") == "completed":
        display.line("it is complete")
    else:
        take_up(folder, replace(order, recipe=load_recipe(folder.resolved).usable()), display)


def _answers(folder: RunFolder, held_out: Part) -> NDArray[np.float32]:
    """Return the logits of a fold's pictures, float32 (n, C).

    Raises:
        CheckpointError: the run has kept none, or of other pictures.
    """
    kept = predictions_file.read(folder.path)
    if kept is None or not np.array_equal(kept.targets, held_out.targets.numpy()):
        raise CheckpointError(
            f"{folder.path} has kept no answers to the pictures of its fold",
            "remove the folder: the fold is trained again",
        )
    return kept.logits.astype(np.float32)
