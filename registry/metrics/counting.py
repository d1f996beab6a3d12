"""Metrics of ours: sums over the images of a part; `torchmetrics:NAME` comes from the extra (torchmetrics.py).

Each gathers sums on the device it is fed on and never waits for it. What is measured when is the engine's matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from registry.catalogue.markers import Bounds
from registry.metrics.merging import summed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from registry.contracts import Plain


class TopKAccuracy:
    """Share of images whose true class is among the `k` classes with the greatest logits.

    Args:
        k: how many classes count, at least 1; all of them where there are fewer.
    """

    mode: ClassVar[Literal["min", "max"]] = "max"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __init__(self, k: Annotated[int, Bounds(min=1)] = 5) -> None:
        self.k = k
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._hits: Tensor | None = None
        self._seen = 0

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Take in logits (N, C) and class indices (N,)."""
        hits = self._hit(logits, targets).sum()
        self._hits = hits if self._hits is None else self._hits + hits
        self._seen += targets.numel()

    def _hit(self, logits: Tensor, targets: Tensor) -> Tensor:
        top = logits.topk(min(self.k, logits.shape[1]), dim=1).indices  # (N, k)
        return (top == targets.unsqueeze(1)).any(dim=1)

    def compute(self) -> Tensor:
        """Return the share, a float32 scalar; NaN before the first image."""
        import torch

        if self._hits is None:
            return torch.tensor(float("nan"))
        return self._hits.float() / self._seen

    def state(self) -> dict[str, Plain]:
        """Return the counts."""
        return {"hits": self._hits, "seen": self._seen}

    def load(self, state: Mapping[str, Plain]) -> None:
        """Continue from the counts of `state`."""
        self._hits, self._seen = state["hits"], state["seen"]

    def merge(self, states: Sequence[Mapping[str, Plain]]) -> None:
        """Add what others have counted."""
        self.load(summed([self.state(), *states]))


class Accuracy(TopKAccuracy):
    """Share of images whose true class has the greatest logit."""

    def __init__(self) -> None:
        super().__init__(k=1)

    def _hit(self, logits: Tensor, targets: Tensor) -> Tensor:
        return logits.argmax(dim=1) == targets


class CrossEntropy:
    """Plain cross entropy per image, without smoothing, weights or mixing: comparable between recipes of any loss."""

    mode: ClassVar[Literal["min", "max"]] = "min"

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._sum: Tensor | None = None
        self._seen = 0

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Take in logits (N, C) and class indices (N,)."""
        from torch.nn.functional import cross_entropy

        summed = cross_entropy(logits.float(), targets, reduction="sum")
        self._sum = summed if self._sum is None else self._sum + summed
        self._seen += targets.numel()

    def compute(self) -> Tensor:
        """Return the mean, a float32 scalar; NaN before the first image."""
        import torch

        return torch.tensor(float("nan")) if self._sum is None else self._sum / self._seen

    def state(self) -> dict[str, Plain]:
        """Return the sum and the count."""
        return {"sum": self._sum, "seen": self._seen}

    def load(self, state: Mapping[str, Plain]) -> None:
        """Continue from the sum and the count of `state`."""
        self._sum, self._seen = state["sum"], state["seen"]

    def merge(self, states: Sequence[Mapping[str, Plain]]) -> None:
        """Add what others have counted."""
        self.load(summed([self.state(), *states]))
