"""Runs to compare, made up: only what a test is about is given."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer.comparison.runs import Images, Run

IMAGES = Images(("cat", "dog"), (8, 8), {"train": {"used": "t", "pixels": "t"}, "val": {"used": "v", "pixels": "v"}})
_BASE = Run(
    folder=Path("runs/tiny/0"),
    recipe="tiny",
    seed=1,
    settings={"data.augment": [], "optimizer.type": "SGD", "train.epochs": 8},
    defaults={"optimizer.weight_decay": 0, "optimizer.momentum": 0.0},
    metric=("val/accuracy", "max"),
    directions={"val_accuracy": "max", "test_accuracy": "max", "val_loss": "min"},
    epochs=8,
    history=(),
    summary={"status": "completed"},
    images=IMAGES,
)


def run(name: str, accuracy: float, settings: Mapping[str, Any] | None = None, /, **others: Any) -> Run:
    """Return a finished run in runs/tiny/`name` whose best epoch reached `accuracy` on val."""
    row = {"epoch": 8, "val/accuracy": accuracy, "val/loss": 1 - accuracy}
    summary = {**_BASE.summary, "best": row, "final": row, **others.pop("summary", {})}
    made = replace(_BASE, folder=Path("runs/tiny") / name, settings={**_BASE.settings, **(settings or {})})
    return replace(made, summary=summary, history=(row,) * 8, **others)
