"""Models of timm, which the extra of that name installs: `timm:NAME` in a recipe.

Owns how a name becomes a model for the data's classes and channels, and how weights come into it: from the hub, where
timm itself fits them, or from a file or a folder as timm and the hub write them. Every model of timm is an attribute of
this module, a tag behind a slash: `resnet18/a1_in1k`. Importing it imports no timm.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from registry import files
from registry.catalogue.markers import Bounds, Text
from registry.errors import CheckpointError, DataError, RecipeError
from registry.models.pretrained import reach, say, weights_are_fetched

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__: list[str] = []

LOCAL = "local-dir:"  # timm's word before the path of a folder
_IN_FOLDER = ("model.safetensors", "pytorch_model.bin", "model.pt", "model.pth")  # the first that is there
_CONFIG = "config.json"


def __getattr__(name: str) -> Callable[..., nn.Module]:
    name = name.replace("/", ".")
    if name.startswith("_") or not importlib.import_module("timm").is_model(name):
        raise AttributeError(name)
    return functools.partial(build, name)


def build(
    name: str,
    *,
    num_classes: Annotated[int, Bounds(min=1)],
    in_channels: Annotated[int, Bounds(min=1)] = 3,
    image_size: Annotated[int, Bounds(min=1)] | tuple[int, int] | None = None,
    pretrained: bool = False,
    weights: Annotated[str, Text("path")] | None = None,
    drop_rate: Annotated[float, Bounds(min=0, below=1)] | None = None,
    drop_path_rate: Annotated[float, Bounds(min=0, below=1)] | None = None,
    global_pool: str | None = None,
) -> nn.Module:
    """Build a model of timm.

    Args:
        name: of the model, "resnet18" or "resnet18.a1_in1k".
        num_classes: classes to tell apart.
        in_channels: channels of the images.
        image_size: side of the images in pixels, or (height, width), for models that are made for one size, such as
            vision transformers; pretrained position embeddings are interpolated to it.
        pretrained: load the pretrained weights of that name from the hub or its cache; the last layer is made anew.
        weights: load them from a file (.safetensors, .bin, .pth) or a folder as the hub has them instead; timm's
            "local-dir:" may stand before it.
        drop_rate: dropout before the last layer, where the model has it; timm's own default when omitted.
        drop_path_rate: share of residual branches dropped, where the model has it; timm's own default when omitted.
        global_pool: kind of pooling before the last layer, "avg", "max", ...; the model's own when omitted.

    Returns:
        The model; images (N, C, H, W) in, logits (N, num_classes) out.

    Raises:
        DataError: the weights are not there and cannot be downloaded.
        CheckpointError: a file of weights is missing, damaged, or of another network.
        RecipeError: both `pretrained` and `weights` are given.
    """
    timm = importlib.import_module("timm")
    if pretrained and weights is not None:
        raise RecipeError("pretrained and weights both say where the weights come from", "keep one of them")
    given: dict[str, object] = {"drop_rate": drop_rate, "drop_path_rate": drop_path_rate, "global_pool": global_pool}
    arguments = {key: value for key, value in given.items() if value is not None}
    if image_size is not None and _is_made_for_one_size(timm, name):
        arguments["img_size"] = image_size
    arguments |= {"num_classes": num_classes, "in_chans": in_channels}
    if pretrained and weights_are_fetched() and not _on_meta():  # no numbers there, none are fetched
        return _from_hub(timm, name, arguments)
    model: nn.Module = timm.create_model(name, **arguments)
    if weights is not None and weights_are_fetched():
        _load(model, Path(weights.removeprefix(LOCAL)), in_channels)
    return model


def _is_made_for_one_size(timm: Any, name: str) -> bool:
    told = timm.get_pretrained_cfg(name)
    return bool(told is not None and told.fixed_input_size)


def _on_meta() -> bool:
    import torch

    return torch.get_default_device().type == "meta"


# ----------------------------------------------------------------------------------------------------------- the hub
def _from_hub(timm: Any, name: str, arguments: Mapping[str, object]) -> nn.Module:
    """Return a model with the hub's weights.

    Raises:
        DataError: they are not there and cannot be downloaded.
    """
    told, constants = timm.get_pretrained_cfg(name), importlib.import_module("huggingface_hub.constants")
    hub = getattr(told, "hf_hub_id", None)
    file = f"{constants.ENDPOINT}/{hub}/resolve/main/{_IN_FOLDER[0]}" if hub else getattr(told, "url", None)
    try:
        with _no_retries_without_network(constants):
            model: nn.Module = timm.create_model(name, pretrained=True, **arguments)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"the pretrained weights of timm:{name} cannot be loaded: {type(error).__name__}; "
            f"looked in {constants.HF_HUB_CACHE}",
            f"fetch {file} and write weights: ./{_IN_FOLDER[0]} in place of pretrained: true, "
            "or leave both out to start from random weights"
            if file
            else "timm has none of that name: leave `pretrained` out to start from random weights",
        ) from error
    kept = told.num_classes == arguments["num_classes"]  # as timm decides it
    say(f"weights of timm:{name} from {hub or file}; the last layer {'is kept' if kept else 'starts anew'}")
    return model


@contextmanager
def _no_retries_without_network(constants: Any) -> Iterator[None]:
    """Where the hub cannot be reached, look in its cache alone: its client would retry for most of a minute."""
    before = constants.HF_HUB_OFFLINE
    try:
        if not before:
            reach(constants.ENDPOINT)
    except OSError:
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


# ------------------------------------------------------------------------------------------------- files and folders
def _load(model: Any, path: Path, in_channels: int) -> None:
    """Load all but the last layer from a file, or from a folder's, and say what was loaded.

    Raises:
        CheckpointError: it is missing, damaged, or of another network.
    """
    from registry import state_dicts
    from registry.tensor_names import named_as

    file = _file_in(path, model) if path.is_dir() else path
    theirs = state_dicts.read(file, "meta" if _on_meta() else "cpu")
    before = named_as(model.state_dict(), theirs).before  # a wrapper's word, which what follows does not look for
    tensors = _as_timm_has_them(model, {name.removeprefix(before): tensor for name, tensor in theirs.items()})
    told: Mapping[str, Any] = model.pretrained_cfg
    for name in _several(told.get("first_conv")):
        weight = tensors.get(f"{name}.weight")
        if weight is not None and weight.dim() == 4 and weight.shape[1] == 3 != in_channels:
            tensors[f"{name}.weight"] = importlib.import_module("timm.models").adapt_input_conv(in_channels, weight)
    last = _several(told.get("classifier"))
    head = [name for name in model.state_dict() if name.rpartition(".")[0] in last]
    tensors = {f"{before}{name}": tensor for name, tensor in tensors.items()}
    say(state_dicts.load_all_but_head(model, file, tensors, head))


def _file_in(folder: Path, model: Any) -> Path:
    """Return the file of weights in a folder, whose config.json, where there is one, must name the model.

    Raises:
        CheckpointError: there is none, or it is another model's.
    """
    theirs, ours = architecture(folder), str(model.pretrained_cfg.get("architecture", ""))
    if theirs and ours and theirs != ours:
        raise CheckpointError(
            f"{folder}: {_CONFIG} says that these are the weights of {theirs}, not {ours}",
            f"write type: timm:{theirs}",
        )
    found = next((folder / name for name in _IN_FOLDER if (folder / name).exists()), None)
    if found is None:
        raise CheckpointError(f"{folder}: there is no {' and no '.join(_IN_FOLDER[:2])}", "name the file itself")
    return found


def architecture(folder: Path) -> str:
    """Return the network that config.json in a folder names; "" where there is none.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        told = json.loads(files.read_text(folder / _CONFIG)) if (folder / _CONFIG).exists() else {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / _CONFIG}: cannot be read ({error})") from error
    return str(told.get("architecture", "")) if isinstance(told, dict) else ""


def _as_timm_has_them(model: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under timm's present names, at the model's size: what timm itself does to that network's files."""
    filter_ = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    try:
        return tensors if filter_ is None else dict(filter_(dict(tensors), model))
    except Exception:  # each stumbles over another network's file as it likes; its names tell
        return tensors


def _several(names: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())
