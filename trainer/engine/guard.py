"""Guard against NaN and infinity: every loss and every gradient is looked at before it can reach the weights.

Owns what a bad batch has touched: its update is not taken, and with `skip` buffers (running statistics) are put back as
they were before it. Averages and the optimizer move only after a good one, and with `restore` the loop loads everything
that was learnt from the last checkpoint, which is written only after a look. Knows nothing of epochs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from trainer.engine.modules import Kept, Slot, slots_of, statistics

OnNan = Literal["stop", "skip", "restore"]


@dataclass(frozen=True)
class Fault:
    """The first number that was not finite.

    Attributes:
        what: where it was.
        ago: optimizer steps taken since.
        lr: learning rate of its step, of the first parameter group.
    """

    what: Literal["loss", "gradient", "weight"]
    ago: int
    lr: float


class Guard:
    """Looks at every loss and gradient before the update, and at the weights before a save.

    Reading a number costs nothing on the CPU. A GPU would be waited for. With `stop` nothing that happens after a bad
    number survives, so there the numbers only gather, and the loop reads them at the log interval and before every
    save. `skip` and `restore` go on training, whatever the optimizer: they read at every step, on every device.

    Args:
        device: where losses lie.
        on_nan: what the loop does at a fault.
        modules: the network, and whatever else a forward pass may change: the loss, the mix, ...
        free: whether a reading costs nothing; None to go by the device.
    """

    def __init__(
        self,
        device: torch.device,
        on_nan: OnNan = "stop",
        modules: Sequence[nn.Module] = (),
        *,
        free: bool | None = None,
    ) -> None:
        self._on_host = device.type == "cpu"
        self.immediate = (self._on_host if free is None else free) or on_nan != "stop"
        self._buffers = Kept(slots_of(modules, parameters=False), statistics) if on_nan == "skip" else None
        self._watched = [slot for slot in slots_of(modules, parameters=True) if all_finite([slot])]
        self._steps: list[tuple[list[Tensor], float]] = []  # not looked at yet: losses and gradient's fault, and lr
        self._fault: Fault | None = None

    def step_started(self) -> None:
        """Before the first forward pass of a step: remember what it may spoil."""
        if self._buffers is not None:
            self._buffers.take()

    def admits(self, losses: Sequence[Tensor], gradient: Tensor, lr: float) -> bool:
        """Take in a step's numbers, and return whether its update may run.

        Args:
            losses: of its micro-batches, scalars.
            gradient: scalar, 0 where every gradient is finite, anything else where not.
            lr: learning rate of the first parameter group.
        """
        if not self.immediate:
            self._steps.append(([*losses, gradient], lr))
            return True
        if self._on_host and gradient.item() == 0 and all(map(math.isfinite, map(Tensor.item, losses))):
            return True  # nearly every step: nothing is built to say so
        self._fault = _fault_in(_numbers([*losses, gradient]), 0, lr)
        if self._fault is not None and self._buffers is not None:
            self._buffers.put_back()
        return self._fault is None

    def look(self) -> Fault | None:
        """Return the first fault since the last look, and forget it. Waits for the device unless `immediate`."""
        if not self.immediate:
            return self._read()
        fault, self._fault = self._fault, None
        return fault

    def sound(self) -> bool:
        """Whether everything learnt is finite; a mask that held infinities from the start may. Waits for the device."""
        return all_finite(self._watched)

    def _read(self) -> Fault | None:
        steps, self._steps = self._steps, []
        numbers = iter(_numbers([number for step, _ in steps for number in step]))
        for index, (step, lr) in enumerate(steps):
            fault = _fault_in([next(numbers) for _ in step], len(steps) - 1 - index, lr)
            if fault is not None:
                return fault
        return None


def _fault_in(numbers: Sequence[float], ago: int, lr: float) -> Fault | None:
    """Return what the numbers of a step, its losses and the gradient's fault, say."""
    *losses, gradient = numbers
    if not all(map(math.isfinite, losses)):
        return Fault("loss", ago, lr)
    return None if gradient == 0 else Fault("gradient", ago, lr)


@torch.no_grad()
def all_finite(slots: Sequence[Slot]) -> bool:
    """Whether all floating-point tensors are finite. Waits for the device."""
    tensors = [kind[name].detach() for kind, name in slots if _is_floating(kind[name])]
    if not tensors or bool(torch.stack(torch._foreach_norm(tensors)).isfinite().all()):
        return True
    return all(bool(tensor.isfinite().all()) for tensor in tensors)  # a norm of large numbers may overflow


def _is_floating(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.is_floating_point() and tensor.numel() > 0


def _numbers(scalars: list[Tensor]) -> list[float]:
    """Return the values: on a device by one reading, on the CPU one by one, which costs less there than gathering."""
    if not scalars or scalars[0].device.type == "cpu":
        return [scalar.item() for scalar in scalars]
    return list(torch.stack(scalars).tolist())
