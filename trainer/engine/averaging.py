"""Averaged weights: an exponential moving average, or lookahead, which also moves the weights to it.

Works on all parameters and floating buffers at once; counters (integer buffers) and what holds infinities (a mask of
minus infinity, whose average with itself is no number) stay the live ones. The average is swapped in for evaluation by
a context manager and is never what a checkpoint's `model` holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainer.engine.modules import Slot


class Averaging:
    """Weight averaging: `average = decay * average + (1 - decay) * weights`, every `every` optimizer steps.

    Args:
        model: whose weights are averaged.
        decay: share of the average kept at an update, in [0, 1). In "ema" mode the n-th update keeps at most
            (1 + n) / (10 + n), as TensorFlow's `num_updates` does, so that the initial weights do not linger.
        every: optimizer steps between updates, >= 1.
        mode: "ema" leaves the weights alone; "lookahead" (arXiv 1907.08610) sets them to the average at each update.
    """

    def __init__(self, model: nn.Module, decay: float, every: int, mode: Literal["ema", "lookahead"]) -> None:
        self._decay, self._every, self._mode = decay, every, mode
        state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        self._names = [
            name for name, tensor in state.items() if tensor.is_floating_point() and bool(tensor.isfinite().all())
        ]
        self._slots = [_slot(model, name) for name in self._names]
        self._average = [tensor.clone() for tensor in self._live()]
        self._steps = 0

    @torch.no_grad()
    def step_finished(self) -> None:
        """Count an optimizer step, and update when it is time."""
        self._steps += 1
        if self._steps % self._every:
            return
        number = self._steps // self._every
        decay = min(self._decay, (1 + number) / (10 + number)) if self._mode == "ema" else self._decay
        live = self._live()
        torch._foreach_lerp_(self._average, live, 1.0 - decay)
        if self._mode == "lookahead":
            torch._foreach_copy_(live, self._average)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average in place of the weights for the length of the block."""
        live = self._live()
        with torch.no_grad():
            kept = [tensor.clone() for tensor in live]
            torch._foreach_copy_(live, self._average)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(live, kept)

    def _live(self) -> list[Tensor]:
        """Return the tensors that are averaged; a forward pass may put another one in a buffer's place."""
        return [kind[name].detach() for kind, name in self._slots]

    def state(self) -> dict[str, Any]:
        """Return the average by name and the update counter."""
        average: dict[str, Tensor] = dict(zip(self._names, self._average, strict=True))
        return {"average": average, "steps": self._steps}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        self._steps = state["steps"]
        with torch.no_grad():
            for name, tensor in zip(self._names, self._average, strict=True):
                tensor.copy_(state["average"][name])


def _slot(model: nn.Module, full_name: str) -> Slot:
    """Return where the tensor of a dotted name stands."""
    path, _, name = full_name.rpartition(".")
    owner = model.get_submodule(path)
    return (owner._parameters if name in owner._parameters else owner._buffers), name
