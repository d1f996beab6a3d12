"""`runs` and `clean`: what lies below runs/, as a table, JSON or CSV, and what of it can go."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from registry.printing import duration, metric_text, one_line
from registry.program import typed_as
from registry.spreadsheets import no_formula
from trainer.cli.layout import PAGE, in_words, table_width
from trainer.run.cleaning import proposals, remove
from trainer.run.listing import COLUMNS, Row, chosen, ordered, rows_below

MEGA = 1e6
_HEADERS = ("run", "status", "best", "final", "test", "seed", "epochs", "time", "size", "selected on", "expectations")
_FIRST_LEFT_OUT = ("expectations", "selected on", "size", "epochs", "final", "seed", "time", "status", "test")


def runs_text(root: Path, pattern: str, conditions: Sequence[str], sort: str, form: str) -> str:
    """Return the runs below `root` in the form that is asked for.

    Args:
        root: where runs lie.
        pattern: of names; "" for all.
        conditions: `column=pattern`.
        sort: a column; "" for the newest first.
        form: "text", "json" or "csv".

    Raises:
        RecipeError: there is no such column.
    """
    rows = chosen(rows_below(root), pattern, conditions)
    rows = ordered(rows, sort) if sort else rows
    if form == "json":
        return json.dumps([{"metric": row.metric, **_plain(row)} for row in rows], indent=2)
    if form == "csv":
        return _csv(rows)
    if not rows:
        return f"no run below {root} fits" if pattern or conditions else f"no run lies below {root}"
    table, left_out = _fitting([_HEADERS, *map(_cells, rows)])
    said = f"in a wider terminal and in --format csv also: {', '.join(left_out)}" if left_out else ""
    more = in_words(said, table_width() or PAGE)
    return "\n".join([*table, "", _sum(rows), *more])


def clean(root: Path, pattern: str, days: float, *, sure: bool) -> int:
    """Print what can go, and delete it where that is meant; return the exit code: 5 where something stayed."""
    proposed = proposals(root, chosen(rows_below(root, sizes=False), pattern), days)
    if not proposed:
        print(f"nothing to remove: no finished run below {root} is {days:g} days old and has checkpoints to spare")
        return 0
    for each in proposed:
        print(f"{each.bytes / MEGA:9.1f} MB  {one_line(str(each.path))}  ({each.why})")
    total = sum(each.bytes for each in proposed)
    if not sure:
        print(f"{total / MEGA:9.1f} MB in {len(proposed)} places; nothing was removed")
        print(f"to remove them: {typed_as()} clean --yes, with the same words")
        return 0
    free, stayed = remove(proposed)
    print(f"{free / MEGA:9.1f} MB removed; best weights, numbers and pages are kept")
    for line in stayed:
        print(f"kept {one_line(line)}")
    return 5 if stayed else 0


def _plain(row: Row) -> dict[str, object]:
    return {column: row.value(column) for column in COLUMNS}


def _csv(rows: Sequence[Row]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["metric", *COLUMNS])
    for row in rows:  # names of folders and what their files say are somebody's
        values = [row.metric, *("" if each is None else each for each in _plain(row).values())]
        writer.writerow([no_formula(one_line(each)) if isinstance(each, str) else each for each in values])
    return out.getvalue().rstrip("\n")


def _cells(row: Row) -> tuple[str, ...]:
    reached = ("-" if each is None else metric_text(row.metric, each) for each in (row.best, row.final, row.test))
    return (
        one_line(row.run),
        one_line(row.state),
        *reached,
        "-" if row.seed is None else f"{row.seed}",
        f"{row.epochs}",
        "-" if row.seconds is None else duration(row.seconds),
        f"{row.bytes / MEGA:.1f} MB",
        one_line(row.selected_on) or "-",
        row.expectations or "-",
    )


def _fitting(rows: Sequence[Sequence[str]]) -> tuple[list[str], list[str]]:
    """Return the lines of a table that fits where it is shown, and the columns that are left out for it."""
    width, left_out = table_width(), list[str]()
    lines = table_lines(rows)
    for title in _FIRST_LEFT_OUT:
        if width is None or max(map(len, lines)) <= width:
            break
        left_out.append(title)
        kept = [place for place, header in enumerate(_HEADERS) if header not in left_out]
        lines = table_lines([[row[place] for place in kept] for row in rows])
    return lines, left_out


def table_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows, the headers first, as lines of equal columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _sum(rows: Sequence[Row]) -> str:
    size = sum(row.bytes for row in rows) / MEGA
    seconds = sum(row.seconds or 0.0 for row in rows)
    return f"{len(rows)} run{'s' if len(rows) > 1 else ''}, {size:,.1f} MB, trained for {duration(seconds)}"
