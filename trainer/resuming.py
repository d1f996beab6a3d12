"""`resume`: what may change between the parts of a run, and what ends the attempt before anything is touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from registry.errors import RecipeError
from registry.patterns import matches
from trainer import run
from trainer.cli import Options
from trainer.console import Console
from trainer.recipe.expect import not_judged_because
from trainer.recipe.load import load_recipe
from trainer.recipe.problems import render
from trainer.recipe.recipe import Recipe, Spec
from trainer.run_folder import RunFolder

PLANNED_ON_TOTAL = ("OneCycleLR", "CosineAnnealingLR", "PolynomialLR", "LinearLR", "SequentialLR", "ChainedScheduler")


@dataclass(frozen=True)
class Free:
    """A key that may change at resume.

    Attributes:
        pattern: of the dotted path.
        why: what changes, or why nothing does.
    """

    pattern: str
    why: str


FREE_AT_RESUME = (
    Free("train.epochs", "more or fewer epochs, unless the scheduler was planned on their number"),
    Free("train.max_minutes", "only ends training earlier or later"),
    Free("train.checkpoint.**", "only when the state is written"),
    Free("train.device", "continues elsewhere; equal to the last bit only on the same device"),
    Free("train.tta", "only the final evaluation"),
    Free("data.workers", "every image's draws are keyed by its index, not by the worker"),
    Free("data.eval_batch_size", "validation only; its sums may differ in the last bits"),
    Free("data.dataset.root", "the same images in another place"),
    Free("callbacks.**", "behaviour; those that stay keep their state"),
    Free("report.**", "only the page"),
    Free("description", "only words"),
    Free("expect.**", "only the verdict"),
)


def continued(path: Path, options: Options) -> int:
    """Continue the run in `path`, with the overrides that a resume allows; return the exit code.

    Raises:
        RecipeError: an override changes what the run has done already.
        CheckpointError: there is no run, or none of its checkpoints is whole.
    """
    folder = RunFolder.open(path)
    refuse_changes(options.overrides)
    loaded = load_recipe(folder.path / "resolved.yaml", options.overrides)
    if loaded.recipe is None:
        raise RecipeError(f"{path} cannot be resumed\n{render(loaded.problems)}")
    recipe, summary = loaded.recipe, folder.read_json("summary.json")
    longer = recipe.train.epochs > summary.get("epochs", 0)
    _refuse_other_length(recipe, options.overrides)
    console = Console()
    if summary.get("status") == "completed" and not (longer and not summary.get("stopped")):
        console.line(f"{path} is complete: nothing to do")
        return 0
    fast = bool(summary.get("fast"))
    order = run.Order(
        recipe,
        tuple(warning.text for warning in loaded.warnings),
        fast,
        "--fast" if fast else not_judged_because(recipe),
        options.command,
    )
    return run.resume(order, folder, console).exit_code


def refuse_changes(overrides: Sequence[str]) -> None:
    """Refuse overrides of keys that the run has built on.

    Raises:
        RecipeError: naming the keys that may change.
    """
    for override in overrides:
        key = override.partition("=")[0]
        if not any(matches(free.pattern, key) or key == free.pattern.removesuffix(".**") for free in FREE_AT_RESUME):
            allowed = ", ".join(free.pattern for free in FREE_AT_RESUME)
            raise RecipeError(
                f"{key} cannot change at resume: the run so far was made with another value",
                f"start a new run for it. What may change: {allowed}",
            )


def _refuse_other_length(recipe: Recipe, overrides: Sequence[str]) -> None:
    scheduler: Spec | None = recipe.scheduler
    changes = any(override.startswith("train.epochs=") for override in overrides)
    if changes and scheduler is not None and scheduler.type in PLANNED_ON_TOTAL:
        raise RecipeError(
            f"train.epochs cannot change at resume: {scheduler.type} was planned on the number of steps",
            "start a new run, with train.start_from pointing at this one if its weights should be kept",
        )
