"""What the folders below an image folder's root mean: splits or classes, and when that cannot be told.

    root/train/<class>/...   splits, called train, val and test
    root/<class>/...         classes; all images are the training split

Nothing is guessed: where both readings are possible, or a name looks like a split's but is none, an error names the
readings and the ways out. Owns the names of splits. Knows nothing of image files but whether a folder has any.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from registry.datasets.decoding import is_image
from registry.datasets.source import MissingSplit
from registry.errors import DataError

Layout = Literal["auto", "splits", "classes"]
Endings = frozenset[str] | None  # of files that are images; None for those that OpenCV reads

SPLITS = ("train", "val", "test")
SHOWN = 8  # names in a message

_LIKE = {
    **dict.fromkeys(("train", "training", "trn", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "validating", "dev", "eval", "evaluation"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "holdout"), "test"),
}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_BESIDE_A_WORD = re.compile(r"[^a-z]+|(?<=[a-z])(sets?|data|dataset|images?|imgs?|split|folder)$")


def split_like(name: str) -> str:
    """Return the split that a folder's name looks like, "" for none: Train, VAL, validation, training_set, test-images.

    Args:
        name: of the folder.
    """
    word = name.lower()
    while (shorter := _BESIDE_A_WORD.sub("", word)) != word:
        word = shorter
    return _LIKE.get(word, "")


def splits_among(names: Sequence[str]) -> dict[str, str]:
    """Return those of some folders' names that look like splits, each with its split.

    A name does where it says a split and nothing else (`split_like`), and where the same words stand beside another
    split's name as well: seg_train and seg_test, but not steam_train and bullet_train.

    Args:
        names: of folders that lie side by side.
    """
    alike = {name: split for name in names if (split := split_like(name))}
    about: dict[str, dict[str, str]] = {}
    for name in names:
        for split, rest in _said_beside(name):
            about.setdefault(rest, {})[name] = split
    for named in about.values():
        if len(set(named.values())) > 1:
            alike = {**named, **alike}
    return {name: alike[name] for name in names if name in alike}


def _said_beside(name: str) -> Iterator[tuple[str, str]]:
    """Yield the splits that a word of a name says, each with the other words, in small letters."""
    words = [word.lower() for word in _WORD.findall(name)]
    for place, word in enumerate(words):
        if len(words) > 1 and (split := split_like(word)):
            yield split, " ".join(words[:place] + words[place + 1 :])


@dataclass(frozen=True)
class Folders:
    """What the folders below a root mean.

    Attributes:
        root: the root.
        splits: those there are; empty where the root's own folders are the classes.
        classes: names of the training split's class folders, of all splits where that is missing, sorted.
        remarks: what is not used, a sentence each.
    """

    root: str
    splits: tuple[str, ...]
    classes: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """Where the classes' names were read first."""
        return _join(self.root, self.splits[0]) if self.splits else self.root

    def of(self, split: str) -> str:
        """Return where a split's class folders lie.

        Raises:
            MissingSplit: nowhere.
        """
        if split == "train" and not self.splits:
            return self.root
        if split in self.splits:
            return _join(self.root, split)
        raise MissingSplit(f"ImageFolder has no split {split!r}: {self._holds()}")

    def _holds(self) -> str:
        held = some(self.splits or self.classes)
        return f"{self.root} holds {'the splits' if self.splits else 'the classes'} {held}"


def understood(root: str, layout: Layout, endings: Endings = None) -> Folders:
    """Read the folders below a root.

    Args:
        root: a folder.
        layout: what the reader says of it.
        endings: of files that are images; None for those that OpenCV reads.

    Raises:
        DataError: there is no such folder, it has no class folders, or it can be meant in more than one way.
    """
    top = subfolders(root, f"there is no folder {root}")
    if layout == "classes":
        return Folders(root, (), _classes(root, top))
    if layout == "auto":
        _refuse_what_can_be_meant_twice(root, top, endings)
    named = tuple(name for name in SPLITS if name in top)
    if layout == "auto" and (not named or _are_classes(root, top, endings)):
        return Folders(root, (), _level_checked(root, _classes(root, top), endings))
    if not named:
        raise MissingSplit(f"ImageFolder has no split 'train': {root} holds {some(top) or 'no folders'}")
    telling = ["train"] if "train" in named else named  # without it nothing is learnt: the root is measured on
    found = {_join(root, split): _classes(_join(root, split), subfolders(_join(root, split), "")) for split in telling}
    if layout == "auto":
        found = {folder: _level_checked(folder, names, endings) for folder, names in found.items()}
    classes = tuple(sorted(set().union(*found.values())))
    unused = [name for name in top if name not in named]
    remarks = (f"{root}: not used, being no split: {some(unused)}",) if unused else ()
    return Folders(root, named, classes, remarks)


def _classes(folder: str, names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        raise DataError(
            f"{folder} has no class folders",
            "one folder per class belongs there: train/cat/1.jpg, train/dog/2.jpg, ...",
        )
    return tuple(names)


# ------------------------------------------------------------------------------------------------------- two readings
def _refuse_what_can_be_meant_twice(root: str, top: Sequence[str], endings: Endings) -> None:
    """Refuse a root whose folders may be splits and may be classes, and splits that are not called as they should."""
    alike = splits_among(top)
    others = [name for name in top if name not in alike]
    if not alike or _are_classes(root, top, endings):
        return
    with_images = [name for name in others if _holds_images(_join(root, name), endings)]
    if with_images:
        raise DataError(
            f"{root} can be read in two ways: {_listed(list(alike))} as {_kind(len(alike), 'split')}, or all of "
            f"{some(top)} as classes",
            f"say which: {_renaming(alike)}data.dataset.layout: splits leaves out what is called otherwise, "
            "classes takes every folder",
        )
    for name, split in alike.items():
        if name != split:
            ways = [] if split in top else [f"rename it to {split}"]
            ways += ["data.dataset.layout: splits leaves it out"] if "train" in top else []
            raise DataError(
                f"{_join(root, name)} looks like a split, but splits are called train, val and test",
                "; or ".join([*ways, "data.dataset.layout: classes takes every folder for a class"]),
            )
    if not any(subfolders(_join(root, name), "") for name in alike):
        reference = _join(root, "train" if "train" in alike else next(iter(alike)))
        raise DataError(
            f"{reference} has no class folders, its images have no class",
            "one folder per class belongs there: train/cat/1.jpg, train/dog/2.jpg, ...; where train itself is a class, "
            "set data.dataset.layout: classes",
        )


def _renaming(alike: Mapping[str, str]) -> str:
    """Say how folders become splits by their names; "" where they are called so."""
    names = [f"{name} to {split}" for name, split in alike.items() if name != split]
    return f"rename {' and '.join(names)}, and " if names else ""


def _are_classes(root: str, top: Sequence[str], endings: Endings) -> bool:
    """Say whether a folder with a split's name is plainly a class: it has images of its own, and classes beside it."""
    alike = list(splits_among(top))
    others = [name for name in top if name not in alike]
    if len(alike) != 1 or not others:
        return False
    (name,) = alike
    return _has_own_images(_join(root, name), endings) and all(
        _holds_images(_join(root, other), endings) for other in others
    )


def _level_checked(folder: str, classes: tuple[str, ...], endings: Endings) -> tuple[str, ...]:
    """Return class folders; refuse them where they hold splits, or are splits: the level is wrong.

    Raises:
        DataError: so it is.
    """
    if len(splits_among(classes)) == len(classes):
        raise DataError(
            f"the class folders of {folder} are called {_listed(classes)}, which are splits' names",
            f"set data.dataset.root: {folder}, or data.dataset.layout: splits where they are classes",
        )
    for name in classes:
        here = _join(folder, name)
        inner = subfolders(here, "")
        splits = list(splits_among(inner))
        if splits and not any(_holds_images(_join(here, below), endings) for below in inner if below not in splits):
            deeper = any(subfolders(_join(here, split), "") for split in splits)
            way = f"set data.dataset.root: {here}" if deeper else f"splits come first: {splits[0]}/{name}"
            raise DataError(
                f"{here} would be a class, but holds {_listed(splits)}, which look like splits",
                f"{way}; or data.dataset.layout: {_layout_for(folder)} takes all images below {name} for one class",
            )
    if shared := _classes_of_all(folder, classes, endings):
        first = _below_lone(_join(folder, classes[0]), endings)
        raise DataError(
            f"the class folders of {folder} ({_listed(classes)}) all hold the same folders, {_listed(shared)}: "
            "these look like the classes, and those above like splits",
            f"put them below train, val and test, as train/{shared[0]}, or set data.dataset.root: {first}; or "
            f"data.dataset.layout: {_layout_for(folder)} takes {_listed(classes)} for the classes",
        )
    return classes


def _classes_of_all(folder: str, classes: Sequence[str], endings: Endings) -> list[str]:
    """Return the folders that each of two class folders or more holds, with images, beside nothing else; [] if not."""
    shared: list[str] = []
    for name in classes:
        here = _below_lone(_join(folder, name), endings)
        inner = subfolders(here, "")
        if len(inner) < 2 or (shared and _folded(inner) != _folded(shared)) or _has_own_images(here, endings):
            return []
        shared = inner
    lone = [_below_lone(_join(folder, name), endings) for name in classes]
    complete = all(_holds_images(_join(here, one), endings) for here in lone for one in shared)
    return shared if complete and len(classes) > 1 else []


def _folded(names: Sequence[str]) -> set[str]:
    return {name.casefold() for name in names}


def _below_lone(folder: str, endings: Endings) -> str:
    """Return the first folder, from `folder` down, that holds images or more than one folder."""
    while len(inner := subfolders(folder, "")) == 1 and not _has_own_images(folder, endings):
        folder = _join(folder, inner[0])
    return folder


def _layout_for(folder: str) -> str:
    return "splits" if folder.endswith(os.sep + "train") else "classes"


def _kind(count: int, word: str) -> str:
    return f"a {word}" if count == 1 else f"{word}s"


def _listed(names: Sequence[str]) -> str:
    return some(names) if len(names) != 2 else f"{names[0]} and {names[1]}"


# -------------------------------------------------------------------------------------------------------- what is there
def subfolders(folder: str, missing: str) -> list[str]:
    """Return the names of the visible folders in `folder`, sorted, without `links_upward`.

    Args:
        folder: the folder.
        missing: what is said where it does not exist.

    Raises:
        DataError: it does not exist or cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if entry.name[0] != "." and entry.is_dir()]
            return sorted(entry.name for entry in found if not _leads_upward(entry))
    except FileNotFoundError:
        raise DataError(missing, _where_it_ends(folder)) from None
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror or error}") from error


def links_upward(folder: str) -> list[str]:
    """Return the names of links to a folder's self or to what it lies in, sorted: they hold nothing of their own."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.name[0] != "." and _leads_upward(entry))


def _leads_upward(entry: os.DirEntry[str]) -> bool:
    if not entry.is_symlink():
        return False
    place = Path(entry.path).parent  # where it lies by its name, and where that is
    return Path(entry.path).resolve() in {
        above for one in (place.resolve(), place.absolute()) for above in (one, *one.parents)
    }


def _where_it_ends(folder: str) -> str:
    """Say where a path that leads nowhere was looked for: how far it does lead, where it is absolute."""
    path = Path(folder)
    if not path.is_absolute():
        return "data.dataset.root is relative to the working directory"
    there = next(above for above in path.parents if above.is_dir())
    return f"data.dataset.root is an absolute path, which leads as far as {there}"


def _has_own_images(folder: str, endings: Endings) -> bool:
    """Say whether images lie in a folder itself."""
    with os.scandir(folder) as entries:
        return any(entry.name[0] != "." and is_image(entry.name, endings) and not entry.is_dir() for entry in entries)


def _holds_images(folder: str, endings: Endings) -> bool:
    """Say whether an image lies anywhere below a folder."""
    for _, folders, files in os.walk(folder):  # links are not followed
        folders[:] = [name for name in folders if name[0] != "."]
        if any(name[0] != "." and is_image(name, endings) for name in files):
            return True
    return False


def some(names: Sequence[str]) -> str:
    """Return names in one line, at most `SHOWN` of them."""
    more = f", ... ({len(names) - SHOWN} more)" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _join(folder: str, name: str) -> str:
    return os.path.join(folder, name)  # noqa: PTH118  strings, as the thousands of paths below them
