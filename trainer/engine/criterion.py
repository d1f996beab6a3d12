"""The plain loss of a batch, and how much the batch counts in a mean over several.

A loss is a mean over a batch, but not always over its images: under class weights the mean is sum(w * l) / sum(w). The
mean over an epoch, a part of the data or the micro-batches of a step is the same formula over all of their images, so
such a batch is kept as its sum and its divisor. Training, validation, test and the LR finder all take it from here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from registry.losses import sums_of

Loss = Callable[[Tensor, Tensor], Tensor]
Weight = Tensor | int | float


class Criterion:
    """A loss that knows what its mean over a batch divides by.

    Args:
        loss: logits (N, C) and targets in, a mean over the batch out.
    """

    def __init__(self, loss: Loss) -> None:
        self._loss = loss
        self._sums = sums_of(loss)

    def weight(self, targets: Tensor) -> Weight:
        """Return what the mean over a batch divides by.

        Args:
            targets: class indices (N,), or class probabilities (N, C) of a mixed batch.

        Returns:
            The number of images as an int; a float32 scalar on the device for a loss that divides by something else.
        """
        return targets.shape[0] if self._sums is None else self._sums.divisor(targets)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over a batch where its weight is an int, else the sum that the weight divides.

        Args:
            logits: float (N, C).
            targets: as for `weight`.
        """
        return self._loss(logits, targets) if self._sums is None else self._sums.total(logits, targets)


def part_of_step(loss: Tensor, weight: Weight, whole: Weight) -> Tensor:
    """Return what a micro-batch adds to the mean loss of its step; 0 where nothing in the step counts.

    Args:
        loss: of the micro-batch, from a `Criterion`.
        weight: of the micro-batch; the int 0 of an image that another process counts.
        whole: sum of the weights of all micro-batches of the step, over all processes, divided by their number, since
            what carries gradients between processes takes their mean.
    """
    if not isinstance(whole, Tensor):
        return loss if weight == whole else loss * (weight / whole)
    if not isinstance(weight, Tensor):  # a divisor of 0 is no such sign: smoothing spares no class
        return loss * 0
    return loss * torch.where(whole != 0, 1 / whole, torch.zeros_like(whole))
