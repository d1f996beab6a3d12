"""Frozen parameters: what `train.freeze` does to the rest of a recipe, such as penalties without effect.

Looks at a model that the second tier has built; which names a pattern means is trainer/recipe/patterns.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import TYPE_CHECKING

from trainer.engine.training_mode import frozen_statistics
from trainer.recipe.checks.draft import Draft
from trainer.recipe.patterns import select, unmatched
from trainer.recipe.problems import listed

if TYPE_CHECKING:
    from torch import nn

WEIGHTS: Mapping[str, object] = {"weights": None, "pretrained": False}  # arguments that load something -> for nothing


def check_penalties(draft: Draft, model: nn.Module, frozen: Set[str]) -> None:
    """Refuse penalties that act on nothing that learns.

    Args:
        draft: the recipe; takes what is wrong.
        model: as the recipe builds it.
        frozen: names of the parameters that do not learn.
    """
    for spec in draft.recipe.regularizers:
        include, exclude = spec.arguments.get("include"), spec.arguments.get("exclude") or ()
        if unmatched([*(include or ()), *exclude], model):
            continue  # reported
        meant = set(select(include or ("**",), model)) - set(select(exclude, model))
        if not meant - frozen:
            why = "every parameter it acts on is frozen" if meant else "'exclude' leaves nothing of what it acts on"
            draft.report("R111", spec.path, f"{spec.slot} {spec.name} has no effect: {why}", "leave it out")


def check_frozen(draft: Draft, model: nn.Module, frozen: Set[str]) -> None:
    """Warn of kernels and matrices that are frozen with the random numbers they were drawn with.

    Silent about models of plug-ins, which may load weights of their own, and about what a model itself never trains.

    Args:
        draft: the recipe; takes the warning.
        model: as the recipe builds it.
        frozen: names of the parameters that the recipe freezes.
    """
    spec, entry = draft.recipe.model, draft.entry(draft.recipe.model)
    loads = [name for name in WEIGHTS if entry.parameter(name) is not None]
    if draft.recipe.train.start_from is not None or not (loads or entry.own):
        return
    weights = {name for name, one in model.named_parameters() if one.dim() > 1 and one.requires_grad}
    drawn, whose, hint = weights & frozen, f"{spec.type} has no pretrained weights", _ways_to_load(loads)
    if any(draft.argument(spec, name) for name in loads):
        drawn &= set(select(["@head"], model))
        whose, hint = f"the last layer of {spec.type} is made anew for these classes", "let it learn"
    if drawn:
        text = f"train.freeze keeps {listed(sorted(drawn), 3)} as drawn at random: {whose}"
        draft.report("W043", "train.freeze", text, hint)


def check_statistics(draft: Draft, model: nn.Module) -> None:
    """Warn of `train.frozen_statistics: update` where no norm layer is frozen.

    Args:
        draft: the recipe; takes the warning.
        model: as the recipe builds and freezes it.
    """
    if draft.recipe.train.frozen_statistics == "update" and not frozen_statistics(model):
        text = f"train.frozen_statistics: {draft.recipe.model.type} has no frozen norm layers, so it changes nothing"
        draft.report("W045", "train.frozen_statistics", text, "train.freeze freezes layers; or leave it out")


def _ways_to_load(arguments: list[str]) -> str:
    return " or ".join([*(f"set model.{name}" for name in arguments), "train.start_from"])
