"""Losses a recipe may name: those of torch that take logits and class indices; and what the mean of one divides by.

A table, because torch.nn has no rule that tells them from the others. Knows nothing of training.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry.catalogue.adoption import Change, Registry

if TYPE_CHECKING:
    from torch import Tensor


_WEIGHT = {
    "kind": "union",
    "of": [
        {"kind": "tensor", "min": 0},
        {"kind": "mapping", "of": {"kind": "number", "min": 0}},
        {"kind": "one_of", "values": ["balanced"]},
        {"kind": "null"},
    ],
}
_SHARE = {"kind": "number", "min": 0, "below": 1}  # at 1 every class is as right as the true one

LOSSES = Registry("loss")
LOSSES.adopt_table(
    {name: f"torch.nn:{name}" for name in ("CrossEntropyLoss", "MultiMarginLoss")},
    package="torch",
    changes={
        "CrossEntropyLoss": Change(types={"label_smoothing": _SHARE}),
        "MultiMarginLoss": Change(
            types={"p": {"kind": "one_of", "values": [1, 2]}, "margin": {"kind": "number"}},
            renamed={"label_smoothing": "CrossEntropyLoss, which has it"},
        ),
    },
    every=Change(
        types={"weight": _WEIGHT},
        engine={
            "reduction": "the engine needs the mean over the samples",
            "size_average": "the engine needs the mean over the samples",
            "reduce": "the engine needs the mean over the samples",
        },
        facts={"computed": {"weight": "balanced"}},
        docs={
            "weight": "one factor per class, in the classes' order, or by name, {cat: 1, dog: 2}: a class that is "
            "left out has 1; `balanced` takes them from the class counts."
        },
    ),
)


@dataclass(frozen=True)
class Sums:
    """A loss whose mean over a batch does not divide by the number of images, as a sum and a divisor.

    Attributes:
        total: logits (N, C) and targets -> the sum over the batch, a scalar; finite whatever the targets.
        divisor: targets -> what the mean divides that sum by, a float32 scalar on their device; 0 where nothing counts.
    """

    total: Callable[[Tensor, Tensor], Tensor]
    divisor: Callable[[Tensor], Tensor]


def sums_of(loss: Any) -> Sums | None:
    """Return a loss as sum and divisor; None where its mean divides by the number of images.

    Args:
        loss: built from a recipe. One of a plug-in may have a method `normaliser(targets)`, which tells what its mean
            divides by, as a number or a scalar.
    """
    if hasattr(loss, "normaliser"):
        return Sums(_Totalled(loss), _Normaliser(loss))
    from torch import nn

    forward = getattr(type(loss), "forward", None)
    if forward not in (nn.CrossEntropyLoss.forward, nn.NLLLoss.forward):  # a subclass may divide by anything
        return None
    if loss.weight is None and loss.ignore_index < 0:  # no class index is below 0
        return None
    total = copy.copy(loss)  # it shares the weights, on whatever device they are put later
    total.reduction = "sum"
    return Sums(total, _SumOfWeights(loss))


@dataclass(frozen=True)
class _SumOfWeights:
    """What torch divides the cross entropy by; class probabilities are not normalised by the weights."""

    loss: Any

    def __call__(self, targets: Tensor) -> Tensor:
        if targets.is_floating_point():
            return targets.new_full((), targets.shape[0])
        kept = (targets != self.loss.ignore_index).float()
        counted: Tensor = kept if self.loss.weight is None else kept * self.loss.weight[targets]
        return counted.sum()


@dataclass(frozen=True)
class _Normaliser:
    """What a plug-in's loss says that it divides by."""

    loss: Any

    def __call__(self, targets: Tensor) -> Tensor:
        import torch

        divisor = self.loss.normaliser(targets)
        if isinstance(divisor, torch.Tensor):
            return divisor.float()
        return torch.full((), float(divisor), device=targets.device)


@dataclass(frozen=True)
class _Totalled:
    """The sum behind a mean; 0, with gradients of 0, where the mean is 0 / 0."""

    loss: Any

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        import torch

        divisor = _Normaliser(self.loss)(targets)
        counts = divisor != 0
        # Only a choice on both sides of the loss keeps its NaN out of the gradients.
        mean = self.loss(torch.where(counts, logits, torch.zeros_like(logits)), targets)
        return torch.where(counts, mean, torch.zeros_like(mean)) * divisor
