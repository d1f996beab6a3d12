"""Shapes: a data set that is drawn, not downloaded, and knows which pixels belong to the object.

Ten outlines on cluttered ground, small enough to be learnt in a minute and hard enough that only something which
sees form can learn them: place, size, rotation, colour, shading and polarity vary, so a linear model on pixels stays
near chance. Every image follows from (seed, split, index) alone, so any of them can be drawn without the others.
Owns the outlines and the drawing. Knows nothing of models.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray

from registry.catalogue.markers import Bounds
from registry.contracts import DataFacts, FromArgument
from registry.datasets.source import MissingSplit, PackedSource
from registry.splitmix import WEYL, scattered

CHUNK = 128  # images drawn at a time
FINE = 4  # the outline is drawn at this many times the size and averaged down
STROKES = 5  # of clutter per image
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)

Line = NDArray[np.float64]
Floats = NDArray[np.float32]
Words = NDArray[np.uint64]
Indices = NDArray[np.int64]
Contours = tuple[Line, ...]  # closed lines (k, 2); a line inside another cuts a hole


# ------------------------------------------------------------------------------------------------------------- outlines
def _regular(corners: int, radius: float = 1.0) -> Line:
    angle = np.arange(corners) * (2 * math.pi / corners)
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _star() -> Line:
    points = _regular(10)
    points[1::2] *= 0.42
    return points


def _crescent() -> Line:
    outer = np.linspace(0.25 * math.pi, 1.75 * math.pi, 40)
    start = np.array([math.cos(outer[0]), math.sin(outer[0])])
    center = np.array([0.62, 0.0])
    radius = float(np.hypot(*(start - center)))
    first = math.atan2(*(start - center)[::-1])
    inner = np.linspace(2 * math.pi - first, first, 30)[1:-1]
    return np.concatenate(
        [
            np.stack([np.cos(outer), np.sin(outer)], axis=1),
            center + radius * np.stack([np.cos(inner), np.sin(inner)], axis=1),
        ]
    )


def _corners(*points: tuple[float, float]) -> Line:
    return np.array(points, dtype=np.float64)


OUTLINES: dict[str, Contours] = {
    "bar": (_corners((0, 0), (3.4, 0), (3.4, 1), (0, 1)),),
    "corner": (_corners((0, 0), (3, 0), (3, 1), (1, 1), (1, 3), (0, 3)),),
    "crescent": (_crescent(),),
    "cross": (
        _corners((1, 0), (2, 0), (2, 1), (3, 1), (3, 2), (2, 2), (2, 3), (1, 3), (1, 2), (0, 2), (0, 1), (1, 1)),
    ),
    "disc": (_regular(48),),
    "ring": (_regular(48), _regular(48, 0.56)),
    "square": (_regular(4),),
    "star": (_star(),),
    "tee": (_corners((0, 0), (3, 0), (3, 1), (2, 1), (2, 3), (1, 3), (1, 1), (0, 1)),),
    "triangle": (_regular(3),),
}


def _area(line: Line) -> float:
    x, y = line[:, 0], line[:, 1]
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def _unit(contours: Contours) -> Contours:
    """Move an outline's middle to the origin and scale it to area 1, holes taken off."""
    middle = (contours[0].min(axis=0) + contours[0].max(axis=0)) / 2
    size = math.sqrt(_area(contours[0]) - sum(_area(hole) for hole in contours[1:]))
    return tuple((line - middle) / size for line in contours)


UNIT_OUTLINES: tuple[Contours, ...] = tuple(_unit(contours) for contours in OUTLINES.values())


# ---------------------------------------------------------------------------------------------------------------- draws
_STEP = np.uint64(WEYL)


def _keys(seed: int, split: int, indices: Indices) -> Words:
    """Return one 64-bit key per image (n,)."""
    seeds, splits = np.array([seed], dtype=np.uint64), np.array([split], dtype=np.uint64)
    head = scattered(scattered(seeds * _STEP + _STEP) + splits * _STEP)
    return scattered(head + indices.astype(np.uint64) * _STEP)


def _bits(keys: Words, first: int, count: int) -> Words:
    """Return 64-bit draws `first`..`first+count-1` of each key, (n, count)."""
    return scattered(keys[:, None] + np.arange(first + 1, first + count + 1, dtype=np.uint64) * _STEP)


class _Draws:
    """Hands out uniform numbers of a batch of images, column by column."""

    def __init__(self, keys: Words, columns: int) -> None:
        self._numbers = ((_bits(keys, 0, columns) >> np.uint64(40)) * 2.0**-24).astype(np.float32)
        self._next = 0

    def uniform(self, low: float, high: float, columns: int = 1) -> Floats:
        """Return (n, columns) numbers of [low, high)."""
        taken = self._numbers[:, self._next : self._next + columns]
        self._next += columns
        scaled: Floats = low + (high - low) * taken
        return scaled


COLUMNS = 96  # uniform numbers per image, more than are taken; pixel noise starts behind them


# -------------------------------------------------------------------------------------------------------------- dataset
class Shapes(PackedSource):
    """Ten classes of small shapes on cluttered ground, drawn from a seed; needs no file and no download.

    The object covers 8-15 % of the image, turned and placed at random, lighter or darker than what lies behind it.

    Args:
        seed: of all images; another seed is another data set of the same kind.
        train_size: images of the training split.
        val_size: images of the validation split.
        test_size: images of the test split.
        image_size: height and width in pixels.
        split: "train", "val" or "test".
        download: there is nothing to fetch; taken so that all datasets open alike.
    """

    facts = DataFacts(
        splits={"train": 8000, "val": 2000, "test": 2000},
        class_names=tuple(OUTLINES),
        image_size=(32, 32),
        channels=3,
        follows={
            **{f"splits.{name}": FromArgument(f"{name}_size") for name in ("train", "val", "test")},
            "image_size": FromArgument("image_size"),
        },
    )

    def __init__(
        self,
        seed: Annotated[int, Bounds(min=0, below=2**63)] = 0,
        train_size: Annotated[int, Bounds(min=1, max=10_000_000)] = 8000,
        val_size: Annotated[int, Bounds(min=1, max=10_000_000)] = 2000,
        test_size: Annotated[int, Bounds(min=1, max=10_000_000)] = 2000,
        image_size: Annotated[int, Bounds(min=24, max=256)] = 32,
        *,
        split: str,
        download: bool,
    ) -> None:
        del download  # nothing to fetch
        sizes = {"train": train_size, "val": val_size, "test": test_size}
        if split not in sizes:
            raise MissingSplit(f"Shapes has no split {split!r}; it has {', '.join(sizes)}")
        self._seed = seed
        self._split = list(sizes).index(split)
        self._size = image_size
        count = sizes[split]
        images = np.empty((count, image_size, image_size, 3), dtype=np.uint8)
        starts = range(0, count, CHUNK)

        def fill(start: int) -> None:
            indices = np.arange(start, min(start + CHUNK, count))
            images[indices] = self.draw(indices)

        with ThreadPoolExecutor(min(len(starts), os.cpu_count() or 1)) as pool:
            list(pool.map(fill, starts))
        super().__init__(f"Shapes {split}", images, np.arange(count) % len(OUTLINES), tuple(OUTLINES))

    def draw(self, indices: Sequence[int] | Indices) -> NDArray[np.uint8]:
        """Draw some images, whatever else was drawn.

        Args:
            indices: (n,).

        Returns:
            uint8 (n, H, W, 3).
        """
        indices = np.asarray(indices, dtype=np.int64)
        keys = _keys(self._seed, self._split, indices)
        draws = _Draws(keys, COLUMNS)
        cover = self._cover(indices, draws)[..., None]  # (n, H, W, 1)
        ground = _ground(draws, self._size)
        luma = ground.reshape(len(indices), -1, 3).mean(axis=1) @ LUMA  # (n,)
        _clutter(ground, draws)
        color = _object_color(luma, draws)
        shade = 1 + draws.uniform(-0.08, 0.08)[:, :, None, None] * _ramp(draws, self._size)
        picture = ground + cover * (color[:, None, None, :] * shade - ground)
        picture += _noise(keys, self._size) * draws.uniform(2, 9)[:, :, None, None]
        return np.clip(picture, 0, 255).astype(np.uint8)

    def masks(self, indices: Sequence[int] | Indices) -> NDArray[np.bool_]:
        """Say which pixels belong to the object.

        Args:
            indices: (n,).

        Returns:
            bool (n, H, W), true where the object covers at least half of the pixel.
        """
        indices = np.asarray(indices, dtype=np.int64)
        return self._cover(indices, _Draws(_keys(self._seed, self._split, indices), COLUMNS)) >= 0.5

    def _cover(self, indices: Indices, draws: _Draws) -> Floats:
        """Return how much of each pixel the object covers, float32 (n, H, W); takes the draws' first six columns."""
        size = self._size
        area = draws.uniform(0.088, 0.132)[:, 0] * size * size  # the rest of 8..15 % is left to rounding to pixels
        angle = draws.uniform(0, 2 * math.pi)[:, 0]
        stretch = draws.uniform(-0.12, 0.12)[:, 0]
        place = draws.uniform(0, 1, 2)
        cover = np.empty((len(indices), size, size), dtype=np.uint8)
        canvas = np.empty((size * FINE, size * FINE), dtype=np.uint8)
        for row, index in enumerate(indices):
            contours = UNIT_OUTLINES[int(index) % len(UNIT_OUTLINES)]
            cos, sin = math.cos(angle[row]), math.sin(angle[row])
            # stretched along one axis and shrunk along the other (area kept), then turned
            turn = (
                np.array([[cos, sin], [-sin, cos]]) * np.exp([[stretch[row]], [-stretch[row]]]) * math.sqrt(area[row])
            )
            lines = [line @ turn for line in contours]
            low, high = lines[0].min(axis=0), lines[0].max(axis=0)
            shift = 1 - low + place[row] * np.maximum(size - 2 - (high - low), 0)
            # pixel centres of the fine canvas lie at halves; 4 binary digits below the pixel
            points = [np.round(((line + shift) * FINE - 0.5) * 16).astype(np.int32) for line in lines]
            canvas[:] = 0
            cv2.fillPoly(canvas, points, 255, lineType=cv2.LINE_8, shift=4)
            cv2.resize(canvas, (size, size), dst=cover[row], interpolation=cv2.INTER_AREA)
        share: Floats = cover.astype(np.float32) / np.float32(255)
        return share


def _ramp(draws: _Draws, size: int) -> Floats:
    """Return a plane rising from -1 to 1 across the image in a random direction, float32 (n, H, W, 1)."""
    angle = draws.uniform(0, 2 * math.pi)
    axis = np.linspace(-1, 1, size, dtype=np.float32) * np.float32(math.sqrt(0.5))
    plane = np.cos(angle)[:, :, None] * axis[None, None, :] + np.sin(angle)[:, :, None] * axis[None, :, None]
    return np.expand_dims(plane, -1)


def _chroma(draws: _Draws, strength: float) -> Floats:
    """Return a tint that leaves the luma alone, float32 (n, 3)."""
    tint = draws.uniform(-strength, strength, 3)
    tint -= (tint @ LUMA)[:, None]
    return tint


def _ground(draws: _Draws, size: int) -> Floats:
    """Return backgrounds: a tint, a slope and waves, float32 (n, H, W, 3) of about 50..205."""
    base = draws.uniform(75, 180) + _chroma(draws, 55)
    slope = draws.uniform(0, 14) + _chroma(draws, 25)
    waves = draws.uniform(0, 9) + _chroma(draws, 10)
    pitch = draws.uniform(1.5, 6)[:, :, None, None] * math.pi
    phase = pitch * _ramp(draws, size) + draws.uniform(0, 2 * math.pi)[:, :, None, None]
    base, slope, waves = (tint[:, None, None, :] for tint in (base, slope, waves))
    ground = base + slope * _ramp(draws, size) + waves * np.sin(phase)
    return np.ascontiguousarray(ground, dtype=np.float32)


def _clutter(ground: Floats, draws: _Draws) -> None:
    """Draw thin strokes and dots over the backgrounds, in place; none is as large or as marked as an object."""
    size = ground.shape[1]
    unit = size / 32
    ends = draws.uniform(0, size, 2 * STROKES).reshape(-1, STROKES, 2)
    reach = draws.uniform(-6 * unit, 6 * unit, 2 * STROKES).reshape(-1, STROKES, 2)
    light = draws.uniform(-45, 45, STROKES)
    tint = draws.uniform(-30, 30, STROKES)
    kind = draws.uniform(0, 1, STROKES)
    thin = max(1, round(unit))
    for row, picture in enumerate(ground):
        for stroke in range(STROKES):
            x, y = (int(value) for value in ends[row, stroke])
            change = float(light[row, stroke])
            spread = float(tint[row, stroke])
            color = picture[y, x] + np.array([change + spread, change - spread / 2, change], dtype=np.float32)
            paint = tuple(float(value) for value in color)
            if kind[row, stroke] < 0.6:
                far = (x + int(reach[row, stroke, 0]), y + int(reach[row, stroke, 1]))
                cv2.line(picture, (x, y), far, paint, thin)
            else:
                cv2.circle(picture, (x, y), thin, paint, cv2.FILLED)


def _object_color(luma: Floats, draws: _Draws) -> Floats:
    """Return a colour per image that stands off its background in lightness, float32 (n, 3)."""
    gap = draws.uniform(65, 105)[:, 0]
    lighter = draws.uniform(0, 1)[:, 0] < 0.5
    lighter = np.where(luma + gap > 235, False, np.where(luma - gap < 20, True, lighter))
    return (np.where(lighter, luma + gap, luma - gap)[:, None] + _chroma(draws, 45)).astype(np.float32)


def _noise(keys: Words, size: int) -> Floats:
    """Return pixel noise of mean 0 and deviation 1, float32 (n, H, W, 3): the sum of two bytes, scaled."""
    pixels = size * size * 3
    words = _bits(keys, COLUMNS, -(-pixels // 4)).view(np.uint8).reshape(len(keys), -1, 2)[:, :pixels]
    total = words[..., 0].astype(np.float32)
    total += words[..., 1]
    total -= 255
    total /= np.float32(104.5)  # deviation of the sum of two uniform bytes
    return total.reshape(len(keys), size, size, 3)
