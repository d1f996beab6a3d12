"""A comparison as one table: its columns, and what each says for people, for sorting and for programs.

The page, the terminal, csv, json and markdown all show these columns or a choice of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.comparison.differences import Difference
from trainer.comparison.rows import Comparison, Row, delta_text, interval, interval_text, number_title, said

_NEED = (1, 5, 6, 3, 4, 7)  # of a number by its place: the test metric, val, test, best epoch, time, the last epoch
MAIN = 3  # the need up to which a column belongs to the first table


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: for programs.
        title: for people.
        text: of a row; "" where it has nothing. Takes the sign that stands before a deviation, too.
        order: what a row is sorted by; None for last.
        need: 0 for what a narrow table must have; the greatest is left out first.
        right: whether it is set flush right.
    """

    key: str
    title: str
    text: Callable[[Row, str], str]
    order: Callable[[Row], Any]
    need: int
    right: bool = True


def columns(made: Comparison) -> list[Column]:
    """Return all columns: rank, name, seeds, folds, the ranking number, deltas, what differs, the other numbers."""
    shown = _numbers(made)
    others = [column for key in shown[1:] for column in (_number(made, key), *_interval(made, key))]
    different = [_difference(made, each) for each in made.differences if not each.follows]
    many = any(len(row.runs) > 1 for row in made.rows)
    seeds = Column("seeds", "seeds", lambda row, _: _seeds(row), lambda row: len(set(row.seeds)), 0 if many else 3)
    folds = Column("folds", "folds", lambda row, _: _folds(row), lambda row: len(row.by_fold), 0 if many else 3)
    return [
        Column("rank", "#", lambda row, _: str(row.rank), lambda row: row.rank, 0),
        Column("name", "run", lambda row, _: row.title, lambda row: row.title, 0, right=False),
        seeds,
        *([folds] if any(run.fold is not None for run in made.runs) else []),
        _number(made, made.number),
        *_interval(made, made.number),
        Column("delta", "to #1", lambda row, _: delta_text(made.number, row.delta), lambda row: _delta(row), 0),
        *different,
        *others,
    ]


def is_setting(column: Column, made: Comparison) -> bool:
    """Whether a column shows what the runs differ in."""
    return column.key in {each.key for each in made.differences}


def _numbers(made: Comparison) -> list[str]:
    """Return the numbers worth a column, the ranking one first: nothing twice under two names."""
    kept: list[str] = []
    metric = made.number.partition("_")[2]
    found = [key for key in made.numbers if not key.startswith("final/") or key.endswith(("/epoch", f"_{metric}"))]
    for key in dict.fromkeys([made.number, *sorted(found, key=lambda key: _place(made, key))]):
        alike = any(_repeats(made, key, other) for other in kept)
        if key == made.number or not alike:
            kept.append(key)
    return kept


def _place(made: Comparison, key: str) -> int:
    """Return where a number's column stands."""
    when, _, word = key.partition("/")
    part, _, metric = word.partition("_")
    if when == "best" and part == "test" and metric == made.number.partition("_")[2]:
        return 0  # what chose the best epoch, held out
    kinds = ("val", "test", "epoch") if when == "best" else ()
    return 1 + kinds.index(part) if part in kinds else 5 if word else 4


def _repeats(made: Comparison, key: str, other: str) -> bool:
    """Whether a number is another's twin: plain cross entropy where the loss is nothing else, final where best."""
    if key.partition("/")[0] != other.partition("/")[0] and key.partition("/")[2] != other.partition("/")[2]:
        return False
    return all(said(key, row.numbers.get(key)) == said(other, row.numbers.get(other)) for row in made.rows)


def _number(made: Comparison, key: str) -> Column:
    need = 0 if key == made.number else _NEED[_place(made, key)]

    def order(row: Row) -> float | None:
        return row.numbers[key].mean if key in row.numbers else None

    return Column(key, number_title(key), lambda row, sign: said(key, row.numbers.get(key), sign), order, need)


def _interval(made: Comparison, key: str) -> list[Column]:
    """Return the column of where a number may lie, where that can be told: of what ranks, and of the same held out."""
    if key not in (made.number, f"best/test_{made.number.partition('_')[2]}"):
        return []
    part = key.partition("/")[2].partition("_")[0]
    found = {row.rank: interval(row, key) for row in made.rows}
    if not any(found.values()):
        return []

    def text(row: Row, _: str) -> str:
        return interval_text(key, found[row.rank])

    def order(row: Row) -> float | None:
        told = found[row.rank]
        return None if told is None else told.low

    return [Column(f"{key}/interval", f"{part} 95 %", text, order, 2)]


def _difference(made: Comparison, each: Difference) -> Column:
    values = [value for value in each.raw if value is not None]
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)

    def order(row: Row) -> Any:
        raw = each.raw[made.runs.index(row.runs[0])]
        return raw if numeric else made.text(each, row)

    return Column(each.key, each.label, lambda row, _: made.text(each, row), order, 2, right=numeric)


def _seeds(row: Row) -> str:
    return ", ".join(map(str, sorted(set(row.seeds))))


def _folds(row: Row) -> str:
    return ", ".join(str(fold) for fold in row.by_fold if fold is not None)


def _delta(row: Row) -> float | None:
    return 0.0 if row.rank == 1 else row.delta


def fitting(found: Sequence[Column], widths: dict[str, int], room: int, gap: int) -> list[Column]:
    """Return the columns that fit into `room` letters: what is needed goes in first, what is needed least last."""
    taken: set[str] = set()
    left = room + gap
    for each in sorted(found, key=lambda column: column.need):
        if each.need == 0 or widths[each.key] + gap <= left:
            taken.add(each.key)
            left -= widths[each.key] + gap
    return [each for each in found if each.key in taken]
