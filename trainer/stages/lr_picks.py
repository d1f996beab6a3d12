"""Learning-rate suggestions from a sweep's curve: the smooth, the picks, and whether there is an answer at all.

Pure functions of numbers. The sweep is over when they run, so the smooth is zero-phase (symmetric): a causal average
lags behind the loss and moves every pick to a higher rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist

import numpy as np

Array = np.ndarray
FALSE_ALARMS = 0.001  # share of flat, noisy curves in which a descent may be seen


def learning_rates(start: float, end: float, steps: int, mode: str) -> Array:
    """Return the sweep's learning rates, float64 (steps,): the first is `start`, the last is `end`."""
    share = np.arange(steps) / (steps - 1)
    if mode == "linear":
        return start + (end - start) * share
    return start * (end / start) ** share


def smooth(losses: Sequence[float], sigma: float) -> Array:
    """Return `losses` under a Gaussian of `sigma` points, renormalised at the edges; sigma 0 changes nothing."""
    values = np.asarray(losses, dtype=np.float64)
    if sigma <= 0 or len(values) < 2:
        return values
    reach = min(int(np.ceil(4 * sigma)), len(values) - 1)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    total = np.convolve(values, weights)[reach : reach + len(values)]
    norm = np.convolve(np.ones_like(values), weights)[reach : reach + len(values)]
    return np.asarray(total / norm)


def minimum(lrs: Array, losses: Array) -> float:
    """Learning rate of the smallest loss."""
    return float(lrs[int(np.argmin(losses))])


def minimum_over_10(lrs: Array, losses: Array) -> float:
    """A tenth of the learning rate of the smallest loss: still descending, far from the blow-up."""
    return minimum(lrs, losses) / 10


def steepest(lrs: Array, losses: Array) -> float:
    """Learning rate where the loss falls fastest over log(lr), before the minimum."""
    end = max(int(np.argmin(losses)) + 1, 3)
    slope = np.gradient(losses, np.log(lrs))[:end]
    return float(lrs[int(np.argmin(slope))])


def valley(lrs: Array, losses: Array) -> float:
    """Learning rate about half-way down the longest falling run (a longest decreasing subsequence), fastai's rule."""
    count = len(losses)
    lengths = np.ones(count, dtype=np.int64)
    for i in range(1, count):
        falling = lengths[:i][losses[:i] > losses[i]]
        if falling.size:
            lengths[i] = falling.max() + 1
    end = int(np.argmax(lengths))
    length = int(lengths[end])
    index = max(end - length, 0) + length // 3 + length // 6
    return float(lrs[min(index, count - 1)])


PICKS: Mapping[str, Callable[[Array, Array], float]] = {
    "minimum": minimum,
    "steepest": steepest,
    "valley": valley,
    "minimum_over_10": minimum_over_10,
}


def noise_of(losses: Sequence[float]) -> float:
    """Return the standard deviation of a curve's noise, from its differences: a trend hardly counts.

    Differences beyond four deviations, as a spike or a blow-up makes them, count as four.
    """
    differences = np.abs(np.diff(np.asarray(losses, dtype=np.float64)))
    if not differences.size:
        return 0.0
    usual = 1.4826 * np.median(differences)
    return float(np.sqrt(np.mean(np.minimum(differences, 4 * usual) ** 2) / 2))


def level_at_start(losses: Sequence[float], noise: float) -> float:
    """Return the loss that a sweep starts from: a mean, in which a single spike counts as three deviations of noise."""
    first = np.asarray(losses[: _at_start(len(losses))], dtype=np.float64)
    middle = np.median(first)
    return float(np.mean(np.clip(first, middle - 3 * noise, middle + 3 * noise)))


def chance_drop(count: int, noise: float, sigma: float) -> float:
    """Return how far the smooth of a flat, noisy curve may dip below its start by chance, in units of the loss.

    Both ends of the drop are noisy. The start is a mean of the first points. A Gaussian of `sigma` points averages
    about 2 sqrt(pi) sigma of them, so a curve has that many times fewer independent lows, and the lowest of them is
    held to `FALSE_ALARMS` divided by their number. The noise is only estimated, from few points badly: 5 / n more.

    Args:
        count: points of the curve.
        noise: standard deviation of a point.
        sigma: width of the smooth in points.
    """
    averaged = max(2 * math.sqrt(math.pi) * sigma, 1.0)
    lows = max(count / averaged, 1.0)
    deviations = NormalDist().inv_cdf(1 - FALSE_ALARMS / lows) * (1 + 5 / max(count, 1))
    return deviations * noise * math.sqrt(1 / _at_start(count) + 1 / averaged)


def _at_start(count: int) -> int:
    """Return how many points tell the loss that a sweep starts from."""
    return max(5, count // 10)


def why_inconclusive(
    losses: Sequence[float], smoothed: Array, steps: int, stopped: str, sigma: float, uncounted: int = 0
) -> str:
    """Return why this curve has no answer and what to try; "" when it has one.

    Args:
        losses: as measured.
        smoothed: their smooth.
        steps: planned length of the sweep.
        stopped: how it ended: "end", "diverged" or "non-finite".
        sigma: width of the smooth in points.
        uncounted: steps that measured nothing, because every image in them has a class weight of 0 or an ignored class.
    """
    needed = min(20, steps / 2)
    if len(losses) < needed and (stopped == "end" or len(losses) + uncounted >= needed):
        return (
            f"in {uncounted} of {steps} steps no image counts, by its class's weight or as ignored, which leaves only "
            f"{len(losses)} points; raise data.batch_size or train.accumulate, or take more lr_finder.steps"
        )
    if len(losses) < needed:
        return (
            f"only {len(losses)} of {steps} points before the loss went away ({stopped}); "
            "lower lr_finder.start, or take more steps"
        )
    best = int(np.argmin(smoothed))
    if best == 0:
        return "the loss only rises from the first learning rate on; lower lr_finder.start"
    noise = noise_of(losses[: max(best + 1, len(losses) // 2)])  # what comes after the minimum may be the blow-up
    first = level_at_start(losses, noise)
    if first - smoothed[best] <= max(chance_drop(len(losses), noise, sigma), 1e-3 * abs(first)):
        return (
            "the loss does not fall anywhere by more than its noise; widen lr_finder.start and end, or take more steps"
        )
    if best == len(smoothed) - 1:
        return "the loss still falls at the last learning rate; raise lr_finder.end"
    return ""
