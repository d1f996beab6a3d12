"""Metrics of an order: how well a class's images stand above all others, whatever the threshold.

They keep every answer of a part, so they are exact: 4 bytes x images x classes on the device. A state is answers: that
of two parts together is theirs, one behind the other, in any order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from registry.metrics.merging import joined

if TYPE_CHECKING:
    from torch import Tensor

    from registry.contracts import Plain


class AUROC:
    """Area under the ROC curve, each class against all others: how often its image is ranked above another's.

    By probability; equals count half. A class that no image is of, or every one, has no curve and is left out. For two
    classes it is the usual area under the one curve. It keeps all answers: 4 bytes x images x classes.

    Args:
        average: `macro`, each class counts the same; `weighted`, each counts with its images.
    """

    mode: ClassVar[Literal["min", "max"]] = "max"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __init__(self, average: Literal["macro", "weighted"] = "macro") -> None:
        self.average = average
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._logits: list[Tensor] = []
        self._targets: list[Tensor] = []

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Take in logits (N, C) and class indices (N,)."""
        self._logits.append(logits.float())
        self._targets.append(targets)

    def compute(self) -> Tensor:
        """Return the mean area, a float64 scalar; NaN where no class has a curve or an answer is not finite."""
        import torch

        if not self._logits:
            return torch.tensor(float("nan"))
        scores, targets = _log_odds(torch.cat(self._logits)), torch.cat(self._targets)
        if scores.isnan().any():
            return torch.tensor(float("nan"))
        areas, images = [], []
        for index, column in enumerate(scores.T.contiguous()):
            mine = targets == index
            count = int(mine.sum())
            if 0 < count < len(targets):
                areas.append(_area(column, mine, count))
                images.append(count)
        if not areas:
            return torch.tensor(float("nan"))
        area, weight = torch.stack(areas), torch.tensor(images, dtype=torch.float64, device=areas[0].device)
        return (area * weight).sum() / weight.sum() if self.average == "weighted" else area.mean()

    def state(self) -> dict[str, Plain]:
        """Return the answers: logits, float32 (N, C), and targets, int64 (N,); None before the first."""
        import torch

        if not self._logits:
            return {"logits": None, "targets": None}
        self._logits, self._targets = [torch.cat(self._logits)], [torch.cat(self._targets)]
        return {"logits": self._logits[0], "targets": self._targets[0]}

    def load(self, state: Mapping[str, Plain]) -> None:
        """Continue from the answers of `state`."""
        given = state["logits"] is not None
        self._logits, self._targets = ([state["logits"]], [state["targets"]]) if given else ([], [])

    def merge(self, states: Sequence[Mapping[str, Plain]]) -> None:
        """Put the answers of others behind these."""
        self.load(joined([self.state(), *states]))


def _log_odds(logits: Tensor) -> Tensor:
    """Return each class's log odds, float32 (N, C): in the order of its probability, also where that is nearly 1.

    The sums are in float64 and then rounded, so that answers that are equal but for their rounding count as equal.
    """
    import torch

    logits = logits.double()
    top = logits.argmax(dim=1, keepdim=True)
    below = logits - logits.gather(1, top)  # (N, C), 0 at the greatest
    powers = below.exp()
    others = powers.scatter(1, top, 0.0).sum(dim=1, keepdim=True)  # of the greatest; 1 + others - 1 would lose them
    rest = (1 + others - powers).scatter(1, top, others)
    return torch.sub(below, rest.log()).float()


def _area(scores: Tensor, mine: Tensor, count: int) -> Tensor:
    """Return the area by ranks (Mann and Whitney), equals sharing theirs: float64 scalar.

    Args:
        scores: float32 (N,).
        mine: bool (N,), the images of the class.
        count: of them.
    """
    import torch

    ordered, own = scores.sort().values, scores[mine]
    below = torch.searchsorted(ordered, own, right=False)
    up_to = torch.searchsorted(ordered, own, right=True)
    ranks = (below + up_to + 1).double().sum() / 2
    return (ranks - count * (count + 1) / 2) / (count * (len(scores) - count))
