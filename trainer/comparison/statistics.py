"""What differences between runs are worth: exact tests on the same images, intervals, tests over seeds.

Pure functions of arrays; SciPy does the statistics and is imported when the first is asked for. Intervals hold 95 %.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
DRAWS = 10_000  # of the bootstrap
_SIMULATED = 20_000  # of the best of several looks


@dataclass(frozen=True)
class Interval:
    """Where a value may lie.

    Attributes:
        low: 2.5 % lie below.
        high: 2.5 % lie above.
    """

    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether a value lies in it, its ends included."""
        return self.low <= value <= self.high


def mcnemar(right: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Return the p-value of McNemar's exact test: whether two networks err equally often on the same images.

    Args:
        right: whether one answered each image rightly, (N,).
        other: the same of the other.
    """
    from scipy.stats import binomtest

    gained, lost = int((right & ~other).sum()), int((other & ~right).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def paired_bootstrap(
    score: NDArray[np.float64], other: NDArray[np.float64], *, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """Return the percentile bootstrap's interval of mean(score) - mean(other) over the same images.

    A draw takes N images with replacement, so of each value of the difference a number that is multinomial: only these
    numbers are drawn, which is the same and needs no N x draws of memory.

    Args:
        score: of each image, (N,): 1 where it was answered rightly, or the share of seeds that did.
        other: the same of the other.
        draws: how often it is drawn.
        seed: of the draws.
    """
    values, counts = np.unique(np.asarray(score) - np.asarray(other), return_counts=True)
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(int(counts.sum()), counts / counts.sum(), size=draws) @ values / counts.sum()
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def of_mean(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Return Student's t interval of the mean of at least two values, which holds it with the probability `level`.

    None where the values are the same up to rounding: such a sample tells nothing of how they spread.
    """
    from scipy.stats import t

    if np.allclose(values, values[0], rtol=1e-9, atol=1e-12):
        return None
    half = float(t.ppf((1 + level) / 2, len(values) - 1)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    middle = float(np.mean(values))
    return Interval(middle - half, middle + half)


@dataclass(frozen=True)
class Welch:
    """Welch's test of two groups whose variances may differ.

    Attributes:
        p: of both means being the same.
        interval: of the difference of the means.
    """

    p: float
    interval: Interval


def welch(values: Sequence[float], other: Sequence[float]) -> Welch | None:
    """Return Welch's test of mean(values) - mean(other), of at least two each; None where neither group varies."""
    from scipy.stats import ttest_ind

    if np.ptp(values) == 0 and np.ptp(other) == 0:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of one group that does not vary, which is no fault
        found = ttest_ind(values, other, equal_var=False)
    interval = found.confidence_interval(LEVEL)
    return Welch(float(found.pvalue), Interval(float(interval.low), float(interval.high)))


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values corrected for being several by Holm (1979), in their order."""
    order = np.argsort(values, kind="stable")
    corrected = np.empty(len(values))
    factors = np.arange(len(values), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(np.asarray(values, dtype=float)[order] * factors))
    return [float(value) for value in corrected]


def optimism(shares: Sequence[float], count: int, *, seed: int = 0) -> float:
    """Return by how much the best of several shares, each of `count` images, is expected to be too high.

    Each share is drawn around itself as far as `count` images let it vary, and the best is taken: what it gained by
    luck, on average. Runs on the same images vary together, so this is the most that is to be expected.

    Args:
        shares: accuracies of all that were looked at.
        count: images that each was measured on.
        seed: of the draws.
    """
    wanted = np.asarray(shares, dtype=float)
    drawn = np.random.default_rng(seed).binomial(count, wanted, size=(_SIMULATED, len(wanted))) / count
    best = drawn.argmax(axis=1)
    return max(0.0, float((drawn.max(axis=1) - wanted[best]).mean()))
