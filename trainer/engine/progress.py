"""Training progress: all that the loop remembers, in one dataclass."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class Progress:
    """Where a training stands.

    Attributes:
        epoch: finished epochs.
        batch: micro-batches done in the running epoch.
        step: optimizer steps done in all.
        seconds: training and validation time, without what lies between a stop and its resume.
        epoch_seconds: the part of `seconds` that the running epoch took.
        lr: learning rate of the last step, of the first parameter group.
        group_lrs: those of the other groups.
        best: row of the best epoch; None before the first.
        history: one row per finished epoch.
        stopped: why a callback or a limit ended training, in words; "" otherwise.
        out_of_time: whether it was the limit on its time: what more time takes back.
        skipped: steps left out because their loss or gradient was not finite.
        skipped_in_a_row: those since the last good step.
        restores: times the last checkpoint was restored after such a step.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    lr: float = 0.0
    group_lrs: list[float] = field(default_factory=list)
    best: dict[str, float] | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    stopped: str = ""
    out_of_time: bool = False
    skipped: int = 0
    skipped_in_a_row: int = 0
    restores: int = 0
    _lines: list[str] = field(default_factory=list, init=False, repr=False, compare=False)  # of `history`, so far asked

    def state(self) -> dict[str, Any]:
        """Return a deep copy as plain values.

        The history is one text, to which only new rows are added: copying and hashing every number of every epoch at
        each checkpoint would make long runs slower with every epoch.
        """
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.init}
        values["best"] = None if self.best is None else dict(self.best)
        values["group_lrs"] = list(self.group_lrs)
        self._lines += [json.dumps(row, default=float) for row in self.history[len(self._lines) :]]
        values["history"] = "\n".join(self._lines)
        return values

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        for each in fields(self):
            if each.init and each.name in state:  # one of an earlier version holds less
                setattr(self, each.name, state[each.name])
        self.best = None if self.best is None else dict(self.best)
        self.history, self._lines = history_in(state), []


def history_in(state: Mapping[str, Any]) -> list[dict[str, float]]:
    """Return the rows of the finished epochs that a state of `Progress` holds.

    Args:
        state: its "history" is a text, one JSON object per line; a list of rows in checkpoints of earlier versions.
    """
    kept = state["history"]
    return [dict(row) for row in kept] if isinstance(kept, list) else [json.loads(line) for line in kept.splitlines()]
