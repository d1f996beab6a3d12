"""Training mode, and the layers that stay out of it: what is frozen keeps the statistics it normalises by.

A BatchNorm in training mode moves its running mean and variance whether its parameters learn or not, so a frozen
network would give other features after every step. Knows nothing of recipes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

_NORM = re.compile(r"\w*Norm\w*")


def train(model: nn.Module, still: Sequence[nn.Module] = ()) -> None:
    """Put `model` into training mode, all but the modules in `still`."""
    model.train()
    for module in still:
        module.training = False


def frozen_statistics(model: nn.Module) -> list[nn.Module]:
    """Return the norm layers with statistics of their own whose parameters are all frozen.

    A norm layer without parameters goes with the nearest module around it that has some.
    """
    modules = dict(model.named_modules())
    return [module for name, module in modules.items() if _has_statistics(module) and _is_frozen(name, modules)]


def _has_statistics(module: nn.Module) -> bool:
    is_norm = any(_NORM.fullmatch(cls.__name__) for cls in type(module).__mro__)
    return any(
        tensor is not None and tensor.is_floating_point() and (is_norm or name.startswith("running_"))
        for name, tensor in module._buffers.items()
    )


def _is_frozen(name: str, modules: dict[str, nn.Module]) -> bool:
    while not (learning := [p.requires_grad for p in modules[name].parameters()]) and name:
        name = name.rpartition(".")[0]
    return bool(learning) and not any(learning)
