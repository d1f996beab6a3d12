"""Where the model lies, and how the libraries below are told to use that hardware."""

from __future__ import annotations

import torch

from registry.errors import RecipeError


def choose_device(requested: str) -> torch.device:
    """Return the device.

    Raises:
        RecipeError: it is not there.
    """
    if requested == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(requested)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise RecipeError(f"train.device: {requested!r} is not available here ({reason})", "use auto or cpu") from error
    return device


def tune_backends(device: torch.device, *, deterministic: bool) -> None:
    """Let the hardware do its best: TF32 and cuDNN's search on a GPU, or only deterministic algorithms."""
    torch.use_deterministic_algorithms(deterministic)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = not deterministic
        torch.set_float32_matmul_precision("highest" if deterministic else "high")
        torch.backends.cudnn.allow_tf32 = not deterministic
