"""The bounded queue: how many requests are inside, and when those that find it full should come back.

A request has a place from before its body is read until it is answered, so what all of them together hold in memory is
bounded, too. For one thread, that of the event loop.
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


class Gate:
    """Counts what is inside.

    Args:
        limits: of it.

    Attributes:
        inside: requests that are read or answered.
        held: bytes they may have, or have.
        stopping: nobody is let in any more but who has come already.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._left: deque[float] = deque(maxlen=_REMEMBERED)
        self.inside = self.held = 0
        self.stopping = False

    @contextmanager
    def place(self, size: int) -> Iterator[None]:
        """Have a place for the length of the block.

        Args:
            size: bytes of the request, the most where it does not tell.

        Raises:
            Full: there is none.
        """
        if self.inside >= self._limits.waiting or (self.inside and self.held + size > self._limits.held):
            raise Full(self._seconds())
        self.inside, self.held = self.inside + 1, self.held + size
        try:
            yield
        finally:
            self.inside, self.held = self.inside - 1, self.held - size
            self._left.append(time.monotonic())

    def _seconds(self) -> int:
        """Return after how many seconds those inside now will be answered, by the pace of the last ones."""
        if len(self._left) < 2:
            return 1
        pace = (time.monotonic() - self._left[0]) / len(self._left)  # seconds per request
        return min(max(1, math.ceil(self.inside * pace)), _LONGEST)
