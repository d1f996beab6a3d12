"""Sharing: which images of a batch one of several processes takes. Knows nothing of how processes meet."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Share:
    """What one process has of a batch that several share.

    Attributes:
        start: place in the whole batch of the first of its images.
        images: how many are its own; 0 in a batch of fewer images than processes, where it is lent the first, which
            counts nothing, so that it has something to compute.
        whole: images of the whole batch.
    """

    start: int
    images: int
    whole: int


@dataclass(frozen=True)
class Sharing:
    """How batches are divided: in stretches whose lengths differ by one at most, the longer ones first.

    Attributes:
        rank: number of this process, from 0.
        count: of processes.
    """

    rank: int
    count: int

    def of(self, whole: int) -> Share:
        """Return this process's share of a batch of `whole` images."""
        least, more = divmod(whole, self.count)
        return Share(self.rank * least + min(self.rank, more), least + (self.rank < more), whole)

    def lengths(self, whole: int) -> list[int]:
        """Return how many images of a batch of `whole` each process has of its own, by rank."""
        return [Sharing(rank, self.count).of(whole).images for rank in range(self.count)]

    def places(self, total: int, batch_size: int) -> Tensor:
        """Return the places in an epoch of the images that this process is given, int64.

        Args:
            total: images of the epoch.
            batch_size: images of a whole batch.
        """
        return torch.cat(
            [
                start + share.start + torch.arange(share.images) if share.images else torch.tensor([start])
                for start in range(0, total, batch_size)
                for share in (self.of(min(batch_size, total - start)),)
            ]
        )
