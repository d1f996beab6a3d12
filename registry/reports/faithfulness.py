"""Faithfulness of maps: deletion and insertion curves, and what shuffled weights do to the maps.

Owns the measures; which images they are taken on, and the words, are gradcam.py's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from registry.reports.cam import explain, upsampled
from registry.reports.layers import undisturbed, unwrapped

STEPS = 16  # parts in which an image is deleted and inserted
_SEED = 0


@dataclass(frozen=True)
class PixelCurves:
    """A score while pixels go, hottest first, and while they come back in the same order.

    Attributes:
        deletion: mean score after each step, float32 (steps + 1,), from the whole image to the baseline.
        insertion: the same, from the baseline to the whole image.
    """

    deletion: Tensor
    insertion: Tensor

    @property
    def deletion_area(self) -> float:
        """Area under the deletion curve over the share of pixels; small when the map is right."""
        return _area(self.deletion)

    @property
    def insertion_area(self) -> float:
        """Area under the insertion curve over the share of pixels; great when the map is right."""
        return _area(self.insertion)


@torch.no_grad()
def pixel_curves(
    score: Callable[[Tensor], Tensor], images: Tensor, heat: Tensor, steps: int = STEPS, baseline: float = 0.0
) -> PixelCurves:
    """Return the curves of Petsiuk et al. (arXiv 1806.07421).

    Args:
        score: images (N, C, H, W) -> scores (N,).
        images: the network's input.
        heat: (N, H, W); equals go in reading order.
        steps: parts of as equal size as whole pixels allow.
        baseline: the value of a pixel that is gone.
    """
    count, pixels = heat.shape[0], heat[0].numel()
    order = heat.reshape(count, -1).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(pixels, device=order.device).expand(count, -1))
    rank = rank.reshape(heat.shape)[:, None].to(images.device)
    gone = torch.full_like(images, baseline)
    deletion, insertion = [], []
    for step in range(steps + 1):
        first = rank < round(pixels * step / steps)  # (N, 1, H, W): the hottest pixels
        deletion.append(score(torch.where(first, gone, images)).float().mean().cpu())
        insertion.append(score(torch.where(first, images, gone)).float().mean().cpu())
    return PixelCurves(torch.stack(deletion), torch.stack(insertion))


@dataclass(frozen=True)
class Faithfulness:
    """What maps are worth on some images.

    Attributes:
        images: how many.
        by_heat: curves of the target's probability, pixels in the order of the map.
        by_chance: the same in random order.
        after_shuffling: mean rank correlation of each map with that of the same network with shuffled weights (Adebayo
            et al., arXiv 1810.03292): near 1 the map would not depend on what was learned; None where it has no answer.
    """

    images: int
    by_heat: PixelCurves
    by_chance: PixelCurves
    after_shuffling: float | None

    def facts(self) -> dict[str, float]:
        """Return the numbers for summary.json."""
        found = {
            "deletion": self.by_heat.deletion_area,
            "insertion": self.by_heat.insertion_area,
            "deletion_chance": self.by_chance.deletion_area,
            "insertion_chance": self.by_chance.insertion_area,
        }
        return found if self.after_shuffling is None else {**found, "shuffled_correlation": self.after_shuffling}


def faithfulness(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], layer: str, method: str) -> Faithfulness:
    """Measure the maps of `layer` on some images; the model is left as found.

    Args:
        model: in any mode.
        batches: images (N, C, H, W) and their targets (N,), at least one; another batch may have another size.
        layer: whose maps.
        method: a name in `cam_methods.METHODS`.
    """
    network = unwrapped(model)
    try:
        shuffled = shuffled_copy(network)
    except (RuntimeError, TypeError):  # somebody's network that cannot be copied: all else can be measured
        shuffled = None
    generator = torch.Generator().manual_seed(_SEED)
    counts: list[int] = []
    by_heat: list[PixelCurves] = []
    by_chance: list[PixelCurves] = []
    correlations: list[Tensor] = []
    for images, targets in batches:
        maps = explain(network, images, [layer], targets, method).maps[layer][0]
        heat = upsampled(maps, (images.shape[-2], images.shape[-1]))
        probability = _probability(network, targets.to(images.device))
        with undisturbed(network, images.device):
            by_heat.append(pixel_curves(probability, images, heat))
            chance = torch.rand(heat.shape, generator=generator)
            by_chance.append(pixel_curves(probability, images, chance))
        if shuffled is not None:
            others = explain(shuffled, images, [layer], targets, method).maps[layer][0]
            correlations.append(rank_correlations(maps, others))
        counts.append(len(images))
    found = torch.cat(correlations) if correlations else torch.zeros(0)
    after_shuffling = float(found.mean()) if len(found) else None
    return Faithfulness(sum(counts), _mean(by_heat, counts), _mean(by_chance, counts), after_shuffling)


def _probability(network: nn.Module, targets: Tensor) -> Callable[[Tensor], Tensor]:
    """Return what gives the probabilities of targets (N,) on images (N, C, H, W)."""

    def probability(inputs: Tensor) -> Tensor:
        logits: Tensor = network(inputs)
        return logits.float().softmax(1).gather(1, targets[:, None])[:, 0]

    return probability


def _mean(curves: Sequence[PixelCurves], counts: Sequence[int]) -> PixelCurves:
    """Return the mean over all images of curves that are means over `counts` images each."""
    shares = torch.tensor(counts) / sum(counts)
    deletion, insertion = (
        torch.stack(some).mul(shares[:, None]).sum(0)
        for some in ([one.deletion for one in curves], [one.insertion for one in curves])
    )
    return PixelCurves(deletion, insertion)


def shuffled_copy(model: nn.Module) -> nn.Module:
    """Return a copy whose weights (tensors of two or more dimensions) hold their values in random order."""
    shuffled = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(_SEED)
    with torch.no_grad():
        for parameter in shuffled.parameters():
            if parameter.ndim > 1:
                order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
                parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))
    return shuffled


def rank_correlations(first: Tensor, second: Tensor) -> Tensor:
    """Return Spearman's correlation of each pair of maps (N, h, w) of which both vary, float64 (n,)."""
    a, b = (_centred_ranks(maps.flatten(1).double()) for maps in (first, second))
    scale = a.norm(dim=1) * b.norm(dim=1)
    varied = scale > 0
    found: Tensor = (a * b).sum(1)[varied] / scale[varied]
    return found


def _centred_ranks(rows: Tensor) -> Tensor:
    """Return ranks less their mean; equals share the mean of their ranks."""
    ordered = rows.sort(dim=1).values
    below, through = (torch.searchsorted(ordered, rows, right=right) for right in (False, True))
    ranks = (below + through - 1) / 2
    return ranks - ranks.mean(1, keepdim=True)


def _area(curve: Tensor) -> float:
    return float(torch.trapezoid(curve) / (len(curve) - 1))
