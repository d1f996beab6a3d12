"""What a run's data were, counted and in words, for the report's section on them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from registry.contracts import UsedData, UsedPart
from registry.printing import one_line
from trainer.data.splits import LoadedData, Part, by_class, grouped_by
from trainer.data.store import AnyStore, LazyStore
from trainer.experiment import dataset
from trainer.experiment.experiment import Experiment
from trainer.recipe.fast import fast_limit
from trainer.recipe.recipe import DEFAULT_VAL, Fraction, Recipe

MOST_SAMPLES = 20  # classes of which a training image is shown


def used_data(experiment: Experiment) -> UsedData:
    """Return what a run learnt from and was measured on."""
    recipe, data = experiment.recipe, experiment.data
    parts = [part for part in (data.train, data.val, data.test) if part is not None]
    folder = folder_of(experiment)
    stores = {id(part.store): part.store for part in parts}.values()
    return UsedData(
        dataset=recipe.data.dataset.type,
        place=one_line(folder),
        pixels=_pixels(data, stores),
        parts=tuple(UsedPart(part.name, _counts(part, data.num_classes)) for part in parts),
        drawn=tuple(_drawn(recipe, data)),
        left_out=tuple(file_of(store, index, folder) for store in stores for index in store.bad),
    )


def folder_of(experiment: Experiment) -> str:
    """Return the folder that a run's images come from; "" where the dataset has none."""
    return dataset.folder_of(experiment.recipe, experiment.catalogue)


def file_of(store: AnyStore, index: int, folder: str) -> str:
    """Return an image's file, printable, below `folder` where it lies there; "" where it is not a file of its own."""
    return dataset.file_of(store.source, index, folder)


def first_of_each_class(part: Part) -> Tensor:
    """Return the place in the split of each class's first image, int64 (n,), of the first 20 classes that have any."""
    firsts = [members[:1] for members in by_class(part.targets) if len(members)]
    return part.indices[torch.cat(firsts[:MOST_SAMPLES])] if firsts else part.indices[:0]


def _counts(part: Part, classes: int) -> tuple[int, ...]:
    counts: list[int] = torch.bincount(part.targets, minlength=classes).tolist()
    return tuple(counts)


def _pixels(data: LoadedData, stores: Iterable[AnyStore]) -> str:
    colour = "grey" if data.channels == 1 else "RGB"
    seen = [store.survey.sizes() for store in stores if isinstance(store, LazyStore) and store.survey is not None]
    sizes = [data.image_size] if data.image_size else list({size for each in seen for size in each})
    if not sizes:
        return f"{colour}, of several sizes"
    if len(sizes) == 1:
        return f"{colour}, {_size(sizes[0])} px"
    by_area = sorted(sizes, key=lambda size: size[0] * size[1])
    return f"{colour}, {len(sizes):,} sizes from {_size(by_area[0])} to {_size(by_area[-1])} px (width x height)"


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


def _drawn(recipe: Recipe, data: LoadedData) -> list[str]:
    """Say how validation was chosen, what is held out, and how many images of them were used."""
    section, said = recipe.data, []
    if data.selected_on == "test":
        said.append("Validation is the dataset's test split (`val: test`): no image is held out.")
    elif data.val.dataset_split == "train":
        share = section.val if isinstance(section.val, Fraction) else DEFAULT_VAL
        how = "every class in its share" if share.stratify else "whatever their classes"
        part = (
            f"{100 * share.share:g} %" if share.folds is None else f"fold {share.fold or 0} (from 0) of {share.folds}"
        )
        grouped = grouped_by(data.val.store.source, share)
        whole = f", all images of one `{one_line(grouped)}` on one side" if grouped else ""
        said.append(f"Validation: {part} of the dataset's training images, drawn with seed {share.seed}, {how}{whole}.")
    else:
        said.append(f"Validation: the dataset's split `{data.val.dataset_split}`.")
    if data.test is not None:
        said.append(f"Test: the dataset's split `{data.test.dataset_split}`, held out until the end.")
    elif data.selected_on != "test":
        said.append("There is no held-out test split.")
    if data.fixes:
        said.append(data.fixes)
    few = fast_limit(recipe)
    if few is not None:
        said.append(f"`--fast` uses {few:,} images of each part at most.")
    elif section.limit is not None:
        said.append(
            f"`data.limit` keeps {section.limit:,} training and validation images at most, evenly over classes."
        )
    return said
