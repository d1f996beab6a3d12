"""GaussNoise in batches."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from registry.transforms import elementary
from registry.transforms.contract import Limits, Sometimes
from registry.transforms.draws import Draws

_BLOCK = 32  # images whose noise is made at a time on the CPU: it is 20 bytes a value on the way
_FIRST_PIXEL = 16  # draw number of the first pixel's noise


class Noise(NamedTuple):
    """Mean and spread of n images' noise, float64 (n,) in 0..1, and the noise itself."""

    mean: Tensor
    std: Tensor
    draws: Draws


class GaussNoise(Sometimes[Noise]):
    """Upstream's GaussNoise at full resolution.

    Attributes:
        wins_up_to: pixels of an image up to which it is faster than upstream's on the CPU.

    Args:
        std: limits of the noise's standard deviation, in 0..1.
        mean: limits of its mean, in 0..1.
        per_channel: every channel gets its own noise; else all the same.
        p: probability per image.
    """

    wins_up_to = 64 * 64

    def __init__(self, std: Limits, mean: Limits, per_channel: bool, p: float) -> None:
        super().__init__(p)
        self._std = std
        self._mean = mean
        self._per_channel = per_channel

    @override
    def draw(self, draws: Draws, height: int, width: int) -> Noise:
        std, mean = draws.betweens(1, self._std, self._mean)
        return Noise(mean, std, draws)

    @override
    def on_cpu(self, images: np.ndarray, rows: np.ndarray, parameters: Noise) -> None:
        for start in range(0, len(rows), _BLOCK):
            block = slice(start, start + _BLOCK)
            some = torch.arange(start, min(start + _BLOCK, len(rows)))
            part = Noise(parameters.mean[block], parameters.std[block], parameters.draws.subset(some))
            super().on_cpu(images, rows[block], part)

    @override
    def on_device(self, images: Tensor, parameters: Noise) -> Tensor:
        n, height, width, channels = images.shape
        own = channels if self._per_channel else 1
        noise = parameters.draws.normals(_FIRST_PIXEL, height * width * own).view(n, height, width, own)
        std, mean = (value.to(torch.float32)[:, None, None, None] * 255 for value in (parameters.std, parameters.mean))
        steps = elementary.trunc((noise * std).add_(mean))  # upstream cuts the noise off before it adds it
        return (images + steps).clamp_(0, 255).to(torch.uint8)
