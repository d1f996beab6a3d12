"""Runs as rows: one per run, or per configuration over its seeds and folds, named by what differs, the best first."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from registry.catalogue.suggest import nearest
from registry.errors import RecipeError
from registry.printing import duration, metric_text, metric_words, one_line
from registry.reports.scores import interval as wilson
from trainer.comparison.differences import DATA, DEVICE, Difference, differences, experiments
from trainer.comparison.differences import measured_alike as runs_alike
from trainer.comparison.runs import SECONDS, Better, Run
from trainer.comparison.statistics import Interval, of_mean

MARKS = 3  # settings that a name has without need
COPY = "copy"  # the remark on a run that is another's copy
_SAMPLE = "val_loss"  # ranks where nothing else does


@dataclass(frozen=True)
class Spread:
    """A number over the runs of a row.

    Attributes:
        mean: of the runs that have it.
        deviation: the sample's standard deviation; None of one run.
        count: how many have it.
    """

    mean: float
    deviation: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return mean and deviation of at least one value."""
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.mean(values), deviation, len(values))


def interval(row: Row, number: str) -> Interval | None:
    """Return where a number of a row may lie: over its seeds by Student's t, a share of images of one run by Wilson.

    Of folds it is Student's t over their means, each fold counted once. None where neither can be told (seeds that
    reached the same value do not show how seeds spread), and of what is no measure of quality.
    """
    if "/" not in number or number.endswith("/epoch"):
        return None
    parts = row.by_fold.values() if len(row.by_fold) > 1 else [[run] for run in row.runs]
    known = [[run.numbers[number] for run in part if number in run.numbers] for part in parts]
    values = [statistics.mean(each) for each in known if each]
    count = row.runs[0].count(number)
    if len(values) > 1:
        found = of_mean(values)
        return found if found is None or count is None else Interval(max(0.0, found.low), min(1.0, found.high))
    return Interval(*wilson(values[0], count)) if values and count else None


@dataclass(frozen=True)
class Row:
    """A run, or finished runs that differ in their seed and in their fold alone.

    Attributes:
        runs: one per seed and fold.
        name: what sets it apart from the other rows, "lr 0.1, wd 5e-4".
        remark: in a word or two, behind the name: "--fast", "interrupted after 3 of 8 epochs"; "" for none.
        rank: from 1, by the number that ranks.
        delta: how far its number is from the first row's; None for the first, and where they cannot be compared.
    """

    runs: tuple[Run, ...]
    name: str
    remark: str = ""
    rank: int = 0
    delta: float | None = None

    @cached_property
    def numbers(self) -> Mapping[str, Spread]:
        """The numbers of its runs by flat name."""
        keys = dict.fromkeys(key for run in self.runs for key in run.numbers)
        return {key: Spread.of([run.numbers[key] for run in self.runs if key in run.numbers]) for key in keys}

    @property
    def fast(self) -> bool:
        """Whether its runs were small ones of everything."""
        return self.runs[0].fast

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its runs."""
        return tuple(run.seed for run in self.runs)

    @cached_property
    def by_fold(self) -> Mapping[int | None, list[Run]]:
        """The runs of each fold, the first fold first; all of them under None where there are none."""
        found: dict[int | None, list[Run]] = {}
        for run in sorted(self.runs, key=lambda run: run.fold or 0):
            found.setdefault(run.fold, []).append(run)
        return found

    @property
    def kind(self) -> str:
        """What the runs of the row are: "seeds", "folds", or "runs" where they differ in both."""
        if len(self.by_fold) < 2:
            return "seeds"
        return "folds" if len(set(self.seeds)) == 1 else "runs"

    @property
    def many(self) -> str:
        """How many runs of which kind: "3 seeds", "5 folds", "10 runs (2 seeds, 5 folds)", "1 seed"."""
        count = len(self.runs)
        if self.kind == "runs":
            return f"{count} runs ({len(set(self.seeds))} seeds, {len(self.by_fold)} folds)"
        return f"{count} {self.kind if count > 1 else self.kind.removesuffix('s')}"

    @property
    def title(self) -> str:
        """Name and remark."""
        return f"{self.name} ({self.remark})" if self.remark else self.name


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: all of them, as they were named.
        differences: what they have otherwise, in the order of `runs`.
        rows: in the order asked for.
        number: the flat name of the number that ranks, "best/val_accuracy".
        better: its direction.
        sorted_by: what the rows are sorted by; "" for the number that ranks.
    """

    runs: tuple[Run, ...]
    differences: tuple[Difference, ...]
    rows: tuple[Row, ...]
    number: str
    better: Better
    sorted_by: str

    @property
    def best(self) -> Row:
        """The row of rank 1."""
        return next(row for row in self.rows if row.rank == 1)

    @cached_property
    def numbers(self) -> list[str]:
        """The flat names of all numbers, in the order of the runs' summaries."""
        return list(dict.fromkeys(key for row in self.rows for key in row.numbers))

    def text(self, difference: Difference, row: Row) -> str:
        """Return what a row has of a difference."""
        return difference.texts[self.runs.index(row.runs[0])]


def compared(runs: Sequence[Run], sort: str = "") -> Comparison:
    """Return runs as ranked rows.

    Args:
        runs: at least two.
        sort: a number, a label or a path of what differs, "name"; by the number that chose the best epoch where it
            is empty. A dash before it turns the order round.

    Raises:
        RecipeError: there is nothing of that name to sort by.
    """
    different = tuple(differences(runs))
    rows = _named(_grouped(runs), runs, different)
    number = _ranking(runs)
    better = direction(runs, number)
    rows = _ranked(rows, number, better)
    made = Comparison(tuple(runs), different, tuple(rows), number, better, sort)
    return replace(made, rows=tuple(_sorted(made, sort)))


# --------------------------------------------------------------------------------------------------------------- rows
def _grouped(runs: Sequence[Run]) -> list[Row]:
    """Return a row per experiment over its seeds, each seed once, and one for every run that counts in no mean."""
    kinds = experiments(runs)
    rows: list[Row] = []
    place: dict[object, int] = {}  # experiment -> its row
    for number, run in enumerate(runs):
        twin = next((each for each in runs[:number] if is_copy(run, each)), None)
        if twin is not None:
            rows.append(Row((run,), "", COPY))
        elif not run.finished or run.images is None:
            rows.append(Row((run,), "", run.state))
        elif kinds[number] not in place:
            place[kinds[number]] = len(rows)
            rows.append(Row((run,), "", _state(run)))
        else:
            row = rows[place[kinds[number]]]
            if any(is_again(run, each) for each in row.runs):
                rows.append(Row((run,), "", f"{seed_and_fold(run)} again"))
            else:
                rows[place[kinds[number]]] = replace(row, runs=(*row.runs, run))
    return rows


def is_again(run: Run, other: Run) -> bool:
    """Whether a run of one experiment adds nothing to another: it has its seed and its fold."""
    return (run.seed, run.fold) == (other.seed, other.fold)


def seed_and_fold(run: Run) -> str:
    """Return which run of its row it is: "seed 1", "seed 1, fold 0"."""
    return f"seed {run.seed}" + ("" if run.fold is None else f", fold {run.fold}")


def is_copy(run: Run, other: Run) -> bool:
    """Whether two folders hold one run."""
    return (run.settings, run.history, run.summary) == (other.settings, other.history, other.summary)


def _state(run: Run) -> str:
    words = ["--fast"] if run.fast else []
    return ", ".join([*words, *([run.state] if run.state else [])])


# -------------------------------------------------------------------------------------------------------------- names
def _named(rows: Sequence[Row], runs: Sequence[Run], different: Sequence[Difference]) -> list[Row]:
    """Return the rows under names that keep them apart: recipes by their names, rows of a recipe by what differs."""
    found: dict[int, Row] = {}
    recipes = list(dict.fromkeys(row.runs[0].recipe for row in rows))
    for recipe in recipes:
        places = [place for place, row in enumerate(rows) if row.runs[0].recipe == recipe]
        those = [rows[place] for place in places]
        marks = _marks(those, [list(runs).index(row.runs[0]) for row in those], different)
        names = [one_line(", ".join([*([recipe] if len(recipes) > 1 or not each else []), *each])) for each in marks]
        found |= {place: replace(rows[place], name=name) for place, name in zip(places, names, strict=True)}
    named = [found[place] for place in range(len(rows))]
    return [replace(row, name=name) for row, name in zip(named, _apart(named), strict=True)]


def _marks(rows: Sequence[Row], numbers: Sequence[int], different: Sequence[Difference]) -> list[list[str]]:
    """Return what tells rows of one recipe apart: a few settings in any case, more where they are needed.

    Args:
        rows: of one recipe.
        numbers: of their first runs.
        different: what runs differ in.
    """
    told = [each for each in different if each.key != DEVICE and each.kinds(numbers) > 1]
    first = {tuple(each.texts[number] for number in numbers): each for each in reversed(told)}
    choice = [each for each in told if each.key != DATA and each in first.values()]  # no other says the same before it
    taken = choice if len(choice) <= MARKS else _most_telling(choice, numbers)
    while True:
        marks = [_of_one(number, numbers, [each for each in told if each in taken]) for number in numbers]
        titles = [(each, row.remark) for each, row in zip(marks, rows, strict=True)]
        same = [number for number, title in zip(numbers, titles, strict=True) if titles.count(title) > 1]
        helps = next((each for each in told if each not in taken and each.kinds(same) > 1), None)
        if helps is None:
            return marks
        taken = [*taken, helps]


def _most_telling(different: Sequence[Difference], numbers: Sequence[int]) -> list[Difference]:
    """Return the few differences that tell most runs apart; which component it is goes before its arguments."""
    return sorted(different, key=lambda each: (not each.speaks, -each.kinds(numbers)))[:MARKS]


def _of_one(number: int, among: Sequence[int], told_by: Sequence[Difference]) -> list[str]:
    """Return the marks of one run: what is unusual among the others, or the first where nothing is."""
    unusual = [each for each in told_by if not each.is_usual(number, among)]
    return [each.mark(number) for each in unusual or told_by[:1]]


def _apart(rows: Sequence[Row]) -> list[str]:
    """Return the rows' names, those that are alike for all their remarks with the seed, and then with the folder."""
    found = [row.name for row in rows]
    for more in (seed_and_fold, lambda run: one_line(run.folder.resolve().name)):
        titles = [replace(row, name=name).title for row, name in zip(rows, found, strict=True)]
        found = [
            f"{name}, {more(row.runs[0])}" if titles.count(title) > 1 and len(row.runs) == 1 else name
            for row, name, title in zip(rows, found, titles, strict=True)
        ]
    return found


# -------------------------------------------------------------------------------------------------------------- order
def direction(runs: Sequence[Run], number: str) -> Better:
    """Return where a number is better, as a run says that has it; the others need not know it."""
    return next((run for run in runs if number in run.numbers), runs[0]).better(number)


def _ranking(runs: Sequence[Run]) -> str:
    """Return the number that ranks: of the metric that chose the best epoch in most runs."""
    chosen = Counter(f"best/{run.metric[0].replace('/', '_')}" for run in runs)
    known = [number for number, _ in chosen.most_common() if any(number in run.numbers for run in runs)]
    return next(iter([*known, f"best/{_SAMPLE}"]))


def _ranked(rows: Sequence[Row], number: str, better: Better) -> list[Row]:
    """Return the rows with ranks and deltas; runs that were cut down behind whole ones."""

    def place(row: Row) -> tuple[bool, bool, float]:
        spread = row.numbers.get(number)
        value = 0.0 if spread is None else spread.mean
        return row.fast, spread is None, value if better == "min" else -value

    ordered = sorted(rows, key=place)
    first = ordered[0]
    return [
        replace(row, rank=rank, delta=None if row is first else _delta(row, first, number))
        for rank, row in enumerate(ordered, start=1)
    ]


def _delta(row: Row, first: Row, number: str) -> float | None:
    if number not in row.numbers or number not in first.numbers or not alike(row, first):
        return None
    return row.numbers[number].mean - first.numbers[number].mean


def alike(row: Row, other: Row) -> bool:
    """Whether numbers of two rows may be compared: in each fold that one of them has both saw the same images."""
    if row.by_fold.keys() != other.by_fold.keys():
        return False
    return all(runs_alike(runs[0], other.by_fold[fold][0]) for fold, runs in row.by_fold.items())


def _sorted(made: Comparison, sort: str) -> list[Row]:
    """Return the rows in the order asked for; those without a value come last.

    Raises:
        RecipeError: nothing is called so.
    """
    rows = sorted(made.rows, key=lambda row: row.rank)
    if not sort:
        return rows
    wanted, turned = sort.removeprefix("-"), sort.startswith("-")
    values, greatest_first = _values(made, wanted)
    known = [row for row in rows if values[row.rank] is not None]
    known.sort(key=lambda row: values[row.rank], reverse=greatest_first is not turned)  # type: ignore[arg-type,return-value]
    return known + [row for row in rows if values[row.rank] is None]


def _values(made: Comparison, wanted: str) -> tuple[dict[int, object], bool]:
    """Return what to sort by, by rank, and whether the greatest comes first."""
    number = _number_called(made, wanted)
    if number is not None:
        better = direction(made.runs, number)
        return {row.rank: row.numbers[number].mean if number in row.numbers else None for row in made.rows}, (
            better == "max"
        )
    if _same(wanted, "name"):
        return {row.rank: row.name for row in made.rows}, False
    each = next((each for each in made.differences if _same(wanted, each.key, each.label)), None)
    if each is None:
        names = ["name", *map(number_title, made.numbers), *(each.label for each in made.differences)]
        near = nearest(wanted, names)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(names)}"
        raise RecipeError(f"--sort {wanted}: the runs have nothing of that name to sort by", hint)
    raw = {row.rank: each.raw[made.runs.index(row.runs[0])] for row in made.rows}
    numeric = all(isinstance(value, (int, float)) for value in raw.values() if value is not None)
    return raw if numeric else {row.rank: made.text(each, row) or None for row in made.rows}, False


def sorted_number(made: Comparison) -> str | None:
    """Return the number that the rows are sorted by; None where it is something else."""
    return _number_called(made, made.sorted_by.removeprefix("-")) if made.sorted_by else None


def _number_called(made: Comparison, wanted: str) -> str | None:
    return next((key for key in made.numbers if _same(wanted, key, number_title(key))), None)


def _same(wanted: str, *names: str) -> bool:
    """Whether a word names something, whatever stands between its parts: val/accuracy, val_accuracy, "val accuracy"."""
    return _plain(wanted) in map(_plain, names)


def _plain(text: str) -> str:
    return re.sub(r"[\s/_.]+", " ", text).strip().lower()


def number_title(key: str) -> str:
    """Return a number's flat name in words: "best/val_accuracy" -> "val accuracy", "final/test_loss" -> ..."""
    when, _, word = key.partition("/")
    if not word:
        return {SECONDS: "time"}.get(key, key.replace("_", " "))
    part, _, metric = word.partition("_")
    if word == "epoch":
        return {"best": "best epoch", "final": "epochs"}.get(when, word)
    metric = metric_words(metric)
    return f"{part} {metric}" if when == "best" else f"{when} {part} {metric}"


# --------------------------------------------------------------------------------------------------------------- words
def said(key: str, spread: Spread | None, plus_minus: str = "+-") -> str:
    """Return a number of a row as people read it: "97.50 %", "96.25 +- 0.35 %"; "" where there is none."""
    if spread is None:
        return ""
    text = number_text(key, spread.mean)
    if spread.deviation is None or key == SECONDS or key.endswith("/epoch"):
        return text
    unit = " %" if text.endswith(" %") else ""
    return f"{text.removesuffix(unit)} {plus_minus} {number_text(key, spread.deviation).removesuffix(unit)}{unit}"


def number_text(key: str, value: float) -> str:
    """Return a number of a run as people read it."""
    if key == SECONDS:
        return duration(value)
    if key.endswith("/epoch"):
        return f"{value:.1f}".removesuffix(".0")
    return metric_text(key, value) if "/" in key else f"{value:.4g}"


def delta_text(key: str, delta: float | None) -> str:
    """Return a difference with its sign, of percentages in points."""
    if delta is None:
        return ""
    text = metric_text(key, abs(delta)).removesuffix(" %")
    return f"{'-' if delta < 0 else '+'}{text}"


def interval_text(key: str, found: Interval | None) -> str:
    """Return where a number may lie, "96.7 to 98.1 %"; "" where nobody knows."""
    if found is None:
        return ""
    if number_text(key, found.high).endswith(" %"):
        return f"{100 * found.low:.1f} to {100 * found.high:.1f} %"
    return f"{number_text(key, found.low)} to {number_text(key, found.high)}"
