"""Features in batches: what frozen layers made of the images of a part, in the order in which images would come.

Owns how features lie in memory or, where they are many, on the disk. Does not know how they are computed
(trainer/experiment/features.py) or what learns from them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from trainer.data.batches import Batch, Batches
from trainer.data.splits import Part
from trainer.data.transfer import sent

IN_MEMORY = 256 << 20  # bytes of features beyond which they lie in a file that the system may page out


@dataclass(frozen=True)
class KeptFeatures:
    """The features of a part's images.

    Attributes:
        values: (n, ...), in the order of the part's indices.
        rows: which row is of which image of the split, int64 (N,); -1 for images outside the part.
    """

    values: Tensor
    rows: Tensor

    @classmethod
    def empty(cls, part: Part, shape: tuple[int, ...], dtype: torch.dtype, folder: Path | None) -> KeptFeatures:
        """Return room for the features of a part.

        Args:
            part: of the images.
            shape: of the features of one.
            dtype: of their numbers.
            folder: where a file may lie; None for memory alone.

        Raises:
            OSError: the disk has no room for them.
        """
        rows = torch.full((len(part.store),), -1, dtype=torch.int64)
        rows[part.indices] = torch.arange(len(part))
        return cls(_room((len(part), *shape), dtype, folder), rows)

    def take(self, indices: Tensor) -> Tensor:
        """Return the features of images by their places in the split, int64 (n,) on the CPU; channels last."""
        found = self.values.index_select(0, self.rows[indices])
        return found.contiguous(memory_format=torch.channels_last) if found.dim() == 4 else found


class FeatureBatches(Batches):
    """The batches of a part with features in place of images; the arguments are those of `Batches`.

    Args:
        features: of the part's images.
    """

    def __init__(self, *arguments: Any, features: KeptFeatures, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._features = features

    @override
    def _taken(self, order: Tensor, keys: Tensor, epoch: int, start: int) -> Iterator[Batch]:
        targets = self.part.store.targets[order]
        for some, known in zip(*(each.split(self._own_size)[start:] for each in (order, targets)), strict=True):
            yield Batch(*(sent(each, self._device) for each in (self._features.take(some), known, some)))


def _room(shape: tuple[int, ...], dtype: torch.dtype, folder: Path | None) -> Tensor:
    """Return an empty tensor, in memory or, where it is large, mapped from a file that goes with it."""
    empty = torch.empty(shape, dtype=dtype, device="meta")
    if folder is None or empty.nbytes <= IN_MEMORY:
        return torch.empty(shape, dtype=dtype)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".features") as file:
        _claim(file, empty.nbytes)
        return torch.from_file(file.name, shared=True, size=empty.numel(), dtype=dtype).view(shape)


def _claim(file: Any, size: int) -> None:
    """Have the disk set so many bytes aside for a file, so that none is missed while they are written."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)
