"""What torchvision's policies choose among, in batches: one operation and magnitude for each image, or none.

Owns what an operation does to pixels; what is chosen for which image is policies.py. Arithmetic and rounding are those
of torchvision's own operations on uint8 tensors. All but moves, colour and sharpness map grey levels to grey levels,
image by image: one table of 256 each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from registry.transforms.warp import Sampling, affine_matrices, centre_of

LEVELS = 256
WHITE = 255
_MOVES = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
_LEVELS = ("Brightness", "Contrast", "Posterize", "Solarize", "Invert")
_COUNTED = ("AutoContrast", "Equalize")  # their tables follow from how often each level occurs in each channel
NAMES = (
    "Identity",
    *_MOVES,
    *_LEVELS,
    *_COUNTED,
    "Color",
    "Sharpness",
)  # torchvision's; an image's operation is an index in it
_GREY = (0.2989, 0.587, 0.114)  # torchvision's weights of red, green and blue
AT_ONCE = 1 << 20  # values that pass together on the CPU: more would not stay in its cache
_AROUND = 13  # weights of a pixel (5) and its eight neighbours (1 each) in the blur that sharpness departs from


class Operations(NamedTuple):
    """What is done to each of n images.

    Attributes:
        number: place of the operation in `NAMES`, int64 (n,); 0 leaves the image as it is.
        magnitude: as torchvision's operation of that name takes it, float64 (n,); without meaning where it takes none.
    """

    number: Tensor
    magnitude: Tensor

    def of(self, rows: Tensor) -> Operations:
        """Return those of some images, int64 (m,)."""
        return Operations(self.number[rows], self.magnitude[rows])

    def are(self, names: Collection[str]) -> Tensor:
        """Tell which images one of some operations is meant for, bool (n,)."""
        numbers = [NAMES.index(name) for name in names]  # neighbours, or one alone
        return (self.number >= min(numbers)) & (self.number <= max(numbers))

    def magnitude_of(self, name: str) -> Tensor:
        """Return the magnitude where the operation is `name` and 0 elsewhere, float64 (n,)."""
        return torch.where(self.are((name,)), self.magnitude, 0.0)


def operated(images: Tensor, operations: Operations, sampling: Sampling) -> Tensor:
    """Return images each changed by its own operation.

    Args:
        images: uint8 (n, H, W, C); on the CPU they are overwritten and returned.
        operations: of these images, on the same device. A GPU is not waited for.
        sampling: how moves read pixels.
    """
    changes: tuple[tuple[Collection[str], Callable[[Tensor, Operations], Tensor]], ...] = (
        (_MOVES, lambda some, theirs: _moved(some, theirs, sampling)),
        (_LEVELS, lambda some, theirs: _mapped(some, _tables(some, theirs))),
        (_COUNTED, lambda some, theirs: _mapped(some, _tables_by_counts(some, theirs))),
        (("Color",), _coloured),
        (("Sharpness",), _sharpened),
    )
    for names, change in changes:
        meant = operations.are(names)
        if images.device.type != "cpu":
            images = torch.where(_per_image(meant), change(images, operations), images)
            continue
        for rows in _chunks(meant, images[0].numel()):
            pixels, place = images.numpy(), rows.numpy()  # torch copies images ten times as slowly
            pixels[place] = change(torch.from_numpy(pixels[place]), operations.of(rows)).numpy()
    return images


def _chunks(meant: Tensor, values: int) -> tuple[Tensor, ...]:
    """Return the places of the images that are meant, bool (n,), as many together as pass at once.

    Args:
        meant: which.
        values: of one image.
    """
    rows = meant.nonzero()[:, 0]
    return rows.split(max(1, AT_ONCE // values)) if len(rows) else ()


# ---------------------------------------------------------------------------------------------------------------- moves
def _moved(images: Tensor, operations: Operations, sampling: Sampling) -> Tensor:
    matrices = _matrices(operations, *images.shape[1:3])
    if images.device.type == "cpu":
        return torch.from_numpy(sampling.on_cpu(images.numpy(), range(len(images)), matrices.numpy()))
    return sampling.on_device(images, matrices)


def _matrices(operations: Operations, height: int, width: int) -> Tensor:
    """Return where each pixel goes, float64 (n, 2, 3): turned about the middle, sheared from the upper left corner."""
    matrices = affine_matrices(operations.magnitude_of("Rotate"), centre_of(height, width))
    corner = -0.5  # pixels count from their centres
    for row, axis in enumerate("XY"):
        shear = operations.magnitude_of(f"Shear{axis}")
        matrices[:, row, 1 - row] -= shear
        matrices[:, row, 2] += shear * corner + operations.magnitude_of(f"Translate{axis}").trunc()
    return matrices


# ---------------------------------------------------------------------------------------------------------- grey levels
def _mapped(images: Tensor, tables: Tensor) -> Tensor:
    """Return images whose grey levels went through tables, uint8 (n, 256), or (n, C, 256) for one per channel."""
    if images.device.type == "cpu":
        mapped = np.empty(images.shape, np.uint8)
        for image, table, target in zip(images.numpy(), tables.numpy(), mapped, strict=True):
            if table.ndim == 1:  # a quarter of the time of one table per channel
                cv2.LUT(image.reshape(len(image), -1), table, dst=target.reshape(len(image), -1))
            else:
                cv2.LUT(image, np.ascontiguousarray(table.T)[None], dst=target)
        return torch.from_numpy(mapped)
    places = images.to(torch.int64)
    if tables.dim() == 3:
        places += torch.arange(0, images.shape[-1] * LEVELS, LEVELS, device=images.device)  # of each channel's table
    return tables.flatten(1).gather(1, places.flatten(1)).view(images.shape)


def _tables(images: Tensor, operations: Operations) -> Tensor:
    """Return what becomes of each grey level, uint8 (n, 256)."""
    levels = torch.arange(LEVELS, device=images.device)
    grey, magnitude = levels.to(torch.float32), operations.magnitude
    factor = (1 + magnitude).to(torch.float32)[:, None]
    bits = magnitude.to(torch.int64).clamp(0, 8)[:, None]
    threshold = (magnitude * WHITE).to(torch.float32)[:, None]
    known = {
        "Brightness": _clipped(grey * factor),
        "Contrast": _clipped(grey * factor + _middles(images, operations)[:, None] * (1 - factor)),
        "Posterize": ((levels >> (8 - bits)) << (8 - bits)).to(torch.uint8),
        "Solarize": torch.where(grey >= threshold, WHITE - levels, levels).to(torch.uint8),
        "Invert": (WHITE - levels).to(torch.uint8).expand(len(images), -1),
    }
    tables = known["Invert"]
    for name, table in known.items():
        tables = torch.where(operations.are((name,))[:, None], table, tables)
    return tables


def _middles(images: Tensor, operations: Operations) -> Tensor:
    """Return each image's mean grey level where its contrast changes, float32 (n,)."""
    if images.device.type != "cpu":
        return _grey_of(images).mean((1, 2))
    middles, rows = torch.zeros(len(images)), operations.are(("Contrast",)).nonzero()[:, 0]
    middles[rows] = _grey_of(images[rows]).mean((1, 2))
    return middles


def _tables_by_counts(images: Tensor, operations: Operations) -> Tensor:
    """Return what becomes of each grey level of each channel, uint8 (n, C, 256)."""
    counts = _counts(images)
    return torch.where(operations.are(("Equalize",))[:, None, None], _equalised(counts), _stretched(counts))


def _counts(images: Tensor) -> Tensor:
    """Return how often each grey level occurs, int64 (n, C, 256)."""
    n, height, width, channels = images.shape
    if images.device.type == "cpu":
        found = [
            cv2.calcHist([image], [channel], None, [LEVELS], [0, LEVELS]).ravel()
            for image in images.numpy()
            for channel in range(channels)
        ]
        return torch.from_numpy(np.stack(found).reshape(n, channels, LEVELS).astype(np.int64))
    pixels = images.permute(0, 3, 1, 2).reshape(n, channels, height * width).to(torch.int64)
    counts = torch.zeros((n, channels, LEVELS), dtype=torch.int64, device=images.device)
    return counts.scatter_add_(2, pixels, torch.ones_like(pixels))


def _stretched(counts: Tensor) -> Tensor:
    """Return tables that stretch each channel's levels over 0..255, uint8 (n, C, 256)."""
    present = (counts > 0).to(torch.uint8)
    low = present.argmax(2, keepdim=True)
    high = WHITE - present.flip(2).argmax(2, keepdim=True)
    flat = low == high
    unit = torch.where(flat, 1.0, (high - low).to(torch.float32) * (1 / WHITE))
    return _clipped((torch.arange(LEVELS, device=counts.device) - torch.where(flat, 0, low)) / unit)


def _equalised(counts: Tensor) -> Tensor:
    """Return tables that make each channel's levels equally frequent, uint8 (n, C, 256), in Pillow's whole numbers."""
    up_to = counts.cumsum(2)
    high = WHITE - (counts > 0).to(torch.uint8).flip(2).argmax(2, keepdim=True)
    step = (up_to[..., -1:] - counts.gather(2, high)) // WHITE  # pixels per level
    table = ((up_to[..., :-1] + step // 2) // step.clamp(min=1)).clamp(0, WHITE)
    table = torch.cat((torch.zeros_like(table[..., :1]), table), dim=2)
    return torch.where(step == 0, torch.arange(LEVELS, device=counts.device), table).to(torch.uint8)


# ---------------------------------------------------------------------------------------------------- colour, sharpness
def _coloured(images: Tensor, operations: Operations) -> Tensor:
    """Return images between their grey ones and themselves, and beyond."""
    if images.shape[-1] == 1:
        return images
    factor = _per_image((1 + operations.magnitude).to(torch.float32))
    grey = _grey_of(images).mul_(1 - factor[..., 0])[..., None]
    return _clipped((images * factor).add_(grey))


def _sharpened(images: Tensor, operations: Operations) -> Tensor:
    """Return images between their blurred ones and themselves, and beyond; the outermost pixels stay."""
    if min(images.shape[1:3]) <= 2:
        return images
    levels = images.to(torch.float32)
    middle = levels[:, 1:-1, 1:-1]
    columns = levels[:, :-2] + levels[:, 1:-1] + levels[:, 2:]
    blurred = columns[:, :, :-2] + columns[:, :, 1:-1] + columns[:, :, 2:]
    blurred = blurred.add_(middle, alpha=4).div_(_AROUND).round_()
    part = _per_image((-operations.magnitude).to(torch.float32))
    levels[:, 1:-1, 1:-1] += blurred.sub_(middle).mul_(part)
    return _clipped(levels)


def _grey_of(images: Tensor) -> Tensor:
    """Return torchvision's grey levels, float32 (n, H, W), whole."""
    if images.shape[-1] == 1:
        return images[..., 0].to(torch.float32)
    red, green, blue = images.unbind(-1)
    return (red * _GREY[0]).add_(green, alpha=_GREY[1]).add_(blue, alpha=_GREY[2]).floor_()


def _clipped(levels: Tensor) -> Tensor:
    """Return float levels as uint8, cut off; they are overwritten."""
    return levels.clamp_(0, WHITE).to(torch.uint8)


def _per_image(values: Tensor) -> Tensor:
    """Return (n,) so that it broadcasts over images (n, H, W, C)."""
    return values[:, None, None, None]
