"""Randomness by key: every draw is a hash of (seed, epoch, image, position in the list, draw number).

Nothing is streamed, so an image meets the same chance whatever the batch, chunk, worker or device it is part of, and an
epoch can be entered anywhere. The hash is the finaliser of SplitMix64 (Steele, Lea, Flood 2014,
doi 10.1145/2660193.2660195, with Stafford's constants) over a Weyl sequence, in wrapping int64, which every device
computes alike. Knows nothing of images.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from registry.splitmix import MASK, MULTIPLIERS, SHIFTS, WEYL, scattered, scattered_int
from registry.transforms import elementary

Bound: TypeAlias = "int | Tensor"

_DRAWS_PER_POSITION = 1 << 20  # draw numbers that a position in the list has for itself
_FAR, _FAR_EACH = 1 << 40, 1 << 34  # where those lie that a position takes beyond: noise for every pixel of a photo
_TO_UNIT = 2.0**-53


class Draws:
    """The random numbers of a batch at one position of a transform list.

    Args:
        seed: of the run.
        epoch: counted from 1; 0 where there is none.
        indices: index of each image in its dataset, int64 (N,); its device is where the draws are made.
        position: of the transform in its list.
    """

    def __init__(self, seed: int, epoch: int, indices: Tensor, position: int = 0) -> None:
        start = scattered_int(scattered_int(seed & MASK) + epoch * WEYL)
        self._setup(seed, epoch, indices, position, _mixed(indices * _signed(WEYL) + _signed(start)))

    def _setup(self, seed: int, epoch: int, indices: Tensor, position: int, keys: Tensor) -> None:
        self.epoch = epoch
        self._seed = seed
        self._indices = indices
        self._position = position
        self._keys = keys  # (N,)

    def __len__(self) -> int:
        return self._keys.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the draws are made."""
        return self._keys.device

    def at(self, position: int) -> Draws:
        """Return the same images' draws at another position of the list."""
        return self._sharing(self._indices, position, self._keys)

    def in_epoch(self, epoch: int) -> Draws:
        """Return the same images' draws in another epoch; those of epoch 0 are what an image keeps for all epochs."""
        return Draws(self._seed, epoch, self._indices, self._position)

    def subset(self, rows: Tensor) -> Draws:
        """Return the draws of some rows of the batch, int64 (n,): they are what they were in the whole batch."""
        return self._sharing(self._indices[rows], self._position, self._keys[rows])

    def bits(self, draw: int, count: int = 1) -> Tensor:
        """Return draws `draw` to `draw + count - 1` as int64 (count, N), all 64 bits random."""
        first = self._position * _DRAWS_PER_POSITION + draw + 1
        numbers = torch.arange(first, first + count, device=self.device)
        if draw + count > _DRAWS_PER_POSITION:
            numbers[max(0, _DRAWS_PER_POSITION - draw) :] += _FAR + self._position * _FAR_EACH
        return _mixed((numbers * _signed(WEYL))[:, None] + self._keys)

    def uniforms(self, draw: int, count: int) -> Tensor:
        """Return `count` draws from `draw` on, float64 (count, N) in [0, 1)."""
        return _shifted(self.bits(draw, count), 11).to(torch.float64).mul_(_TO_UNIT)

    def uniform(self, draw: int) -> Tensor:
        """Return one draw per image, float64 (N,) in [0, 1)."""
        return self.uniforms(draw, 1)[0]

    def between(self, draw: int, limits: tuple[float, float]) -> Tensor:
        """Return one draw per image, float64 (N,) uniform between two limits."""
        low, high = limits
        return self.uniform(draw).mul_(high - low).add_(low)

    def betweens(self, draw: int, *limits: tuple[float, float]) -> list[Tensor]:
        """Return one draw per image and pair of limits, from `draw` on: what `between` gives, in one go."""
        chances = self.uniforms(draw, len(limits))
        return [chance * (high - low) + low for chance, (low, high) in zip(chances, limits, strict=True)]

    def integers(self, draw: int, low: Bound, high: Bound) -> Tensor:
        """Return one whole number per image, int64 (N,), from `low` to `high`, both included and equally likely."""
        return low + (self.uniform(draw) * (high - low + 1)).to(torch.int64)

    def chosen(self, p: float, draw: int = 0) -> Tensor:
        """Return which images something of probability `p` happens to, bool (N,)."""
        return self.uniform(draw) < p

    def seeds(self, draw: int) -> list[int]:
        """Return one seed per image for a generator of somebody else's, each from 0 to 2**63 - 1. Waits for a GPU."""
        return [int(key) for key in _shifted(self.bits(draw), 1)[0].tolist()]

    def normals(self, draw: int, count: int) -> Tensor:
        """Return `count` standard normal numbers per image, float32 (N, count).

        Box and Muller's transform of pairs of 32-bit uniforms: tails end at 6.7 standard deviations.
        """
        pairs = math.ceil(count / 2)
        bits = self.bits(draw, pairs)
        chance = _shifted(bits, 32).to(torch.float32).add_(0.5).mul_(2.0**-32)  # never 0
        radius = elementary.sqrt(elementary.log(chance).mul_(-2))
        angle = (bits & 0xFFFFFFFF).to(torch.float32).mul_(2 * math.pi * 2.0**-32)
        both = torch.cat((radius * elementary.cos(angle), radius * elementary.sin(angle)))  # (2 pairs, N)
        return both[:count].T.contiguous()

    def _sharing(self, indices: Tensor, position: int, keys: Tensor) -> Draws:
        draws = Draws.__new__(Draws)
        draws._setup(self._seed, self.epoch, indices, position, keys)
        return draws


def _mixed(x: Tensor) -> Tensor:
    """Scatter int64 numbers, one to one."""
    if x.device.type != "cpu":
        return mixed_by_torch(x)
    bits = scattered(x.numpy().view(np.uint64))  # a third of torch's cost on the few numbers of a chunk
    return torch.from_numpy(bits.view(np.int64))


def mixed_by_torch(x: Tensor) -> Tensor:
    """Scatter as `_mixed` does, on any device."""
    for shift, multiplier in zip(SHIFTS[:2], MULTIPLIERS, strict=True):
        x = x.bitwise_xor(_shifted(x, shift)).mul_(_signed(multiplier))
    return x.bitwise_xor_(_shifted(x, SHIFTS[2]))


def _shifted(x: Tensor, by: int) -> Tensor:
    """Shift right and fill with zeros, which int64's own shift does not."""
    return (x >> by).bitwise_and_((1 << (64 - by)) - 1)


def _signed(x: int) -> int:
    """Read 64 bits as a signed number."""
    x &= MASK
    return x - (1 << 64) if x >= 1 << 63 else x
