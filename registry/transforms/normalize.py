"""Normalize in batches: uint8 to float in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from registry.transforms.draws import Draws

# Torch spreads larger tensors over its threads on the CPU, which costs more than a pass over so few images takes.
_VALUES_AT_A_TIME = 32_768


class Normalize:
    """Upstream's Normalize of the standard kind, (pixel / max_pixel_value - mean) / std, in one pass.

    Args:
        mean: per channel, in 0..1.
        std: per channel, in 0..1.
        max_pixel_value: grey level that counts as 1.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], max_pixel_value: float) -> None:
        self._mean = mean
        self._std = std
        self._max_pixel_value = max_pixel_value
        self._rows: dict[tuple[int, int, torch.device], tuple[Tensor, Tensor]] = {}

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:  # noqa: ARG002 (nothing is left to chance)
        """Return float32 (N, H, W, C) of uint8 images (N, H, W, C)."""
        flat = images.flatten(1)
        factors, offsets = self._row(flat.shape[1], images.shape[-1], images.device)
        if images.device.type != "cpu":
            return torch.addcmul(offsets, flat.to(torch.float32), factors).view(images.shape)
        scaled = torch.empty(flat.shape, dtype=torch.float32)
        block = max(1, _VALUES_AT_A_TIME // flat.shape[1])
        for levels, target in zip(flat.split(block), scaled.split(block), strict=True):
            target.copy_(levels)
            torch.addcmul(offsets, target, factors, out=target)
        return scaled.view(images.shape)

    def _row(self, length: int, channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return factor and offset of every value of an image, float32 (H * W * C,): long rows run at full speed."""
        key = (length, channels, device)
        if key not in self._rows:
            mean, std = (of_channels(values, channels) for values in (self._mean, self._std))
            factors = 1 / (std * self._max_pixel_value)
            offsets = -mean / std
            self._rows[key] = tuple(  # type: ignore[assignment]
                values.to(torch.float32).repeat(length // channels).to(device, non_blocking=True)
                for values in (factors, offsets)
            )
        return self._rows[key]


def of_channels(values: tuple[float, ...], channels: int) -> Tensor:
    """Return one value per channel, float64: as upstream does it, the first serves all where there are too few."""
    own = values if 1 < channels <= len(values) else values[:1] * channels
    return torch.tensor(own[:channels], dtype=torch.float64)
