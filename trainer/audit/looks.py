"""Looks: of each picture of a split a small grey thumbnail, a digest of its pixels, its size, what its file holds.

Everything an audit compares comes from here, so that a picture is decoded once; where pictures are files, what was seen
is kept beside the cache of decoded images, a kilobyte each, and mapped from there. Compares nothing itself.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from registry.catalogue import cache
from registry.errors import DataError, StorageError
from trainer.data.cache import Packed, cache_file, read_cache, write_cache
from trainer.data.content import UNREADABLE, Digests, digest_of
from trainer.data.reading import read
from trainer.data.store import AnyStore, Store

SIDE = 32  # px of a thumbnail: what two pictures are compared by
RULES = 1  # counts up when a file is seen otherwise than before, so that no older cache is taken for it
KEPT_SIDES = 4  # a picture is decoded no smaller than so many thumbnails side by side
TASK = 64  # pictures a thread looks at, at a time
THREADS = 16  # at most
SAY_EVERY = 15.0  # seconds between two lines on how far looking is

MODES = ("other", "RGB", "L", "RGBA", "LA", "P", "CMYK", "1", "I;16", "I", "F", "YCbCr", "LAB")
_UPRIGHT = 1  # EXIF's orientation of a picture that is shown as it is stored
_ON_ITS_SIDE = (5, 6, 7, 8)  # orientations that make height of width
_ORIENTATION = 0x0112  # EXIF's tag
_WITH_EXIF = {"JPEG", "MPO", "TIFF", "WEBP"}  # whose EXIF stands where reading the header finds it
_HEIGHT, _WIDTH, _MODE, _TURNED = range(4)

Thumbnails = NDArray[np.uint8]
Log = Callable[[str], None]


@dataclass(frozen=True)
class Looks:
    """What was seen of the pictures of a split, by their places in it.

    Attributes:
        thumbnails: grey, uint8 (N, 32, 32), whatever shape the pictures have; zeros where one cannot be read.
        digests: of all pixels, int64 (N,); 0 where a picture cannot be read.
        facts: int32 (N, 4): height and width in pixels, place in `MODES`, whether EXIF turns it.
    """

    thumbnails: Thumbnails
    digests: Digests
    facts: NDArray[np.int32]

    @property
    def heights(self) -> NDArray[np.int32]:
        """Heights in pixels, int32 (N,)."""
        return self.facts[:, _HEIGHT]

    @property
    def widths(self) -> NDArray[np.int32]:
        """Widths in pixels, int32 (N,)."""
        return self.facts[:, _WIDTH]

    @property
    def modes(self) -> NDArray[np.int32]:
        """Places in `MODES`, int32 (N,)."""
        return self.facts[:, _MODE]

    @property
    def turned(self) -> NDArray[np.bool_]:
        """Whether a file's EXIF has it shown turned or mirrored, bool (N,)."""
        return np.asarray(self.facts[:, _TURNED] != 0)

    # ------------------------------------------------------------------------------------------------------- as a file
    def packed(self) -> Packed:
        """Return the rows as what a cache file holds, the bytes of each in place of an image's."""
        count = len(self.digests)
        facts = np.ascontiguousarray(self.facts.astype("<i4")).view(np.uint8).reshape(count, -1)
        rows = np.concatenate((self.thumbnails.reshape(count, -1), facts), axis=1)
        return Packed(rows.reshape(count, 1, -1, 1), (), self.digests)

    @classmethod
    def unpacked(cls, packed: Packed) -> Looks:
        """Return the looks that `packed` made, their thumbnails where they lie."""
        assert packed.digests is not None
        rows = packed.images.reshape(len(packed.images), -1)
        facts = np.ascontiguousarray(rows[:, SIDE * SIDE :]).view("<i4").astype(np.int32)
        return cls(rows[:, : SIDE * SIDE].reshape(-1, SIDE, SIDE), packed.digests, facts)


def thumbnail_of(image: NDArray[np.uint8]) -> Thumbnails:
    """Return a picture, uint8 (H, W, C), as a grey square of 32 px, uint8 (32, 32)."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.shape[2] == 3 else image[:, :, 0]
    if grey.shape == (SIDE, SIDE):
        return np.asarray(grey, dtype=np.uint8)
    method = cv2.INTER_AREA if min(grey.shape) >= SIDE else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=method), dtype=np.uint8)


def looks_of(store: AnyStore, *, log: Log) -> Looks:
    """Look at every picture of a split, or take what was seen of the same files before.

    Args:
        store: the split; pictures that it knows to be unreadable are not read again.
        log: takes a line on what takes its time.
    """
    path = _cache_of(store)
    if path is not None:
        with contextlib.suppress(OSError, ValueError):  # not whole, or of another kind: they are looked at again
            kept = read_cache(path, len(store))
            if kept is not None:
                return Looks.unpacked(kept)
    looks = _Looking(store, log).looks()
    if path is not None:
        try:
            write_cache(path, looks.packed(), of=f"{Path(store.describe(0)).absolute()} (audit)")
        except (OSError, StorageError, ValueError) as error:
            log(f"what was seen of {len(store):,} images is not kept in {path.parent}: {error}")
    return looks


def _cache_of(store: AnyStore) -> Path | None:
    """Return the file that keeps a split's looks; None where there are no files to tell one split from another."""
    listing = store.source.listing()
    if listing is None or not len(store):
        return None
    decoding = getattr(store.source, "decoding", "")
    where = f"{Path(store.describe(0)).absolute()} audit"
    try:
        return cache_file(cache.folder() / "images", where, [(f"{decoding} looks {RULES}", 0, 0), *listing])
    except RuntimeError:  # no home folder
        return None


class _Looking:
    """One split while it is looked at; the arguments are those of `looks_of`."""

    def __init__(self, store: AnyStore, log: Log) -> None:
        self._store, self._log = store, log
        count = len(store)
        self._bad = frozenset(store.bad)
        self._are_files = store.source.listing() is not None
        self._digests = store.digests
        self._looks = Looks(
            np.zeros((count, SIDE, SIDE), dtype=np.uint8),
            np.full(count, UNREADABLE, dtype=np.int64),
            np.zeros((count, 4), dtype=np.int32),
        )

    def looks(self) -> Looks:
        """Look at all pictures in threads; say now and then how far it is."""
        count, over = len(self._store), threading.Event()
        tasks = [range(start, min(start + TASK, count)) for start in range(0, count, TASK)]
        pool = ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1))
        said, done = time.monotonic(), 0
        try:
            for looked in pool.map(lambda some: self._look_at_some(some, over), tasks):
                done += looked
                if time.monotonic() - said >= SAY_EVERY and done < count:
                    said = time.monotonic()
                    self._log(f"audit: looked at {done:,} of {count:,} images")
        finally:
            over.set()  # an interrupt waits for the picture at hand, not for the rest of the task
            pool.shutdown(cancel_futures=True)
        return self._looks

    def _look_at_some(self, indices: range, over: threading.Event) -> int:
        for index in indices:
            if over.is_set():
                break
            if index not in self._bad:
                with contextlib.suppress(DataError):  # broken since the store was opened: it stays unreadable
                    self._look_at(index)
        return len(indices)

    def _look_at(self, index: int) -> None:
        store, looks = self._store, self._looks
        if isinstance(store, Store):
            image, factor = store.images[index].numpy(), 1
        elif self._digests is None:
            image, factor = read(store.source, index), 1
        else:  # all pixels were looked at before: a thumbnail needs few of them
            image, factor = self._reduced(index)
        height, width = image.shape[:2]
        height, width, mode, turned = self._file_facts(index, (height * factor, width * factor, image.shape[2]))
        looks.thumbnails[index] = thumbnail_of(image)
        looks.facts[index] = (height, width, mode, turned)
        looks.digests[index] = digest_of(image) if self._digests is None else self._digests[index]

    def _reduced(self, index: int) -> tuple[NDArray[np.uint8], int]:
        """Return a picture decoded as small as a thumbnail needs it, and by how much."""
        taken = 1

        def factor(height: int, width: int) -> int:
            nonlocal taken
            taken = next((each for each in (8, 4, 2) if min(height, width) >= each * KEPT_SIDES * SIDE), 1)
            return taken

        return read(self._store.source, index, factor=factor), taken

    def _file_facts(self, index: int, shape: tuple[int, int, int]) -> tuple[int, int, int, bool]:
        """Return height and width of a picture, what its file holds, as a place in `MODES`, and whether EXIF turns it.

        Args:
            index: of the picture.
            shape: its height, width and channels, as far as decoding tells.
        """
        if not self._are_files:
            return (*shape[:2], MODES.index("L" if shape[2] == 1 else "RGB"), False)
        try:
            with Image.open(self._store.describe(index)) as header:
                width, height = header.size
                mode = header.mode if header.mode in MODES else "other"
                orientation = header.getexif().get(_ORIENTATION) if header.format in _WITH_EXIF else None
        except Exception:  # what OpenCV reads and Pillow does not, a bomb's warning among it
            return (*shape[:2], MODES.index("other"), False)
        if orientation in _ON_ITS_SIDE:
            width, height = height, width
        return height, width, MODES.index(mode), orientation not in (None, _UPRIGHT)
