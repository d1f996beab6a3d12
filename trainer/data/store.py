"""One dataset split, to be taken from by index: decoded in one array where that is possible, read ahead otherwise.

Owns the choice between the two and how images lie in memory. Knows nothing of epochs, order or augmentation
(batches.py, pipeline.py), and of datasets only `registry.contracts.ImageSource`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from registry import cache
from registry.contracts import ImageSource
from registry.errors import DataError
from trainer.data.cache import Packed, cache_file, read_cache, write_cache
from trainer.data.readers import SKIP, Images, OnBadImage, Readers, read, read_one

SAMPLE = 16  # images, evenly spread, whose sizes are compared before all are decoded
TASK = 64  # images a thread decodes at a time
TOO_MANY_BAD = 0.1  # share of unreadable images beyond which `skip` is no answer
NAMED = 10  # unreadable images that the log names

Log = Callable[[str], None]


class _Labels:
    """What every store knows without reading an image."""

    def __init__(self, source: ImageSource) -> None:
        self.source = source
        self.targets: Tensor = torch.from_numpy(np.array(source.targets, dtype=np.int64))
        self.class_names: tuple[str, ...] = tuple(source.class_names)

    def __len__(self) -> int:
        return len(self.targets)

    def describe(self, index: int) -> str:
        """Name an image for a message."""
        return self.source.describe(index)

    def masks(self, indices: Sequence[int]) -> NDArray[np.bool_] | None:
        """Return the object masks, (n, H, W), where the dataset knows them; None otherwise."""
        masks = getattr(self.source, "masks", None)
        return None if masks is None else masks(indices)


class Store(_Labels):
    """A split whose images have one size and lie in memory.

    Args:
        source: where images come from; names them in messages and knows their masks, if anything does.
        packed: the images.

    Attributes:
        images: uint8 (N, H, W, C) on the CPU, in memory or memory-mapped.
        targets: class indices, int64 (N,).
        class_names: one per class index.
        image_size: (height, width) in pixels.
        channels: 3 for RGB, 1 for grey.
        bad: indices of unreadable images, which no part may hold.
    """

    def __init__(self, source: ImageSource, packed: Packed) -> None:
        super().__init__(source)
        self.images: Tensor = torch.from_numpy(packed.images)
        self.image_size: tuple[int, int] | None = (self.images.shape[1], self.images.shape[2])
        self.channels: int = self.images.shape[3]
        self.bad: Sequence[int] = tuple(packed.bad)
        self._resident: dict[torch.device, Tensor] = {}

    def gather(self, indices: Tensor) -> Tensor:
        """Take images out.

        Args:
            indices: int64 (n,), on the CPU.

        Returns:
            uint8 (n, H, W, C), a copy.
        """
        return self.images.index_select(0, indices)

    def on(self, device: torch.device) -> Tensor:
        """Return all images on `device`, copied there once."""
        if device.type == "cpu":
            return self.images
        if device not in self._resident:
            self._resident[device] = self.images.to(device)
        return self._resident[device]


class LazyStore(_Labels):
    """A split whose images differ in size or do not fit in memory: read when they are asked for.

    Args:
        source: where images come from.
        channels: 3 for RGB, 1 for grey.
        on_bad_image: `skip` leaves unreadable images out of their batch, `fail` ends the run.
        log: takes a line for each image that is left out.

    Attributes:
        targets: class indices, int64 (N,).
        class_names: one per class index.
        image_size: None.
        channels: 3 for RGB, 1 for grey.
        bad: empty: not known before they are met.
    """

    def __init__(self, source: ImageSource, channels: int, on_bad_image: OnBadImage, log: Log) -> None:
        super().__init__(source)
        self.image_size: tuple[int, int] | None = None
        self.channels = channels
        self.bad: Sequence[int] = ()
        self._on_bad_image = on_bad_image
        self._log = log
        self._readers: Readers | None = None
        self._skipped: set[str] = set()

    def gather(self, indices: Tensor) -> list[NDArray[np.uint8]]:
        """Read images here and now.

        Args:
            indices: int64 (n,).

        Returns:
            uint8 (H, W, C) each, without those that are unreadable and skipped.
        """
        return self._told(read(self.source, indices.tolist(), self._on_bad_image)).pixels

    def batches(self, asked: Iterable[Tensor], workers: int) -> Iterator[Images]:
        """Yield the images of each batch of indices (n,), in order, read ahead by `workers` processes (0: here)."""
        lists = (indices.tolist() for indices in asked)
        if workers == 0:
            images = (read(self.source, indices, self._on_bad_image) for indices in lists)
        else:
            if self._readers is None:  # kept over epochs: starting them costs more than an epoch's first batches
                self._readers = Readers(self.source, workers, self._on_bad_image)
            images = self._readers.batches(lists)  # type: ignore[assignment]
        yield from map(self._told, images)

    def _told(self, images: Images) -> Images:
        """Log what was left out, each image once."""
        for message in images.skipped:
            if message not in self._skipped:
                self._skipped.add(message)
                self._log(f"left out: {message}")
        if len(self._skipped) > max(1, TOO_MANY_BAD * len(self)):
            raise _too_many(len(self._skipped), len(self), images.skipped[-1])
        return images


AnyStore = Store | LazyStore


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
    path = _cache_path(source)
    packed = None if path is None else _from_cache(path, len(source.targets), log)
    if packed is None:
        shape, reason = _common_shape(source, on_bad_image)
        packed = None if reason else _decode_all(source, shape)
        if packed is None:
            log(f"images are read during training by worker processes: {reason or 'they differ in size'}")
            return LazyStore(source, shape[2], on_bad_image, log)
        if path is not None:
            _to_cache(path, packed, log)
    if packed.bad:
        packed = _without_bad(source, packed, on_bad_image, log)
    return Store(source, packed)


def _common_shape(source: ImageSource, on_bad_image: OnBadImage) -> tuple[tuple[int, int, int], str]:
    """Return the shape of a sample of the images, and why they cannot all be held ("" where they can)."""
    count = len(source.targets)
    spread = sorted({round(step * (count - 1) / (SAMPLE - 1)) for step in range(SAMPLE)})
    sample = read(source, spread, on_bad_image).pixels
    shapes = sorted({image.shape for image in sample})
    shape: tuple[int, int, int] = shapes[0]
    if len(shapes) > 1:
        few = ", ".join(f"{height} x {width}" for height, width, _ in shapes[:3])
        return shape, f"they differ in size ({few}{', ...' if len(shapes) > 3 else ''})"
    needed, memory = count * int(np.prod(shape)), physical_memory()
    if needed > memory // 2:
        return shape, f"{needed / 2**30:.1f} GiB are more than half of {memory / 2**30:.1f} GiB of memory"
    return shape, ""


def _decode_all(source: ImageSource, shape: tuple[int, int, int]) -> Packed | None:
    """Decode every image in threads; None as soon as one has another shape."""
    count = len(source.targets)
    images = np.empty((count, *shape), dtype=np.uint8)

    def decode(start: int) -> list[int] | None:
        bad = []
        for index in range(start, min(start + TASK, count)):
            try:
                image = read_one(source, index)
            except DataError:
                images[index] = 0
                bad.append(index)
                continue
            if image.shape != shape:
                return None
            images[index] = image
        return bad

    all_bad: list[int] = []
    pool = ThreadPoolExecutor(min(32, os.cpu_count() or 1))
    try:
        for bad in pool.map(decode, range(0, count, TASK)):
            if bad is None:
                return None
            all_bad += bad
    finally:
        pool.shutdown(cancel_futures=True)
    return Packed(images, all_bad)


def _without_bad(source: ImageSource, packed: Packed, on_bad_image: OnBadImage, log: Log) -> Packed:
    """Look again at the images that were unreadable; fail, or say which are left out."""
    bad = []
    for index in packed.bad:
        try:
            packed.images[index] = read_one(source, index)
        except DataError as error:
            if on_bad_image == "fail":
                raise DataError(error.message, error.hint or SKIP) from error
            bad.append(index)
            if len(bad) <= NAMED:
                log(f"left out: {error.message}")
    if len(bad) > NAMED:
        log(f"left out: {len(bad)} unreadable images in all")
    if len(bad) > TOO_MANY_BAD * len(packed.images):
        raise _too_many(len(bad), len(packed.images), source.describe(bad[-1]))
    return Packed(packed.images, bad)


def _too_many(bad: int, count: int, example: str) -> DataError:
    return DataError(
        f"{bad} of {count} images are unreadable, more than a tenth; the last: {example}",
        "this is more than skipping is meant for; mend or remove them",
    )


# ---------------------------------------------------------------------------------------------------------------- cache
def _cache_path(source: ImageSource) -> Path | None:
    listing = source.listing()
    if listing is None:
        return None
    try:
        return cache_file(cache.folder() / "images", str(Path(source.describe(0)).absolute()), listing)
    except RuntimeError:  # no home folder
        return None


def _from_cache(path: Path, count: int, log: Log) -> Packed | None:
    try:
        return read_cache(path, count)
    except (ValueError, OSError) as error:
        log(f"the image cache {path} is not used, it is built anew: {error}")
        return None


def _to_cache(path: Path, packed: Packed, log: Log) -> None:
    try:
        write_cache(path, packed)
        log(f"decoded {len(packed.images)} images once; kept in {path}")
    except (OSError, ValueError) as error:
        log(f"decoded {len(packed.images)} images; no cache is kept in {path.parent}: {error}")


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
