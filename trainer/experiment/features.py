"""Features of frozen layers, computed once where every epoch would make the same of an image (`train.cache_features`).

Owns when they are kept, and says why where they are not. Every part's images pass once through the network's trunk, in
the order of the dataset, so that a resumed run, which computes them again, has the same to the last bit. Where a
network divides is trainer/engine/division.py, how features lie and come in batches trainer/data/features.py.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from registry.catalogue import cache
from registry.printing import duration, size_in_words
from trainer.data.batches import Batches
from trainer.data.features import IN_MEMORY, KeptFeatures
from trainer.engine import rng
from trainer.engine.division import Division, UndividedError, divide
from trainer.engine.evaluation import evaluation_mode
from trainer.engine.precision import Precision

PROBE = 4  # images by which the division of a network is tried
SHARE = 4  # of the free disk that a file of features may take: the whole divided by this
SAY_EVERY = 15.0  # seconds between two lines on how far computing is


class NotKeptError(Exception):
    """Features are not kept; the text says why."""


@dataclass(frozen=True)
class Features:
    """What frozen layers make of the images.

    Attributes:
        head: gives logits of features, (n, classes).
        parts: by name, "train" and "val".
    """

    head: nn.Module
    parts: Mapping[str, KeptFeatures]


@dataclass(frozen=True)
class Keeping:
    """How features are computed.

    Attributes:
        model: frozen in part.
        train_mode: puts it into the mode in which it trains.
        precision: of the forward pass.
        log: takes one line.
        compiles: whether the head is going to be compiled.
    """

    model: nn.Module
    train_mode: Callable[[], None]
    precision: Precision
    log: Callable[[str], None]
    compiles: bool = False

    def features(self, parts: Mapping[str, Batches]) -> Features:
        """Compute the features of all images.

        Args:
            parts: "train", its images as the network learns from them, and others: each once, in the dataset's order.

        Raises:
            NotKeptError: the network has no trunk of that kind, or there is no room.
        """
        with rng.untouched_randomness(), evaluation_mode(self.model), torch.no_grad():
            self.train_mode()
            division, values = self._divided(parts["train"])
            total = sum(len(batches.part) for batches in parts.values())
            _require_room(total * values.nbytes, _folder())
            self.log(
                f"frozen layers: what they make of an image, {values[0].numel():,} numbers, is computed once for "
                f"{total:,} images and kept (train.cache_features: off does without)"
            )
            begun, progress = time.monotonic(), _Progress(total, self.log)
            kept = {}
            for name, batches in parts.items():
                self.train_mode() if name == "train" else self.model.eval()
                kept[name] = self._kept(division, batches, values, progress)
            self.log(f"frozen layers: done in {duration(time.monotonic() - begun)}, which no epoch's seconds hold")
        return Features(division.head, kept)

    def _divided(self, batches: Batches) -> tuple[Division, torch.Tensor]:
        """Return where the network divides, and the features of a few images."""
        images = next(iter(batches.epoch(0))).images[:PROBE]
        if len(images) < 2:
            raise NotKeptError("there is only one image")
        try:
            with self.precision.autocast():
                division = divide(self.model, images)
                if self.compiles and not division.at_input:
                    raise NotKeptError("train.compile takes no network whose first layers are passed over")
                return division, division.features(self.model, images)[:1]
        except UndividedError as error:
            raise NotKeptError(str(error)) from error

    def _kept(
        self, division: Division, batches: Batches, like: torch.Tensor, progress: Callable[[int], None]
    ) -> KeptFeatures:
        try:
            kept = KeptFeatures.empty(batches.part, tuple(like.shape[1:]), like.dtype, _folder())
        except (OSError, RuntimeError) as error:
            raise NotKeptError(f"there is no room for them: {error}") from error
        for batch in batches.epoch(0):
            with self.precision.autocast():
                values = division.features(self.model, batch.images)
            kept.values.index_copy_(0, kept.rows[batch.indices.cpu()], values.cpu())
            progress(len(values))
        return kept


class _Progress:
    """Says now and then how many images are done."""

    def __init__(self, total: int, log: Callable[[str], None]) -> None:
        self._total, self._log = total, log
        self._done, self._said = 0, time.monotonic()

    def __call__(self, more: int) -> None:
        """Count images."""
        self._done += more
        if time.monotonic() - self._said >= SAY_EVERY and self._done < self._total:
            self._said = time.monotonic()
            self._log(f"frozen layers: {self._done:,} of {self._total:,} images")


def why_not(*, mixes: bool, processes: int, drawn: Sequence[str]) -> str:
    """Return why features would not be the same in every epoch, or are not kept all the same; "" so far.

    Args:
        mixes: whether the images of a batch are mixed.
        processes: that share every batch.
        drawn: names of the training images' transforms that leave something to chance.
    """
    if drawn:
        return f"augment changes images anew in every epoch: {', '.join(dict.fromkeys(drawn))}"
    if mixes:
        return "train.mix changes images anew in every step"
    return "several processes share every batch" if processes > 1 else ""


def is_part_frozen(parameters: Iterable[nn.Parameter]) -> bool:
    """Say whether some parameters learn and others do not."""
    return len({parameter.requires_grad for parameter in parameters}) == 2


def _require_room(size: int, folder: Path | None) -> None:
    """Refuse features of so many bytes that their file would crowd others out."""
    if folder is None or size <= IN_MEMORY:
        return
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if size > shutil.disk_usage(there).free // SHARE:
        raise NotKeptError(f"they take {size_in_words(size)}, more than a quarter of what is free in {there}")


def _folder() -> Path | None:
    """Return where features that are many lie while they are used; None where there is no home folder."""
    try:
        return cache.folder() / "features"
    except RuntimeError:
        return None
