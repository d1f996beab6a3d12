"""The whole way of a picture as one module: fitted, transformed, normalised, answered, told as probabilities.

Owns its order. Forms of transforms are registry/transforms/graph.py's; what the run was trained with, its checkpoint's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from typing_extensions import override

from registry.errors import RecipeError
from registry.transforms.graph import Form, NoGraphForm, Seen, forms_of, scaled_levels
from registry.transforms.graph_resize import FitGraph
from trainer.experiment.trained import Trained

_SPARE = (3, 5)  # px by which an example differs from every size that the graph knows


class Whole(nn.Module):
    """Probabilities of pictures.

    Args:
        steps: from grey levels to the network's numbers, each (N, H, W, C) in and out.
        network: (N, C, H, W) in, logits (N, classes) out; in evaluation mode.
        temperature: that logits are divided by.
    """

    def __init__(self, steps: Sequence[nn.Module], network: nn.Module, temperature: float = 1.0) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.network = network
        self.temperature = temperature

    @override
    def forward(self, pictures: Tensor) -> Tensor:
        """Return how likely each class is, float32 (N, classes), of uint8 pictures (N, H, W, C)."""
        images = pictures
        for step in self.steps:
            images = step(images)
        logits: Tensor = self.network(images.permute(0, 3, 1, 2))
        return (logits.to(torch.float32) / self.temperature).softmax(1)


def whole_of(trained: Trained, network: nn.Module, temperature: float) -> Whole:
    """Return a run's network with all that happens to a picture before and after it.

    Args:
        trained: what the run was trained with.
        network: its network, on the CPU.
        temperature: that logits are divided by.

    Raises:
        RecipeError: a transform has no form that a graph can hold.
    """
    steps = [form.module for form in forms(trained)]
    return Whole(steps, network.eval(), temperature).eval()


def forms(trained: Trained) -> list[Form]:
    """Return what happens to a picture before the network.

    Raises:
        RecipeError: a transform has no form that a graph can hold.
    """
    section = trained.recipe.data
    seen = Seen(trained.stored_size, trained.channels)
    found = [] if seen.size is None else [Form(FitGraph(*seen.size), seen.size)]
    for name, specs in (("eval", section.eval), ("preprocess", section.preprocess)):
        try:
            found += forms_of([trained.make(spec) for spec in specs], seen)
        except NoGraphForm as error:
            where = next((str(spec.origin) for spec in specs if spec.type == error.name), f"data.{name}")
            raise RecipeError(
                f"{where}: this run cannot be exported: {error.name}: {error.reason}", error.way_out
            ) from error
        seen = replace(seen, size=found[-1].size) if found else seen
    return found if found and found[-1].makes_float else [*found, Form(scaled_levels(), seen.size)]


def example(trained: Trained) -> Tensor:
    """Return two pictures to trace a graph by, uint8 (2, H, W, C), of a size that is none of the graph's own."""
    height, width = trained.stored_size or trained.input_shape[1:]
    shape = (2, height + _SPARE[0], width + _SPARE[1], trained.channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
