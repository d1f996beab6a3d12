"""What is known of the data when a recipe is tried: what a dataset declares, what was read, or stand-ins."""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    num_classes: int | None = None
    channels: int = CHANNELS
    image_size: tuple[int, int] | None = None
    train_images: int | None = None
    class_counts: tuple[int, ...] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of made-up images: the stored ones', or what stands in."""
        return self.image_size or (SIDE, SIDE)
