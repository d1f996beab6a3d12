"""Running numbers of an epoch, kept on the device and read only at the log interval.

A step only appends references; losses are summed when the interval is folded and metrics when enough has gathered, so a
step costs a list append and the host never waits for the device in between.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from registry.contracts import Mergeable, Metric
from trainer.engine.criterion import Weight
from trainer.engine.processes import ONE, Processes

MOST_PENDING = 4 << 20  # logits kept before the metrics take them in


class BatchResult(NamedTuple):
    """What one batch gave, all on the device and detached; a tuple because one is made at every step.

    Attributes:
        loss: plain loss, a scalar: the mean where `weight` is an int, else the sum that `weight` divides.
        logits: (N, C).
        targets: class indices (N,), before any mixing.
        weight: what the batch counts in a mean over several: its images, or a scalar such as their class weights' sum.
    """

    loss: Tensor
    logits: Tensor
    targets: Tensor
    weight: Weight

    @property
    def mean(self) -> Tensor:
        """Loss of the batch by itself, a scalar; NaN where nothing in it counts."""
        return self.loss / self.weight if isinstance(self.weight, Tensor) else self.loss


class Meter:
    """Mean loss and metrics over an epoch, and the mean loss over the current log interval.

    The mean over batches is what the loss would say of all their images at once.

    Args:
        metrics: by key, "accuracy" -> Metric; reset by `reset`.
        processes: over all of which its numbers are; they fold and read at the same time.
    """

    def __init__(self, metrics: Mapping[str, Metric], processes: Processes = ONE) -> None:
        self._metrics, self._processes = metrics, processes
        self.reset()

    def reset(self) -> None:
        """Start a new epoch."""
        for metric in self._metrics.values():
            metric.reset()
        self._loss_sum = 0.0
        self._count: float | None = None  # images in the sum, or the sum of their weights; None before the first
        self._pending: list[BatchResult] = []  # that the metrics have not seen
        self._device: torch.device | None = None  # of what they have seen
        self._summed = 0  # of those, whose losses are in the sum

    def add(self, results: Iterable[BatchResult]) -> None:
        """Take in batches."""
        self._pending += results

    @property
    def last_loss(self) -> Tensor | None:
        """Loss of the last batch taken in, on the device; None when the metrics have seen it already."""
        return self._pending[-1].mean if self._pending else None

    def fold(self) -> dict[str, float]:
        """Return {"loss": mean} of what came since the last fold, {} if nothing counts in it. Waits for the device."""
        fresh = self._pending[self._summed :]
        loss_sum, weight, batches = self._processes.totals(*(_sums(fresh) if fresh else (0.0, 0)), len(fresh))
        if not batches:
            return {}
        self._loss_sum += loss_sum
        self._count = weight + (self._count or 0.0)
        self._summed = len(self._pending)
        if self._pending and self._summed * self._pending[0].logits.numel() >= MOST_PENDING:
            self._update_metrics()
        return {"loss": loss_sum / weight} if weight else {}

    def _update_metrics(self) -> None:
        """Let the metrics take in what is pending, all of it folded."""
        if self._pending:
            logits = torch.cat([result.logits for result in self._pending])
            self._device = logits.device
            targets = torch.cat([result.targets for result in self._pending])
            for metric in self._metrics.values():
                metric.update(logits, targets)
        self._pending, self._summed = [], 0

    def read(self) -> dict[str, float]:
        """Return {"loss": ..., "<metric key>": ...} over the epoch so far; {} without a batch. Waits for the device.

        The loss is NaN where no image counts in it.
        """
        self.fold()
        if self._count is None:
            return {}
        self._update_metrics()
        values = {"loss": self._loss_sum / self._count if self._count else float("nan")}
        for key, metric in self._metrics.items():
            values[key] = self._processes.value(metric)
        return values

    def state(self) -> dict[str, Any]:
        """Return everything, what is pending as it is: taking it in early would change the order of the sums."""
        losses, logits, targets, weights = zip(*self._pending, strict=True) if self._pending else ((), (), (), ())
        metrics = {key: metric.state() for key, metric in self._metrics.items()}
        return {
            "loss_sum": self._loss_sum,
            "count": self._count,
            "summed": self._summed,
            "sizes": [each.shape[0] for each in targets],
            "losses": torch.stack(losses) if losses else None,
            "logits": torch.cat(logits) if losses else None,
            "targets": torch.cat(targets) if losses else None,
            "weights": torch.stack(weights) if weights and isinstance(weights[0], Tensor) else None,  # None: the sizes
            "metrics": metrics,
            "apart": [key for key, each in metrics.items() if _lies_apart(each, self._device)],
        }

    def load(
        self, state: Mapping[str, Any], device: torch.device, gathered: Sequence[Mapping[str, Any]] | None = None
    ) -> None:
        """Continue from `state`.

        Args:
            state: of any process: the sums are those of all.
            device: where batches lie, and metrics gather what they are given, but those that keep it elsewhere.
            gathered: states whose batches this meter takes over, of several processes or none; None for `state` alone.
        """
        gathered = [state] if gathered is None else gathered
        self.reset()
        self._loss_sum, self._count = state["loss_sum"], state["count"]
        pending = [_pending_in(each, device) for each in gathered]
        self._summed = sum(each["summed"] for each in gathered)
        # Those whose losses are in the sum stand first.
        self._pending = [
            result
            for summed in (True, False)
            for each, results in zip(gathered, pending, strict=True)
            for result in (results[: each["summed"]] if summed else results[each["summed"] :])
        ]
        for key, metric in self._metrics.items():
            states = [each["metrics"][key] for each in gathered]
            if key not in state.get("apart", ()):
                states = [_on(device, each) for each in states]
            if states:
                metric.load(states[0])
            if states[1:]:
                cast(Mergeable, metric).merge(states[1:])  # several processes were begun with no other


def _lies_apart(value: Any, device: torch.device | None) -> bool:
    """Whether a tensor in a metric's state lies elsewhere than the batches that the metric was given."""
    if isinstance(value, Tensor):
        return device is not None and value.device != device
    each = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return any(_lies_apart(item, device) for item in each)


def _on(device: torch.device, value: Any) -> Any:
    """Return a metric's state with its tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _on(device, item) for key, item in value.items()}
    return type(value)(_on(device, item) for item in value) if isinstance(value, (list, tuple)) else value


def _pending_in(state: Mapping[str, Any], device: torch.device) -> list[BatchResult]:
    """Return the batches that a meter's state holds."""
    sizes, columns = state["sizes"], [state[name] for name in ("losses", "logits", "targets")]
    if not sizes:
        return []
    losses, logits, targets = (column.to(device) for column in columns)
    weights = sizes if state.get("weights") is None else state["weights"].to(device).unbind()
    return list(map(BatchResult, losses.unbind(), logits.split(sizes), targets.split(sizes), weights))


def mean_loss(results: Sequence[BatchResult], processes: Processes = ONE) -> float | None:
    """Return the mean loss over batches, None where no image counts in it. Waits for the device."""
    loss_sum, weight = processes.totals(*(_sums(results) if results else (0.0, 0)))
    return loss_sum / weight if weight else None


def _sums(results: Sequence[BatchResult]) -> tuple[float, float]:
    """Return the sum of the losses and what their mean divides it by, by one reading.

    A loss has sums in all batches of an epoch or in none.
    """
    losses = [result.loss for result in results]
    divisors = [result.weight for result in results if isinstance(result.weight, Tensor)]
    numbers = _numbers([*losses, *divisors])
    if divisors:
        return sum(numbers[: len(losses)]), sum(numbers[len(losses) :])
    images = [int(result.weight) for result in results]
    return sum(map(operator.mul, numbers, images)), sum(images)


def _numbers(scalars: list[Tensor]) -> list[float]:
    """Return the values: on a device by one reading, on the CPU one by one, which costs less there than gathering."""
    if scalars[0].device.type == "cpu":
        return [scalar.item() for scalar in scalars]
    return list(torch.stack(scalars).tolist())
