"""What a run was trained on and with, in a few short values: a resume that would go on with something else must notice.

Independent of where the images lie: their labels, their order, which of them are used and how many bytes they have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from registry.errors import DataError
from trainer.data.splits import LoadedData, Part


def fingerprint(data: LoadedData) -> dict[str, str]:
    """Return a digest per part: "train" -> "3f2a..."."""
    parts = {"train": data.train, "val": data.val, "test": data.test}
    return {name: _digest(part) for name, part in parts.items() if part is not None}


def refuse_other_data(data: LoadedData, stored: Mapping[str, object]) -> None:
    """Compare the data with those that a checkpoint was made with.

    Args:
        data: as they are now.
        stored: the checkpoint; one without a fingerprint is not compared.

    Raises:
        DataError: they are others.
    """
    names = stored.get("class_names")
    if isinstance(names, list) and names != list(data.class_names):
        raise DataError(
            f"the data have the classes {', '.join(data.class_names[:5])}, ...; the run was trained on "
            f"{', '.join(map(str, names[:5]))}, ...",
            _HINT,
        )
    before, now = stored.get("data"), fingerprint(data)
    if isinstance(before, Mapping) and dict(before) != now:
        other = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
        raise DataError(f"the {' and '.join(other)} images are not those that the run was trained on", _HINT)


def version_changes(stored: Mapping[str, object], packages: Mapping[str, object]) -> list[str]:
    """Return "torch 2.11.0 -> 2.15.0" for each package whose version is not that of the checkpoint."""
    before = stored.get("versions")
    if not isinstance(before, Mapping):
        return []
    return [f"{name} {before[name]} -> {now}" for name, now in packages.items() if before.get(name, now) != str(now)]


_HINT = "bring the images back as they were, or start a new run with train.start_from pointing at this one"


def _digest(part: Part) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    hasher.update(np.ascontiguousarray(part.indices.numpy()).data)
    hasher.update(np.ascontiguousarray(part.targets.numpy()).data)
    listing = part.store.source.listing()
    if listing is not None:
        hasher.update(np.array([size for _, size, _ in listing], dtype=np.int64).data)
    return hasher.hexdigest()
