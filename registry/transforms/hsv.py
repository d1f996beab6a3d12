"""RGB to HSV and back in whole numbers, hue 0..179, and shifts there.

Two forms of one arithmetic: OpenCV's, called once for all rows of all images, and torch's for other devices, written
after OpenCV's results for uint8: its division tables on the way there, cut-off decimals on the way back.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

HUES = 180
_SHIFT = 12  # fixed-point bits of OpenCV's division tables
_HALF = 1 << (_SHIFT - 1)


class Shifts(NamedTuple):
    """Whole steps that n images are shifted by, int64 (n,): hue modulo 180, the others clipped at 0 and 255."""

    hue: Tensor
    saturation: Tensor
    value: Tensor


def shifted_by_opencv(images: np.ndarray, shifts: Shifts) -> np.ndarray:
    """Return uint8 images (n, H, W, 3) shifted; grey pixels stay grey."""
    n, height, width, channels = images.shape
    hsv = cv2.cvtColor(images.reshape(n * height, width, channels), cv2.COLOR_RGB2HSV)
    hue, saturation, value = (plane.reshape(n, height * width) for plane in cv2.split(hsv))
    step = shifts.hue.numpy()[:, None]
    turned = hue + step.astype(np.uint8)  # wraps at 256, which the next line sets right
    turned -= (hue >= (HUES - step).astype(np.uint8)).view(np.uint8) * np.uint8(HUES)
    coloured = (saturation > 0).view(np.uint8)
    saturation = added(saturation, shifts.saturation.numpy()[:, None])
    saturation *= coloured
    value = added(value, shifts.value.numpy()[:, None])
    cv2.merge([plane.reshape(n * height, width) for plane in (turned, saturation, value)], dst=hsv)
    shifted: np.ndarray = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return shifted.reshape(images.shape)


def shifted_by_torch(images: Tensor, shifts: Shifts) -> Tensor:
    """Return uint8 images (n, H, W, 3) shifted; grey pixels stay grey."""
    by_hue, by_saturation, by_value = (shift.to(torch.int32)[:, None, None] for shift in shifts)
    hue, saturation, value = rgb_to_hsv(images)
    hue = (hue + by_hue) % HUES
    saturation = torch.where(saturation > 0, (saturation + by_saturation).clamp_(0, 255), 0)
    return hsv_to_rgb(hue, saturation, (value + by_value).clamp_(0, 255))


def added(pixels: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return uint8 pixels plus whole steps (broadcast), clipped at 0 and 255, without leaving uint8."""
    steps = steps.clip(-255, 255)
    clipped: np.ndarray = np.maximum(pixels, np.maximum(-steps, 0).astype(np.uint8))
    np.minimum(clipped, np.minimum(255 - steps, 255).astype(np.uint8), out=clipped)
    clipped += steps.astype(np.uint8)  # a negative step is one that wraps around
    return clipped


def rgb_to_hsv(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return hue (0..179), saturation and value, int32 (...,), of uint8 RGB (..., 3)."""
    red, green, blue = images.to(torch.int32).unbind(-1)
    value = torch.maximum(torch.maximum(red, green), blue)
    spread = value - torch.minimum(torch.minimum(red, green), blue)
    saturation = (spread * _reciprocals(255, value) + _HALF) >> _SHIFT
    towards_red = green - blue
    towards_green = blue - red + 2 * spread
    towards_blue = red - green + 4 * spread
    sixth = torch.where(value == red, towards_red, torch.where(value == green, towards_green, towards_blue))
    hue = (sixth * _reciprocals(HUES / 6, spread) + _HALF) >> _SHIFT
    return torch.where(hue < 0, hue + HUES, hue), saturation, value


def hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Return uint8 RGB (..., 3) of hue (0..179), saturation and value (...,)."""
    place = hue.to(torch.float32) * (6 / HUES)
    sector = place.floor()
    part = place - sector
    s = saturation.to(torch.float32) * (1 / 255)
    v = value.to(torch.float32) * (1 / 255)
    low, falling, rising = v * (1 - s), v * (1 - s * part), v * (1 - s * (1 - part))
    red = _by_sector(sector, v, falling, low, low, rising, v)
    green = _by_sector(sector, rising, v, v, falling, low, low)
    blue = _by_sector(sector, low, low, rising, v, v, falling)
    return (torch.stack((red, green, blue), dim=-1) * 255).to(torch.uint8)


def _by_sector(sector: Tensor, *values: Tensor) -> Tensor:
    """Return values[sector], for sectors 0..5."""
    chosen = values[5]
    for number, value in enumerate(values[:5]):
        chosen = torch.where(sector == number, value, chosen)
    return chosen


def _reciprocals(numerator: float, by: Tensor) -> Tensor:
    """Return numerator / by in fixed point, rounded, and 0 where `by` is 0; int32."""
    exact = (numerator * (1 << _SHIFT)) / by.to(torch.float64)
    return torch.where(by == 0, 0, exact.round()).to(torch.int32)
