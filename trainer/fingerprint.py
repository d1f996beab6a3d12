"""What a run was trained on and with, in a few short values: a resume that would go on with something else must notice.

Independent of where the images lie: their labels, their order, which of them are used and how many bytes they have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from registry.errors import DataError
from trainer.data.splits import LoadedData, Part


def fingerprint(data: LoadedData) -> dict[str, str]:
    """Return a digest per part: "train" -> "3f2a..."."""
    parts = {"train": data.train, "val": data.val, "test": data.test}
    return {name: _digest(part) for name, part in parts.items() if part is not None}


def hold_against(
    stored: Mapping[str, object], data: LoadedData, packages: Mapping[str, object], log: Callable[[str], None]
) -> None:
    """Compare what a resumed run has with what its checkpoint was made with.

    Args:
        stored: the checkpoint; what it does not tell is not compared.
        data: as they are now.
        packages: versions as they are now.
        log: takes a line for each version that has changed.

    Raises:
        DataError: the data are others.
    """
    names = stored.get("class_names")
    if isinstance(names, list) and names != list(data.class_names):
        raise DataError(
            f"the data have the classes {_few(data.class_names)}; the run was trained on {_few(names)}", _HINT
        )
    before, now = stored.get("data"), fingerprint(data)
    if isinstance(before, Mapping) and dict(before) != now:
        other = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
        raise DataError(f"the {' and '.join(other)} images are not those that the run was trained on", _HINT)
    versions = stored.get("versions")
    if not isinstance(versions, Mapping):
        return
    for name, version in packages.items():
        if versions.get(name, version) != version:
            log(
                f"warning: {name} {versions[name]} -> {version} since the checkpoint: "
                "the resumed run need not equal an uninterrupted one"
            )


_HINT = "bring the images back as they were, or start a new run with train.start_from pointing at this one"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _digest(part: Part) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    hasher.update(np.ascontiguousarray(part.indices.numpy()).data)
    hasher.update(np.ascontiguousarray(part.targets.numpy()).data)
    listing = part.store.source.listing()
    if listing is not None:
        hasher.update(np.array([size for _, size, _ in listing], dtype=np.int64).data)
    return hasher.hexdigest()
