"""Evidence of runs that never were: small networks, drawn images, whatever a test wants to be odd."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from registry.contracts import Evidence, LRFinding, Predictions, UsedData, UsedPart

RECIPE = """version: 1
name: made
data: {dataset: Shapes, batch_size: 64}
model: {type: small, width: 8}
optimizer: {type: SGD, lr: $lr_finder.lr}
train: {epochs: 6}
"""
RESOLVED = {
    "version": 1,
    "name": "made",
    "data": {
        "dataset": {"type": "Shapes", "seed": 0},
        "batch_size": 64,
        "augment": [{"type": "HorizontalFlip", "p": 0.5}],
    },
    "model": {"type": "small", "width": 8},
    "optimizer": {"type": "SGD", "lr": 0.015, "momentum": 0.9},
    "train": {"epochs": 6, "best": {"metric": "val/accuracy", "mode": "max"}},
}
ENVIRONMENT = {
    "python": "3.11.9",
    "packages": {"torch": "2.15.0", "numpy": "2.3.0"},
    "hardware": {"cpu": "a processor with 2 cores", "memory": "23 GiB"},
    "command": ["python", "-m", "trainer", "recipes/made.yaml"],
    "overrides": ["train.epochs=6"],
}


class SmallNet(nn.Module):
    """Three convolutions with in-place ReLUs, a pool between each, a linear head; accepts any number of channels."""

    def __init__(self, classes: int, channels: int = 3, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True))
        self.middle = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(inplace=True))
        self.last = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.ReLU(inplace=True))
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.last(self.middle(self.stem(x))).mean(dim=(2, 3)))


@dataclass
class MadeImages:
    """Images in memory; `shown` makes RGB of whatever they are."""

    stored: np.ndarray
    object_masks: np.ndarray | None = None
    names: list[str] | None = None

    def raw(self, positions):
        return [self.stored[p] for p in positions]

    def shown(self, positions):
        picked = self.stored[list(positions)]
        return np.repeat(picked, 3, axis=3) if picked.shape[3] == 1 else picked[:, :, :, :3]

    def prepared(self, positions):
        return torch.from_numpy(self.stored[list(positions)]).permute(0, 3, 1, 2).float().div(255).sub(0.5)

    def files(self, positions):
        return ["" if self.names is None else self.names[p] for p in positions]

    def masks(self, positions):
        return None if self.object_masks is None else self.object_masks[list(positions)]


@dataclass
class Recording:
    """Keeps what parts send to the dashboards."""

    images: dict[str, np.ndarray] = field(default_factory=dict)

    def step(self, step, values):
        pass

    def curve(self, tag, curve):
        pass

    def image(self, tag, image, *, step=0):
        assert image.dtype == np.uint8
        assert image.ndim == 3
        self.images[tag] = image

    def text(self, tag, text):
        pass

    def histogram(self, tag, values, *, step):
        pass

    def predictions(self, probabilities, targets, class_names):
        assert probabilities.shape == (len(targets), len(class_names))


def spots(count: int, size: int = 24, channels: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy images with one bright disc each, and the discs' masks."""
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 90, (count, size, size, channels), dtype=np.uint8)
    grid = np.mgrid[:size, :size]
    centres = draw.uniform(size * 0.25, size * 0.75, (count, 2, 1, 1))
    masks = ((grid[None] - centres) ** 2).sum(1) < (size * 0.18) ** 2
    images[masks] = draw.integers(150, 255, (int(masks.sum()), channels), dtype=np.uint8)
    return images, masks


def finding(status: str = "found") -> LRFinding:
    """Return a sweep with a clear minimum."""
    lrs = np.geomspace(1e-5, 1.0, 60)
    smoothed = 2.3 - 1.5 / (1 + (3e-3 / lrs)) + 6 * np.maximum(0, np.log10(lrs) + 0.8) ** 2
    losses = smoothed + np.random.default_rng(1).normal(0, 0.06, 60)
    picks = {"minimum": 0.15, "steepest": 0.003, "valley": 0.01, "minimum_over_10": 0.015}
    found = status != "inconclusive"
    return LRFinding(
        tuple(lrs), tuple(losses), tuple(smoothed), picks, "minimum_over_10", 0.015 if found else None,
        0.9 if found else None, status, "" if found else "no descent: widen start and end", "end", 4.2,
    )  # fmt: skip


def history(epochs: int) -> list[dict[str, float]]:
    """Return a training that learns, with one drop of the learning rate."""
    return [
        {
            "epoch": e,
            "lr": 0.015 if e < epochs * 0.6 else 0.0015,
            "seconds": 2.5,
            "train/loss": 2.3 * 0.75**e,
            "train/accuracy": 1 - 0.8 * 0.7**e,
            "val/loss": 2.2 * 0.78**e + 0.1,
            "val/accuracy": 0.95 - 0.7 * 0.7**e,
        }
        for e in range(1, epochs + 1)
    ]


def made_evidence(
    folder: Path,
    *,
    classes: int = 4,
    epochs: int = 6,
    count: int = 60,
    size: int = 24,
    channels: int = 3,
    right: float = 0.7,
    **changes: Any,
) -> Evidence:
    """Return evidence of an unremarkable run; other keywords replace fields, `right` is the share of right answers."""
    torch.manual_seed(0)
    stored, masks = spots(count, size, channels)
    draw = np.random.default_rng(2)
    targets = draw.integers(0, classes, count)
    logits = draw.normal(0, 1, (count, classes)).astype(np.float32)
    predicted = np.where(draw.random(count) < right, targets, (targets + 1) % classes)
    logits[np.arange(count), predicted] += 6
    rows = history(epochs)
    accuracy = float((logits.argmax(1) == targets).mean())
    predictions = Predictions(np.arange(count) + 1000, targets, logits, 0.5, {"accuracy": accuracy})
    fields: dict[str, Any] = {
        "folder": folder,
        "name": "made",
        "description": "A run that never was.",
        "recipe": RECIPE,
        "resolved": RESOLVED,
        "class_names": tuple(f"class {i}" for i in range(classes)),
        "split": "val",
        "selected_on": "val",
        "history": rows,
        "best": rows[-2] if len(rows) > 1 else rows[-1] if rows else None,
        "summary": {"status": "completed"},
        "environment": ENVIRONMENT,
        "finding": finding(),
        "model": SmallNet(classes, channels).eval(),
        "predictions": predictions if rows else None,
        "images": MadeImages(stored, masks),
        "train_samples": np.repeat(stored[:6], 3, axis=3) if channels == 1 else stored[:6, :, :, :3],
        "augmented": lambda k: np.roll(stored[:6, :, ::-1, :3], k, axis=1),
        "warnings": (),
        "recorder": Recording(),
        "parameters": 1234,
    }
    fields["folder"].mkdir(parents=True, exist_ok=True)
    return Evidence(**{**fields, **changes})


def with_data(evidence: Evidence, *, val: tuple[int, ...] | None = None, **changes: Any) -> Evidence:
    """Return evidence that tells its data, too: 40 training images of each class and, unless said, 15 of validation."""
    classes = len(evidence.class_names)
    parts = (UsedPart("train", (40,) * classes), UsedPart("val", val or (15,) * classes))
    drawn = ("Validation: 10 % of the dataset's training images, drawn with seed 0, every class in its share.",)
    told = {"dataset": "Shapes", "place": "", "pixels": "RGB, 24 x 24 px", "parts": parts, "drawn": drawn}
    shown = min(classes, len(evidence.train_samples))
    return replace(
        evidence,
        data=UsedData(**{**told, **changes}),
        train_samples=evidence.train_samples[:shown],
        sample_classes=tuple(range(shown)),
        sample_files=("",) * shown,
    )
