"""Image cache: decoded images on the disk, one file per dataset split, memory-mapped when it is opened again.

    header    4096 bytes: version, key, shape and the unreadable images' indices as JSON, a CRC-32 of that, zeros
    pixels    uint8 (N, H, W, C)
    checks    a CRC-32 per mebibyte of the pixels, and one of the digests
    digests   int64 (N,), of each image's pixels (content.py)

A file is taken only if its key is that of the files as they are now (path, names, sizes, stamps), its length fits, the
header is whole and the pixels agree with their checks. Up to `CHECKED_WHOLE` all are compared (about 0.1 s); beyond,
evenly spread mebibytes, since reading everything would cost more than the cache saves, and what really happens (a cut,
a hole, a full disk, another program's file) shows in the length or in a sample. Otherwise it is built anew. It is
written under another name, flushed and renamed: two processes may build it at once, and none reads half of one.
Owns the file. Knows nothing of datasets or decoding.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from registry import files
from registry.printing import printable
from trainer.data.content import Digests

VERSION = 2
HEADER = 4096  # bytes; pixels begin on a page
BLOCK = 1 << 20  # bytes per check
CHECKED_WHOLE = 512 << 20  # bytes of pixels up to which every block is compared
SAMPLED = 256  # blocks that are compared beyond
LONGEST_PLACE = 1000  # letters of a path that the header has room for


@dataclass(frozen=True)
class Packed:
    """Decoded images of a split.

    Attributes:
        images: uint8 (N, H, W, C); zeros where an image is unreadable.
        bad: indices of unreadable images, ascending.
        digests: of each image's pixels, int64 (N,), 0 where it is unreadable; None where nobody has looked at them.
    """

    images: NDArray[np.uint8]
    bad: Sequence[int]
    digests: Digests | None = None


def cache_file(folder: Path, where: str, listing: Sequence[tuple[str, int, int]]) -> Path:
    """Return the file that belongs to these images.

    Args:
        folder: of the caches.
        where: a path that tells equal listings of different folders apart.
        listing: (name, bytes, stamp) per image.
    """
    content = hashlib.blake2b(repr((VERSION, where, listing)).encode("utf-8", "surrogateescape"), digest_size=16)
    place = hashlib.blake2b(where.encode("utf-8", "surrogateescape"), digest_size=6)
    return folder / f"{place.hexdigest()}-{content.hexdigest()}.images"


# -------------------------------------------------------------------------------------------------------------- reading
def read_cache(path: Path, count: int) -> Packed | None:
    """Open a cache.

    Args:
        path: from `cache_file`; its name is the key.
        count: images that belong in it.

    Returns:
        Its images, mapped privately (writing to them changes no file); None where there is none.

    Raises:
        ValueError: the file is not whole, or of another kind; the text says what is wrong.
        OSError: it cannot be read.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        header = _header(file.read(HEADER), path.stem)
        shape = tuple(header["shape"])
        if shape[0] != count or len(shape) != 4:
            raise ValueError(f"it holds {shape[0]} images, {count} belong there")
        size = int(np.prod(shape, dtype=np.int64))
        blocks = -(-size // BLOCK)
        if os.fstat(file.fileno()).st_size != HEADER + size + 4 * (blocks + 1) + 8 * count:
            raise ValueError("its length is wrong")
        mapped = mmap.mmap(file.fileno(), HEADER + size, access=mmap.ACCESS_COPY)
        file.seek(HEADER + size)
        checks = np.frombuffer(file.read(4 * (blocks + 1)), dtype="<u4")
        digests = file.read(8 * count)
    pixels = np.frombuffer(mapped, np.uint8, size, HEADER)
    for block in _blocks_to_check(size, blocks):
        if zlib.crc32(pixels[block * BLOCK : (block + 1) * BLOCK].data) != checks[block]:
            raise ValueError("its content is damaged")
    if zlib.crc32(digests) != checks[blocks]:
        raise ValueError("its content is damaged")
    return Packed(pixels.reshape(shape), header["bad"], np.frombuffer(digests, dtype="<i8"))


def _header(content: bytes, key: str) -> dict[str, list]:  # type: ignore[type-arg]  # JSON; shape and bad are checked by use
    try:
        text, check = content.rstrip(b"\0").rsplit(b"\n", 1)
        if int(check) != zlib.crc32(text):
            raise ValueError
        header = json.loads(text)
    except ValueError:
        raise ValueError("its header is damaged") from None
    if header["version"] != VERSION or header["key"] != key:
        raise ValueError("it belongs to another version or to other files")
    return header  # type: ignore[no-any-return]


def _blocks_to_check(size: int, blocks: int) -> Sequence[int]:
    if size <= CHECKED_WHOLE:
        return range(blocks)
    return sorted({round(step * (blocks - 1) / (SAMPLED - 1)) for step in range(SAMPLED)})


# -------------------------------------------------------------------------------------------------------------- writing
def write_cache(path: Path, packed: Packed, *, of: str = "") -> None:
    """Write a cache under another name, flush it and rename it; remove what it replaces.

    Args:
        path: from `cache_file`.
        packed: what it will hold, with digests.
        of: where its images come from, for people.

    Raises:
        OSError: it cannot be written; nothing is left behind.
        StorageError: a link stands in its place.
        ValueError: more images are unreadable than the header holds.
    """
    pixels = np.ascontiguousarray(packed.images).reshape(-1)
    assert packed.digests is not None
    digests = packed.digests.astype("<i8").tobytes()
    checks = [zlib.crc32(pixels[start : start + BLOCK].data) for start in range(0, len(pixels), BLOCK)]
    checks.append(zlib.crc32(digests))
    head = {
        "version": VERSION,
        "key": path.stem,
        "shape": packed.images.shape,
        "bad": list(packed.bad),
        "of": printable(of)[:LONGEST_PLACE],
    }
    text = json.dumps(head).encode("ascii")
    header = b"%s\n%d" % (text, zlib.crc32(text))
    if len(header) > HEADER:
        raise ValueError(f"{len(packed.bad)} unreadable images are more than a cache can list")
    path.parent.mkdir(parents=True, exist_ok=True)
    crc = np.array(checks, dtype="<u4").tobytes()
    files.write(path, header.ljust(HEADER, b"\0"), pixels.data, crc, digests, below=path.parent)
    remove_older(path)


def remove_older(path: Path) -> None:
    """Remove what was kept of the same images before their files changed."""
    for other in path.parent.glob(f"{path.stem.partition('-')[0]}-*{path.suffix}"):
        if other != path:
            with contextlib.suppress(OSError):  # in use on Windows, or another process was faster
                other.unlink()


def place_of(path: Path) -> str:
    """Return where the images of a cache come from; "" where it does not say.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
    """
    with path.open("rb") as file:
        return str(_header(file.read(HEADER), path.stem).get("of", ""))
