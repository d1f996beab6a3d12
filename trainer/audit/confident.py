"""Confident learning: which labels are probably wrong, from out-of-sample probabilities alone.

After Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels (JAIR 70, 2021;
arXiv 1911.00068). With given labels y and probabilities p(x) of a network that has not learnt from x:

    t_j       = mean of p_j(x) over the x with y = j                  how sure the network is of class j, usually
    C[i][j]   = how many x with y = i have p_j(x) >= t_j, j the likeliest of the classes for which that holds
    Q[i][j]   = C[i][j] / sum_j C[i][j] * |y = i|                     as many as carry label i and are of class j

and of the pictures with label i those Q[i][j] are doubted whose p_j(x) - p_i(x) is greatest (prune by noise rate).
Knows arrays; nothing of files, folds or networks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Doubt:
    """A label that is probably wrong.

    Attributes:
        at: place of the picture.
        given: its class index.
        suggested: the class index that the network takes it for.
        confidence: probability of the suggested class.
        given_confidence: probability of the given class.
    """

    at: int
    given: int
    suggested: int
    confidence: float
    given_confidence: float

    @property
    def margin(self) -> float:
        """How much likelier the suggested class is, above 0 up to 1."""
        return self.confidence - self.given_confidence


def confident_joint(probabilities: Floats, given: Indices) -> Indices:
    """Return how many pictures of each given class are confidently of each class, int64 (C, C).

    Args:
        probabilities: out of sample, float64 (N, C).
        given: class indices, int64 (N,).
    """
    classes = probabilities.shape[1]
    counts = np.bincount(given, minlength=classes)
    own = np.bincount(given, probabilities[np.arange(len(given)), given], minlength=classes)
    usual = np.where(
        counts > 0, own / np.maximum(counts, 1), np.inf
    )  # (C,); no picture is confidently of a class without
    confident = np.where(probabilities >= usual, probabilities, -1.0)
    likeliest = confident.argmax(axis=1)
    sure = confident[np.arange(len(given)), likeliest] >= 0
    flat = np.bincount(given[sure] * classes + likeliest[sure], minlength=classes * classes)
    joint: Indices = flat.reshape(classes, classes)
    return joint


def doubts_about(probabilities: Floats, given: Indices) -> list[Doubt]:
    """Return the labels that are probably wrong, the surest first.

    Args:
        probabilities: out of sample, float64 (N, C), rows sum to 1; one that is no number says nothing of its label.
        given: class indices, int64 (N,).
    """
    known = np.flatnonzero(np.isfinite(probabilities).all(axis=1))
    if len(known) < len(given):
        return [replace(doubt, at=int(known[doubt.at])) for doubt in doubts_about(probabilities[known], given[known])]
    joint = confident_joint(probabilities, given)
    predicted = probabilities.argmax(axis=1)
    doubted: set[int] = set()
    for label in np.flatnonzero(joint.sum(axis=1) > 0).tolist():
        members = np.flatnonzero(given == label)
        wrong = joint[label] / joint[label].sum() * len(members)  # (C,): expected pictures of each true class
        for other in np.flatnonzero(joint[label] > 0).tolist():
            if other != label:
                margins = probabilities[members, other] - probabilities[members, label]
                most = np.argsort(-margins, kind="stable")[: round(wrong[other])]
                doubted.update(members[most].tolist())
    found = (_doubt(at, probabilities, given, predicted) for at in doubted)
    return sorted((doubt for doubt in found if doubt.margin > 0), key=lambda doubt: (-doubt.margin, doubt.at))


def _doubt(at: int, probabilities: Floats, given: Indices, predicted: Indices) -> Doubt:
    label, suggested = int(given[at]), int(predicted[at])
    return Doubt(at, label, suggested, float(probabilities[at, suggested]), float(probabilities[at, label]))
