"""ImageFolder: the reader's own images, one folder per class.

Owns what lies where: which files of a class folder count. What the folders at the top mean is layout.py, how a file
becomes pixels decoding.py; that images are decoded once and cached is trainer/data.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from registry.catalogue.markers import Bounds, Text
from registry.catalogue.suggest import nearest
from registry.contracts import DataFacts, FromArgument
from registry.datasets.decoding import FULL, Background, Decoding, Factor, content_of, ending, endings_of, is_image
from registry.datasets.layout import SPLITS, Endings, Folders, Layout, links_upward, some, subfolders, understood
from registry.datasets.source import MissingSplit, UnchosenSplit, stamp
from registry.errors import DataError
from registry.printing import alike, counted

CONVERT = {".heic", ".heif", ".jxl", ".psd", ".svg", ".cr2", ".nef", ".dng", ".exr"}  # images that OpenCV cannot read


class ImageFolder:
    """Images in folders: `root/train/<class>/...`, `root/val/<class>/...`, `root/test/<class>/...`.

    Where `root` has none of these three, its own folders are the classes and all images are the training split. Class
    names are the training folders' names in alphabetical order; another split may lack a class. One that it brings of
    its own is refused in training, and comes after them where a trained network is measured. Folders below a class
    folder count too; names that begin with a dot do not.

    Args:
        root: the folder, relative to the working directory.
        layout: what the folders in `root` are: `splits`, of which only train, val and test count; `classes`, whatever
            their names; `auto` takes what can be meant in one way only.
        classes: the folders that count, in this order; omitted: all, by name.
        extensions: endings of the files that count, as .png; omitted: those of images that OpenCV reads.
        channels: 3 for RGB, 1 for grey.
        bits: of deep images, 12 or 14 in files of 16: the greatest value of so many bits becomes 255.
        white_level: the same as a value, 4095 for 12 bits; 65535 keeps the upper 8 bits. Images of 8 bits stay as they
            are.
        background: what shows through transparent pixels: white, black or an RGB colour.
        split: "train", "val" or "test".
        download: there is nothing to fetch; taken so that all datasets open alike.
    """

    facts = DataFacts(
        splits=dict.fromkeys(SPLITS),
        channels=3,
        follows={"channels": FromArgument("channels"), "class_names": FromArgument("classes")},
    )

    def __init__(
        self,
        root: Annotated[str, Text("path")] = "data",
        layout: Layout = "auto",
        white_level: Annotated[int, Bounds(min=255, max=FULL)] = FULL,
        classes: Sequence[str] | None = None,
        extensions: Sequence[str] | None = None,
        channels: Literal[1, 3] = 3,
        bits: Annotated[int, Bounds(min=8, max=16)] | None = None,
        background: Background = "white",
        *,
        split: str,
        download: bool,
    ) -> None:
        del download  # the images are the reader's own
        self._decoding = Decoding.of(white_level, bits, channels, background)
        endings = None if extensions is None else frozenset(endings_of(extensions))
        folders = understood(root, layout, endings)
        self._folders, self._endings = folders, endings
        self._folder = folders.of(split)
        chosen = folders.classes if classes is None else _chosen(classes, folders)
        present = folders.classes if split == "train" else tuple(subfolders(self._folder, ""))
        own = () if classes is not None else tuple(name for name in present if name not in set(chosen))
        self.class_names: Sequence[str] = (*chosen, *own)
        self._files: list[tuple[str, int, int]] = []
        self._remarks = [*folders.remarks] if self._folder == folders.reference else []
        if links := links_upward(self._folder):
            self._remarks.append(f"{self._folder}: no class, being a link to a folder that it lies in: {some(links)}")
        passed_over = _PassedOver(endings)
        targets: list[int] = []
        number = {name: index for index, name in enumerate(self.class_names)}
        if classes is not None and not set(present) & set(number):
            why = f"{self._folder} has no folder of a chosen class"
            meant = {name.casefold() for name in chosen}
            if twins := [name for name in present if name.casefold() in meant]:
                there = f"there {'are' if len(twins) > 1 else 'is'} {', '.join(twins[:5])}"
                raise DataError(why, f"{there}: give a class one name everywhere")
            raise UnchosenSplit(f"ImageFolder has no split {split!r}: {why}")
        if not present:
            passed_over.look_beside(self._folder)
            raise UnchosenSplit(
                f"ImageFolder has no split {split!r}: {self._folder} has no class folders{passed_over.beside()}",
                "a folder per class, with its images, tells their labels",
            )
        for name in (name for name in present if name in number):
            found = sorted(_images(os.path.join(self._folder, name), name, passed_over))  # noqa: PTH118
            if not found:
                raise _empty(os.path.join(self._folder, name), passed_over)  # noqa: PTH118
            self._files += found
            targets += [number[name]] * len(found)
        passed_over.look_beside(self._folder)
        left_out = [name for name in present if name not in number]
        if self._folder == folders.reference:
            twins = alike(chosen)
            self._remarks += [f"warning: {self._folder}: {each}, and are classes of their own" for each in twins]
        self._remarks += [*_not_chosen(self._folder, left_out, endings), *passed_over.remarks(self._folder)]
        self.targets: NDArray[np.int64] = np.array(targets, dtype=np.int64)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Decode image `index`, uint8 (H, W, C)."""
        return self._decoding.read(self.describe(index))

    def content(self, index: int) -> bytes:
        """Return the bytes of image `index`'s file."""
        return content_of(self.describe(index))

    def reduced(self, index: int, factor: Factor) -> NDArray[np.uint8]:
        """Decode image `index` smaller where its format can: by what `factor` says of its (height, width)."""
        return self._decoding.read(self.describe(index), factor)

    def describe(self, index: int) -> str:
        """Return the path of image `index`."""
        return os.path.join(self._folder, self._files[index][0])  # noqa: PTH118

    def column(self, name: str) -> Sequence[str]:
        """Return what is told of each image beside its class: "folder", the one below its class's; "" without.

        Raises:
            DataError: another name.
        """
        if name != "folder":
            raise DataError(
                f"data.val.group: of images in folders only 'folder' is known, that below their class's, not {name!r}",
                "list them in a table for more: dataset: {type: Table, file: labels.csv}",
            )
        below = (path.split("/")[1:-1] for path, _, _ in self._files)
        return [folders[0] if folders else "" for folders in below]

    def count_of(self, split: str) -> int:
        """Return how many images a split has, 0 where there is none."""
        try:
            folder = self._folders.of(split)
        except MissingSplit:
            return 0
        ours = [name for name in subfolders(folder, "") if name in set(self.class_names)]
        beside = _PassedOver(self._endings)
        return sum(1 for name in ours for _ in _images(os.path.join(folder, name), name, beside))  # noqa: PTH118

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


def pictures_below(folder: str) -> tuple[list[str], list[str]]:
    """Return the paths of all images below a folder, whatever its folders are, by name; and what was passed over.

    Raises:
        DataError: a folder cannot be read.
    """
    passed_over = _PassedOver(None)
    found = sorted(name for name, _, _ in _images(folder, "", passed_over))
    return [os.path.join(folder, name.lstrip("/")) for name in found], passed_over.remarks(folder)  # noqa: PTH118


def _chosen(classes: Sequence[str], folders: Folders) -> tuple[str, ...]:
    """Return the classes that a recipe names; refuse one that has no folder to learn from."""
    learns = not folders.splits or "train" in folders.splits
    for name in classes:
        if learns and name not in folders.classes:
            near = nearest(name, folders.classes)
            hint = f"did you mean {near[0]!r}?" if near else f"the class folders are {some(folders.classes)}"
            raise DataError(f"data.dataset.classes: {folders.reference} has no class folder {name!r}", hint)
    return tuple(classes)


def _not_chosen(folder: str, names: Sequence[str], endings: Endings) -> list[str]:
    """Say which class folders of a split are left out, with their images; nothing where none is."""
    counts = {
        name: sum(1 for _ in _images(os.path.join(folder, name), "", _PassedOver(endings)))  # noqa: PTH118
        for name in names
    }
    if not counts:
        return []
    counted = some([f"{name} {count:,}" for name, count in counts.items()])
    total = sum(counts.values())
    images = "1 image is left out, its class is" if total == 1 else f"{total:,} images are left out, their class is"
    return [f"{folder}: {images} not chosen: {counted}"]


class _PassedOver:
    """Counts what lies beside the images of a split and is not taken.

    Args:
        endings: of files that are images; None for those that OpenCV reads.
    """

    def __init__(self, endings: Endings) -> None:
        self.endings = endings
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
        self._by_place = sum(is_image(name, self.endings) for name in names)

    def held(self) -> str:
        """Return the endings not taken with their numbers, the most frequent first."""
        return ", ".join(f"{name} {count}" for name, count in sorted(self._by_ending.items(), key=_most_first))

    def beside(self) -> str:
        """Say what images lie where only class folders belong; "" for none."""
        count = self._by_place
        return f", and the {counted(count, 'image')} in it {'has' if count == 1 else 'have'} no label" if count else ""

    def hint(self) -> str:
        """Say what to do where some of the endings are those of images."""
        unread = sorted(CONVERT & set(self._by_ending)) if self.endings is None else []
        return f"convert {' and '.join(unread)} to .jpg or .png: OpenCV does not read them" if unread else ""

    def remarks(self, folder: str) -> list[str]:
        """Return a sentence for each kind of thing passed over."""
        said = []
        if self._by_ending:
            count = self._by_ending.total()
            files = "1 file is no image by its name" if count == 1 else f"{count} files are no images by their names"
            if self.endings is not None:
                files = f"{count} file{' is' if count == 1 else 's are'} not of data.dataset.extensions"
            hint = self.hint()
            said.append(f"{folder}: {files}: {self.held()}{f'; {hint}' if hint else ''}")
        if self._by_place:
            said.append(f"{folder}: {self._by_place} images lie in no class folder and are not used")
        if self._odd:
            said.append(f"{folder}: left out, being no plain files: {some(sorted(self._odd))}")
        return said


def _most_first(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _empty(folder: str, passed_over: _PassedOver) -> DataError:
    """Return the error for a class folder without images; what was passed over lies there or in one before it."""
    alone = _PassedOver(passed_over.endings)
    for _ in _images(folder, "", alone):
        pass
    held = alone.held()
    why = "no images by their names" if alone.endings is None else "not of data.dataset.extensions"
    beside = f"; its files are {why}: {held}" if held else ""
    hint = alone.hint() or passed_over.hint() if held else ""
    return DataError(f"class folder {folder} holds no image{beside}", hint or "put images there, or remove it")


def _images(folder: str, name: str, passed_over: _PassedOver) -> Iterator[tuple[str, int, int]]:
    """Yield (path below the split, bytes, stamp) per image below a class folder; `name` is its path so far.

    A link to nothing is yielded with size 0: an image that cannot be read.
    """
    real, place = Path(folder).resolve(), Path(folder).parent.resolve()  # where a link leads, and where it lies
    left = [(folder, name, frozenset(map(str, (*real.parents, place, *place.parents))))]
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
                    elif not is_image(entry.name, passed_over.endings):
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
