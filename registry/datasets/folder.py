"""ImageFolder: the reader's own images, one folder per class.

Owns what lies where: splits, class names, which files count. How a file becomes pixels is decoding.py; that images are
decoded once and cached is trainer/data.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from registry.contracts import DataFacts
from registry.datasets.decoding import is_image, read_image
from registry.datasets.source import MissingSplit, stamp
from registry.errors import DataError

SPLITS = ("train", "val", "test")
MISNAMED = {"valid": "val", "validation": "val", "dev": "val", "training": "train", "testing": "test"}
SHOWN = 8  # names in a message


class ImageFolder:
    """Images in folders: `root/train/<class>/...`, `root/val/<class>/...`, `root/test/<class>/...`.

    Where `root` has none of these three, its own folders are the classes and all images are the training split. Class
    names are the training folders' names in alphabetical order; another split may lack a class, but not bring one of
    its own. Folders below a class folder count too; names that begin with a dot do not.

    Args:
        root: the folder, relative to the working directory.
        split: "train", "val" or "test".
        download: there is nothing to fetch; taken so that all datasets open alike.
    """

    facts = DataFacts(splits=dict.fromkeys(SPLITS), channels=3)

    def __init__(self, root: str = "data", *, split: str, download: bool) -> None:
        del download  # the images are the reader's own
        top = _subfolders(root, f"there is no folder {root}")
        divided = any(name in SPLITS for name in top)
        self._folder = _split_folder(root, split, top, divided)
        reference = os.path.join(root, "train") if divided else root  # noqa: PTH118  thousands of joins follow
        classes = _subfolders(reference, f"ImageFolder has no split 'train': there is no {reference}")
        if not classes:
            raise DataError(
                f"{reference} has no class folders",
                "one folder per class belongs there: train/cat/1.jpg, train/dog/2.jpg, ...",
            )
        present = classes if self._folder == reference else _subfolders(self._folder, "")
        strange = [name for name in present if name not in set(classes)]
        if strange:
            raise DataError(
                f"{self._folder} has {len(present)} class folders, {reference} has {len(classes)}; not in train: "
                f"{_some(strange)}",
                "the folders' names are the classes: give them the same names in every split",
            )
        self.class_names: Sequence[str] = tuple(classes)
        self._files: list[tuple[str, int, int]] = []
        targets: list[int] = []
        for name in present:
            found = sorted(_images(os.path.join(self._folder, name), name))  # noqa: PTH118
            if not found:
                raise DataError(
                    f"class folder {os.path.join(self._folder, name)} holds no image",  # noqa: PTH118
                    "put images there, or remove it",
                )
            self._files += found
            targets += [classes.index(name)] * len(found)
        self.targets: NDArray[np.int64] = np.array(targets, dtype=np.int64)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Decode image `index`, RGB uint8 (H, W, 3)."""
        return read_image(self.describe(index))

    def describe(self, index: int) -> str:
        """Return the path of image `index`."""
        return os.path.join(self._folder, self._files[index][0])  # noqa: PTH118

    def packed(self) -> None:
        """Return None: images are read one by one."""
        return

    def listing(self) -> Sequence[tuple[str, int, int]]:
        """Return (path below the split's folder, bytes, stamp) per image."""
        return self._files


def _split_folder(root: str, split: str, top: Sequence[str], divided: bool) -> str:
    """Return where a split's class folders lie.

    Raises:
        MissingSplit: nowhere.
        DataError: there is a folder that is probably meant, under another name.
    """
    if split == "train" and not divided:
        misnamed = [name for name in top if name in MISNAMED]
        if misnamed:
            raise DataError(_advice(root, misnamed[0]), f"rename it to {MISNAMED[misnamed[0]]}")
        return root
    if split not in top or split not in SPLITS:
        for name in top:
            if MISNAMED.get(name) == split:
                raise DataError(_advice(root, name), f"rename it to {split}")
        raise MissingSplit(f"ImageFolder has no split {split!r}: {root} holds {_some(top) or 'no folders'}")
    return os.path.join(root, split)  # noqa: PTH118


def _advice(root: str, name: str) -> str:
    return f"{os.path.join(root, name)} looks like a split, but splits are called train, val and test"  # noqa: PTH118


def _subfolders(folder: str, missing: str) -> list[str]:
    """Return the names of the visible folders in `folder`, sorted."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.name[0] != "." and entry.is_dir())
    except FileNotFoundError:
        raise DataError(missing, "data.dataset.root is relative to the working directory") from None
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror or error}") from error


def _images(folder: str, name: str) -> Iterator[tuple[str, int, int]]:
    """Yield (path below the split, bytes, stamp) per image below a class folder; `name` is its path so far."""
    left = [(folder, name, frozenset[str]())]
    while left:
        folder, name, above = left.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    below = f"{name}/{entry.name}"
                    if entry.name[0] == ".":
                        continue
                    if is_image(entry.name):
                        facts = entry.stat()
                        yield below, facts.st_size, stamp(facts)
                    elif entry.is_dir():
                        here = os.path.realpath(folder)
                        if entry.is_symlink() and os.path.realpath(entry.path) in above | {here}:
                            continue  # a link to a folder we are in: going round would never end
                        left.append((entry.path, below, above | {here}))
        except OSError as error:
            where = error.filename or folder
            raise DataError(f"{where} cannot be read: {error.strerror or error}") from error


def _some(names: Sequence[str]) -> str:
    more = f", ... ({len(names) - SHOWN} more)" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
