"""Fitting images to a network: the channels of its training images and, where those had one size, that size."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from registry.datasets.decoding import WHITE, Factor, over_ground


@dataclass(frozen=True)
class Fitting:
    """What training images had in common.

    Attributes:
        channels: 3 for RGB, 1 for grey.
        size: (height, width) in pixels; None where they varied.
        ground: RGB that shows through transparent pixels.
    """

    channels: int
    size: tuple[int, int] | None
    ground: tuple[int, int, int] = WHITE

    def suits(self, channels: int, size: tuple[int, int] | None) -> bool:
        """Whether images of these channels and this size (None where they vary) are so already."""
        return channels == self.channels and (self.size is None or size == self.size)

    def coloured(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return an image (H, W) or (H, W, C), C of 1, 3 or 4, with these channels, uint8 (H, W, C)."""
        image = image[..., None] if image.ndim == 2 else image
        image = over_ground(image[..., :3], image[..., 3], self.ground) if image.shape[2] == 4 else image
        if self.channels == 1 and image.shape[2] == 3:
            image = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)[..., None]  # type: ignore[assignment]
        elif self.channels == 3 and image.shape[2] == 1:
            image = np.repeat(image, 3, axis=2)
        return image

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return an image (H, W) or (H, W, C), C of 1, 3 or 4, with these channels and this size, uint8 (H, W, C)."""
        image = self.coloured(image)
        if self.size is not None and image.shape[:2] != self.size:
            shrinks = image.shape[0] > self.size[0]
            way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            resized = cv2.resize(np.ascontiguousarray(image), self.size[::-1], interpolation=way)
            image = resized if resized.ndim == 3 else resized[..., None]  # type: ignore[assignment]
        return np.ascontiguousarray(image)

    def reduced(self, image: NDArray[np.uint8], factor: Factor) -> NDArray[np.uint8]:
        """Return an image as `apply` does, and where all had one size as much smaller as training decoded that size.

        Args:
            image: as for `apply`; a file's of that size is best decoded by `at_size(factor)`.
            factor: says by how much a picture of (height, width) was decoded smaller.
        """
        if self.size is None:
            return self.apply(image)
        by = factor(*self.size)
        height, width = (-(-side // by) for side in self.size)  # as a decoder rounds
        if image.shape[:2] == (height, width):
            return np.ascontiguousarray(self.coloured(image))
        whole = self.apply(image)
        small = whole if by == 1 else cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
        return small if small.ndim == 3 else small[..., None]  # type: ignore[return-value]

    def at_size(self, factor: Factor) -> Factor:
        """Return the factor to decode a file by: where all pictures had one size, of that size alone."""
        return lambda height, width: factor(height, width) if self.size in (None, (height, width)) else 1
