"""Multiply-accumulates of one forward pass, by module, read from the calls a network makes.

Counts convolutions, linear layers, matrix products and attention, nearly all the work of a classifier; additions,
norms and activations are left out, as is usual. Needs no formula per module class and imports no compiler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from registry.reports.layers import undisturbed


def count_macs(network: nn.Module, images: Tensor) -> dict[str, int]:
    """Return multiply-accumulates of one forward of `images[:1]` by module name; "" is the whole network.

    Modes, buffers and random state are left as they were.
    """
    counter = _Counter()
    handles = []
    try:
        for name, module in network.named_modules():
            handles.append(module.register_forward_pre_hook(counter.entered(name)))
            handles.append(module.register_forward_hook(counter.left))
        with undisturbed(network, images.device), torch.no_grad(), counter:
            network(images[:1].clone())
    finally:
        for handle in handles:
            handle.remove()
    return counter.counts


class _Counter(TorchFunctionMode):
    """Sees every torch function that is called, and knows which modules are running."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}
        self._running: list[str] = []

    def entered(self, name: str) -> Callable[[nn.Module, tuple[object, ...]], None]:
        """Return the hook that notes the start of the module `name`."""

        def hook(_module: nn.Module, _inputs: tuple[object, ...]) -> None:
            self._running.append(name)
            self.counts.setdefault(name, 0)

        return hook

    def left(self, _module: nn.Module, _inputs: tuple[object, ...], _output: object) -> None:
        """Note the end of the module that started last."""
        self._running.pop()

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run `func`, and add what it costs to every module that is running."""
        output = func(*args, **(kwargs or {}))
        rule = _RULES.get(getattr(func, "__name__", ""))
        if rule is not None:
            macs = rule(args, kwargs or {}, output)
            for name in self._running:
                self.counts[name] += macs
        return output


def _convolution(args: Sequence[Any], kwargs: Mapping[str, Any], output: Tensor) -> int:
    weight: Tensor = args[1] if len(args) > 1 else kwargs["weight"]  # (out, in / groups, *kernel)
    return output.numel() * math.prod(weight.shape[1:])


def _transposed(args: Sequence[Any], kwargs: Mapping[str, Any], _output: Tensor) -> int:
    weight: Tensor = args[1] if len(args) > 1 else kwargs["weight"]  # (in, out / groups, *kernel)
    given: Tensor = args[0] if args else kwargs["input"]
    return given.numel() * math.prod(weight.shape[1:])


def _product(args: Sequence[Any], kwargs: Mapping[str, Any], output: Tensor) -> int:
    left: Tensor = args[0] if args else kwargs["input"]
    return output.numel() * left.shape[-1]


def _added_product(args: Sequence[Any], _kwargs: Mapping[str, Any], output: Tensor) -> int:
    return output.numel() * int(args[1].shape[-1])


def _scaled_attention(args: Sequence[Any], kwargs: Mapping[str, Any], _output: Tensor) -> int:
    query: Tensor = args[0] if args else kwargs["query"]
    value: Tensor = args[2] if len(args) > 2 else kwargs["value"]
    return query.shape[:-1].numel() * value.shape[-2] * (query.shape[-1] + value.shape[-1])


def _multi_head(args: Sequence[Any], kwargs: Mapping[str, Any], _output: object) -> int:
    query: Tensor = args[0] if args else kwargs["query"]  # (T, N, E), or (T, E)
    key: Tensor = args[1] if len(args) > 1 else kwargs["key"]  # (S, N, E)
    width = query.shape[-1]
    projections = (2 * query.numel() + 2 * key.numel()) * width
    return projections + 2 * query.numel() * key.shape[0]


_RULES: dict[str, Callable[[Sequence[Any], Mapping[str, Any], Any], int]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed),
    **dict.fromkeys(("linear", "matmul", "__matmul__", "mm", "bmm"), _product),
    **dict.fromkeys(("addmm", "baddbmm"), _added_product),
    "scaled_dot_product_attention": _scaled_attention,
    "multi_head_attention_forward": _multi_head,
}
