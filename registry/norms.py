"""Norms of tensors as exact as their numbers, on every device.

Torch's norms of a float32 tensor on the CPU add its squares one behind the other, and what is added last is rounded
away: a tensor of 25 million values loses 0.14 % of its Euclidean norm and 4.7 % of its sum of magnitudes. Sums by rows
do not, in the same time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_LARGE = 1 << 17  # values from which on it matters: 2^17 lose less than a millionth
_ROW = 1 << 12


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm of each tensor.

    Args:
        tensors: at least one, on one device, of one floating type.

    Returns:
        (n,) of their type on their device.
    """
    found = torch._foreach_norm([_few(each) for each in tensors])
    return torch.stack(found)


def sum_of_magnitudes(tensors: Sequence[Tensor]) -> Tensor:
    """Return the sum of |x| over all tensors, of which there is at least one: a float32 scalar on their device."""
    sums = [magnitudes.sum(dtype=torch.float32) for magnitudes in torch._foreach_abs(list(tensors))]  # adds pairwise
    return torch.stack(sums).sum()


def _few(tensor: Tensor) -> Tensor:
    """Return a tensor of few values with the norm of one of many; others as they are."""
    if tensor.numel() < _LARGE or tensor.device.type != "cpu":
        return tensor
    flat = _flat(tensor)
    whole = len(flat) // _ROW * _ROW
    rows = torch.linalg.vector_norm(flat[:whole].view(-1, _ROW), dim=1)
    return torch.cat([rows, flat[whole:]]) if whole < len(flat) else rows


def _flat(tensor: Tensor) -> Tensor:
    """Return the values of a tensor in whatever order they lie in memory, (n,), a view where they lie closely."""
    close = tensor.is_contiguous() or (tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last))
    return tensor.detach().as_strided((tensor.numel(),), (1,)) if close else tensor.detach().reshape(-1)
