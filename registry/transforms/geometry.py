"""Rotate, Affine and ShiftScaleRotate in batches: what they draw, as matrices for warp.py."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from registry.transforms import elementary
from registry.transforms.contract import Limits, Sometimes
from registry.transforms.draws import Draws
from registry.transforms.warp import Sampling, affine_matrices, centre_of


class Moved(Sometimes[Tensor]):
    """A transform that moves the image's pixels by a matrix per image, float64 (n, 2, 3).

    Args:
        sampling: how pixels are read between and beyond pixels.
        p: probability per image.
    """

    def __init__(self, sampling: Sampling, p: float) -> None:
        super().__init__(p)
        self._sampling = sampling

    @override
    def on_cpu(self, images: np.ndarray, rows: np.ndarray, parameters: Tensor) -> None:
        images[rows] = self._sampling.on_cpu(images, rows.tolist(), parameters.numpy())

    @override
    def on_device(self, images: Tensor, parameters: Tensor) -> Tensor:
        return self._sampling.on_device(images, parameters)


class Rotate(Moved):
    """Upstream's Rotate without cropping.

    Args:
        limits: of the angle, degrees counter-clockwise.
        sampling: how pixels are read between and beyond pixels.
        p: probability per image.
    """

    def __init__(self, limits: Limits, sampling: Sampling, p: float) -> None:
        super().__init__(sampling, p)
        self._limits = limits

    @override
    def draw(self, draws: Draws, height: int, width: int) -> Tensor:
        return affine_matrices(draws.between(1, self._limits), centre_of(height, width))


@dataclass(frozen=True)
class Ranges:
    """What Affine draws from, each as limits along x and y.

    Attributes:
        scale: factors.
        shear: degrees.
        translate: whole pixels, or shares of the image's side.
        in_pixels: `translate` is in pixels.
        rotate: degrees counter-clockwise; limits of one number.
        keep_ratio: the factor along x serves y too.
        balanced: enlarge and shrink equally often.
    """

    scale: tuple[Limits, Limits]
    shear: tuple[Limits, Limits]
    translate: tuple[Limits, Limits]
    in_pixels: bool
    rotate: Limits
    keep_ratio: bool
    balanced: bool


class Affine(Moved):
    """Upstream's Affine and ShiftScaleRotate that keep the image's size.

    Args:
        ranges: what is drawn from.
        sampling: how pixels are read between and beyond pixels.
        p: probability per image.
    """

    def __init__(self, ranges: Ranges, sampling: Sampling, p: float) -> None:
        super().__init__(sampling, p)
        self._ranges = ranges

    @override
    def draw(self, draws: Draws, height: int, width: int) -> Tensor:
        ranges = self._ranges
        scale_x, scale_y = (self._scale(draws, 2 + 2 * axis, limits) for axis, limits in enumerate(ranges.scale))
        shear_x, shear_y = (-draws.between(6 + axis, limits) for axis, limits in enumerate(ranges.shear))
        return affine_matrices(
            draws.between(1, ranges.rotate),
            centre_of(height, width),
            scale=(scale_x, scale_x if ranges.keep_ratio else scale_y),
            shear=(shear_x, shear_y),
            translate=(
                self._translate(draws, 8, ranges.translate[0], width),
                self._translate(draws, 9, ranges.translate[1], height),
            ),
        )

    def _scale(self, draws: Draws, draw: int, limits: Limits) -> Tensor:
        low, high = limits
        if not self._ranges.balanced:
            return draws.between(draw, limits)
        smaller, larger = draws.between(draw, (low, 1)), draws.between(draw, (1, high))
        if low < 1 < high:
            return torch.where(draws.chosen(0.5, draw + 1), smaller, larger)
        return smaller if low < 1 else larger

    def _translate(self, draws: Draws, draw: int, limits: Limits, size: int) -> Tensor:
        if self._ranges.in_pixels:
            return draws.integers(draw, int(limits[0]), int(limits[1])).to(torch.float64)
        return elementary.trunc(draws.between(draw, limits) * size)
