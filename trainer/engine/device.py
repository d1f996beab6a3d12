"""The device: where the model lies, and how the libraries below are told to use that hardware."""

from __future__ import annotations

import ctypes
import os
import sys

import cv2
import torch

from registry.errors import RecipeError

_CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_DETERMINISTIC_WORKSPACES = (":4096:8", ":16:8")  # the two settings with which cuBLAS repeats itself to the last bit
_MPS = "train.device: mps has no float64, which the keyed draws of augmentation are made in"


def choose_device(requested: str) -> torch.device:
    """Return the device; `auto` takes a CUDA GPU where there is one, else the CPU.

    Raises:
        RecipeError: it is not there, or lacks what training needs.
    """
    if requested == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if requested.partition(":")[0] == "mps":
        raise RecipeError(_MPS, "use auto or cpu")
    try:
        device = torch.device(requested)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise RecipeError(f"train.device: {requested!r} is not available here ({reason})", "use auto or cpu") from error
    return device


def tune_backends(device: torch.device, *, deterministic: bool) -> None:
    """Let the hardware do its best: TF32 and cuDNN's search on a GPU, or only deterministic algorithms.

    To be called before the first product of matrices: cuBLAS takes its workspace then, and keeps it.
    """
    torch.use_deterministic_algorithms(deterministic)
    if deterministic and os.environ.get(_CUBLAS_WORKSPACE) not in _DETERMINISTIC_WORKSPACES:
        os.environ[_CUBLAS_WORKSPACE] = _DETERMINISTIC_WORKSPACES[0]
    cv2.setNumThreads(0)  # its threads cost more than they save on small images, and fight with torch's
    if device.type == "cpu":
        keep_freed_memory()
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = not deterministic
        torch.set_float32_matmul_precision("highest" if deterministic else "high")
        torch.backends.cudnn.allow_tf32 = not deterministic


def keep_freed_memory() -> None:
    """Have glibc keep freed memory, so that a step's large activations do not fault their pages in anew every time.

    A training step allocates and frees the same hundreds of megabytes again and again; by default each goes back to the
    system. Measured on one thread: SpeedNet 638 -> 804 images/s, a ResNet18 step 1.42 -> 1.30 s. The process keeps what
    it once needed until it ends. Does nothing where there is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    top_pad, trim_threshold, mmap_max = -2, -1, -4  # M_* of malloc.h
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 1 << 28)
