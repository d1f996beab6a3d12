"""Resized store (`data.store`): every picture with its short side shrunk once, each in its own shape, in one file.

    <name>.pixels    uint8, all pictures one after the other, in the dataset's order; nothing for unreadable ones
    <name>.images    what was seen of them (survey.py, cache.py): their sizes, from which their places follow

A file is taken only if its length is what the sizes say and pictures evenly spread have the pixels that were seen.
Owns the shrinking and the file. When one is made is for opening.py.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from registry import files
from registry.contracts import ImageSource
from registry.transforms.shrinking import factor_of
from trainer.data.cache import remove_older
from trainer.data.content import UNREADABLE, digest_of
from trainer.data.standing import StandIn
from trainer.data.survey import Survey

Image = NDArray[np.uint8]

PIXELS = ".pixels"  # ending of the file
COMPARED = 64  # pictures whose pixels are compared when a file is opened


def shrunk(image: Image, side: int) -> Image:
    """Return a picture (H, W, C) whose short side is at most `side` pixels, its proportions kept."""
    height, width, channels = image.shape
    short = min(height, width)
    if short <= side:
        return image
    size = (max(side, round(width * side / short)), max(side, round(height * side / short)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], channels)  # type: ignore[return-value]


@dataclass(frozen=True)
class Shrinking:
    """How pictures are shrunk.

    Attributes:
        side: pixels of the short side, at most.
        reduces: decode no more of a picture than that needs.
    """

    side: int
    reduces: bool

    def factor(self, height: int, width: int) -> int:
        """Return by how much a picture of this size is decoded smaller."""
        return factor_of(min(height, width) / self.side) if self.reduces else 1

    def __call__(self, image: Image) -> Image:
        """Return a picture (H, W) or (H, W, C) shrunk, (H, W, C)."""
        return shrunk(image[..., None] if image.ndim == 2 else image, self.side)


class ShrunkSource(StandIn):
    """A source whose pictures are shrunk; what it knows of their pixels' places (masks) does not fit any more.

    Args:
        source: of the pictures.
        shrinking: how.
    """

    def __init__(self, source: ImageSource, shrinking: Shrinking) -> None:
        super().__init__(source)
        self.shrinking = shrinking

    def image(self, index: int) -> Image:
        """Return picture `index`, shrunk."""
        reduced = getattr(self._source, "reduced", None)
        whole = self._source.image(index) if reduced is None else reduced(index, self.shrinking.factor)
        return self.shrinking(whole) if isinstance(whole, np.ndarray) and whole.ndim == 3 else whole

    def packed(self) -> NDArray[np.uint8] | None:
        """Return all pictures where the source holds them as one array, shrunk."""
        images = self._source.packed()
        if images is None or images.ndim != 4 or min(images.shape[1:3]) <= self.shrinking.side:
            return images
        return np.stack([self.shrinking(image) for image in images])

    @property
    def decoding(self) -> str:
        """How files become pixels."""
        how = "reduced" if self.shrinking.reduces else "full"
        return f"{getattr(self._source, 'decoding', '')}, short side {self.shrinking.side}, {how}"


class ResizedSource(StandIn):
    """Shrunk pictures, taken from their file.

    Args:
        source: whose pictures they are.
        path: of the file.
        survey: what was seen of them.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not whole, or of other pictures; the text says what is wrong.
    """

    def __init__(self, source: ShrunkSource, path: Path, survey: Survey) -> None:
        super().__init__(source)
        self._path = path
        # A copy: of a picture that can be read by now, whose size the survey then learns, the file holds nothing.
        self._sizes, self._channels = survey.image_sizes.copy(), survey.channels
        lengths = self._sizes.prod(axis=1) * survey.channels
        self._ends = np.cumsum(lengths)
        self._pixels: Image | None = self._mapped()
        self._compare(survey)

    def _mapped(self) -> Image:
        total = int(self._ends[-1])
        with self._path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != total:
                raise ValueError("its length is wrong")
            return np.frombuffer(mmap.mmap(file.fileno(), total, access=mmap.ACCESS_COPY), np.uint8)

    def _compare(self, survey: Survey) -> None:
        there = np.flatnonzero(survey.digests != UNREADABLE)
        if not len(there):
            return
        for place in sorted({round(step * (len(there) - 1) / (COMPARED - 1)) for step in range(COMPARED)}):
            index = int(there[place])
            if digest_of(self.image(index)) != survey.digests[index]:
                raise ValueError("its content is damaged")

    def image(self, index: int) -> Image:
        """Return picture `index` as it was kept; a view that changes no file."""
        height, width = (int(side) for side in self._sizes[index])
        end = int(self._ends[index])
        if not height or self._pixels is None:
            return self._source.image(index)
        return self._pixels[end - height * width * self._channels : end].reshape(height, width, self._channels)

    def packed(self) -> None:
        """Return None: their shapes differ."""
        return

    def __getstate__(self) -> dict[str, Any]:
        """Leave the pixels to be mapped where it is unpacked."""
        return {name: value for name, value in vars(self).items() if name != "_pixels"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the pixels anew; where another run has removed their file meanwhile, each picture is read again."""
        vars(self).update(state)
        try:
            self._pixels = self._mapped()
        except (OSError, ValueError):
            self._pixels = None


def write_pixels(path: Path, images: Iterable[Image | None]) -> None:
    """Write pictures one after the other, None for unreadable ones; what stood there is replaced once all are there.

    Raises:
        OSError: they cannot be written; nothing is left behind.
        StorageError: a link stands in the way.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = (np.ascontiguousarray(image).reshape(-1).data for image in images if image is not None)
    files.write_each(path, parts, below=path.parent)
    remove_older(path)
