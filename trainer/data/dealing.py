"""Dealing images out to sides: whole groups, each side its share of every class. Arithmetic on indices, nothing else.

A side is a fold, or validation against training. Groups are dealt one after another, the largest first, each to where
it fits best: the cost of n images of a class on a side that has x of the w that it should have is n (2x + n) / w, what
they add to the chi-square distance from the wanted shares; all images together count as a class, twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]

_TOTAL_WEIGHT = 2.0  # of the share of all images beside those of the classes
_SAME = 1e-9  # relative difference of costs that is rounding


def deal(classes: Indices, sides: int, generator: np.random.Generator) -> Indices:
    """Deal images out one by one: sides and the classes in them differ by one image at most.

    Args:
        classes: of every image, from 0, (N,); all 0 where classes are not to be kept.
        sides: how many.
        generator: draws the order.

    Returns:
        The side of every image, (N,).
    """
    drawn = generator.permutation(len(classes))
    order = drawn[np.argsort(classes[drawn], kind="stable")]  # class by class, in the drawn order
    dealt = np.empty(len(classes), dtype=np.int64)
    dealt[order] = np.arange(len(classes)) % sides
    return dealt


def deal_groups(classes: Indices, groups: Indices, shares: Sequence[float], generator: np.random.Generator) -> Indices:
    """Deal whole groups out, so that every side has about its share of each class.

    Args:
        classes: of every image, from 0, (N,); all 0 where classes are not to be kept.
        groups: of every image, from 0 without gaps, (N,); there are at least as many as sides.
        shares: of the sides, above 0, together 1.
        generator: draws among groups of one size.

    Returns:
        The side of every image, (N,); no side is empty.
    """
    group_of, class_of, counts = _pairs(classes, groups)
    bounds = np.searchsorted(group_of, np.arange(int(groups.max()) + 2))
    sizes = np.bincount(groups)
    part = np.array(shares)[:, None]
    wanted = part * np.bincount(classes)[None, :]  # (sides, classes)
    filled = np.zeros_like(wanted)
    load = np.zeros(len(shares))
    side_of = np.empty(len(sizes), dtype=np.int64)
    drawn = generator.permutation(len(sizes))
    for group in drawn[np.argsort(-sizes[drawn], kind="stable")]:
        here = slice(bounds[group], bounds[group + 1])
        which, count, size = class_of[here], counts[here], sizes[group]
        cost = (count * (2 * filled[:, which] + count) / wanted[:, which]).sum(axis=1)
        cost += _TOTAL_WEIGHT * size * (2 * load + size) / (part[:, 0] * len(classes))
        best = np.flatnonzero(cost <= cost.min() * (1 + _SAME))
        side = best[np.argmin((load / part[:, 0])[best])]
        filled[side, which] += count
        load[side] += size
        side_of[group] = side
    _fill_empty(side_of, sizes, len(shares))
    return side_of[groups]


def _pairs(classes: Indices, groups: Indices) -> tuple[Indices, Indices, Indices]:
    """Return which classes each group has and how many images of each: (group, class, count), by group."""
    number = int(classes.max()) + 1
    both, counts = np.unique(groups * number + classes, return_counts=True)
    return both // number, both % number, counts.astype(np.int64)


def _fill_empty(side_of: Indices, sizes: Indices, sides: int) -> None:
    """Give a side without a group the smallest of the side that has the most."""
    for side in range(sides):
        held = np.bincount(side_of, minlength=sides)
        if held[side] == 0:
            givers = np.flatnonzero(side_of == held.argmax())
            side_of[givers[sizes[givers].argmin()]] = side
