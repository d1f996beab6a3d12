"""What is recorded of a run, and where it goes: curves, the Recorder's face, and sinks.

Imports torch and numpy for type checking only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Curve:
    """A line to look at.

    Attributes:
        xs: abscissae.
        ys: ordinates, as many.
        x_label: what xs are, with unit.
        y_label: what ys are, with unit.
        x_log: draw the abscissa logarithmically.
    """

    xs: Sequence[float]
    ys: Sequence[float]
    x_label: str
    y_label: str
    x_log: bool = False


@dataclass(frozen=True)
class RunInfo:
    """What a sink may know of the run it records.

    Attributes:
        name: the recipe's name.
        folder: the run folder.
        epochs: epochs planned.
        hparams: flat recipe values that make the run what it is, "optimizer.lr" -> 0.1, what is looked for first first.
        resumed_epoch: last whole epoch already recorded; 0 in a fresh run.
        resumed_step: optimizer steps already recorded; 0 in a fresh run.
        history: rows of the epochs up to `resumed_epoch`, for a sink that was not there to take them.
    """

    name: str
    folder: Path
    epochs: int
    hparams: Mapping[str, bool | int | float | str]
    resumed_epoch: int = 0
    resumed_step: int = 0
    history: Sequence[Mapping[str, float]] = ()


class Sink:
    """Something that keeps or shows what the Recorder is told; the base ignores everything.

    Tags are "train/loss", "val/accuracy", "lr", "lr_finder/loss", "gradcam/...". A sink never raises into training: the
    recorder switches off one that does, with one warning.
    """

    def open(self, run: RunInfo) -> None:
        """Start; on a resumed run drop what was recorded after `run.resumed_epoch` and `run.resumed_step`."""

    def epoch(self, epoch: int, row: Mapping[str, float]) -> None:
        """Take the row of a finished epoch, counted from 1: lr, seconds, train/loss, val/accuracy, ..."""

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Take values at optimizer step `step`, at the log interval only."""

    def curve(self, tag: str, curve: Curve) -> None:
        """Take a whole curve."""

    def image(self, tag: str, image: np.ndarray, *, step: int = 0) -> None:
        """Take a picture, uint8 RGB (H, W, 3)."""

    def text(self, tag: str, text: str) -> None:
        """Take Markdown text."""

    def histogram(self, tag: str, values: np.ndarray, *, step: int) -> None:
        """Take numbers whose distribution is of interest, at an epoch; "gradients/..." at an optimizer step."""

    def predictions(self, probabilities: np.ndarray, targets: np.ndarray, class_names: Sequence[str]) -> None:
        """Take the best weights' answers, float (N, C), to images of the classes `targets`, int64 (N,)."""

    def result(self, values: Mapping[str, float]) -> None:
        """Take the run's final numbers, once, at the end."""

    def flush(self) -> None:
        """Bring what was taken to the disk: a checkpoint, or the end of the run, is about to be written."""

    def close(self) -> None:
        """Write everything and let go."""


class Recorder(Protocol):
    """Where callbacks and report parts send what people should see; passes it on to every sink."""

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Record values at optimizer step `step`."""

    def curve(self, tag: str, curve: Curve) -> None:
        """Record a whole curve."""

    def image(self, tag: str, image: np.ndarray, *, step: int = 0) -> None:
        """Record a picture, uint8 RGB (H, W, 3)."""

    def text(self, tag: str, text: str) -> None:
        """Record Markdown text."""

    def histogram(self, tag: str, values: np.ndarray, *, step: int) -> None:
        """Record numbers whose distribution is of interest, at epoch `step`."""

    def predictions(self, probabilities: np.ndarray, targets: np.ndarray, class_names: Sequence[str]) -> None:
        """Record the best weights' answers, float (N, C), to images of the classes `targets`, int64 (N,)."""
