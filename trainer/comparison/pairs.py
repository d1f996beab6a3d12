"""What the distance of a row from the best one is worth: both on the same images, in numbers and in a sentence.

Runs keep what they answered on the split they report (trainer/run/predictions.py). Rows of one run are held against
each other by McNemar's exact test, rows over seeds by Welch's; the interval is the paired bootstrap's over the images.
Of folds that were measured on their own part each, the parts together are the images: every one was answered once by a
network that had not learnt from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from registry.printing import one_line
from trainer.comparison.rows import COPY, Comparison, Row, alike
from trainer.comparison.runs import Run
from trainer.comparison.statistics import Interval, holm, mcnemar, paired_bootstrap, welch

_SIGNIFICANT = 0.05
MCNEMAR, WELCH = "McNemar's exact test", "Welch's test"
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """The best row against another on the same images.

    Attributes:
        first: the row of rank 1.
        other: another.
        split: the images' split.
        images: how many.
        runs: how often each row has answered every image.
        over: what these runs are: seeds, folds or runs.
        difference: accuracy of `first` minus that of `other`, as a share.
        interval: of the difference, over the images.
        apart: images that one answers rightly and the other does not; None over several runs of an image.
        p: of the test that fits; None where there is none (one run against several).
        test: its name, "Welch's test over seeds"; "" where there is none.
        corrected: `p` by Holm, for as many pairs as there are.
    """

    first: Row
    other: Row
    split: str
    images: int
    runs: tuple[int, int]
    over: str
    difference: float
    interval: Interval
    apart: int | None
    p: float | None
    test: str
    corrected: float | None = None

    @property
    def shows(self) -> bool:
        """Whether there is a difference: zero is outside the interval, and the test finds none too improbable.

        Of rows of several runs the images alone show nothing: other runs may turn it round.
        """
        tested = max(self.runs) == 1 if self.corrected is None else self.corrected < _SIGNIFICANT
        return tested and not self.interval.holds(0.0)

    def sentence(self) -> str:
        """Return in words what is known of the difference."""
        first, other = (one_line(row.title) for row in (self.first, self.other))
        size = f"{100 * abs(self.difference):.2f} points of {self.split} accuracy"
        turned = self.interval if self.difference >= 0 else Interval(-self.interval.high, -self.interval.low)
        between = f"(95 % interval {100 * turned.low:.2f} to {100 * turned.high:.2f})"
        if self.apart == 0:
            return f"{first} and {other} answer the same images rightly, of {self.images:,} {self.split} images"
        if self.interval == Interval(0.0, 0.0):
            return f"{first} and {other} answer each of {self.images:,} {self.split} images rightly equally often"
        if self.shows:
            word = "better" if self.difference > 0 else "worse"
            text = f"{first} is {word} than {other} by {size} {between}"
        else:
            low, high = (f"{100 * bound:+.2f}" for bound in (self.interval.low, self.interval.high))
            text = (
                f"No difference between {first} and {other} that {self._what_shows()} can show: "
                f"{100 * self.difference:+.2f} points of {self.split} accuracy (95 % interval {low} to {high})"
            )
        if self.apart is not None:
            text += f"; of {self.images:,} images they differ on {self.apart:,}"
        return f"{text}{self._tested()}"

    def _what_shows(self) -> str:
        if max(self.runs) > 1 and not self.interval.holds(0.0):
            return f"{self.runs[0]} and {self.runs[1]} {self.over}"
        return f"{self.images:,} {self.split} images"

    def _tested(self) -> str:
        if self.p is None or self.corrected is None:
            one, two = self.runs
            kind = self.over.removesuffix("s") if one == 1 else self.over
            return "" if one == two == 1 else f" ({one} {kind} against {two}: no test over them)"
        more = "" if self.corrected == self.p else f", corrected for several comparisons {p_text(self.corrected)}"
        return f" ({self.test}: p {p_text(self.p)}{more})"


def pairs_of(made: Comparison) -> list[Pair]:
    """Return the best row against every other that has answered the same images, by rank."""
    first = made.best
    others = [row for row in sorted(made.rows, key=lambda row: row.rank) if row is not first and row.remark != COPY]
    found = [pair for row in others if (pair := _pair(first, row)) is not None]
    tested = [each for each in found if each.p is not None]
    corrected = iter(holm([each.p for each in tested if each.p is not None]))
    return [each if each.p is None else replace(each, corrected=next(corrected)) for each in found]


def _pair(first: Row, other: Row) -> Pair | None:
    if not alike(first, other) or first.runs[0].answers is None:
        return None
    aligned = _aligned(first, other)
    if aligned is None:
        return None
    one, two = aligned
    score, against = one.mean(axis=0), two.mean(axis=0)
    over = _over(first, other)
    p, test = _test(one, two)
    return Pair(
        first,
        other,
        first.runs[0].answers.split,
        one.shape[1],
        (len(one), len(two)),
        over,
        float(score.mean() - against.mean()),
        paired_bootstrap(score, against),
        int((one[0] != two[0]).sum()) if len(one) == len(two) == 1 else None,
        p,
        f"{test} over {over}" if test == WELCH else test,
    )


def _over(first: Row, other: Row) -> str:
    """Return what a test over runs is taken over: seeds where an image was answered once by each, else runs."""
    kinds = {first.kind, other.kind}
    if _in_parts(first):
        return "seeds"
    return kinds.pop() if len(kinds) == 1 else "runs"


def _in_parts(row: Row) -> bool:
    """Whether each fold of a row was measured on images of its own."""
    return len(row.by_fold) > 1 and all(run.answers is not None and run.answers.split == "val" for run in row.runs)


def _aligned(first: Row, other: Row) -> tuple[Scores, Scores] | None:
    """Return which images two rows answered rightly, (runs, N) and (others, N); None where they are not the same.

    Of folds that were measured on their own part each, a run is a seed on all of them.
    """
    if not _in_parts(first):
        aligned = _on_the_same_images([*first.runs, *other.runs])
        return None if aligned is None else (aligned[: len(first.runs)], aligned[len(first.runs) :])
    parts = []
    for fold, runs in first.by_fold.items():
        both = [sorted(each, key=lambda run: run.seed) for each in (runs, other.by_fold[fold])]
        aligned = _on_the_same_images([*both[0], *both[1]])
        if aligned is None:
            return None
        parts.append((aligned[: len(both[0])], aligned[len(both[0]) :]))
    one, two = zip(*parts, strict=True)
    if any(len({len(part) for part in each}) > 1 for each in (one, two)):
        return None  # not every seed was run on every fold
    return np.concatenate(one, axis=1), np.concatenate(two, axis=1)


def _test(one: Scores, two: Scores) -> tuple[float | None, str]:
    if len(one) == len(two) == 1:
        return mcnemar(one[0] > 0, two[0] > 0), MCNEMAR
    if min(len(one), len(two)) < 2:
        return None, ""
    found = welch(list(one.mean(axis=1)), list(two.mean(axis=1)))
    return (None, "") if found is None else (found.p, WELCH)


def _on_the_same_images(runs: Sequence[Run]) -> Scores | None:
    """Return which images each run answered rightly, (runs, N), in one order; None where they are not the same."""
    rows, known = [], None
    for run in runs:
        if run.answers is None:
            return None
        order = np.lexsort((run.answers.targets, run.answers.keys))
        about = (run.answers.split, run.answers.keyed_by, run.answers.class_names)
        images = np.stack([run.answers.keys[order], run.answers.targets[order]])
        if known is not None and (about != known[0] or not np.array_equal(images, known[1])):
            return None
        known = about, images
        rows.append(run.answers.right[order])
    return np.stack(rows).astype(float)


def p_text(p: float) -> str:
    """Return a p-value as people read it."""
    return "below 0.0001" if p < 1e-4 else f"{p:.2g}"
