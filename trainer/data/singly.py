"""Albumentations' transforms, one image at a time, each image's chance from a key.

Runs alike in the training process and in the processes that read ahead of it (readers.py), so what an image becomes
does not depend on where. Does not import torch, for the latter's sake.
"""

from __future__ import annotations

import pickle
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.errors import DataError
from registry.transforms.shrinking import shrinking

if TYPE_CHECKING:
    from torch import Tensor


class UnsuitableImage(DataError):
    """An image does not suit a transform.

    Args:
        message: what the transform said.
        hint: how to mend it.
        row: which of the images it was given.
    """

    def __init__(self, message: str, hint: str = "", row: int = 0) -> None:
        super().__init__(message, hint)
        self.row = row


@contextmanager
def naming(describe: Callable[[int], str], indices: Sequence[int] | Tensor) -> Iterator[None]:
    """Name the image that does not suit a transform; transforms see pixels only.

    Args:
        describe: names an image by its index.
        indices: of the images that are transformed inside.

    Raises:
        DataError: one does not suit.
    """
    try:
        yield
    except UnsuitableImage as error:
        raise DataError(f"{describe(int(indices[error.row]))}: {error.message}", error.hint) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Let transforms say nothing: what one says of an image, it says of every one. For one thread of a process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True)
class Singly:
    """A transform, or two that have a batched version only together.

    Attributes:
        name: for messages.
        transforms: Albumentations instances, run one after the other.
    """

    name: str
    transforms: Sequence[Any]

    def __call__(self, images: Iterable[np.ndarray], keys: Iterable[int]) -> list[np.ndarray]:
        """Return each image (H, W, C) transformed, with the chance that its key gives; sizes may differ.

        Raises:
            UnsuitableImage: so it is; `naming` says which.
        """
        run = Running(self)
        with quiet():
            return [run(image, key, row) for row, (image, key) in enumerate(zip(images, keys, strict=True))]

    def travels(self) -> bool:
        """Whether another process can be given it: upstream's own code is there, a plug-in's or a lambda is not."""
        if not all(type(each).__module__.startswith("albumentations.") for each in self.transforms):
            return False
        try:
            pickle.dumps(self)
        except Exception:  # whatever an argument raises
            return False
        return True

    def transformed(self, image: np.ndarray, row: int) -> np.ndarray:
        """Return image number `row` (H, W, C) transformed, by the random state that the transforms have.

        Raises:
            UnsuitableImage: it does not suit.
        """
        done = image
        try:
            for transform in self.transforms:
                done = transform(image=done)["image"]
        except Exception as error:  # each of its transforms raises as it likes
            text = f"{self.name} cannot transform an image of shape {image.shape}: {error}"
            raise UnsuitableImage(text, self._way_out(), row) from error
        return done if done.ndim == 3 else done[..., None]

    def _way_out(self) -> str:
        if any(hasattr(transform, "pad_if_needed") for transform in self.transforms):
            return f"set pad_if_needed: true of {self.name}, or put SmallestMaxSize before it, or leave the image out"
        return f"put a transform before {self.name} that makes all images suit it, or leave the image out"


class Running:
    """A transform with a random state of its own, for one thread.

    Args:
        single: what it runs; its transforms are given the state.
    """

    def __init__(self, single: Singly) -> None:
        self.single = single
        self._generator, self._chance = np.random.Generator(np.random.Philox(0)), random.Random(0)
        for transform in single.transforms:
            transform.set_random_state(self._generator, self._chance)

    def __call__(self, image: np.ndarray, key: int, row: int = 0) -> np.ndarray:
        """Return an image (H, W, C) transformed, with the chance that its key gives.

        Raises:
            UnsuitableImage: image number `row`, as this is, does not suit.
        """
        self._rekey(key)
        return self.single.transformed(image, row)

    def shrinking(self, height: int, width: int, key: int) -> float:
        """Return by how much it shrinks what it keeps of a picture of this size, with the chance that a key gives."""
        if len(self.single.transforms) > 1:
            return 1.0
        self._rekey(key)
        return shrinking(self.single.transforms[0], height, width)

    def _rekey(self, key: int) -> None:
        _rekey(self._generator, key)
        self._chance.seed(key)


def _rekey(generator: np.random.Generator, key: int) -> None:
    """Make a Philox generator start anew from a key, at a tenth of the cost of making one."""
    state = dict(generator.bit_generator.state)
    state["state"] = {"counter": np.zeros(4, np.uint64), "key": np.array([key, 0], np.uint64)}
    state["buffer_pos"], state["has_uint32"], state["uinteger"] = 4, 0, 0
    generator.bit_generator.state = state
