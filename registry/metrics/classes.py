"""Metrics that count per class: balanced accuracy, precision, recall and F1, exact over a whole part.

Owns one convention, the same as the report's table per class (registry/reports/scores.py): a class without images in
the part is left out of every mean, and one that has images and was never predicted counts as 0. Where every class has
images these are scikit-learn's numbers with `zero_division=0`; where one has none, scikit-learn's with `labels` set to
the classes that have.

A state is sums: that of two parts together is the sum of theirs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from registry.metrics.merging import summed

if TYPE_CHECKING:
    from torch import Tensor

    from registry.contracts import Plain

Average = Literal["macro", "micro", "weighted"]


class Counts(NamedTuple):
    """How often each class was right, predicted and true, float64 (C,) each."""

    hits: Tensor
    predicted: Tensor
    images: Tensor


class _PerClass(ABC):
    """A score per class and its mean; what counts is the class with the greatest logit."""

    mode: ClassVar[Literal["min", "max"]] = "max"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    average: Average = "macro"

    def __init__(self) -> None:
        self.reset()

    @abstractmethod
    def score(self, counts: Counts) -> Tensor:
        """Return the score of each class that `counts` has; NaN is taken as 0."""

    def reset(self) -> None:
        """Forget everything."""
        self._counts: Tensor | None = None  # rows as in Counts, int64 (3, C)

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Take in logits (N, C) and class indices (N,)."""
        import torch

        predicted, one = logits.argmax(dim=1), torch.ones_like(targets)
        counts = torch.zeros((3, logits.shape[1]), dtype=torch.int64, device=logits.device)
        counts[0].index_add_(0, targets, (predicted == targets).to(torch.int64))  # bincount would wait for the device
        counts[1].index_add_(0, predicted, one)
        counts[2].index_add_(0, targets, one)
        self._counts = counts if self._counts is None else self._counts + counts

    def compute(self) -> Tensor:
        """Return the mean over the classes that have images, a float64 scalar; NaN before the first image."""
        import torch

        if self._counts is None:
            return torch.tensor(float("nan"))
        counts = self._counts.double()
        if self.average == "micro":
            return self.score(Counts(*counts.sum(dim=1, keepdim=True))).squeeze(0)
        counts = counts[:, counts[2] > 0]
        scores = self.score(Counts(*counts)).nan_to_num(nan=0.0)
        return (scores * counts[2]).sum() / counts[2].sum() if self.average == "weighted" else scores.mean()

    def state(self) -> dict[str, Plain]:
        """Return the counts: right, predicted and true answers per class, int64 (3, C); None before the first."""
        return {"counts": self._counts}

    def load(self, state: Mapping[str, Plain]) -> None:
        """Continue from the counts of `state`."""
        self._counts = state["counts"]

    def merge(self, states: Sequence[Mapping[str, Plain]]) -> None:
        """Add what others have counted."""
        self.load(summed([self.state(), *states]))


class _Averaged(_PerClass):
    """A score per class whose mean the recipe chooses."""

    def __init__(self, average: Average = "macro") -> None:
        self.average = average
        super().__init__()


class Recall(_Averaged):
    """Share of a class's images that were found, as a mean over the classes.

    Args:
        average: `macro`, each class that has images counts the same; `weighted`, each counts with its images; `micro`,
            all images together. Where an image has one class, the last two equal the accuracy.
    """

    def score(self, counts: Counts) -> Tensor:
        """Return right answers over images."""
        return counts.hits / counts.images


class Precision(_Averaged):
    """Share of the answers "this class" that are right, as a mean over the classes; 0 for one never answered.

    Args:
        average: `macro`, each class that has images counts the same; `weighted`, each counts with its images; `micro`,
            all answers together, which equals the accuracy where an image has one class.
    """

    def score(self, counts: Counts) -> Tensor:
        """Return right answers over answers."""
        return counts.hits / counts.predicted


class F1(_Averaged):
    """Harmonic mean of precision and recall, as a mean over the classes; 0 for one that was never answered.

    Args:
        average: `macro`, each class that has images counts the same; `weighted`, each counts with its images; `micro`,
            all answers together, which equals the accuracy where an image has one class.
    """

    def score(self, counts: Counts) -> Tensor:
        """Return twice the right answers over answers and images."""
        return 2 * counts.hits / (counts.predicted + counts.images)


class BalancedAccuracy(_PerClass):
    """Mean of the classes' recalls: the accuracy if every class had as many images; one without images is left out."""

    def score(self, counts: Counts) -> Tensor:
        """Return right answers over images."""
        return counts.hits / counts.images
