"""predictions.npz: what the reported weights answered to every image of the reported split, kept to compare runs by.

Logits as float16 with the images' keys: 2 bytes a class, 26 bytes an image. Without it no two runs can be held against
each other image by image. Arrays and text only, read without pickle.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry import files
from registry.contracts import Predictions
from registry.errors import CheckpointError
from registry.printing import printable
from trainer.data.splits import Part

FILE = "predictions.npz"
PIXELS, CONTENTS, PLACES = "pixels", "contents", "places"  # what keys are made of


@dataclass(frozen=True)
class Answers:
    """Answers to the images of a split, in the split's order.

    Attributes:
        split: "test" or "val".
        keyed_by: "pixels": keys are digests of the images' pixels; "contents": of their files, where not all were
            decoded before training; "places": where nobody has looked at them, their places in the split.
        class_names: one per class index.
        keys: int64 (N,).
        targets: class index, int64 (N,).
        answers: class with the greatest logit before rounding, int64 (N,).
    """

    split: str
    keyed_by: str
    class_names: tuple[str, ...]
    keys: NDArray[np.int64]
    targets: NDArray[np.int64]
    answers: NDArray[np.int64]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which answers are right, (N,)."""
        right: NDArray[np.bool_] = self.answers == self.targets
        return right


@dataclass(frozen=True)
class Kept(Answers):
    """Answers with what they were taken from.

    Attributes:
        logits: float16 (N, C), what is beyond its range at its end.
    """

    logits: NDArray[np.float16]


def kept_of(predictions: Predictions, part: Part, split: str, class_names: tuple[str, ...]) -> Kept:
    """Return what is kept of predictions on a part of the data, which people know as `split`."""
    digests, keyed_by = part.store.digests, PIXELS
    if digests is None:
        digests, keyed_by = part.store.contents, CONTENTS
    indices = predictions.indices.astype(np.int64)
    end = float(np.finfo(np.float16).max)
    return Kept(
        split,
        PLACES if digests is None else keyed_by,
        tuple(map(printable, class_names)),
        indices if digests is None else digests[indices],
        predictions.targets.astype(np.int64),
        predictions.logits.argmax(axis=1).astype(np.int64),
        np.clip(predictions.logits, -end, end).astype(np.float16),
    )


def write(kept: Kept, run: Path) -> None:
    """Write the file of a run.

    Raises:
        OSError: it cannot be written.
        StorageError: a link stands in the way.
    """
    content = io.BytesIO()
    arrays = {each.name: np.asarray(getattr(kept, each.name)) for each in fields(Kept)}
    np.savez(content, **arrays)  # type: ignore[arg-type]  # its stub takes each for `allow_pickle`
    files.write(run / FILE, content.getbuffer(), below=run)


def read(run: Path) -> Kept | None:
    """Return what a run has kept; None where it has not.

    Raises:
        CheckpointError: the file is damaged.
    """
    found = _read(run, Kept)
    return None if found is None else Kept(**found)


def read_answers(run: Path) -> Answers | None:
    """Return what a run has kept without the logits, which may be many; None where it has not.

    Raises:
        CheckpointError: the file is damaged.
    """
    found = _read(run, Answers)
    return None if found is None else Answers(**found)


def _refuse_nonsense(targets: NDArray[Any], answers: NDArray[Any], classes: int) -> None:
    """Refuse what are no answers, one for each target and each of a class.

    Raises:
        ValueError: so it is.
    """
    if targets.ndim != 1 or targets.shape != answers.shape:
        raise ValueError(f"{answers.size} answers for {targets.size} targets")
    for each in (targets, answers):
        if each.dtype.kind not in "iu" or (each.size and not 0 <= each.min() <= each.max() < classes):
            raise ValueError(f"classes that are none of the {classes}")


def _read(run: Path, kind: type[Answers]) -> dict[str, Any] | None:
    path = run / FILE
    if not path.exists():
        return None
    try:
        with files.opened(path) as file, np.load(file, allow_pickle=False) as held:
            found = {each.name: held[each.name] for each in fields(kind)}
        names = {"class_names": tuple(map(str, found["class_names"]))}
        _refuse_nonsense(found["targets"], found["answers"], len(names["class_names"]))
        return found | names | {name: str(found[name]) for name in ("split", "keyed_by")}
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        hint = "remove it: the run is then compared without"
        raise CheckpointError(f"{path}: cannot be read ({error})", hint) from error
