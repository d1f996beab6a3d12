"""Affine maps of images: matrices as upstream builds them, and pixels sampled through them.

The CPU form is OpenCV's warpAffine, the kernel upstream itself uses; the other one is torch's grid_sample on exact
coordinates. OpenCV 5 interpolates exactly, OpenCV 4 at 1/32 pixel, so there the two agree only as closely as that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from registry.transforms import elementary
from registry.transforms.contract import Fill, UnsupportedError, border_levels

INTERPOLATIONS = {cv2.INTER_NEAREST: "nearest", cv2.INTER_LINEAR: "bilinear"}
# How grid_sample says what OpenCV says, and whether it counts from the outermost pixels' centres.
BORDERS = {
    cv2.BORDER_CONSTANT: ("zeros", False),  # from the outermost centres, a side of one pixel would have no beyond
    cv2.BORDER_REPLICATE: ("border", True),
    cv2.BORDER_REFLECT: ("reflection", False),
    cv2.BORDER_REFLECT_101: ("reflection", True),
}


@dataclass(frozen=True)
class Sampling:
    """How pixels are read between and beyond pixels.

    Attributes:
        interpolation: OpenCV's constant.
        border: OpenCV's constant.
        fill: grey level beyond the border, or one per channel, for BORDER_CONSTANT.
    """

    interpolation: int
    border: int
    fill: Fill

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            raise UnsupportedError(f"interpolation {self.interpolation} is neither nearest nor linear")
        if self.border not in BORDERS:
            raise UnsupportedError(f"border_mode {self.border} is none of constant, replicate, reflect, reflect_101")

    def on_cpu(self, images: np.ndarray, rows: Sequence[int], matrices: np.ndarray) -> np.ndarray:
        """Return images[rows] moved by their matrices, uint8 (n, H, W, C).

        Args:
            images: uint8 (N, H, W, C).
            rows: n of them.
            matrices: float64 (n, 2, 3), from a place in the image to its new place.
        """
        height, width, channels = images.shape[1:]
        fill = border_levels(self.fill, channels)
        moved = np.empty((len(rows), height, width, channels), dtype=np.uint8)
        for row, matrix, target in zip(rows, matrices, moved, strict=True):
            cv2.warpAffine(
                images[row],
                matrix,
                (width, height),
                dst=target,
                flags=self.interpolation,
                borderMode=self.border,
                borderValue=fill,
            )
        return moved

    def on_device(self, images: Tensor, matrices: Tensor) -> Tensor:
        """Return all images moved by their matrices.

        Args:
            images: uint8 (N, H, W, C).
            matrices: float64 (N, 2, 3), from a place in the image to its new place.
        """
        height, width, channels = images.shape[1:]
        padding, centred = BORDERS[self.border]
        grid = _source_grid(matrices, height, width, centred)
        pixels = images.permute(0, 3, 1, 2).to(torch.float32)  # (N, C, H, W), channels_last
        fill = torch.cat([pixels.new_full((1,), value) for value in border_levels(self.fill, channels)])[:, None, None]
        moved = functional.grid_sample(
            pixels - fill,  # beyond the border grid_sample reads zeros
            grid,
            mode=INTERPOLATIONS[self.interpolation],
            padding_mode=padding,
            align_corners=centred,
        ).add_(fill)
        return moved.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def affine_matrices(
    angle: Tensor,
    centre: tuple[float, float],
    *,
    scale: tuple[Tensor, Tensor] | None = None,
    shear: tuple[Tensor, Tensor] | None = None,
    translate: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return matrices that scale, rotate, shear and move images about a centre, in this order.

    Args:
        angle: degrees counter-clockwise as one sees it, float64 (n,).
        centre: (x, y), pixels.
        scale: factors along x and y.
        shear: degrees along x and y.
        translate: pixels along x and y.

    Returns:
        float64 (n, 2, 3), from a place (x, y, 1) in the image to its new place.
    """
    radians = torch.deg2rad(angle % 360)
    cos, sin = elementary.cos(radians), elementary.sin(radians)
    xx, xy, yx, yy = cos, sin, -sin, cos
    if scale is not None:
        xx, xy, yx, yy = xx * scale[0], xy * scale[1], yx * scale[0], yy * scale[1]
    if shear is not None:
        along_x, along_y = (elementary.tan(torch.deg2rad(angle)) for angle in shear)
        xx, xy, yx, yy = xx + along_x * yx, xy + along_x * yy, along_y * xx + yx, along_y * xy + yy
    x, y = centre
    to_x, to_y = x - xx * x - xy * y, y - yx * x - yy * y
    if translate is not None:
        to_x, to_y = to_x + translate[0], to_y + translate[1]
    return torch.stack((xx, xy, to_x, yx, yy, to_y), dim=-1).view(-1, 2, 3)


def centre_of(height: int, width: int) -> tuple[float, float]:
    """Return the middle (x, y) of an image, in pixels, where a pixel's own centre is a whole number."""
    return width / 2 - 0.5, height / 2 - 0.5


def _source_grid(matrices: Tensor, height: int, width: int, centred: bool) -> Tensor:
    """Return where each new pixel comes from, in grid_sample's units, float32 (N, H, W, 2)."""
    (xx, xy, to_x), (yx, yy, to_y) = matrices[:, 0].unbind(1), matrices[:, 1].unbind(1)
    area = xx * yy - xy * yx
    x = torch.arange(width, device=matrices.device, dtype=torch.float64) - to_x[:, None]  # (N, W)
    y = torch.arange(height, device=matrices.device, dtype=torch.float64) - to_y[:, None]  # (N, H)
    from_x = (yy / area)[:, None, None] * x[:, None, :] - (xy / area)[:, None, None] * y[:, :, None]
    from_y = (xx / area)[:, None, None] * y[:, :, None] - (yx / area)[:, None, None] * x[:, None, :]
    return torch.stack((_in_grid(from_x, width, centred), _in_grid(from_y, height, centred)), dim=-1)


def _in_grid(place: Tensor, size: int, centred: bool) -> Tensor:
    unit = place * (2 / max(size - 1, 1)) - 1 if centred else (place * 2 + 1) / size - 1
    return unit.to(torch.float32)
