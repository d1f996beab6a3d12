"""Pictures of many requests, answered together by one thread.

Nobody waits for a batch to fill: while the network is busy with one, pictures gather for the next. So a picture that
comes alone is answered at once, and many that come together cost little more than one.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from trainer.run.loading import DECODED_AT_ONCE

Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class _Waiting(Generic[Given, Made]):
    """One piece of work.

    Attributes:
        given: what is to be answered.
        size: what it costs in memory, in pixels.
        made: the answer to come.
    """

    given: Given
    size: int
    made: Future[Made] = field(default_factory=Future)


class Batcher(Generic[Given, Made]):
    """A thread that answers whatever waits, several at a time.

    Args:
        answer: returns an answer to each of several pieces of work, in order.
        most: pieces at a time.
        told: of the length of every batch.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Given]], Sequence[Made]],
        most: int,
        told: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._answer, self._most, self._told = answer, most, told
        self._queue: deque[_Waiting[Given, Made]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="answers pictures", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many pieces wait for their batch."""
        return len(self._queue)

    def submit(self, given: Given, size: int) -> Future[Made]:
        """Have a piece answered; `size` is what it costs in memory, in pixels."""
        piece: _Waiting[Given, Made] = _Waiting(given, size)
        with self._changed:
            assert not self._closing, "the server takes nothing any more"
            self._queue.append(piece)
            self._changed.notify()
        return piece.made

    def close(self) -> None:
        """Answer what waits, then end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next():
            self._told(len(batch))
            try:
                made = self._answer([piece.given for piece in batch])
            except Exception as error:  # whoever asked is told; the next batch may be another matter
                for piece in batch:
                    piece.made.set_exception(error)
                continue
            for piece, one in zip(batch, made, strict=True):
                piece.made.set_result(one)

    def _next(self) -> list[_Waiting[Given, Made]]:
        """Return the next batch, waiting for it; [] at the end."""
        batch: list[_Waiting[Given, Made]] = []
        size = 0
        with self._changed:
            while not batch:
                self._changed.wait_for(lambda: self._queue or self._closing)
                if not self._queue:
                    break
                while self._queue and len(batch) < self._most:
                    size += self._queue[0].size
                    if batch and size > DECODED_AT_ONCE:
                        break
                    piece = self._queue.popleft()
                    if piece.made.set_running_or_notify_cancel():  # else whoever asked is gone
                        batch.append(piece)
        return batch
