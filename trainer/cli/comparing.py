"""`compare`: runs side by side, as a table on the terminal and a page, or as csv, json or markdown alone."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from registry.errors import RecipeError, UserError
from registry.printing import harmless, one_line
from trainer.cli.console import Console
from trainer.comparison.cautions import cautions
from trainer.comparison.finding import PAGES, Found, find_runs
from trainer.comparison.forms import FORMS
from trainer.comparison.page import write_page
from trainer.comparison.pairs import pairs_of
from trainer.comparison.rows import Comparison, Row, compared, number_text, number_title, seed_and_fold
from trainer.comparison.runs import Run, read_run
from trainer.comparison.table import Column, columns, fitting, is_setting
from trainer.run.folder import RunFolder

OUTPUT = Path("runs")
_GAP = 2  # letters between columns
_MANY = 10  # runs whose checkpoints take a while to read
_PAIRS = 3  # sentences on what differences are worth
_SETTINGS = 15  # that a terminal shows
_NAMED = 4  # columns that are named where there is no room for them
_NARROWEST = 16  # letters of a name before it is wrapped further


def compare(words: Sequence[str], form: str = "text", sort: str = "") -> int:
    """Compare the runs that `words` name, and return the exit code.

    Args:
        words: run folders, folders of runs, patterns.
        form: "text" prints a table and writes runs/compare/<time>/report.html; "csv", "json" and "markdown" only print.
        sort: what the rows are sorted by; "" for the number that chose the best epoch.

    Raises:
        CheckpointError: a word names nothing.
        RecipeError: fewer than two runs are left, or there is nothing to sort by.
    """
    found = find_runs(words)
    runs, left_out = _read(found)
    made = compared(runs, sort)
    if form != "text":
        for note in (*left_out, *cautions(made)):
            print(harmless(f"note: {note}"), file=sys.stderr)
        print(FORMS[form](made), end="")
        return 0
    console = Console()
    width = shutil.get_terminal_size().columns
    for line in (*(f"note: {note}" for note in left_out), *_lines(made, width)):
        console.line(line)
    folder = RunFolder.create(OUTPUT, PAGES, {})
    write_page(made, folder, left_out)
    console.line(f"report {folder.report}")
    return 0


def _read(found: Found) -> tuple[list[Run], list[str]]:
    """Return the runs, and why others that were named are none; a damaged one does not stop thirty.

    Raises:
        RecipeError: fewer than two can be compared; the first damaged run's error where there is one.
    """
    runs, left_out = [], list(found.skipped)
    kind: type[UserError] = RecipeError
    if len(found.runs) > _MANY:
        print(f"reading {len(found.runs)} runs ...", file=sys.stderr)
    for path in found.runs:
        try:
            runs.append(read_run(path))
        except UserError as error:
            left_out.append(f"{one_line(error.message)}: left out")
            kind = type(error) if kind is RecipeError else kind
    if len(runs) < 2:
        there = f"there is {len(runs)}" if runs else "there is none"
        raise kind(
            "\n".join([f"a comparison takes two runs or more; {there}", *(f"  {note}" for note in left_out)]),
            "name runs, a folder of runs (runs/quickstart) or a pattern",
        )
    return runs, left_out


# -------------------------------------------------------------------------------------------------------- the terminal
def _lines(made: Comparison, width: int) -> list[str]:
    """Return what a terminal of `width` letters shows."""
    every = columns(made)
    kept = _fit(every, made, width)
    settings = [each for each in every if is_setting(each, made)]
    lines = [_head(made), "", *_table(kept, made.rows, width)]
    missing = [each for each in every if each not in kept and each not in settings]
    if missing:
        lines += textwrap.wrap(_no_room(missing), width, break_on_hyphens=False)
    if any(each not in kept for each in settings):
        lines += ["", "what differs", *_blocks(every[0], settings[:_SETTINGS], made.rows, width)]
        lines += [f"{more} more on the page and in --format csv"] if (more := len(settings) - _SETTINGS) > 0 else []
    lines += ["", "runs", *_members(made)]
    found, beware = pairs_of(made), cautions(made)
    if found:
        lines += ["", *(line for pair in found[:_PAIRS] for line in _wrapped(pair.sentence(), width))]
        lines += [f"{more} more on the page and in --format json"] if (more := len(found) - _PAIRS) > 0 else []
    return lines + ([""] if beware else []) + [line for text in beware for line in _wrapped(f"warning: {text}", width)]


def _head(made: Comparison) -> str:
    runs, rows = len(made.runs), len(made.rows)
    what = f"{runs} runs" if runs == rows else f"{runs} runs in {rows} row{'s' if rows > 1 else ''}"
    if made.sorted_by:
        return f"{what}, sorted by {made.sorted_by.removeprefix('-')}; #1 has the best {number_title(made.number)}"
    return f"{what}, best {number_title(made.number)} first"


def _no_room(missing: Sequence[Column]) -> str:
    named = ", ".join(each.title for each in missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
    return f"{len(missing)} more (on the page, in --format csv, in a wider terminal): {named}"


def _fit(every: Sequence[Column], made: Comparison, width: int) -> list[Column]:
    """Return the columns there is room for; a name that can be wrapped does not drive out a number."""
    widths = {each.key: _width(each, made.rows) for each in every}
    widths["name"] = min(widths["name"], max(_NARROWEST, width // 3))
    kept = fitting(every, widths, width, _GAP)
    if all(each in kept for each in every if is_setting(each, made)):
        return kept
    return fitting([each for each in every if not is_setting(each, made)], widths, width, _GAP)  # all, or a table below


def _width(column: Column, rows: Sequence[Row]) -> int:
    return max(map(len, [column.title, *(column.text(row, "+-") for row in rows)]))


def _table(shown: Sequence[Column], rows: Sequence[Row], width: int) -> list[str]:
    """Return a table's lines; only a name is wrapped, between its marks."""
    widths = {each.key: _width(each, rows) for each in shown}
    rest = sum(widths.values()) + _GAP * (len(shown) - 1) - width
    if rest > 0 and "name" in widths:
        widths["name"] = max(_NARROWEST, widths["name"] - rest)
    lines = [_line(shown, widths, [each.title for each in shown])]
    for row in rows:
        cells = [each.text(row, "+-") for each in shown]
        wrapped = [
            textwrap.wrap(cell, widths[each.key], break_long_words=False, break_on_hyphens=False) or [""]
            if each.key == "name"
            else [cell]
            for each, cell in zip(shown, cells, strict=True)
        ]
        for number in range(max(map(len, wrapped))):
            lines.append(_line(shown, widths, [part[number] if number < len(part) else "" for part in wrapped]))
    return lines


def _line(shown: Sequence[Column], widths: dict[str, int], cells: Sequence[str]) -> str:
    set_ = [
        cell.rjust(widths[each.key]) if each.right else cell.ljust(widths[each.key])
        for each, cell in zip(shown, cells, strict=True)
    ]
    return (" " * _GAP).join(set_).rstrip()


def _blocks(rank: Column, settings: Sequence[Column], rows: Sequence[Row], width: int) -> list[str]:
    """Return settings as tables beside the ranks, as many columns a table as there is room for."""
    lines: list[str] = []
    rest = list(settings)
    while rest:
        taken, room = [rest.pop(0)], width - _width(rank, rows) - _GAP
        room -= _width(taken[0], rows) + _GAP
        while rest and _width(rest[0], rows) <= room:
            room -= _width(rest[0], rows) + _GAP
            taken.append(rest.pop(0))
        lines += [*([""] if lines else []), *_table([rank, *taken], rows, width)]
    return lines


def _members(made: Comparison) -> list[str]:
    """Return a line per run: whose row it is, where it lies, what it reached alone."""
    lines = []
    digits = len(str(len(made.rows)))
    for row in made.rows:
        for run in row.runs:
            reached = run.numbers.get(made.number)
            alone = f"  {number_text(made.number, reached)}" if reached is not None and len(row.runs) > 1 else ""
            which = f"  {seed_and_fold(run)}" if len(row.runs) > 1 else ""
            lines.append(f"{row.rank:>{digits}}  {one_line(str(run.folder))}{which}{alone}")
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(one_line(text), width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
