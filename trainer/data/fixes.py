"""Corrected labels: a list of pictures and what was decided of each, `data.fixes`, laid over a dataset's own labels.

    path,given,suggested,decision
    train/cat/17.png,cat,dog,yes        it gets the suggested label
    train/cat/18.png,cat,dog,fox        or another one
    train/cat/19.png,cat,dog,drop       or is left out
    train/cat/20.png,cat,dog,           nobody has decided yet, or `no`: it stays as it is

Owns what a decision means and what is wrong with one. Knows tables and sources; who suggests labels is trainer/audit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.catalogue.suggest import nearest
from registry.contracts import ImageSource
from registry.datasets.rows import read_table
from registry.errors import DataError
from registry.printing import counted, counted_few, one_line
from registry.spreadsheets import as_meant
from trainer.data.standing import StandIn

YES, NO, DROP = "yes", "no", "drop"
NAMED = 3  # pictures of the list that are not there


@dataclass(frozen=True)
class Fix:
    """A line of the list with a decision.

    Attributes:
        place: of the line, "fixes.csv:12".
        given: the class that the picture had when the list was made.
        suggested: the class it probably is of.
        decision: what was decided.
    """

    place: str
    given: str
    suggested: str
    decision: str

    def keeps(self, class_names: Sequence[str]) -> bool:
        """Whether the picture keeps the label that it has."""
        return self.decision.casefold() == NO and self.decision not in map(_written, class_names)

    def label(self, class_names: Sequence[str]) -> int | None:
        """Return the class index that was decided; None for leaving the picture out.

        A class that is called as a word of the list goes before it.

        Raises:
            DataError: it is no class.
        """
        names = [_written(name) for name in class_names]
        word = self.decision.casefold()
        if self.decision not in names and word == DROP:
            return None
        label = self.suggested if self.decision not in names and word == YES else self.decision
        if label in names:
            return names.index(label)
        near = nearest(label, names)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise DataError(
            f"{self.place}: {label!r} is no class", f"{meant}a decision is yes, no, drop, a class, or nothing yet"
        )


class Fixes:
    """A list of decisions, as far as they are made.

    Args:
        file: a table with the columns path, given, suggested and decision.

    Raises:
        DataError: it cannot be read, or decides of one picture twice.
    """

    def __init__(self, file: str) -> None:
        self.file = one_line(file)
        self._fixes: dict[str, Fix] = {}
        self._used: set[str] = set()
        self.counts: Counter[str] = Counter()
        rows = read_table(file, may_be_empty=True)  # nothing was found, or every line taken out again
        columns = [rows.column(name) for name in ("path", "given", "suggested", "decision")]
        for row, cells in enumerate(zip(*columns, strict=True)):
            path, given, suggested, decision = (as_meant(cell).strip() for cell in cells)
            if not decision:
                self.counts["undecided"] += 1
            elif path in self._fixes:
                before = self._fixes[path].place
                raise DataError(f"{rows.at(row)}: {path} was decided before, in {before}", "keep one of the two lines")
            else:
                self._fixes[path] = Fix(rows.at(row), given, suggested, decision)

    def of(self, name: str) -> Fix | None:
        """Return what was decided of a picture; None for nothing."""
        fix = self._fixes.get(name.strip())  # spreadsheets and `Rows` take spaces off, at both ends of a cell
        if fix is not None:
            self._used.add(name.strip())
        return fix

    def said(self, counts: Counter[str] | None = None) -> str:
        """Say what was done: "3 labels changed, 1 picture left out, 40 lines not decided".

        Args:
            counts: in one split; None for all that were opened, and what was not decided.
        """
        of = self.counts if counts is None else counts
        words = f"{counted(of['changed'], 'label')} changed, {counted(of['left out'], 'picture')} left out"
        words += f", {of['changed before']:,} changed before" if of["changed before"] else ""
        words += f", {counted(of['kept'], 'label')} kept as given" if of["kept"] else ""
        return words + (f", {counted(of['undecided'], 'line')} not decided" if of["undecided"] else "")

    def missing(self) -> str:
        """Say which lines name no picture of the splits that were opened; "" where each does."""
        open_ = (
            item for item in self._fixes.items() if item[0] not in self._used and item[1].decision.casefold() != NO
        )
        left = [f"{path} ({fix.place})" for path, fix in open_]
        if not left:
            return ""
        count, named = counted(len(left), "decision"), counted_few(left, NAMED)
        return f"{count} of {self.file} {'names' if len(left) == 1 else 'name'} no picture of these data: {named}"


class Corrected(StandIn):
    """A split with corrected labels; its pictures are those of the source.

    Args:
        source: of the pictures and their labels.
        fixes: what was decided; its counts grow.
        split: of the dataset.
        name_of: returns what the list calls picture `index`.

    Attributes:
        targets: corrected class indices, int64 (N,).
        left_out: places of pictures that no part may hold.

    Raises:
        DataError: a decision is no class, or a picture has another label than when the list was made.
    """

    def __init__(self, source: ImageSource, fixes: Fixes, split: str, name_of: Callable[[int], str]) -> None:
        super().__init__(source)
        self.targets: NDArray[np.int64] = np.array(source.targets, dtype=np.int64)
        counts: Counter[str] = Counter()
        left_out = []
        for index, target in enumerate(self.targets.tolist()):
            name = name_of(index)
            if (fix := fixes.of(name)) is None:
                continue
            if fix.keeps(source.class_names):
                fixes.counts["kept"] += 1
                continue
            label = fix.label(source.class_names)
            now = _written(source.class_names[target])
            if label == target:
                counts["changed before"] += 1
            elif now != fix.given:
                raise DataError(
                    f"{fix.place}: {name} was {fix.given!r} when the list was made, and is {now!r} now",
                    "look at the picture again; then correct the line, or remove it",
                )
            elif label is None:
                left_out.append(index)
                counts["left out"] += 1
            else:
                self.targets[index] = label
                counts["changed"] += 1
        self.left_out: Sequence[int] = tuple(left_out)
        fixes.counts.update(counts)
        self._said = f"{fixes.file}: {fixes.said(counts)} in split {split!r}"

    def __getattr__(self, name: str) -> Any:
        """Return whatever else the source knows: of the pixels, too, which are its own."""
        if name.startswith("__") or name == "_source":  # asked for while it is made anew from a pickle
            raise AttributeError(name)
        return getattr(self._source, name)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Return picture `index` as uint8 (H, W, C)."""
        return self._source.image(index)

    def packed(self) -> NDArray[np.uint8] | None:
        """Return all pictures where the source holds them as one array."""
        return self._source.packed()

    def remarks(self) -> Sequence[str]:
        """Say what was corrected, beside what the source has to say."""
        return [*getattr(self._source, "remarks", tuple)(), self._said]


def _written(name: str) -> str:
    """Return a class's name as a cell of the list holds it."""
    return one_line(name).strip()
