"""What answers: a run's network, or an exported file; pictures as they were sent go in, answers with pictures come out.

Owns what is asked of either, and the picture by which a run explains itself. Everything here runs on the one
thread that answers; what is decoded there is bounded by the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from registry.errors import DataError
from registry.reports.cam import explain, upsampled
from registry.reports.layers import deepest_readable, visits
from registry.reports.pictures import enlarged, overlay
from trainer.run.answering import Answerer
from trainer.run.loading import LoadedRun
from trainer.run.many import Pixels, answered
from trainer.serving.bombs import refuse_bomb

SIDE = 336  # px: longer side of the picture that explains
_ALPHA = 0.6  # as on the pages of a run
_READERS = 4  # threads that decode the pictures of a batch
_SMALL = 250_000  # bytes of a batch that is decoded sooner than other threads are woken


@dataclass(frozen=True)
class Asked:
    """A picture to answer.

    Attributes:
        content: of its file.
        explained: whether the answer is to say where the network looked.
    """

    content: bytes
    explained: bool = False


@dataclass(frozen=True, eq=False)
class Told:
    """The answer to a picture.

    Attributes:
        probabilities: float32 (C,); None where there is no answer.
        problem: why there is none; "" where there is one.
        hint: the way out of it; "" for none.
        map: where the network looked for the likeliest class, laid over what it saw, a PNG file; empty where nobody
            asked, or there is none.
        layer: whose map it is.
    """

    probabilities: NDArray[np.float32] | None = None
    problem: str = ""
    hint: str = ""
    map: bytes = b""
    layer: str = ""


class Served:
    """A network that answers pictures as they are sent.

    Args:
        network: that answers.
        title: what it is called.
        which: tells it from others of that name; "" where nothing does.

    Attributes:
        name: title and which.
        explains: whether it can say where it looked.
    """

    def __init__(self, network: Answerer, title: str, which: str = "") -> None:
        self.network, self.title, self.which = network, title, which
        self.name = f"{title} {which}".strip()
        self.explains = isinstance(network, LoadedRun)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="decodes pictures")

    @property
    def class_names(self) -> tuple[str, ...]:
        """One per class index."""
        return self.network.class_names

    def is_sure(self, probability: float) -> bool:
        """Whether an answer of this probability is one."""
        return self.network.sureness.is_sure(probability)

    def warm_up(self) -> None:
        """Answer once, so that nobody waits for what only the first answer costs."""
        content = cv2.imencode(".png", np.zeros((32, 32, 3), np.uint8))[1].tobytes()
        self.answer([Asked(content, explained=self.explains)])

    def answer(self, asked: Sequence[Asked]) -> list[Told]:
        """Answer pictures, those that cannot be read with the reason."""
        small = sum(len(each.content) for each in asked) < _SMALL
        found = list((map if small else self._readers.map)(self._decoded, asked))
        rows = answered(self.network, [(each.content, image) for each, image in zip(asked, found, strict=True)])
        told = []
        for each, image, row in zip(asked, found, rows, strict=True):
            if isinstance(row, DataError):
                told.append(Told(problem=_alone(row.message), hint=row.hint))
            elif each.explained and isinstance(self.network, LoadedRun) and not isinstance(image, DataError):
                told.append(_explained(self.network, image, row[0]))
            else:
                told.append(Told(row[0]))
        return told

    def _decoded(self, asked: Asked) -> Pixels | DataError:
        try:
            refuse_bomb(asked.content)
            return self.network.images(asked.content)[0]
        except DataError as error:
            return error


def _alone(message: str) -> str:
    """Return what is said of the only picture of several: each is asked about alone, and has its name beside it."""
    return message.replace("picture 0", "the picture", 1)


def _explained(run: LoadedRun, image: Pixels, probabilities: NDArray[np.float32]) -> Told:
    """Return an answer with where the network looked for its likeliest class, if it has a layer that tells."""
    inputs = run.preprocess(image)
    layer = deepest_readable(visits(run.model, inputs))
    if layer is None:
        return Told(probabilities)
    seen = enlarged(run.shown(image)[0], SIDE)
    found = explain(run.model, inputs, [layer], torch.tensor([int(probabilities.argmax())]))
    heat = upsampled(found.maps[layer][0, 0], seen.shape[:2]).numpy()
    png = cv2.imencode(".png", overlay(seen, heat, _ALPHA, "turbo")[:, :, ::-1])[1]
    return Told(probabilities, map=png.tobytes(), layer=layer)
