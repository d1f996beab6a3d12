"""Rectangles cut out of images, as they are or resized: one per image, all of one size in the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from registry.transforms.contract import UnsupportedError


class Boxes(NamedTuple):
    """A rectangle in each of n images, pixels, int64 (n,)."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


def windows(images: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Cut a window of one size out of each image.

    Args:
        images: uint8 (N, H, W, C).
        top: first row, int64 (N,).
        left: first column, int64 (N,).
        height: of the window.
        width: of the window.

    Returns:
        uint8 (N, height, width, C), contiguous.
    """
    n, tall, wide, channels = images.shape
    if images.device.type == "cpu":
        lines = images.numpy().reshape(n, tall, wide * channels)
        cut = np.empty((n, height, width * channels), dtype=np.uint8)
        starts = (left * channels).tolist()
        for image, y, x, target in zip(lines, top.tolist(), starts, cut, strict=True):
            target[:] = image[y : y + height, x : x + width * channels]
        return torch.from_numpy(cut).view(n, height, width, channels)
    return windows_by_torch(images, top, left, height, width)


def windows_by_torch(images: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Return what `windows` does, by torch alone."""
    rows = (top[:, None] + torch.arange(height, device=images.device))[:, :, None]  # (N, height, 1)
    columns = (left[:, None] + torch.arange(width, device=images.device))[:, None, :]  # (N, 1, width)
    return images[torch.arange(len(images), device=images.device)[:, None, None], rows, columns]


@dataclass(frozen=True)
class Scaling:
    """Rectangles made one size, as OpenCV's resize does it.

    Attributes:
        height: in the end.
        width: in the end.
        interpolation: OpenCV's constant.
    """

    height: int
    width: int
    interpolation: int

    def __post_init__(self) -> None:
        if self.interpolation not in (cv2.INTER_NEAREST, cv2.INTER_LINEAR):
            raise UnsupportedError(f"interpolation {self.interpolation} is neither nearest nor linear")

    def on_cpu(self, images: Tensor, boxes: Boxes) -> Tensor:
        """Return every image's rectangle resized, uint8 (N, height, width, C)."""
        n, _, _, channels = images.shape
        scaled = np.empty((n, self.height, self.width, channels), dtype=np.uint8)
        size = (self.width, self.height)
        corners = zip(*(values.tolist() for values in boxes), strict=True)
        for image, (y, x, height, width), target in zip(images.numpy(), corners, scaled, strict=True):
            box = image[y : y + height, x : x + width]
            if (height, width) == (self.height, self.width):
                target[:] = box
            else:
                cv2.resize(box, size, dst=target, interpolation=self.interpolation)
        return torch.from_numpy(scaled)

    def on_device(self, images: Tensor, boxes: Boxes) -> Tensor:
        """Return the same by torch."""
        height, width = images.shape[1:3]
        y = self._places(boxes.top, boxes.height, self.height, height)  # (N, height)
        x = self._places(boxes.left, boxes.width, self.width, width)  # (N, width)
        grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1)
        pixels = images.permute(0, 3, 1, 2).to(torch.float32)
        scaled = functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=True)
        return scaled.round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    def _places(self, start: Tensor, side: Tensor, target: int, whole: int) -> Tensor:
        """Return where each new row or column comes from, float32 (N, target), in grid_sample's units."""
        step = (side.to(torch.float64) / target)[:, None]
        new = torch.arange(target, dtype=torch.float64, device=start.device)
        last = (side - 1)[:, None].to(torch.float64)
        if self.interpolation == cv2.INTER_NEAREST:
            place = torch.minimum((new * step).floor(), last)
        else:
            place = torch.minimum(((new + 0.5) * step - 0.5).clamp(min=0), last)  # beyond the rectangle is its edge
        return ((place + start[:, None]) * (2 / max(whole - 1, 1)) - 1).to(torch.float32)

    def __call__(self, images: Tensor, boxes: Boxes) -> Tensor:
        """Return every image's rectangle resized, on the images' device."""
        return self.on_cpu(images, boxes) if images.device.type == "cpu" else self.on_device(images, boxes)
