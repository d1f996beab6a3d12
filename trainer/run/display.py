"""What a run shows while it goes on: the base shows nothing. The terminal's is trainer/cli/console.py."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from registry.recording import Sink
from trainer.engine.meters import Meter
from trainer.engine.progress import Progress


class Display(Sink):
    """Takes what a run has to say, and drops it."""

    def log_to(self, file: Path) -> None:
        """Append every line to `file` from now on, and first those that had no file yet."""

    def line(self, text: str) -> None:
        """Show one line."""

    def say(self, text: str) -> None:
        """Show a line that this process alone has to say; where it is the only one, that is any."""
        self.line(text)

    def table(self, rows: Mapping[str, str]) -> None:
        """Show a short two-column table."""

    def plan(self, *, epochs: int, steps_per_epoch: int, images_per_step: float) -> None:
        """Say how much there is to do, so that pulses can tell what is left.

        Args:
            epochs: of the whole run.
            steps_per_epoch: optimizer steps.
            images_per_step: on average.
        """

    def pulse(self, progress: Progress, meter: Meter) -> None:
        """Show where training stands; called often."""

    def sweep(self, step: int, steps: int, lr: float, loss: float) -> None:
        """Show where the LR finder stands."""

    @contextlib.contextmanager
    def bar(self) -> Iterator[None]:
        """Show a bar for the length of the block."""
        yield
