"""Which unlabelled pictures would teach a network most: the order in which to label them.

    uncertain   where the two likeliest classes are closest (best versus second best: Joshi et al., CVPR 2009)
    diverse     where the network would learn most and something new: farthest first over the gradients that its last
                layer would have if its answer were the truth (Ash et al., ICLR 2020, whose draws are made a rule)

`uncertain` alone may name ten pictures of one thing; `diverse` names one of them. Pure NumPy on answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHOSEN = 1_000  # pictures that `diverse` holds against all others one by one; a day's labelling and more


@dataclass(frozen=True, eq=False)
class Ranking:
    """An order of pictures, those that would teach most first.

    Attributes:
        order: their places, int64 (N,).
        measure: what they are ordered by, a column's name.
        values: of it by place, float64 (N,).
    """

    order: NDArray[np.int64]
    measure: str
    values: NDArray[np.float64]


def uncertain(probabilities: NDArray[np.float32], _features: NDArray[np.float32] | None = None) -> Ranking:
    """Return pictures by the margin between the two likeliest classes, the least first; ties keep their order.

    Args:
        probabilities: (N, C).
    """
    if probabilities.shape[1] < 2:
        margins = np.ones(len(probabilities))
    else:
        best = np.partition(probabilities, -2, axis=1)[:, -2:]
        margins = (best[:, 1] - best[:, 0]).astype(np.float64)
    return Ranking(np.argsort(margins, kind="stable"), "margin", margins)


def diverse(probabilities: NDArray[np.float32], features: NDArray[np.float32] | None, chosen: int = CHOSEN) -> Ranking:
    """Return pictures by how far their gradient lies from those of all pictures before them, the farthest first.

    The gradient of the last layer's weights is (probabilities - one-hot answer) x features: long where the network is
    unsure, and near another's where it is unsure of the same thing. A gradient of 0, from which nothing is learnt,
    counts as seen from the start.

    Args:
        probabilities: (N, C).
        features: what the last layer was given, (N, d).
        chosen: so many are held against all others; those that follow are by their distance to the nearest of these.
    """
    assert features is not None
    count = len(probabilities)
    errors = probabilities.astype(np.float32)
    errors[np.arange(count), probabilities.argmax(axis=1)] -= 1
    squares = (np.square(errors).sum(1, dtype=np.float64)) * np.square(features).sum(1, dtype=np.float64)
    nearest = squares.copy()  # squared distance to the nearest that was taken, of which the origin is the first
    left = np.ones(count, dtype=bool)
    taken = []
    for _ in range(min(chosen, count)):
        place = int(np.where(left, nearest, -1.0).argmax())
        left[place] = False
        taken.append(place)
        products = (errors @ errors[place]).astype(np.float64) * (features @ features[place])
        apart = np.maximum(squares + squares[place] - 2 * products, 0)
        nearest[left] = np.minimum(nearest[left], apart[left])
    others = np.flatnonzero(left)
    order = np.concatenate([np.array(taken, dtype=np.int64), others[np.argsort(-nearest[others], kind="stable")]])
    return Ranking(order.astype(np.int64), "distance", np.sqrt(nearest))


RANKINGS: Mapping[str, Callable[[NDArray[np.float32], NDArray[np.float32] | None], Ranking]] = {
    "uncertain": uncertain,
    "diverse": diverse,
}
