"""Pad and PadIfNeeded in batches, and the padding that crops ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import torch
from torch import Tensor

from registry.transforms.contract import Fill, UnsupportedError, border_levels
from registry.transforms.draws import Draws
from registry.transforms.windows import windows

Position = Literal["center", "top_left", "top_right", "bottom_left", "bottom_right", "random"]
# Which side takes all of the padding, along y and along x: 0 the first (top, left), 1 the second. For two of upstream's
# names the image does not come to lie where they say along x; what they do is kept.
_SIDES: dict[str, tuple[int, int]] = {
    "top_left": (1, 1),
    "top_right": (1, 0),
    "bottom_left": (0, 1),
    "bottom_right": (0, 0),
}


class Margins(NamedTuple):
    """Pixels added on each side."""

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True)
class Frame:
    """What padding is made of.

    Attributes:
        border: OpenCV's constant.
        fill: grey level, or one per channel, for BORDER_CONSTANT.
    """

    border: int
    fill: Fill

    def __post_init__(self) -> None:
        if self.border != cv2.BORDER_CONSTANT and self.border not in _BEYOND:
            raise UnsupportedError(f"border_mode {self.border} is unknown")

    def around(self, images: Tensor, margins: Margins) -> Tensor:
        """Return uint8 images (N, H, W, C) with margins on all sides."""
        if not any(margins):
            return images
        n, height, width, channels = images.shape
        tall, wide = height + margins.top + margins.bottom, width + margins.left + margins.right
        if self.border == cv2.BORDER_CONSTANT:
            levels = border_levels(self.fill, channels)
            padded = images.new_full((n, tall, wide, channels), levels[0])
            for channel, value in enumerate(levels):
                if value != levels[0]:
                    padded[..., channel] = value
            padded[:, margins.top : margins.top + height, margins.left : margins.left + width] = images
            return padded
        beyond = _BEYOND[self.border]
        rows = beyond(torch.arange(tall, device=images.device) - margins.top, height)
        columns = beyond(torch.arange(wide, device=images.device) - margins.left, width)
        return images.index_select(1, rows).index_select(2, columns)


class Pad:
    """Upstream's Pad.

    Args:
        margins: pixels added on each side.
        frame: what they are made of.
    """

    def __init__(self, margins: Margins, frame: Frame) -> None:
        self._margins = margins
        self._frame = frame

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:  # noqa: ARG002 (nothing is left to chance)
        """Return the images with margins."""
        return self._frame.around(images, self._margins)


@dataclass(frozen=True)
class Least:
    """A smallest side, or a number that it is a multiple of; one of the two is None."""

    size: int | None
    divisor: int | None

    def margin(self, side: int) -> tuple[int, int]:
        """Return the pixels a side lacks, before and after."""
        if self.size is not None:
            lacking = max(self.size - side, 0)
        else:
            assert self.divisor is not None
            lacking = -side % self.divisor
        return lacking // 2, lacking - lacking // 2


class PadIfNeeded:
    """Upstream's PadIfNeeded.

    Args:
        height: what the height must reach.
        width: what the width must reach.
        position: where the image comes to lie.
        frame: what the margins are made of.
    """

    def __init__(self, height: Least, width: Least, position: Position, frame: Frame) -> None:
        self._height = height
        self._width = width
        self._position = position
        self._frame = frame

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Return the images with the margins they lack; draws 0 and 1 place them where chance does."""
        (top, bottom), (left, right) = self._height.margin(images.shape[1]), self._width.margin(images.shape[2])
        high, wide = top + bottom, left + right
        if self._position != "random":
            return self._frame.around(images, placed(Margins(top, bottom, left, right), self._position))
        height, width = images.shape[1] + high, images.shape[2] + wide
        all_around = self._frame.around(images, Margins(high, high, wide, wide))
        return windows(all_around, draws.integers(0, 0, high), draws.integers(1, 0, wide), height, width)


def placed(margins: Margins, position: Position) -> Margins:
    """Move what is added to the sides that a fixed position asks for."""
    if position == "center":
        return margins
    vertical, horizontal = _SIDES[position]
    high, wide = margins.top + margins.bottom, margins.left + margins.right
    return Margins((1 - vertical) * high, vertical * high, (1 - horizontal) * wide, horizontal * wide)


def _replicated(place: Tensor, size: int) -> Tensor:
    return place.clamp(0, size - 1)


def _reflected(place: Tensor, size: int) -> Tensor:
    within = place % (2 * size)
    return torch.where(within < size, within, 2 * size - 1 - within)


def _reflected_101(place: Tensor, size: int) -> Tensor:
    period = max(2 * (size - 1), 1)
    within = place % period
    return torch.where(within < size, within, period - within)


def _wrapped(place: Tensor, size: int) -> Tensor:
    return place % size


# Where a place beyond the image, int64, is read instead.
_BEYOND: dict[int, Callable[[Tensor, int], Tensor]] = {
    cv2.BORDER_REPLICATE: _replicated,
    cv2.BORDER_REFLECT: _reflected,
    cv2.BORDER_REFLECT_101: _reflected_101,
    cv2.BORDER_WRAP: _wrapped,
}
