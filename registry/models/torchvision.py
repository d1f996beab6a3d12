"""Torchvision's classification models under torchvision's own names, with or without pretrained weights.

Owns what a recipe needs beyond torchvision: pretrained weights by name or from a file, with the last layer made anew
for the data's classes, the first for images that are not RGB, and one plain output from models with auxiliary heads.
Every model's name is an attribute of this module, a function that builds the model, so that the catalogue can name it:
`registry.models.torchvision:resnet18`. Importing it imports no torchvision.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from registry.catalogue.adoption import Change, Found
from registry.errors import CheckpointError, DataError
from registry.models.pretrained import fetch, names_a_file, say, weights_are_fetched

if TYPE_CHECKING:
    from torch import Tensor, nn
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
    "weights": "pretrained weights by name, or a file of them (.pth, .pt, .safetensors); the last layer is then made "
    "anew for the data's classes.",
    "num_classes": "classes to tell apart.",
    "in_channels": "channels of the images; other than 3, the first convolution is made anew.",
}
_DOCS = {
    "dropout": "share of activations zeroed wherever upstream's network does: before the last layer in most, behind "
    "each hidden layer of the classifier in alexnet and vgg, behind embeddings, attention and MLPs in vit, 0..1.",
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
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of red, green and blue
_HEADS = ("fc", "classifier", "heads", "head")  # where a network's last layer is
_RENAMED = (  # in files that are older than the names
    (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"(encoder_layer_\d+\.mlp\.)linear_1\."), r"\g<1>0."),
    (re.compile(r"(encoder_layer_\d+\.mlp\.)linear_2\."), r"\g<1>3."),
)


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
        weights: pretrained weights, their name, "DEFAULT", or the path of a file; None for random ones. None are
            fetched, and a file is only held against the model, on the meta device.
        arguments: passed on to torchvision.

    Returns:
        The model; images (N, C, H, W) in, logits (N, num_classes) out.

    Raises:
        DataError: the weights are not there and cannot be downloaded.
        CheckpointError: a file of weights is missing, damaged, or of another network.
    """
    scaled = name in _AUXILIARY and weights is not None and _is_of_torchvision(name, weights)
    if name in _AUXILIARY and weights is not None:  # as torchvision does with its weights
        arguments = {"transform_input": scaled, "init_weights": False, **arguments}
    model: Any = _random(name, num_classes, arguments)
    if scaled and in_channels != 3:  # torchvision's own scaling is of three colours
        model._transform_input = _scaled_alike
    channels = 3
    if weights is not None and weights_are_fetched():
        if isinstance(weights, str) and names_a_file(weights):
            channels = _load(model, Path(weights))
        elif not _on_meta():
            channels = _load_named(model, name, weights)
    if in_channels != channels:
        _replace_stem(model, in_channels)
    return cast("nn.Module", model)


def _scaled_alike(images: Tensor) -> Tensor:
    """Bring images, normalised by ImageNet's deviation and mean over the colours, to those that 0.5 and 0.5 make."""
    return images * (sum(_DEVIATION) / 3 / 0.5) + (sum(_MEAN) / 3 - 0.5) / 0.5


def _is_of_torchvision(name: str, weights: str | WeightsEnum) -> bool:
    """Whether weights are torchvision's own, by name or by the file's: they want pixels scaled otherwise."""
    if not isinstance(weights, str) or not names_a_file(weights):
        return True
    named = importlib.import_module("torchvision.models").get_model_weights(name)
    return Path(weights).name in {member.url.rpartition("/")[2] for member in named}


def _load_named(model: nn.Module, name: str, weights: str | WeightsEnum) -> int:
    """Load torchvision's weights from torch.hub's cache, where they are put first if they are not there.

    Raises:
        DataError: they are not there and cannot be downloaded.
        CheckpointError: the file in the cache is damaged, or another one.
    """
    from torch import hub

    member: Any = importlib.import_module("torchvision.models").get_model_weights(name).verify(weights)
    file = Path(hub.get_dir(), "checkpoints", member.url.rpartition("/")[2])
    if not file.exists():
        try:
            fetch(member.url, file)
        except OSError as error:
            raise DataError(
                f"the weights {member.name} of {name} cannot be loaded: {error}",
                f"put {member.url} into {file.parent}/, or anywhere and write model.weights: PATH; "
                "or leave `weights` out to start from random ones",
            ) from error
    try:
        return _load(model, file)
    except CheckpointError as error:
        raise CheckpointError(error.message, "remove that file, and it is fetched again") from error


def _load(model: nn.Module, file: Path) -> int:
    """Load all but the last layer from a file, say what was loaded, and return the channels that the model then takes.

    Raises:
        CheckpointError: the file is missing, damaged, or of another network.
    """
    from registry import state_dicts

    tensors = {
        _renamed(name): tensor for name, tensor in state_dicts.read(file, "meta" if _on_meta() else "cpu").items()
    }
    channels = _channels(model, tensors)
    if channels != 3:
        _replace_stem(model, channels)
    tensors = _with_places_of(model, tensors)
    last = _last_layer(model)
    head = [name for name in model.state_dict() if name.rpartition(".")[0] == last]
    say(state_dicts.load_all_but_head(model, file, tensors, head))
    return channels


def _renamed(name: str) -> str:
    for pattern, now in _RENAMED:
        name = pattern.sub(now, name)
    return name


def _channels(model: nn.Module, tensors: Mapping[str, Tensor]) -> int:
    """Return how many channels the first convolution of a file takes; 3 where it has none by that name."""
    path, _ = _first_convolution(model)
    named = min((name for name in tensors if f".{name}".endswith(f".{path}.weight")), key=len, default="")
    return tensors[named].shape[1] if named and tensors[named].dim() == 4 else 3


def _with_places_of(model: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with a vision transformer's place of each patch interpolated to the model's size of images."""
    from registry.tensor_names import named_as

    name = "encoder.pos_embedding"
    own = model.state_dict()
    theirs = named_as(own, tensors).found.get(name) if name in own else None
    if theirs is None or tensors[theirs].shape == own[name].shape:
        return tensors
    module = importlib.import_module("torchvision.models.vision_transformer")
    with suppress(ValueError):  # no such places: said as of another size
        fitted = module.interpolate_embeddings(model.image_size, model.patch_size, {name: tensors[theirs]})
        tensors = {**tensors, theirs: fitted[name]}
        say(f"places of patches interpolated to images of {model.image_size} px")
    return tensors


def _last_layer(model: nn.Module) -> str:
    """Return the dotted name of a model's last layer, one with weights.

    Raises:
        DataError: no layer under fc, classifier, heads or head ends the model.
    """
    from torch import nn

    for attribute in _HEADS:
        head = getattr(model, attribute, None)
        for path, layer in [] if head is None else reversed(list(head.named_modules())):
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                return f"{attribute}.{path}" if path else attribute
    raise DataError(f"{type(model).__name__} has no last layer to replace", "leave `weights` out")


def _random(name: str, num_classes: int, arguments: Mapping[str, object]) -> nn.Module:
    """Return a model with random weights, without auxiliary heads."""
    models = importlib.import_module("torchvision.models")
    alone = {"aux_logits": False, "init_weights": True} if name in _AUXILIARY else {}
    with _plans_on_cpu() if name.startswith("regnet") else nullcontext():
        return models.get_model(name, num_classes=num_classes, **{**alone, **arguments})  # type: ignore[no-any-return]


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


def _first_convolution(model: nn.Module) -> tuple[str, nn.Conv2d]:
    """Return a model's first convolution and its dotted name."""
    from torch import nn

    return next((path, layer) for path, layer in model.named_modules() if isinstance(layer, nn.Conv2d))


def _replace_stem(model: nn.Module, in_channels: int) -> None:
    """Give the first convolution other input channels, in place.

    Each of them gets the mean of the filters over the old ones, scaled so that images whose channels are all alike give
    the answers that they gave before.
    """
    import torch
    from torch import nn

    path, old = _first_convolution(model)
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
    named = importlib.import_module("torchvision.models").get_model_weights(name)
    weights = [
        {"kind": "one_of", "values": list(named.__members__), "enum": f"{named.__module__}:{named.__qualname__}"},
        {"kind": "text", "syntax": "weights"},
        {"kind": "null"},
    ]
    engine = dict.fromkeys(filled, _FIXED)
    if name in _AUXILIARY:
        engine.update(aux_logits=_ONE_OUTPUT, dropout_aux=_ONE_OUTPUT, transform_input="the weights decide it")
    return Change(
        forwards=(f"{cls.__module__}:{cls.__qualname__}", "registry.models.torchvision:build"),
        engine=engine,
        types={
            "weights": {"kind": "union", "of": weights},
            "num_classes": {"kind": "integer", "min": 1},
            **dict.fromkeys(_SHARES, _SHARE),
        },
        docs=_OWN_DOCS,
        missing_docs=_DOCS,
        facts={"upstream": f"torchvision.models:{name}"},
    )
