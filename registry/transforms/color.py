"""What changes colours and leaves every pixel in its place, in batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from registry.transforms.contract import Limits, Sometimes
from registry.transforms.draws import Draws
from registry.transforms.hsv import HUES, Shifts, shifted_by_opencv, shifted_by_torch

# ITU-R BT.601 in the 15 fixed-point bits of OpenCV, for red, green and blue
_GREY_WEIGHTS, _GREY_SHIFT = (9798, 19235, 3735), 15


class HueSaturationValue(Sometimes[Shifts]):
    """Upstream's HueSaturationValue. A grey image has no hue and saturation to shift.

    Args:
        hue: limits of the shift, in OpenCV's 180 steps to the circle.
        saturation: limits of the shift, of 255.
        value: limits of the shift, of 255.
        p: probability per image.
    """

    def __init__(self, hue: Limits, saturation: Limits, value: Limits, p: float) -> None:
        still = not any((*hue, *saturation, *value))  # upstream then leaves out the way to HSV and back, which rounds
        super().__init__(0.0 if still else p)
        self._limits = (hue, saturation, value)

    @override
    def draw(self, draws: Draws, height: int, width: int) -> Shifts:
        """Draw shifts, rounded as upstream's arithmetic rounds them: hue down, the others towards zero."""
        hue, saturation, value = draws.betweens(1, *self._limits)
        return Shifts(hue.floor().to(torch.int64) % HUES, saturation.to(torch.int64), value.to(torch.int64))

    @override
    def on_cpu(self, images: np.ndarray, rows: np.ndarray, parameters: Shifts) -> None:
        if images.shape[-1] == 1:
            super().on_cpu(images, rows, parameters)
        else:
            images[rows] = shifted_by_opencv(images[rows], parameters)

    @override
    def on_device(self, images: Tensor, parameters: Shifts) -> Tensor:
        if images.shape[-1] == 1:
            return (images.to(torch.int64) + _per_image(parameters.value)).clamp_(0, 255).to(torch.uint8)
        return shifted_by_torch(images, parameters)


class Line(NamedTuple):
    """contrast * grey level + brightness, float64 (n,); brightness counts in 255ths or in the image's own mean."""

    contrast: Tensor
    brightness: Tensor


class RandomBrightnessContrast(Sometimes[Line]):
    """Upstream's RandomBrightnessContrast.

    Args:
        brightness: limits of what is added, as a share of 255 or of the image's mean.
        contrast: limits of what is added to the factor 1.
        by_max: brightness is a share of 255; else of the image's mean.
        safe: shrink both until no grey level leaves 0..255.
        p: probability per image.
    """

    def __init__(self, brightness: Limits, contrast: Limits, by_max: bool, safe: bool, p: float) -> None:
        super().__init__(p)
        self._brightness = brightness
        self._contrast = contrast
        self._by_max = by_max
        self._safe = safe

    @override
    def draw(self, draws: Draws, height: int, width: int) -> Line:
        contrast, brightness = draws.betweens(1, self._contrast, self._brightness)
        return Line(1 + contrast, brightness)

    @override
    def on_cpu(self, images: np.ndarray, rows: np.ndarray, parameters: Line) -> None:
        pixels = images.reshape(len(images), -1, images.shape[-1])
        mean = torch.tensor([255 if self._by_max else pixels[row].mean() for row in rows], dtype=torch.float64)
        tables = _tables(*self._lines(parameters, mean)).numpy()
        for row, table in zip(rows, tables, strict=True):
            cv2.LUT(pixels[row], table, dst=pixels[row])

    @override
    def on_device(self, images: Tensor, parameters: Line) -> Tensor:
        unit = images.new_tensor(255) if self._by_max else images.to(torch.float64).mean((1, 2, 3))
        return on_line(images, *self._lines(parameters, unit))

    def _lines(self, parameters: Line, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Return factor and offset of each image; brightness counts in `unit`, (n,) or one for all."""
        factor = parameters.contrast
        offset = parameters.brightness * unit
        if self._safe:
            falling = torch.maximum(factor, -offset.clamp(max=255) / 255)
            rising = torch.minimum(factor, (255 - offset.clamp(0, 255)) / 255)
            offset = torch.where(factor > 0, offset.clamp(0, 255), offset.clamp(max=255))
            factor = torch.where(factor > 0, rising, falling)
        return factor, offset


class Jitter(NamedTuple):
    """Factors and hue shift of n images, float64 (n,), and the order they act in, int64 (4, n)."""

    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    order: Tensor


class ColorJitter(Sometimes[Jitter]):
    """Upstream's ColorJitter: four changes in an order drawn anew for each image.

    Attributes:
        wins_up_to: pixels of an image up to which it is faster than upstream's on the CPU.

    Args:
        brightness: limits of the factor.
        contrast: limits of the factor about the image's mean grey.
        saturation: limits of the share of colour that stays.
        hue: limits of the shift, as a share of the circle.
        p: probability per image.
    """

    wins_up_to = 48 * 48

    def __init__(self, brightness: Limits, contrast: Limits, saturation: Limits, hue: Limits, p: float) -> None:
        super().__init__(p)
        self._limits = (brightness, contrast, saturation, hue)

    @override
    def draw(self, draws: Draws, height: int, width: int) -> Jitter:
        brightness, contrast, saturation, hue = draws.betweens(1, *self._limits)
        return Jitter(brightness, contrast, saturation, hue, order=draws.uniforms(5, 4).argsort(0))

    @override
    def on_cpu(self, images: np.ndarray, rows: np.ndarray, parameters: Jitter) -> None:
        part = images[rows]
        for changes_now in parameters.order.numpy():
            for number, change in enumerate(_CHANGES):
                same = np.flatnonzero(changes_now == number)
                if len(same):
                    part[same] = change(torch.from_numpy(part[same]), parameters[number][same]).numpy()
        images[rows] = part

    @override
    def on_device(self, images: Tensor, parameters: Jitter) -> Tensor:
        for changes_now in parameters.order:
            changed = [change(images, parameters[number]) for number, change in enumerate(_CHANGES)]
            for number, result in enumerate(changed):
                images = torch.where(_per_image(changes_now == number), result, images)
        return images


class ToGray(Sometimes[None]):
    """Upstream's ToGray to as many channels as there were. A grey image stays as it is.

    Args:
        method: how grey follows from red, green and blue; a key of `GREYS`.
        p: probability per image.
    """

    def __init__(self, method: str, p: float) -> None:
        super().__init__(p)
        self._method = method

    @override
    def draw(self, draws: Draws, height: int, width: int) -> None:
        return None

    @override
    def on_cpu(self, images: np.ndarray, rows: np.ndarray, parameters: None) -> None:
        for row in rows if images.shape[-1] == 3 else ():
            level = GREYS[self._method](torch.from_numpy(images[row : row + 1]))[0].numpy()
            cv2.cvtColor(level, cv2.COLOR_GRAY2RGB, dst=images[row])

    @override
    def on_device(self, images: Tensor, parameters: None) -> Tensor:
        return images if images.shape[-1] == 1 else GREYS[self._method](images)[..., None].expand_as(images)


def on_line(images: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """Return factor * grey level + offset, clipped and cut off to uint8, for float64 (n,) factors and offsets.

    On the CPU each image's 256 levels are worked out once and looked up: the same numbers, whatever its size.
    """
    if images.device.type == "cpu":
        found = np.empty(images.shape, dtype=np.uint8)
        flat = images.shape[1] * images.shape[2], images.shape[3]
        tables = _tables(factor, offset).numpy()
        for image, table, target in zip(images.numpy(), tables, found, strict=True):
            cv2.LUT(image.reshape(flat), table, dst=target.reshape(flat))
        return torch.from_numpy(found)
    return _on_line(images, factor, offset)


def _tables(factor: Tensor, offset: Tensor) -> Tensor:
    """Return what becomes of each grey level, uint8 (n, 256)."""
    levels = torch.arange(256, dtype=torch.uint8)[None, :, None, None].expand(len(factor), -1, 1, 1)
    return _on_line(levels, factor, offset).view(-1, 256)


def _on_line(images: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    lined = images.to(torch.float32) * _per_image(factor.to(torch.float32))
    return lined.add_(_per_image(offset.to(torch.float32))).clamp_(0, 255).to(torch.uint8)


def grey(images: Tensor) -> Tensor:
    """Return the weighted mean of red, green and blue, uint8 (n, H, W)."""
    if images.shape[-1] == 1:
        return images[..., 0]
    if images.device.type == "cpu":
        n, height, width, channels = images.shape
        flat = cv2.cvtColor(images.numpy().reshape(n * height, width, channels), cv2.COLOR_RGB2GRAY)
        return torch.from_numpy(flat).view(n, height, width)
    return grey_by_torch(images)


def grey_by_torch(images: Tensor) -> Tensor:
    """Return what `grey` does, by torch alone."""
    weighted = [level.to(torch.int32) * w for level, w in zip(images.unbind(-1), _GREY_WEIGHTS, strict=True)]
    total = weighted[0] + weighted[1] + weighted[2]
    return ((total + (1 << (_GREY_SHIFT - 1))) >> _GREY_SHIFT).to(torch.uint8)


def _average(images: Tensor) -> Tensor:
    return images.to(torch.float32).mean(-1).to(torch.uint8)


def _middle(images: Tensor) -> Tensor:
    levels = images.to(torch.float32)
    return ((levels.amax(-1) + levels.amin(-1)) / 2).to(torch.uint8)


GREYS: dict[str, Callable[[Tensor], Tensor]] = {
    "weighted_average": grey,
    "average": _average,
    "desaturation": _middle,
    "max": lambda images: images.amax(-1),
}


def _brighter(images: Tensor, factor: Tensor) -> Tensor:
    return on_line(images, factor, torch.zeros_like(factor))


def _more_contrast(images: Tensor, factor: Tensor) -> Tensor:
    mean = grey(images).sum((1, 2), dtype=torch.int64).to(torch.float64) / (images.shape[1] * images.shape[2])
    flat = (mean + 0.5).floor()  # upstream rounds where nothing but the mean is left
    return on_line(images, factor, torch.where(factor == 0, flat, mean * (1 - factor)))


def _more_saturated(images: Tensor, factor: Tensor) -> Tensor:
    if images.shape[-1] == 1:
        return images
    share = _per_image(factor.to(torch.float32))
    mixed = images.to(torch.float32) * share + grey(images)[..., None].to(torch.float32) * (1 - share)
    return mixed.round_().clamp_(0, 255).to(torch.uint8)


def _turned(images: Tensor, circle: Tensor) -> Tensor:
    if images.shape[-1] == 1:
        return images
    still = torch.zeros_like(circle, dtype=torch.int64)
    shifts = Shifts((circle * HUES).floor().to(torch.int64) % HUES, still, still)
    if images.device.type == "cpu":
        turned = torch.from_numpy(shifted_by_opencv(images.numpy(), shifts))
    else:
        turned = shifted_by_torch(images, shifts)
    return torch.where(_per_image(circle == 0), images, turned)


_CHANGES = (_brighter, _more_contrast, _more_saturated, _turned)


def _per_image(values: Tensor) -> Tensor:
    """Return (n,) so that it broadcasts over images (n, H, W, C)."""
    return values[:, None, None, None]
