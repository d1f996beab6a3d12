"""What a batched transform is, and the bases of those there are.

A batched transform is made from an upstream transform's arguments (batched.py) or is one of our own that a recipe names
(flips.py). It takes uint8 images (N, H, W, C) on any device, with the draws of their keys (draws.py). On the CPU it
works on the chosen images alone, with OpenCV's own kernels where upstream uses them; elsewhere on all of them, with
torch operations of fixed shape, so that a GPU is never waited for. Both forms take the same parameters and agree; the
tests hold them to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, Protocol, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from registry.errors import DataError
from registry.transforms.draws import Draws

Parameters = TypeVar("Parameters")
Limits = tuple[float, float]  # smallest and largest value
Fill: TypeAlias = "float | tuple[float, ...]"  # a grey level, or one per channel


class UnsupportedError(Exception):
    """These arguments have no batched version; the text says which."""


class Batched(Protocol):
    """A transform of a whole batch."""

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Return the transformed images.

        Args:
            images: uint8 (N, H, W, C), contiguous; given away: may be overwritten and returned.
            draws: of the N images, made on the same device.
        """


class OwnTransform(ABC):
    """Base of the transforms that a recipe may name and that upstream lacks: batched, whatever the backend."""

    @abstractmethod
    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Return the transformed images; as `Batched` has it."""


class Sometimes(ABC, Generic[Parameters]):
    """A transform that keeps the image's size and acts on each image with probability `p`.

    Draw 0 decides whether it acts; `draw` has the numbers from 1 on.
    """

    def __init__(self, p: float) -> None:
        self.p = p

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Transform some of the images; as `Batched` has it."""
        if self.p <= 0:
            return images
        height, width = images.shape[1:3]
        chosen = draws.chosen(self.p)
        if images.device.type == "cpu":
            rows = chosen.nonzero()[:, 0]
            if len(rows):
                self.on_cpu(images.numpy(), rows.numpy(), self.draw(draws.subset(rows), height, width))
            return images
        changed = self.on_device(images, self.draw(draws, height, width))
        return torch.where(chosen[:, None, None, None], changed, images)

    @abstractmethod
    def draw(self, draws: Draws, height: int, width: int) -> Parameters:
        """Draw the parameters of n images of this size."""

    def on_cpu(self, images: np.ndarray, rows: np.ndarray, parameters: Parameters) -> None:
        """Transform images[rows] in place; `parameters` are of these n rows."""
        images[rows] = self.on_device(torch.from_numpy(images[rows]), parameters).numpy()

    @abstractmethod
    def on_device(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Return all N images transformed, in new memory; `parameters` are of all N. Waits for nothing."""


def _per_channel(fill: Fill, channels: int) -> tuple[float, ...]:
    """Return upstream's `fill` as one number per channel.

    Raises:
        DataError: if it has another number of channels than the images.
    """
    values = tuple(fill) if isinstance(fill, (tuple, list)) else (fill,) * channels
    if len(values) != channels:
        found = f"fill has {len(values)} values, the images have {channels} channels"
        raise DataError(found, "give one value, or one per channel")
    return values


def border_levels(fill: Fill, channels: int) -> tuple[int, ...]:
    """Return `fill` as the grey levels that OpenCV makes of it beyond a border: rounded half to even, 0..255."""
    return tuple(round(min(max(value, 0), 255)) for value in _per_channel(fill, channels))


def assigned_levels(fill: Fill, channels: int) -> tuple[int, ...]:
    """Return `fill` as the grey levels that NumPy makes of it in an assignment to uint8: cut off.

    Raises:
        DataError: a value lies outside 0..255.
    """
    levels = tuple(int(value) for value in _per_channel(fill, channels))
    if not all(0 <= level <= 255 for level in levels):
        raise DataError(f"fill {fill} is no grey level", "give 0..255")
    return levels
