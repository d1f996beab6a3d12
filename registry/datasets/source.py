"""What the sources of this folder share: a split held as one array, an error for what is not there, stamps of files.

Owns no dataset. Knows nothing of caches, batches or which images are held out (trainer/data).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from registry.errors import DataError


class MissingSplit(DataError):
    """The data are fine but hold no such split; the engine may then choose another."""


class UnchosenSplit(MissingSplit):
    """There is such a split, but no image of it has a label, or one of the chosen classes: something to be said."""


def stamp(facts: os.stat_result) -> int:
    """Return a number that changes whenever the content of a file may have: 64 bits of both its times and its inode.

    The time of modification can be set to any value, and copying tools do set it; the time of change is the system's.
    """
    told = b"%d/%d/%d" % (facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)
    return int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "big")


class PackedSource:
    """A split that lies in memory as one array.

    Args:
        name: what messages call it, e.g. "CIFAR10 train".
        images: uint8 (N, H, W, C), C = 3 (RGB) or 1.
        targets: class indices, (N,).
        class_names: one per class index.
    """

    def __init__(
        self, name: str, images: NDArray[np.uint8], targets: NDArray[np.int64], class_names: Sequence[str]
    ) -> None:
        self.name = name
        self.class_names: Sequence[str] = tuple(class_names)
        self.targets = np.asarray(targets, dtype=np.int64)
        self._images = images

    def image(self, index: int) -> NDArray[np.uint8]:
        """Return image `index` as uint8 (H, W, C)."""
        image: NDArray[np.uint8] = self._images[index]
        return image

    def describe(self, index: int) -> str:
        """Name image `index` for a message."""
        return f"image {index} of {self.name}"

    def packed(self) -> NDArray[np.uint8]:
        """Return all images, uint8 (N, H, W, C)."""
        return self._images

    def listing(self) -> None:
        """Return None: there are no files to cache."""
        return
