"""An exported file in use: it answers pictures as its run does, without the run.

file = load_exported("model.onnx")
file.predict("cat.jpg")      # [[("cat", 0.98), ...]]
file.answers("cat.jpg")      # ["cat"], or ["not sure"]
file.about                   # what the file says of itself
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from registry.errors import CheckpointError, DataError
from trainer.data.fitting import Fitting
from trainer.data.resized import Shrinking
from trainer.export import standalone
from trainer.export.about import About
from trainer.export.formats import require_to_read
from trainer.export.proof import MOST_AT_ONCE, PIXELS_AT_ONCE
from trainer.run.answering import Answerer, Sureness
from trainer.run.pictures import Pictures, Reader, several


class ExportedFile(Answerer):
    """A file that answers pictures. For one thread at a time.

    Args:
        path: the file.
        answer: uint8 (N, H, W, C) -> float32 (N, classes).
        about: what the file says of itself.
    """

    def __init__(self, path: Path, answer: standalone.Answer, about: About) -> None:
        self.path, self.answer, self.about = path, answer, about
        self.class_names = about.class_names
        # The temperature is in the graph: its probabilities are divided by it already.
        self.sureness = Sureness(abstain_below=about.abstain_below)
        self._reader = Reader(about.decoding)
        self._fitting = Fitting(about.channels, None, about.decoding.ground)  # the size is the graph's matter

    def images(self, pictures: Pictures) -> list[NDArray[np.uint8]]:
        """Return pictures as the file takes them, uint8 (H, W, C), sizes may differ.

        Raises:
            DataError: one is no readable picture.
        """
        return list(self._read(pictures))

    @override
    def probabilities(self, pictures: Pictures) -> Tensor:
        """Return how likely each class is for each picture, float32 (n, C); pictures may differ in size.

        Raises:
            DataError: one is no readable picture, or the file refuses it.
        """
        found = [self._answered(together) for together in self._together(pictures)]
        return torch.cat(found) if found else torch.zeros((0, len(self.class_names)))

    def _answered(self, pictures: NDArray[np.uint8]) -> Tensor:
        try:
            return torch.from_numpy(np.array(self.answer(pictures), np.float32))
        except Exception as error:  # each runtime raises as it likes
            said = " ".join(str(error).split())[:200]
            size = f"{pictures.shape[1]}x{pictures.shape[2]}"
            raise DataError(f"{self.path} refuses pictures of {size}: {said}", "give it larger ones") from error

    def _read(self, pictures: Pictures) -> Iterator[NDArray[np.uint8]]:
        side = self.about.short_side
        shrinking = (lambda image: image) if side is None else Shrinking(side, reduces=False)
        for place, picture in enumerate(several(pictures)):
            yield self._fitting.apply(shrinking(self._fitting.coloured(self._reader.read(picture, place))))

    def _together(self, pictures: Pictures) -> Iterator[NDArray[np.uint8]]:
        """Yield pictures in their order, as many together as follow in one size and fit in."""
        some: list[NDArray[np.uint8]] = []
        for image in self._read(pictures):
            full = len(some) == MOST_AT_ONCE or (len(some) + 1) * image.shape[0] * image.shape[1] > PIXELS_AT_ONCE
            if some and (full or image.shape != some[0].shape):
                yield np.stack(some)
                some = []
            some.append(image)
        if some:
            yield np.stack(some)


def load_exported(path: str | Path) -> ExportedFile:
    """Open an exported file.

    Raises:
        RecipeError: ONNX Runtime is not installed.
        CheckpointError: the file is missing or damaged.
        DataError: it was not exported by this program.
    """
    file = Path(path).expanduser()
    require_to_read(file)
    if not file.is_file():
        raise CheckpointError(f"{file}: there is no such file")
    try:
        answer, texts = standalone.opened(file)
    except Exception as error:  # each runtime raises as it likes
        said = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{file}: cannot be read as an exported file ({said})") from error
    return ExportedFile(file, answer, About.read(file, texts))
