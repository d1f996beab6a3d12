"""Batches of an epoch: which image when, taken from the store and sent through the pipeline in chunks.

Owns order and chunking. Order follows from (seed, epoch), augmentation from (seed, epoch, index), so batch k of epoch e
is the same whether it was reached from the epoch's start or asked for directly, and whatever the chunk.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from registry.errors import DataError
from trainer.data.sharing import Share, Sharing
from trainer.data.singly import Singly, naming
from trainer.data.splits import Part, by_class
from trainer.data.store import LazyStore, Store, Workers
from trainer.data.transfer import sent

CPU_CHUNK = 512  # images augmented at a time on the CPU: more fall out of the cache, fewer pay Python's overhead
CPU_CHUNK_VALUES = 8 << 20  # pixel values gathered and augmented at a time, before or after augmentation
GPU_CHUNK_VALUES = 64 << 20  # the same on a GPU
READ_VALUES = 32 << 20  # pixel values a worker is asked for at a time; several such answers wait in memory
MAX_THREADS = 16  # that `auto` starts: beyond, Python's lock is what they wait for
REPEAT = 1 << 32  # added to an image's key per repetition within an epoch; beyond any index


class Pipeline(Protocol):
    """What turns stored images into the model's input."""

    @property
    def ahead(self) -> Sequence[Singly]:
        """The first transforms, as far as whoever reads the images may apply them."""

    @property
    def reduces(self) -> bool:
        """Whether no more of a picture is decoded than what `ahead` keeps."""

    @property
    def values_ahead(self) -> int:
        """Pixel values of an image after `ahead`; 0 where they are not known."""

    @property
    def begins_on(self) -> torch.device:
        """Where it wants images of one size, and their keys."""

    def keys(self, *, epoch: int, indices: Tensor) -> list[tuple[int, ...]]:
        """Return the keys of each image, one per transform of `ahead`."""

    def apply(
        self, images: Tensor | list[NDArray[np.uint8]], *, epoch: int, indices: Tensor, begun: bool = False
    ) -> Tensor:
        """Return float (n, C, H, W), channels last, from uint8 (n, H, W, C) or a list of (H, W, C).

        Draws are keyed by epoch and index. `begun`: the transforms of `ahead` were applied already.
        """


class Batch(NamedTuple):
    """Images for one step; a tuple because one is made at every step.

    Attributes:
        images: float (n, C, H, W), channels last.
        targets: class indices, int64 (n,).
        indices: places in the dataset split, int64 (n,).
    """

    images: Tensor
    targets: Tensor
    indices: Tensor


class SharedBatch(Batch):
    """What one of several processes has of a batch.

    Attributes:
        share: which images of the whole these are.
    """

    share: Share

    @classmethod
    def of(cls, batch: Batch, share: Share) -> SharedBatch:
        """Return a batch as a share."""
        made = cls(*batch)
        made.share = share
        return made


class Batches:
    """The batches of a part, epoch by epoch.

    Args:
        part: the images.
        pipeline: augments and normalises.
        batch_size: images per batch, over all processes that share it.
        seed: of the order.
        shuffle: another order every epoch; otherwise that of the split.
        drop_last: leave out an incomplete last batch.
        device: where batches arrive.
        balanced: draw every class equally often, the small ones repeatedly; needs `shuffle`.
        workers: processes that read ahead what does not lie in memory; "auto" takes threads, one per core, at most 16.
        sharing: which images of each batch are given; None for all. Order and augmentation are those of the whole.
        neighbours: processes on this machine that do the same, among which "auto" divides the cores.

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
        workers: int | Literal["auto"] = "auto",
        sharing: Sharing | None = None,
        neighbours: int = 1,
    ) -> None:
        self.part = part
        self.batch_size = batch_size
        self._pipeline = pipeline
        self._seed = seed
        self._shuffle = shuffle
        self._balanced = balanced
        self._drop_last = drop_last
        self._device = device
        self._sharing = sharing
        self._own_size = batch_size if sharing is None else max(1, sharing.of(batch_size).images)
        threads = max(1, min(MAX_THREADS, cores() // neighbours))
        self._workers = Workers(threads, "threads") if workers == "auto" else Workers(workers, "processes")
        self._begun: tuple[int, int, Iterator[Batch]] | None = None
        if len(self) == 0:
            raise DataError(
                f"{len(part)} {part.name} images make no batch of {batch_size}"
                + (" with drop_last" if drop_last else "")
            )

    def __len__(self) -> int:
        whole, rest = divmod(len(self.part), self.batch_size)
        return whole if self._drop_last else whole + (rest > 0)

    def begin(self, epoch: int, start: int = 0) -> None:
        """Have what must be read for an epoch's first batches read while something else is done."""
        self._begun = (epoch, start, self._epoch(epoch, start))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Return the batches of an epoch.

        Args:
            epoch: number of the epoch; the key of order and augmentation.
            start: the first batch; those before cost nothing.

        Returns:
            Batches `start`, `start + 1`, ...
        """
        begun, self._begun = self._begun, None
        return begun[2] if begun is not None and begun[:2] == (epoch, start) else self._epoch(epoch, start)

    def spread(self, count: int) -> Iterator[Batch]:
        """Return batches of at most so many images: of every class its share, from all over the part."""
        total = len(self.part)
        if total <= count:
            return self._epoch(0, 0)
        places = torch.argsort(self.part.targets, stable=True)[torch.arange(count) * total // count]
        return self._ordered(self.part.indices[places.sort().values], 0, 0)

    def _epoch(self, epoch: int, start: int) -> Iterator[Batch]:
        return self._ordered(self.order(epoch), epoch, start)

    def _ordered(self, order: Tensor, epoch: int, start: int) -> Iterator[Batch]:
        """Return batches of images in an order, from batch `start` on."""
        if self._drop_last:
            order = order[: len(self) * self.batch_size]
        keys = _keys(order) if self._balanced else order
        if self._sharing is None:
            return self._taken(order, keys, epoch, start)
        total, own = len(order), self._sharing.places(len(order), self.batch_size)
        whole = (
            min(self.batch_size, total - first) for first in range(start * self.batch_size, total, self.batch_size)
        )
        batches = self._taken(order[own], keys[own], epoch, start)
        return map(SharedBatch.of, batches, map(self._sharing.of, whole))

    def order(self, epoch: int) -> Tensor:
        """Return the dataset indices of an epoch in the order they are taken, int64 (N,)."""
        if not self._shuffle:
            return self.part.indices
        key = hashlib.blake2b(f"order/{self._seed}/{epoch}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key, "big") >> 1)
        if self._balanced:
            return self.part.indices[_balanced(self.part.targets, generator)]
        return self.part.indices[torch.randperm(len(self.part), generator=generator)]

    def _taken(self, order: Tensor, keys: Tensor, epoch: int, start: int) -> Iterator[Batch]:
        """Take images in an order, `_own_size` at a time, from batch `start` on."""
        store = self.part.store
        if isinstance(store, LazyStore):
            return self._read_ahead(store, order, keys, epoch, start)
        return self._in_chunks(store, order, keys, epoch, start)

    def _in_chunks(self, store: Store, order: Tensor, keys: Tensor, epoch: int, start: int) -> Iterator[Batch]:
        """Gather and augment several batches at a time; the first chunk is one, so that the model can start."""
        # Once per epoch, where they are wanted; nothing below waits for the device.
        indices, targets = (sent(each, self._device) for each in (order, store.targets[order]))
        where = self._pipeline.begins_on
        keys, places = sent(keys, where), order if where.type == "cpu" else indices
        resident = store.resident(where)

        def made(some: slice) -> Tensor:
            if resident is not None:
                images = resident.index_select(0, places[some])
            else:
                images = sent(store.gather(order[some]), where)
            with naming(store.describe, order[some]):
                return self._pipeline.apply(images, epoch=epoch, indices=keys[some])

        position, size, values = start * self._own_size, self._own_size, max(1, store.images[:1].numel())
        while position < len(order):
            some = slice(position, min(position + size, len(order)))
            inputs = _in_pieces(made, some, max(1, self._chunk_values // values))
            parts = (each.split(self._own_size) for each in (inputs, targets[some], indices[some]))
            yield from map(Batch, *parts)
            position += size
            values = max(values, inputs[0].numel())
            size = self._chunk(values)

    @property
    def _chunk_values(self) -> int:
        return CPU_CHUNK_VALUES if self._device.type == "cpu" else GPU_CHUNK_VALUES

    def _chunk(self, values: int) -> int:
        """Return how many images of so many values are augmented for several batches at a time, whole batches."""
        most = self._chunk_values // values
        most = min(CPU_CHUNK, most) if self._device.type == "cpu" else most
        return max(1, most // self._own_size) * self._own_size

    def _read_ahead(self, store: LazyStore, order: Tensor, keys: Tensor, epoch: int, start: int) -> Iterator[Batch]:
        """Return batches as the store's workers deliver them, which begin now."""
        asked, parts = (each.split(self._own_size)[start:] for each in (order, keys))
        ahead = self._pipeline.ahead
        piece = max(1, READ_VALUES // store.values_per_image())
        chances = (
            (self._pipeline.keys(epoch=epoch, indices=few) for some in parts for few in some.split(piece))
            if ahead
            else None
        )
        pieces = (few for some in asked for few in some.split(piece))
        reduces, expected = self._pipeline.reduces, self._pipeline.values_ahead
        pixels = store.batches(pieces, self._workers, ahead, chances, reduces=reduces, expected=expected)

        def images(count: int) -> list[NDArray[np.uint8]]:
            return [image for _ in range(0, count, piece) for image in next(pixels)]

        return self._delivered(images, store, order, keys, epoch, start)

    def _delivered(
        self,
        images: Callable[[int], list[NDArray[np.uint8]]],
        store: LazyStore,
        order: Tensor,
        keys: Tensor,
        epoch: int,
        start: int,
    ) -> Iterator[Batch]:
        """Yield batches of images that begin to be transformed where they are read; `images` returns the next few."""
        targets, indices = (sent(each, self._device) for each in (store.targets[order], order))  # once per epoch
        columns = (each.split(self._own_size)[start:] for each in (order, keys, targets, indices))
        for asked, some, *known in zip(*columns, strict=True):
            begun = images(len(asked))
            with naming(store.describe, asked):
                inputs = self._pipeline.apply(begun, epoch=epoch, indices=some, begun=bool(self._pipeline.ahead))
            yield Batch(inputs, *known)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_pieces(made: Callable[[slice], Tensor], some: slice, piece: int) -> Tensor:
    """Return what `made` returns for a range of images, made at most `piece` images at a time; channels last."""
    count = some.stop - some.start
    if count <= piece:
        return made(some)
    first = made(slice(some.start, some.start + piece))
    whole = torch.empty(
        (count, *first.shape[1:]), dtype=first.dtype, device=first.device, memory_format=torch.channels_last
    )
    whole[:piece] = first
    for start in range(piece, count, piece):
        stop = min(start + piece, count)
        whole[start:stop] = made(slice(some.start + start, some.start + stop))
    return whole


def _keys(order: Tensor) -> Tensor:
    """Return `order` with repetitions told apart, so that an image drawn twice is not augmented alike, int64 (N,)."""
    ranked, places = order.sort(stable=True)
    position = torch.arange(len(order))
    is_first = torch.ones_like(ranked, dtype=torch.bool)
    is_first[1:] = ranked[1:] != ranked[:-1]
    repetition = position - torch.where(is_first, position, 0).cummax(0).values
    keys = torch.empty_like(order)
    keys[places] = ranked + repetition * REPEAT
    return keys


def _balanced(targets: Tensor, generator: torch.Generator) -> Tensor:
    """Return N positions in which every class comes equally often, in random order.

    A class gives whole passes over its images, each in another order, before any comes again.
    """
    classes = [members for members in by_class(targets) if len(members)]
    total = len(targets)
    lots = torch.full((len(classes),), total // len(classes))
    lots[torch.randperm(len(classes), generator=generator)[: total % len(classes)]] += 1
    taken = []
    for members, count in zip(classes, lots.tolist(), strict=True):
        passes = [members[torch.randperm(len(members), generator=generator)] for _ in range(-(-count // len(members)))]
        taken.append(torch.cat(passes)[:count])
    positions = torch.cat(taken)
    return positions[torch.randperm(total, generator=generator)]
