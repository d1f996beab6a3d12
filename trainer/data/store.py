"""One dataset split, decoded: every image as uint8 in one array, taken out by index.

Owns how images lie in memory. Knows nothing of epochs, order or augmentation (batches.py, pipeline.py), and of datasets
only `registry.contracts.ImageSource`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from registry.contracts import ImageSource
from registry.errors import DataError


class Store:
    """A split whose images have one size and fit in memory.

    Args:
        source: where images come from; names them in messages and knows their masks, if anything does.
        images: uint8 (N, H, W, C).

    Attributes:
        images: uint8 (N, H, W, C) on the CPU, in memory or memory-mapped.
        targets: class indices, int64 (N,).
        class_names: one per class index.
    """

    def __init__(self, source: ImageSource, images: np.ndarray) -> None:
        self.source = source
        self.images: Tensor = torch.from_numpy(images)
        self.targets: Tensor = torch.from_numpy(np.ascontiguousarray(source.targets, dtype=np.int64))
        self.class_names: tuple[str, ...] = tuple(source.class_names)
        self._resident: dict[torch.device, Tensor] = {}

    def __len__(self) -> int:
        return len(self.targets)

    def gather(self, indices: Tensor) -> Tensor:
        """Take images out.

        Args:
            indices: int64 (n,), on the CPU.

        Returns:
            uint8 (n, H, W, C), a copy.
        """
        return self.images.index_select(0, indices)

    def on(self, device: torch.device) -> Tensor:
        """Return all images on `device`, copied there once."""
        if device.type == "cpu":
            return self.images
        if device not in self._resident:
            self._resident[device] = self.images.to(device)
        return self._resident[device]

    def describe(self, index: int) -> str:
        """Name an image for a message."""
        return self.source.describe(index)

    def masks(self, indices: Sequence[int]) -> np.ndarray | None:
        """Return the object masks, bool (n, H, W), where the dataset knows them; None otherwise."""
        masks = getattr(self.source, "masks", None)
        return None if masks is None else masks(indices)


def open_store(source: ImageSource) -> Store:
    """Decode a split.

    Args:
        source: the split.

    Returns:
        It, in memory.

    Raises:
        DataError: images and labels do not fit together.
    """
    images = source.packed()
    if images is None:
        images = np.stack([source.image(index) for index in range(len(source.targets))])
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(source.targets):
        raise DataError(
            f"images of type {images.dtype} and shape {images.shape} for {len(source.targets)} labels; "
            "uint8 (N, H, W, C) belongs there"
        )
    return Store(source, images)
