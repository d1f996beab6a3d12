"""Mirror images: upstream's flips in batches, and the flip that alternates from epoch to epoch."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from registry.transforms.contract import OwnTransform, Sometimes
from registry.transforms.draws import Draws

_HORIZONTAL = 1  # OpenCV's flip code


class Flip(Sometimes[None]):
    """Upstream's HorizontalFlip or VerticalFlip.

    Args:
        horizontal: mirror left and right; else top and bottom.
        p: probability per image.
    """

    def __init__(self, horizontal: bool, p: float) -> None:
        super().__init__(p)
        self._horizontal = horizontal

    @override
    def draw(self, draws: Draws, height: int, width: int) -> None:
        return None

    @override
    def on_cpu(self, images: np.ndarray, rows: np.ndarray, parameters: None) -> None:
        if self._horizontal:
            images[rows] = mirrored(images[rows])
        else:
            images[rows] = images[rows, ::-1]

    @override
    def on_device(self, images: Tensor, parameters: None) -> Tensor:
        return images.flip(2 if self._horizontal else 1)


class AlternatingFlip(OwnTransform):
    """Mirror every other epoch: a horizontal flip without its chance (Keller Jordan, arXiv 2404.00498, section 3.6).

    Each image is mirrored or not in its first epoch as a draw on (seed, index) has it, then in turn, so that two epochs
    show every image both ways, where HorizontalFlip with p = 0.5 shows half of them the same way twice.
    """

    @override
    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        mirror = draws.in_epoch(0).chosen(0.5) ^ (draws.epoch % 2 == 1)
        if images.device.type == "cpu":
            rows = mirror.nonzero()[:, 0].numpy()
            if len(rows):
                pixels = images.numpy()
                pixels[rows] = mirrored(pixels[rows])
            return images
        return torch.where(mirror[:, None, None, None], images.flip(2), images)


def mirrored(images: np.ndarray) -> np.ndarray:
    """Return contiguous uint8 images (n, H, W, C) mirrored left and right: one call on all rows of all images."""
    n, height, width, channels = images.shape
    return cv2.flip(images.reshape(n * height, width, channels), _HORIZONTAL).reshape(images.shape)
