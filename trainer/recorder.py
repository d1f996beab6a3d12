"""The Recorder: everything to look at goes through it, once, to every sink.

Owns the rule that a sink never stops a training: one that raises is switched off with one warning. metrics.jsonl is
written here; TensorBoard and others are components (registry/callbacks), the terminal is trainer/console.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from registry.contracts import Curve, RunInfo, Sink
from trainer.engine.meters import Meter
from trainer.engine.progress import Progress


class Recorder:
    """Passes on what it is told.

    Args:
        sinks: in order.
        log: takes one line.
        pulse: shows where training stands; called after every step.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        log: Callable[[str], None],
        pulse: Callable[[Progress, Meter], None] = lambda *_: None,
    ) -> None:
        self._sinks = list(sinks)
        self._log = log
        self.pulse = pulse

    def open(self, run: RunInfo) -> None:
        """Open every sink."""
        self._each(lambda sink: sink.open(run))

    def epoch(self, epoch: int, row: Mapping[str, float]) -> None:
        """Record the row of a finished epoch."""
        self._each(lambda sink: sink.epoch(epoch, row))

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Record values at an optimizer step."""
        self._each(lambda sink: sink.step(step, values))

    def curve(self, tag: str, curve: Curve) -> None:
        """Record a whole curve."""
        self._each(lambda sink: sink.curve(tag, curve))

    def image(self, tag: str, image: np.ndarray, *, step: int = 0) -> None:
        """Record a picture, uint8 RGB (H, W, 3)."""
        self._each(lambda sink: sink.image(tag, image, step=step))

    def text(self, tag: str, text: str) -> None:
        """Record Markdown text; the tag "log" also goes to the log."""
        if tag == "log":
            self._log(text)
        self._each(lambda sink: sink.text(tag, text))

    def result(self, values: Mapping[str, float]) -> None:
        """Record the run's final numbers."""
        self._each(lambda sink: sink.result(values))

    def close(self) -> None:
        """Close every sink."""
        self._each(lambda sink: sink.close())

    def _each(self, act: Callable[[Sink], None]) -> None:
        for sink in list(self._sinks):
            try:
                act(sink)
            except Exception as error:
                self._sinks.remove(sink)
                self._log(f"warning: {type(sink).__name__} is switched off ({type(error).__name__}: {error})")


class MetricsFile(Sink):
    """metrics.jsonl: one JSON object per epoch, each line written whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self, run: RunInfo) -> None:
        """Drop the rows after the epoch a resumed run continues from."""
        kept = []
        if self._path.exists():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                try:
                    if json.loads(line)["epoch"] <= run.resumed_epoch:
                        kept.append(line)
                except (ValueError, KeyError):
                    continue
        self._path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def epoch(self, epoch: int, row: Mapping[str, float]) -> None:
        """Append the row; numbers that are not finite become null."""
        finite = {key: value if math.isfinite(value) else None for key, value in row.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**finite, "epoch": epoch}) + "\n")
