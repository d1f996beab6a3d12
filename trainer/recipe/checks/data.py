"""Checking of `data.dataset` and `data.val`: which images there are, and which of them validate.

Looks at the text alone, as consistency.py does; what only the images can tell stands in trainer/data/splits.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from registry.catalogue.suggest import nearest
from trainer.recipe.checks.draft import Draft
from trainer.recipe.problems import did_you_mean, listed
from trainer.recipe.recipe import Fraction


def _share(draft: Draft) -> None:
    """Refuse a share that is none, or two: `fraction` or `folds`, and a fold that there is."""
    val = draft.recipe.data.val
    if not isinstance(val, Fraction):
        return
    if val.fraction is None and val.folds is None:
        hint = (
            "data.val.folds says how many" if val.fold is not None else "as in {fraction: 0.1}, or {folds: 5, fold: 0}"
        )
        draft.report("R170", "data.val", "data.val says no share: 'fraction' or 'folds'", hint)
    elif val.fraction is not None and val.folds is not None:
        draft.report(
            "R170",
            "data.val.folds",
            "data.val: 'folds' beside 'fraction'",
            "leave one out; fraction: null takes an inherited one away",
        )
    elif val.folds is None and val.fold is not None:
        draft.report("R170", "data.val.fold", "data.val: 'fold' without 'folds'", "say how many there are: folds: 5")
    elif val.folds is not None and val.fold is not None and val.fold >= val.folds:
        text = f"data.val.fold: there is no fold {val.fold} of {val.folds}"
        draft.report("R170", "data.val.fold", text, f"they are counted from 0: 0 to {val.folds - 1}")


def _chosen_classes(draft: Draft) -> None:
    """Refuse a choice of no classes, and one that names a class twice."""
    dataset = draft.recipe.data.dataset
    names = dataset.arguments.get("classes")
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        return
    twice = [name for name in dict.fromkeys(names) if list(names).count(name) > 1]
    if not names or twice:
        text = f"names {listed(map(repr, twice))} twice" if names else "names no class"
        hint = "as in classes: [cat, dog]; omitted, all count" if not names else ""
        draft.report("R171", "data.dataset.classes", f"data.dataset.classes {text}", hint)


def _one_depth(draft: Draft) -> None:
    """Refuse two words on how deep the images are."""
    given = draft.recipe.data.dataset.arguments
    if given.get("bits") is not None and "white_level" in given:
        text = "data.dataset: 'bits' beside 'white_level', which says the same"
        draft.report("R172", "data.dataset.bits", text, "leave one out: 12 bits are a white level of 4095")


def _weights_by_name(draft: Draft) -> None:
    """Hold the names of class weights against the classes, where the recipe or the dataset tells them."""
    weight, known = draft.recipe.loss.arguments.get("weight"), draft.data_facts.class_names
    if known is not None and isinstance(weight, Mapping):
        unknown_weights(draft, weight, known)


def unknown_weights(draft: Draft, names: Mapping[str, object], known: Sequence[str], rule: str = "R058") -> None:
    """Report the names of class weights that are no classes.

    Args:
        draft: of the recipe.
        names: name -> weight.
        known: the classes.
        rule: that is broken.
    """
    for name in names:
        if name not in known:
            hint = did_you_mean(nearest(name, known), f"the classes are {listed(known)}")
            draft.report(rule, f"loss.weight.{name}", f"loss.weight: there is no class {name!r}", hint)


RULES: tuple[tuple[Callable[[Draft], None], tuple[str, ...]], ...] = (
    (_share, ("data.val",)),
    (_chosen_classes, ("data.dataset",)),
    (_one_depth, ("data.dataset",)),
    (_weights_by_name, ("data.dataset", "loss")),
)
