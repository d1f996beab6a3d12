"""Reading ahead in threads of this process: OpenCV decodes and resizes without Python's lock.

    consumer                                       thread
    (index, keys), image by image     -- queue ->  decodes and transforms it
    takes images in the order asked   <- future -- or why there is none

No start of a process, no second copy of the libraries, nothing to send. As many images are under way as `WAITING` bytes
hold, so that memory does not depend on how many there are. A thread that stands still is an error that names its image.
Owns the threads. Does not choose order or transforms.
"""

from __future__ import annotations

import pickle
import queue
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as LateError
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from registry.contracts import ImageSource
from registry.errors import DataError
from trainer.data.reading import Keys, Pixels, Reading, with_keys
from trainer.data.singly import Singly

WAITING = 128 << 20  # bytes of images that are read and not yet asked for
PATIENCE = 120.0  # seconds a thread may spend on one image
ENDING = 2.0  # seconds that the end waits for one at its last image

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class _Asked:
    """An image that is asked for.

    Attributes:
        index: of the image.
        keys: one per transform.
        reading: makes what reads it, for the thread that asks first.
        answer: takes the image, or why there is none.
    """

    index: int
    keys: Keys
    reading: Callable[[], Reading]
    answer: Future[Image]


class ReadingThreads:
    """Persistent threads that read images of a source.

    Args:
        source: what they read; may be asked by several threads at once.
        threads: how many.
        patience: seconds a thread may spend on one image.
    """

    def __init__(self, source: ImageSource, threads: int, patience: float = PATIENCE) -> None:
        self._source, self._threads, self._patience = source, threads, patience
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        over = threading.Event()
        started = [
            threading.Thread(target=_serve, args=(self._asked, over), name=f"reader {number}", daemon=True)
            for number in range(threads)
        ]
        for thread in started:
            thread.start()
        self.close = weakref.finalize(self, _close, self._asked, over, started)

    def batches(
        self,
        asked: Iterable[Sequence[int]],
        transforms: Sequence[Singly] = (),
        keys: Iterable[Sequence[Keys]] | None = None,
        *,
        reduces: bool = False,
        expected: int = 0,
    ) -> Iterator[Pixels]:
        """Return the images of each batch asked for, in that order; reading begins now.

        Leaving off in the middle is allowed: what nobody takes is not read.

        Args:
            asked: indices, batch by batch.
            transforms: applied to each image, in order; must travel.
            keys: for each batch, the keys of each image, one per transform; None where there is no transform.
            reduces: decode no more of a picture than what the transforms keep.
            expected: bytes of an image then, by which the first are asked for; 0 where they are not known.

        Raises:
            DataError: an image is unreadable or suits no transform, or a thread stands still; named by image.
        """
        # What they say of one image, they say of all. For good: taken back while threads run, any state would be left.
        warnings.filterwarnings("ignore", module="albumentations|albucore")
        content = pickle.dumps(list(transforms))
        reading = _ForEachThread(lambda: Reading(self._source, pickle.loads(content), reduces=reduces))
        order = _UnderWay(self._asked, with_keys(asked, keys), reading, self._threads, expected)
        return self._taken(order)

    def _taken(self, order: _UnderWay) -> Iterator[Pixels]:
        try:
            for size in order.sizes():
                yield [order.took(self._image(order.next())) for _ in range(size)]
        finally:
            order.cancel()

    def _image(self, asked: _Asked) -> Image:
        try:
            return asked.answer.result(self._patience)
        except LateError:
            where = f"at image {asked.index}, {self._source.describe(asked.index)}"
            raise DataError(f"a thread that reads images has stood still for {self._patience:g} s {where}") from None


class _UnderWay:
    """The images of an epoch that are asked for and not yet taken, in order.

    Args:
        asked: takes them.
        waiting: the batches of the epoch.
        reading: makes what reads an image, by thread.
        threads: how many read.
        expected: bytes of an image; 0 where they are not known yet.
    """

    def __init__(
        self,
        asked: queue.SimpleQueue[_Asked | None],
        waiting: Iterator[list[tuple[int, Keys]]],
        reading: Callable[[], Reading],
        threads: int,
        expected: int,
    ) -> None:
        self._asked, self._waiting, self._reading = asked, waiting, reading
        self._least, self._bytes, self._taken = 2 * threads, expected, int(expected > 0)
        self._images: deque[_Asked] = deque()
        self._sizes: deque[int] = deque()
        self._fill()

    def sizes(self) -> Iterator[int]:
        """Yield how many images each batch has, while there are any."""
        while self._sizes or self._ask():
            yield self._sizes.popleft()

    def next(self) -> _Asked:
        """Return the next image and ask for more, as far as there is room."""
        image = self._images.popleft()
        self._fill()
        return image

    def took(self, image: Image) -> Image:
        """Take note of what an image takes; return it."""
        self._bytes, self._taken = self._bytes + image.nbytes, self._taken + 1
        return image

    def cancel(self) -> None:
        """Ask for no more."""
        while self._images:
            self._images.pop().answer.cancel()

    def _fill(self) -> None:
        """Ask for the batches that begin within the room there is."""
        room = max(self._least, WAITING * self._taken // max(1, self._bytes))
        while len(self._images) < room and self._ask():
            pass

    def _ask(self) -> bool:
        """Ask for the images of another batch; return whether there was one."""
        batch = next(self._waiting, None)
        if batch is None:
            return False
        self._sizes.append(len(batch))
        for index, keys in batch:
            asked = _Asked(index, keys, self._reading, Future())
            self._images.append(asked)
            self._asked.put(asked)
        return True


class _ForEachThread:
    """Makes something once for each thread that asks: transforms have a state of their own."""

    def __init__(self, make: Callable[[], Reading]) -> None:
        self._make, self._made = make, threading.local()

    def __call__(self) -> Reading:
        """Return the thread's own."""
        if not hasattr(self._made, "one"):
            self._made.one = self._make()
        return self._made.one  # type: ignore[no-any-return]


def _serve(asked: queue.SimpleQueue[_Asked | None], over: threading.Event) -> None:
    """Read what is asked for until it is over."""
    while (image := asked.get()) is not None and not over.is_set():
        if not image.answer.set_running_or_notify_cancel():
            continue
        try:
            image.answer.set_result(image.reading()(image.index, image.keys))
        except BaseException as error:  # raised where the image is wanted
            image.answer.set_exception(error)
        del image


def _close(asked: queue.SimpleQueue[_Asked | None], over: threading.Event, threads: Sequence[threading.Thread]) -> None:
    """End the threads, each after the image it is at.

    They are waited for, since Python ends threads that still run when it does in the middle of OpenCV, which then ends
    the process; one that stands still is left to that.
    """
    over.set()
    for _ in threads:
        asked.put(None)
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(ENDING)
