"""Reading an image: decoded, no larger than needed, and given the first transforms, in whatever thread or process.

What an image becomes depends on its index and keys alone, so it does not matter who reads it. Does not import torch,
for the sake of the processes among them (readers.py; the threads are threads.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from registry.errors import DataError
from registry.transforms.shrinking import WHOLE, factor_of, keeps_size, may_turn
from trainer.data.singly import Running, Singly, naming

SKIP = "data.on_bad_image: skip leaves such images out"

Pixels = list[NDArray[np.uint8]]
Factor = Callable[[int, int], int]  # (height, width) of a picture -> 1, 2, 4 or 8, by which it is decoded smaller
Keys = tuple[int, ...]  # of an image, one per transform


class Reads(Protocol):
    """The part of an `ImageSource` that reading needs; `reduced(index, factor)`, where it has that, is used too."""

    def image(self, index: int) -> NDArray[np.uint8]:
        """Return image `index` as uint8 (H, W, C)."""

    def describe(self, index: int) -> str:
        """Name image `index` for a message."""


def read(source: Reads, index: int, channels: int | None = None, factor: Factor | None = None) -> NDArray[np.uint8]:
    """Decode one image, uint8 (H, W, C).

    Args:
        source: of the images.
        index: of the image.
        channels: that it must have, as the others do; None for any number.
        factor: by how much it is decoded smaller, where the source can; None for in full size.

    Raises:
        DataError: it is unreadable. Whatever went wrong, StopIteration included: the message names the image.
    """
    try:
        reduced = None if factor is None else getattr(source, "reduced", None)
        image = source.image(index) if reduced is None else reduced(index, factor)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{source.describe(index)} cannot be read: {type(error).__name__}: {error}") from error
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3:
        raise DataError(f"{source.describe(index)} is not a uint8 image of three dimensions")
    if channels is not None and image.shape[2] != channels:
        raise DataError(f"{source.describe(index)} has {image.shape[2]} channels, other images have {channels}")
    return image


def with_keys(
    asked: Iterable[Sequence[int]], keys: Iterable[Sequence[Keys]] | None
) -> Iterator[list[tuple[int, Keys]]]:
    """Yield each batch that is asked for as (index, keys) per image."""
    if keys is None:
        for indices in asked:
            yield [(int(index), ()) for index in indices]
    else:
        for indices, chances in zip(asked, keys, strict=True):
            yield [(int(index), each) for index, each in zip(indices, chances, strict=True)]


class Reading:
    """Reads images and begins to transform them, for one thread.

    Args:
        source: of the images.
        transforms: applied to each image, in order.
        reduces: decode no more than what the transforms keep.
    """

    def __init__(self, source: Reads, transforms: Sequence[Singly], *, reduces: bool) -> None:
        self._source, self._reduces = source, reduces
        self._transforms = [Running(each) for each in transforms]

    def __call__(self, index: int, keys: Keys) -> NDArray[np.uint8]:
        """Return image `index`, uint8 (H, W, C).

        Raises:
            DataError: it is unreadable or does not suit a transform; the message names it.
        """
        factor = factor_by(self._transforms, keys) if self._reduces else None
        with naming(self._source.describe, [index]):
            try:
                image = read(self._source, index, factor=factor)
            except DataError as error:  # damage that a glance at the file did not show
                raise DataError(error.message, error.hint or SKIP) from error
            for transform, key in zip(self._transforms, keys, strict=True):
                image = transform(image, key)
                if image.dtype != np.uint8:
                    name = transform.single.name
                    raise DataError(f"{name} makes {image.dtype}, but augment and eval keep uint8")
        return image


def factor_by(transforms: Sequence[Running], keys: Keys) -> Factor:
    """Return what says by how much a picture is decoded smaller.

    Args:
        transforms: the first, in order.
        keys: of the picture, one per transform.
    """

    def factor(height: int, width: int) -> int:
        if height * width <= WHOLE:
            return 1
        turns = False
        for each, key in zip(transforms, keys, strict=True):
            (first, *others) = each.single.transforms
            if others or not keeps_size(first):
                least = each.shrinking(height, width, key)
                return factor_of(min(least, each.shrinking(width, height, key)) if turns else least)
            turns = turns or may_turn(first)
        return 1

    return factor
