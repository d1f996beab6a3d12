"""MixUp and CutMix: the images of a training batch are mixed and, with them, their targets.

A mixer draws from the generator it is handed, which the engine keys by (seed, epoch, step); it keeps nothing between
batches. The loss takes the mixed targets as class probabilities.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated

from registry.catalogue.adoption import Registry
from registry.catalogue.markers import Bounds

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MIXED_NUMBERS = (  # what mixing means to the numbers of an epoch
    "train/loss is against the mixed classes, and train/accuracy counts only the first of the two classes in an image, "
    "so it stays low however good the network is"
)

LEAST_ALPHA = 0.01  # here 93 % of the shares are within 0.0005 of 0 or 1; from 0.001 down Gamma draws are lost to 0

MIXES = Registry("mix")
MIXES.adopt_own("registry.mixes", base="registry.mixes:Mixer")


class Mixer(ABC):
    """Mixes a batch with itself in another order.

    Args:
        alpha: both parameters of the Beta distribution that the share of an image is drawn from, 0.01 or more.
        p: probability that a batch is mixed at all, 0..1.
        num_classes: length of the mixed targets.
    """

    def __init__(self, alpha: float, p: float, num_classes: int) -> None:
        self.alpha = alpha
        self.p = p
        self.num_classes = num_classes

    def __call__(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mix one batch.

        Args:
            images: float (N, C, H, W); not changed.
            targets: class index of every image, int64 (N,).
            generator: a CPU generator keyed by (seed, epoch, step).

        Returns:
            Images like those given, and class probabilities, float32 (N, num_classes), that sum to 1.
        """
        import torch

        known = torch.nn.functional.one_hot(targets, self.num_classes).float()
        # One draw of each kind whatever happens to the batch, on the CPU, so that devices agree and none is waited for.
        applied = bool(torch.rand((), generator=generator) < self.p)
        share = _beta(self.alpha, generator)
        order = torch.randperm(len(images), generator=generator)
        place = torch.rand(2, generator=generator).tolist()
        if not applied:
            return images, known
        order = order.to(images.device, non_blocking=True)
        mixed, kept = self.mix(images, images[order], share, place)
        return mixed, known.mul(kept).add_(known[order], alpha=1 - kept)

    @abstractmethod
    def mix(self, images: Tensor, others: Tensor, share: float, place: list[float]) -> tuple[Tensor, float]:
        """Return the mixed images and the share of `images` in them.

        Args:
            images: float (N, C, H, W).
            others: the same images in another order.
            share: wanted share of `images`, 0..1.
            place: two uniform draws, for where something is put.
        """


def _beta(alpha: float, generator: torch.Generator) -> float:
    """Draw from Beta(alpha, alpha), as the ratio of two Gamma draws."""
    import torch

    left, right = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=generator).tolist()
    return float(left / (left + right)) if left + right > 0 else float(left >= right)


class MixUp(Mixer):
    """Weighted mean of two images and of their targets (arXiv 1710.09412).

    Args:
        alpha: both parameters of the Beta distribution that the weight is drawn from, 0.01 or more; 0.2 mixes little.
        p: probability that a batch is mixed, 0..1.
        num_classes: length of the mixed targets, 1 or more.
    """

    def __init__(
        self,
        alpha: Annotated[float, Bounds(min=LEAST_ALPHA)] = 0.2,
        p: Annotated[float, Bounds(min=0, max=1)] = 1.0,
        *,
        num_classes: Annotated[int, Bounds(min=1)],
    ) -> None:
        super().__init__(alpha, p, num_classes)

    def mix(self, images: Tensor, others: Tensor, share: float, place: list[float]) -> tuple[Tensor, float]:  # noqa: ARG002
        """Blend with weight `share`."""
        return images.mul(share).add_(others, alpha=1 - share), share


class CutMix(Mixer):
    """A rectangle of each image comes from another one, the targets by area (arXiv 1905.04899).

    Args:
        alpha: both parameters of the Beta distribution that the share of the area is drawn from, 0.01 or more; 1 is
            uniform.
        p: probability that a batch is mixed, 0..1.
        num_classes: length of the mixed targets, 1 or more.
    """

    def __init__(
        self,
        alpha: Annotated[float, Bounds(min=LEAST_ALPHA)] = 1.0,
        p: Annotated[float, Bounds(min=0, max=1)] = 1.0,
        *,
        num_classes: Annotated[int, Bounds(min=1)],
    ) -> None:
        super().__init__(alpha, p, num_classes)

    def mix(self, images: Tensor, others: Tensor, share: float, place: list[float]) -> tuple[Tensor, float]:
        """Put a rectangle of `others`, cut off at the border, into a copy of `images`."""
        height, width = images.shape[-2:]
        side = (1 - share) ** 0.5
        top, bottom = _span(place[0], side, height)
        left, right = _span(place[1], side, width)
        mixed = images.clone()
        mixed[..., top:bottom, left:right] = others[..., top:bottom, left:right]
        return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def _span(place: float, side: float, size: int) -> tuple[int, int]:
    """Return where a stretch of `side` (a share of `size`) around `place` begins and ends."""
    middle, length = int(place * size), int(side * size)
    return max(0, middle - length // 2), min(size, middle - length // 2 + length)
