"""Data-loading workers: processes that read images ahead of the training, for data that do not lie in memory.

    parent                                    worker (one thread, signals ignored, ends with its parent)
    pickled source               -- pipe ->   keeps it, once
    pickled transforms           -- pipe ->   keeps them, once an epoch
    ((index, keys), ...)         -- pipe ->   decodes each and transforms it
    shapes, pixels               <- pipe --   or says which image failed and why

Batches go to the workers in turn and come back in the same order, `AHEAD` of them per worker under way. A thread of the
parent stands at each pipe and takes requests there and answers back one after the other: so neither side waits to send
while the other does, however large they are, and what cannot be sent keeps nobody from noticing. A worker that dies or
stands still is an error that names the image it was at. Owns processes and pipes. Does not choose order or transforms;
does not import torch, so that a worker starts in a fraction of a second.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import pickle
import queue
import signal
import sys
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from registry.contracts import ImageSource
from registry.errors import DataError
from trainer.data.reading import Keys, Pixels, Reading, Reads, with_keys
from trainer.data.singly import Singly

AHEAD = 2  # batches under way per worker
PATIENCE = 120.0  # seconds a worker may spend on one image, or on taking a request or giving an answer
STARTING = 120.0  # seconds it may take to start

BETWEEN, NOT_YET = -1, -2  # where a worker is that is at no image


# -------------------------------------------------------------------------------------------------------------- workers
@dataclass(frozen=True)
class _Worker:
    """A process and the queues of the thread at its pipe.

    Attributes:
        process: that reads.
        at: the index being decoded, a shared int64; `BETWEEN` batches; `NOT_YET` before it is ready.
        asked: pickled source and transforms, which have no answer, and requests; None to end.
        answers: one per request: its images, or why there are none; None at last, when the process is gone.
    """

    process: BaseProcess
    at: Any
    asked: queue.SimpleQueue[Any]
    answers: queue.SimpleQueue[Pixels | Exception | None]


class Readers:
    """Persistent worker processes that decode batches of a source.

    Args:
        source: what they read; must be picklable.
        workers: processes.
        patience: seconds a worker may spend on one image, or on taking a request or giving an answer.

    Raises:
        DataError: the source cannot be handed to another process.
    """

    def __init__(self, source: ImageSource, workers: int, patience: float = PATIENCE) -> None:
        self._source = source
        self._patience = patience
        try:
            content = pickle.dumps(source)
        except Exception as error:  # pickling runs the source's own code
            raise DataError(
                f"{type(source).__name__} cannot be handed to worker processes: {error}", "data.workers: 0 does without"
            ) from error
        self._workers = [_start(content) for _ in range(workers)]
        self._under_way: deque[_Worker] = deque()
        self._calls = 0
        self.close = weakref.finalize(self, _close, tuple(self._workers))

    def batches(
        self,
        asked: Iterable[Sequence[int]],
        transforms: Sequence[Singly] = (),
        keys: Iterable[Sequence[Keys]] | None = None,
        *,
        reduces: bool = False,
    ) -> Iterator[Pixels]:
        """Yield the images of each batch asked for, in that order.

        Leaving off in the middle is allowed: the next call throws away what is under way, and who goes on with the call
        before it is told so.

        Args:
            asked: indices, batch by batch.
            transforms: applied to each image, in order; must travel.
            keys: for each batch, the keys of each image, one per transform; None where there is no transform.
            reduces: decode no more of a picture than what the transforms keep.

        Raises:
            DataError: an image is unreadable or suits no transform, or a worker died or stands still; named by image.
            RuntimeError: another call has begun meanwhile.
        """
        self._calls += 1
        call = self._calls
        while self._under_way:
            with contextlib.suppress(DataError):
                self._answer(self._under_way.popleft())
        content = pickle.dumps((list(transforms), reduces))
        for worker in self._workers:
            worker.asked.put(content)
        waiting = with_keys(asked, keys)
        for _ in range(AHEAD):
            for worker in self._workers:
                self._ask(worker, waiting)
        while self._under_way:
            worker = self._under_way.popleft()
            pixels = self._answer(worker)
            self._ask(worker, waiting)
            yield pixels
            if call != self._calls:
                raise RuntimeError("other batches were asked for meanwhile, which threw away those of this call")

    def _ask(self, worker: _Worker, waiting: Iterator[list[tuple[int, Keys]]]) -> None:
        images = next(waiting, None)
        if images is not None:
            worker.asked.put(images)
            self._under_way.append(worker)

    def _answer(self, worker: _Worker) -> Pixels:
        seen, since = worker.at.value, time.monotonic()
        while True:
            try:
                answer = worker.answers.get(timeout=1.0)
                break
            except queue.Empty:
                pass
            if worker.at.value != seen:
                seen, since = worker.at.value, time.monotonic()
            elif time.monotonic() - since > (limit := STARTING if seen == NOT_YET else self._patience):
                raise DataError(f"a process that reads images has stood still for {limit:g} s{self._where(worker)}")
        if answer is None:
            worker.answers.put(None)  # for whoever asks next
            raise self._died(worker)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _died(self, worker: _Worker) -> DataError:
        worker.process.join(1.0)
        return DataError(
            f"a process that reads images died{self._where(worker)} (exit code {worker.process.exitcode})",
            "it may have run out of memory: try fewer data.workers, or 0",
        )

    def _where(self, worker: _Worker) -> str:
        index = worker.at.value
        return f" at image {index}, {self._source.describe(index)}" if index >= 0 else ""


def _start(content: bytes) -> _Worker:
    """Start a worker and the thread at its pipe.

    Args:
        content: the pickled source. It follows through the pipe: among the arguments of a process that dies while it
            starts, more than the operating system's buffer holds would never be sent, and the parent wait for ever.
    """
    # spawn: a fork would copy locks that threads of the parent hold
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    at = context.RawValue(ctypes.c_int64, NOT_YET)
    process = context.Process(target=_work, args=(theirs, at), daemon=True)
    process.start()
    theirs.close()
    worker = _Worker(process, at, queue.SimpleQueue(), queue.SimpleQueue())
    worker.asked.put(content)
    threading.Thread(
        target=_carry, args=(ours, worker.asked, worker.answers), name="carrier of images", daemon=True
    ).start()
    return worker


def _carry(
    pipe: Connection, asked: queue.SimpleQueue[Any], answers: queue.SimpleQueue[Pixels | Exception | None]
) -> None:
    """Take what is asked to a worker, and its answer back, in turn until the end of either."""
    try:
        with pipe:
            while (message := asked.get()) is not None:
                pipe.send(message)
                if not isinstance(message, bytes):
                    answers.put(_receive(pipe))
    except (EOFError, OSError):  # it died; said when its answer is missed
        pass
    except Exception as error:  # out of memory, say: raised where the images are wanted
        answers.put(error)
    answers.put(None)


def _receive(pipe: Connection) -> Pixels | DataError:
    shapes = pipe.recv()
    if isinstance(shapes, DataError):
        return shapes
    sizes = [int(np.prod(shape)) for shape in shapes]
    buffer = bytearray(sum(sizes))
    pipe.recv_bytes_into(buffer)
    flat = np.frombuffer(buffer, np.uint8)
    ends = np.cumsum(sizes)
    return [flat[end - size : end].reshape(shape) for end, size, shape in zip(ends, sizes, shapes, strict=True)]


def _close(workers: Sequence[_Worker]) -> None:
    """End the workers: they stop when their pipe does."""
    for worker in workers:
        worker.asked.put(None)
    for worker in workers:
        worker.process.join(0.5)
        if worker.process.is_alive():  # in the middle of an image
            worker.process.kill()
            worker.process.join()


def _work(pipe: Connection, at: Any) -> None:
    """Run a worker: decode what is asked for until the parent is gone."""
    for name in ("SIGINT", "SIGTERM"):  # the parent decides when to stop, and it saves first
        with contextlib.suppress(AttributeError, ValueError):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    warnings.simplefilter("ignore")  # what a transform says of one image, it says of every one
    import cv2

    cv2.setNumThreads(0)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        source = _unpacked(pipe.recv())
        at.value = BETWEEN
        reading: Reading | None = None
        while True:
            message = pipe.recv()
            if isinstance(message, bytes):
                transforms, reduces = _without_torch(message)
                reading = None if isinstance(source, DataError) else Reading(source, transforms, reduces=reduces)
                continue
            try:
                if isinstance(source, DataError):
                    raise source
                assert reading is not None, "transforms come before the first request"
                pixels: Pixels = []
                for index, keys in message:
                    at.value = index
                    pixels.append(reading(index, keys))
            except DataError as error:
                pipe.send(error)
                continue
            finally:
                at.value = BETWEEN
            pipe.send([image.shape for image in pixels])
            pipe.send_bytes(np.concatenate([image.ravel() for image in pixels]).data)


def _without_torch(content: bytes) -> tuple[Sequence[Singly], bool]:
    """Return the transforms that the parent packed, and whether pictures are decoded smaller.

    Albumentations imports torch where there is one, for tensors, which no image here is: that would take each worker
    seconds and half a gigabyte.
    """
    spared = "torch" not in sys.modules
    if spared:
        sys.modules["torch"] = None  # type: ignore[assignment]  # Python's way to say that there is none
    try:
        unpacked: tuple[Sequence[Singly], bool] = pickle.loads(content)
        return unpacked
    finally:
        if spared:
            del sys.modules["torch"]


def _unpacked(content: bytes) -> Reads | DataError:
    """Return the source that the parent packed, or why it cannot be had here."""
    try:
        return pickle.loads(content)  # type: ignore[no-any-return]
    except Exception as error:  # unpickling imports and runs the source's own code
        return DataError(
            f"the images cannot be read by a worker process: {type(error).__name__}: {error}",
            "data.workers: 0 does without",
        )
