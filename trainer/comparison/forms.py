"""A comparison for programs and for text: csv, json, markdown. Numbers have every digit, but in markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

from registry.contracts import Table
from registry.printing import literal, one_line, printable
from registry.spreadsheets import no_formula
from trainer.comparison.cautions import cautions
from trainer.comparison.pairs import Pair, pairs_of
from trainer.comparison.rows import Comparison, Row, interval
from trainer.comparison.runs import Run
from trainer.comparison.table import columns
from trainer.report.markdown import markdown_table


def as_csv(made: Comparison) -> str:
    """Return a line per row: its name, runs, what differs, and every number with deviation and interval."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    settings = [each.key for each in made.differences]
    numbers = [name for key in made.numbers for name in (key, f"{key}/sd", f"{key}/low", f"{key}/high")]
    about = ["rank", "name", "remark", "runs", "seeds", "folds", "fast", "folders"]
    writer.writerow([*about, *settings, "delta", *numbers])
    for row in made.rows:
        reached = [value for key in made.numbers for value in _reached(row, key)]
        words = [
            *(row.name, row.remark, len(row.runs), " ".join(map(str, row.seeds))),
            *(" ".join(str(run.fold) for run in row.runs if run.fold is not None), row.fast),
            " ".join(str(run.folder) for run in row.runs),
        ]
        different = [made.text(each, row) for each in made.differences]
        writer.writerow([row.rank, *(_cell(each) for each in [*words, *different]), row.delta, *reached])
    return printable(text.getvalue())


def _reached(row: Row, key: str) -> list[float | None]:
    """Return mean, deviation and the ends of the interval of a number, None for what there is not."""
    spread = row.numbers.get(key)
    if spread is None:
        return [None] * 4
    return [spread.mean, spread.deviation, *(_ends(row, key) or (None, None))]


def _cell(value: object) -> object:
    return no_formula(value) if isinstance(value, str) else value


def as_json(made: Comparison) -> str:
    """Return the comparison as one object."""
    return json.dumps(_plain(made), indent=2, ensure_ascii=False, default=str) + "\n"


def _plain(made: Comparison) -> Mapping[str, Any]:
    return {
        "ranked_by": {"number": made.number, "better": made.better},
        "sorted_by": made.sorted_by or made.number,
        "differences": [each.key for each in made.differences],
        "rows": [_row(made, row) for row in made.rows],
        "pairs": [_pair(pair) for pair in pairs_of(made)],
        "cautions": [printable(text) for text in cautions(made)],
    }


def _pair(pair: Pair) -> Mapping[str, Any]:
    return {
        "ranks": [pair.first.rank, pair.other.rank],
        "split": pair.split,
        "images": pair.images,
        "difference": pair.difference,
        "interval": [pair.interval.low, pair.interval.high],
        "differ_on": pair.apart,
        "test": pair.test,
        "p": pair.p,
        "p_holm": pair.corrected,
        "sentence": printable(pair.sentence()),
    }


def _row(made: Comparison, row: Row) -> Mapping[str, Any]:
    number = made.runs.index(row.runs[0])
    return {
        "rank": row.rank,
        "name": row.name,
        "remark": row.remark,
        "fast": row.fast,
        "delta": row.delta,
        "settings": {each.key: each.raw[number] for each in made.differences},
        "numbers": {
            key: {"mean": spread.mean, "sd": spread.deviation, "runs": spread.count, "interval": _ends(row, key)}
            for key, spread in row.numbers.items()
        },
        "runs": [_run(run) for run in row.runs],
    }


def _run(run: Run) -> Mapping[str, Any]:
    fold = {} if run.fold is None else {"fold": run.fold}
    return {"folder": printable(str(run.folder)), "seed": run.seed, **fold, "numbers": run.numbers}


def _ends(row: Row, key: str) -> list[float] | None:
    found = interval(row, key)
    return None if found is None else [found.low, found.high]


def as_markdown(made: Comparison) -> str:
    """Return the whole table as GitHub has it, the cautions below it."""
    every = columns(made)
    table = Table(
        "",
        tuple(one_line(each.title) for each in every),
        tuple(tuple(literal(each.text(row, "±")) for each in every) for row in made.rows),
        "".join("r" if each.right else "l" for each in every),
    )
    told = [*(pair.sentence() for pair in pairs_of(made)), *cautions(made)]
    words = "".join(f"\n> {one_line(text)}\n" for text in told)
    return printable(f"{markdown_table(table)}\n{words}")


FORMS: Mapping[str, Callable[[Comparison], str]] = {"csv": as_csv, "json": as_json, "markdown": as_markdown}
