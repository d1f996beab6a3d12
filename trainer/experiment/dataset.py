"""The recipe's dataset, opened: its splits as a run divides them, or one by one for whoever only measures.

Owns how a dataset's component is built and what `--fast` leaves of it. Which images serve for what is data/splits.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from registry.catalogue.catalog import Catalogue
from registry.contracts import ImageSource
from registry.errors import DataError, RecipeError
from registry.printing import one_line
from trainer.data.fixes import Corrected, Fixes
from trainer.data.resized import Shrinking, ShrunkSource
from trainer.data.splits import LoadedData, open_data
from trainer.experiment.components import build
from trainer.recipe.fast import fast_limit
from trainer.recipe.recipe import Data, Recipe, Reference

CONSTANT = 1e-6  # a deviation below is rounding: one grey level in one of ten million pixels makes more
STD = Reference("data.std")


def read_data(recipe: Recipe, catalogue: Catalogue, log: Callable[[str], None]) -> LoadedData:
    """Open the recipe's dataset and divide it; of a fast recipe a few batches of each part.

    Raises:
        DataError: the data are missing or do not fit.
    """
    fixes = None if recipe.data.fixes is None else Fixes(recipe.data.fixes)
    dataset, open_split = recipe.data.dataset, split_opener(recipe, catalogue, fixes)
    facts = catalogue.entry("dataset", dataset.type).data_facts(dataset.arguments)
    few = fast_limit(recipe)
    data = open_data(recipe.data, open_split, facts, seed=recipe.seed, log=log, few=few)
    if fixes is None:
        return data
    if missing := fixes.missing():
        log(f"warning: {missing}")
    return replace(data, fixes=f"`data.fixes` ({fixes.file}): {fixes.said()}.")


def split_opener(recipe: Recipe, catalogue: Catalogue, fixes: Fixes | None = None) -> Callable[[str], ImageSource]:
    """Return what opens a split of the recipe's dataset by name, corrected and shrunk where the recipe says so.

    Args:
        recipe: that names the dataset.
        catalogue: what its names mean.
        fixes: the recipe's, read; None to read them here.
    """
    shrinking = shrinking_of(recipe.data)
    if fixes is None and recipe.data.fixes is not None:
        fixes = Fixes(recipe.data.fixes)
    folder = folder_of(recipe, catalogue)

    def open_split(split: str) -> ImageSource:
        supplied = {"split": split, "part": split, "download": True, "on_bad_image": recipe.data.on_bad_image}
        source: ImageSource = build(recipe.data.dataset, supplied=supplied, bind=no_reference, catalogue=catalogue)
        if fixes is not None:
            source = Corrected(source, fixes, split, partial(picture_name, source, split, folder=folder))
        return source if shrinking is None else ShrunkSource(source, shrinking)

    return open_split


def shrinking_of(section: Data) -> Shrinking | None:
    """Return how `data.store` shrinks pictures; None without."""
    return None if section.store is None else Shrinking(section.store.side, section.decode == "reduced")


def place_of(recipe: Recipe, catalogue: Catalogue) -> str:
    """Return where the images come from: the dataset's table or folder, else its name."""
    file = recipe.data.dataset.arguments.get("file")
    return file if isinstance(file, str) else folder_of(recipe, catalogue) or recipe.data.dataset.type


def folder_of(recipe: Recipe, catalogue: Catalogue) -> str:
    """Return the folder that the images lie in: the dataset's, else that of its table; "" where it has none."""
    dataset = recipe.data.dataset
    root, file = dataset.arguments.get("root"), dataset.arguments.get("file")
    if root is None and isinstance(file, str):
        return str(Path(file).parent)
    if root is None:
        parameter = catalogue.entry("dataset", dataset.type).parameter("root")
        root = None if parameter is None else parameter.default
    return root if isinstance(root, str) else ""


def file_of(source: ImageSource, index: int, folder: str) -> str:
    """Return an image's file, printable, below `folder` where it lies there; "" where it is not a file of its own."""
    if source.listing() is None:
        return ""
    path, top = Path(source.describe(index)), Path(folder or ".")
    return one_line(os.fspath(path.relative_to(top) if path.is_relative_to(top) else path))


def picture_name(source: ImageSource, split: str, index: int, *, folder: str) -> str:
    """Return what a list of pictures calls one: its file, else its number in its split."""
    return file_of(source, index, folder) or f"{split} #{index}"


def no_reference(reference: Reference) -> object:
    """Refuse a run-time value where the data are not read yet.

    Raises:
        RecipeError: always.
    """
    raise RecipeError(f"${reference.path} is known only once the data are read; it cannot be used here")


def usable_deviations(std: Sequence[float], recipe: Recipe) -> list[float]:
    """Return the deviations that the data have, which somebody is going to divide by.

    Raises:
        DataError: one is 0.
    """
    flat = [channel for channel, value in enumerate(std, start=1) if value < CONSTANT]
    if not flat:
        return list(std)
    where = "" if len(std) == 1 else f" in channel {' and '.join(map(str, flat))}"
    section = recipe.data
    transforms = (*section.augment, *section.eval, *section.preprocess)
    written = [(spec, name) for spec in transforms for name, v in spec.arguments.items() if v == STD]
    place = "".join(f"{recipe.origins.get(f'{s.path}.{name}', s.origin)}: " for s, name in written[:1])
    raise DataError(
        f"{place}$data.std is 0{where}: all training pixels are alike there",
        "write numbers, as in std: [0.25, 0.25, 0.25], or drop the channel (ToGray), or look at the images: are "
        "they what they should be?",
    )
