"""What tests ask of a model's layers in one call."""

from typing import NamedTuple

from torch import Tensor, nn

from registry.reports.layers import deepest_readable, visits


class Layer(NamedTuple):
    """A layer that can be explained, and (channels, height, width) of its map."""

    name: str
    shape: tuple[int, int, int]


def eligible_layers(model: nn.Module, images: Tensor) -> list[Layer]:
    """The layers that can be explained, in execution order."""
    return [Layer(visit.name, visit.map_shape) for visit in visits(model, images) if visit.eligible and visit.map_shape]


def default_layer(model: nn.Module, images: Tensor) -> str | None:
    """The layer that GradCAM takes where the recipe names none."""
    return deepest_readable(visits(model, images))
