"""Weights alone: from a run folder, a checkpoint or another program's file into a model, and into a safetensors file.

A safetensors file of ours says in its metadata what its network was learnt for, and holds a digest over that and every
tensor: the format itself does not notice flipped bits. Files of others (a state_dict in .pth, .pt or .safetensors) have
neither and are taken as they are; what wrappers put before the names of their tensors is taken off (names.py).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from registry import files
from registry.errors import CheckpointError
from registry.printing import few
from trainer.engine import checkpoint
from trainer.engine.names import Names, named_as

_SAFE = (
    "save the numbers alone: torch.save(model.state_dict(), ...) or "
    "safetensors.torch.save_file(model.state_dict(), ...)"
)
_HEAD = 9  # bytes that tell a safetensors file
_MAX_HEADER = 100_000_000  # bytes of its header; the format's own limit
_USUAL = ("state_dict", "model_state_dict", "model", "net", "network", "weights")  # where other programs keep weights
_DIGEST, _CLASSES = "digest", "class_names"


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


def to_safetensors(
    tensors: Mapping[str, Tensor], class_names: Sequence[str], about: Mapping[str, str] | None = None
) -> bytes:
    """Return the content of a safetensors file.

    Args:
        tensors: the weights.
        class_names: they were learnt for.
        about: what else its metadata say of the network, by name.
    """
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    metadata = {"format": "pt", **(about or {}), _CLASSES: json.dumps(list(class_names))}
    return safetensors.torch.save(whole, {**metadata, _DIGEST: _digest(whole, metadata)})


def read_weights(path: Path) -> Weights:
    """Read weights.

    Args:
        path: a run folder (its best weights), a checkpoint, or a file of torch or safetensors with a state dict of
            any program, whatever its ending.

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
        state = checkpoint.content(path)
        if not checkpoint.is_ours(state):
            return Weights(path, _state_dict(path, state), None)
        state = checkpoint.checked(path, state)
    except CheckpointError as error:
        raise CheckpointError(error.message, error.hint or (_SAFE if path.exists() else "")) from error
    if "model" not in state:
        raise CheckpointError(f"{path}: holds no model weights")
    names = state.get(_CLASSES)
    return Weights(path, state["model"], None if names is None else tuple(names))


def _state_dict(path: Path, state: Any) -> Mapping[str, Tensor]:
    """Return the state dict in a file of another program: the whole of it, or one of its entries."""
    if _are_weights(state):
        return state  # type: ignore[no-any-return]
    within = {name: each for name, each in state.items() if _are_weights(each)} if isinstance(state, Mapping) else {}
    name = next((name for name in _USUAL if name in within), next(iter(within), None))
    if name is None or (name not in _USUAL and len(within) > 1):
        several = f"several state dicts ({', '.join(map(str, within))})" if within else "no state dict"
        raise CheckpointError(f"{path}: holds {several}: tensors by name", _SAFE)
    return within[name]  # type: ignore[no-any-return]


def _are_weights(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())
    )


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
        names = json.loads(metadata[_CLASSES]) if _CLASSES in metadata else None
    except (OSError, SafetensorError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path}: cannot be read as safetensors ({reason})") from error
    if _DIGEST in metadata and metadata[_DIGEST] != _digest(tensors, metadata):
        raise CheckpointError(f"{path}: its content does not match its digest; the file was damaged or changed")
    return Weights(path, tensors, None if names is None else tuple(names))


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Return the digest of tensors and of all metadata but itself."""
    said = {name: text for name, text in metadata.items() if name != _DIGEST}
    if set(said) == {_CLASSES}:  # as files were written before they told more
        return checkpoint.digest({"model": tensors, _CLASSES: json.loads(said[_CLASSES])})
    return checkpoint.digest({"model": tensors, "metadata": said})


def load_weights(model: nn.Module, path: Path, class_names: Sequence[str], head: Collection[str]) -> str:
    """Load weights into `model`, and return a line that says which.

    A head that was learnt for other classes, or that the file lacks, starts anew; one for the same classes in another
    order is put into ours. Parts that the network does not have at all are left out.

    Args:
        model: takes them.
        path: as `read_weights`.
        class_names: what the outputs of `model` stand for.
        head: names of the parameters of its last layer.

    Raises:
        CheckpointError: as `read_weights`, the weights are of another network, or of no use: not finite, or of another
            kind of number.
    """
    weights, own = read_weights(path), model.state_dict()
    names = named_as(own, weights.tensors)
    state = {ours: weights.tensors[theirs] for ours, theirs in names.found.items()}
    other_size = sorted(name for name, tensor in state.items() if own[name].shape != tensor.shape)
    missing = [name for name in names.missing if name not in head]
    if missing or names.unknown or not set(other_size) <= set(head):
        named = ", ".join([*missing, *names.unknown, *other_size][:5])
        raise CheckpointError(
            f"{weights.file}: these are the weights of another network ({len(missing)} missing, "
            f"{len(names.unknown)} unknown, {len(other_size)} of another size: {named})",
            f"it has {few(names.elsewhere)}" if missing and names.elsewhere else "",
        )
    before, lacks_head = weights.class_names, not set(head) <= set(state)
    about_head = ""
    if lacks_head or other_size or (before is not None and set(before) != set(class_names)):
        told = "the classes differ" if before is None else f"it was learnt for {few(before)}, not {few(class_names)}"
        told = "the file has none" if lacks_head else told
        state = {name: tensor for name, tensor in state.items() if name not in head}
        about_head = f"; the head ({', '.join(sorted(head))}) starts anew: {told}"
    elif before is not None and before != tuple(class_names):
        rows = [before.index(name) for name in class_names]
        state |= {name: state[name][rows] for name in head if len(state[name]) == len(rows)}
        about_head = f"; the head's classes put in this order: {few(class_names)}"
    elif before is None:
        about_head = "; the head is kept, because the file does not tell its classes and their number fits"
    _require_useful(weights.file, state, own)
    model.load_state_dict(state, strict=False)
    return f"weights from {weights.file}: {_taken(names, len(state), len(own))}{about_head}"


def _require_useful(file: Path, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Refuse tensors that would be taken and that no network can answer with.

    Raises:
        CheckpointError: naming the first of them.
    """
    wrong = {name: why for name, tensor in state.items() if (why := _useless(name, tensor, own[name]))}
    if wrong:
        name, why = next(iter(wrong.items()))
        more = f"; the like holds of {len(wrong) - 1} more of {len(state)} tensors" if len(wrong) > 1 else ""
        raise CheckpointError(
            f"{file}: these weights are of no use: {name} {why}{more}",
            "take the weights of a training that did not diverge, saved as floating-point numbers",
        )


def _useless(name: str, tensor: Tensor, own: Tensor) -> str:
    """Say why a tensor cannot take the place of the network's `own`; "" where it can."""
    if _kind(tensor) != _kind(own):
        return f"holds {_kind(tensor)} ({str(tensor.dtype).removeprefix('torch.')}), not {_kind(own)}"
    if not own.is_floating_point():
        return ""
    # As the network will hold it: a float64 may be too great for it. A mask of its own may well be infinite.
    lost = int((~tensor.to(own.dtype).isfinite() & own.to(tensor.device).isfinite()).sum())
    if lost:
        return f"has {lost:,} of {tensor.numel():,} numbers that are not finite"
    if name.endswith("running_var") and bool((tensor < 0).any()):
        return "is a variance below 0"
    return ""


def _kind(tensor: Tensor) -> str:
    """Return in words what numbers a tensor holds."""
    if tensor.is_meta or tensor.layout != torch.strided or tensor.is_quantized:
        return "no plain numbers"
    if tensor.is_complex():
        return "complex numbers"
    return "floating-point numbers" if tensor.is_floating_point() else "whole numbers"


def _taken(names: Names, taken: int, own: int) -> str:
    """Say how many tensors were taken, and which of the file were not."""
    said = f"all {own} tensors" if taken == own else f"{taken} of {own} tensors"
    said += f", without '{names.before}' before their names" if names.before else ""
    said += f"; {len(names.counters)} counters of batches start at 0" if names.counters else ""
    return said + (f"; no place here have {few(names.elsewhere)}" if names.elsewhere else "")
