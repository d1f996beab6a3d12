"""One dataset split, to be taken from by index: decoded in one array where that is possible, read ahead otherwise.

Owns how images lie in memory; opening.py chooses. Knows nothing of epochs, order or augmentation (batches.py,
pipeline.py), and of datasets only `registry.contracts.ImageSource`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from registry.contracts import ImageSource
from trainer.data.cache import Packed
from trainer.data.content import Digests, digests_of
from trainer.data.readers import Pixels, Readers, read
from trainer.data.singly import Singly


class _Labels:
    """What every store knows without reading an image."""

    def __init__(self, source: ImageSource) -> None:
        self.source = source
        self.targets: Tensor = torch.from_numpy(np.array(source.targets, dtype=np.int64))
        self.class_names: tuple[str, ...] = tuple(source.class_names)

    def __len__(self) -> int:
        return len(self.targets)

    def describe(self, index: int) -> str:
        """Name an image for a message."""
        return self.source.describe(index)

    def masks(self, indices: Sequence[int]) -> NDArray[np.bool_] | None:
        """Return the object masks, (n, H, W), where the dataset knows them; None otherwise."""
        masks = getattr(self.source, "masks", None)
        return None if masks is None else masks(indices)


class Store(_Labels):
    """A split whose images have one size and lie in memory.

    Args:
        source: where images come from; names them in messages and knows their masks, if anything does.
        packed: the images.

    Attributes:
        images: uint8 (N, H, W, C) on the CPU, in memory or memory-mapped.
        targets: class indices, int64 (N,).
        class_names: one per class index.
        image_size: (height, width) in pixels.
        channels: 3 for RGB, 1 for grey.
        bad: indices of unreadable images, which no part may hold.
    """

    def __init__(self, source: ImageSource, packed: Packed) -> None:
        super().__init__(source)
        self._digests = packed.digests
        self.images: Tensor = torch.from_numpy(packed.images)
        self.image_size: tuple[int, int] | None = (self.images.shape[1], self.images.shape[2])
        self.channels: int = self.images.shape[3]
        self.bad: Sequence[int] = tuple(packed.bad)
        self._resident: dict[torch.device, Tensor | None] = {}

    @property
    def digests(self) -> Digests:
        """Digests of the images' pixels, int64 (N,)."""
        if self._digests is None:
            self._digests = digests_of(self.images.numpy())
        return self._digests

    def gather(self, indices: Tensor) -> Tensor:
        """Take images out.

        Args:
            indices: int64 (n,), on the CPU.

        Returns:
            uint8 (n, H, W, C), a copy.
        """
        return self.images.index_select(0, indices)

    def resident(self, device: torch.device) -> Tensor | None:
        """Return all images on `device`, copied there once; None where they would take more than half of its memory."""
        if device.type == "cpu":
            return self.images
        if device not in self._resident:
            fits = device.type != "cuda" or self.images.numel() <= torch.cuda.mem_get_info(device)[0] // 2
            self._resident[device] = self.images.to(device) if fits else None
        return self._resident[device]


class LazyStore(_Labels):
    """A split whose images differ in size or do not fit in memory: read when they are asked for.

    Args:
        source: where images come from.
        channels: 3 for RGB, 1 for grey.
        bad: indices of images known to be unreadable.
        digests: of the images' pixels, int64 (N,); None where nobody has looked at them.

    Attributes:
        targets: class indices, int64 (N,).
        class_names: one per class index.
        image_size: None.
        channels: 3 for RGB, 1 for grey.
        bad: indices of images known to be unreadable, which no part may hold.
        digests: of the images' pixels, int64 (N,); None where nobody has looked at them.
    """

    def __init__(
        self, source: ImageSource, channels: int, bad: Sequence[int] = (), digests: Digests | None = None
    ) -> None:
        super().__init__(source)
        self.digests = digests
        self.image_size: tuple[int, int] | None = None
        self.channels = channels
        self.bad: Sequence[int] = tuple(bad)
        self._readers: Readers | None = None

    def gather(self, indices: Tensor) -> Pixels:
        """Read images here and now.

        Args:
            indices: int64 (n,).

        Returns:
            uint8 (H, W, C) each.

        Raises:
            DataError: one is unreadable.
        """
        return self._here(indices.tolist())

    def batches(
        self,
        asked: Iterable[Tensor],
        workers: int,
        transforms: Sequence[Singly] = (),
        keys: Iterable[Sequence[tuple[int, ...]]] | None = None,
    ) -> Iterator[Pixels]:
        """Yield the images of each batch of indices (n,), in order, read ahead by processes.

        Args:
            asked: the batches.
            workers: processes; with 0 the images are read here, and none of `transforms` is applied.
            transforms: what the processes apply to each image.
            keys: for each batch, the keys of each image, one per transform.
        """
        lists = (indices.tolist() for indices in asked)
        if workers == 0:
            return map(self._here, lists)
        if self._readers is None:  # kept over epochs: starting them costs more than an epoch's first batches
            self._readers = Readers(self.source, workers)
        return self._readers.batches(lists, transforms, keys)

    def _here(self, indices: Iterable[int]) -> Pixels:
        return [read(self.source, index) for index in indices]


AnyStore = Store | LazyStore
