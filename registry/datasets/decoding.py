"""Image files to pixels: one rule for every format, and damage is always an error.

    grey, palette, 1 bit     three equal channels, or the palette's colours; of colours one grey, where that is wanted
    transparency             laid over white or another ground; of grey pictures in TIFF files, which OpenCV does not
                             tell, dropped
    16 bits                  the upper 8; or scaled so that `white_level` becomes 255
    32 bits, signed          DataError: nothing says which of their values is white
    CMYK                     converted to RGB
    EXIF orientation         applied
    decoded smaller          a JPEG, where whoever reads it asks for that
    cut short, not an image  DataError; also a JPEG, PNG or GIF with zeros for its end (others have no mark of it)

Owns what pixels mean. Knows nothing of folders or classes.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from registry.catalogue.markers import Bounds
from registry.errors import DataError

Pixels = NDArray[np.uint8]
Level = Annotated[int, Bounds(min=0, max=255)]
Background = Literal["white", "black"] | tuple[Level, Level, Level]

RULES = 2  # counts up when a file becomes other pixels than before, so that no older cache is taken for them
MAX_PIXELS = 178_956_970  # of a PNG, which packs without limit (half a GB as RGB); OpenCV itself refuses above 2**30
GROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0)}  # RGB that shows through transparent pixels, by its name
WHITE = GROUNDS["white"]
FULL = 65_535  # the greatest value of 16 bits
HEADS = 1000  # files, evenly spread, whose beginnings are read where something is said of a folder
LOOKED_AT = 16  # files of those that may be odd, which are decoded for it

_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*")
_HEAD = 4096  # bytes within which AVIF and JPEG 2000 say what channels they have
_EXTRA_SAMPLES = (b"\x52\x01\x03\x00", b"\x01\x52\x00\x03")  # TIFF's tag of channels beyond the colours, both orders
_GREY, _GREY_ALPHA, _RGB_ALPHA = 0, 4, 6  # PNG's colour types

Factor = Callable[[int, int], int]  # (height, width) -> 1, 2, 4 or 8
_FLAGS = {  # OpenCV's, by how much smaller a picture is decoded
    1: cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_JPEG = b"\xff\xd8"
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})  # JPEG's markers of a frame, which has the size
_SCAN, _APP1, _TAG_ORIENTATION = 0xDA, 0xE1, 0x0112
_END_OF_JPEG = b"\xff\xd9"

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
        found = _decoded(content, name, 1 if factor is None else _reduced_by(content, factor))
        alpha = _alpha(content, found) if _may_be_transparent(content) else None
        pixels = self.eight_bits(found)
        if alpha is not None:
            weighted = content.startswith(_TIFF) and found.dtype == np.uint8  # libtiff gives them so
            pixels = over_ground(pixels, alpha, self.ground[::-1], weighted=weighted)
        if self.channels == 1:
            return cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)[..., None]  # type: ignore[return-value]
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)  # type: ignore[return-value]

    def eight_bits(self, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> Pixels:
        """Return pixels of 8 or 16 bits as uint8: the upper 8 bits, or by the white level."""
        if pixels.dtype == np.uint8:
            return pixels  # type: ignore[return-value]
        if self.white_level == FULL:
            return (pixels >> 8).astype(np.uint8)
        scaled: Pixels = np.rint(np.minimum(pixels, self.white_level) * (255 / self.white_level)).astype(np.uint8)
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
                pixels = _decoded(content, name)
            except DataError:  # said where the image is needed
                continue
            alpha = _alpha(content, pixels) if _may_be_transparent(content) else None
            clear += alpha is not None and bool((alpha < 255).any())
            if pixels.dtype == np.uint16:
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
        head = content_of(name, _HEAD)
    except DataError:  # said where the image is needed
        return False
    return _may_be_transparent(head) or _may_be_deep(head)


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


def _decoded(content: bytes, name: str, factor: int = 1) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return BGR (H, W, 3) as deep as the file has it, upright; of a JPEG 1/factor of its height and width."""
    if not content:
        raise DataError(f"{name} is empty (0 bytes)")
    if content.startswith(_PNG) and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        if width * height > MAX_PIXELS:
            raise DataError(f"{name} is {width} x {height} pixels; more than {MAX_PIXELS} are refused")
    _silence_opencv()
    try:
        pixels = None if _is_cut_short(content) else cv2.imdecode(np.frombuffer(content, np.uint8), _FLAGS[factor])
    except cv2.error as error:
        raise DataError(f"{name} cannot be decoded: {error.err}") from error
    if pixels is None and not content.startswith(_JPEG):  # grey of 32 bits is given as it is stored only
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        pixels = None if pixels is None or pixels.dtype in (np.uint8, np.uint16) else pixels
    if pixels is None:
        raise DataError(f"{name} is damaged, cut short, or not an image ({len(content)} bytes)")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"{name} holds pixels of type {pixels.dtype}, and nothing says which of their values is white",
            "convert it to 8 or 16 bits",
        )
    return pixels  # type: ignore[return-value]


# -------------------------------------------------------------------------------------------------------- JPEG's header
def _reduced_by(content: bytes, factor: Factor) -> int:
    """Return by how much a file's picture is decoded smaller: 1 where it is no JPEG, or its header does not tell."""
    size = upright_size(content)
    return 1 if size is None else factor(*size)


def size_of_whole(content: bytes) -> tuple[int, int] | None:
    """Return the (height, width) of a JPEG that has a header and an end; None where only decoding can tell."""
    return upright_size(content) if content.endswith(_END_OF_JPEG) else None


def upright_size(content: bytes) -> tuple[int, int] | None:
    """Return the (height, width) of a JPEG, turned as its EXIF says; None where its header does not tell."""
    if not content.startswith(_JPEG):
        return None
    turned = False
    for marker, place, length in _segments(content):
        if marker in _FRAMES:
            height, width = struct.unpack(">HH", content[place + 5 : place + 9])
            return None if not height or not width else (width, height) if turned else (height, width)
        if marker == _SCAN:
            return None
        if marker == _APP1 and content[place + 4 : place + 10] == b"Exif\0\0":
            turned = _orientation(content[place + 10 : place + 2 + length]) > 4
    return None


def _segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the marker of each part of a JPEG's header, where it stands, and how long the part is; its scan last."""
    place = 2
    while place + 9 <= len(content) and content[place] == 0xFF:
        marker, length = content[place + 1], int.from_bytes(content[place + 2 : place + 4], "big")
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        yield marker, place, length
        if marker == _SCAN or length < 2:
            return
        place += 2 + length


def _is_cut_short(content: bytes) -> bool:
    """Whether a JPEG's picture has no end but something behind it, as zeros after a crash: OpenCV would show half.

    No scan has the two bytes of an end within it.
    """
    if not content.startswith(_JPEG) or content.endswith(_END_OF_JPEG):
        return False
    scan = next((place for marker, place, _ in _segments(content) if marker == _SCAN), None)
    return scan is not None and content.find(_END_OF_JPEG, scan) < 0


def _orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8, that an EXIF block says; 1 where it says none."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", exif, entry)
            if tag == _TAG_ORIENTATION:
                return int(value)
    except struct.error:  # cut short
        pass
    return 1


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


def _may_be_transparent(content: bytes) -> bool:
    """Say whether a file's header leaves room for transparency; most files are told by their first bytes that not."""
    head = content[:_HEAD]
    if head.startswith(_PNG):
        return len(head) > 25 and (head[25] in (_GREY_ALPHA, _RGB_ALPHA) or b"tRNS" in content[: content.find(b"IDAT")])
    if head.startswith(b"RIFF"):  # WebP: a flag of the extended format, or a bit of the lossless one
        return (head[12:16] == b"VP8X" and bool(head[20] & 0x10)) or (head[12:16] == b"VP8L" and bool(head[24] & 0x10))
    if head.startswith(_TIFF):
        return any(tag in content for tag in _EXTRA_SAMPLES)
    if head.startswith(_JPEG):  # has none; the letters below stand in its tables
        return False
    return head.startswith(b"GIF8") or b"auxl" in head or b"cdef" in head


def _alpha(content: bytes, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> Pixels | None:
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
            return np.ascontiguousarray(alpha if alpha.dtype == np.uint8 else alpha >> 8).astype(np.uint8)
    return None


def _with_key(grey: NDArray[Any], content: bytes) -> NDArray[Any] | None:
    """Return a grey PNG as BGRA, transparent where it has the level that its tRNS chunk names."""
    at = content.find(b"tRNS")
    if not content.startswith(_PNG) or content[25] != _GREY or at < 0:
        return None
    (level,) = struct.unpack(">H", content[at + 4 : at + 6])
    most = np.iinfo(grey.dtype).max
    key = level if content[24] >= 8 else level * 255 // (2 ** content[24] - 1)  # fewer bits are widened to 8
    return np.stack([grey, grey, grey, np.where(grey == key, 0, most).astype(grey.dtype)], axis=2)


def _may_be_deep(content: bytes) -> bool:
    """Say whether a file may have more than 8 bits: a PNG says so, JPEG, GIF, BMP and WebP have none."""
    if content.startswith(_PNG):
        return len(content) > 24 and content[24] == 16
    return not content.startswith((b"\xff\xd8", b"GIF8", b"BM", b"RIFF"))


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
