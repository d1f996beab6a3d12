"""Penalties on parameters: L1, L2 and the un-squared L2Norm.

Owns their formulas. Gradients go straight into `.grad` by `torch._foreach_*`, a handful of calls however many tensors
there are; values are computed only when asked for. Which parameters a penalty gets is the engine's to say: it resolves
`include` and `exclude` and hands over the list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from registry.catalogue.adoption import Change
from registry.catalogue.markers import Bounds, Text
from registry.norms import norms, sum_of_magnitudes

__all__ = ["L1", "L2", "L2Norm"]

Pattern = Annotated[str, Text("pattern")]


class _Penalty:
    """What the penalties share: a strength, and the names of the parameters they act on."""

    def __init__(self, strength: float, include: Sequence[str] | None, exclude: Sequence[str] | None) -> None:
        self.strength = strength
        self.include = include
        self.exclude = exclude


class L1(_Penalty):
    """strength * sum |p|: pulls every weight towards zero by the same amount (Tibshirani's lasso).

    Args:
        strength: factor, 0 or more; sensible values are near 1e-6 for millions of parameters.
        include: patterns of the parameters it acts on; omitted: all.
        exclude: patterns of parameters it leaves alone, even where `include` names them.
    """

    change: ClassVar = Change(facts={"usual": {"strength": [0, 0.1]}})

    def __init__(
        self,
        strength: Annotated[float, Bounds(min=0)],
        include: Sequence[Pattern] | None = None,
        exclude: Sequence[Pattern] | None = None,
    ) -> None:
        super().__init__(strength, include, exclude)

    @torch.no_grad()
    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add strength * sign(p) to each gradient; 0 where p is 0."""
        weights, gradients = _with_gradients(parameters)
        if weights:
            torch._foreach_add_(gradients, torch._foreach_sign(weights), alpha=self.strength)

    @torch.no_grad()
    def value(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Return strength * sum |p| as a float32 scalar on the parameters' device."""
        if not parameters:
            return torch.zeros(())
        return self.strength * sum_of_magnitudes(parameters)


class L2(_Penalty):
    """strength / 2 * sum p^2: weight decay as SGD understands it.

    Args:
        strength: factor, 0 or more; 5e-4 is common.
        include: patterns of the parameters it acts on; omitted: all.
        exclude: patterns of parameters it leaves alone, even where `include` names them.
    """

    change: ClassVar = Change(facts={"usual": {"strength": [0, 1]}})

    def __init__(
        self,
        strength: Annotated[float, Bounds(min=0)],
        include: Sequence[Pattern] | None = None,
        exclude: Sequence[Pattern] | None = None,
    ) -> None:
        super().__init__(strength, include, exclude)

    @torch.no_grad()
    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add strength * p to each gradient."""
        weights, gradients = _with_gradients(parameters)
        if weights:
            torch._foreach_add_(gradients, weights, alpha=self.strength)

    @torch.no_grad()
    def value(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Return strength / 2 * sum p^2 as a float32 scalar on the parameters' device."""
        if not parameters:
            return torch.zeros(())
        return self.strength / 2 * norms(parameters).float().square().sum()


class L2Norm(_Penalty):
    """strength * sum of ||p||_2 over the tensors: the group lasso's penalty with tensors as groups, not weight decay.

    Its pull on a tensor has the same length whatever the tensor's size: strength, towards zero.

    Args:
        strength: factor, 0 or more.
        include: patterns of the parameters it acts on; omitted: all.
        exclude: patterns of parameters it leaves alone, even where `include` names them.
    """

    change: ClassVar = Change(facts={"usual": {"strength": [0, 1]}})

    def __init__(
        self,
        strength: Annotated[float, Bounds(min=0)],
        include: Sequence[Pattern] | None = None,
        exclude: Sequence[Pattern] | None = None,
    ) -> None:
        super().__init__(strength, include, exclude)

    @torch.no_grad()
    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add strength * p / ||p|| to each gradient; 0 where the norm is 0."""
        weights, gradients = _with_gradients(parameters)
        if not weights:
            return
        lengths = norms(weights)
        inverses = torch.where(lengths > 0, 1 / lengths, 0).unbind()  # on the device: nothing waits for the norms
        torch._foreach_addcmul_(gradients, weights, inverses, value=self.strength)

    @torch.no_grad()
    def value(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Return strength * sum ||p|| as a float32 scalar on the parameters' device."""
        if not parameters:
            return torch.zeros(())
        return self.strength * norms(parameters).float().sum()


def _with_gradients(parameters: Sequence[nn.Parameter]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the parameters that have a gradient, and these gradients; a frozen parameter has none."""
    learning = [parameter for parameter in parameters if parameter.grad is not None]
    return list(learning), [parameter.grad for parameter in learning if parameter.grad is not None]
