"""The Recorder: everything to look at goes through it, once, to every sink.

Owns the rule that a sink never stops a training: one that raises is switched off with one warning. metrics.jsonl is
written here; TensorBoard and others are components (registry/callbacks), the terminal is trainer/cli/console.py.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from registry import files
from registry.printing import one_line, printable
from registry.recording import Curve, RunInfo, Sink
from trainer.engine.chain import Chain, plain
from trainer.engine.meters import Meter
from trainer.engine.progress import Progress

LOGGED = ("log", "model", "profile")  # tags of texts: lines, and the tables of ModelSummary and Profiler


class Recorder:
    """Passes on what it is told, every text printable.

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
        self._each(lambda sink: sink.curve(printable(tag), curve))

    def image(self, tag: str, image: np.ndarray, *, step: int = 0) -> None:
        """Record a picture, uint8 RGB (H, W, 3)."""
        self._each(lambda sink: sink.image(printable(tag), image, step=step))

    def text(self, tag: str, text: str) -> None:
        """Record Markdown text; what is meant for the log also goes there."""
        if tag in LOGGED:
            self._log(text)
        self._each(lambda sink: sink.text(printable(tag), printable(text)))

    def histogram(self, tag: str, values: np.ndarray, *, step: int) -> None:
        """Record numbers whose distribution is of interest, at epoch `step`."""
        self._each(lambda sink: sink.histogram(printable(tag), values, step=step))

    def predictions(self, probabilities: np.ndarray, targets: np.ndarray, class_names: Sequence[str]) -> None:
        """Record the best weights' answers."""
        names = [one_line(name) for name in class_names]
        self._each(lambda sink: sink.predictions(probabilities, targets, names))

    def result(self, values: Mapping[str, float]) -> None:
        """Record the run's final numbers."""
        self._each(lambda sink: sink.result(values))

    def flush(self) -> None:
        """Bring everything to the disk: what a checkpoint has behind it is not recorded again after a resume."""
        self._each(lambda sink: sink.flush())

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
    """metrics.jsonl: one JSON object per epoch, each line written whole.

    A row that could not be written is kept and written with the next one; the file is given up only when the run ends.

    Args:
        path: the file.
        log: takes one line.
        history: rows of the epochs that a resumed run has behind it; they replace what the file holds.
        chain: what each line ends with; None for no more than the numbers.
    """

    def __init__(
        self,
        path: Path,
        log: Callable[[str], None] = lambda _: None,
        history: Sequence[Mapping[str, float]] = (),
        chain: Chain | None = None,
    ) -> None:
        self._path, self._log = path, log
        self._chain = chain or Chain()
        self._lines = [self._line(int(row["epoch"]), row) for row in history]
        self._written = 0  # of `_lines`
        self._warned = False

    def open(self, run: RunInfo) -> None:  # noqa: ARG002  (the history says where a resumed run stands)
        """Begin with the rows before the epoch that a resumed run continues from."""
        files.write(self._path, "".join(self._lines).encode(), below=self._path.parent)
        self._written = len(self._lines)

    def epoch(self, epoch: int, row: Mapping[str, float]) -> None:
        """Append the row; numbers that are not finite become null."""
        self._lines.append(self._line(epoch, row))
        try:
            self._catch_up()
        except OSError as error:
            if not self._warned:
                self._log(f"warning: {self._path} cannot be written ({error.strerror or error}); trying again later")
            self._warned = True

    def close(self) -> None:
        """Write what is left.

        Raises:
            OSError: it still cannot be written.
        """
        self._catch_up()

    def _catch_up(self) -> None:
        """Append the lines that are missing, all or none of them."""
        if self._written == len(self._lines):
            return
        data = "".join(self._lines[self._written :]).encode()
        with files.append(self._path, below=self._path.parent) as file:
            before = file.tell()
            try:
                written = file.write(data)
                if written != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
            except OSError:
                file.truncate(before)
                raise
        self._written = len(self._lines)

    def _line(self, epoch: int, row: Mapping[str, float]) -> str:
        return json.dumps({**plain(epoch, row), **self._chain.at(epoch)}) + "\n"
