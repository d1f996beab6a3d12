"""Faithfulness of maps: deletion and insertion curves, and what shuffled weights do to the maps.

Owns the measures; which images they are taken on, and the words, are gradcam.py's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
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


def faithfulness(model: nn.Module, images: Tensor, targets: Tensor, layer: str, method: str) -> Faithfulness:
    """Measure the maps of `layer` for `targets` on `images`; the model is left as found."""
    network = unwrapped(model)
    maps = explain(network, images, [layer], targets, method).maps[layer][0]
    heat = upsampled(maps, (images.shape[-2], images.shape[-1]))
    chosen = targets.to(images.device)

    def probability(inputs: Tensor) -> Tensor:
        logits: Tensor = network(inputs)
        return logits.float().softmax(1).gather(1, chosen[:, None])[:, 0]

    generator = torch.Generator().manual_seed(_SEED)
    with undisturbed(network, images.device):
        by_heat = pixel_curves(probability, images, heat)
        by_chance = pixel_curves(probability, images, torch.rand(heat.shape, generator=generator), STEPS // 2)
    try:
        shuffled = shuffled_copy(network)
    except (RuntimeError, TypeError):  # somebody's network that cannot be copied: all else can be measured
        return Faithfulness(len(images), by_heat, by_chance, None)
    others = explain(shuffled, images, [layer], targets, method).maps[layer][0]
    return Faithfulness(len(images), by_heat, by_chance, rank_correlation(maps, others))


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


def rank_correlation(first: Tensor, second: Tensor) -> float | None:
    """Return the mean over maps (N, h, w) of Spearman's correlation; None where no pair has two maps that vary."""
    a, b = (_centred_ranks(maps.flatten(1).double()) for maps in (first, second))
    scale = a.norm(dim=1) * b.norm(dim=1)
    varied = scale > 0
    return float(((a * b).sum(1)[varied] / scale[varied]).mean()) if bool(varied.any()) else None


def _centred_ranks(rows: Tensor) -> Tensor:
    """Return ranks less their mean; equals share the mean of their ranks."""
    ordered = rows.sort(dim=1).values
    below, through = (torch.searchsorted(ordered, rows, right=right) for right in (False, True))
    ranks = (below + through - 1) / 2
    return ranks - ranks.mean(1, keepdim=True)


def _area(curve: Tensor) -> float:
    return float(torch.trapezoid(curve) / (len(curve) - 1))
