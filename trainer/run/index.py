"""runs/index.html: every run below a folder on one page, newest first, written anew at the end of each run.

A page that cannot be written costs no run: it is said in one line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

from registry import files
from registry.contracts import Paragraph, Section, Table
from registry.printing import literal, metric_text, one_line, printable
from registry.reports.chart_svg import sparkline_svg
from registry.reports.scores import interval, is_share_of_images
from trainer.report.answer import Answer, Tile
from trainer.report.html import html
from trainer.run.listing import Row, rows_below

INDEX = "index.html"
MARKS = (b'name="generator" content="recipe-trainer"', b"<title>Runs - index")  # of this program's pages, old ones too
MOST = 500  # runs on the page, the newest; `runs` lists all


def refresh(root: Path, log: Callable[[str], None]) -> None:
    """Write <root>/index.html.

    Args:
        root: where runs lie.
        log: takes one line where the page cannot be written.
    """
    try:
        if (root / INDEX).exists() and not is_there(root):
            log(f"warning: {root / INDEX} is not this program's page of runs, and stays as it is")
            return
        rows = rows_below(root, sizes=False, newest=MOST)
        if rows or (root / INDEX).exists():
            files.write(root / INDEX, printable(page(rows, root)).encode(), below=root)
    except Exception as error:  # whatever lies in a run of before
        log(f"warning: {root / INDEX} could not be written ({error})")


def is_there(root: Path) -> bool:
    """Whether <root>/index.html is such a page, and nobody's own."""
    try:
        with files.opened(root / INDEX) as file:
            content = file.read()
            return any(mark in content for mark in MARKS)
    except OSError:
        return False


def page(rows: Sequence[Row], root: Path) -> str:
    """Return the page of runs, newest first."""
    headers = ("run", "status", "best", "final", "test", "seed", "epochs", "seconds", "selected on", "expectations")
    which = f"The newest {MOST} runs" if len(rows) == MOST else "Every run, newest first"
    table = Table(
        f"{which}; in brackets the 95 % interval of an accuracy over that many images",
        headers,
        tuple(_cells(row) for row in rows),
        "llrrrrrrll",
        sortable=True,
        order=tuple(_order(row) for row in rows),
        links=tuple(_link(row, root) for row in rows),
        sketches=tuple(sparkline_svg(row.curve, f"{row.metric} by epoch") for row in rows),
    )
    blocks = (table,) if rows else (Paragraph("No run lies here yet.", "note"),)
    answer = Answer("", _tiles(rows), "What each run reached, by the metric that chose its best epoch.", ())
    return html("Runs", answer, [Section("Runs", blocks, "runs")], root, kind="Index of runs")


def _cells(row: Row) -> tuple[str, ...]:
    parts = ((row.best, "val"), (row.final, "val"), (row.test, "test"))
    numbers = ("-" if value is None else _reached(row, value, part) for value, part in parts)
    return (
        literal(one_line(row.run)),
        literal(one_line(row.state)),
        *numbers,
        "-" if row.seed is None else f"{row.seed}",
        f"{row.epochs}",
        "-" if row.seconds is None else f"{row.seconds:.1f}",
        literal(one_line(row.selected_on)),
        row.expectations,
    )


def _reached(row: Row, value: float, part: str) -> str:
    """Return what a run reached on a part, and where it may lie where it is a share of so many images."""
    text, count = metric_text(row.metric, value), row.images.get(part)
    if not count or not is_share_of_images(row.metric):
        return text
    low, high = interval(value, count)
    return f"{text} ({100 * low:.1f} to {100 * high:.1f})"


def _order(row: Row) -> tuple[float | str | None, ...]:
    numbers = (row.best, row.final, row.test, row.seed, row.epochs, row.seconds)
    return row.run, row.status, *numbers, row.selected_on, row.expectations


def _link(row: Row, root: Path) -> str:
    """Return the way to a run's report; to its folder where it has none."""
    way = row.path.relative_to(root)
    return quote(str(way / "report.html" if (row.path / "report.html").exists() else way))


def _tiles(rows: Sequence[Row]) -> tuple[Tile, ...]:
    completed = sum(row.status == "completed" for row in rows)
    tiles = [Tile("Runs", f"{len(rows)}", f"{completed} completed")]
    reached = [row for row in rows if row.best is not None and not row.better_low and not row.fast]
    for metric in list(dict.fromkeys(row.metric for row in reached))[:1]:
        best = max((row for row in reached if row.metric == metric), key=lambda row: row.best or 0.0)
        tiles.append(Tile(f"Greatest {metric}", metric_text(metric, best.best or 0.0), best.run))
    return tuple(tiles)
