"""Checkpoint files: whole or absent, checked when read, unable to run code.

A file is written beside its name, flushed and renamed (registry/files.py). A digest over every leaf (name, type, shape,
bytes) lies inside, because `torch.load` does not notice flipped bits; one rename so commits data and digest together.
Files hold plain values and tensors only and are read with `weights_only=True`.

Knows nothing of what the state means (trainer/engine/loop.py) or when it is saved (trainer/engine/keeper.py).
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from registry import files, state_dicts
from registry.errors import CheckpointError

FORMAT = 1
PLAIN = (bool, int, float, str, type(None))


def snapshot(value: Any) -> Any:
    """Return a copy of nested dicts, lists and tuples whose tensors are copies on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: snapshot(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [snapshot(item) for item in value]
    return value


def as_kept(saved: Any, now: Any) -> Any:
    """Return what `snapshot` made of a value in the containers of the one it is to replace.

    A checkpoint holds lists and dicts. Optimizers of torch have tuples (betas), its schedulers counters (milestones),
    and a list of the same numbers is another value to whoever compares them.
    """
    if isinstance(saved, Mapping):
        if isinstance(now, Counter):
            return Counter(saved)
        before = now if isinstance(now, Mapping) else {}
        return {key: as_kept(item, before.get(key)) for key, item in saved.items()}
    if isinstance(saved, (list, tuple)):
        there: Any = now if isinstance(now, (list, tuple)) and len(now) == len(saved) else [None] * len(saved)
        items = [as_kept(item, other) for item, other in zip(saved, there, strict=True)]
        return tuple(items) if isinstance(now, tuple) else items
    return saved


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, leaf) of nested dicts, lists and tuples, keys in the order of their text."""
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from leaves(value[key], f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        yield f"{name}#", len(value)
        for index, item in enumerate(value):
            yield from leaves(item, f"{name}.{index}")
    else:
        yield name, value


def digest(state: Mapping[str, Any]) -> str:
    """Return a hex digest over every leaf of `state`: name, type, shape and bytes."""
    hasher = hashlib.blake2b(digest_size=32)
    for name, leaf in leaves(state):
        if isinstance(leaf, Tensor):
            hasher.update(f"{name}|{leaf.dtype}|{tuple(leaf.shape)}|".encode())
            if leaf.numel():
                hasher.update(leaf.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        else:
            hasher.update(f"{name}|{type(leaf).__name__}|{leaf!r}|".encode())
    return hasher.hexdigest()


def refuse_unsaveable(state: Mapping[str, Any]) -> None:
    """Refuse a state that would be written and could then not be read.

    Raises:
        CheckpointError: naming the first leaf that is neither a plain value nor a tensor.
    """
    for name, leaf in leaves(state):
        if isinstance(leaf, Tensor) or type(leaf) in PLAIN or _comes_back(leaf):
            continue
        kind = f"{type(leaf).__module__}.{type(leaf).__qualname__}".removeprefix("builtins.")
        raise CheckpointError(
            f"{name} of the training's state is a {kind}, which a checkpoint cannot hold",
            "keep numbers, text, lists, dicts and tensors in it (float(x) of a NumPy number, str(x) of a path)",
        )


def _comes_back(leaf: object) -> bool:
    buffer = io.BytesIO()
    try:
        torch.save(leaf, buffer)
        buffer.seek(0)
        torch.load(buffer, weights_only=True)
    except Exception:
        return False
    return True


def write(path: Path, state: Mapping[str, Any], *, below: Path | None = None) -> None:
    """Write `state` (plain values and CPU tensors) with its format and digest.

    Args:
        path: the file.
        state: what it will hold.
        below: the folder below which no link is followed; the file's own where omitted.

    Raises:
        CheckpointError: it holds something else.
        OSError: as `files.write`; the old file is untouched and no temporary file stays.
        StorageError: a link stands in the way.
    """
    refuse_unsaveable(state)
    whole = {"format": FORMAT, **state}
    whole["digest"] = digest(whole)
    buffer = io.BytesIO()
    torch.save(whole, buffer)  # to memory first: torch hides a full disk behind a RuntimeError
    files.write(path, buffer.getbuffer(), below=below or path.parent)


def read(path: Path) -> dict[str, Any]:
    """Return the state in `path`, checked.

    Raises:
        CheckpointError: missing, cut short, changed, of another version, or holding more than plain values.
    """
    return checked(path, state_dicts.content(path))


def is_ours(state: Any) -> bool:
    """Whether the content of a file says that this program wrote it."""
    return isinstance(state, dict) and "format" in state and "digest" in state


def checked(path: Path, state: Any) -> dict[str, Any]:
    """Return the state that a file holds, without its digest.

    Raises:
        CheckpointError: it is not ours, of another version, or changed.
    """
    if not is_ours(state):
        raise CheckpointError(f"{path}: is not a checkpoint of this program")
    if state["format"] != FORMAT:
        raise CheckpointError(
            f"{path}: has checkpoint format {state['format']}; this version reads format {FORMAT}",
            "use the version of the program that wrote it (environment.json beside the run says which)",
        )
    expected = state.pop("digest")
    if digest(state) != expected:
        raise CheckpointError(f"{path}: its content does not match its digest; the file was damaged or changed")
    return state  # type: ignore[no-any-return]
