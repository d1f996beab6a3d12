"""Weights alone: from a run folder, a checkpoint or a safetensors file into a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import nn

from registry import files
from registry.errors import CheckpointError
from trainer.engine import checkpoint


def read_weights(path: Path) -> tuple[Path, dict[str, Any]]:
    """Return the file read and its state dict.

    Args:
        path: a run folder (its best weights), a checkpoint (.pt) or a .safetensors file.

    Raises:
        CheckpointError: it is missing, damaged, or holds no weights.
    """
    if path.is_dir():
        folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
        found = [folder / name for name in ("best.pt", "last.pt", "best.safetensors") if (folder / name).exists()]
        if not found:
            raise CheckpointError(f"{path}: this folder holds no checkpoint")
        path = found[0]
    if path.suffix == ".safetensors":
        try:
            with files.opened(path):  # else a pipe would be waited for
                return path, safetensors.torch.load_file(path)
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CheckpointError(f"{path}: cannot be read as safetensors ({reason})") from error
    state = checkpoint.read(path)
    if "model" not in state:
        raise CheckpointError(f"{path}: holds no model weights")
    return path, state["model"]


def load_weights(model: nn.Module, path: Path) -> str:
    """Load weights into `model`, all but a head of another size, and return a line that says what was done.

    Raises:
        CheckpointError: as `read_weights`, or the weights are of another network.
    """
    file, state = read_weights(path)
    own = model.state_dict()
    other_size = sorted(name for name in own.keys() & state.keys() if own[name].shape != state[name].shape)
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    head = {name.rpartition(".")[0] for name in list(own)[-2:]}
    if missing or unknown or any(name.rpartition(".")[0] not in head for name in other_size):
        named = ", ".join((missing + unknown + other_size)[:5])
        raise CheckpointError(
            f"{file}: these are the weights of another network ({len(missing)} missing, {len(unknown)} unknown, "
            f"{len(other_size)} of another size: {named})"
        )
    model.load_state_dict({name: tensor for name, tensor in state.items() if name not in other_size}, strict=False)
    kept = f"; {', '.join(other_size)} start anew, because the classes differ" if other_size else ""
    return f"weights from {file}{kept}"
