"""The page of a comparison: the table that can be sorted, curves, what differs, every run with a link to its report."""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from registry.contracts import Block, Figure, Paragraph, Section, Table
from registry.printing import counted_few, duration, literal, one_line
from registry.reports.chart import SERIES, Axis, Line, LineChart
from registry.reports.chart_png import line_chart_png
from registry.reports.chart_svg import line_chart_svg
from trainer.comparison.cautions import cautions
from trainer.comparison.pairs import Pair, p_text, pairs_of
from trainer.comparison.rows import (
    COPY,
    Comparison,
    Row,
    delta_text,
    interval,
    interval_text,
    number_text,
    number_title,
    said,
)
from trainer.comparison.runs import SECONDS, Run
from trainer.comparison.table import MAIN, Column, columns, is_setting
from trainer.report.answer import Answer, Tile
from trainer.report.html import html
from trainer.run.folder import RunFolder

_COLUMNS = 6  # settings that stand in the table of results; more have a table of their own
_LABEL = 22  # letters of a name beside a curve
_MARKED = 5  # of the curves that have a colour, those drawn without dashes
_SENTENCES = 3  # on what differences are worth
_HOW = (
    "The interval is the paired bootstrap's over the images, 10,000 draws. Rows of one run are compared by McNemar's "
    "exact test on the images that only one of both answers rightly, rows over several by Welch's test; several tests "
    "are corrected by Holm. Folds that were measured on their own part each count as one run on all the images. "
    "Another seed alone moves a result: what these images show of two runs need not hold for two others."
)
_EXPONENT = re.compile(r"(?<=\de)-(?=\d)")
_SIGN = "±"
_LOG_RANGES = (8, 1000)  # of the greatest to the least learning rate, between which decades are at equal distances
Points = tuple[list[float], list[float]]


def write_page(made: Comparison, folder: RunFolder, left_out: Sequence[str] = ()) -> None:
    """Write report.html and the figures it shows into `folder`; `left_out` says what was named and is not on it."""
    pairs = pairs_of(made)
    sections = [
        _results(made, folder.path),
        *_worth(pairs),
        _curves(made, folder.path),
        *_settings(made),
        _runs(made, folder.path),
    ]
    warnings = (*(literal(f"{text}.") for text in cautions(made)), *(literal(f"{text}.") for text in left_out))
    verdict = " ".join([_verdict(made), *(literal(f"{pair.sentence()}.") for pair in pairs[:1])])
    answer = Answer(_description(made), _tiles(made), verdict, warnings)
    folder.write_text("report.html", html(_title(made), answer, sections, folder.path, kind="Comparison"))


# -------------------------------------------------------------------------------------------------------------- answer
def _title(made: Comparison) -> str:
    recipes = list(dict.fromkeys(one_line(run.recipe) for run in made.runs))
    return counted_few(recipes)


def _description(made: Comparison) -> str:
    labels = [each.label for each in made.differences]
    what = f"They differ in {counted_few(labels, 6)}."
    return f"{len(made.runs)} runs side by side. " + (what if labels else "Their recipes and data are the same.")


def _tiles(made: Comparison) -> tuple[Tile, ...]:
    first, title = made.best, number_title(made.number)
    if made.number not in first.numbers:
        return (Tile("Result", "none", "no run has finished an epoch"),)
    tiles = [_tile(f"Best {title}", first, made.number, one_line(first.title))]
    second = next((row for row in made.rows if row.rank == 2), None)
    if second is not None and second.delta is not None:
        tiles.append(_tile("Second", second, made.number, one_line(second.title)))
        tiles.append(Tile("Between them", delta_text(made.number, second.delta).lstrip("+-"), _unit(made.number)))
    held_out = _held_out(made.number)
    if held_out in first.numbers:
        note = "of the same row: held out, it chose nothing"
        tiles.append(_tile(number_title(held_out), first, held_out, note))
    once = [run for row in made.rows if row.remark != COPY for run in row.runs]
    seconds = sum(run.numbers.get(SECONDS, 0.0) for run in once)
    tiles.append(Tile("Training time", duration(seconds), f"of {len(once)} runs together"))
    return tuple(tiles)


def _tile(label: str, row: Row, number: str, note: str) -> Tile:
    """Return a number of a row as a tile, with its deviation and where it may lie."""
    spread, found, count = row.numbers[number], interval(row, number), row.runs[0].count(number)
    deviation = f"{_SIGN}{said(number, spread, _SIGN).rpartition(_SIGN)[2]}"
    around = "" if spread.deviation is None else f"{deviation} over the {row.kind}; "
    over = f", {row.many}" if len(row.runs) > 1 else f", {count:,} images" if count else ""
    chance = around if found is None else f"{around}95 % interval {interval_text(number, found)}{over}"
    return Tile(label, number_text(number, spread.mean), note, chance.removesuffix("; "))


def _held_out(number: str) -> str:
    """Return the same number on the split that is held out."""
    return f"best/test_{number.partition('_')[2]}"


def _unit(number: str) -> str:
    return "points" if number_text(number, 0.0).endswith("%") else number_title(number)


def _verdict(made: Comparison) -> str:
    first, title = made.best, number_title(made.number)
    if made.number not in first.numbers:
        return "There is nothing to compare yet."
    text = f"**{literal(first.title)}** has the best {title}, {said(made.number, first.numbers[made.number], _SIGN)}"
    text += f" over {first.many}" if len(first.runs) > 1 else ""
    second = next((row for row in made.rows if row.rank == 2), None)
    if second is None or second.delta is None:
        return f"{text}."
    apart = delta_text(made.number, second.delta).lstrip("+-")
    return f"{text}, {apart} {_unit(made.number)} from the second, **{literal(second.title)}**."


# ------------------------------------------------------------------------------------------------------------- results
def _results(made: Comparison, page: Path) -> Section:
    every = [each for each in columns(made) if each.key not in ("rank", "name")]
    if len(made.differences) > _COLUMNS:
        every = [each for each in every if not is_setting(each, made)]
    main, more = ([each for each in every if (each.need <= MAIN) is first] for first in (True, False))
    points = ", in points" if _unit(made.number) == "points" else ""
    said_first = f"Best {number_title(made.number)} first; `to #1` is how far it is from the first{points}"
    said_first += "; `95 %` is an interval" if any(each.key.endswith("/interval") for each in main) else ""
    tables = [_table(said_first, main, made, page)]
    if more:
        tables.append(_table("More numbers: at the best epoch, and `final` at the last", more, made, page))
    return Section("Results", tuple(tables), "results")


def _table(caption: str, shown: Sequence[Column], made: Comparison, page: Path) -> Table:
    """Return a table of all rows that can be sorted, each row leading to its run's report where it is one run."""
    return Table(
        caption,
        ("run", *(each.title for each in shown)),
        tuple((_named(row), *(literal(each.text(row, _SIGN)) for each in shown)) for row in made.rows),
        "l" + "".join("r" if each.right else "l" for each in shown),
        sortable=True,
        order=tuple((float(row.rank), *(each.order(row) for each in shown)) for row in made.rows),
        links=tuple(_link(row.runs[0], page) if len(row.runs) == 1 else "" for row in made.rows),
    )


def _named(row: Row) -> str:
    """Return a row's rank and name; a number such as 5e-4 stays on one line."""
    return literal(_EXPONENT.sub("\u2011", f"#{row.rank} {row.title}"))


def _link(run: Run, page: Path) -> str:
    """Return the way from the page to a run's report; "" where it has none."""
    report = RunFolder(run.folder).report
    if not report.is_file():
        return ""
    return quote(Path(os.path.relpath(report.resolve(), page.resolve())).as_posix())


def _worth(pairs: Sequence[Pair]) -> list[Section]:
    """Return what the differences from the best row are worth, each in numbers and in words."""
    if not pairs:
        return []
    rows = tuple(
        (
            _named(pair.other),
            f"{100 * pair.difference:+.2f}",
            f"{100 * pair.interval.low:+.2f} to {100 * pair.interval.high:+.2f}",
            "" if pair.apart is None else f"{pair.apart:,}",
            "" if pair.p is None else p_text(pair.p),
            "" if pair.corrected is None else p_text(pair.corrected),
            pair.test,
        )
        for pair in pairs
    )
    headers = ("#1 against", "points", "95 % interval", "images apart", "p", "p by Holm", "test")
    caption = f"{_named(pairs[0].first)} against the others on the same {pairs[0].images:,} {pairs[0].split} images"
    words = [Paragraph(literal(f"{pair.sentence()}.")) for pair in pairs[:_SENTENCES]]
    return [
        Section(
            "How sure the order is",
            (*words, Table(caption, headers, rows, "lrrrrrl", sortable=True), Paragraph(_HOW, "note")),
            "worth",
        )
    ]


def _settings(made: Comparison) -> list[Section]:
    if not made.differences:
        return []
    rows = tuple(
        (literal(each.key), *(literal(made.text(each, row)) for row in made.rows)) for each in made.differences
    )
    table = Table(
        "By dotted path in the recipe", ("setting", *(f"#{row.rank}" for row in made.rows)), rows, sortable=True
    )
    return [Section("What differs", (table,), "settings")]


def _runs(made: Comparison, page: Path) -> Section:
    """Return every run with the row it counts in."""
    runs = [(row, run) for row in made.rows for run in row.runs]
    folded = any(run.fold is not None for _, run in runs)
    numbers = [key for key in dict.fromkeys((made.number, _held_out(made.number))) if key in made.numbers]
    rows = tuple(
        (
            literal(one_line(str(run.folder))),
            f"#{row.rank} {literal(row.name)}",
            str(run.seed),
            *([_fold(run)] if folded else []),
            str(run.summary.get("status", "unknown")),
            *(number_text(key, run.numbers[key]) if key in run.numbers else "" for key in numbers),
        )
        for row, run in runs
    )
    order = tuple(
        (str(run.folder), float(row.rank), float(run.seed), *([run.fold] if folded else []),
         str(run.summary.get("status", "")),
         *(run.numbers.get(key) for key in numbers))
        for row, run in runs
    )  # fmt: skip
    headers = ("folder", "row", "seed", *(["fold"] if folded else []), "status", *map(number_title, numbers))
    align = "llr" + "r" * folded + "l" + "r" * len(numbers)
    links = tuple(_link(run, page) for _, run in runs)
    table = Table("Each run by itself", headers, rows, align, sortable=True, order=order, links=links)
    return Section("Runs", (table,), "runs")


def _fold(run: Run) -> str:
    return "" if run.fold is None else str(run.fold)


# -------------------------------------------------------------------------------------------------------------- curves
def _curves(made: Comparison, page: Path) -> Section:
    """Return a chart per quantity, a line in a colour of its own per row, named at its end."""
    figures = []
    for key in dict.fromkeys((made.runs[0].metric[0], "val/loss", "train/loss", "lr")):
        chart = _chart(key, made)
        if not chart.lines:
            continue
        path = f"figures/{key.replace('/', '_')}.png"
        line_chart_png(chart, page / path, below=page)
        named = [line for line in chart.lines if not line.faint]
        alt = "; ".join(f"{line.label} ends at {line.ys[-1]:.4g}" for line in named)
        figures.append(Figure(path, alt, chart.title, line_chart_svg(chart)))
    notes: list[Block] = [Paragraph(text) for text in _how_drawn(made)]
    if not figures:
        return Section("Curves", (Paragraph("No run has finished an epoch."),), "curves")
    return Section("Curves", (*notes, *figures), "curves")


def _how_drawn(made: Comparison) -> list[str]:
    found = []
    kinds = {row.kind for row in made.rows if len(row.runs) > 1}
    if kinds:
        kind = kinds.pop() if len(kinds) == 1 else "runs"
        one = kind.removesuffix("s")
        found.append(f"A bold line is the mean over the {kind} of a row; each {one} is a thin one of the same colour.")
    if len(_drawn(made)) > len(SERIES):
        found.append(f"The best {len(SERIES)} rows have a colour and a name; the others are thin grey lines.")
    return found


def _drawn(made: Comparison) -> list[Row]:
    """Return the rows with a line of their own, by rank; a copy would only cover another."""
    return [row for row in sorted(made.rows, key=lambda row: row.rank) if row.remark != COPY]


def _chart(key: str, made: Comparison) -> LineChart:
    faint: list[Line] = []
    bold: list[Line] = []
    for place, row in enumerate(_drawn(made)):
        every = [points for run in row.runs if (points := _points(run, key))[0]]
        role = SERIES[place] if place < len(SERIES) else "quiet"
        single = len(every) == 1
        if not every:
            continue
        if place >= len(SERIES) or not single:
            faint += [Line(_label(row), xs, ys, role, faint=True) for xs, ys in every]
        if place < len(SERIES):
            xs, ys = every[0] if single else _mean(every)
            bold.append(Line(_label(row), xs, ys, role, dashed=place >= _MARKED))
    values = [y for line in (*faint, *bold) for y in line.ys]
    log = key == "lr" and min(values, default=0.0) > 0 and _LOG_RANGES[0] < max(values) / min(values) < _LOG_RANGES[1]
    percent = number_text(f"best/{key}", 0.0).endswith("%")
    return LineChart(
        f"{key} by epoch", Axis("epoch", whole=True), Axis(key, percent=percent, log=log), (*faint, *bold), beside=True
    )


def _points(run: Run, key: str) -> Points:
    rows = [(row["epoch"], row[key]) for row in run.history if row.get(key) is not None]
    return [x for x, _ in rows], [y for _, y in rows]


def _mean(every: Sequence[Points]) -> Points:
    """Return the mean of curves at the epochs that all of them have."""
    values = [dict(zip(xs, ys, strict=True)) for xs, ys in every]
    shared = [x for x in values[0] if all(x in each for each in values)]
    return shared, [statistics.mean(each[x] for each in values) for x in shared]


def _label(row: Row) -> str:
    """Return a row's name as there is room for beside a curve, cut between words; the rank keeps it apart."""
    label = f"#{row.rank} {row.title}"
    if len(label) <= _LABEL:
        return label
    kept = label[: _LABEL - 3]
    return f"{kept.rpartition(' ')[0].rstrip(',') or kept} ..."
