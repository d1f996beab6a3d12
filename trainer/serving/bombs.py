"""Files that cost far more than their header says: they are small, and what decodes them works for minutes.

    PNG     pixel data that unpack to more than height and width need, and notes that unpack to megabytes each
    JPEG    thousands of scans, each of a few bytes, that all pass over the whole picture

What reads TIFF, WebP, GIF and BMP stops where the picture, or a tile of a TIFF, is full; how large tiles are is
intake.py's. Here rather than where pictures are decoded for training: to unpack a large PNG again costs half as much
as to decode it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from registry.datasets.headers import JPEG, PNG, scans_of
from registry.errors import DataError

SCANS = 200  # of a JPEG; a progressive one has about ten
NOTES = 16  # compressed ones of a PNG; what decodes it unpacks up to 8 MB of each
_RATIO = 1032  # bytes that one byte of deflate can become, at most
_SLACK = 1_000_000  # bytes that may be over
_STEP = 1 << 20  # bytes that are unpacked at a time
_PACKED_NOTES = (b"zTXt", b"iTXt", b"iCCP")
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by PNG's colour type


def refuse_bomb(content: bytes) -> None:
    """Refuse a file that takes far longer to decode than its height and width tell.

    Raises:
        DataError: it is such a one.
    """
    if content.startswith(JPEG) and (scans := scans_of(content)) > SCANS:
        raise _refused(f"has {scans:,} scans; more than {SCANS} are refused")
    if content.startswith(PNG) and len(content) > 33:
        _refuse_packed(content)


def _refuse_packed(content: bytes) -> None:
    width, height, depth, colours = struct.unpack_from(">IIBB", content, 16)
    row = 8 + width * _CHANNELS.get(colours, 4) * depth // 8
    most = 2 * height * row + _SLACK  # twice: an interlaced picture has shorter rows, and more of them
    parts = list(_chunks(content))
    if (notes := sum(kind in _PACKED_NOTES for kind, _ in parts)) > NOTES:
        raise _refused(f"has {notes:,} compressed notes; more than {NOTES} are refused")
    packed = [part for kind, part in parts if kind == b"IDAT"]
    if sum(map(len, packed)) * _RATIO > most and _unpacks_beyond(packed, most):
        raise _refused(f"is {width:,} x {height:,} pixels by its header, and its data unpack to far more")


def _refused(what: str) -> DataError:
    return DataError(f"the picture {what}", "open it in an image program, and save it anew")


def _chunks(content: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield (kind, data) of a PNG's chunks, as far as they go."""
    whole, place = memoryview(content), len(PNG)
    while place + 8 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        yield content[place + 4 : place + 8], whole[place + 8 : place + 8 + length]
        place += 12 + length


def _unpacks_beyond(packed: list[memoryview], most: int) -> bool:
    """Whether a deflated stream is longer than `most` bytes; of a damaged one, as far as it goes."""
    stream, length = zlib.decompressobj(), 0
    try:
        for part in packed:
            rest: bytes | memoryview = part
            while len(rest) and not stream.eof:
                length += len(stream.decompress(rest, _STEP))
                rest = stream.unconsumed_tail
                if length > most:
                    return True
    except zlib.error:  # whoever decodes it says so
        pass
    return False
