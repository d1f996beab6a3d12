"""The second and third tier of checks: a recipe is tried with what is known of the data, before and after reading.

The second tier (`check_built`) needs torch and no data: what the dataset declares serves, or stand-ins. The third
(`check_data`) repeats it with the truth and asks what only the images can tell. What is built is trial.py's matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from registry.catalogue.catalog import Catalogue
from registry.transforms.shrinking import WHOLE
from trainer.experiment.known import DataKnown, declared
from trainer.experiment.trial import Trial
from trainer.recipe.checks.classes import counts
from trainer.recipe.checks.consistency import explained_classes
from trainer.recipe.checks.data import unknown_weights
from trainer.recipe.checks.draft import Draft
from trainer.recipe.load import Loaded, load_recipe
from trainer.recipe.problems import COMMAND_LINE, Collector, Problem, Sources, listed
from trainer.recipe.recipe import Recipe

_BY_WEIGHT = ("CrossEntropyLoss", "NLLLoss")  # losses whose mean divides by the weights
RARE = 5  # a class is rare with less than this part (a fifth) of what it had if all were equally frequent


def examined(
    path: str | Path, overrides: Sequence[str] = (), *, fast: bool = False, only_images: bool = False
) -> Loaded:
    """Read a recipe and check it, the first tier and, where that finds nothing, the second.

    Args:
        path: of the recipe.
        overrides: `key=value`, in order.
        fast: mark it as one that is run end to end but small.
        only_images: try what happens to images alone; no network is built.
    """
    loaded = load_recipe(path, overrides, fast=fast)
    if loaded.recipe is None:
        return loaded
    assert loaded.catalogue is not None
    found = check_built(loaded.recipe, loaded.catalogue, only_images=only_images)
    errors = tuple(problem for problem in found if problem.severity == "error")
    warnings = tuple(problem for problem in found if problem.severity == "warning")
    return replace(loaded, problems=(*loaded.problems, *errors), warnings=(*loaded.warnings, *warnings))


def check_built(
    recipe: Recipe, catalogue: Catalogue, known: DataKnown | None = None, *, only_images: bool = False
) -> tuple[Problem, ...]:
    """Build what a recipe names and return what is wrong with it, by position; warnings are among them.

    Args:
        recipe: without problems in its text.
        catalogue: what it names.
        known: facts of the data; what the dataset declares, else stand-ins, where omitted.
        only_images: try what happens to images alone.
    """
    problems = Collector(_sources_of(recipe))
    draft = Draft(recipe, catalogue, problems)
    known = known or declared(draft)
    _nothing_reduced(draft, known)
    trial = Trial(draft, known)
    if only_images:
        trial.images()
    else:
        trial.run()
    return (*problems.sorted("error"), *problems.sorted("warning"))


def check_data(
    recipe: Recipe, catalogue: Catalogue, known: DataKnown, class_names: Sequence[str], *, resumed: bool = False
) -> tuple[Problem, ...]:
    """Return what is wrong with a recipe now that the data are known, by position; warnings are among them.

    Args:
        recipe: without problems in its text.
        catalogue: what it names.
        known: what was read.
        class_names: one per class, for messages.
        resumed: the weights are a checkpoint's.
    """
    problems = Collector(_sources_of(recipe))
    draft = Draft(recipe, catalogue, problems)
    _class_counts(draft, known)
    _class_weights(draft, known, class_names)
    _empty_classes(draft, known, class_names)
    _measured_on_one_class(draft, known, class_names)
    _rare_class(draft, known, class_names)
    explained_classes(draft, class_names)
    _expected_of_test(draft, known)
    _nothing_reduced(draft, known)
    Trial(draft, known, resumed).run()
    return (*problems.sorted("error"), *problems.sorted("warning"))


def _nothing_reduced(draft: Draft, known: DataKnown) -> None:
    """Warn of `data.decode: reduced` over pictures that are decoded whole all the same: no one is large enough."""
    height, width = known.image_size or (0, 0)
    if draft.recipe.data.decode == "reduced" and 0 < height * width <= WHOLE:
        text = f"data.decode: reduced changes nothing: the pictures are {height} x {width}, and only larger ones than "
        draft.report("W033", "data.decode", f"{text}512 x 512 are decoded smaller", "leave it out")


def _class_counts(draft: Draft, known: DataKnown) -> None:
    """Hold every number of classes in the recipe against the data."""
    for path, number, _ in counts(draft):
        if number == known.num_classes:
            continue
        weights = path.endswith(".weight")
        text = f"{path}: the data have {known.num_classes} classes, got {number}{' weights' if weights else ''}"
        hint = "one per class, in the order of the classes" if weights else "leave it out: the engine supplies it"
        draft.report("R080", path, text, hint)


def _class_weights(draft: Draft, known: DataKnown, class_names: Sequence[str]) -> None:
    """Hold class weights against the classes of the data, and of the images that validation measures."""
    weight = draft.recipe.loss.arguments.get("weight")
    if isinstance(weight, Mapping):
        unknown_weights(draft, weight, class_names, "R080")
        weights = [weight.get(name, 1) for name in class_names]
    elif isinstance(weight, (list, tuple)) and len(weight) == len(class_names):
        weights = list(weight)
    else:
        return
    if not any(weights):
        draft.report("R095", "loss.weight", "loss.weight: no class has a weight above 0, so nothing is learnt")
        return
    measured = known.measured.get("val", ())
    counted = any(one and images for one, images in zip(weights, measured, strict=False))
    if draft.recipe.loss.type in _BY_WEIGHT and any(measured) and not counted:
        text = "loss.weight: every image of val is of a class with weight 0, so val/loss has no value"
        draft.report("R095", "loss.weight", text, "give val images of other classes")


def _empty_classes(draft: Draft, known: DataKnown, class_names: Sequence[str]) -> None:
    empty = [name for name, count in zip(class_names, known.class_counts or (), strict=False) if count == 0]
    if empty:
        text = f"no training image is of {listed(map(repr, empty), 5)}"
        draft.report("W013", "data.dataset", text, "the network cannot learn it")


def _measured_on_one_class(draft: Draft, known: DataKnown, class_names: Sequence[str]) -> None:
    """Warn before the first epoch of a part by which nobody can see whether classes are told apart."""
    for part, images in known.measured.items() if len(class_names) > 1 else ():
        present = [name for name, count in zip(class_names, images, strict=True) if count]
        if len(present) == 1:
            where = "data.val" if part == "val" else "data.dataset"
            text = (
                f"every image of {part} is of {present[0]!r}: always answering it is right there, and a metric that "
                "needs two classes, as AUROC does, has no value"
            )
            draft.report(
                "W086", where, text, "give it images of every class; data.val: {fraction: 0.1} draws from each"
            )


def _expected_of_test(draft: Draft, known: DataKnown) -> None:
    """Report a number expected of a test split that the data turned out not to have."""
    for expected in draft.recipe.expect if "val" in known.measured and "test" not in known.measured else ():
        if expected.key.startswith("test/"):
            text = f"expect: '{expected.key}' is never measured: the data have no test split to hold out"
            draft.problems.report("R080", expected.origin, text, hint="leave it out", path="expect")


def _rare_class(draft: Draft, known: DataKnown, class_names: Sequence[str]) -> None:
    """Warn where the best epoch is chosen by a number in which some class hardly counts."""
    counts = {name: count for name, count in zip(class_names, known.class_counts or (), strict=False) if count}
    metric = draft.recipe.train.best.metric
    if len(counts) < 2 or not _counts_images(draft, metric):
        return
    rare, common = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    images = sum(counts.values())
    if counts[rare] * len(counts) * RARE < images:
        text = (
            f"train.best: {rare!r} has {counts[rare]:,} of {images:,} training images, so it hardly counts in "
            f"{metric}: always answering {common!r} is right for {100 * counts[common] / images:.0f} %"
        )
        hint = "BalancedAccuracy and F1 let every class count the same: metrics: [Accuracy, BalancedAccuracy], "
        draft.report("W085", "train.best", text, f"{hint}best: {{metric: val/balanced_accuracy}}")


def _counts_images(draft: Draft, metric: str) -> bool:
    """Whether in a metric of validation each image counts the same, so that the frequent classes decide."""
    spec = next((spec for spec in draft.those("train.metrics") if metric == f"val/{spec.key}"), None)
    return spec is not None and (
        spec.type in ("Accuracy", "TopKAccuracy") or draft.argument(spec, "average") in ("micro", "weighted")
    )


def _sources_of(recipe: Recipe) -> Sources:
    """Return the texts that a recipe came from, to quote from; a file that is gone is not quoted."""
    sources = Sources()
    sources.add(recipe.file, recipe.text)
    for file in sorted({origin.file for origin in recipe.origins.values()} - {recipe.file, COMMAND_LINE}):
        if Path(file).is_file():
            sources.add(file, Path(file).read_text(encoding="utf-8-sig"))
    sources.lines[COMMAND_LINE] = list(recipe.overrides)
    return sources
