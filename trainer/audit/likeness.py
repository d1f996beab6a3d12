"""Near duplicates: which pictures show the same, mirrored, rescaled, recompressed or moved a little.

Two steps. Of each thumbnail 64 numbers are kept, its local contrast on a grid of 8 x 8, scaled to length 1; their
products find candidates among all pairs at once. Whatever a grid shows, its even and odd parts under mirroring give
both answers in one go: with d = e + o, the mirror image is e - o, so

    <d1, d2> = <e1, e2> + <o1, o2>        <d1, mirrored d2> = <e1, e2> - <o1, o2>

and the greater of the two is <e1, e2> + |<o1, o2>|. Candidates are then laid over each other at 32 x 32 px, at five
scales and wherever they fit best, and their correlation decides, the more of it the more a picture has in common with
others anyhow. Knows thumbnails; nothing of files, splits or labels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from trainer.audit.looks import SIDE, Thumbnails

GRID = 8  # cells of a descriptor, each way
COARSE, FINE = 2.0, 3.0  # width (sigma) of what is taken off as background, in cells of the grid and in px
CANDIDATE = 0.7  # product of two descriptors from which they are looked at closely
KEPT = 6  # candidates per picture and part, the best ones
ROWS, COLUMNS = 1024, 8192  # of the products that are in memory at a time: 64 MB
SCALES = (0.88, 0.94, 1.0, 1.07, 1.14)  # at which one thumbnail is laid over the other
HOLLOW = 0.02  # share of a picture's contrast in its middle below which the middle tells nothing
MARGIN = 4  # px by which they may be moved
FLAT = 2.0  # grey levels of deviation below which a picture shows nothing to compare
TASK = 2048  # candidates that a thread compares at a time
LOWEST, HIGHEST = 0.78, 0.97  # correlation that is asked for, at least and at most
ABOVE = 0.24  # what a picture has in common with others anyhow
CROWD = 50  # the fiftieth-likest picture tells it, and
DRAWN, FEW = 48, 12  # so many of its class

Indices = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Pairs:
    """Pairs of pictures, by their places in an array of thumbnails.

    Attributes:
        first: int64 (n,).
        second: int64 (n,), greater than `first`.
        mirrored: whether the second is like the first's mirror image, bool (n,).
        likeness: correlation, float32 (n,), at most 1.
    """

    first: Indices
    second: Indices
    mirrored: NDArray[np.bool_]
    likeness: Floats

    def __len__(self) -> int:
        return len(self.first)

    def taken(self, which: NDArray[np.bool_] | Indices) -> Pairs:
        """Return some of the pairs."""
        return Pairs(self.first[which], self.second[which], self.mirrored[which], self.likeness[which])


# ----------------------------------------------------------------------------------------------------------- candidates
def descriptors_of(thumbnails: Thumbnails) -> tuple[Floats, Floats]:
    """Return even and odd part under mirroring of each thumbnail's descriptor, float32 (N, 32) both.

    Their products add up to the correlation of the local contrasts of two pictures. Where a picture is flat they are 0.
    """
    cells = SIDE // GRID
    grids = thumbnails.reshape(-1, GRID, cells, GRID, cells).mean(axis=(2, 4), dtype=np.float32)
    for grid in grids:
        grid -= cv2.GaussianBlur(grid, (0, 0), COARSE)
    lengths = np.linalg.norm(grids.reshape(-1, GRID * GRID), axis=1)
    lengths[flat(thumbnails)] = np.inf
    grids /= np.maximum(lengths, 1e-6)[:, None, None]
    left, right = grids[:, :, : GRID // 2], grids[:, :, : GRID // 2 - 1 : -1]
    half = np.float32(np.sqrt(0.5))
    return ((left + right) * half).reshape(len(grids), -1), ((left - right) * half).reshape(len(grids), -1)


def flat(thumbnails: Thumbnails) -> NDArray[np.bool_]:
    """Whether each picture is nearly one grey, bool (N,)."""
    return np.asarray(thumbnails.reshape(len(thumbnails), -1).std(axis=1, dtype=np.float32) < FLAT)


def candidates_among(
    even: Floats, odd: Floats, parts: NDArray[np.int8], *, progress: Callable[[float], None] = lambda _: None
) -> Pairs:
    """Return the pairs of pictures whose descriptors are alike, of each picture the best few of every part.

    Args:
        even: from `descriptors_of`.
        odd: from `descriptors_of`.
        parts: which part each picture is of, int8 (N,).
        progress: told from time to time which share is done.

    Returns:
        Candidates; `likeness` is the product of their descriptors.
    """
    evens, odds, owners = (torch.from_numpy(each) for each in (even, odd, parts))
    found: list[tuple[torch.Tensor, ...]] = []
    count = len(even)
    for start in range(0, count, ROWS):
        rows = slice(start, start + ROWS)
        block = [
            _alike(evens[rows], odds[rows], evens[at : at + COLUMNS], odds[at : at + COLUMNS], start, at)
            for at in range(start, count, COLUMNS)
        ]
        first, second, mirrored, products = (torch.cat(each) for each in zip(*block, strict=True))
        best = _best_of_each(first, owners[second], products)
        # Of many that are like one the later ones have nobody else, so each keeps its best as well.
        best = torch.cat([best, _best_of_each(second, owners[first], products)]).unique()
        found.append((first[best], second[best], mirrored[best], products[best]))
        progress(1 - (1 - min(1.0, (start + ROWS) / count)) ** 2)  # of a triangle
    if not found:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.bool_), np.zeros(0, np.float32))
    first, second, mirrored, products = (torch.cat(each) for each in zip(*found, strict=True))
    return Pairs(first.numpy(), second.numpy(), mirrored.numpy(), products.numpy())


def _alike(
    even: torch.Tensor, odd: torch.Tensor, evens: torch.Tensor, odds: torch.Tensor, start: int, at: int
) -> tuple[torch.Tensor, ...]:
    """Return (row, column, mirrored, product) of the pairs of two blocks that are alike, each row before its column."""
    products = even @ evens.T  # (rows, columns)
    turned = odd @ odds.T
    best = products.add_(turned.abs())
    row, column = (best > CANDIDATE).nonzero(as_tuple=True)
    later = at + column > start + row
    row, column = row[later], column[later]
    return start + row, at + column, turned[row, column] < 0, best[row, column]


def _best_of_each(first: torch.Tensor, owner: torch.Tensor, products: torch.Tensor) -> torch.Tensor:
    """Return the places of the `KEPT` greatest products of each picture with each part.

    What is like thousands, as the frames of a film are, would else make millions of pairs.
    """
    order = products.argsort(descending=True, stable=True)
    key = first * 8 + owner
    order = order[key[order].argsort(stable=True)]
    keys = key[order]
    begins = torch.ones(len(keys), dtype=torch.bool)
    begins[1:] = keys[1:] != keys[:-1]
    places = torch.arange(len(keys))
    rank = places - places[begins][begins.cumsum(0) - 1]
    return order[rank < KEPT]


# ------------------------------------------------------------------------------------------------------------ decisions
def compared(thumbnail: Callable[[int], Thumbnails], pairs: Pairs) -> Pairs:
    """Return the pairs with their correlation, laid over each other as well as they can be.

    Args:
        thumbnail: returns one by its place, uint8 (32, 32).
        pairs: whose `likeness` is worked out anew.
    """
    starts = range(0, len(pairs), TASK)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        parts = list(pool.map(lambda start: _compared(thumbnail, pairs, start), starts))
    likeness = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    return Pairs(pairs.first, pairs.second, pairs.mirrored, likeness)


def needed(even: Floats, odd: Floats, labels: Indices, thumbnail: Callable[[int], Thumbnails], pairs: Pairs) -> Floats:
    """Return the correlation from which each pair counts as near duplicates, float32 (n,).

    Two photos have little in common; two silhouettes before a sky, two digits or two X-rays have much, and are no
    copies for that. What a picture has in common with others anyhow is told by two of them: the `CROWD`-th likest of
    all (in a small set the likest fifth), and the second likest of `DRAWN` of its class, laid over it as a pair is. A
    pair has to lie `ABOVE` the mean of these four, between `LOWEST` and `HIGHEST`.

    Args:
        even: of all pictures, from `descriptors_of`.
        odd: of all pictures.
        labels: of all pictures, int64 (N,).
        thumbnail: returns one by its place.
        pairs: by their places in these.
    """
    places, back = np.unique(np.concatenate((pairs.first, pairs.second)), return_inverse=True)
    usual = (_crowd(even, odd, places) + _classmates(labels, thumbnail, places)) / 2
    both = usual[back.reshape(-1)].reshape(2, -1).mean(axis=0)
    return np.asarray(np.clip(both + np.float32(ABOVE), LOWEST, HIGHEST))


def _crowd(even: Floats, odd: Floats, places: Indices) -> Floats:
    """Return the product of each of some pictures with its `CROWD`-th likest, float32 (n,)."""
    evens, odds = torch.from_numpy(even), torch.from_numpy(odd)
    rank = max(1, min(CROWD, len(even) // 5))
    found = [torch.zeros(0)]
    for some in torch.from_numpy(places).split(ROWS // 2):
        products = (evens[some] @ evens.T).add_((odds[some] @ odds.T).abs_())
        products[torch.arange(len(some)), some] = -1.0  # itself
        found.append(products.topk(rank, dim=1).values[:, -1])
    return torch.cat(found).numpy()


def _classmates(labels: Indices, thumbnail: Callable[[int], Thumbnails], places: Indices) -> Floats:
    """Return the correlation of each of some pictures with the second likest of its classmates, float32 (n,).

    `DRAWN` classmates are asked, evenly spread over the class; where it has `FEW` or less, so many of all pictures.
    """
    order = np.argsort(labels, kind="stable")
    begins = np.searchsorted(labels[order], labels[places], "left")
    counts = np.searchsorted(labels[order], labels[places], "right") - begins
    alone = counts <= FEW
    begins[alone], counts[alone] = 0, len(labels)
    at = np.argsort(order)[places] - begins  # each one's own place among its mates
    steps = 1 + np.arange(DRAWN) * np.maximum(1, counts // DRAWN)[:, None]  # (n, DRAWN)
    mates = order[begins[:, None] + (at[:, None] + steps) % counts[:, None]]
    firsts = np.repeat(places, DRAWN)
    plain = Pairs(firsts, mates.reshape(-1), np.zeros(len(firsts), np.bool_), np.zeros(len(firsts), np.float32))
    alike = compared(thumbnail, plain).likeness.reshape(mates.shape)
    alike[steps >= counts[:, None]] = 0.0  # all the way round: itself, and those that were asked already
    return np.asarray(np.sort(alike, axis=1)[:, -2])


def _compared(thumbnail: Callable[[int], Thumbnails], pairs: Pairs, start: int) -> Floats:
    known: dict[int, Floats] = {}

    def detail(index: int) -> Floats:
        if index not in known:
            known[index] = _detail(thumbnail(index))
        return known[index]

    some = slice(start, start + TASK)
    each = zip(pairs.first[some].tolist(), pairs.second[some].tolist(), pairs.mirrored[some].tolist(), strict=True)
    found = [
        correlation(detail(first)[:, ::-1] if mirrored else detail(first), detail(second))
        for first, second, mirrored in each
    ]
    return np.array(found, dtype=np.float32)


def _detail(thumbnail: Thumbnails) -> Floats:
    """Return a thumbnail without its background, float32 (32, 32)."""
    values = thumbnail.astype(np.float32)
    values -= cv2.GaussianBlur(values, (0, 0), FINE)
    return values


def correlation(first: Floats, second: Floats) -> float:
    """Return the greatest normalised correlation of one picture's middle with the other, over scales and places.

    Where what a picture shows lies around its middle, the middle has nothing but what the background's blur has left,
    and that looks the same in all such pictures: they are laid over each other as they are.

    Args:
        first: float32 (32, 32), from `_detail`.
        second: the same.
    """
    if min(map(_share_of_middle, (first, second))) < HOLLOW:
        return _as_they_lie(first, second)
    best = -1.0
    for middle in _middles(np.ascontiguousarray(first)):
        best = max(best, float(cv2.matchTemplate(second, middle, cv2.TM_CCOEFF_NORMED).max()))
    return min(best, 1.0)


def _as_they_lie(first: Floats, second: Floats) -> float:
    """Return the correlation of two pictures laid over each other; 0 where one shows nothing."""
    one, other = first - first.mean(), second - second.mean()
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum() / lengths) if lengths > 0 else 0.0


def _share_of_middle(detail: Floats) -> float:
    """Return how much of a picture's contrast, by its variance, lies in the part that is moved over the other."""
    middle = detail[MARGIN + 2 : -MARGIN - 2, MARGIN + 2 : -MARGIN - 2]
    return float(np.square(middle).sum() / max(float(np.square(detail).sum()), 1e-6))


def _middles(detail: Floats) -> Iterator[Floats]:
    """Yield the middle of a picture at each scale, small enough to be moved by `MARGIN` px within the other."""
    for scale in SCALES:
        side = round(SIDE * scale)
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        scaled = detail if scale == 1 else cv2.resize(detail, (side, side), interpolation=method)
        edge = max(MARGIN, -(-(side - (SIDE - MARGIN - 2)) // 2))
        yield np.ascontiguousarray(scaled[edge : side - edge, edge : side - edge])
