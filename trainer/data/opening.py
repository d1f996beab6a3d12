"""Opening a dataset split: decoded once into an array and kept, or left on disk to be read during training.

Owns the choice: one size for all images, and half of the memory enough for them. How images then lie is store.py, the
file that keeps them cache.py.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np

from registry import cache
from registry.contracts import ImageSource
from registry.errors import DataError
from trainer.data.cache import Packed, cache_file, read_cache, write_cache
from trainer.data.content import UNREADABLE, digest_of
from trainer.data.readers import read
from trainer.data.store import AnyStore, LazyStore, Store

SAMPLE = 16  # images, evenly spread, whose sizes are compared before all are decoded
TASK = 64  # images a thread decodes at a time
TOO_MANY_BAD = 0.1  # share of unreadable images beyond which `skip` is no answer
NAMED = 10  # unreadable images that the log names

SKIP = "data.on_bad_image: skip leaves such images out"

Log = Callable[[str], None]
OnBadImage = Literal["fail", "skip"]


def open_store(source: ImageSource, *, on_bad_image: OnBadImage = "fail", log: Log = lambda _: None) -> AnyStore:
    """Make a split ready to be taken from.

    Args:
        source: the split.
        on_bad_image: what happens where an image is unreadable.
        log: takes a line for the run's log.

    Returns:
        A `Store` where all images have one size and fit in half of memory, else a `LazyStore`.

    Raises:
        DataError: images and labels do not fit together, or an image is unreadable.
    """
    if len(source.targets) == 0:
        return Store(source, Packed(np.zeros((0, 1, 1, 3), dtype=np.uint8), ()))
    images = source.packed()
    if images is not None:
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(source.targets):
            raise DataError(
                f"the dataset gave images of type {images.dtype} and shape {images.shape} for {len(source.targets)} "
                "labels; uint8 (N, H, W, C) belongs there"
            )
        return Store(source, Packed(images, ()))
    return _Opening(source, on_bad_image, log).run()


class _Opening:
    """What the steps of opening a split's files have in common.

    Args:
        source: the split.
        on_bad_image: what happens where an image is unreadable.
        log: takes a line for the run's log.
    """

    def __init__(self, source: ImageSource, on_bad_image: OnBadImage, log: Log) -> None:
        self._source = source
        self._on_bad_image = on_bad_image
        self._log = log
        self._count = len(source.targets)
        self._listing = source.listing()

    def run(self) -> AnyStore:
        """Take the images from the cache, or decode them into it, or leave them where they are."""
        packed = self._cached("")
        if packed is None:
            shape, reason = self._common_shape()
            packed = None if reason else self._decoded(shape)
            if packed is None:
                self._log(f"images stay on the disk and are read during training: {reason or 'they differ in size'}")
                return self._lazy(shape[2])
            self._keep("", packed, f"decoded {self._count} images once")
        return Store(self._source, self._without_bad(packed))

    def _lazy(self, channels: int) -> LazyStore:
        """Leave the images where they are; to skip unreadable ones they must be known first, so look at each once."""
        if self._on_bad_image == "fail":
            return LazyStore(self._source, channels)
        checked = self._cached("checked")
        if checked is None:
            nothing = np.empty((self._count, 0, 0, channels), dtype=np.uint8)
            checked = self._decoded(None)
            assert checked is not None, "without a shape to keep to there is nothing to stop at"
            checked = Packed(nothing, checked.bad, checked.digests)
            self._keep("checked", checked, f"looked for unreadable ones among {self._count} images once")
        checked = self._without_bad(checked)
        return LazyStore(self._source, channels, checked.bad, checked.digests)

    def _common_shape(self) -> tuple[tuple[int, int, int], str]:
        """Return the shape of a sample of the images, and why they cannot all be held ("" where they can)."""
        last = self._count - 1
        sample = []
        for index in sorted({round(step * last / (SAMPLE - 1)) for step in range(SAMPLE)}):
            with contextlib.suppress(DataError):  # dealt with when all are decoded
                sample.append(read(self._source, index).shape)
        if not sample:
            raise self._too_many(min(SAMPLE, self._count), min(SAMPLE, self._count), self._source.describe(0))
        shapes = sorted(set(sample))
        shape: tuple[int, int, int] = shapes[0]
        if len(shapes) > 1:
            few = ", ".join(f"{height} x {width}" for height, width, _ in shapes[:3])
            return shape, f"they differ in size ({few}{', ...' if len(shapes) > 3 else ''})"
        needed, memory = self._count * int(np.prod(shape)), physical_memory()
        if needed > memory // 2:
            return shape, f"{needed / 2**30:.1f} GiB are more than half of {memory / 2**30:.1f} GiB of memory"
        return shape, ""

    def _decoded(self, shape: tuple[int, int, int] | None) -> Packed | None:
        """Decode every image in threads and keep it; None as soon as one has another shape. Without one, keep none."""
        images = np.empty((self._count, *(shape or (0, 0, 0))), dtype=np.uint8)
        digests = np.full(self._count, UNREADABLE, dtype=np.int64)

        def decode(start: int) -> list[int] | None:
            bad = []
            for index in range(start, min(start + TASK, self._count)):
                try:
                    image = read(self._source, index)
                except DataError:
                    images[index] = 0
                    bad.append(index)
                    continue
                if shape is not None and image.shape != shape:
                    return None
                digests[index] = digest_of(image)
                if shape is not None:
                    images[index] = image
            return bad

        all_bad: list[int] = []
        pool = ThreadPoolExecutor(min(32, os.cpu_count() or 1))
        try:
            for bad in pool.map(decode, range(0, self._count, TASK)):
                if bad is None:
                    return None
                all_bad += bad
        finally:
            pool.shutdown(cancel_futures=True)
        return Packed(images, all_bad, digests)

    def _without_bad(self, packed: Packed) -> Packed:
        """Look again at the images that were unreadable; fail, or say which are left out."""
        bad = []
        assert packed.digests is not None
        digests = packed.digests.copy()
        for index in packed.bad:
            try:
                image = read(self._source, index)
            except DataError as error:
                if self._on_bad_image == "fail":
                    raise DataError(error.message, error.hint or SKIP) from error
                bad.append(index)
                if len(bad) <= NAMED:
                    self._log(f"left out: {error.message}")
                continue
            digests[index] = digest_of(image)  # mended since
            if packed.images.size:
                packed.images[index] = image
        if len(bad) > NAMED:
            self._log(f"left out: {len(bad)} unreadable images in all")
        if len(bad) > TOO_MANY_BAD * self._count:
            raise self._too_many(len(bad), self._count, self._source.describe(bad[-1]))
        return Packed(packed.images, bad, digests)

    def _too_many(self, bad: int, count: int, example: str) -> DataError:
        return DataError(
            f"{bad} of {count} images are unreadable, more than a tenth; one of them: {example}",
            "this is more than skipping is meant for; mend or remove them",
        )

    def _path(self, kind: str) -> Path | None:
        """Return where the split's cache belongs; None where there are no files to tell one from another."""
        if self._listing is None:
            return None
        where = str(Path(self._source.describe(0)).absolute())
        decoding = getattr(self._source, "decoding", "")  # other pixels of the same files are kept apart
        try:
            return cache_file(cache.folder() / "images", where + kind, [(decoding, 0, 0), *self._listing])
        except RuntimeError:  # no home folder
            return None

    def _cached(self, kind: str) -> Packed | None:
        path = self._path(kind)
        if path is None:
            return None
        try:
            return read_cache(path, self._count)
        except (ValueError, OSError) as error:
            self._log(f"the image cache {path} is not used, it is built anew: {error}")
            return None

    def _keep(self, kind: str, packed: Packed, done: str) -> None:
        path = self._path(kind)
        if path is None:
            return
        try:
            write_cache(path, packed)
            self._log(f"{done}; kept in {path}")
        except (OSError, ValueError) as error:
            self._log(f"{done}; no cache is kept in {path.parent}: {error}")


def physical_memory() -> int:
    """Return the bytes of memory this process may have: the machine's, or its container's where that is less."""
    limits = []
    try:
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # Windows
        limits.append(8 << 30)
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(int(Path(limit).read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return min(limits)
