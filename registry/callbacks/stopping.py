"""Callbacks that end training early."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from registry.catalogue.adoption import Change
from registry.catalogue.markers import Bounds, Text
from registry.contracts import Callback, Plain, Stop, View
from registry.printing import counted


class EarlyStopping(Callback):
    """Ends training when a metric has not improved for a while.

    Args:
        monitor: key of the epoch's row.
        mode: `min` where smaller is better.
        patience: epochs without improvement that are waited for, counted as ReduceLROnPlateau counts: with 2, the third
            in a row ends the training.
        min_delta: smallest change that counts as an improvement.
    """

    change: ClassVar = Change(facts={"waits": {"epochs": "patience"}})

    def __init__(
        self,
        monitor: Annotated[str, Text("metric")] = "val/loss",
        mode: Literal["min", "max"] = "min",
        patience: Annotated[int, Bounds(min=0)] = 5,
        min_delta: Annotated[float, Bounds(min=0)] = 0.0,
    ) -> None:
        self._monitor, self._sign = monitor, 1.0 if mode == "max" else -1.0
        self._watched = f"{mode} {monitor}"
        self._patience, self._min_delta = patience, min_delta
        self._best = -math.inf
        self._waited = 0

    def epoch_finished(self, view: View) -> Stop | None:
        """Compare, count, and ask to stop when patience is over."""
        value = self._sign * view.row.get(self._monitor, math.nan)
        if value > self._best + self._min_delta:
            self._best, self._waited = value, 0
            return None
        self._waited += 1
        return self.still_asks()

    def still_asks(self) -> Stop | None:
        """Hold what was waited for against the patience."""
        if self._waited <= self._patience:
            return None
        return Stop(f"EarlyStopping: {self._monitor} has not improved for {counted(self._waited, 'epoch')}")

    def state(self) -> dict[str, Plain]:
        """Return the best value and the count."""
        return {"best": self._best, "waited": self._waited, "watched": self._watched}

    def load(self, state: Mapping[str, Plain]) -> None:
        """Continue from `state`; begin anew where it is of another metric, or of the same the other way round."""
        if state.get("watched", self._watched) == self._watched:
            self._best, self._waited = state["best"], state["waited"]
