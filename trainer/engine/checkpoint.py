"""Checkpoint files: whole or absent, checked when read, unable to run code.

A file is written under a temporary name beside its target, flushed to the disk and renamed. A digest over every leaf
(name, type, shape, bytes) lies inside, because `torch.load` does not notice flipped bits; one rename so commits data
and digest together. Files hold plain values and tensors only and are read with `weights_only=True`.

Knows nothing of what the state means (trainer/engine/loop.py) or when it is saved (trainer/engine/keeper.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from registry.errors import CheckpointError

FORMAT = 1
TEMPORARY = ".tmp-"  # in the name of a file that is not whole yet, before the process id


def snapshot(value: Any) -> Any:
    """Return a copy of nested dicts, lists and tuples whose tensors are copies on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: snapshot(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [snapshot(item) for item in value]
    return value


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


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Put `data` at `path`, so that a crash at any moment leaves the old file or the new one, whole.

    Raises:
        OSError: the disk is full, the folder is gone, ...; the old file is untouched and no temporary file stays.
    """
    with temporary_beside(path) as temporary:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    _flush_folder(path.parent)


@contextlib.contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Give a name in the folder of `path` to write under before a rename; what still has it after an error goes."""
    temporary = path.with_name(f"{path.name}{TEMPORARY}{os.getpid()}")
    try:
        yield temporary
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def remove_temporaries(folder: Path) -> None:
    """Remove what a killed process left half written; only for the one that holds the run's lock."""
    for stray in folder.glob(f"*{TEMPORARY}*"):
        with contextlib.suppress(OSError):
            stray.unlink()


def write(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` (plain values and CPU tensors) with its format and digest.

    Raises:
        OSError: as `write_bytes`.
    """
    whole = {"format": FORMAT, **state}
    whole["digest"] = digest(whole)
    buffer = io.BytesIO()
    torch.save(whole, buffer)  # to memory first: torch hides a full disk behind a RuntimeError
    write_bytes(path, buffer.getbuffer())


def read(path: Path) -> dict[str, Any]:
    """Return the state in `path`, checked.

    Raises:
        CheckpointError: missing, cut short, changed, of another version, or holding more than plain values.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such checkpoint")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:  # says nothing about the file
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{path}: cannot be read as a checkpoint ({reason})") from error
    if not isinstance(state, dict) or "format" not in state or "digest" not in state:
        raise CheckpointError(f"{path}: is not a checkpoint of this program")
    if state["format"] != FORMAT:
        raise CheckpointError(
            f"{path}: has checkpoint format {state['format']}; this version reads format {FORMAT}",
            "use the version of the program that wrote it (environment.json beside the run says which)",
        )
    expected = state.pop("digest")
    if digest(state) != expected:
        raise CheckpointError(f"{path}: its content does not match its digest; the file was damaged or changed")
    return state


def _flush_folder(folder: Path) -> None:
    """Make a rename durable, where the system can."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
