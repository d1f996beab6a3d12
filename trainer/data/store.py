"""One dataset split, to be taken from by index: decoded in one array where that is possible, read ahead otherwise.

Owns how images lie in memory; opening.py chooses. Knows nothing of epochs, order or augmentation (batches.py,
pipeline.py), and of datasets only `registry.contracts.ImageSource`.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from registry.contracts import ImageSource
from trainer.data.cache import Packed
from trainer.data.content import Digests, digest_of_file, digests_of
from trainer.data.readers import Readers
from trainer.data.reading import Factor, Keys, Pixels, Reading, read, with_keys
from trainer.data.singly import Singly, quiet
from trainer.data.survey import Sums, Survey, sums_of
from trainer.data.threads import ReadingThreads

CHUNK_VALUES = 8 << 20  # pixel values that are summed at a time


@dataclass(frozen=True)
class Workers:
    """Who reads images ahead of the training.

    Attributes:
        count: how many; 0 for nobody: they are read when they are needed.
        are: what they are.
    """

    count: int
    are: Literal["threads", "processes"]


class _Labels:
    """What every store knows without reading an image."""

    def __init__(self, source: ImageSource) -> None:
        self.source = source
        self.targets: Tensor = torch.from_numpy(np.array(source.targets, dtype=np.int64))
        self.class_names: tuple[str, ...] = tuple(source.class_names)
        self.left_out: Sequence[int] = tuple(getattr(source, "left_out", ()))  # whole, but wanted in no part

    def __len__(self) -> int:
        return len(self.targets)

    def describe(self, index: int) -> str:
        """Name an image for a message."""
        return self.source.describe(index)

    def masks(self, indices: Sequence[int]) -> NDArray[np.bool_] | None:
        """Return the object masks, (n, H, W), where the dataset knows them; None otherwise."""
        masks = getattr(self.source, "masks", None)
        return None if masks is None else masks(indices)


class Store(_Labels):
    """A split whose images have one size and lie in memory.

    Args:
        source: where images come from; names them in messages and knows their masks, if anything does.
        packed: the images.

    Attributes:
        images: uint8 (N, H, W, C) on the CPU, in memory or memory-mapped.
        targets: class indices, int64 (N,).
        class_names: one per class index.
        image_size: (height, width) in pixels.
        channels: 3 for RGB, 1 for grey.
        bad: indices of unreadable images, which no part may hold.
    """

    def __init__(self, source: ImageSource, packed: Packed) -> None:
        super().__init__(source)
        self._digests = packed.digests
        self.images: Tensor = torch.from_numpy(packed.images)
        self.image_size: tuple[int, int] | None = (self.images.shape[1], self.images.shape[2])
        self.channels: int = self.images.shape[3]
        self.bad: Sequence[int] = tuple(packed.bad)
        self._resident: dict[torch.device, Tensor | None] = {}

    @property
    def digests(self) -> Digests:
        """Digests of the images' pixels, int64 (N,)."""
        if self._digests is None:
            self._digests = digests_of(self.images.numpy())
        return self._digests

    @cached_property
    def contents(self) -> Digests | None:
        """Digests of the images' files, int64 (N,), which are read for it; None where the source does not give them."""
        content = getattr(self.source, "content", None)
        if content is None:
            return None
        return np.fromiter(map(digest_of_file, map(content, range(len(self)))), dtype=np.int64)

    def gather(self, indices: Tensor, factors: Sequence[Factor] | None = None) -> Tensor:  # noqa: ARG002
        """Take images out.

        Args:
            indices: int64 (n,), on the CPU.
            factors: of no use, since they are decoded.

        Returns:
            uint8 (n, H, W, C), a copy.
        """
        return self.images.index_select(0, indices)

    def sums(self, indices: Tensor) -> tuple[int, Sums]:
        """Return how many pixels these images have together, and their sums per channel."""
        height, width, channels = self.images.shape[1:]
        total = np.zeros((channels, 2), dtype=np.int64)
        for some in indices.split(max(1, CHUNK_VALUES // (height * width * channels))):
            total += sums_of(self.gather(some).numpy())
        return len(indices) * height * width, total

    def resident(self, device: torch.device) -> Tensor | None:
        """Return all images on `device`, copied there once; None where they would take more than half of its memory."""
        if device.type == "cpu":
            return self.images
        if device not in self._resident:
            fits = device.type != "cuda" or self.images.numel() <= torch.cuda.mem_get_info(device)[0] // 2
            self._resident[device] = self.images.to(device) if fits else None
        return self._resident[device]


class LazyStore(_Labels):
    """A split whose images differ in size or do not fit in memory: read when they are asked for.

    Args:
        source: where images come from.
        channels: 3 for RGB, 1 for grey.
        bad: indices of images known to be unreadable.
        survey: what was seen of the images; None where nobody has looked at them yet.
        decode: decodes some images, int64 (n,), and enters them into the survey, which knows only their files so far.

    Attributes:
        targets: class indices, int64 (N,).
        class_names: one per class index.
        channels: 3 for RGB, 1 for grey.
        bad: indices of images known to be unreadable, which no part may hold.
        survey: what was seen of the images; None where nobody has looked at them yet.
    """

    def __init__(
        self,
        source: ImageSource,
        channels: int,
        bad: Sequence[int] = (),
        survey: Survey | None = None,
        decode: Callable[[Survey, NDArray[np.int64]], None] | None = None,
    ) -> None:
        super().__init__(source)
        self._decode = decode
        self.channels = channels
        self.bad: Sequence[int] = tuple(bad)
        self.survey = survey
        self._readers: Readers | ReadingThreads | None = None

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) in pixels where all that was seen has one; None otherwise."""
        sizes = [] if self.survey is None else self.survey.sizes()
        return sizes[0] if len(sizes) == 1 else None

    @property
    def digests(self) -> Digests | None:
        """Digests of the images' pixels, int64 (N,); None where some were not decoded yet."""
        survey = self.survey
        return None if survey is None or len(survey.undecoded(np.arange(len(self)))) else survey.digests

    @property
    def contents(self) -> Digests | None:
        """Digests of the images' files, int64 (N,); None where they are not known."""
        survey = self.survey
        return None if survey is None or not survey.knows_files() else survey.contents

    def sums(self, indices: Tensor) -> tuple[int, Sums]:
        """Return how many pixels these images have together, and their sums per channel; decodes what nobody has."""
        assert self.survey is not None, "every image is looked at before training"
        left = self.survey.undecoded(indices.numpy())
        if len(left) and self._decode is not None:
            self._decode(self.survey, left)
        return self.survey.sums(indices.numpy())

    def values_per_image(self) -> int:
        """Return how many pixel values an image has, on average over those that were seen."""
        return 1 if self.survey is None else self.survey.mean_values()

    def gather(self, indices: Tensor, factors: Sequence[Factor] | None = None) -> Pixels:
        """Read images here and now.

        Args:
            indices: int64 (n,).
            factors: by how much each picture is decoded smaller; None for in full size.

        Returns:
            uint8 (H, W, C) each.

        Raises:
            DataError: one is unreadable.
        """
        chosen = factors if factors is not None else [None] * len(indices)
        return [read(self.source, index, factor=factor) for index, factor in zip(indices.tolist(), chosen, strict=True)]

    def batches(
        self,
        asked: Iterable[Tensor],
        by: Workers,
        transforms: Sequence[Singly] = (),
        keys: Iterable[Sequence[Keys]] | None = None,
        *,
        reduces: bool = False,
        expected: int = 0,
    ) -> Iterator[Pixels]:
        """Return the images of each batch of indices (n,), in order, read ahead.

        Args:
            asked: the batches.
            by: who reads them; threads begin at once.
            transforms: applied to each image where it is read.
            keys: for each batch, the keys of each image, one per transform.
            reduces: decode no more of a picture than what the transforms keep.
            expected: bytes of an image then; 0 where they are not known.
        """
        lists = (indices.tolist() for indices in asked)
        if by.count == 0:
            return self._here(lists, transforms, keys, reduces)
        if self._readers is None:  # kept over epochs: starting them costs more than an epoch's first batches
            kind = Readers if by.are == "processes" else ReadingThreads
            self._readers = kind(self.source, by.count)
        if isinstance(self._readers, ReadingThreads):
            return self._readers.batches(lists, transforms, keys, reduces=reduces, expected=expected)
        return self._readers.batches(lists, transforms, keys, reduces=reduces)

    def _here(
        self,
        asked: Iterable[Sequence[int]],
        transforms: Sequence[Singly],
        keys: Iterable[Sequence[Keys]] | None,
        reduces: bool,
    ) -> Iterator[Pixels]:
        """Yield the images of each batch, read when it is asked for."""
        own = pickle.loads(pickle.dumps(list(transforms)))  # the pipeline's have a random state that others set
        reading = Reading(self.source, own, reduces=reduces)
        for batch in with_keys(asked, keys):
            with quiet():
                images = [reading(index, each) for index, each in batch]
            yield images


AnyStore = Store | LazyStore
