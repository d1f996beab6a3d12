"""Fingerprint of the training data, a few short values: a resume that would go on with other data must notice.

Independent of where the images lie. Compared are which of them are used, their labels and their pixels; where a
dataset's images were not all decoded, the digests of their files instead, or their sizes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from registry.errors import DataError
from registry.printing import few
from trainer.data.splits import LoadedData, Part
from trainer.data.store import LazyStore

Print = dict[str, str]  # of a part: "used" -> "3f2a...", "pixels" -> ..., "bytes" -> ..., as far as they are known

_HINT = "bring the images back as they were, or start a new run with train.start_from pointing at this one"


def fingerprint(data: LoadedData) -> dict[str, Print]:
    """Return digests by part: "train" -> {"used": "3f2a...", ...}.

    Where validation was cut off the training split, "whole" is both together: the same in every fold.
    """
    parts = {"train": data.train, "val": data.val, "test": data.test}
    if data.val.store is data.train.store:
        both = torch.cat([data.train.indices, data.val.indices]).sort().values
        parts["whole"] = replace(data.train, name="whole", indices=both)
    return {name: print_of(part) for name, part in parts.items() if part is not None}


def print_of(part: Part) -> Print:
    """Return the digests of a part: of places and labels, of pixels, of files, and of the sizes of files."""
    known = {"used": _digest(part.indices.numpy(), part.targets.numpy())}
    store, listing = part.store, part.store.source.listing()
    if store.digests is not None:
        known["pixels"] = _digest(store.digests[part.indices.numpy()])
    if isinstance(store, LazyStore) and store.contents is not None:  # of what lies in memory nobody reads files again
        known["contents"] = _digest(store.contents[part.indices.numpy()])
    if listing is not None:
        known["bytes"] = _digest(np.array([size for _, size, _ in listing], dtype=np.int64)[part.indices.numpy()])
    return known


def same(before: object, now: Print) -> bool:
    """Whether a stored print is of the same images, as far as both tell: by pixels, else by their files."""
    if isinstance(before, str):  # the first form, of places and labels alone
        before = {"used": before}
    if not isinstance(before, Mapping):
        return False
    told = next((what for what in ("pixels", "contents", "bytes") if what in before and what in now), "used")
    return all(before.get(what) == now.get(what) for what in ("used", told))


def learnt(part: Part) -> Tensor | None:
    """Return the digests of a part's images, int64 (n,) ascending; None where nobody has looked at them.

    They are of the pixels, or of the files where the part's print says nothing of pixels.
    """
    digests = part.store.contents if part.store.digests is None else part.store.digests
    return None if digests is None else torch.from_numpy(np.sort(digests[part.indices.numpy()]))


def hold_against(
    stored: Mapping[str, object], data: LoadedData, packages: Mapping[str, object], log: Callable[[str], None]
) -> None:
    """Compare what a resumed run has with what its checkpoint was made with.

    Nothing learns from test images: others are said and measured.

    Args:
        stored: the checkpoint; what it does not tell is not compared.
        data: as they are now.
        packages: versions as they are now.
        log: takes a line for what has changed and may.

    Raises:
        DataError: the classes, or the images that are learnt from or choose the best epoch, are others.
    """
    names = stored.get("class_names")
    if isinstance(names, list) and names != list(data.class_names):
        raise DataError(
            f"the data have the classes {few(data.class_names)}; the run was trained on {few(names)}", _HINT
        )
    before, now = stored.get("data"), fingerprint(data)
    if isinstance(before, Mapping):
        other = [name for name in ("train", "val") if not same(before.get(name), now[name])]
        if other:
            raise DataError(f"the {' and '.join(other)} images are not those that the run was trained on", _HINT)
        if "test" in {*before, *now} and not same(before.get("test"), now.get("test", {})):
            log("warning: the test images are not those that the run began with; it is measured on those there are now")
    versions = stored.get("versions")
    if not isinstance(versions, Mapping):
        return
    for name, version in packages.items():
        if versions.get(name, version) != version:
            log(
                f"warning: {name} {versions[name]} -> {version} since the checkpoint: "
                "the resumed run need not equal an uninterrupted one"
            )


def _digest(*arrays: NDArray[np.int64]) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    for array in arrays:
        hasher.update(np.ascontiguousarray(array).data)
    return hasher.hexdigest()
