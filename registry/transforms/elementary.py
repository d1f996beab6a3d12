"""Elementary functions of the few numbers that belong to an image: NumPy's on the CPU, torch's elsewhere.

On the CPU torch hands these to MKL, which wakes all its threads even for a few hundred numbers. On a busy machine one
such call was seen to cost milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def cos(x: Tensor) -> Tensor:
    """Return the cosine of radians."""
    return _apply(np.cos, torch.cos, x)


def sin(x: Tensor) -> Tensor:
    """Return the sine of radians."""
    return _apply(np.sin, torch.sin, x)


def tan(x: Tensor) -> Tensor:
    """Return the tangent of radians."""
    return _apply(np.tan, torch.tan, x)


def exp(x: Tensor) -> Tensor:
    """Return e to the power of x."""
    return _apply(np.exp, torch.exp, x)


def log(x: Tensor) -> Tensor:
    """Return the natural logarithm."""
    return _apply(np.log, torch.log, x)


def sqrt(x: Tensor) -> Tensor:
    """Return the square root."""
    return _apply(np.sqrt, torch.sqrt, x)


def trunc(x: Tensor) -> Tensor:
    """Return the whole part, towards zero."""
    return _apply(np.trunc, torch.trunc, x)


def _apply(of_numpy: np.ufunc, of_torch: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return torch.from_numpy(of_numpy(x.numpy())) if x.device.type == "cpu" else of_torch(x)
