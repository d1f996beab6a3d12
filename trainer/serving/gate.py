"""The bounded queue: how many requests are inside, and when those that find it full should come back.

A request has a place from when it has arrived whole until it is answered: one that is sent slowly, or only in part,
keeps nobody out. Its bytes count from when they come, so what all of them together hold in memory is bounded, too. For
one thread, that of the event loop.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from trainer.serving.limits import Limits

_REMEMBERED = 64  # answers by which the pace is told
_LONGEST = 60  # seconds that anybody is sent away for


class Full(Exception):
    """There is no room now.

    Args:
        seconds: after which there may be, a whole number of 1 or more.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(f"come back in {seconds} s")
        self.seconds = seconds


class Visit:
    """A request between its first byte and its answer.

    Attributes:
        size: bytes of it that have come.
        placed: whether it has a place.
    """

    def __init__(self, gate: Gate, limits: Limits) -> None:
        self._gate, self._limits = gate, limits
        self.size, self.placed = 0, False

    def take(self, size: int) -> None:
        """Hold `size` bytes more.

        Raises:
            Full: with those of others they are too many.
        """
        others = self._gate.held - self.size
        if others and self._gate.held + size > self._limits.held:
            raise Full(self._gate.seconds())
        self._gate.held, self.size = self._gate.held + size, self.size + size

    def enter(self) -> None:
        """Have a place.

        Raises:
            Full: there is none.
        """
        if self._gate.inside >= self._limits.waiting:
            raise Full(self._gate.seconds())
        self._gate.inside, self.placed = self._gate.inside + 1, True


class Gate:
    """Counts what is inside.

    Args:
        limits: of it.

    Attributes:
        inside: requests that have a place: they wait for an answer.
        held: bytes that they and those on their way have.
        stopping: nobody is let in any more but who has come already.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._left: deque[float] = deque(maxlen=_REMEMBERED)
        self.inside = self.held = 0
        self.stopping = False

    @contextmanager
    def visit(self) -> Iterator[Visit]:
        """Let a request come, for the length of the block.

        Raises:
            Full: all places are taken, so its body need not be read.
        """
        if self.inside >= self._limits.waiting:
            raise Full(self.seconds())
        visit = Visit(self, self._limits)
        try:
            yield visit
        finally:
            self.held -= visit.size
            if visit.placed:
                self.inside -= 1
                self._left.append(time.monotonic())

    def seconds(self) -> int:
        """Return after how many seconds those inside now will be answered, by the pace of the last ones."""
        if len(self._left) < 2:
            return 1
        pace = (time.monotonic() - self._left[0]) / len(self._left)  # seconds per request
        return min(max(1, math.ceil(self.inside * pace)), _LONGEST)
