"""Worker processes that read images ahead of the training, for data that do not lie in memory.

    parent                                    worker (one thread, signals ignored, ends with its parent)
    pickled transforms           -- pipe ->   keeps them, once an epoch
    ((index, keys), ...)         -- pipe ->   decodes each and transforms it
    shapes, pixels               <- pipe --   or says which image failed and why

Batches go to the workers in turn and come back in the same order, `AHEAD` of them per worker under way. A worker that
dies or stands still is an error that names the image it was at. Owns processes and pipes. Does not choose order or
transforms; does not import torch, so that a worker starts in a fraction of a second.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import pickle
import signal
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from registry.contracts import ImageSource
from registry.errors import DataError
from trainer.data.singly import Singly, naming

AHEAD = 2  # batches under way per worker
PATIENCE = 120.0  # seconds a worker may spend on one image
STARTING = 120.0  # seconds it may take to start

Pixels = list[NDArray[np.uint8]]


class Reads(Protocol):
    """The part of an `ImageSource` that reading needs."""

    def image(self, index: int) -> NDArray[np.uint8]:
        """Return image `index` as uint8 (H, W, C)."""

    def describe(self, index: int) -> str:
        """Name image `index` for a message."""


def read(source: Reads, index: int) -> NDArray[np.uint8]:
    """Decode one image, uint8 (H, W, C).

    Raises:
        DataError: it is unreadable. Whatever went wrong, StopIteration included: the message names the image.
    """
    try:
        image = source.image(index)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{source.describe(index)} cannot be read: {type(error).__name__}: {error}") from error
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3:
        raise DataError(f"{source.describe(index)} is not a uint8 image of three dimensions")
    return image


# -------------------------------------------------------------------------------------------------------------- workers
@dataclass(frozen=True)
class _Worker:
    process: BaseProcess
    pipe: Connection
    at: Any  # the index being decoded, a shared int64; -1 between batches


class Readers:
    """Persistent worker processes that decode batches of a source.

    Args:
        source: what they read; must be picklable.
        workers: processes.
        patience: seconds a worker may spend on one image.

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
        # spawn: a fork would copy locks that threads of the parent hold
        context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        for _ in range(workers):
            ours, theirs = context.Pipe()
            at = context.RawValue(ctypes.c_int64, -1)
            process = context.Process(target=_work, args=(theirs, content, at), daemon=True)
            process.start()
            theirs.close()
            self._workers.append(_Worker(process, ours, at))
        self._under_way: deque[_Worker] = deque()
        self.close = weakref.finalize(self, _close, tuple(self._workers))

    def batches(
        self,
        asked: Iterable[Sequence[int]],
        transforms: Sequence[Singly] = (),
        keys: Iterable[Sequence[tuple[int, ...]]] | None = None,
    ) -> Iterator[Pixels]:
        """Yield the images of each batch asked for, in that order.

        Leaving off in the middle is allowed: the next call throws away what is under way.

        Args:
            asked: indices, batch by batch.
            transforms: applied to each image, in order; must travel.
            keys: for each batch, the keys of each image, one per transform; None where there is no transform.

        Raises:
            DataError: an image is unreadable or suits no transform, or a worker died or stands still; named by image.
        """
        while self._under_way:
            with contextlib.suppress(DataError):
                self._answer(self._under_way.popleft())
        content = pickle.dumps(list(transforms))
        for worker in self._workers:
            with contextlib.suppress(OSError):  # it died; said when its answer is missed
                worker.pipe.send(content)
        waiting = _with_keys(asked, keys)
        for _ in range(AHEAD):
            for worker in self._workers:
                self._ask(worker, waiting)
        while self._under_way:
            worker = self._under_way.popleft()
            pixels = self._answer(worker)
            self._ask(worker, waiting)
            yield pixels

    def _ask(self, worker: _Worker, waiting: Iterator[list[tuple[int, tuple[int, ...]]]]) -> None:
        images = next(waiting, None)
        if images is not None:
            with contextlib.suppress(OSError):  # it died; said when its answer is missed
                worker.pipe.send(images)
            self._under_way.append(worker)

    def _answer(self, worker: _Worker) -> Pixels:
        seen, since = worker.at.value, time.monotonic()
        while worker.pipe not in (ready := wait([worker.pipe, worker.process.sentinel], timeout=1.0)):
            if ready:
                raise self._died(worker)
            if worker.at.value != seen:
                seen, since = worker.at.value, time.monotonic()
            elif time.monotonic() - since > (limit := self._patience if seen >= 0 else STARTING):
                raise DataError(f"a process that reads images has stood still for {limit:g} s{self._where(worker)}")
        try:
            return _receive(worker.pipe)
        except (EOFError, OSError) as error:
            raise self._died(worker) from error

    def _died(self, worker: _Worker) -> DataError:
        worker.process.join(1.0)
        return DataError(
            f"a process that reads images died{self._where(worker)} (exit code {worker.process.exitcode})",
            "it may have run out of memory: try fewer data.workers, or 0",
        )

    def _where(self, worker: _Worker) -> str:
        index = worker.at.value
        return f" at image {index}, {self._source.describe(index)}" if index >= 0 else ""


def _with_keys(
    asked: Iterable[Sequence[int]], keys: Iterable[Sequence[tuple[int, ...]]] | None
) -> Iterator[list[tuple[int, tuple[int, ...]]]]:
    """Yield each batch as (index, keys) per image."""
    if keys is None:
        for indices in asked:
            yield [(int(index), ()) for index in indices]
    else:
        for indices, chances in zip(asked, keys, strict=True):
            yield [(int(index), each) for index, each in zip(indices, chances, strict=True)]


def _receive(pipe: Connection) -> Pixels:
    shapes = pipe.recv()
    if isinstance(shapes, DataError):
        raise shapes
    sizes = [int(np.prod(shape)) for shape in shapes]
    buffer = bytearray(sum(sizes))
    pipe.recv_bytes_into(buffer)
    flat = np.frombuffer(buffer, np.uint8)
    ends = np.cumsum(sizes)
    return [flat[end - size : end].reshape(shape) for end, size, shape in zip(ends, sizes, shapes, strict=True)]


def _transformed(image: NDArray[np.uint8], transforms: Sequence[Singly], keys: Sequence[int]) -> NDArray[np.uint8]:
    for transform, key in zip(transforms, keys, strict=True):
        (image,) = transform([image], [key])
        if image.dtype != np.uint8:
            raise DataError(f"{transform.name} makes {image.dtype}, but augment and eval keep uint8")
    return image


def _close(workers: Sequence[_Worker]) -> None:
    """End the workers: they stop when their pipe does."""
    for worker in workers:
        worker.pipe.close()
    for worker in workers:
        worker.process.join(0.5)
        if worker.process.is_alive():  # in the middle of an image
            worker.process.kill()
            worker.process.join()


def _work(pipe: Connection, content: bytes, at: Any) -> None:
    """Run a worker: decode what is asked for until the parent is gone."""
    for name in ("SIGINT", "SIGTERM"):  # the parent decides when to stop, and it saves first
        with contextlib.suppress(AttributeError, ValueError):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    import cv2

    cv2.setNumThreads(0)
    source: ImageSource = pickle.loads(content)  # from the parent itself
    transforms: list[Singly] = []
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            pixels: Pixels = []
            message = pipe.recv()
            if isinstance(message, bytes):
                transforms = pickle.loads(message)
                continue
            try:
                for index, keys in message:
                    at.value = index
                    with naming(source.describe, [index]):
                        pixels.append(_transformed(read(source, index), transforms, keys))
            except DataError as error:
                pipe.send(error)
                continue
            finally:
                at.value = -1
            pipe.send([image.shape for image in pixels])
            pipe.send_bytes(np.concatenate([image.ravel() for image in pixels]).data)
