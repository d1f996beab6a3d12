"""CoarseDropout in batches: rectangles of an image filled in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from registry.errors import DataError
from registry.transforms.contract import Fill, Limits, Sometimes, assigned_levels
from registry.transforms.draws import Draws

_COUNT, _FIRST_HOLE, _PER_HOLE = 1, 2, 5  # draw numbers: height, width, y, x and the colours' key of each hole


class Holes(NamedTuple):
    """Rectangles of n images, int64 (holes, n); those beyond an image's own number are empty."""

    top: Tensor
    bottom: Tensor
    left: Tensor
    right: Tensor


class CoarseDropout(Sometimes[Holes]):
    """Upstream's CoarseDropout with a fixed fill.

    Args:
        count: smallest and largest number of holes.
        heights: smallest and largest height, pixels; a share of the image's height where both are below 1.
        widths: likewise; a share exactly where `heights` is.
        fill: grey level, or one per channel.
        p: probability per image.
    """

    def __init__(
        self,
        count: tuple[int, int],
        heights: Limits,
        widths: Limits,
        fill: Fill,
        p: float,
    ) -> None:
        super().__init__(p)
        self._count = count
        self._heights = heights
        self._widths = widths
        self._fill = fill
        self._in_pixels = heights[1] >= 1

    @override
    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Fill holes of some of the images; as `Batched` has it.

        Raises:
            DataError: even the smallest hole, or a share of more than the whole, does not fit into the images.
        """
        for side, limits, size in zip(
            ("hole_height_range", "hole_width_range"), (self._heights, self._widths), images.shape[1:3], strict=True
        ):
            if limits[0 if self._in_pixels else 1] > (size if self._in_pixels else 1):
                low, high = (f"{limit:g}" for limit in limits)
                found = f"CoarseDropout: {side} [{low}, {high}] does not fit into images of {size} px on that side"
                raise DataError(found, "make the holes smaller than the images, in pixels or both sides as shares of 1")
        return super().__call__(images, draws)

    @override
    def draw(self, draws: Draws, height: int, width: int) -> Holes:
        """Draw how many holes each of n images gets, and their sides and places: fully inside, sides independent."""
        most = self._count[1]
        count = draws.integers(_COUNT, *self._count)
        chances = draws.uniforms(_FIRST_HOLE, most * _PER_HOLE).view(most, _PER_HOLE, -1)
        heights = self._sides(chances[:, 0], self._heights, height)
        widths = self._sides(chances[:, 1], self._widths, width)
        top = (chances[:, 2] * (height - heights + 1)).to(torch.int64)
        left = (chances[:, 3] * (width - widths + 1)).to(torch.int64)
        wanted = torch.arange(most, device=draws.device)[:, None] < count
        return Holes(top, top + heights * wanted, left, left + widths * wanted)

    @override
    def on_cpu(self, images: np.ndarray, rows: np.ndarray, parameters: Holes) -> None:
        """Fill the holes of images[rows] in place."""
        n, height, width, channels = images.shape
        fill = np.array(assigned_levels(self._fill, channels), dtype=np.uint8)
        line = np.tile(fill, width)
        lines = images.reshape(n, height, width * channels)
        left, right = parameters.left * channels, parameters.right * channels
        for top, bottom, start, end in zip(
            parameters.top.tolist(), parameters.bottom.tolist(), left.tolist(), right.tolist(), strict=True
        ):
            for row, y, y_end, x, x_end in zip(rows.tolist(), top, bottom, start, end, strict=True):
                lines[row, y:y_end, x:x_end] = line[: x_end - x]

    @override
    def on_device(self, images: Tensor, parameters: Holes) -> Tensor:
        """Return all images with their holes filled."""
        _, height, width, channels = images.shape
        y = torch.arange(height, device=images.device)
        x = torch.arange(width, device=images.device)
        inside_y = (y >= parameters.top[..., None]) & (y < parameters.bottom[..., None])  # (holes, N, H)
        inside_x = (x >= parameters.left[..., None]) & (x < parameters.right[..., None])  # (holes, N, W)
        inside = (inside_y[..., None] & inside_x[..., None, :]).any(0)  # (N, H, W)
        levels = enumerate(assigned_levels(self._fill, channels))
        return torch.stack([torch.where(inside, level, images[..., c]) for c, level in levels], dim=-1)

    def _sides(self, chances: Tensor, limits: tuple[float, float], size: int) -> Tensor:
        low, high = limits
        if self._in_pixels:
            low, high = int(low), int(min(high, size))
            return low + (chances * (high - low + 1)).to(torch.int64)
        return ((low + chances * (high - low)) * size).to(torch.int64)
