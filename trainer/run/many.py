"""Many pictures answered: read by threads ahead of the network, in groups, and every fault told of its own picture.

Owns how pictures reach the network and what becomes of one that cannot be read: it has no answer, the others have.
Which pictures they are is asked.py's, what is made of the answers whoever asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from registry.errors import DataError
from trainer.run.answering import Answerer
from trainer.run.asked import Asked
from trainer.run.loading import DECODED_AT_ONCE, LoadedRun
from trainer.run.pictures import Picture, Pictures, name_of

GROUP = 64  # pictures that are answered together, at most
AHEAD = 4  # pictures that a thread reads before they are wanted

Pixels: TypeAlias = "NDArray[np.uint8]"


@dataclass(frozen=True, eq=False)
class Answer:
    """What the network says of one picture.

    Attributes:
        asked: the picture.
        probabilities: float32 (C,); None where there is no answer.
        features: what the network's last layer was given, float32 (d,); None where nobody asked for them.
        problem: why there is no answer; "" where there is one.
    """

    asked: Asked
    probabilities: NDArray[np.float32] | None = None
    features: NDArray[np.float32] | None = None
    problem: str = ""


def answers(run: Answerer, asked: Iterable[Asked], *, workers: int, features: bool = False) -> Iterator[Answer]:
    """Yield the answer to every picture, in order.

    Args:
        run: whose network answers.
        asked: the pictures.
        workers: threads that read them, 1 or more.
        features: keep what the last layer was given, too.
    """
    for group in _groups(_read_ahead(run, asked, workers)):
        rows = answered(run, [(each.path, found) for each, found in group], features)
        for (each, _), row in zip(group, rows, strict=True):
            yield Answer(each, problem=_told(each, row)) if isinstance(row, DataError) else Answer(each, *row)


def _told(asked: Asked, error: DataError) -> str:
    """Return what is wrong with a picture in one line, with the place in its table and the way out."""
    place = f"{asked.line}: " if asked.line else ""
    return f"{place}{error.message}; {error.hint}" if error.hint else f"{place}{error.message}"


Found: TypeAlias = "tuple[Picture, Pixels | DataError]"  # a picture and what it is decoded, or why it cannot be
Row: TypeAlias = "tuple[NDArray[np.float32], NDArray[np.float32] | None]"  # probabilities, and features if wanted


def answered(network: Answerer, group: Sequence[Found], features: bool = False) -> list[Row | DataError]:
    """Return what there is to say of each picture of a group, or why there is nothing.

    Where one does not suit a transform, each is asked about alone, and that one is told.

    Args:
        network: that answers.
        group: pictures that fit in memory together.
        features: as `answers`; the network is a loaded run's.
    """
    images = [found for _, found in group if not isinstance(found, DataError)]
    try:
        rows = iter(_rows(network, images, features))
    except DataError:
        return [found if isinstance(found, DataError) else _alone(network, one, features) for one, found in group]
    return [
        found if isinstance(found, DataError) else _finite(next(rows), picture, place)
        for place, (picture, found) in enumerate(group)
    ]


def _finite(row: Row, picture: Picture, place: int) -> Row | DataError:
    """Return an answer, or that it is none: of weights or pixels that a network was never meant for."""
    if np.isfinite(row[0]).all():
        return row
    return DataError(f"{name_of(picture, place)}: the network's answer to it is not finite")


def _alone(network: Answerer, picture: Picture, features: bool) -> Row | DataError:
    try:
        (row,) = _rows(network, picture, features)
    except DataError as error:
        return error
    return _finite(row, picture, 0)


def _rows(network: Answerer, pictures: Pictures, features: bool) -> list[Row]:
    if not features:
        return [(row, None) for row in network.probabilities(pictures).numpy()]
    assert isinstance(network, LoadedRun)
    probabilities, given = network.embedded(pictures)
    return list(zip(probabilities.numpy(), given.numpy(), strict=True))


def _read_ahead(run: Answerer, asked: Iterable[Asked], workers: int) -> Iterator[tuple[Asked, Pixels | DataError]]:
    """Yield pictures as the network's transforms take them; decoding releases the interpreter, so threads do."""

    def read(each: Asked) -> tuple[Asked, Pixels | DataError]:
        if each.problem:
            return each, DataError(each.problem)
        try:
            return each, run.images(each.path)[0]
        except DataError as error:
            return each, error

    waiting: deque[Future[tuple[Asked, Pixels | DataError]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="reads pictures") as pool:
        try:
            for each in asked:
                waiting.append(pool.submit(read, each))
                if len(waiting) > AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # whoever leaves off in the middle waits for what is being read, and for nothing else
            for future in waiting:
                future.cancel()


def _groups(
    pictures: Iterable[tuple[Asked, Pixels | DataError]],
) -> Iterator[list[tuple[Asked, Pixels | DataError]]]:
    """Yield pictures in lists of bounded length and bounded memory."""
    group: list[tuple[Asked, Pixels | DataError]] = []
    decoded = 0
    for asked, found in pictures:
        own = 0 if isinstance(found, DataError) else found.shape[0] * found.shape[1]
        if group and (len(group) == GROUP or decoded + own > DECODED_AT_ONCE):
            yield group
            group, decoded = [], 0
        group.append((asked, found))
        decoded += own
    if group:
        yield group
