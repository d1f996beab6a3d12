"""Torchvision's classification models under torchvision's own names, with or without pretrained weights.

Owns what a recipe needs beyond torchvision: the last layer made anew for the data's classes when pretrained weights are
loaded, the first for images that are not RGB, a clear answer when weights cannot be fetched, and one plain output from
models with auxiliary heads. Every model's name is an attribute of this module, a function that builds the model, so
that the catalogue can name it: `registry.models.torchvision:resnet18`. Importing it imports no torchvision.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry.catalogue.adoption import Change, Found
from registry.errors import DataError
from registry.models.pretrained import weights_are_fetched

if TYPE_CHECKING:
    from torch import nn
    from torchvision.models import WeightsEnum

__all__: list[str] = []

_FIXED = "the model's name fixes it"
_ONE_OUTPUT = "the engine trains one output"
# By the beginning of a model's name: arguments that its builder sets itself, although its class has a default for them.
_FILLED_BY_BUILDER = {
    "densenet": ("growth_rate", "block_config", "num_init_features"),
    "squeezenet": ("version",),
    "efficientnet": ("last_channel",),
    "resnext": ("groups", "width_per_group"),
    "swin": ("stochastic_depth_prob",),
    "wide_resnet": ("width_per_group",),
}
_OWN_DOCS = {
    "weights": "pretrained weights by name; the last layer is then made anew for the data's classes.",
    "num_classes": "classes to tell apart.",
    "in_channels": "channels of the images; other than 3, the first convolution is made anew.",
}
_DOCS = {
    "dropout": "share of activations zeroed before the last layer, 0..1.",
    "drop_rate": "share of activations zeroed after each dense layer, 0..1.",
    "attention_dropout": "share of attention weights zeroed, 0..1.",
    "stochastic_depth_prob": "share of residual branches dropped at the last block, growing from 0 at the first, 0..1.",
    "layer_scale": "initial factor on each residual branch.",
    "bn_size": "channels of a bottleneck per growth channel.",
    "memory_efficient": "recompute activations in the backward pass: slower, with less memory.",
    "init_weights": "initialise by torchvision's rule for the model; slow for inception_v3 and googlenet.",
    "stem_width": "channels of the first convolution.",
    "zero_init_residual": "start each residual branch at 0 (arXiv 1706.02677).",
    "groups": "groups of the 3x3 convolutions.",
    "width_per_group": "channels per group of the 3x3 convolutions, at 64 planes.",
    "replace_stride_with_dilation": "for each of the last three stages, dilate instead of striding: larger maps.",
    "image_size": "side of the images in pixels, a multiple of the patch.",
    "representation_size": "width of a layer before the last one; none when null.",
}
_SHARES = ("dropout", "drop_rate", "attention_dropout", "stochastic_depth_prob")
_SHARE = {"kind": "number", "min": 0, "below": 1}
_AUXILIARY = ("googlenet", "inception_v3")  # networks with auxiliary heads
_HEADS = ("fc", "classifier", "heads", "head")  # where a network's last layer is


def __getattr__(name: str) -> Callable[..., nn.Module]:
    if name.startswith("_"):
        raise AttributeError(name)
    models = importlib.import_module("torchvision.models")
    if name not in models.list_models(module=models):
        raise AttributeError(f"torchvision.models has no classification model {name!r}")
    return functools.partial(build, name)


def build(
    name: str, *, num_classes: int, in_channels: int = 3, weights: str | WeightsEnum | None = None, **arguments: object
) -> nn.Module:
    """Build a model of torchvision.

    Args:
        name: of the model, "resnet18".
        num_classes: classes to tell apart.
        in_channels: channels of the images; other than 3, the first convolution is made anew, from the mean of its
            filters over the colours.
        weights: pretrained weights or their name, "DEFAULT"; None for random ones. Not fetched on the meta device.
        arguments: passed on to torchvision.

    Returns:
        The model; images (N, C, H, W) in, logits (N, num_classes) out.

    Raises:
        DataError: the weights are not there and cannot be downloaded.
    """
    fetched = weights is not None and weights_are_fetched()
    if name in _AUXILIARY and weights is not None and not fetched:
        arguments = {
            "transform_input": True,
            "init_weights": False,
            **arguments,
        }  # as torchvision does with its weights
    if fetched and not _on_meta():
        model = _pretrained(name, weights, num_classes, arguments)
    else:
        model = _random(name, num_classes, arguments)
    if in_channels != 3:
        _replace_stem(model, in_channels)
    return model


def replace_head(model: nn.Module, num_classes: int) -> None:
    """Replace a model's last layer by a fresh one for `num_classes`, in place.

    Raises:
        DataError: no layer under fc, classifier, heads or head ends the model.
    """
    from torch import nn

    for attribute in _HEADS:
        head = getattr(model, attribute, None)
        if head is None:
            continue
        for path, layer in reversed(list(head.named_modules())):
            if isinstance(layer, nn.Linear):
                made: nn.Module = nn.Linear(layer.in_features, num_classes, bias=layer.bias is not None)
            elif isinstance(layer, nn.Conv2d):
                made = nn.Conv2d(layer.in_channels, num_classes, kernel_size=1)
            else:
                continue
            model.set_submodule(f"{attribute}.{path}" if path else attribute, made)
            return
    raise DataError(f"{type(model).__name__} has no last layer to replace", "leave `weights` out")


def _random(name: str, num_classes: int, arguments: Mapping[str, object]) -> nn.Module:
    """Return a model with random weights, without auxiliary heads."""
    models = importlib.import_module("torchvision.models")
    alone = {"aux_logits": False, "init_weights": True} if name in _AUXILIARY else {}
    with _plans_on_cpu() if name.startswith("regnet") else nullcontext():
        return models.get_model(name, num_classes=num_classes, **{**alone, **arguments})  # type: ignore[no-any-return]


def _pretrained(name: str, weights: Any, num_classes: int, arguments: Mapping[str, object]) -> nn.Module:
    """Return a model with torchvision's weights, a fresh last layer and no auxiliary heads."""
    models = importlib.import_module("torchvision.models")
    try:
        model: nn.Module = models.get_model(name, weights=weights, progress=False, **arguments)
    except OSError as error:  # URLError and failed writes to the cache are OSErrors
        from torch.hub import get_dir

        member = getattr(models.get_model_weights(name), weights) if isinstance(weights, str) else weights
        raise DataError(
            f"the weights {weights} of {name} cannot be loaded: {error}",
            f"put {member.url} into {get_dir()}/checkpoints/, or leave `weights` out to start from random ones",
        ) from error
    if name in _AUXILIARY:
        _drop_auxiliary(model)
    replace_head(model, num_classes)
    return model


def _on_meta() -> bool:
    import torch

    return torch.get_default_device().type == "meta"


@contextmanager
def _plans_on_cpu() -> Iterator[None]:
    """Let a RegNet be built on the meta device: it computes its widths with tensors, which need real numbers."""
    import torch
    from torch.overrides import TorchFunctionMode

    class NumbersOnCpu(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            placed = {"device": "cpu"} if func in (torch.arange, torch.tensor) else {}
            return func(*args, **{**(kwargs or {}), **placed})

    with NumbersOnCpu():
        yield


def _drop_auxiliary(model: nn.Module) -> None:
    """Take the auxiliary heads off a model that pretrained weights made with them."""
    model.aux_logits = False  # type: ignore[assignment]
    for name in ("aux1", "aux2", "AuxLogits"):
        if getattr(model, name, None) is not None:
            setattr(model, name, None)


def _replace_stem(model: nn.Module, in_channels: int) -> None:
    """Give the first convolution other input channels, in place.

    Each of them gets the mean of the filters over the old ones, scaled so that images whose channels are all alike give
    the answers that they gave before.
    """
    import torch
    from torch import nn

    path, old = next((path, layer) for path, layer in model.named_modules() if isinstance(layer, nn.Conv2d))
    made = nn.Conv2d(
        in_channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    with torch.no_grad():
        made.weight.copy_(old.weight.mean(dim=1, keepdim=True) * old.in_channels / in_channels)
        if old.bias is not None and made.bias is not None:
            made.bias.copy_(old.bias)
    model.set_submodule(path, made)


@dataclass(frozen=True)
class TorchvisionModels:
    """The rule by which torchvision's classification models come into the catalogue, all of them.

    A builder of torchvision hands its `**kwargs` on to the class that it returns, so its parameters are those of both.
    """

    def find(self) -> Iterator[Found]:
        """Import torchvision and yield its models by name."""
        models = importlib.import_module("torchvision.models")
        for name in models.list_models(module=models):
            builder = models.get_model_builder(name)
            target = f"registry.models.torchvision:{name}"
            yield Found(name, target, builder, _change(name, builder), own=False, package="torchvision")


def _change(name: str, builder: Callable[..., nn.Module]) -> Change:
    """Return what the catalogue says of a model beside what its builder's signature says."""
    cls = inspect.signature(builder).return_annotation
    filled = next((names for start, names in _FILLED_BY_BUILDER.items() if name.startswith(start)), ())
    engine = dict.fromkeys(filled, _FIXED)
    if name in _AUXILIARY:
        engine.update(aux_logits=_ONE_OUTPUT, dropout_aux=_ONE_OUTPUT, transform_input="the weights decide it")
    return Change(
        forwards=(f"{cls.__module__}:{cls.__qualname__}", "registry.models.torchvision:build"),
        engine=engine,
        types={"num_classes": {"kind": "integer", "min": 1}, **dict.fromkeys(_SHARES, _SHARE)},
        docs=_OWN_DOCS,
        missing_docs=_DOCS,
        facts={"upstream": f"torchvision.models:{name}"},
    )
