"""The learning rate of every optimizer step of a run that is over: its schedule gone through again."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

from trainer.experiment.experiment import Experiment

_SAME = 1e-6  # relative: rates that were written down were rounded nowhere


def rates_of_steps(experiment: Experiment, history: Sequence[Mapping[str, float]]) -> list[float]:
    """Return the learning rate of each step, of the first group; empty where it is not what the epochs tell.

    Args:
        experiment: of the run.
        history: a row per epoch; ReduceLROnPlateau watches them as it did in the run.
    """
    rates: list[float] = []
    try:
        schedule = experiment.schedule(experiment.optimizer())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch misses the optimizer's steps
            for row in history:
                for _ in range(experiment.steps_per_epoch):
                    rates.append(schedule.lr)
                    schedule.step_finished()
                if not math.isclose(rates[-1], row.get("lr", math.nan), rel_tol=_SAME):
                    return []  # steps were skipped, or the schedule was another when they were taken
                schedule.epoch_finished(row)
    except Exception:  # a schedule may be anybody's code; the epochs' rates are known in any case
        return []
    return rates
