"""Signals: at SIGINT, SIGTERM and SIGHUP training stops after its step and is saved, other work where it stands.

During training the first signal waits for the step in hand, which then is saved. While data are read, the learning rate
is searched or the report is written nothing would be lost, so there the signal acts at once. A second SIGINT ends the
process, anywhere. A signal that the process was started to ignore (`nohup`, a job in the background) stays ignored.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interrupted(Exception):
    """Work stopped because a signal asked for it; what was trained is saved.

    Args:
        signum: the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP."""
        return 128 + self.signum


class Paused(Exception):
    """Training left because a callback asked to; what was trained is saved, and a resume goes on exactly.

    Args:
        reason: in words.
    """


class Interrupts:
    """Remembers that a signal came, or that somebody asked to pause.

    Attributes:
        signum: the signal that came; None so far.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._pause = ""
        self._at_once = False

    def pause(self, reason: str) -> None:
        """Have the next check leave."""
        self._pause = reason

    def check(self) -> None:
        """Raise `Interrupted` if a signal came, `Paused` if asked to; to be called between two pieces of work."""
        self._raise_own()

    def _raise_own(self) -> None:
        """Raise `Interrupted` if a signal came to this process, `Paused` if somebody asked to pause."""
        if self.signum is not None:
            raise Interrupted(self.signum)
        if self._pause:
            raise Paused(self._pause)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal stop the block wherever it stands; for work that leaves nothing half done.

        Raises:
            Interrupted: a signal came, before the block or in it.
        """
        self._raise_own()
        self._at_once = True
        try:
            yield
        except KeyboardInterrupt:
            self._raise_own()
            raise
        finally:
            self._at_once = False

    @contextmanager
    def listening(self) -> Iterator[Interrupts]:
        """Take the signals over for the length of the block; only the main thread can, others go without."""
        before = {}
        for signum in SIGNALS:
            if signal.getsignal(signum) is signal.SIG_IGN:
                continue
            try:
                before[signum] = signal.signal(signum, self._receive)
            except ValueError:
                break
        try:
            yield self
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def _receive(self, signum: int, _frame: FrameType | None) -> None:
        if self.signum is not None and signum == signal.SIGINT:
            os._exit(128 + signum)  # files are only ever renamed into place, so the last checkpoint is whole
        self.signum = signum
        if self._at_once:
            raise KeyboardInterrupt  # which no `except Exception` on the way takes for a fault
