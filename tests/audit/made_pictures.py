"""A folder of made pictures with planted copies: exact, mirrored, rescaled, recompressed, moved and more."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

SIDE = 64
NAMES = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay")


def scenes(count: int, seed: int = 0, side: int = SIDE) -> np.ndarray:
    """Return pictures as rich as photos, no two alike: random colours at five scales, uint8 (count, side, side, 3)."""
    draw, made = np.random.default_rng(seed), np.full((count, side, side, 3), 128, np.float32)
    for cells, strength in ((2, 60), (4, 45), (8, 30), (16, 20), (32, 12)):
        for picture in made:
            coarse = draw.normal(0, strength, (cells, cells, 3)).astype(np.float32)
            picture += cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(made, 0, 255).astype(np.uint8)


def write(path: Path, image: np.ndarray, *, quality: int = 95) -> None:
    """Write a picture by its file name's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    how = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix == ".jpg" else []
    assert cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]), how)


def moved(image: np.ndarray, by: int) -> np.ndarray:
    """Return a picture moved to the right and down; what comes in is its edge, repeated."""
    return np.pad(image, ((by, 0), (by, 0), (0, 0)), mode="edge")[: image.shape[0], : image.shape[1]]


# What is planted in test -> how it is made of a training picture.
COPIES = {
    "exact": lambda image: image,
    "mirrored": lambda image: image[:, ::-1],
    "rescaled": lambda image: cv2.resize(image, (96, 96), interpolation=cv2.INTER_CUBIC),
    "squeezed": lambda image: cv2.resize(image, (40, 56), interpolation=cv2.INTER_AREA),
    "moved": lambda image: moved(image, 2),
    "brighter": lambda image: np.clip(image.astype(np.int16) * 1.2 + 20, 0, 255).astype(np.uint8),
    "grey": lambda image: np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, 2),
    "zoomed": lambda image: cv2.resize(image[3:-3, 3:-3], (64, 64), interpolation=cv2.INTER_CUBIC),
}


@dataclass(frozen=True)
class Planted:
    """What lies in the folder.

    Attributes:
        root: the folder.
        leaks: test file -> training file, below `root`'s splits: "test/bar/exact.png" -> "train/bar/000.png".
    """

    root: Path
    leaks: dict[str, str]


def planted(root: Path, *, train: int = 100, test: int = 40) -> Planted:
    """Write ten classes, and into test a copy of a training picture in each of several ways."""
    pictures = scenes(train)
    for number, image in enumerate(pictures):
        write(root / "train" / NAMES[number % 10] / f"{number:03d}.png", image)
    for number, image in enumerate(scenes(test, seed=1)):
        write(root / "test" / NAMES[number % 10] / f"{number:03d}.png", image)
    leaks = {}
    for number, (how, change) in enumerate(COPIES.items()):
        name = f"{NAMES[number]}/{how}.png"
        write(root / "test" / name, change(pictures[number]))
        leaks[f"test/{name}"] = f"train/{NAMES[number]}/{number:03d}.png"
    write(root / "test" / NAMES[8] / "recompressed.jpg", pictures[8], quality=50)
    leaks[f"test/{NAMES[8]}/recompressed.jpg"] = f"train/{NAMES[8]}/008.png"
    return Planted(root, leaks)
