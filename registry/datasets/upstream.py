"""One of torchvision's datasets as an `ImageSource`: labels, files and arrays found where upstream keeps them.

Upstream hands out one (PIL image, label) at a time. Where it holds an array, that array is taken; where it knows its
files, they are read as ImageFolder reads its own, cached and in threads; only otherwise is it asked image by image.
Owns that choice. Which datasets there are is torchvision_table.py.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from registry.datasets.decoding import Decoding, Factor
from registry.datasets.source import stamp

LABELS = ("targets", "labels", "_labels", "y")  # where upstream keeps one label per image
FILES = ("_image_files", "_images")  # where it keeps one path per image
PAIRS = ("_samples", "samples", "imgs")  # where it keeps (path, label)
NAMES = ("classes", "categories", "all_categories", "_characters")  # where it keeps the classes' names


class TorchvisionSource:
    """One split of an upstream dataset.

    Args:
        dataset: upstream's object, without transforms.
        name: what messages call it, "MNIST train".
        channels: 3 to turn grey and other images to RGB, 1 to keep grey.
        labels: class indices where upstream has no list of them; None to look for it.
    """

    def __init__(self, dataset: Any, name: str, channels: int, labels: NDArray[np.int64] | None = None) -> None:
        self._dataset = dataset
        self._name = name
        self._channels = channels
        self._files = _files(dataset)
        self._decoding = Decoding()
        self.targets: NDArray[np.int64] = _labels(dataset) if labels is None else labels
        self.class_names: Sequence[str] = _class_names(dataset, self.targets)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Return image `index`, uint8 (H, W, C)."""
        return self._read(index)

    def reduced(self, index: int, factor: Factor) -> NDArray[np.uint8]:
        """Return image `index`, decoded smaller where its format can: by what `factor` says of its (height, width)."""
        return self._read(index, factor)

    def _read(self, index: int, factor: Factor | None = None) -> NDArray[np.uint8]:
        if self._files is not None and self._channels == 3:
            return self._decoding.read(self._files[index], factor)
        picture = self._dataset[index][0].convert("RGB" if self._channels == 3 else "L")
        return np.asarray(picture, dtype=np.uint8).reshape(picture.height, picture.width, self._channels)

    def describe(self, index: int) -> str:
        """Return the path of image `index` where it has one, else its place in the dataset."""
        return f"image {index} of {self._name}" if self._files is None else self._files[index]

    def packed(self) -> NDArray[np.uint8] | None:
        """Return upstream's array as uint8 (N, H, W, C), or None where it holds none."""
        data = getattr(self._dataset, "data", None)
        if data is None or self._files is not None:
            return None
        images = np.asarray(data)
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            return None
        if images.ndim == 3:
            images = images[..., None]
        elif images.shape[1] == 3:  # (N, C, H, W)
            images = images.transpose(0, 2, 3, 1)
        if images.shape[3] < self._channels:
            images = images.repeat(self._channels, axis=3)
        return np.ascontiguousarray(images)

    def listing(self) -> Sequence[tuple[str, int, int]] | None:
        """Return (path, bytes, stamp) per file, or None where upstream knows no files."""
        if self._files is None:
            return None
        return [(path, *_size_and_stamp(path)) for path in self._files]

    @property
    def decoding(self) -> str:
        """How files become pixels; part of the key of their cache."""
        return self._decoding.key

    def remarks(self) -> Sequence[str]:
        """Say what becomes of images that are not plain 8-bit RGB, for the run's log."""
        return [] if self._files is None else self._decoding.remarks(len(self._files), self._files.__getitem__)


def _size_and_stamp(path: str) -> tuple[int, int]:
    """Return bytes and stamp; zeros for a file that is gone: an image that cannot be read."""
    try:
        facts = os.stat(path)  # noqa: PTH116  called for every image
    except OSError:
        return 0, 0
    return facts.st_size, stamp(facts)


def _files(dataset: Any) -> list[str] | None:
    for attribute in FILES:
        files = getattr(dataset, attribute, None)
        if isinstance(files, list) and files and isinstance(files[0], (str, Path)):
            return [str(path) for path in files]
    for attribute in PAIRS:
        pairs = getattr(dataset, attribute, None)
        if isinstance(pairs, list) and pairs and isinstance(pairs[0][0], (str, Path)):
            return [str(path) for path, _ in pairs]
    return None


def _labels(dataset: Any) -> NDArray[np.int64]:
    for attribute in LABELS:
        labels = getattr(dataset, attribute, None)
        if labels is not None and not callable(labels):
            numbers = np.asarray(labels, dtype=np.int64)
            return numbers[:, 0] if numbers.ndim == 2 and getattr(dataset, "compat", False) else numbers  # QMNIST
    for attribute in PAIRS:
        pairs = getattr(dataset, attribute, None)
        if isinstance(pairs, list):
            return np.array([label for _, label in pairs], dtype=np.int64)
    for attribute, column in (("index", 0), ("_flat_character_images", 1)):
        pairs = getattr(dataset, attribute, None)
        if isinstance(pairs, list):
            return np.array([pair[column] for pair in pairs], dtype=np.int64)
    return np.array([int(dataset[index][1]) for index in range(len(dataset))], dtype=np.int64)


def _class_names(dataset: Any, targets: NDArray[np.int64]) -> tuple[str, ...]:
    """Return upstream's names, one per class; "0", "1", ... where it has none."""
    for attribute in NAMES:
        names = getattr(dataset, attribute, None)
        if isinstance(names, (list, tuple)) and names:
            return _apart([_plain(name) for name in names])
    count = int(getattr(dataset, "num_classes", 0)) or int(targets.max(initial=-1)) + 1
    return tuple(str(label) for label in range(count))


def _apart(names: Sequence[str]) -> tuple[str, ...]:
    """Return names that differ: ImageNet has two classes called crane, which get their numbers behind."""
    counts = Counter(names)
    return tuple(f"{name} ({index})" if counts[name] > 1 else name for index, name in enumerate(names))


def _plain(name: object) -> str:
    """Return one name; ImageNet gives several per class."""
    return ", ".join(cast("tuple[str, ...]", name)) if isinstance(name, tuple) else str(name)
