"""One optimizer step: micro-batches forward and backward, then penalties, check, clip, update.

The training loop and the LR finder share it. Knows nothing of epochs, schedules or records.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from registry.contracts import Regularizer
from trainer.data.batches import Batch
from trainer.engine.criterion import Criterion, Loss, part_of_step
from trainer.engine.meters import BatchResult
from trainer.engine.precision import Precision

Mixer = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Penalty:
    """A regularizer and the parameters it acts on.

    Attributes:
        name: "l1", as in train/penalty/l1.
        regularizer: adds gradients and tells its value.
        parameters: those its patterns select.
    """

    name: str
    regularizer: Regularizer
    parameters: Sequence[nn.Parameter]


class Step:
    """Runs optimizer steps.

    Args:
        model: in training mode.
        loss: plain loss of logits (N, C) and targets, a mean over the batch; several micro-batches count with what
            their means divide by, so that a step is the same however it is cut.
        optimizer: over the model's trained parameters.
        precision: number format.
        penalties: added to the gradients once per step.
        clip_norm: largest total gradient norm, penalties included; None for no limit.
        guard: notices losses that are not finite.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        optimizer: Optimizer,
        precision: Precision,
        penalties: Sequence[Penalty],
        clip_norm: float | None,
        guard: Guard,
    ) -> None:
        self.optimizer = optimizer
        self._model, self._criterion, self._precision = model, Criterion(loss), precision
        self._penalties, self._clip_norm, self._guard = penalties, clip_norm, guard
        self._clipped = (
            [p for group in optimizer.param_groups for p in group["params"]] if clip_norm is not None else []
        )

    def __call__(self, group: Sequence[Batch], mix: Mixer | None = None) -> list[BatchResult]:
        """Take one step over the micro-batches of `group`; a bad loss changes no weight."""
        given = [(batch.images, batch.targets) if mix is None else mix(batch.images, batch.targets) for batch in group]
        weights = [self._criterion.weight(targets) for _, targets in given]
        whole = sum(weights[1:], start=weights[0])
        results = []
        for batch, (inputs, mixed), weight in zip(group, given, weights, strict=True):
            with self._precision.autocast():
                logits = self._model(inputs)
            loss = self._criterion(logits.float(), mixed)
            self._precision.backward(part_of_step(loss, weight, whole))
            results.append(BatchResult(loss.detach(), logits.detach(), batch.targets, weight))
        if self._guard.admits(results, self.optimizer):
            self._update()
        self.optimizer.zero_grad(set_to_none=True)
        return results

    def _update(self) -> None:
        self._precision.unscale(self.optimizer)
        for penalty in self._penalties:
            penalty.regularizer.add_gradients(penalty.parameters)
        if self._clip_norm is not None:
            nn.utils.clip_grad_norm_(self._clipped, self._clip_norm)
        self._precision.step(self.optimizer)


class Guard:
    """Notices the first loss that is not finite.

    On the CPU a loss is read at once, which costs nothing there, and a bad one never reaches the weights. On other
    devices a reading would stall the device, so a flag stays there: fused optimizers take it as `found_inf` and leave
    the weights alone from the first bad step on, and the loop reads it at the log interval, always before a checkpoint.

    Args:
        device: where losses lie.
    """

    def __init__(self, device: torch.device) -> None:
        self._at_once = device.type == "cpu"
        self._device = device
        self.clear()

    def clear(self) -> None:
        """Forget what was seen."""
        self._bad_on_host = False
        self._flag = None if self._at_once else torch.zeros((), device=self._device)

    def admits(self, results: Sequence[BatchResult], optimizer: Optimizer) -> bool:
        """Note the losses of a step and return whether its update may run."""
        if self._at_once:
            for result in results:
                if not math.isfinite(result.loss.item()):
                    self._bad_on_host = True
            return not self._bad_on_host
        assert self._flag is not None
        for result in results:
            self._flag = torch.maximum(self._flag, (~torch.isfinite(result.loss)).float())
        if optimizer.defaults.get("fused"):
            optimizer.found_inf = self._flag  # type: ignore[attr-defined]
        return True

    @property
    def immediate(self) -> bool:
        """Whether `tripped` costs nothing and may be asked after every step."""
        return self._at_once

    def tripped(self) -> bool:
        """Whether a bad loss was seen. Waits for the device where losses are not read at once."""
        return self._bad_on_host if self._at_once else bool(self._flag)
