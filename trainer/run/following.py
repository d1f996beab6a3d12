"""Following: what a process has in place of folder and display where another one of the run writes and speaks.

Its own file, log-rank<N>.txt in the run's folder, begins with the first line that only this process has to say.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from registry import files
from registry.printing import harmless, printable
from trainer.run.display import Display
from trainer.run.folder import RunFolder


class FollowedFolder(RunFolder):
    """The run folder of a process that only reads in it."""

    def write_text(self, name: str, text: str) -> None:
        """Leave it to the process that writes; write_json and write_finding come here, too."""

    @contextlib.contextmanager
    def locked(self) -> Iterator[RunFolder]:
        """Go without the lock, which the process that writes holds."""
        yield self

    def clear_leftovers(self) -> None:
        """Leave it to the process that writes."""

    def discard(self) -> None:
        """Leave it to the process that writes."""


class RankLog(Display):
    """Drops what the first process says, too, and writes down what only this one does.

    Args:
        rank: number of this process.
    """

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._file: Path | None = None

    def log_to(self, file: Path) -> None:
        """Write beside `file` from now on."""
        self._file = file.with_name(f"log-rank{self._rank}.txt")

    def say(self, text: str) -> None:
        """Write a line into this process's log, or on the terminal where the run's folder is not to be reached."""
        text = harmless(text)
        try:
            if self._file is None:
                raise FileNotFoundError
            with files.append(self._file, below=self._file.parent) as log:
                log.write(printable(f"{time.strftime('%H:%M:%S')} {text}\n").encode())
        except OSError:
            print(f"process {self._rank}: {text}", file=sys.stderr)
