"""Warnings: what a recipe may say, but a scientist would ask about. Each has an id; none stops a run."""

from __future__ import annotations

from collections.abc import Callable

from trainer.recipe import schedules
from trainer.recipe.classes import counted_classes
from trainer.recipe.draft import Draft
from trainer.recipe.problems import COMMAND_LINE, listed
from trainer.recipe.recipe import Spec


def _selection_on_test(draft: Draft) -> None:
    if draft.recipe.data.val == "test":
        text = "the test split chooses the best epoch, so its accuracy is no estimate for new images"
        draft.report(
            "W001", "data.val", text, "take {fraction: 0.1}; the test split is then evaluated once, at the end"
        )


def _two_decays(draft: Draft) -> None:
    optimizer = draft.recipe.optimizer
    decay = draft.argument(optimizer, "weight_decay")
    if not isinstance(decay, (int, float)) or decay <= 0:
        return
    for spec in draft.recipe.regularizers:
        if spec.type == "L2":
            own = "" if "weight_decay" in optimizer.arguments else ", its default,"
            text = f"L2 beside {optimizer.type}'s weight_decay {decay:g}{own} shrinks the weights twice"
            draft.report("W002", spec.path, text, "keep one of them")


def _steepest(draft: Draft) -> None:
    finder = draft.recipe.lr_finder
    if finder is not None and finder.pick == "steepest":
        text = "the steepest point of an LR sweep moves with smoothing and noise, and is often far too low or too high"
        draft.report("W006", "lr_finder.pick", text, "take minimum_over_10")


def _balanced_twice(draft: Draft) -> None:
    if draft.recipe.data.sampler == "balanced" and draft.recipe.loss.arguments.get("weight") == "balanced":
        text = "balanced class weights beside the balanced sampler correct for rare classes twice"
        draft.report("W008", "loss.weight", text, "keep one of them")


def _class_not_learnt(draft: Draft) -> None:
    weights = counted_classes(draft)
    unseen = [index for index, weight in weights.items() if weight == 0]
    if not unseen or (len(unseen) == len(weights) > 1):  # all of them is an error of its own
        return
    which = f"class {unseen[0]}" if len(unseen) == 1 else f"classes {listed(map(str, unseen))}"
    path = "loss.ignore_index" if draft.argument(draft.recipe.loss, "ignore_index") in unseen else "loss.weight"
    text = f"{path}: images of {which} count for nothing in the loss, so they are not learnt, but accuracy counts them"
    draft.report("W025", path, text, "leave the class out of the data, or give it a weight")


def _best_on_training(draft: Draft) -> None:
    metric = draft.recipe.train.best.metric
    if metric.startswith("train/"):
        text = f"the best epoch is chosen by '{metric}', which says nothing about new images"
        draft.report("W009", "train.best.metric", text, "take a metric of val")


def _random_evaluation(draft: Draft) -> None:
    """Warn where a list of transforms makes the validation images random."""
    for index, spec in enumerate(draft.recipe.data.eval):
        if _is_random(draft, spec):
            text = f"{spec.type} in data.eval changes images at random, so what is measured is a mixture"
            draft.report(
                "W010", f"data.eval.{index}", text, "move it to data.augment, or set p: 1 where it is not random"
            )


def _name_of_a_base(draft: Draft) -> None:
    if draft.written("name") and draft.place("name").file not in (draft.recipe.file, COMMAND_LINE):
        text = f"the name '{draft.recipe.name}' is inherited, so the runs of two recipes lie in one folder"
        draft.report("W014", "name", text, f"give {draft.recipe.file} a name of its own")


def _bands_of_a_base(draft: Draft) -> None:
    for expected in draft.recipe.expect:
        if expected.origin.file != draft.recipe.file:
            text = f"expect: '{expected.text}' is inherited, but was measured for another recipe"
            hint = f"set a band for {draft.recipe.file}, or null"
            draft.problems.report("W015", expected.origin, text, hint=hint, path="expect")


def _is_random(draft: Draft, spec: Spec) -> bool:
    chance = draft.argument(spec, "p")
    return isinstance(chance, (int, float)) and 0 < chance < 1


WARNINGS: tuple[tuple[Callable[[Draft], None], tuple[str, ...]], ...] = (
    (_selection_on_test, ("data.val",)),
    (_two_decays, ("optimizer.type", "optimizer.weight_decay", "regularizers")),
    (_steepest, ("lr_finder",)),
    (_balanced_twice, ("data.sampler", "loss")),
    (_class_not_learnt, ("loss", "data.dataset", "model")),
    (_best_on_training, ("train.best",)),
    (_random_evaluation, ("data.eval",)),
    (_name_of_a_base, ("name",)),
    (_bands_of_a_base, ("expect",)),
    *schedules.WARNINGS,
)
