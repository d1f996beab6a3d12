"""What an image file's first bytes say of it before anything is decoded: its size, depth, white, transparency, end.

Every question is answered from bytes; what a format does not say, or a header that is cut short, is None or no.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

PNG = b"\x89PNG\r\n\x1a\n"
TIFF = (b"II*\0", b"MM\0*")
JPEG = b"\xff\xd8"
GREY = 0  # PNG's colour type

_GREY_ALPHA, _RGB_ALPHA = 4, 6
HEAD = 4096  # bytes within which AVIF and JPEG 2000 say what channels they have
_EXTRA_SAMPLES = (b"\x52\x01\x03\x00", b"\x01\x52\x00\x03")  # TIFF's tag of channels beyond the colours, both orders
_BITFIELDS, _ALPHA_MASK = 56, 66  # BMP: the shortest header that has a mask of alpha, and where that stands
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})  # JPEG's markers of a frame, which has the size
_SCAN, _APP1, _TAG_ORIENTATION = 0xDA, 0xE1, 0x0112
_END_OF_JPEG = b"\xff\xd9"
_ALONE = (0x01, 0xD8)  # markers that no length follows, beside the end and those to restart
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # within a scan FF is followed by 0, or by a mark to restart
_JPEG_2000, _IN_BOXES = b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  "  # its stream, bare, and what a file of boxes begins with
_COMPONENTS = 40  # bytes behind the beginning of the stream at which the number of channels stands
_AVIF = (b"avif", b"avis")
_BETWEEN = rb"(?:\s|#[^\n]*\n)+"  # what parts the words of a Netpbm header
_NETPBM = re.compile(rb"P([2356])" + _BETWEEN + rb"\d+" + _BETWEEN + rb"\d+" + _BETWEEN + rb"(\d{1,5})\b")


def size_of_whole(content: bytes) -> tuple[int, int] | None:
    """Return the (height, width) of a JPEG that has a header and an end; None where only decoding can tell."""
    return upright_size(content) if content.endswith(_END_OF_JPEG) else None


def upright_size(content: bytes) -> tuple[int, int] | None:
    """Return the (height, width) of a JPEG, turned as its EXIF says; None where its header does not tell."""
    if not content.startswith(JPEG):
        return None
    turned = False
    for marker, place, length in _segments(content):
        if marker in _FRAMES:
            height, width = struct.unpack(">HH", content[place + 5 : place + 9])
            return None if not height or not width else (width, height) if turned else (height, width)
        if marker == _SCAN:
            return None
        if marker == _APP1 and content[place + 4 : place + 10] == b"Exif\0\0":
            turned = orientation_of(content[place + 10 : place + 2 + length]) > 4
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


def is_cut_short(content: bytes) -> bool:
    """Whether a JPEG's picture has no end but something behind it, as zeros after a crash: OpenCV would show half.

    No scan has the two bytes of an end within it.
    """
    if not content.startswith(JPEG) or content.endswith(_END_OF_JPEG):
        return False
    scan = next((place for marker, place, _ in _segments(content) if marker == _SCAN), None)
    return scan is not None and content.find(_END_OF_JPEG, scan) < 0


def scans_of(content: bytes) -> int:
    """Return how many scans a JPEG's picture has, up to its end; a film that a telephone puts behind is none of it."""
    count, place = 0, 2
    while (found := _NEXT_MARKER.search(content, place)) is not None:  # libjpeg, too, passes over what lies before it
        marker, place = content[found.start() + 1], found.end()
        if marker == _END_OF_JPEG[1]:
            break
        count += marker == _SCAN
        if marker not in _ALONE:
            place += int.from_bytes(content[place : place + 2], "big")
    return count


def orientation_of(exif: bytes) -> int:
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


def may_be_transparent(content: bytes) -> bool:
    """Say whether a file's header leaves room for transparency; most files are told by their first bytes that not."""
    head = content[:HEAD]
    if head.startswith(PNG):
        return len(head) > 25 and (head[25] in (_GREY_ALPHA, _RGB_ALPHA) or b"tRNS" in content[: content.find(b"IDAT")])
    if head.startswith(b"RIFF"):  # WebP: a flag of the extended format, or a bit of the lossless one
        flags = {b"VP8X": head[20:21], b"VP8L": head[24:25]}.get(head[12:16], b"")
        return any(flag & 0x10 for flag in flags)
    if head.startswith(TIFF):
        return any(tag in content for tag in _EXTRA_SAMPLES)
    if head.startswith(JPEG):  # has none; the letters below stand in its tables
        return False
    if head.startswith(b"BM"):
        size = int.from_bytes(head[14:18], "little")
        return size >= _BITFIELDS and any(head[_ALPHA_MASK : _ALPHA_MASK + 4])
    return head.startswith(b"GIF8") or b"cdef" in head


def may_be_deep(content: bytes) -> bool:
    """Say whether a file may hold more than 8 bits that nothing explains: a PNG says so, most others never do."""
    if content.startswith(PNG):
        return len(content) > 24 and content[24] == 16
    return not (content.startswith((JPEG, b"GIF8", b"BM", b"RIFF")) or is_avif(content))


def is_avif(content: bytes) -> bool:
    """Say whether a file is an AVIF, by the brands in its first box."""
    length = min(int.from_bytes(content[:4], "big"), HEAD)
    return content[4:8] == b"ftyp" and any(content[at : at + 4] in _AVIF for at in range(8, length - 3, 4))


def white_of(content: bytes) -> int | None:
    """Return the value that a file's header calls white where OpenCV hands values on as they are stored.

    That is Netpbm's maximum (OpenCV scales words of up to 255 by itself), and the most that JPEG 2000's bits hold.
    """
    if named := _NETPBM.match(content[:HEAD]):
        kind, white = named[1], int(named[2])
        return white if 0 < white <= 65_535 and (kind in b"56" or white > 255) else None
    if not content.startswith((_JPEG_2000, _IN_BOXES)):
        return None
    stream = content.find(_JPEG_2000)
    at = stream + _COMPONENTS
    channels = int.from_bytes(content[at : at + 2], "big") if stream >= 0 else 0
    depths = content[at + 2 : at + 2 + 3 * channels : 3]  # a byte each: bits less one, and 128 for a sign
    return (2 << max(depths)) - 1 if depths and max(depths) < 16 else None
