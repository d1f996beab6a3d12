"""When the learning rate moves: a torch scheduler, its interval, and the metric it watches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from registry.errors import DivergedError


class Schedule:
    """Steps a scheduler at its interval.

    Args:
        optimizer: whose learning rate it moves.
        scheduler: of torch.optim.lr_scheduler, already built on `optimizer`; None keeps the rate.
        each: "step" after every optimizer step, "epoch" after every validation.
        monitor: key of the epoch's row that ReduceLROnPlateau is given.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        scheduler: LRScheduler | ReduceLROnPlateau | None,
        each: Literal["step", "epoch"],
        monitor: str | None,
    ) -> None:
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._monitor = monitor
        self.every_step = scheduler is not None and each == "step"
        self.every_epoch = scheduler is not None and each == "epoch"

    @property
    def lr(self) -> float:
        """Learning rate of the first parameter group, as the next step will use it."""
        return float(self._optimizer.param_groups[0]["lr"])

    def step_finished(self) -> None:
        """After an optimizer step."""
        if self.every_step:
            self._scheduler.step()  # type: ignore[union-attr,call-arg]

    def epoch_finished(self, row: Mapping[str, float]) -> None:
        """After the validation whose numbers are in `row`.

        Raises:
            DivergedError: the monitored metric is not in the row.
        """
        if not self.every_epoch:
            return
        if isinstance(self._scheduler, ReduceLROnPlateau):
            if self._monitor is None or self._monitor not in row:
                raise DivergedError(f"the scheduler watches {self._monitor!r}, which this epoch did not measure")
            self._scheduler.step(row[self._monitor])
        else:
            self._scheduler.step()  # type: ignore[union-attr]

    def state(self) -> dict[str, Any]:
        """Return the scheduler's state."""
        return {} if self._scheduler is None else self._scheduler.state_dict()

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        if self._scheduler is not None:
            self._scheduler.load_state_dict(dict(state))
