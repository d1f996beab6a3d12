"""Crops in batches: one size for all images, or a rectangle each that is resized to it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from registry.errors import DataError
from registry.transforms import elementary
from registry.transforms.contract import Limits
from registry.transforms.draws import Draws
from registry.transforms.padding import Frame, Least, Margins, Position, placed
from registry.transforms.windows import Boxes, Scaling, windows

_TRIES = 10  # rectangles RandomResizedCrop draws before it takes the middle, as upstream does


@dataclass(frozen=True)
class Cut:
    """A crop of one size.

    Attributes:
        height: of the crop.
        width: of the crop.
        frame: what an image that is too small is padded with; None refuses it.
        position: where it then comes to lie.
    """

    height: int
    width: int
    frame: Frame | None
    position: Position

    def padded(self, images: Tensor, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
        """Return images at least as large as the crop, and where in each the image begins, int64 (N,) each.

        Draws 0 and 1 place the image where its position is left to chance.
        """
        height, width = images.shape[1:3]
        (top, bottom), (left, right) = Least(self.height, None).margin(height), Least(self.width, None).margin(width)
        nothing = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        margins = Margins(top, bottom, left, right)
        if not any(margins):
            return images, nothing, nothing
        if self.frame is None:
            raise DataError(
                f"a crop of {self.height}x{self.width} is larger than the image of {height}x{width}",
                "crop less, or set pad_if_needed: true",
            )
        if self.position != "random":
            return self.frame.around(images, placed(margins, self.position)), nothing, nothing
        high, wide = top + bottom, left + right
        around = self.frame.around(images, Margins(high, high, wide, wide))
        return around, draws.integers(0, 0, high), draws.integers(1, 0, wide)


class RandomCrop:
    """Upstream's RandomCrop.

    Args:
        cut: what is cut.
    """

    def __init__(self, cut: Cut) -> None:
        self._cut = cut

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Return crops; draws 2 and 3 place them."""
        cut = self._cut
        height, width = (max(side, own) for side, own in zip(images.shape[1:3], (cut.height, cut.width), strict=True))
        images, top, left = cut.padded(images, draws)
        top = top + draws.integers(2, 0, height - cut.height)
        left = left + draws.integers(3, 0, width - cut.width)
        return windows(images, top, left, cut.height, cut.width)


class CenterCrop:
    """Upstream's CenterCrop.

    Args:
        cut: what is cut.
    """

    def __init__(self, cut: Cut) -> None:
        self._cut = cut

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Return the images' middles."""
        cut = self._cut
        spare = (max(side - own, 0) // 2 for side, own in zip(images.shape[1:3], (cut.height, cut.width), strict=True))
        down, across = spare
        images, top, left = cut.padded(images, draws)
        return windows(images, top + down, left + across, cut.height, cut.width)


class BoxCrop(ABC):
    """A rectangle of each image, resized.

    Args:
        scaling: to which size, and how.
    """

    def __init__(self, scaling: Scaling) -> None:
        self.scaling = scaling

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Return the rectangles of all images, resized."""
        return self.scaling(images, self.boxes(draws, *images.shape[1:3]))

    @abstractmethod
    def boxes(self, draws: Draws, height: int, width: int) -> Boxes:
        """Draw a rectangle in each of n images of this size."""


class Resize(BoxCrop):
    """Upstream's Resize: the rectangle is the whole image."""

    @override
    def boxes(self, draws: Draws, height: int, width: int) -> Boxes:
        whole = torch.zeros((2, len(draws)), dtype=torch.int64, device=draws.device)
        return Boxes(whole[0], whole[1], whole[0] + height, whole[1] + width)


class RandomResizedCrop(BoxCrop):
    """Upstream's RandomResizedCrop.

    Args:
        scale: limits of the rectangle's share of the image's area.
        ratio: limits of width / height, drawn evenly in the logarithm.
        scaling: to which size, and how.
    """

    def __init__(self, scale: Limits, ratio: Limits, scaling: Scaling) -> None:
        super().__init__(scaling)
        self._scale = scale
        self._ratio = ratio

    @override
    def boxes(self, draws: Draws, height: int, width: int) -> Boxes:
        """Draw area and ratio until the rectangle fits into the image; after ten tries take the middle."""
        least, most = (share * height * width for share in self._scale)
        low, high = (math.log(ratio) for ratio in self._ratio)
        area = draws.uniforms(2, _TRIES) * (most - least) + least  # (tries, n)
        ratio = elementary.exp(draws.uniforms(2 + _TRIES, _TRIES) * (high - low) + low)
        widths = elementary.sqrt(area * ratio).round().to(torch.int64)
        heights = elementary.sqrt(area / ratio).round().to(torch.int64)
        fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
        first = fits.to(torch.uint8).argmax(0, keepdim=True)  # the first of equals
        found = fits.any(0)
        middle_height, middle_width = self._middle(height, width)
        box_height = torch.where(found, heights.gather(0, first)[0], middle_height)
        box_width = torch.where(found, widths.gather(0, first)[0], middle_width)
        top = torch.where(found, draws.integers(0, 0, height - box_height), (height - box_height) // 2)
        left = torch.where(found, draws.integers(1, 0, width - box_width), (width - box_width) // 2)
        return Boxes(top, left, box_height, box_width)

    def _middle(self, height: int, width: int) -> tuple[int, int]:
        low, high = self._ratio
        if width / height < low:
            return round(width / low), width
        if width / height > high:
            return height, round(height * high)
        return height, width


@dataclass(frozen=True)
class Borders:
    """Largest share that is cut off on each side, 0..1.

    Attributes:
        left: of the width.
        right: of the width.
        top: of the height.
        bottom: of the height.
    """

    left: float
    right: float
    top: float
    bottom: float


class RandomCropFromBorders(BoxCrop):
    """Upstream's RandomCropFromBorders with the Resize that follows it: alone it would leave as many sizes as images.

    Args:
        borders: how much is cut off at most.
        scaling: what Resize does.
    """

    def __init__(self, borders: Borders, scaling: Scaling) -> None:
        super().__init__(scaling)
        self._borders = borders

    @override
    def boxes(self, draws: Draws, height: int, width: int) -> Boxes:
        left, right = _edges(draws, 0, width, self._borders.left, self._borders.right)
        top, bottom = _edges(draws, 2, height, self._borders.top, self._borders.bottom)
        return Boxes(top, left, bottom - top, right - left)


def _edges(draws: Draws, draw: int, side: int, before: float, after: float) -> tuple[Tensor, Tensor]:
    """Draw where a rectangle begins and ends along one side, each evenly, at least a pixel apart."""
    start = draws.integers(draw, 0, int(before * side))
    end = draws.integers(draw + 1, (start + 1).clamp(min=int((1 - after) * side)), side)
    return start, end
