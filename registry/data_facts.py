"""Facts of a dataset without reading it: what its entry declares, and what follows from its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class FromArgument:
    """A fact of a dataset that the recipe tells: the value of an argument, or what belongs to it.

    Attributes:
        argument: of the dataset; its default where the recipe does not say.
        values: value, as text, -> the fact, "*" for any other; empty where the value itself is the fact.
    """

    argument: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataFacts:
    """What a dataset entry declares without being read; None where only the data can tell.

    Attributes:
        splits: images per split, by the split's name ("train", "val", "test"), in this order.
        class_names: one name per class index.
        image_size: (height, width) in pixels.
        channels: 3 for RGB, 1 for grey.
        num_classes: how many classes, where their names are not known.
        follows: facts that follow from arguments, instead of what stands above: "splits.train", "num_classes",
            "class_names", "channels", "image_size" (a side, or height and width), "input" (channels, height and width).
    """

    splits: Mapping[str, int | None]
    class_names: tuple[str, ...] | None = None
    image_size: tuple[int, int] | None = None
    channels: int | None = None
    num_classes: int | None = None
    follows: Mapping[str, FromArgument] = field(default_factory=dict)

    @property
    def classes(self) -> int | None:
        """Number of classes; None where only the data can tell."""
        return self.num_classes if self.class_names is None else len(self.class_names)
