"""What the distance of a row from the best one is worth: both on the same images, in numbers and in a sentence.

Runs keep what they answered on the split they report (trainer/run/predictions.py). Rows of one run are held against
each other by McNemar's exact test, rows over seeds by Welch's; the interval is the paired bootstrap's over the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from registry.printing import one_line
from trainer.comparison.differences import measured_alike
from trainer.comparison.rows import COPY, Comparison, Row
from trainer.comparison.runs import Run
from trainer.comparison.statistics import Interval, holm, mcnemar, paired_bootstrap, welch

_SIGNIFICANT = 0.05
MCNEMAR, WELCH = "McNemar's exact test", "Welch's test over seeds"
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """The best row against another on the same images.

    Attributes:
        first: the row of rank 1.
        other: another.
        split: the images' split.
        images: how many.
        difference: accuracy of `first` minus that of `other`, as a share.
        interval: of the difference, over the images.
        apart: images that one answers rightly and the other does not; None over seeds.
        p: of the test that fits; None where there is none (one run against several).
        test: its name; "" where there is none.
        corrected: `p` by Holm, for as many pairs as there are.
    """

    first: Row
    other: Row
    split: str
    images: int
    difference: float
    interval: Interval
    apart: int | None
    p: float | None
    test: str
    corrected: float | None = None

    @property
    def shows(self) -> bool:
        """Whether there is a difference: zero is outside the interval, and the test finds none too improbable."""
        return not self.interval.holds(0.0) and (self.corrected is None or self.corrected < _SIGNIFICANT)

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
            text = f"No difference between {first} and {other} that {self._what_shows()} can show: {size} {between}"
        if self.apart is not None:
            text += f"; of {self.images:,} images they differ on {self.apart:,}"
        return f"{text}{self._tested()}"

    def _what_shows(self) -> str:
        if self.test == WELCH and not self.interval.holds(0.0):
            return f"{len(self.first.runs)} and {len(self.other.runs)} seeds"
        return f"{self.images:,} {self.split} images"

    def _tested(self) -> str:
        if self.p is None or self.corrected is None:
            one, two = len(self.first.runs), len(self.other.runs)
            return "" if one == two else f" ({one} seed{'s' * (one > 1)} against {two}: no test over them)"
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
    if not measured_alike(first.runs[0], other.runs[0]):
        return None
    aligned = _on_the_same_images([*first.runs, *other.runs])
    if aligned is None or first.runs[0].answers is None:
        return None
    one, two = aligned[: len(first.runs)], aligned[len(first.runs) :]
    score, against = one.mean(axis=0), two.mean(axis=0)
    p, test = _test(one, two)
    return Pair(
        first,
        other,
        first.runs[0].answers.split,
        one.shape[1],
        float(score.mean() - against.mean()),
        paired_bootstrap(score, against),
        int((one[0] != two[0]).sum()) if len(one) == len(two) == 1 else None,
        p,
        test,
    )


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
