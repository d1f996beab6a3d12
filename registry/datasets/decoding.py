"""Image files to pixels: one rule for every format, and damage is always an error.

    grey, palette, 1 bit     three equal channels, or the palette's colours; of colours one grey, where that is wanted
    transparency             laid over white or another ground; of grey pictures in TIFF and JPEG 2000 files, which
                             OpenCV does not tell, dropped
    16 bits                  the upper 8; or scaled so that `white_level` becomes 255; or so that white does that the
                             file itself names: the maximum of PGM and PPM, the bits of JPEG 2000 and AVIF
    32 bits, signed          DataError: nothing says which of their values is white
    CMYK                     converted to RGB
    EXIF orientation         applied, and AVIF's own
    decoded smaller          a JPEG, where whoever reads it asks for that
    cut short, not an image  DataError; also a JPEG, PNG or GIF with zeros for its end (others have no mark of it)

Owns what pixels mean. Knows nothing of folders or classes.
"""

from __future__ import annotations

import io
import os
import stat
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps, features
from PIL.AvifImagePlugin import AvifImageFile

from registry.catalogue.markers import Bounds
from registry.datasets.headers import (
    GREY,
    HEAD,
    JPEG,
    PNG,
    TIFF,
    is_avif,
    is_cut_short,
    may_be_deep,
    may_be_transparent,
    upright_size,
    white_of,
)
from registry.errors import DataError

Pixels = NDArray[np.uint8]
Stored = NDArray[np.uint8] | NDArray[np.uint16]
Level = Annotated[int, Bounds(min=0, max=255)]
Background = Literal["white", "black"] | tuple[Level, Level, Level]

RULES = 3  # counts up when a file becomes other pixels than before, so that no older cache is taken for them
MAX_PIXELS = 178_956_970  # of a PNG, which packs without limit (half a GB as RGB); OpenCV itself refuses above 2**30
GROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0)}  # RGB that shows through transparent pixels, by its name
WHITE = GROUNDS["white"]
FULL = 65_535  # the greatest value of 16 bits
HEADS = 1000  # files, evenly spread, whose beginnings are read where something is said of a folder
LOOKED_AT = 16  # files of those that may be odd, which are decoded for it

Factor = Callable[[int, int], int]  # (height, width) -> 1, 2, 4 or 8
_UNREADABLE = (OSError, SyntaxError, ValueError, RuntimeError, EOFError)  # Pillow's of a file
_FLAGS = {  # OpenCV's, by how much smaller a picture is decoded
    1: cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}

# What EXIF's orientations 1 to 8 do to pixels as they are stored.
_TURNS: tuple[Callable[[NDArray], NDArray], ...] = (  # type: ignore[type-arg]
    lambda stored: stored,
    lambda stored: stored[:, ::-1],
    lambda stored: stored[::-1, ::-1],
    lambda stored: stored[::-1],
    lambda stored: stored.swapaxes(0, 1),
    lambda stored: stored[::-1].swapaxes(0, 1),
    lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    lambda stored: stored[:, ::-1].swapaxes(0, 1),
)


@dataclass(frozen=True)
class Decoding:
    """How files become pixels, as far as a dataset's arguments say.

    Attributes:
        white_level: value of 16-bit images that becomes 255: 4095 where they hold 12 bits. Up to `FULL`, which keeps
            the upper 8 bits.
        channels: 3 for RGB, 1 for grey.
        ground: RGB that shows through transparent pixels.
    """

    white_level: int = FULL
    channels: int = 3
    ground: tuple[int, int, int] = WHITE

    @classmethod
    def of(
        cls, white_level: int = FULL, bits: int | None = None, channels: int = 3, background: Background = "white"
    ) -> Decoding:
        """Return how files are read by what a recipe says of its dataset.

        Args:
            white_level: as above.
            bits: that images in files of 16 really have, which says the white level: 12 is 4095.
            channels: as above.
            background: name or RGB of the ground.
        """
        red, green, blue = GROUNDS[background] if isinstance(background, str) else background
        return cls(white_level if bits is None else (1 << bits) - 1, channels, (red, green, blue))

    @property
    def key(self) -> str:
        """What pixels depend on beside the file; part of the key of a cache of them."""
        grey = ", grey" if self.channels == 1 else ""
        over = "" if self.ground == WHITE else f", over {self.ground}"
        return f"decoding {RULES}, white level {self.white_level}{grey}{over}"

    @property
    def ground_in_code(self) -> str:
        """The ground as an example in Python names it to Pillow."""
        return '"white"' if self.ground == WHITE else str(self.ground)

    @property
    def deep_in_words(self) -> str:
        """What whoever opens a picture of 16 bits by Pillow does to it before an example in Python goes on."""
        levels = f"np.rint(np.minimum(picture, {self.white_level}) * (255 / {self.white_level}))"
        if self.white_level == FULL:
            levels = "(np.asarray(picture) >> 8)"
        return (
            "Grey pictures of 16 bits (as opened their `mode` begins with `I`) are brought to 8 first: "
            f"`picture = Image.fromarray({levels}.astype(np.uint8))`."
        )

    def read(self, path: str, factor: Factor | None = None) -> Pixels:
        """Decode an image file.

        Args:
            path: of the file.
            factor: as `decode` takes it.

        Returns:
            RGB, uint8 (H, W, 3), or grey, (H, W, 1).

        Raises:
            DataError: the file cannot be read or holds no whole image.
        """
        return self.decode(content_of(path), path, factor)

    def decode(self, content: bytes, name: str, factor: Factor | None = None) -> Pixels:
        """Decode an image file's content.

        Args:
            content: of the file.
            name: what messages call it.
            factor: says by how much a JPEG of (height, width), upright, is decoded smaller; None for in full size.
                Other formats save nothing by it and are always decoded in full size.

        Returns:
            RGB, uint8 (H, W, 3), or grey, (H, W, 1).

        Raises:
            DataError: it is no whole image.
        """
        found, alpha = _stored(content, name, 1 if factor is None else _reduced_by(content, factor))
        pixels = self.eight_bits(found, white_of(content))
        if alpha is not None:
            weighted = content.startswith(TIFF) and found.dtype == np.uint8  # libtiff gives them so
            pixels = over_ground(pixels, alpha, self.ground[::-1], weighted=weighted)
        if self.channels == 1:
            return cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)[..., None]  # type: ignore[return-value]
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)  # type: ignore[return-value]

    def eight_bits(self, pixels: Stored, named: int | None = None) -> Pixels:
        """Return pixels of 8 or 16 bits as uint8: by the white level, the white that the file names, or the upper 8.

        Args:
            pixels: as stored.
            named: value that the file calls white; None where it does not.
        """
        deep = pixels.dtype == np.uint16
        white = self.white_level if deep and self.white_level != FULL else named
        if white is None or white == (FULL if deep else 255):
            return (pixels >> 8).astype(np.uint8) if deep else pixels  # type: ignore[return-value]
        scaled: Pixels = np.rint(np.minimum(pixels, white) * (255 / white)).astype(np.uint8)
        return scaled

    def remarks(self, count: int, path: Callable[[int], str]) -> list[str]:
        """Say what becomes of files that hold more than 8 bits and three colours, from a few of them.

        Args:
            count: of all files.
            path: returns the path of one; unreadable files are passed over.

        Returns:
            Sentences for the run's log.
        """
        some = _spread(count, HEADS)
        likely = [name for name in map(path, some) if _may_be_odd(name)]
        more = "at least " if len(likely) > LOOKED_AT else ""
        deep, clear, brightest = 0, 0, 0
        for name in (likely[place] for place in _spread(len(likely), LOOKED_AT)):
            try:
                content = content_of(name)
                pixels, alpha = _stored(content, name)
            except DataError:  # said where the image is needed
                continue
            clear += alpha is not None and bool((alpha < 255).any())
            unsaid = self.white_level != FULL or white_of(content) in (None, FULL)
            if pixels.dtype == np.uint16 and unsaid:
                deep, brightest = deep + 1, max(brightest, int(pixels.max()))
        said = []
        if deep:
            said.append(f"{more}{deep} of {len(some):,} images looked at have 16 bits: {self._kept(brightest)}")
        if clear:
            shown = next((name for name, ground in GROUNDS.items() if ground == self.ground), f"RGB {self.ground}")
            said.append(
                f"{more}{clear} of {len(some):,} images looked at are transparent in places: {shown} shows through"
            )
        return said

    def _kept(self, brightest: int) -> str:
        occur = f"the greatest value in them is {brightest}"
        if self.white_level != FULL:
            return f"white_level {self.white_level} becomes 255; {occur}"
        kept = f"the upper 8 bits are used, {occur}, so 0..{brightest >> 8} of 255 occur"
        bits = max(9, brightest.bit_length())
        if bits == 16:
            return kept
        return f"{kept}; data.dataset.white_level: {2**bits - 1} would take all of {bits} bits"


def _spread(count: int, most: int) -> list[int]:
    """Return up to `most` places of `count`, evenly apart, the first and the last among them."""
    return sorted({round(step * (count - 1) / (most - 1)) for step in range(most)}) if count else []


def _may_be_odd(name: str) -> bool:
    """Whether a file's beginning lets it hold transparent pixels or more than 8 bits."""
    try:
        head = content_of(name, HEAD)
    except DataError:  # said where the image is needed
        return False
    return may_be_transparent(head) or may_be_deep(head) or is_avif(head)


def read_image(path: str) -> Pixels:
    """Decode an image file as a `Decoding` without arguments does."""
    return Decoding().read(path)


def decode(content: bytes, name: str) -> Pixels:
    """Decode an image file's content as a `Decoding` without arguments does."""
    return Decoding().decode(content, name)


def content_of(path: str, most: int = -1) -> bytes:
    """Return the first `most` bytes of a file, all where negative.

    Raises:
        DataError: it cannot be read.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116  opening a pipe would wait for ever
            raise DataError(f"{path} is no plain file")
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  Path.open costs a third more on small files
            return file.read(most)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _stored(content: bytes, name: str, factor: int = 1) -> tuple[Stored, Pixels | None]:
    """Return a file's picture, upright, as deep as the file has it: BGR (H, W, 3), and how opaque it is (H, W).

    That is None where all is opaque. Of a JPEG, 1/factor of its height and width.
    """
    if is_avif(content):
        return _avif(content, name)
    found = _decoded(content, name, factor)
    return found, _alpha(content, found) if may_be_transparent(content) else None


def _avif(content: bytes, name: str) -> tuple[Pixels, Pixels | None]:
    """Return an AVIF's picture as `_stored` does, by Pillow: OpenCV neither turns one nor scales 10 bits to 16."""
    try:
        picture = AvifImageFile(io.BytesIO(content))
        _within_limit(picture.width, picture.height, name)
        upright = np.asarray(ImageOps.exif_transpose(picture).convert("RGBA" if picture.mode == "RGBA" else "RGB"))
    except _UNREADABLE as error:
        if not features.check("avif"):
            raise DataError(f"{name} is an AVIF, which this Pillow cannot read", "pip install -U pillow") from error
        raise _no_picture(content, name) from error
    alpha = np.ascontiguousarray(upright[..., 3]) if upright.shape[2] == 4 else None
    return np.ascontiguousarray(upright[..., 2::-1]), alpha


def _within_limit(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(f"{name} is {width} x {height} pixels; more than {MAX_PIXELS} are refused")


def _no_picture(content: bytes, name: str) -> DataError:
    return DataError(f"{name} is damaged, cut short, or not an image ({len(content)} bytes)")


def _decoded(content: bytes, name: str, factor: int = 1) -> Stored:
    """Return a file's picture as `_stored` does, by OpenCV."""
    if not content:
        raise DataError(f"{name} is empty (0 bytes)")
    if content.startswith(PNG) and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        _within_limit(width, height, name)
    _silence_opencv()
    try:
        pixels = None if is_cut_short(content) else cv2.imdecode(np.frombuffer(content, np.uint8), _FLAGS[factor])
    except cv2.error as error:
        raise DataError(f"{name} cannot be decoded: {error.err}") from error
    if pixels is None and not content.startswith(JPEG):  # grey of 32 bits is given as it is stored only
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        pixels = None if pixels is None or pixels.dtype in (np.uint8, np.uint16) else pixels
    if pixels is None:
        raise _no_picture(content, name)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"{name} holds pixels of type {pixels.dtype}, and nothing says which of their values is white",
            "convert it to 8 or 16 bits",
        )
    return pixels  # type: ignore[return-value]


def _reduced_by(content: bytes, factor: Factor) -> int:
    """Return by how much a file's picture is decoded smaller: 1 where it is no JPEG, or its header does not tell."""
    size = upright_size(content)
    return 1 if size is None else factor(*size)


@cache
def _silence_opencv() -> None:
    """Have OpenCV keep its log to itself: a file that it cannot decode is told by name, once, as an error.

    Not put back: the level is the process's, and other threads decode.
    """
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


# --------------------------------------------------------------------------------------------------------- transparency
def over_ground(pixels: Pixels, alpha: Pixels, ground: Sequence[int] = WHITE, *, weighted: bool = False) -> Pixels:
    """Lay a picture over a ground.

    Args:
        pixels: uint8 (H, W, 3).
        alpha: uint8 (H, W); 0 lets the ground through, 255 hides it.
        ground: its colour, in the order of the channels.
        weighted: the pixels are multiplied by alpha already.

    Returns:
        uint8 (H, W, 3).
    """
    share = alpha[..., None].astype(np.uint16)
    through: NDArray[np.uint16] = np.array(ground, dtype=np.uint16) * (255 - share)
    laid = pixels.astype(np.uint16) * (np.uint16(255) if weighted else share) + through
    over: Pixels = ((laid + 127) // 255).astype(np.uint8)
    return over


def _alpha(content: bytes, pixels: Stored) -> Pixels | None:
    """Return how opaque each pixel of an upright picture (H, W, 3) is, uint8 (H, W); None where nothing tells."""
    stored = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None:
        return None
    if stored.ndim == 2:
        stored = _with_key(stored, content)
    if stored is None or stored.shape[2] != 4:
        return None
    for turn in _TURNS:  # OpenCV turns colours upright, but not what it leaves unchanged
        if np.array_equal(turn(stored[..., :3]), pixels):
            alpha = turn(stored[..., 3])
            if content.startswith(b"BM") and not alpha.any():  # a mask without a word behind it
                return None
            return np.ascontiguousarray(alpha if alpha.dtype == np.uint8 else alpha >> 8).astype(np.uint8)
    return None


def _with_key(grey: NDArray[Any], content: bytes) -> NDArray[Any] | None:
    """Return a grey PNG as BGRA, transparent where it has the level that its tRNS chunk names."""
    at = content.find(b"tRNS")
    if not content.startswith(PNG) or content[25] != GREY or at < 0:
        return None
    (level,) = struct.unpack(">H", content[at + 4 : at + 6])
    most = np.iinfo(grey.dtype).max
    key = level if content[24] >= 8 else level * 255 // (2 ** content[24] - 1)  # fewer bits are widened to 8
    return np.stack([grey, grey, grey, np.where(grey == key, 0, most).astype(grey.dtype)], axis=2)


# ---------------------------------------------------------------------------------------------------------- file names
def is_image(name: str, endings: frozenset[str] | None = None) -> bool:
    """Say whether a file's name is that of an image: one of those `endings`, or one that OpenCV reads."""
    return ending(name) in (_EXTENSIONS if endings is None else endings)


def endings_of(extensions: Sequence[str] | None) -> tuple[str, ...]:
    """Return file endings as names have them, small and with their dot: ["JPG", ".png"] -> (".jpg", ".png")."""
    return tuple(f".{each.strip().lstrip('.').lower()}" for each in extensions or ())


def ending(name: str) -> str:
    """Return a file name's ending in small letters, ".jpg"; "" where it has none."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


_EXTENSIONS = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm"),
        *(".tif", ".tiff", ".webp", ".gif", ".avif", ".jp2"),
    )
)
