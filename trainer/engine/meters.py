"""Running numbers of an epoch, kept on the device and read only at the log interval.

A step only appends references; sums are formed when the interval is folded, so a step costs a few list appends and the
host never waits for the device in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from registry.contracts import Metric


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
        self._loss_sum: Tensor | None = None
        self._count = 0
        self._losses: list[Tensor] = []
        self._sizes: list[int] = []
        self._logits: list[Tensor] = []
        self._targets: list[Tensor] = []

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Take in a batch: its mean loss (scalar), logits (N, C) and class indices (N,), all detached."""
        self._losses.append(loss)
        self._sizes.append(targets.shape[0])
        self._logits.append(logits)
        self._targets.append(targets)

    @property
    def last_loss(self) -> Tensor | None:
        """Loss of the last batch taken in, on the device; None when nothing is pending."""
        return self._losses[-1] if self._losses else None

    def fold(self) -> dict[str, float]:
        """Sum up what is pending and return the interval's {"loss": mean}, {} if nothing is. Waits for the device."""
        if not self._losses:
            return {}
        losses = torch.stack(self._losses).double()
        weighted = (losses * torch.tensor(self._sizes, dtype=torch.float64, device=losses.device)).sum()
        count = sum(self._sizes)
        self._loss_sum = weighted if self._loss_sum is None else self._loss_sum + weighted
        self._count += count
        if self._metrics:
            logits, targets = torch.cat(self._logits), torch.cat(self._targets)
            for metric in self._metrics.values():
                metric.update(logits, targets)
        self._losses, self._sizes, self._logits, self._targets = [], [], [], []
        return {"loss": float(weighted) / count}

    def read(self) -> dict[str, float]:
        """Return {"loss": ..., "<metric key>": ...} over the epoch so far. Waits for the device."""
        self.fold()
        if self._loss_sum is None:
            return {}
        values = {"loss": float(self._loss_sum) / self._count}
        for key, metric in self._metrics.items():
            values[key] = float(metric.compute())
        return values

    def state(self) -> dict[str, Any]:
        """Return everything, the pending interval unfolded: folding it early would change the order of the sums."""
        pending: Sequence[Tensor] = self._losses
        return {
            "loss_sum": self._loss_sum,
            "count": self._count,
            "sizes": list(self._sizes),
            "losses": torch.stack(list(pending)) if pending else None,
            "logits": torch.cat(self._logits) if pending else None,
            "targets": torch.cat(self._targets) if pending else None,
            "metrics": {key: metric.state() for key, metric in self._metrics.items()},
        }

    def load(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Continue from `state`."""
        self._loss_sum = None if state["loss_sum"] is None else state["loss_sum"].to(device)
        self._count = state["count"]
        self._sizes = list(state["sizes"])
        if self._sizes:
            self._losses = list(state["losses"].to(device).unbind())
            self._logits = list(state["logits"].to(device).split(self._sizes))
            self._targets = list(state["targets"].to(device).split(self._sizes))
        for key, metric in self._metrics.items():
            metric.load(state["metrics"][key])
