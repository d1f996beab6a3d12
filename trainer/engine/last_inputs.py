"""What a network's last layer is given: the features by which pictures are told apart, whatever the network.

Owns the hooks, which are gone after the block. Knows nothing of pictures or of what is made of the features.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def last_inputs(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collect, at every forward pass in the block, the input of the last module to run that has parameters of its own.

    Of nearly every classifier that is its head. A map (N, d, H, W) or tokens (N, T, d) count by their mean.

    Args:
        model: the network; left as found.

    Yields:
        A list that gets a float32 tensor (N, d), on the CPU, per forward pass.
    """
    given: list[Tensor] = []
    last: list[Tensor] = []

    def before(_module: nn.Module, inputs: tuple[object, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            last[:] = [inputs[0]]

    def after(_module: nn.Module, _inputs: tuple[object, ...], _output: object) -> None:
        given.append(_pooled(last.pop()))

    own = [module for module in model.modules() if any(True for _ in module.parameters(recurse=False))]
    handles = [module.register_forward_pre_hook(before) for module in own]
    handles.append(model.register_forward_hook(after))
    try:
        yield given
    finally:
        for handle in handles:
            handle.remove()


def _pooled(features: Tensor) -> Tensor:
    """Return features as (N, d)."""
    if features.ndim == 4:
        features = features.mean((2, 3))
    elif features.ndim == 3:
        features = features.mean(1)
    with torch.inference_mode(False):  # else nothing could be learnt from it
        return features.detach().flatten(1).to("cpu", torch.float32, copy=True)
