"""Image files to pixels: one rule for every format, and damage is always an error.

    grey, palette, 1 bit     three equal channels, or the palette's colours
    transparency             dropped, as torchvision's loader does
    16 bits                  the upper 8
    CMYK                     converted to RGB
    EXIF orientation         applied
    cut short, not an image  DataError: OpenCV's reader of buffers refuses them (its reader of files shows half a JPEG)

Owns what pixels mean. Knows nothing of folders or classes.
"""

from __future__ import annotations

import struct

import cv2
import numpy as np
from numpy.typing import NDArray

from registry.errors import DataError

MAX_PIXELS = 178_956_970  # of a PNG, which packs without limit (half a GB as RGB); OpenCV itself refuses above 2**30

_PNG = b"\x89PNG\r\n\x1a\n"


def read_image(path: str) -> NDArray[np.uint8]:
    """Decode an image file.

    Args:
        path: of the file.

    Returns:
        RGB, uint8 (H, W, 3).

    Raises:
        DataError: the file cannot be read or holds no whole image.
    """
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  Path.open costs a third more on small files
            content = file.read()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    return decode(content, path)


def decode(content: bytes, name: str) -> NDArray[np.uint8]:
    """Decode an image file's content; `name` is what messages call it.

    Returns:
        RGB, uint8 (H, W, 3).

    Raises:
        DataError: it is no whole image.
    """
    if not content:
        raise DataError(f"{name} is empty (0 bytes)")
    if content.startswith(_PNG) and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        if width * height > MAX_PIXELS:
            raise DataError(f"{name} is {width} x {height} pixels; more than {MAX_PIXELS} are refused")
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise DataError(f"{name} cannot be decoded: {error.err}") from error
    if pixels is None:
        raise DataError(f"{name} is damaged, cut short, or not an image ({len(content)} bytes)")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)  # type: ignore[return-value]


def is_image(name: str) -> bool:
    """Say whether a file's name is that of an image OpenCV reads."""
    return name[name.rfind(".") :].lower() in _EXTENSIONS


_EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".ppm", ".pgm", ".pnm", ".tif", ".tiff", ".webp", ".gif")
)
