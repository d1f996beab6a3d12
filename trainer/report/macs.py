"""Multiply-accumulates of one forward pass, by module, counted by torch's own FlopCounterMode.

Counts convolutions, linear layers, matrix products and attention, nearly all the work of a classifier; additions,
norms and activations are left out, as is usual.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from registry.reports.layers import undisturbed


def count_macs(network: nn.Module, images: Tensor) -> dict[str, int]:
    """Return multiply-accumulates of one forward of `images[:1]` by module name; "" is the whole network.

    Modes, buffers and random state are left as they were.
    """
    counter, fast = FlopCounterMode(display=False), torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one kernel for a whole encoder layer, which nobody can count
    plain = sdpa_kernel(SDPBackend.MATH)  # attention as its matrix products, for the same reason
    try:
        with undisturbed(network, images.device), torch.no_grad(), plain, _recurrence_by_steps(network), counter:
            network(images[:1].clone())
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    flops = counter.get_flop_counts()  # by "Class.layer1.0", with "Global" for the whole; two for each of ours
    whole = type(network).__name__
    counts = {name: sum(flops.get(f"{whole}.{name}", {}).values()) // 2 for name, _ in network.named_modules() if name}
    return {"": sum(flops.get("Global", {}).values()) // 2, **counts}


@contextmanager
def _recurrence_by_steps(network: nn.Module) -> Iterator[None]:
    """Have recurrent layers computed by matrix products: libraries make one operation of an LSTM, uncounted."""
    if not any(isinstance(module, nn.RNNBase) for module in network.modules()):
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # setting mkldnn's flags speaks of TF32
        with torch.backends.cudnn.flags(enabled=False), torch.backends.mkldnn.flags(enabled=False):
            yield
