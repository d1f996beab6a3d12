"""Weights alone: from a run folder, a checkpoint or another program's file into a model, and into a safetensors file.

A safetensors file of ours says in its metadata what its network was learnt for, and holds a digest over that and every
tensor: the format itself does not notice flipped bits. Files of others (a state_dict in .pth, .pt or .safetensors) have
neither and are taken as they are: how they are read and fitted is registry/state_dicts.py.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from registry import state_dicts
from registry.errors import CheckpointError
from registry.printing import few
from trainer.engine import checkpoint
from trainer.engine.modules import transient_buffers

_DIGEST, _CLASSES = "digest", "class_names"


@dataclass(frozen=True)
class Weights:
    """What a file of weights holds.

    Attributes:
        file: that was read.
        tensors: the state dict.
        class_names: one per output of the network; None where the file does not tell.
        buffers: those of the network that no state dict holds, by dotted name; empty where the file does not tell.
    """

    file: Path
    tensors: Mapping[str, Tensor]
    class_names: tuple[str, ...] | None
    buffers: Mapping[str, Tensor] = field(default_factory=dict)


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
    if state_dicts.is_safetensors(path):
        return _read_safetensors(path)
    try:
        state = state_dicts.content(path)
        if not checkpoint.is_ours(state):
            return Weights(path, state_dicts.within(path, state), None)
        state = checkpoint.checked(path, state)
    except CheckpointError as error:
        raise CheckpointError(error.message, error.hint or (state_dicts.SAFE if path.exists() else "")) from error
    if "model" not in state:
        raise CheckpointError(f"{path}: holds no model weights")
    names, state = state.get(_CLASSES), as_evaluated(state)
    return Weights(path, state["model"], None if names is None else tuple(names), state.get("buffers", {}))


def as_evaluated(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a checkpoint whose weights are those that were measured: averaged ones, where a run averages.

    The state of a training holds both, and goes on with those that learn.
    """
    average = (state.get("averaging") or {}).get("average")
    if not average:
        return state
    model = state["model"]

    def averaged(name: str, tensor: Tensor) -> Tensor:
        tied = (each for each in average if each in model and _is_the_same(model[each], tensor))
        known = name if name in average else next(tied, None) if tensor.is_floating_point() else None
        return tensor if known is None else average[known]

    buffers = {name: average.get(name, tensor) for name, tensor in state.get("buffers", {}).items()}
    return {**state, "model": {name: averaged(name, each) for name, each in model.items()}, "buffers": buffers}


def _is_the_same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def _read_safetensors(path: Path) -> Weights:
    tensors, metadata = state_dicts.read_safetensors(path)
    try:
        names = json.loads(metadata[_CLASSES]) if _CLASSES in metadata else None
    except ValueError as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors ({error})") from error
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
    found = state_dicts.fitted(weights.file, weights.tensors, own, head)
    state = dict(found.state)
    before, lacks_head = weights.class_names, not set(head) <= set(state)
    about_head = ""
    if lacks_head or found.other_size or (before is not None and set(before) != set(class_names)):
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
    state_dicts.require_useful(weights.file, state, own)
    state_dicts.put_into(model, state)
    there = transient_buffers(model)
    both = ((name, each, there[name].cpu()) for name, each in weights.buffers.items() if name in there)
    others = [name for name, theirs, ours in both if not _is_the_same(theirs, ours)]
    if others:
        about_head += f"; {few(others)} is in no state dict and begins as the network makes it"
    return f"weights from {weights.file}: {state_dicts.taken(found.names, len(state), len(own))}{about_head}"
