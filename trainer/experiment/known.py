"""What is known of the data when a recipe is tried: what a dataset declares, what was read, or stand-ins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from trainer.recipe.checks import lengths
from trainer.recipe.checks.draft import Draft

if TYPE_CHECKING:
    from trainer.data.splits import LoadedData, Part

CLASSES, SIDE, CHANNELS = 10, 224, 3  # where a dataset declares nothing


@dataclass(frozen=True)
class DataKnown:
    """What is known of the data.

    Attributes:
        num_classes: classes to tell apart; None where nobody says.
        channels: 3 for RGB, 1 for grey.
        image_size: (height, width) of the stored images; None where they differ or nobody says.
        train_images: images learnt from; None where nobody says.
        class_counts: training images per class; None where nobody says.
        measured: images per class of each part that is measured, "val" and "test"; empty where nobody says.
        class_names: one per class index; None where nobody says.
    """

    num_classes: int | None = None
    channels: int = CHANNELS
    image_size: tuple[int, int] | None = None
    train_images: int | None = None
    class_counts: tuple[int, ...] | None = None
    measured: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of made-up images: the stored ones', or what stands in."""
        return self.image_size or (SIDE, SIDE)


def declared(draft: Draft) -> DataKnown:
    """Return what the dataset's entry declares, stand-ins for the rest."""
    facts = draft.data_facts
    return DataKnown(
        facts.classes,
        facts.channels or CHANNELS,
        facts.image_size,
        lengths.train_images(draft),
        class_names=facts.class_names,
    )


def known_from(data: LoadedData) -> DataKnown:
    """Return what was read as the facts that a recipe is held against."""
    classes = len(data.class_names)

    def counts(part: Part) -> tuple[int, ...]:
        return tuple(torch.bincount(part.targets, minlength=classes).tolist())

    measured = {part.name: counts(part) for part in (data.val, data.test) if part is not None}
    return DataKnown(
        classes, data.channels, data.image_size, len(data.train), counts(data.train), measured, data.class_names
    )
