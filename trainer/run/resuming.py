"""Resuming a run: what may change between the parts of a run, and what ends the attempt before anything is touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from registry.catalogue.catalog import Catalogue
from registry.errors import CheckpointError, RecipeError
from registry.printing import counted
from trainer.engine.keeper import BEST, find_latest, require_best
from trainer.engine.processes import ONE, Processes
from trainer.experiment.components import filled
from trainer.recipe.afterwards import FREE_AT_RESUME, free, patterns
from trainer.recipe.checks.expect import not_judged_because
from trainer.recipe.load import load_recipe
from trainer.recipe.problems import render
from trainer.recipe.recipe import Recipe, Reference, Spec
from trainer.recipe.resolve import flat
from trainer.run import index
from trainer.run.beginning import display_of, resume
from trainer.run.cleaning import DONE
from trainer.run.conduct import Order, Result
from trainer.run.display import Display
from trainer.run.fixed import fixed
from trainer.run.folder import RunFolder
from trainer.run.following import FollowedFolder

# What the engine tells a scheduler of the run, where the recipe does not.
LENGTHS = ("total_steps", "total_iters", "epochs", "T_max")
SHOWN = 4  # keys named that differ


def continued(
    path: Path, overrides: Sequence[str], typed: Sequence[str], display: Display, processes: Processes = ONE
) -> int:
    """Continue the run in `path`; return the exit code.

    Args:
        path: of the run's folder.
        overrides: `key=value`, those that a resume allows.
        typed: the command line, for the records.
        display: shows what happens.
        processes: that all continue it, together.

    Raises:
        RecipeError: an override changes what the run has done already.
        CheckpointError: there is no run, none of its checkpoints is whole, its best weights are gone, or its
            resolved.yaml has become another's.
    """
    display = display_of(display, processes)
    folder = RunFolder.open(path) if processes.is_first else FollowedFolder.open(path)
    loaded = load_recipe(folder.resolved, overrides)
    before = load_recipe(folder.resolved).recipe if overrides else loaded.recipe
    if before is not None:
        refuse_changes(overrides, before, folder.resolved)
    if loaded.recipe is None:
        raise RecipeError(f"{path} cannot be resumed\n{render(loaded.problems)}")
    recipe, summary = loaded.recipe, folder.read_summary()
    assert loaded.catalogue is not None
    changed = () if before is None else tuple(changes(before, recipe))
    if "train.epochs" in changed:
        refuse_other_length(recipe, loaded.catalogue)
    if summary.get("status") == "completed" and not _has_more_to_do(recipe, summary, changed):
        without = f", and {' and '.join(changed)} would change nothing" if changed else ""
        display.line(f"{path} is complete: nothing to do{without}")
        return 0
    if recipe.train.epochs < (done := len(folder.read_history())):
        display.line(
            f"train.epochs is {recipe.train.epochs} now, and {counted(done, 'epoch')} have been finished: no other "
            "begins, and one that was begun is brought to its end"
        )
    recipe = replace(recipe, fast=bool(summary.get("fast")))
    order = Order(
        recipe,
        tuple(warning.text for warning in loaded.warnings),
        not_judged_because(recipe) or _not_judged_before(summary),
        tuple(typed),
    )
    try:
        return take_up(folder, order, display, processes).exit_code
    finally:
        root = path.absolute().parent.parent
        if processes.is_first and index.is_there(root):  # a run that lies elsewhere has no page beside it
            index.refresh(root, display.line)


def _not_judged_before(summary: Mapping[str, Any]) -> str:
    """Return why the run was not judged when it began: resolved.yaml has no more what its command line set."""
    return str(summary.get("not_judged") or (summary.get("expect") or {}).get("not_judged") or "")


def take_up(folder: RunFolder, order: Order, display: Display, processes: Processes = ONE) -> Result:
    """Continue a run from its latest state, as `order` says.

    Raises:
        CheckpointError: none of its checkpoints is whole, its best weights are gone, or its resolved.yaml has become
            another's.
        StorageError: another process works on it.
    """
    with folder.locked():
        latest = find_latest(folder.checkpoints, display.line)
        if latest.state is None and _had_a_state(folder):
            raise CheckpointError(
                f"{folder.path}: its last state is gone (`clean` removes it of runs that are done), so it cannot go on",
                f"start a new run with train.start_from: {folder.path}, which takes its best weights",
            )
        if latest.state is not None:
            _refuse_another_recipe(folder.resolved, latest.state)
            require_best(folder.checkpoints, latest.state["progress"], order.recipe.train.epochs)
        return resume(order, folder, latest, display, processes)


def _had_a_state(folder: RunFolder) -> bool:
    """Whether a run without a state once had one: from the start it would take the place of what it has reached."""
    if folder.read_json("summary.json").get("status") in DONE:
        return True
    every = load_recipe(folder.resolved).usable().train.checkpoint.every  # as the run was begun
    return (folder.checkpoints / BEST).exists() and len(folder.read_history()) > every


def refuse_changes(overrides: Sequence[str], before: Recipe, resolved: Path) -> None:
    """Refuse overrides that give another value to what the run has built on.

    Keys that the recipe does not have are left to its checks, which name the nearest right one.

    Args:
        overrides: `key=value`.
        before: the run's recipe.
        resolved: its file.

    Raises:
        RecipeError: naming the keys that may change.
    """
    for override in overrides:
        key = override.partition("=")[0]
        if free(key, FREE_AT_RESUME) is not None:
            continue
        was, after = _below(key, before), load_recipe(resolved, [override]).recipe
        if (was and after is None) or (after is not None and _below(key, after) != was):
            raise RecipeError(
                f"{key} cannot change at resume: the run so far was made with another value",
                f"start a new run for it. What may change: {patterns(FREE_AT_RESUME)}",
            )


def _below(key: str, recipe: Recipe) -> dict[str, Any]:
    """Return the values at and below a key, by dotted path."""
    return {path: value for path, value in flat(recipe).items() if path == key or path.startswith(f"{key}.")}


def _refuse_another_recipe(resolved: Path, state: Mapping[str, Any]) -> None:
    """Refuse a resolved.yaml that was changed by hand since the checkpoint where only a new run could follow it.

    Raises:
        CheckpointError: naming what has changed.
    """
    before, now = fixed(state["recipe"]), fixed(resolved.read_text(encoding="utf-8"))
    other = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if other:
        named = ", ".join(other[:SHOWN]) + (f", ... ({len(other) - SHOWN} more)" if len(other) > SHOWN else "")
        raise CheckpointError(
            f"{resolved}: not what the run was made with: {named}",
            "bring resolved.yaml back as it was, or start a new run with it. What may change: "
            + patterns(FREE_AT_RESUME),
        )


def changes(before: Recipe, after: Recipe) -> Iterator[str]:
    """Yield the keys that may change at resume and did: "train.epochs", "callbacks", ..."""
    one, other = flat(before), flat(after)
    for each in FREE_AT_RESUME:
        left, right = ({key: value for key, value in values.items() if each.fits(key)} for values in (one, other))
        if left != right:
            yield each.pattern.removesuffix(".**")


def refuse_other_length(recipe: Recipe, catalogue: Catalogue) -> None:
    """Refuse another number of epochs where the scheduler was planned on it.

    Raises:
        RecipeError: it was, itself or one nested in it.
    """
    if recipe.scheduler is not None and _planned_on_length(recipe.scheduler, catalogue):
        raise RecipeError(
            f"train.epochs cannot change at resume: {recipe.scheduler.type} was planned on the length of the run",
            "start a new run, with train.start_from pointing at this one if its weights should be kept",
        )


def _planned_on_length(value: object, catalogue: Catalogue) -> bool:
    """Whether a scheduler's argument follows from the run's length, by reference or because the engine supplies it."""
    if isinstance(value, Reference):
        return value.path.startswith("run.")
    if isinstance(value, (list, tuple)):
        return any(_planned_on_length(item, catalogue) for item in value)
    if not isinstance(value, Spec):
        return False
    entry = catalogue.entry(value.slot, value.type)
    supplied = set(filled(entry, value.arguments, dict.fromkeys(LENGTHS))) - set(value.arguments)
    return bool(supplied) or any(_planned_on_length(each, catalogue) for each in value.arguments.values())


def _has_more_to_do(recipe: Recipe, summary: Mapping[str, Any], changed: Sequence[str]) -> bool:
    """Whether a completed run goes on, or ends anew with what has changed.

    Raises:
        RecipeError: more epochs for a run that its callbacks have ended.
    """
    stopped, epochs = str(summary.get("stopped", "")), summary.get("epochs", 0)
    by_time, has_epochs = bool(summary.get("out_of_time")), recipe.train.epochs > epochs
    if stopped and not by_time and has_epochs and "train.epochs" in changed and "callbacks" not in changed:
        raise RecipeError(
            f"train.epochs would change nothing: the run was ended after epoch {epochs} ({stopped})",
            "what ended it may change: callbacks=[...], with more patience or without it",
        )
    if any(found.redone for key in changed if (found := free(key, FREE_AT_RESUME)) is not None):
        return True
    if by_time:
        limit = recipe.train.max_minutes
        return has_epochs and (limit is None or summary.get("seconds", 0.0) < 60 * limit)
    return has_epochs and not stopped
