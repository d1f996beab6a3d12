"""Metrics of torchmetrics, which the extra of that name installs: `torchmetrics:NAME` in a recipe.

Owns the adapter to our `Metric` contract. Every multiclass metric of `torchmetrics.classification` is an attribute of
this module. Importing it imports no torchmetrics.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from registry.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor

    from registry.contracts import Plain


__all__: list[str] = []  # what is named is made on demand: nothing here is a component by itself


def __getattr__(name: str) -> Callable[..., TorchMetric]:
    if name.startswith("_") or not hasattr(importlib.import_module("torchmetrics.classification"), name):
        raise AttributeError(name)
    return functools.partial(TorchMetric, name)


class TorchMetric:
    """A metric of torchmetrics behind our contract.

    Args:
        name: of the class in `torchmetrics.classification`.
        arguments: for its constructor.
    """

    mode: Literal["min", "max"]
    synchronises = True  # `compute` is over all processes, by torchmetrics' own means

    def __init__(self, name: str, **arguments: object) -> None:
        cls = getattr(importlib.import_module("torchmetrics.classification"), name)
        self._name = name
        self._metric: Any = cls(**arguments)
        self.mode = "min" if self._metric.higher_is_better is False else "max"

    def reset(self) -> None:
        """Forget everything."""
        self._metric.reset()

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Take in logits (N, C) and class indices (N,)."""
        if self._metric.device != logits.device:
            self._metric.to(logits.device)
        # Probabilities, since torchmetrics takes logits that all happen to lie in 0..1 for such; in float64, in which
        # those of the last classes are told apart, too.
        self._metric.update(logits.double().softmax(1), targets)

    def compute(self) -> Tensor:
        """Return the value, a scalar.

        Raises:
            RecipeError: the metric has more than one value, one per class.
        """
        value = self._metric.compute()
        count = value.numel() if hasattr(value, "numel") else len(value)  # else a curve, or a value and its threshold
        if count != 1:
            per_class = count == getattr(self._metric, "num_classes", None)
            raise RecipeError(
                f"the metric torchmetrics:{self._name} has {count} values, and a column takes one",
                "set `average: macro`, `micro` or `weighted`" if per_class else "take a metric that is one number",
            )
        single: Tensor = value.reshape(())
        return single

    def state(self) -> dict[str, Plain]:
        """Return the metric's state."""
        return {"state": dict(self._metric.metric_state), "updates": self._metric.update_count}

    def load(self, state: Mapping[str, Plain]) -> None:
        """Continue from `state`."""
        for name, value in state["state"].items():
            setattr(self._metric, name, value)
        self._metric._update_count = state["updates"]

    def merge(self, states: Sequence[Mapping[str, Plain]]) -> None:
        """Take in other states by the reductions that the metric declares."""
        for state in states:
            self._metric._update_count += state["updates"]  # what a mean of states is weighted by
            self._metric._reduce_states(dict(state["state"]))
