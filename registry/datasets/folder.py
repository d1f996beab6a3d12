"""ImageFolder: the reader's own images, one folder per class.

Owns what lies where: which files of a class folder count. What the folders at the top mean is layout.py, how a file
becomes pixels decoding.py; that images are decoded once and cached is trainer/data.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from registry.catalogue.markers import Bounds, Text
from registry.contracts import DataFacts
from registry.datasets.decoding import FULL, Decoding, ending, is_image
from registry.datasets.layout import SPLITS, Layout, some, subfolders, understood
from registry.datasets.source import stamp
from registry.errors import DataError

CONVERT = {".heic", ".heif", ".jxl", ".psd", ".svg", ".cr2", ".nef", ".dng", ".exr"}  # images that OpenCV cannot read


class ImageFolder:
    """Images in folders: `root/train/<class>/...`, `root/val/<class>/...`, `root/test/<class>/...`.

    Where `root` has none of these three, its own folders are the classes and all images are the training split. Class
    names are the training folders' names in alphabetical order; another split may lack a class. One that it brings of
    its own is refused in training, and comes after them where a trained network is measured. Folders below a class
    folder count too; names that begin with a dot do not. Transparent pixels become white.

    Args:
        root: the folder, relative to the working directory.
        layout: what the folders in `root` are: `splits`, of which only train, val and test count; `classes`, whatever
            their names; `auto` takes what can be meant in one way only.
        white_level: value of 16-bit images that becomes 255, 4095 where they hold 12 bits; 65535 keeps the upper 8
            bits. Images of 8 bits stay as they are.
        split: "train", "val" or "test".
        download: there is nothing to fetch; taken so that all datasets open alike.
    """

    facts = DataFacts(splits=dict.fromkeys(SPLITS), channels=3)

    def __init__(
        self,
        root: Annotated[str, Text("path")] = "data",
        layout: Layout = "auto",
        white_level: Annotated[int, Bounds(min=255, max=FULL)] = FULL,
        *,
        split: str,
        download: bool,
    ) -> None:
        del download  # the images are the reader's own
        self._decoding = Decoding(white_level)
        folders = understood(root, layout)
        self._folder = folders.of(split)
        reference, classes = folders.reference, folders.classes
        present = classes if split == "train" else subfolders(self._folder, "")
        self.class_names: Sequence[str] = (*classes, *(name for name in present if name not in set(classes)))
        self._files: list[tuple[str, int, int]] = []
        self._remarks = [*folders.remarks] if self._folder == reference else []
        passed_over = _PassedOver()
        targets: list[int] = []
        for name in present:
            found = sorted(_images(os.path.join(self._folder, name), name, passed_over))  # noqa: PTH118
            if not found:
                raise _empty(os.path.join(self._folder, name), passed_over)  # noqa: PTH118
            self._files += found
            targets += [self.class_names.index(name)] * len(found)
        passed_over.look_beside(self._folder)
        self._remarks += passed_over.remarks(self._folder)
        self.targets: NDArray[np.int64] = np.array(targets, dtype=np.int64)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Decode image `index`, RGB uint8 (H, W, 3)."""
        return self._decoding.read(self.describe(index))

    def describe(self, index: int) -> str:
        """Return the path of image `index`."""
        return os.path.join(self._folder, self._files[index][0])  # noqa: PTH118

    def packed(self) -> None:
        """Return None: images are read one by one."""
        return

    def listing(self) -> Sequence[tuple[str, int, int]]:
        """Return (path below the split's folder, bytes, stamp) per image."""
        return self._files

    @property
    def decoding(self) -> str:
        """How files become pixels; part of the key of their cache."""
        return self._decoding.key

    def remarks(self) -> Sequence[str]:
        """Say what was passed over, and what becomes of images that are not plain 8-bit RGB, for the run's log."""
        return [*self._remarks, *self._decoding.remarks(len(self._files), self.describe)]


class _PassedOver:
    """Counts what lies beside the images of a split and is not taken."""

    def __init__(self) -> None:
        self._by_ending: Counter[str] = Counter()
        self._by_place = 0
        self._odd: list[str] = []

    def file(self, name: str) -> None:
        """Take note of a file whose name is none of an image."""
        self._by_ending[ending(name) or "none"] += 1

    def odd(self, path: str) -> None:
        """Take note of a pipe, a socket or a device."""
        self._odd.append(path)

    def look_beside(self, folder: str) -> None:
        """Count the files that lie in a split's folder itself, where none belongs to a class."""
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name[0] != "." and entry.is_file()]
        self._by_place = sum(map(is_image, names))

    def endings(self) -> str:
        """Return the endings not taken with their numbers, the most frequent first."""
        return ", ".join(f"{name} {count}" for name, count in sorted(self._by_ending.items(), key=_most_first))

    def hint(self) -> str:
        """Say what to do where some of the endings are those of images."""
        unread = sorted(CONVERT & set(self._by_ending))
        return f"convert {' and '.join(unread)} to .jpg or .png: OpenCV does not read them" if unread else ""

    def remarks(self, folder: str) -> list[str]:
        """Return a sentence for each kind of thing passed over."""
        said = []
        if self._by_ending:
            count = self._by_ending.total()
            files = "1 file is no image by its name" if count == 1 else f"{count} files are no images by their names"
            hint = self.hint()
            said.append(f"{folder}: {files}: {self.endings()}{f'; {hint}' if hint else ''}")
        if self._by_place:
            said.append(f"{folder}: {self._by_place} images lie in no class folder and are not used")
        if self._odd:
            said.append(f"{folder}: left out, being no plain files: {some(sorted(self._odd))}")
        return said


def _most_first(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _empty(folder: str, passed_over: _PassedOver) -> DataError:
    """Return the error for a class folder without images; what was passed over lies there or in one before it."""
    alone = _PassedOver()
    for _ in _images(folder, "", alone):
        pass
    held = alone.endings()
    beside = f"; its files are no images by their names: {held}" if held else ""
    hint = alone.hint() or passed_over.hint() if held else ""
    return DataError(f"class folder {folder} holds no image{beside}", hint or "put images there, or remove it")


def _images(folder: str, name: str, passed_over: _PassedOver) -> Iterator[tuple[str, int, int]]:
    """Yield (path below the split, bytes, stamp) per image below a class folder; `name` is its path so far.

    A link to nothing is yielded with size 0: an image that cannot be read.
    """
    left = [(folder, name, frozenset[str]())]
    while left:
        folder, name, above = left.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    below = f"{name}/{entry.name}"
                    if entry.name[0] == ".":
                        continue
                    if entry.is_dir():
                        here = os.path.realpath(folder)
                        if entry.is_symlink() and os.path.realpath(entry.path) in above | {here}:
                            continue  # a link to a folder we are in: going round would never end
                        left.append((entry.path, below, above | {here}))
                    elif not is_image(entry.name):
                        passed_over.file(entry.name)
                    elif (facts := _facts(entry)) is None:
                        passed_over.odd(entry.path)
                    else:
                        yield below, *facts
        except OSError as error:
            where = error.filename or folder
            raise DataError(f"{where} cannot be read: {error.strerror or error}") from error


def _facts(entry: os.DirEntry[str]) -> tuple[int, int] | None:
    """Return (bytes, stamp) of a file, zeros for a link to nothing; None for what is no plain file."""
    try:
        facts = entry.stat()
    except OSError:
        return 0, 0
    return (facts.st_size, stamp(facts)) if stat.S_ISREG(facts.st_mode) else None
