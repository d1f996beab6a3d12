"""What a user hands a trained network: paths, PIL images, arrays, files' contents become uint8 pixels or a named error.

Knows how the run's own images became pixels. What is made of them then is loading.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from registry.datasets.decoding import FULL, Decoding, Factor
from registry.errors import DataError

Picture: TypeAlias = "str | Path | bytes | Image.Image | NDArray[np.uint8]"  # bytes: a file's content
Pictures: TypeAlias = "Picture | Iterable[Picture]"

_CHANNELS = (1, 3, 4)
_TAKEN = "pictures are paths, PIL images, or uint8 arrays (H, W) or (H, W, 3) with values 0 to 255"


def several(pictures: Pictures) -> Sequence[Picture]:
    """Return pictures one by one: one alone is a list of one, an array of four dimensions holds several."""
    alone = isinstance(pictures, (str, Path, bytes, Image.Image))
    alone |= isinstance(pictures, np.ndarray) and pictures.ndim < 4
    if alone or isinstance(pictures, Tensor) or not isinstance(pictures, Iterable):
        return [pictures]  # type: ignore[list-item]  # what is no picture is said of it
    return list(pictures)  # type: ignore[arg-type]  # bytes are alone


def name_of(picture: Picture, place: int) -> str:
    """Return what messages call a picture: its path, else its place among those handed in."""
    if isinstance(picture, (str, Path)):
        return str(picture)
    return getattr(picture, "filename", "") or f"picture {place}"


@dataclass(frozen=True)
class Reader:
    """Reads pictures as the run's own images were read.

    Attributes:
        decoding: how files become pixels.
    """

    decoding: Decoding

    def read(self, picture: Picture, place: int, factor: Factor | None = None) -> NDArray[np.uint8]:
        """Return a picture's pixels, uint8 (H, W) or (H, W, C) with C of 1, 3 or 4, RGB.

        Args:
            picture: as the user has it.
            place: among those handed in, for messages.
            factor: says by how much a JPEG of (height, width) is decoded smaller; None for in full size.

        Raises:
            DataError: it is no readable picture.
        """
        name = name_of(picture, place)
        if isinstance(picture, (str, Path)):
            return self.decoding.read(str(picture), factor)
        if isinstance(picture, bytes):
            return self.decoding.decode(picture, name, factor)
        if isinstance(picture, Image.Image):
            if self.decoding.white_level != FULL and _is_cut(picture):
                if filename := getattr(picture, "filename", ""):
                    return self.decoding.read(str(filename), factor)
                hint = "hand in its path or its bytes, or an array uint16 (H, W, C)"
                raise DataError(f"{name}: of its 16 bits PIL keeps the upper 8, and white is lower here", hint)
            return self._from_array(_unfolded(picture, name), name)
        if isinstance(picture, np.ndarray):
            return self._from_array(picture, name)
        hint = f"{_TAKEN}; what is prepared already goes to run.model" if isinstance(picture, Tensor) else _TAKEN
        raise DataError(f"{name} is of the type {type(picture).__name__}", hint)

    def _from_array(self, pixels: NDArray[np.generic], name: str) -> NDArray[np.uint8]:
        if pixels.dtype == np.uint16:
            return self._from_array(self.decoding.eight_bits(pixels), name)  # type: ignore[arg-type]
        if pixels.dtype != np.uint8:
            scaled = " (np.rint(255 * picture).astype(np.uint8) where 1 is white)" if pixels.dtype.kind == "f" else ""
            raise DataError(f"{name}: its values are {pixels.dtype}, not uint8", f"{_TAKEN}{scaled}")
        fits = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in _CHANNELS)
        if not fits or 0 in pixels.shape:
            raise DataError(f"{name}: its shape is {pixels.shape}, which is no picture's", _TAKEN)
        return pixels  # type: ignore[return-value]


def _is_cut(image: Image.Image) -> bool:
    """Whether a PIL image, not loaded yet, is of a file with more than the 8 bits per colour that PIL will keep."""
    return image.mode in ("RGB", "RGBA") and any(";16" in str(tile) for tile in getattr(image, "tile", ()))


def _unfolded(image: Image.Image, name: str) -> NDArray[np.generic]:
    """Return the pixels of a PIL image, turned as its camera says: grey, RGB or RGBA, uint8 or 16 bits as uint16."""
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):
            return np.asarray(image).astype(np.uint16)
        if image.mode in ("I", "F"):
            raise DataError(f"{name}: its values have 32 bits, and nothing says which of them is white", _TAKEN)
        grey = image.mode in ("1", "L")
        wanted = "RGBA" if image.has_transparency_data else "L" if grey else "RGB"
        return np.asarray(image.convert(wanted))
    except OSError as error:  # PIL reads a file when its pixels are asked for
        raise DataError(f"{name} cannot be read: {error}") from error
