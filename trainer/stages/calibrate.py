"""The calibrate stage: one number, the temperature, by which logits are divided so that confidence is right.

Guo et al. 2017 (arXiv 1706.04599): the classes' order stays, and with it every answer. The negative log-likelihood is
convex in 1 / temperature, so LBFGS finds its only minimum; it is never worse than without.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from registry.contracts import Predictions
from registry.reports import scores

_LEAST, _MOST = 0.01, 100.0  # temperatures: beyond, the probabilities are as good as 0 and 1, or equal
_VALUES_AT_A_TIME = 4_000_000  # logits in double precision, 32 MB
_BINS = 15  # of the calibration error


@dataclass(frozen=True)
class Calibration:
    """What came of fitting a temperature.

    Attributes:
        temperature: that logits are divided by, above 0; 1 leaves them as they are.
        split: whose logits it was fitted on, "val"; "test" where that split chose the best epoch.
        images: of that split.
        wrong: of those, how many were answered wrong.
        nll: negative log-likelihood there, mean over the images, before and after.
        ece: expected calibration error there in 15 bins, before and after.
        reason: why nothing was fitted; "" where it was.
    """

    temperature: float
    split: str
    images: int
    wrong: int
    nll: tuple[float, float]
    ece: tuple[float, float]
    reason: str = ""

    def as_json(self, weights: str, epoch: float) -> dict[str, Any]:
        """Return what summary.json holds of it.

        Args:
            weights: "best" or "final", whose logits they were.
            epoch: after which those weights were taken.
        """
        pairs = {name: dict(zip(("before", "after"), getattr(self, name), strict=True)) for name in ("nll", "ece")}
        plain = {name: getattr(self, name) for name in ("temperature", "split", "images", "wrong", "reason")}
        return {**plain, **pairs, "weights": weights, "epoch": epoch}


def calibrate(predictions: Predictions, split: str) -> Calibration:
    """Fit a temperature.

    Args:
        predictions: on images that nothing was learnt from.
        split: that they are of.
    """
    finite = torch.from_numpy(predictions.logits).isfinite().all(1)
    logits, targets = torch.from_numpy(predictions.logits)[finite], torch.from_numpy(predictions.targets)[finite]
    wrong = int((logits.argmax(1) != targets).sum()) if len(logits) else 0
    reason = (
        "there are no finite logits to fit it on"
        if not len(logits)
        else f"every answer on {split} is right, which tells nothing of how sure a wrong one may be"
        if not wrong
        else ""
    )
    before = _nll(logits, targets, 1.0)
    temperature = 1.0 if reason else fit_temperature(logits, targets)
    after = _nll(logits, targets, temperature)
    if not after <= before:  # by the last digits, where 1 is the minimum
        temperature, after = 1.0, before
    ece = tuple(
        scores.reliability(scores.read(scores.tempered(predictions, each)), _BINS).ece for each in (1.0, temperature)
    )
    return Calibration(temperature, split, len(logits), wrong, (before, after), (ece[0], ece[1]), reason)


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """Return the temperature of the least negative log-likelihood, 0.01 to 100.

    Args:
        logits: finite (N, C).
        targets: class index, int64 (N,); one at least differs from the greatest logit.
    """
    exponent = torch.zeros((), dtype=torch.float64, requires_grad=True)  # the temperature is e to its power
    optimizer = torch.optim.LBFGS(
        [exponent], max_iter=50, tolerance_grad=1e-10, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        optimizer.zero_grad()
        total = 0.0
        for some, theirs in _parts(logits, targets):
            part = cross_entropy(some.double() / exponent.exp(), theirs, reduction="sum") / len(logits)
            part.backward()
            total += float(part.detach())
        return total

    with torch.enable_grad():
        optimizer.step(closure)
    return min(max(math.exp(float(exponent.detach())), _LEAST), _MOST)


def _nll(logits: Tensor, targets: Tensor, temperature: float) -> float:
    """Return the mean negative log-likelihood; NaN of no images."""
    total = 0.0
    for some, theirs in _parts(logits, targets):
        total += float(cross_entropy(some.double() / temperature, theirs, reduction="sum"))
    return total / len(logits) if len(logits) else math.nan


def _parts(logits: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
    rows = max(1, _VALUES_AT_A_TIME // max(1, logits.shape[1]))
    return list(zip(logits.split(rows), targets.split(rows), strict=True))
