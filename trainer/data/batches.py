"""Batches of an epoch: which image when, taken from the store and sent through the pipeline in chunks.

Owns order and chunking. Order follows from (seed, epoch), augmentation from (seed, epoch, index), so batch k of epoch e
is the same whether it was reached from the epoch's start or asked for directly, and whatever the chunk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from registry.errors import DataError
from trainer.data.splits import Part

CPU_CHUNK = 512  # images augmented at a time on the CPU: more fall out of the cache, fewer pay Python's overhead
GPU_CHUNK_BYTES = 256 << 20  # of float32 images augmented at a time on a GPU


class Pipeline(Protocol):
    """What turns stored images into the model's input."""

    def apply(self, images: Tensor, *, epoch: int, indices: Tensor) -> Tensor:
        """Return float (n, C, H, W), channels last, from uint8 (n, H, W, C); draws are keyed by epoch and index."""


@dataclass(frozen=True)
class Batch:
    """Images for one step.

    Attributes:
        images: float (n, C, H, W), channels last.
        targets: class indices, int64 (n,).
        indices: places in the dataset split, int64 (n,).
    """

    images: Tensor
    targets: Tensor
    indices: Tensor


class Batches:
    """The batches of a part, epoch by epoch.

    Args:
        part: the images.
        pipeline: augments and normalises.
        batch_size: images per batch.
        seed: of the order.
        shuffle: another order every epoch; otherwise that of the split.
        drop_last: leave out an incomplete last batch.
        device: where batches arrive.
        balanced: draw every class equally often, the small ones repeatedly; needs `shuffle`.

    Raises:
        DataError: no batch is left.
    """

    def __init__(
        self,
        part: Part,
        pipeline: Pipeline,
        *,
        batch_size: int,
        seed: int,
        shuffle: bool,
        drop_last: bool,
        device: torch.device,
        balanced: bool = False,
    ) -> None:
        self.part = part
        self.batch_size = batch_size
        self._pipeline = pipeline
        self._seed = seed
        self._shuffle = shuffle
        self._balanced = balanced
        self._drop_last = drop_last
        self._device = device
        if len(self) == 0:
            raise DataError(
                f"{len(part)} {part.name} images make no batch of {batch_size}"
                + (" with drop_last" if drop_last else "")
            )

    def __len__(self) -> int:
        whole, rest = divmod(len(self.part), self.batch_size)
        return whole if self._drop_last else whole + (rest > 0)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch.

        Args:
            epoch: number of the epoch; the key of order and augmentation.
            start: first batch to yield; those before cost nothing.

        Yields:
            Batches `start`, `start + 1`, ...
        """
        order = self.order(epoch)
        position = start * self.batch_size
        end = len(self) * self.batch_size if self._drop_last else len(order)
        size = self.batch_size  # the first chunk is one batch, so that the model can start
        while position < end:
            chunk = order[position : min(position + size, end)]
            yield from self._chunk(chunk, epoch)
            position += len(chunk)
            size = self._chunk_size()

    def order(self, epoch: int) -> Tensor:
        """Return the dataset indices of an epoch in the order they are taken, int64 (N,)."""
        if not self._shuffle:
            return self.part.indices
        key = hashlib.blake2b(f"order/{self._seed}/{epoch}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key, "big") >> 1)
        if self._balanced:
            return self.part.indices[_balanced(self.part.targets, generator)]
        return self.part.indices[torch.randperm(len(self.part), generator=generator)]

    def _chunk(self, indices: Tensor, epoch: int) -> Iterator[Batch]:
        store = self.part.store
        targets = store.targets[indices]
        if self._device.type == "cpu":
            images = store.gather(indices)
        else:
            indices = indices.to(self._device, non_blocking=True)
            targets = targets.to(self._device, non_blocking=True)
            images = store.on(self._device).index_select(0, indices)
        images = self._pipeline.apply(images, epoch=epoch, indices=indices)
        size = self.batch_size
        yield from map(Batch, images.split(size), targets.split(size), indices.split(size))

    def _chunk_size(self) -> int:
        if self._device.type == "cpu":
            images = CPU_CHUNK
        else:
            images = GPU_CHUNK_BYTES // (4 * self.part.store.images[0].numel())
        return max(1, images // self.batch_size) * self.batch_size


def _balanced(targets: Tensor, generator: torch.Generator) -> Tensor:
    """Return N positions in which every class comes equally often, in random order.

    A class gives whole passes over its images, each in another order, before any comes again.
    """
    present = torch.unique(targets)
    total = len(targets)
    lots = torch.full((len(present),), total // len(present))
    lots[torch.randperm(len(present), generator=generator)[: total % len(present)]] += 1
    taken = []
    for label, count in zip(present, lots.tolist(), strict=True):
        members = torch.nonzero(targets == label).flatten()
        passes = [members[torch.randperm(len(members), generator=generator)] for _ in range(-(-count // len(members)))]
        taken.append(torch.cat(passes)[:count])
    positions = torch.cat(taken)
    return positions[torch.randperm(total, generator=generator)]
