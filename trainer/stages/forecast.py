"""The forecast: how long a run will take, from a few steps that leave no trace."""

from __future__ import annotations

import time
from itertools import islice

from trainer.experiment.experiment import Experiment
from trainer.stages.lr_finder import untouched

PROBE_STEPS = 3  # the first is not counted: it allocates and compiles
FORWARD_SHARE = 1 / 3  # of a training step's time that a forward pass takes


def seconds_per_step(experiment: Experiment) -> float:
    """Return the wall time of one optimizer step."""
    accumulate = experiment.recipe.train.accumulate
    batches = experiment.course.train.epoch(0)
    with untouched(experiment):
        step = experiment.step(experiment.optimizer(1e-8))
        times = []
        for index in range(PROBE_STEPS):
            started = time.perf_counter()
            group = list(islice(batches, accumulate))
            if not group:
                break
            mix = None if experiment.mixer is None else experiment.mixer(0, index)
            results = step(group, mix)
            float(results[-1].loss)  # waits for the device
            times.append(time.perf_counter() - started)
    return min(times[1:] or times)


def total_seconds(experiment: Experiment, step_seconds: float, finder_steps: int, epochs: float) -> float:
    """Return the expected time of LR finder, training and validation over so many epochs."""
    steps = experiment.steps_per_epoch
    validation = FORWARD_SHARE * step_seconds * steps * len(experiment.data.val) / max(len(experiment.data.train), 1)
    return finder_steps * step_seconds + epochs * (steps * step_seconds + validation)
