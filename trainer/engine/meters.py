"""Running numbers of an epoch, kept on the device and read only at the log interval.

A step only appends references; losses are summed when the interval is folded and metrics when enough has gathered, so a
step costs a list append and the host never waits for the device in between.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from registry.contracts import Metric

MOST_PENDING = 4 << 20  # logits kept before the metrics take them in


class BatchResult(NamedTuple):
    """What one batch gave, all on the device and detached; a tuple because one is made at every step.

    Attributes:
        loss: mean plain loss, scalar.
        logits: (N, C).
        targets: class indices (N,), before any mixing.
    """

    loss: Tensor
    logits: Tensor
    targets: Tensor


class Meter:
    """Mean loss and metrics over the samples of an epoch, and over the current log interval.

    Args:
        metrics: by key, "accuracy" -> Metric; reset by `reset`.
    """

    def __init__(self, metrics: Mapping[str, Metric]) -> None:
        self._metrics = metrics
        self.reset()

    def reset(self) -> None:
        """Start a new epoch."""
        for metric in self._metrics.values():
            metric.reset()
        self._loss_sum = 0.0
        self._count = 0
        self._pending: list[BatchResult] = []  # that the metrics have not seen
        self._summed = 0  # of those, whose losses are in the sum

    def add(self, results: Iterable[BatchResult]) -> None:
        """Take in batches."""
        self._pending += results

    @property
    def last_loss(self) -> Tensor | None:
        """Loss of the last batch taken in, on the device; None when the metrics have seen it already."""
        return self._pending[-1].loss if self._pending else None

    def fold(self) -> dict[str, float]:
        """Return {"loss": mean} of what came since the last fold, {} if nothing did. Waits for the device."""
        fresh = self._pending[self._summed :]
        if not fresh:
            return {}
        sizes = [result.targets.shape[0] for result in fresh]
        weighted = sum(map(operator.mul, _numbers([result.loss for result in fresh]), sizes))
        self._loss_sum += weighted
        self._count += sum(sizes)
        self._summed = len(self._pending)
        if self._summed * self._pending[0].logits.numel() >= MOST_PENDING:
            self._update_metrics()
        return {"loss": weighted / sum(sizes)}

    def _update_metrics(self) -> None:
        """Let the metrics take in what is pending, all of it folded."""
        if self._pending:
            logits = torch.cat([result.logits for result in self._pending])
            targets = torch.cat([result.targets for result in self._pending])
            for metric in self._metrics.values():
                metric.update(logits, targets)
        self._pending, self._summed = [], 0

    def read(self) -> dict[str, float]:
        """Return {"loss": ..., "<metric key>": ...} over the epoch so far. Waits for the device."""
        self.fold()
        if not self._count:
            return {}
        self._update_metrics()
        values = {"loss": self._loss_sum / self._count}
        for key, metric in self._metrics.items():
            values[key] = float(metric.compute())
        return values

    def state(self) -> dict[str, Any]:
        """Return everything, what is pending as it is: taking it in early would change the order of the sums."""
        losses, logits, targets = zip(*self._pending, strict=True) if self._pending else ((), (), ())
        return {
            "loss_sum": self._loss_sum,
            "count": self._count,
            "summed": self._summed,
            "sizes": [each.shape[0] for each in targets],
            "losses": torch.stack(losses) if losses else None,
            "logits": torch.cat(logits) if losses else None,
            "targets": torch.cat(targets) if losses else None,
            "metrics": {key: metric.state() for key, metric in self._metrics.items()},
        }

    def load(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Continue from `state`."""
        self._loss_sum = state["loss_sum"]
        self._count, self._summed = state["count"], state["summed"]
        sizes, columns = state["sizes"], [state[name] for name in ("losses", "logits", "targets")]
        if sizes:
            losses, logits, targets = (column.to(device) for column in columns)
            parts = (losses.unbind(), logits.split(sizes), targets.split(sizes))
            self._pending = list(map(BatchResult, *parts))
        for key, metric in self._metrics.items():
            metric.load(state["metrics"][key])


def _numbers(scalars: list[Tensor]) -> list[float]:
    """Return the values: on a device by one reading, on the CPU one by one, which costs less there than gathering."""
    if scalars[0].device.type == "cpu":
        return [scalar.item() for scalar in scalars]
    return list(torch.stack(scalars).tolist())
