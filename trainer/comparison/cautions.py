"""What a reader must know before he relies on the ranks of a comparison, a sentence each."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.comparison.differences import data_in_words, experiments
from trainer.comparison.rows import (
    COPY,
    Comparison,
    Row,
    alike,
    direction,
    is_again,
    is_copy,
    number_title,
    sorted_number,
)
from trainer.comparison.runs import Run
from trainer.comparison.statistics import optimism

_UNTOLD = "has no whole checkpoint: which images it saw cannot be told, so it counts in no mean"
_WORTH_SAYING = 0.0005  # of an accuracy: half a tenth of a point


def cautions(made: Comparison) -> list[str]:
    """Return what a reader must know before he relies on the ranks."""
    rows = made.rows
    found = [f"{run.title} {_UNTOLD}" for run in made.runs if run.images is None and run.finished]
    found += _repeats(made.runs)
    first = made.best
    if any(row.fast for row in rows) and not all(row.fast for row in rows):
        named = _listed([row for row in rows if row.fast])
        found.append(f"{named} ran with --fast, two epochs of two batches: ranked behind all others")
    elif rows[0].fast:
        found.append("All ran with --fast, two epochs of two batches: their numbers say nothing of the recipes")
    other = [row for row in rows if row.fast is first.fast and not alike(row, first)]
    if other:
        found.append(f"{_listed(other)} had other images to be measured on than #1: there is no distance between them")
    words = data_in_words(made.runs, [run for run in made.runs if run.fast is first.fast])
    if len(words) > 1:
        found.append("The data are others: " + "; ".join(f"{letter} has {text}" for letter, text in words.items()))
    found += _folds(rows)
    unfinished = [row for row in rows if _unfinished(row)]
    if unfinished:
        found.append(f"{_listed(unfinished)} did not come to the end: the numbers are those so far")
    if any(run.summary.get("selected_on") == "test" for run in made.runs):
        found.append("A best epoch was chosen on the test split: its number is too good by the choice")
    if sum(row.remark != COPY for row in rows) > 1 and not any(len(row.runs) > 1 for row in rows):
        found.append("Every row is one run: another seed alone moves a result, so a small delta shows nothing")
    return found + _unkept(made) + _looks(made)


def _folds(rows: Sequence[Row]) -> list[str]:
    """Say which rows lack folds or were not run by every seed on each, and what an interval over folds leaves out."""
    found = []
    for row in rows:
        if row.runs[0].fold is None or len(row.runs) == 1:
            continue
        lacking = [str(fold) for fold in range(row.runs[0].settings["data.val.folds"]) if fold not in row.by_fold]
        if lacking:
            found.append(f"{_listed([row])} has no finished run of fold {', '.join(lacking)}: its means lack it")
        if len({tuple(sorted(run.seed for run in runs)) for runs in row.by_fold.values()}) > 1:
            found.append(f"{_listed([row])} was not run by the same seeds on every fold: its means weigh some more")
    if any(len(row.by_fold) > 1 for row in rows):
        found.append(
            "Folds share most of the pictures they learn from: an interval over folds tells less than one over as many "
            "independent runs would"
        )
    return found


def _unkept(made: Comparison) -> list[str]:
    """Say of which distances nobody can tell what they are worth."""
    first, runs = made.best, [run for row in made.rows for run in row.runs]
    others = [row for row in made.rows if row.delta is not None and row.remark != COPY and not _unfinished(row)]
    if not others or _unfinished(first):
        return []
    if all(run.answers is None for run in runs):
        return ["No run has kept its predictions (predictions.npz): what a distance is worth cannot be told"]
    lacking = [row for row in (first, *others) if any(run.answers is None for run in row.runs)]
    return [f"{_listed(lacking)}: without kept predictions nobody can tell what a distance is worth"] if lacking else []


def _unfinished(row: Row) -> bool:
    return any(run.state for run in row.runs)


def _looks(made: Comparison) -> list[str]:
    """Say how much too good the best of several numbers is expected to be, by the choice alone."""
    numbers = dict.fromkeys((made.number, sorted_number(made)))
    return [text for number in numbers if number is not None and (text := _best_of(made, number))]


def _best_of(made: Comparison, number: str) -> str:
    looked = [row for row in made.rows if number in row.numbers and row.remark != COPY]
    looked = [row for row in looked if alike(row, made.best)]
    count = _images(made.best, number)
    if len(looked) < 2 or count is None or direction(made.runs, number) != "max":
        return ""
    much = optimism([row.numbers[number].mean for row in looked], count)
    if much < _WORTH_SAYING:
        return ""
    part = number.partition("/")[2].partition("_")[0]
    text = f"The best of {len(looked)} looks at {count:,} {part} images: by the choice alone the best "
    text += f"{number_title(number)} is expected to be too high by up to {100 * much:.2f} points"
    held_out = f"best/test_{number.partition('_')[2]}"
    other = part != "test" and held_out in made.best.numbers
    return text + (f"; report its {number_title(held_out)}, which chose nothing" if other else "")


def _images(row: Row, number: str) -> int | None:
    """Return how many images a share of a row is of: with folds, of all their parts together."""
    folds = list(row.by_fold.values()) if number.partition("/")[2].startswith("val_") else [list(row.runs)]
    counts = [runs[0].count(number) for runs in folds]
    return None if None in counts else sum(count for count in counts if count is not None)


def _repeats(runs: Sequence[Run]) -> list[str]:
    """Say of each run that repeats an earlier one what it is: a copy, or the same seed again."""
    found, kinds = [], experiments(runs)
    for number, run in enumerate(runs):
        copied = next((each for each in runs[:number] if is_copy(run, each)), None)
        again = [runs[i] for i in range(number) if kinds[i] == kinds[number] and is_again(run, runs[i])]
        if copied is not None:
            found.append(f"{run.title} is identical to {copied.title}: a copy, which counts once")
        elif again:
            had, lacks = ("the seed", "seed") if run.fold is None else ("seed and fold", "run")
            found.append(f"{run.title} has {had} of {again[0].title}: no second {lacks}")
    return found


def _listed(rows: Sequence[Row]) -> str:
    """Return rows as a sentence names them: by their ranks, a single one by its name."""
    ranks = [f"#{row.rank}" for row in sorted(rows, key=lambda row: row.rank)]
    return f"{ranks[0]} ({rows[0].name})" if len(rows) == 1 else f"{', '.join(ranks[:-1])} and {ranks[-1]}"
