"""Resizing as a graph can hold it: OpenCV's own rounding, step by step, by tensor operations alone.

The height and width of the pictures may be known only when the graph runs, so whatever follows from them is a tensor. A
form takes uint8 (N, H, W, C) and gives uint8 (N, height, width, C); the tests hold it to cv2.resize, pixel by pixel.
"""

from __future__ import annotations

import cv2
import torch
from torch import Tensor, nn
from typing_extensions import override

_ONE = 2048  # what OpenCV's weights of 8-bit pixels add up to
_LEAST = 1e-3  # of a pixel: less of it than that counts for nothing in an area

FORMS = (cv2.INTER_LINEAR, cv2.INTER_NEAREST, cv2.INTER_AREA)


class ResizeGraph(nn.Module):
    """Upstream's Resize.

    Args:
        height: in the end.
        width: in the end.
        interpolation: OpenCV's constant, one of FORMS.
    """

    def __init__(self, height: int, width: int, interpolation: int) -> None:
        super().__init__()
        self.height, self.width, self.interpolation = height, width, interpolation

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Return the images resized."""
        down, across = _side(images, 1), _side(images, 2)
        tall, wide = down.new_tensor(self.height), down.new_tensor(self.width)
        rows, columns = _places(self.height, down), _places(self.width, across)
        if self.interpolation == cv2.INTER_AREA:
            whole = _by_area(images, down, across, self.height, self.width)
            grown = _linear(images, _area_taps(down, tall, rows), _area_taps(across, wide, columns))
            return torch.where((down >= tall) & (across >= wide), whole, grown)
        if self.interpolation == cv2.INTER_NEAREST:
            return _nearest(images, _nearest_taps(down, tall, rows), _nearest_taps(across, wide, columns))
        return _linear(images, _taps(down, tall, rows, within=False), _taps(across, wide, columns, within=True))


class FitGraph(nn.Module):
    """Pictures of any size as the data's own size: by area where they are higher, as trainer/data/fitting.py does it.

    Args:
        height: of the data's images.
        width: of the data's images.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Return the images as large as the data's; those that are so already come back as they are."""
        down, across = _side(images, 1), _side(images, 2)
        tall, wide = down.new_tensor(self.height), down.new_tensor(self.width)
        shrinks = down > tall
        rows, columns = _places(self.height, down), _places(self.width, across)
        # Where only the height shrinks, OpenCV's INTER_AREA is a linear form of its own.
        by_area = _linear(images, _area_taps(down, tall, rows), _area_taps(across, wide, columns))
        linear = _linear(images, _taps(down, tall, rows, within=False), _taps(across, wide, columns, within=True))
        whole = _by_area(images, down, across, self.height, self.width)
        return torch.where(shrinks & (across >= wide), whole, torch.where(shrinks, by_area, linear))


class Scaled(nn.Module):
    """Upstream's SmallestMaxSize or LongestMaxSize with what makes one size behind it.

    Args:
        side: that the chosen side becomes.
        smallest: the smaller side is chosen, else the longer one.
        height: in the end.
        width: in the end.
        interpolation: OpenCV's constant, linear or nearest.
    """

    def __init__(self, side: int, smallest: bool, height: int, width: int, interpolation: int) -> None:
        super().__init__()
        self.side, self.smallest, self.interpolation = side, smallest, interpolation
        self.height, self.width = height, width

    def scaled(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the height and width that the images would have."""
        down, across = _side(images, 1), _side(images, 2)
        # Both tensors: a number by a tensor is its reciprocal times the number, and rounds otherwise at half a pixel.
        scale = down.new_tensor(self.side) / (
            torch.minimum(down, across) if self.smallest else torch.maximum(down, across)
        )
        return (down * scale).round().clamp(min=1), (across * scale).round().clamp(min=1)

    def read(self, images: Tensor, tall: Tensor, wide: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Return some rows and columns of the images scaled to a height and a width."""
        down, across = _side(images, 1), _side(images, 2)
        if self.interpolation == cv2.INTER_NEAREST:
            return _nearest(images, _nearest_taps(down, tall, rows), _nearest_taps(across, wide, columns))
        return _linear(images, _taps(down, tall, rows, within=False), _taps(across, wide, columns, within=True))


class ScaledCropGraph(Scaled):
    """The scaled images' middles, as CenterCrop takes them."""

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Return the middles of the images, scaled; a picture whose middle is smaller than the crop is an error."""
        tall, wide = self.scaled(images)
        return self.read(images, tall, wide, _middle(self.height, tall), _middle(self.width, wide))


class LetterboxGraph(Scaled):
    """The scaled images in the middle of a frame of one colour, as PadIfNeeded puts them there.

    Args:
        side: that the longer side becomes; at most `height` and `width`.
        height: in the end.
        width: in the end.
        interpolation: OpenCV's constant, linear or nearest.
        fill: grey level of the frame per channel.
    """

    fill: Tensor

    def __init__(self, side: int, height: int, width: int, interpolation: int, fill: tuple[int, ...]) -> None:
        super().__init__(side, False, height, width, interpolation)
        self.register_buffer("fill", torch.tensor(fill, dtype=torch.uint8))

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Return the images, scaled and framed."""
        tall, wide = self.scaled(images)
        (rows, in_rows), (columns, in_columns) = _framed(self.height, tall), _framed(self.width, wide)
        read = self.read(images, tall, wide, rows, columns)
        return torch.where((in_rows[:, None] & in_columns)[..., None], read, self.fill)


class CropGraph(nn.Module):
    """Upstream's CenterCrop of pictures whose size is known only when the graph runs.

    Args:
        height: of the crop.
        width: of the crop.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Return the images' middles; one smaller than the crop is an error."""
        rows, columns = _middle(self.height, _side(images, 1)), _middle(self.width, _side(images, 2))
        return images.index_select(1, rows.to(torch.int64)).index_select(2, columns.to(torch.int64))


# ------------------------------------------------------------------------------------------------------------ one side
Taps = tuple[Tensor, Tensor, Tensor, Tensor]  # two places in the image and their weights, int64 and int32 (k,)


def _side(images: Tensor, dimension: int) -> Tensor:
    """Return the length of a side as a tensor, float64 ()."""
    return torch.full((), images.shape[dimension], dtype=torch.float64, device=images.device)


def _places(count: int, like: Tensor) -> Tensor:
    return torch.arange(count, dtype=torch.float64, device=like.device)


def _middle(count: int, of: Tensor) -> Tensor:
    """Return the places of the middle `count` of a side, float64 (count,); beyond everything where it has fewer."""
    start = ((of - count) / 2).floor()
    return _places(count, of) + torch.where(start < 0, of, start)


def _framed(count: int, of: Tensor) -> tuple[Tensor, Tensor]:
    """Return which place of a side each of `count` shows that it is the middle of, and whether it shows one."""
    place = _places(count, of) - ((count - of) / 2).floor()
    inside = (place >= 0) & (place < of)
    return torch.minimum(place.clamp(min=0), of - 1), inside


def _scale(source: Tensor, target: Tensor) -> Tensor:
    """Return how many old pixels a new one is wide, rounded as OpenCV rounds it."""
    return 1 / (target / source)


def _taps(source: Tensor, target: Tensor, places: Tensor, *, within: bool) -> Taps:
    """Return what linear interpolation reads for new places along a side.

    Args:
        source: length before, float64 ().
        target: length after, float64 ().
        places: float64 (k,).
        within: nothing is read beyond the ends, as OpenCV has it along a row; down a column both ends count twice.
    """
    place = ((places + 0.5) * _scale(source, target) - 0.5).to(torch.float32)
    first = place.floor()
    share = place - first
    if within:
        last = (source - 1).to(torch.float32)
        share = torch.where((first < 0) | (first >= last), torch.zeros_like(share), share)
    return _weighted(first.to(torch.float64), share, _refused(places, target), source)


def _area_taps(source: Tensor, target: Tensor, places: Tensor) -> Taps:
    """Return the same for INTER_AREA where one of the sides grows."""
    scale, inverse = _scale(source, target), target / source
    first = (places * scale).floor()
    share = ((places + 1) - (first + 1) * inverse).to(torch.float32)
    share = torch.where(share <= 0, torch.zeros_like(share), share - share.floor())
    last = source - 1
    share = torch.where((first < 0) | (first >= last), torch.zeros_like(share), share)
    return _weighted(first, share, _refused(places, target), source)


def _weighted(first: Tensor, share: Tensor, beyond: Tensor, source: Tensor) -> Taps:
    last, nothing = source - 1, torch.zeros_like(source)
    one, other = (torch.minimum(torch.maximum(each, nothing), last) for each in (first, first + 1))
    second, before = ((part * _ONE).round().to(torch.int32) for part in (share, 1 - share))
    return (one + beyond).to(torch.int64), (other + beyond).to(torch.int64), before, second


def _refused(places: Tensor, target: Tensor) -> Tensor:
    """Return what is added to old places so that a new place beyond the side is an error, not its last pixel."""
    return torch.where(places >= target, torch.full_like(places, 2.0**31), torch.zeros_like(places))


def _nearest_taps(source: Tensor, target: Tensor, places: Tensor) -> Tensor:
    old = torch.minimum((places * _scale(source, target)).floor(), source - 1)
    return (old + _refused(places, target)).to(torch.int64)


# --------------------------------------------------------------------------------------------------------------- pixels
def _nearest(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return images.index_select(1, rows).index_select(2, columns)


def _linear(images: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """Return what OpenCV's resize makes of 8-bit pixels: weights of 11 bits, cut off twice on the way."""
    top, bottom, of_top, of_bottom = rows
    left, right, of_left, of_right = columns

    def across(row: Tensor) -> Tensor:
        line = images.index_select(1, row)
        before, behind = (line.index_select(2, each).to(torch.int32) for each in (left, right))
        return before * of_left[:, None] + behind * of_right[:, None]

    upper, lower = (
        _cut(_cut(across(row), 16) * weight[:, None, None], 65_536)
        for row, weight in ((top, of_top), (bottom, of_bottom))
    )
    return _cut(upper + lower + 2, 4).to(torch.uint8)


def _cut(values: Tensor, by: int) -> Tensor:
    """Return whole numbers of 0 or more divided by a power of two, what is left over cut off.

    Cut off before, since an exporter to ONNX divides in single precision, which holds no number beyond 2^24 exactly.
    """
    return torch.div(values & -by, by, rounding_mode="trunc")


def _by_area(images: Tensor, down: Tensor, across: Tensor, height: int, width: int) -> Tensor:
    """Return the means over the rectangles that the new pixels are, as products of matrices.

    OpenCV adds in single precision one pixel after the other; in another order one new pixel in thousands is a grey
    level off, where the mean lies between two.
    """
    rows, columns = _shares(down, height, images.shape[1]), _shares(across, width, images.shape[2])
    levels = images.permute(0, 3, 1, 2).to(torch.float32)
    mean = rows @ (levels @ columns.transpose(0, 1))  # (N, C, height, width)
    halves = (down == 2 * height) & (across == 2 * width)  # then OpenCV rounds up what lies between two
    rounded = torch.where(halves, (mean + 0.5).floor(), mean.round())
    return rounded.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _shares(source: Tensor, count: int, length: int) -> Tensor:
    """Return how much of each new pixel each old one is, float32 (count, length)."""
    wide = _scale(source, source.new_tensor(count))
    begin = (_places(count, source) * wide)[:, None]
    old = torch.arange(length, dtype=torch.float64, device=source.device)[None]
    shared = torch.minimum(begin + wide, old + 1) - torch.maximum(begin, old)
    shared = torch.where(shared > _LEAST, shared, torch.zeros_like(shared))
    return (shared / torch.minimum(wide, source - begin)).to(torch.float32)
