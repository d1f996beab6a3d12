"""Survey of a split: of each image that was looked at, whether it can be read, its size, sums and digests.

An image is decoded for it, or its file is glanced at: a JPEG with a whole header and an end has a size and bytes.

Owns the numbers and how they are kept (in a cache file of their own); opening.py looks. Mean and standard deviation
follow from the sums, which are whole numbers and so exact, for any part of the split, without another look.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.data.cache import Packed
from trainer.data.content import UNREADABLE, Digests, digest_of

BAND = 8_000  # pixels squared at a time, 96 kB of three channels

Sums = NDArray[np.int64]  # (C, 2) per channel: of the values, of their squares


def sums_of(pixels: NDArray[np.uint8]) -> Sums:
    """Return sum and sum of squares per channel of uint8 (..., C), C at most 4, int64 (C, 2).

    OpenCV adds up in double precision, and squares of 8 bits are whole in single: every sum is exact up to 2**53.
    """
    channels = pixels.shape[-1]
    flat = np.ascontiguousarray(pixels).reshape(1, -1, channels)
    squares = np.empty((1, min(BAND, flat.shape[1]), channels), dtype=np.float32)
    sums = np.zeros((channels, 2), dtype=np.int64)
    for start in range(0, flat.shape[1], BAND):
        band = flat[:, start : start + BAND]
        sums[:, 0] += np.asarray(cv2.sumElems(band)[:channels], dtype=np.int64)
        there = squares[:, : band.shape[1]]
        cv2.multiply(band, band, dst=there, dtype=cv2.CV_32F)
        sums[:, 1] += np.asarray(cv2.sumElems(there)[:channels], dtype=np.int64)
    return sums


def mean_and_deviation(pixels: int, sums: Sums) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel, in 0..1.

    Args:
        pixels: how many.
        sums: over all of them.
    """
    exact = [(int(total), int(squares)) for total, squares in sums]  # beyond 64 bits below
    means = tuple(total / (255 * pixels) for total, _ in exact)
    return means, tuple(math.sqrt(pixels * squares - total**2) / (255 * pixels) for total, squares in exact)


class Survey:
    """What was seen of each image: a row of numbers. Many threads may enter images at once, each those of its own.

    Args:
        count: images of the split.
        channels: of each.

    Attributes:
        channels: of each image.
        seen: whether somebody has looked or glanced, bool (N,).
        digests: of each image's pixels, int64 (N,); `UNREADABLE` where it cannot be read or nobody has looked.
        contents: of the bytes of each image's file, int64 (N,); `UNREADABLE` where its source does not give them.
    """

    def __init__(self, count: int, channels: int) -> None:
        self.channels = channels
        self.seen: NDArray[np.bool_] = np.zeros(count, dtype=np.bool_)
        self._sizes = np.zeros((count, 2), dtype=np.int64)
        self._sums = np.zeros((count, channels, 2), dtype=np.int64)
        self.digests: Digests = np.full(count, UNREADABLE, dtype=np.int64)
        self.contents: Digests = np.full(count, UNREADABLE, dtype=np.int64)

    def glance(self, index: int, size: tuple[int, int], content: int) -> None:
        """Take in the (height, width) of an image that nobody has decoded, and the digest of its file."""
        self._sizes[index] = size
        self.contents[index] = content
        self.seen[index] = True

    def enter(self, index: int, image: NDArray[np.uint8]) -> None:
        """Take in an image, uint8 (H, W, C)."""
        self._sizes[index] = image.shape[:2]
        self._sums[index] = sums_of(image)
        self.digests[index] = digest_of(image)
        self.seen[index] = True

    def miss(self, index: int) -> None:
        """Take in that an image cannot be read."""
        self._sizes[index] = 0
        self.seen[index] = True

    def unreadable(self, indices: NDArray[np.int64]) -> list[int]:
        """Return which of these images, that were looked at, could not be read."""
        return [int(index) for index in indices[~self._readable()[indices]]]

    def undecoded(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which of these images were glanced at and not decoded."""
        chosen: NDArray[np.int64] = indices[self._readable()[indices] & (self.digests[indices] == UNREADABLE)]
        return chosen

    def knows_files(self) -> bool:
        """Say whether the digest of every readable image's file is known."""
        return bool((self.contents[self._readable()] != UNREADABLE).all())

    def _readable(self) -> NDArray[np.bool_]:
        readable: NDArray[np.bool_] = self._sizes[:, 0] > 0
        return readable

    def sizes(self) -> list[tuple[int, int]]:
        """Return the sizes (height, width) that there are, ascending."""
        heights, widths = self._sizes[self._readable()].T
        return [(int(both >> 32), int(both & 0xFFFFFFFF)) for both in np.unique(heights << 32 | widths)]

    @property
    def image_sizes(self) -> NDArray[np.int64]:
        """(height, width) of each image, int64 (N, 2); zeros where it cannot be read or nobody has looked."""
        return self._sizes

    def mean_values(self) -> int:
        """Return how many pixel values an image has on average, at least 1."""
        there = self._sizes[self._readable()]
        return max(1, int(there.prod(axis=1).mean()) * self.channels) if len(there) else 1

    def sums(self, indices: NDArray[np.int64]) -> tuple[int, Sums]:
        """Return how many pixels these images have together, and their sums."""
        return int(self._sizes[indices].prod(axis=1).sum()), self._sums[indices].sum(axis=0)

    # ------------------------------------------------------------------------------------------------------- as a file
    def packed(self) -> Packed:
        """Return the rows as what a cache file holds, the bytes of each in place of an image's."""
        count = len(self.digests)
        columns = (self._sizes, self.contents[:, None], self._sums.reshape(count, -1))
        rows = np.concatenate(columns, axis=1).astype("<i8")
        return Packed(rows.view(np.uint8).reshape(count, 1, -1, 1), (), self.digests)

    @classmethod
    def unpacked(cls, packed: Packed) -> Survey:
        """Return the survey that `packed` made."""
        assert packed.digests is not None
        rows = packed.images.reshape(len(packed.images), -1).view("<i8")
        made = cls(len(rows), (rows.shape[1] - 3) // 2)
        made._sizes[:] = rows[:, :2]
        made.contents[:] = rows[:, 2]
        made._sums[:] = rows[:, 3:].reshape(made._sums.shape)
        made.digests[:] = packed.digests
        made.seen[:] = True
        return made


def described(sizes: Sequence[tuple[int, int]]) -> str:
    """Return the first of several sizes, for a message."""
    few = ", ".join(f"{height} x {width}" for height, width in sizes[:3])
    return f"{few}{', ...' if len(sizes) > 3 else ''}"
