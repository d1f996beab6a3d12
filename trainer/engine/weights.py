"""Weights alone: from a run folder, a checkpoint or a safetensors file into a model, and into a safetensors file.

A safetensors file of ours says in its metadata which classes its head was learnt for, and holds a digest over that and
every tensor: the format itself does not notice flipped bits. Files of others have neither and are taken as they are.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from registry import files
from registry.errors import CheckpointError
from trainer.engine import checkpoint

_SAFE = (
    "weights of other programs are read from .safetensors files: safetensors.torch.save_file(model.state_dict(), ...)"
)
_HEAD = 9  # bytes that tell a safetensors file
_MAX_HEADER = 100_000_000  # bytes of its header; the format's own limit


@dataclass(frozen=True)
class Weights:
    """What a file of weights holds.

    Attributes:
        file: that was read.
        tensors: the state dict.
        class_names: one per output of the network; None where the file does not tell.
    """

    file: Path
    tensors: Mapping[str, Tensor]
    class_names: tuple[str, ...] | None


def to_safetensors(tensors: Mapping[str, Tensor], class_names: Sequence[str]) -> bytes:
    """Return the content of a safetensors file: weights, the classes they were learnt for, and a digest of both."""
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    names = list(class_names)
    metadata = {"class_names": json.dumps(names), "digest": _digest(whole, names)}
    return safetensors.torch.save(whole, metadata)


def read_weights(path: Path) -> Weights:
    """Read weights.

    Args:
        path: a run folder (its best weights), a checkpoint or a safetensors file, whatever its ending.

    Raises:
        CheckpointError: it is missing, damaged, or holds no weights.
    """
    if path.is_dir():
        folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
        found = [folder / name for name in ("best.pt", "last.pt", "best.safetensors") if (folder / name).exists()]
        if not found:
            raise CheckpointError(f"{path}: this folder holds no checkpoint")
        path = found[0]
    if path.suffix == ".safetensors" or _begins_as_safetensors(path):
        return _read_safetensors(path)
    try:
        state = checkpoint.read(path)
    except CheckpointError as error:
        raise CheckpointError(error.message, error.hint or (_SAFE if path.exists() else "")) from error
    if "model" not in state:
        raise CheckpointError(f"{path}: holds no model weights")
    names = state.get("class_names")
    return Weights(path, state["model"], None if names is None else tuple(names))


def _begins_as_safetensors(path: Path) -> bool:
    """Say whether a file begins as safetensors do: the length of a header, 8 bytes, and the header's brace."""
    try:
        with files.opened(path) as file:
            head = file.read(_HEAD)
            return head[-1:] == b"{" and len(head) == _HEAD and int.from_bytes(head[:-1], "little") < _MAX_HEADER
    except OSError:  # said where it is read
        return False


def _read_safetensors(path: Path) -> Weights:
    try:
        with files.opened(path), safe_open(path, "pt") as file:  # opened: else a pipe would be waited for
            metadata: Mapping[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
        names = json.loads(metadata["class_names"]) if "class_names" in metadata else None
    except (OSError, SafetensorError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path}: cannot be read as safetensors ({reason})") from error
    if "digest" in metadata and metadata["digest"] != _digest(tensors, names):
        raise CheckpointError(f"{path}: its content does not match its digest; the file was damaged or changed")
    return Weights(path, tensors, None if names is None else tuple(names))


def _digest(tensors: Mapping[str, Tensor], class_names: Any) -> str:
    return checkpoint.digest({"model": tensors, "class_names": class_names})


def load_weights(model: nn.Module, path: Path, class_names: Sequence[str], head: Collection[str]) -> str:
    """Load weights into `model`, and return a line that says what was done.

    A head that was learnt for other classes starts anew; one for the same classes in another order is put into ours.

    Args:
        model: takes them.
        path: as `read_weights`.
        class_names: what the outputs of `model` stand for.
        head: names of the parameters of its last layer.

    Raises:
        CheckpointError: as `read_weights`, or the weights are of another network.
    """
    weights = read_weights(path)
    own, state = model.state_dict(), dict(weights.tensors)
    other_size = sorted(name for name in own.keys() & state.keys() if own[name].shape != state[name].shape)
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or unknown or not set(other_size) <= set(head):
        named = ", ".join((missing + unknown + other_size)[:5])
        raise CheckpointError(
            f"{weights.file}: these are the weights of another network ({len(missing)} missing, "
            f"{len(unknown)} unknown, {len(other_size)} of another size: {named})"
        )
    line, before = f"weights from {weights.file}", weights.class_names
    if other_size or (before is not None and set(before) != set(class_names)):
        told = "the classes differ" if before is None else f"it was learnt for {_few(before)}, not {_few(class_names)}"
        state = {name: tensor for name, tensor in state.items() if name not in head}
        line += f"; the head ({', '.join(sorted(head))}) starts anew: {told}"
    elif before is not None and before != tuple(class_names):
        rows = [before.index(name) for name in class_names]
        state |= {name: state[name][rows] for name in head if len(state[name]) == len(rows)}
        line += f"; the head's classes put in this order: {_few(class_names)}"
    model.load_state_dict(state, strict=False)
    return line


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
