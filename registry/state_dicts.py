"""State dicts of any program: read from a file without running code, and fitted into a network by their names.

Whoever loads weights comes here: models that a recipe gives a file (`model.weights`), and trainer/engine/weights.py,
which knows what our own files say beside their tensors. Names are matched by tensor_names.py.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from registry import files
from registry.errors import CheckpointError
from registry.printing import few
from registry.tensor_names import Names, named_as

SAFE = (
    "save the numbers alone: torch.save(model.state_dict(), ...) or "
    "safetensors.torch.save_file(model.state_dict(), ...)"
)
_HEAD = 9  # bytes that tell a safetensors file
_MAX_HEADER = 100_000_000  # bytes of its header; the format's own limit
_USUAL = ("state_dict", "model_state_dict", "model", "net", "network", "weights")  # where other programs keep weights
_NO_WEIGHTS = {  # how files begin that people have in the place of weights
    b"version https://git-lfs": ("a pointer of Git LFS, not the file itself", "fetch it: git lfs pull"),
    b"<": ("a web page, not the file itself", "fetch the file itself: the page has a link to it"),
}


# -------------------------------------------------------------------------------------------------------------- reading
def read(path: Path, device: str = "cpu") -> Mapping[str, Tensor]:
    """Return the state dict in a file of torch or safetensors, whatever its ending.

    Args:
        path: the file.
        device: where the tensors are put; "meta" for their names and shapes alone.

    Raises:
        CheckpointError: it is missing, damaged, or holds no weights.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such file", f"paths start from {Path.cwd()}")
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder, not a file", "train.start_from takes a run's folder")
    if is_safetensors(path):
        tensors, _ = read_safetensors(path, device)
        return tensors
    try:
        return within(path, content(path, device))
    except CheckpointError as error:
        way_out = SAFE if "it asks for" in error.message else "it may have been cut short: fetch it anew"
        raise CheckpointError(error.message, error.hint or way_out) from error


def content(path: Path, device: str = "cpu") -> Any:
    """Return what a file of torch holds, ours or another program's, unchecked; only plain values and tensors are read.

    Args:
        path: the file.
        device: where its tensors are put.

    Raises:
        CheckpointError: missing, cut short, or holding more than plain values.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such checkpoint")
    try:
        with files.opened(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about files of others: the error says what they are
            return torch.load(file, map_location=device, weights_only=True)
    except MemoryError:  # says nothing about the file
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read as a checkpoint ({error.strerror or error})") from error
    except Exception as error:
        reason, hint = _reason(path, error)
        raise CheckpointError(f"{path}: cannot be read as a checkpoint ({reason})", hint) from error


def within(path: Path, state: Any) -> Mapping[str, Tensor]:
    """Return the state dict in what a file of another program holds: the whole of it, or one of its entries.

    Raises:
        CheckpointError: there is none, or it cannot be told which.
    """
    if _are_weights(state):
        return state  # type: ignore[no-any-return]
    inside = {name: each for name, each in state.items() if _are_weights(each)} if isinstance(state, Mapping) else {}
    name = next((name for name in _USUAL if name in inside), next(iter(inside), None))
    if name is None or (name not in _USUAL and len(inside) > 1):
        several = f"several state dicts ({', '.join(map(str, inside))})" if inside else "no state dict"
        raise CheckpointError(f"{path}: holds {several}: tensors by name", SAFE)
    return inside[name]  # type: ignore[no-any-return]


def is_safetensors(path: Path) -> bool:
    """Say whether a file is to be read as safetensors: by its ending, or by how it begins."""
    return path.suffix == ".safetensors" or _begins_as_safetensors(path)


def read_safetensors(path: Path, device: str = "cpu") -> tuple[Mapping[str, Tensor], Mapping[str, str]]:
    """Return tensors and metadata of a safetensors file.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        with files.opened(path), safe_open(path, "pt") as file:  # opened: else a pipe would be waited for
            metadata: Mapping[str, str] = file.metadata() or {}
            return {name: file.get_tensor(name).to(device) for name in file.keys()}, metadata  # noqa: SIM118  no mapping
    except (OSError, SafetensorError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path}: cannot be read as safetensors ({reason})") from error


def _are_weights(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())
    )


def _begins_as_safetensors(path: Path) -> bool:
    """Say whether a file begins as safetensors do: the length of a header, 8 bytes, and the header's brace."""
    head = _beginning(path, _HEAD)
    return head[-1:] == b"{" and len(head) == _HEAD and int.from_bytes(head[:-1], "little") < _MAX_HEADER


def _beginning(path: Path, count: int) -> bytes:
    try:
        with files.opened(path) as file:
            return file.read(count)
    except OSError:  # said where it is read
        return b""


def _reason(path: Path, error: Exception) -> tuple[str, str]:
    """Say why torch reads no checkpoint, without its advice to switch the safe reader off, and what to do if known."""
    begins = _beginning(path, 100).lstrip()
    for start, (what, hint) in _NO_WEIGHTS.items():
        if begins.startswith(start):
            return f"it is {what}", hint
    said = str(error).strip()
    if isinstance(error, pickle.UnpicklingError):
        wanted = re.search(r"GLOBAL (\S+)", said)
        what = f"it asks for {wanted[1]}" if wanted else "it is damaged, or no file of torch"
        return f"{what}; only plain values and tensors are read, because anything else could run code", ""
    if not isinstance(error, RuntimeError):  # what its reader of pickles stumbled over in a file of something else
        return "it is damaged, or no file of torch", ""
    return said.splitlines()[0] if said else type(error).__name__, ""


# -------------------------------------------------------------------------------------------------------------- fitting
@dataclass(frozen=True)
class Fitted:
    """Tensors of a file by the names of a network.

    Attributes:
        file: they come from.
        names: how the names of both belong to each other.
        state: of the network -> tensor of the file.
        other_size: names of the network whose tensor has another shape in the file; all of its head.
    """

    file: Path
    names: Names
    state: Mapping[str, Tensor]
    other_size: Sequence[str]


def fitted(file: Path, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], head: Collection[str]) -> Fitted:
    """Match a file's tensors with those of a network.

    Args:
        file: they come from.
        tensors: of the file.
        own: state dict of the network.
        head: names in it of the parameters of its last layer, which may be of another size, or missing.

    Raises:
        CheckpointError: they are of another network.
    """
    names = named_as(own, tensors)
    state = {ours: tensors[theirs] for ours, theirs in names.found.items()}
    other_size = sorted(name for name, tensor in state.items() if own[name].shape != tensor.shape)
    missing = [name for name in names.missing if name not in head]
    if missing or names.unknown or not set(other_size) <= set(head):
        named = ", ".join([*missing, *names.unknown, *other_size][:5])
        raise CheckpointError(
            f"{file}: these are the weights of another network ({len(missing)} missing, "
            f"{len(names.unknown)} unknown, {len(other_size)} of another size: {named})",
            f"it has {few(names.elsewhere)}" if missing and names.elsewhere else "name the network that they are of",
        )
    return Fitted(file, names, state, other_size)


def load_all_but_head(model: nn.Module, file: Path, tensors: Mapping[str, Tensor], head: Sequence[str]) -> str:
    """Load a file's tensors into a network whose last layer starts anew, and return a line that says which.

    Args:
        model: takes them; on the meta device they are only held against it.
        file: they come from.
        tensors: of the file, on the same device.
        head: names of the parameters of the model's last layer.

    Raises:
        CheckpointError: they are of another network, or of no use: not finite, or of another kind of number.
    """
    own = model.state_dict()
    found = fitted(file, tensors, own, head)
    state = {name: tensor for name, tensor in found.state.items() if name not in head}
    if not any(tensor.is_meta for tensor in own.values()):
        require_useful(file, state, own)
        put_into(model, state)
    return f"weights from {file}: {taken(found.names, len(state), len(own))}; the last layer starts anew ({few(head)})"


def put_into(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a network tensors by its own names; those that it has beside them stay."""
    whole = model.state_dict()  # with the versions of its layers, which some of them ask for
    whole.update(state)
    model.load_state_dict(whole)


def require_useful(file: Path, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
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


def taken(names: Names, count: int, own: int) -> str:
    """Say how many tensors were taken, and which of the file were not.

    Args:
        names: how the file's names belong to the network's.
        count: tensors that were taken.
        own: tensors of the network.
    """
    said = f"all {own} tensors" if count == own else f"{count} of {own} tensors"
    said += f", without '{names.before}' before their names" if names.before else ""
    said += f"; {len(names.counters)} counters of batches start at 0" if names.counters else ""
    return said + (f"; no place here have {few(names.elsewhere)}" if names.elsewhere else "")
