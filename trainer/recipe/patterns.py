"""Parameter patterns: which parameters or modules of a model a recipe means.

The grammar of names is `registry.patterns`; here a pattern also covers everything inside a module it matches, and the
kinds @bias, @norm, @embedding and @head are told by the modules. Imports no torch: modules are looked at, not built.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from registry.patterns import matches, plain_name

if TYPE_CHECKING:
    from torch import nn

_NORM = re.compile(r"\w*Norm(\dd)?|_NormBase")
_BIAS = re.compile("bias|in_proj_bias|[qkv]_bias")
_EMBEDDING = re.compile(r"\w*Embedding(Bag)?")


def select(patterns: Sequence[str], model: nn.Module) -> list[str]:
    """Return the names of the parameters that any of `patterns` means, in the model's order.

    Args:
        patterns: "layer1", "**.bias", "@norm", ...
        model: named_parameters() and named_modules() are asked.
    """
    names = [name for name, _ in model.named_parameters()]
    taken = {name for pattern in patterns for name in _meant(pattern, names, model)}
    return [name for name in names if name in taken]


def unmatched(patterns: Iterable[str], model: nn.Module) -> list[str]:
    """Return the patterns that mean no parameter of `model`."""
    names = [name for name, _ in model.named_parameters()]
    return [pattern for pattern in patterns if not any(_meant(pattern, names, model))]


def _meant(pattern: str, names: Sequence[str], model: nn.Module) -> Iterator[str]:
    if pattern in KINDS:
        kind = KINDS[pattern]
        yield from kind(names, model)
    elif not pattern.startswith("@"):
        yield from (name for name in names if any(matches(pattern, part) for part in _prefixes(plain_name(name))))


def _prefixes(name: str) -> Iterator[str]:
    """Yield a parameter's name and those of the modules it lies in: a.b.weight, a.b, a."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def _biases(names: Sequence[str], _: nn.Module) -> list[str]:
    # Attention has its own: in_proj_bias of torch, q_bias and v_bias of timm.
    return [name for name in names if _BIAS.fullmatch(name.rpartition(".")[2])]


def _of_kind(kind: re.Pattern[str]) -> Callable[[Sequence[str], nn.Module], list[str]]:
    def is_kind(module: nn.Module) -> bool:
        return any(kind.fullmatch(cls.__name__) for cls in type(module).__mro__)

    def found(names: Sequence[str], model: nn.Module) -> list[str]:
        owners = {name for name, module in model.named_modules() if is_kind(module)}
        return [name for name in names if name.rpartition(".")[0] in owners]

    return found


def _head(names: Sequence[str], model: nn.Module) -> list[str]:
    """Return the parameters of what makes the logits.

    That is what the network calls its classifiers, as timm's do (some have two), or else the last layer with a weight
    matrix or kernel.
    """
    told: object = getattr(model, "pretrained_cfg", None)
    classifiers = told.get("classifier") if isinstance(told, Mapping) else None
    heads = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers or ())
    if found := [name for name in names if name.startswith(tuple(f"{head}." for head in heads))]:
        return found
    shapes = {name: parameter.dim() for name, parameter in model.named_parameters()}
    weights = [name for name in names if name.rpartition(".")[2] == "weight" and shapes[name] >= 2]
    if not weights:
        return []
    layer = weights[-1].rpartition(".")[0]
    return [name for name in names if name.rpartition(".")[0] == layer]


KINDS: dict[str, Callable[[Sequence[str], nn.Module], list[str]]] = {
    "@bias": _biases,
    "@norm": _of_kind(_NORM),
    "@embedding": _of_kind(_EMBEDDING),
    "@head": _head,
}
