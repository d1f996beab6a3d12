"""What the rows of a table say of pictures: which file, which class, which split; and which rows cannot be used.

    a picture that is not there, no path, no label, a label that training lacks, a split that is none,
    a row that stands there twice, a picture under two labels, a picture in two splits

Each of these is told by its line, and `on_bad_image` decides: fail, or leave such rows out and say how many. Owns these
rules. Knows nothing of table files (rows.py) or of pixels (decoding.py).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from registry.catalogue.suggest import nearest
from registry.datasets.layout import SPLITS, some, split_like
from registry.datasets.rows import Rows
from registry.datasets.source import MissingSplit, UnchosenSplit, stamp
from registry.errors import DataError
from registry.printing import alike, composed_otherwise

OnBadImage = Literal["fail", "skip"]

MOST_MISSING = 0.5  # share of pictures that are not there beyond which the paths are wrong, not the rows
SKIP = "mend the table; data.on_bad_image: skip leaves such rows out"

# Kinds of faults, as a summary names them; in this order.
_NO_PATH, _MISSING, _NO_LABEL, _UNKNOWN = "no path", "picture not there", "no label", "label that training lacks"
_BACKSLASHES = "path with backslashes, where / belongs"
_NO_SPLIT, _TWICE, _TWO_LABELS, _TWO_SPLITS = (
    *("no split of that name", "row that stands there twice", "picture under two labels", "picture in two splits"),
)


@dataclass(frozen=True)
class Columns:
    """Which column of a table says what.

    Attributes:
        image: the pictures' paths.
        target: the classes' names.
        split: train, val or test; "" where all rows are the training split.
        group: what belongs together; "" where nothing does.
    """

    image: str
    target: str
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class Listed:
    """The pictures of one split.

    Attributes:
        class_names: one per class index.
        rows: of the table, one per picture, ascending.
        paths: of the pictures, as they are opened.
        names: the same as the table has them.
        targets: class indices.
        sizes: (bytes, stamp) of each file.
        counts: rows of each split, as far as they can be used by what they say.
        remarks: what was left out or is odd, a sentence each.
    """

    class_names: tuple[str, ...]
    rows: Sequence[int]
    paths: Sequence[str]
    names: Sequence[str]
    targets: Sequence[int]
    sizes: Sequence[tuple[int, int]]
    counts: Mapping[str, int]
    remarks: Sequence[str]


def natural(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Return what sorts names as people do: 2 before 10, then by letters without their case."""
    parts = re.findall(r"(\d+)|(\D+)", name)
    return tuple((0, int(digits), "") if digits else (1, 0, text.casefold()) for digits, text in parts), name


def located(name: str, folder: str, endings: Sequence[str] = ()) -> str:
    """Return where a picture lies that a table names.

    Args:
        name: as the table has it: absolute, below the home folder (~/), or relative to `folder`.
        folder: where relative paths begin.
        endings: tried in this order where nothing lies at the path as it is: a table may leave them out.

    Raises:
        DataError: it is an address on a network.
    """
    if "://" in name:
        raise DataError(
            f"{name} is an address: pictures are read from the disk, since each is read again in every epoch and a "
            "network may answer otherwise, or not at all",
            "download the pictures and let the table name the files",
        )
    path = os.path.join(folder, os.path.expanduser(name) if name.startswith("~/") else name)  # noqa: PTH111, PTH118
    short = os.path.normpath(path)
    # `..` behind a link is above what it leads to, as the system has it.
    path = short if ".." not in name or _real(path) == _real(short) else _real(path)
    if endings and not os.path.exists(path):  # noqa: PTH110
        return next((path + ending for ending in endings if os.path.exists(path + ending)), path)  # noqa: PTH110
    return path


def _real(folder: str) -> str:
    """Return the one path of a folder that has several."""
    try:
        return os.path.realpath(folder)
    except ValueError:  # it may hold what no path can
        return folder


def listed(
    rows: Rows,
    columns: Columns,
    part: str,
    *,
    folder: str,
    classes: Sequence[str] | None,
    endings: Sequence[str],
    on_bad_image: OnBadImage,
) -> Listed:
    """Return the pictures of one split, in the order of the table.

    Args:
        rows: of the table.
        columns: which says what.
        part: "train", "val" or "test".
        folder: where relative paths begin.
        classes: those that count, in this order; None for all labels of training, in natural order.
        endings: as in `located`.
        on_bad_image: what happens where a row cannot be used.

    Raises:
        MissingSplit: no row is of this split.
        DataError: a row cannot be used, and `on_bad_image` is "fail"; a class has no row; or most pictures are missing.
    """
    return _Listing(rows, columns, folder, classes, endings).of(part, on_bad_image)


@dataclass
class _Listing:
    """A table while it is read: what each row says, and what is wrong with some.

    Attributes:
        rows: of the table.
        columns: which says what.
        folder: where relative paths begin.
        classes: those that count; None for all.
        endings: that the table may leave out.
        faults: row -> (kind, sentence) of the first thing that is wrong with it.
    """

    rows: Rows
    columns: Columns
    folder: str
    classes: Sequence[str] | None
    endings: Sequence[str]
    faults: dict[int, tuple[str, str]] = field(default_factory=dict)

    def of(self, part: str, on_bad_image: OnBadImage) -> Listed:
        """Return the pictures of a split."""
        self._read()
        if self.classes and not set(self.classes) & set(self.labels):
            raise self._no_such_class(self.classes[0])
        held = [split for split in SPLITS if split in {self.splits[row] for row in self.chosen}]
        if part not in held:
            of = "" if self.classes is None else " of the chosen classes"
            there = ", ".join(held) or f"none, but {some([value or 'empty cells' for value in sorted(self.meant)])}"
            raise MissingSplit(f"Table has no split {part!r}: {self.rows.file} has {there}{of}")
        names = self._class_names()
        self._compare()
        counts = Counter(self.splits[row] for row in self.chosen if row not in self.faults)
        mine = [row for row in self.chosen if self.splits[row] == part]
        files, missing = self._files([row for row in mine if row not in self.faults])
        is_first = part == held[0]  # which tells of the whole table, and of rows that are of no split
        faulty = sorted(row for row in self.faults if self.splits[row] == part or (is_first and not self.splits[row]))
        mostly = len(missing) > MOST_MISSING * len(mine)
        if faulty and (mostly or on_bad_image == "fail"):
            raise self._unusable(faulty, self._elsewhere(missing[0]) if mostly else SKIP)
        kept = [row for row in mine if row not in self.faults]
        if not kept and mine:
            kinds = self._by_kind([row for row in mine if row in self.faults])
            refused = DataError if part == "train" else UnchosenSplit
            raise refused(f"{self.rows.file}: no row of split {part!r} can be used ({kinds})")
        numbers = {name: number for number, name in enumerate(names)}
        remarks = [*(self._remarks() if is_first else ()), *self._left_out(faulty)]
        return Listed(
            class_names=names,
            rows=kept,
            paths=[self.paths[row] for row in kept],
            names=[self.names[row] for row in kept],
            targets=[numbers[self.labels[row]] for row in kept],
            sizes=[files[row] for row in kept],
            counts=counts,
            remarks=remarks,
        )

    # --------------------------------------------------------------------------------------------------- row by row
    def _read(self) -> None:
        """Take in what every row says: its path, label and split."""
        rows, columns = self.rows, self.columns
        self.names = rows.column(columns.image, "data.dataset.image")
        self.labels = rows.names(columns.target, "data.dataset.target")
        said = rows.column(columns.split, "data.dataset.split") if columns.split else None
        self.meant = {} if said is None else {value: split_like(value) for value in set(said)}
        self.splits = ["train"] * len(rows) if said is None else [self.meant[value] for value in said]
        counts = None if self.classes is None else set(self.classes)
        self.chosen = [row for row, label in enumerate(self.labels) if counts is None or not label or label in counts]
        self.paths = [""] * len(rows)
        for row in self.chosen:
            self._look(row, "" if said is None else said[row])

    def _look(self, row: int, said: str) -> None:
        """Note what is wrong with a row on its own."""
        name = self.names[row]
        try:
            self.paths[row] = self._located(row)
        except DataError as error:
            raise DataError(f"{self.rows.at(row)}: {error.message}", error.hint) from error
        if not self.splits[row]:
            self._fault(row, _NO_SPLIT, f"{said!r} is no split; they are train, val and test" if said else "no split")
        elif not name:
            self._fault(row, _NO_PATH, f"no path in column {self.columns.image!r}")
        elif not self.labels[row]:
            self._fault(row, _NO_LABEL, f"no label in column {self.columns.target!r}")

    def _located(self, row: int) -> str:
        name = self.names[row]
        return located(name, self.folder, self.endings) if name else ""

    def _fault(self, row: int, kind: str, sentence: str) -> None:
        self.faults.setdefault(row, (kind, sentence))

    def _class_names(self) -> tuple[str, ...]:
        """Return the classes; note the rows whose label is none of them."""
        usable = [row for row in self.chosen if row not in self.faults]
        if self.classes is not None:
            found = {self.labels[row] for row in usable}
            for name in self.classes:
                if name not in found and "train" in self.splits:
                    raise self._no_such_class(name)
            return tuple(self.classes)
        learnt = {self.labels[row] for row in usable if self.splits[row] == "train"}
        if not learnt:  # nothing is learnt from such a table: it is measured on
            return tuple(sorted({self.labels[row] for row in usable}, key=natural))
        unknown: dict[str, list[int]] = {}
        for row in usable:
            if (label := self.labels[row]) not in learnt:
                unknown.setdefault(label, []).append(row)
        for label, rows in unknown.items():
            near = nearest(label, learnt)
            meant = composed_otherwise([label], sorted(learnt)) or (f"did you mean {near[0]!r}?" if near else "")
            for row in rows:
                self._fault(row, _UNKNOWN, f"{label!r} is the label of no training row{meant and f' ({meant})'}")
        return tuple(sorted(learnt, key=natural))

    def _no_such_class(self, name: str) -> DataError:
        labels = sorted(set(filter(None, self.labels)), key=natural)
        near = nearest(name, labels)
        hint = f"did you mean {near[0]!r}?" if near else f"the labels are {some(labels)}"
        return DataError(f"data.dataset.classes: no row of {self.rows.file} that can be used is of {name!r}", hint)

    # ------------------------------------------------------------------------------------------- rows beside each other
    def _compare(self) -> None:
        """Note rows that name one picture: twice the same, under two labels, or in two splits."""
        chosen = set(self.chosen)
        for rows in self._of_one_picture(chosen):
            ours = [row for row in rows if row in chosen]
            if len({self.labels[row] for row in rows}) > 1:  # whatever else is wrong with one of them, or not chosen
                said = " and ".join(dict.fromkeys(f"{self.labels[row]!r} ({self._line(row)})" for row in rows[:4]))
                for row in ours:
                    self._fault(row, _TWO_LABELS, f"{self.paths[row]} has two labels, {said}")
            elif usable := [row for row in ours if row not in self.faults]:
                self._keep_one(usable)

    def _keep_one(self, rows: Sequence[int]) -> None:
        """Note all but one of the rows that say the same of one picture: the one that is held out, else the first."""
        held = min(rows, key=lambda row: (-SPLITS.index(self.splits[row]), row))
        for row in rows:
            path, there = self.paths[row], self._line(held)
            there += "" if self.paths[held] == path else f", as {self.paths[held]}"
            if self.splits[row] != self.splits[held]:
                self._fault(row, _TWO_SPLITS, f"{path} is in {self.splits[held]} as well ({there})")
            elif row != held:
                self._fault(row, _TWICE, f"{path} stands in {there} already")

    def _of_one_picture(self, chosen: Container[int]) -> list[list[int]]:
        """Return the rows with a label that name a picture which others name, too, by whatever path, together."""
        first: dict[tuple[str, str], int] = {}
        again: dict[int, list[int]] = {}
        real: dict[str, str] = {}
        for row, label in enumerate(self.labels):
            if not label or not (path := self.paths[row] if row in chosen else self._somewhere(row)):
                continue
            folder, name = os.path.split(path)
            if folder not in real:  # once per folder: a look at the disk per picture would cost more than the rest
                real[folder] = _real(folder)
            if (earlier := first.setdefault((real[folder], name), row)) != row:
                again.setdefault(earlier, [earlier]).append(row)
        return list(again.values())

    def _somewhere(self, row: int) -> str:
        """Return the path of a row that is not chosen; "" where it is none: nobody asks for it."""
        with suppress(DataError):
            return self._located(row)
        return ""

    def _line(self, row: int) -> str:
        return f"{self.rows.unit} {self.rows.lines[row]}"

    def _files(self, rows: Sequence[int]) -> tuple[dict[int, tuple[int, int]], list[int]]:
        """Return (bytes, stamp) of the rows' files, and the rows whose file is not there, which are noted."""
        found: dict[int, tuple[int, int]] = {}
        missing = []
        for row in rows:
            try:
                facts = os.stat(self.paths[row])  # noqa: PTH116  called for every picture
            except (OSError, ValueError):  # a path may hold what no path can
                self._fault(row, *self._not_there(row))
                missing.append(row)
            else:
                found[row] = facts.st_size, stamp(facts)
        return found, missing

    def _not_there(self, row: int) -> tuple[str, str]:
        """Return the fault of a row whose picture is not there: its kind and a sentence."""
        path, said = self.paths[row], f"there is no picture {self.paths[row]}"
        if "\\" in path and os.path.exists(other := path.replace("\\", "/")):  # noqa: PTH110
            return _BACKSLASHES, f"{said}, but {other}: write / instead of backslashes"
        return _MISSING, said

    def _elsewhere(self, row: int) -> str:
        """Say how a path that leads nowhere may be meant."""
        name = self.names[row]
        if self.faults[row][0] == _BACKSLASHES:
            return "the paths are written with backslashes, as Windows does: write / instead"
        if not os.path.splitext(name)[1]:  # noqa: PTH122
            return "where the table leaves the files' endings out, data.dataset.extensions says them: [.jpg]"
        if os.path.isabs(name):  # noqa: PTH117
            return "the paths are absolute: do they lead where the pictures are on this machine?"
        return f"the paths begin in {self.folder or '.'}; data.dataset.root names another folder"

    # ----------------------------------------------------------------------------------------------------- what is said
    def _kinds(self, rows: Sequence[int]) -> Iterator[tuple[str, list[int]]]:
        by_kind: dict[str, list[int]] = {}
        for row in rows:
            by_kind.setdefault(self.faults[row][0], []).append(row)
        yield from by_kind.items()

    def _unusable(self, rows: Sequence[int], hint: str) -> DataError:
        """Return the error for rows that cannot be used: the first in full, all by kind and line."""
        first = f"{self.rows.at(rows[0])}: {self.faults[rows[0]][1]}"
        if len(rows) == 1:
            return DataError(first, hint)
        return DataError(
            f"{first}; in all {len(rows):,} of {len(self.rows):,} rows cannot be used ({self._by_kind(rows)})", hint
        )

    def _by_kind(self, rows: Sequence[int]) -> str:
        return "; ".join(f"{kind}: {self.rows.named(some_)}" for kind, some_ in self._kinds(rows))

    def _left_out(self, rows: Sequence[int]) -> list[str]:
        return [
            f"left out: {len(some_):,} of {len(self.rows):,} rows of {self.rows.file}, {kind}: {self.rows.named(some_)}"
            for kind, some_ in self._kinds(rows)
        ]

    def _remarks(self) -> list[str]:
        """Say what of the table is not used, or may be meant otherwise."""
        said = []
        for value, split in sorted(self.meant.items()):
            if split and value != split:
                said.append(f"{self.rows.file}: split {value!r} is taken for {split}")
        if not self.columns.split and "split" in self.rows.columns:
            column = f"{self.rows.file} has a column 'split' that is not used: all rows are training pictures"
            said.append(f"warning: {column}; data.dataset.split: split takes it")
        counts = Counter(self.labels)
        if self.classes is not None:
            others = {label: count for label, count in counts.items() if label and label not in set(self.classes)}
            if others:
                total, named = sum(others.values()), sorted(others.items(), key=lambda item: (-item[1], item[0]))
                text = some([f"{label} {count:,}" for label, count in named])
                rows = (
                    "1 row is left out, its class is" if total == 1 else f"{total:,} rows are left out, their class is"
                )
                said.append(f"{self.rows.file}: {rows} not chosen: {text}")
        twins = [
            f"warning: {self.rows.file}: {each}, and are classes of their own"
            for each in alike([*filter(None, counts)])
        ]
        return [*said, *twins, *self._groups_apart()]

    def _groups_apart(self) -> Iterator[str]:
        """Say which groups lie in more than one of the table's own splits."""
        if not (self.columns.group and self.columns.split):
            return
        groups = self.rows.names(self.columns.group, "data.dataset.group")
        held: dict[str, dict[str, int]] = {}
        for row in self.chosen:
            if row not in self.faults and groups[row]:
                held.setdefault(groups[row], {}).setdefault(self.splits[row], row)
        apart = {group: firsts for group, firsts in held.items() if len(firsts) > 1}
        if apart:
            group, firsts = next(iter(apart.items()))
            where = " and ".join(f"{split} ({self._line(row)})" for split, row in firsts.items())
            yield (
                f"warning: {self.rows.file}: {len(apart):,} of {len(held):,} groups of {self.columns.group!r} lie in "
                f"more than one split, as {group!r} in {where}: what is measured there is not new to the network"
            )
