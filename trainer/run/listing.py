"""Runs below a folder, a row each: what their small files and the disk say of them. Imports no torch.

Owns what a row holds and how rows are chosen and ordered; how they are printed is trainer/cli/listing.py, the page of
them index.py.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry.errors import CheckpointError, RecipeError
from trainer.run.folder import RunFolder
from trainer.run.locking import is_held
from trainer.run.naming import begun, themselves

KILLED = "killed"  # said of a run that says it is running while no process is at it
UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Row:
    """What is known of one run without loading it.

    Attributes:
        run: <name>/<folder>.
        path: of its folder.
        status: as summary.json says; `killed` where nobody works on a running one, `unreadable` where it is damaged.
        metric: the key that chose the best epoch; "" where none was finished.
        better_low: whether less of it is better.
        best: its value in the best epoch.
        final: its value after the last.
        test: the best weights' value on the held-out test split.
        seed: of everything random.
        epochs: finished.
        seconds: training and validation time.
        bytes: on the disk.
        selected_on: the split that chose the best epoch.
        expectations: "2 of 3 reached", "not judged", or "" where there are none.
        curve: the metric by epoch.
        images: of each part, "val" -> 5000; empty where the run does not say.
        fast: whether it is a `--fast` run, which says nothing of its recipe.
    """

    run: str
    path: Path
    status: str
    metric: str = ""
    better_low: bool = False
    best: float | None = None
    final: float | None = None
    test: float | None = None
    seed: int | None = None
    epochs: int = 0
    seconds: float | None = None
    bytes: int = 0
    selected_on: str = ""
    expectations: str = ""
    curve: Sequence[float] = field(default=(), repr=False)
    images: Mapping[str, int] = field(default_factory=dict, repr=False)
    fast: bool = False

    @property
    def state(self) -> str:
        """The status in words: a fast run's says so."""
        return f"{self.status} (--fast)" if self.fast else self.status

    def value(self, key: str) -> Any:
        """Return the value that a column shows."""
        return getattr(self, COLUMNS[key])


COLUMNS = {  # as they are called -> attribute
    "run": "run",
    "status": "status",
    "best": "best",
    "final": "final",
    "test": "test",
    "seed": "seed",
    "epochs": "epochs",
    "seconds": "seconds",
    "bytes": "bytes",
    "selected_on": "selected_on",
    "expectations": "expectations",
}
_GREATEST_FIRST = ("best", "final", "test", "seconds", "bytes", "epochs")


def rows_below(root: Path, *, sizes: bool = True, newest: int | None = None) -> list[Row]:
    """Return the runs below `root`, newest first; sweeps' trials are among them.

    Args:
        root: where runs lie, <root>/<name>/<run>.
        sizes: whether the files are counted; with many runs that takes time.
        newest: at most so many; None for all.
    """
    found = sorted(folders_below(root), key=lambda folder: begun(folder.path), reverse=True)
    return [row_of(folder, sizes=sizes) for folder in found[:newest]]


def folders_below(root: Path) -> Iterator[RunFolder]:
    """Yield every run below `root`, once; folders whose names begin with a dot are passed over.

    Of a run and links to it the run itself is taken.
    """
    for path in themselves(path for name in _folders(root) for path in _folders(name)):
        folder = RunFolder(path)
        if folder.resolved.exists():
            yield folder


def _folders(path: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return []


def row_of(folder: RunFolder, *, sizes: bool = True) -> Row:
    """Return what is known of one run."""
    whole = folder.path.absolute()
    name = f"{whole.parent.name}/{whole.name}"
    size = size_of(folder.path) if sizes else 0
    try:
        summary, history = folder.read_summary(), folder.read_history()
    except CheckpointError:
        return Row(name, folder.path, UNREADABLE, bytes=size)
    metric = _metric(summary, history)
    status = str(summary.get("status", UNREADABLE))
    return Row(
        name,
        folder.path,
        KILLED if status == "running" and not is_held(folder.lock_file) else status,
        metric,
        better_low=_is_better_low(summary, metric),
        best=_number(summary.get("best"), metric),
        final=_number(summary.get("final") or (history[-1] if history else None), metric),
        test=_number((summary.get("test") or {}).get("best"), metric.partition("/")[2]),
        seed=summary.get("seed"),
        epochs=len(history),
        seconds=summary.get("seconds") or sum(row.get("seconds") or 0.0 for row in history) or None,
        bytes=size,
        selected_on=str(summary.get("selected_on", "")),
        expectations=_expectations(summary.get("expect")),
        curve=tuple(row[metric] for row in history if row.get(metric) is not None) if metric else (),
        images=summary.get("images") or {},
        fast=bool(summary.get("fast")),
    )


def _metric(summary: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> str:
    """Return the key that chose the best epoch; runs of earlier versions do not say, and mostly chose by accuracy."""
    if "metric" in summary or not history:
        return str(summary.get("metric", ""))
    return next((key for key in ("val/accuracy", "val/loss") if key in history[-1]), "")


def _number(values: Mapping[str, Any] | None, key: str) -> float | None:
    value = (values or {}).get(key)
    return float(value) if isinstance(value, (int, float)) else None


def _expectations(expect: Mapping[str, Any] | None) -> str:
    if not expect:
        return ""
    if expect.get("not_judged"):
        return "not judged"
    lines = expect["lines"]
    return f"{sum(bool(line['ok']) for line in lines)} of {len(lines)} reached"


def size_of(path: Path) -> int:
    """Return the bytes of all files below a folder, each file once whatever names it has; links are not followed."""
    seen: dict[tuple[int, int], int] = {}
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                found = (Path(folder) / name).lstat()
            except OSError:  # it was a temporary file
                continue
            seen[found.st_dev, found.st_ino] = found.st_size
    return sum(seen.values())


# --------------------------------------------------------------------------------------------------- choosing, ordering
def chosen(rows: Sequence[Row], pattern: str = "", conditions: Sequence[str] = ()) -> list[Row]:
    """Return the rows that fit.

    Args:
        rows: to choose from.
        pattern: part of a run's name, or a pattern of the whole one ("quick*", "*/2026*"); "" for all.
        conditions: `column=pattern`, all of which hold.

    Raises:
        RecipeError: there is no such column.
    """
    for condition in conditions:
        _require(condition.partition("=")[0])
    return [row for row in rows if _named(row, pattern) and all(_holds(row, each) for each in conditions)]


def _require(column: str) -> None:
    if column not in COLUMNS:
        raise RecipeError(f"runs have no column {column!r}", f"there are {', '.join(COLUMNS)}")


def _named(row: Row, pattern: str) -> bool:
    in_path = "/" in pattern and pattern in str(row.path)  # a word alone is of the name: all lie in runs/
    return in_path or pattern in row.run or fnmatch.fnmatchcase(row.run, pattern)


def _holds(row: Row, condition: str) -> bool:
    column, _, wanted = condition.partition("=")
    value = row.value(column)
    return fnmatch.fnmatchcase("" if value is None else str(value), wanted)


def ordered(rows: Sequence[Row], column: str) -> list[Row]:
    """Return rows by a column: numbers with the greatest first, losses with the least; what has none comes last.

    Raises:
        RecipeError: there is no such column.
    """
    _require(column)
    known = [row for row in rows if row.value(column) is not None]
    rest = [row for row in rows if row.value(column) is None]
    if column not in ("best", "final", "test"):
        return sorted(known, key=_key(column), reverse=column in _GREATEST_FIRST) + rest
    least = [row for row in known if row.better_low]
    greatest = [row for row in known if not row.better_low]
    return sorted(greatest, key=_key(column), reverse=True) + sorted(least, key=_key(column)) + rest


def _is_better_low(summary: Mapping[str, Any], metric: str) -> bool:
    """Whether less of a metric is better; of a run that does not say, as its name does."""
    mode = summary.get("mode")
    return mode == "min" if mode in ("min", "max") else any(word in metric for word in ("loss", "error", "entropy"))


def _key(column: str) -> Callable[[Row], Any]:
    return lambda row: row.value(column)
