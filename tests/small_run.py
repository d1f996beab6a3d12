"""A run on a few small pictures of two classes, for whoever needs a network that has been trained."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

SIDE = 16  # px: of what the network is given
CLASSES = ("blue", "red")
RECIPE = """\
version: 1
name: small
data:
  dataset: {type: ImageFolder, root: pets}
  val: {fraction: 0.25}
  batch_size: 8
  augment: [{type: CenterCrop, height: 16, width: 16}]
  eval: [{type: CenterCrop, height: 16, width: 16}]
  preprocess: [{type: Normalize, mean: 0.5, std: 0.25}]
model: {type: SmallCNN, width: 4}
optimizer: {type: SGD, lr: 0.1, momentum: 0.9}
train: {epochs: 6, device: cpu, precision: fp32}
report: []
callbacks: []
"""


def picture(name: str, seed: int, height: int = 20, width: int = 24) -> np.ndarray:
    """Return a picture of a class, RGB uint8 (H, W, 3): noise that is bluer or redder."""
    noise = np.random.default_rng([seed, len(name)]).integers(0, 120, (height, width, 3))
    noise[..., 2 if name == "blue" else 0] += 130
    return noise.astype(np.uint8)


def put(path: Path, image: np.ndarray) -> Path:
    """Write a picture, RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])
    return path


def content(image: np.ndarray, ending: str = ".png") -> bytes:
    """Return a picture's file."""
    return cv2.imencode(ending, image[..., ::-1])[1].tobytes()


def train_small(folder: Path, *overrides: str) -> Path:
    """Train on pictures of many sizes in `folder`; return the run's folder."""
    import trainer

    for name in CLASSES:
        for index in range(12):
            put(folder / "pets" / name / f"{index:02}.png", picture(name, index, 16 + index, 24))
    (folder / "small.yaml").write_text(RECIPE)
    root = f"data.dataset.root={folder / 'pets'}"
    return trainer.train(folder / "small.yaml", root, *overrides, runs=folder / "runs").folder.path
