"""Models of timm, which the extra of that name installs: `timm:NAME` in a recipe.

Owns how a name becomes a model for the data's classes and channels; timm itself knows how to fit weights to both. Every
model of timm is an attribute of this module. Importing it imports no timm.
"""

from __future__ import annotations

import functools
import importlib
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from registry.catalogue.markers import Bounds
from registry.errors import DataError
from registry.models.pretrained import weights_are_fetched

if TYPE_CHECKING:
    from torch import nn

__all__: list[str] = []

_HUB = ("huggingface.co", 443)


def __getattr__(name: str) -> Callable[..., nn.Module]:
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
        pretrained: load the pretrained weights of that name; the last layer is made anew.
        drop_rate: dropout before the last layer, where the model has it; timm's own default when omitted.
        drop_path_rate: share of residual branches dropped, where the model has it; timm's own default when omitted.
        global_pool: kind of pooling before the last layer, "avg", "max", ...; the model's own when omitted.

    Returns:
        The model; images (N, C, H, W) in, logits (N, num_classes) out.

    Raises:
        DataError: the weights are not there and cannot be downloaded.
    """
    import torch

    timm = importlib.import_module("timm")
    given: dict[str, object] = {"drop_rate": drop_rate, "drop_path_rate": drop_path_rate, "global_pool": global_pool}
    arguments = {key: value for key, value in given.items() if value is not None}
    if image_size is not None and _is_made_for_one_size(timm, name):
        arguments["img_size"] = image_size
    pretrained = pretrained and weights_are_fetched()
    if not pretrained or torch.get_default_device().type == "meta":  # no numbers there, none are fetched
        return timm.create_model(name, num_classes=num_classes, in_chans=in_channels, **arguments)  # type: ignore[no-any-return]
    try:
        with _no_retries_without_network():
            return timm.create_model(  # type: ignore[no-any-return]
                name, pretrained=True, num_classes=num_classes, in_chans=in_channels, **arguments
            )
    except OSError as error:
        raise DataError(
            f"the pretrained weights of timm:{name} cannot be loaded: {type(error).__name__}",
            "fetch them once with a network, or leave `pretrained` out to start from random weights",
        ) from error


def _is_made_for_one_size(timm: Any, name: str) -> bool:
    told = timm.get_pretrained_cfg(name)
    return bool(told is not None and told.fixed_input_size)


@contextmanager
def _no_retries_without_network() -> Iterator[None]:
    """Where the hub cannot be reached, look in its cache alone: its client would retry for most of a minute."""
    constants: Any = importlib.import_module("huggingface_hub.constants")
    before = constants.HF_HUB_OFFLINE
    try:
        socket.create_connection(_HUB, timeout=3).close()
    except OSError:
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
