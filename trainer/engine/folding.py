"""Folding: a frozen norm layer behind a frozen convolution becomes part of its weights while training steps are taken.

Frozen weights and statistics never change, so convolution and norm are one affine map that is worked out once. The
network itself keeps both: what is saved, validated and reported is computed as ever. Measured on ResNet18 at 224
pixels, one thread: a frozen forward pass costs 7 to 9 % less, in float32 and bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from trainer.engine import rng
from trainer.engine.division import alike, watched
from trainer.engine.evaluation import evaluation_mode
from trainer.engine.modules import Kept, answering_by, slots_of

Pair = tuple[nn.Conv2d, nn.BatchNorm2d]


def folded(model: nn.Module, still: Sequence[nn.Module], images: Tensor) -> nn.Module:
    """Return what a training step calls in place of a network: the same with norm layers folded; itself without any.

    Args:
        model: in the mode in which it trains; left as it was found.
        still: its layers that stay in evaluation mode.
        images: a few of its inputs, (n, C, H, W), by which pairs are found and the answers compared.
    """
    kept = Kept(slots_of([model], parameters=False)).take()
    try:
        with rng.untouched_randomness(), torch.no_grad():
            pairs = _pairs(model, set(still), images)
            if not pairs:
                return model
            made = _Folded(model, pairs)
            with evaluation_mode(model):
                return made if alike(made(images), model(images)) else model
    finally:
        kept.put_back()


def _pairs(model: nn.Module, still: set[nn.Module], images: Tensor) -> list[Pair]:
    """Return frozen convolutions with the frozen norm layer that takes what they return, each called once."""
    calls, _ = watched(model, images)
    again = {call.module for call in calls if call.visit}
    made = {id(call.answer): call.module for call in calls if type(call.module) is nn.Conv2d}
    found = []
    for call in calls:
        before = made.get(id(call.given)) if type(call.module) is nn.BatchNorm2d and call.module in still else None
        if not isinstance(before, nn.Conv2d) or {before, call.module} & again:
            continue
        if not any(parameter.requires_grad for parameter in before.parameters()):
            found.append((before, call.module))
    return found  # type: ignore[return-value]


class _Folded(nn.Module):
    """A network in which some norm layers pass on what the convolution before them returns, with weights of its own.

    Args:
        model: the network.
        pairs: of convolution and norm layer.
    """

    def __init__(self, model: nn.Module, pairs: Sequence[Pair]) -> None:
        super().__init__()
        self.model = model
        # In a tuple: they are no modules of its own, whose state anybody would save.
        self._instead: tuple[tuple[nn.Module, Callable[[Tensor], Tensor]], ...] = tuple(
            each for conv, norm in pairs for each in ((conv, _fused(conv, norm)), (norm, _passed_on))
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images."""
        with answering_by(self._instead):
            answer: Tensor = self.model(images)
        return answer


def _fused(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Callable[[Tensor], Tensor]:
    training = conv.training
    both = fuse_conv_bn_eval(conv.eval(), norm)
    conv.train(training)
    return both.requires_grad_(False).forward


def _passed_on(values: Tensor) -> Tensor:
    return values
