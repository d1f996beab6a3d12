"""The learning-rate finder (Leslie Smith, arXiv 1506.01186): a stage whose result is a number.

It sweeps on the experiment's own model, batches, penalties and precision, and gives everything back as it was: weights,
buffers, gradients, modes and random states are compared with what they were before. The optimizer of the sweep is
thrown away; the training builds its own with the number found.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Literal

import numpy as np
from torch import nn

from registry.contracts import LRFinding
from registry.errors import DivergedError
from trainer.data.batches import Batch, Batches
from trainer.engine import rng
from trainer.engine.checkpoint import digest
from trainer.engine.evaluation import evaluate
from trainer.engine.guard import Guard
from trainer.engine.interrupts import Interrupts
from trainer.engine.meters import mean_loss
from trainer.engine.modules import Kept, slots_of, state_of
from trainer.experiment.experiment import Experiment
from trainer.recipe.recipe import LRFinder
from trainer.stages import lr_picks

DIVERGENCE_MEMORY = 0.9  # of the running mean that notices divergence
FEWEST_POINTS = 10  # before divergence may end a sweep
Ending = Literal["end", "diverged", "non-finite"]
VAL_SUBSET = 2048  # images measured after each step with `loss: val`


def find_lr(
    experiment: Experiment,
    section: LRFinder,
    *,
    assume: bool = False,
    interrupts: Interrupts | None = None,
    progress: Callable[[int, int, float, float], None] = lambda *_: None,
) -> LRFinding:
    """Sweep the learning rate and return what the curve says.

    Args:
        experiment: left untouched.
        section: the recipe's `lr_finder`.
        assume: take sqrt(start*end) where the curve has no answer (`--fast`).
        interrupts: signals; the sweep ends by raising `Interrupted`.
        progress: told (step, steps, lr, loss).
    """
    started = time.perf_counter()
    with untouched(experiment):
        lrs, losses, stopped, uncounted = _sweep(experiment, section, interrupts or Interrupts(), progress)
    sigma = section.smooth * section.steps
    smoothed = lr_picks.smooth(losses, sigma)
    reason = lr_picks.why_inconclusive(losses, smoothed, section.steps, stopped, sigma, uncounted)
    abscissae = np.asarray(lrs)
    picks = {name: None if reason else rule(abscissae, smoothed) for name, rule in lr_picks.PICKS.items()}
    lr = picks[section.pick]
    if lr is None and assume:
        lr = math.sqrt(section.start * section.end)
    nearest = None if lr is None or not losses else int(np.argmin(np.abs(np.log(abscissae) - math.log(lr))))
    return LRFinding(
        lrs=tuple(lrs),
        losses=tuple(losses),
        smoothed=tuple(float(value) for value in smoothed),
        picks=picks,
        pick=section.pick,
        lr=lr,
        loss=None if nearest is None else float(smoothed[nearest]),
        status="inconclusive" if lr is None else "assumed" if reason else "found",
        reason=reason,
        stopped=stopped,
        seconds=time.perf_counter() - started,
    )


def required_lr(finding: LRFinding) -> float:
    """Return the number.

    Raises:
        DivergedError: the finding is inconclusive.
    """
    if finding.lr is None:
        raise DivergedError(
            f"the LR finder found no learning rate: {finding.reason}",
            "change lr_finder as said, or write a number as optimizer.lr",
        )
    return finding.lr


def _sweep(
    experiment: Experiment,
    section: LRFinder,
    interrupts: Interrupts,
    progress: Callable[[int, int, float, float], None],
) -> tuple[list[float], list[float], Ending, int]:
    """Return the learning rate of each loss, the losses, how the sweep ended, and in how many steps nothing counted."""
    planned = lr_picks.learning_rates(section.start, section.end, section.steps, section.mode)
    guard = Guard(experiment.device, free=True)  # every loss is read here anyway
    step = experiment.step(experiment.optimizer(section.start), guard=guard)
    groups = _endless(experiment.course.train, experiment.recipe.train.accumulate)
    measure = _validation_loss(experiment) if section.loss == "val" else None
    lrs: list[float] = []
    losses: list[float] = []
    mean, best, weight, uncounted = 0.0, math.inf, 0.0, 0
    for index, lr in enumerate(planned):
        interrupts.check()
        for group, rate in zip(step.optimizer.param_groups, experiment.swept_rates(float(lr)), strict=True):
            group["lr"] = rate
        mix = None if experiment.mixer is None else experiment.mixer(0, index)
        results = step(next(groups), mix)
        loss = mean_loss(results, experiment.processes) if measure is None else measure()
        if loss is None:  # class weights of 0 throughout: nothing was measured
            uncounted += 1
            continue
        # A training loss is taken before its own update: it tells of the rate one step before.
        belongs = planned[index - 1] if measure is None and index else lr
        refused = guard.look() is not None
        if not math.isfinite(loss) or (refused and measure is not None):
            return lrs, losses, "non-finite", uncounted
        if measure is not None or index:
            lrs.append(float(belongs))
            losses.append(loss)
        progress(index + 1, section.steps, float(lr), loss)
        if refused:  # a gradient, while its loss is finite
            return lrs, losses, "non-finite", uncounted
        mean = DIVERGENCE_MEMORY * mean + (1 - DIVERGENCE_MEMORY) * loss
        weight = DIVERGENCE_MEMORY * weight + (1 - DIVERGENCE_MEMORY)
        best = min(best, mean / weight)
        if index >= FEWEST_POINTS and mean / weight > section.diverge * best:
            return lrs, losses, "diverged", uncounted
    return lrs, losses, "end", uncounted


def _endless(batches: Batches, accumulate: int) -> Iterator[list[Batch]]:
    """Yield groups of training batches; epochs count down from 0, so that no draw is one of the training's."""
    epoch = 0
    while True:
        iterator = batches.epoch(epoch)
        while group := list(islice(iterator, accumulate)):
            yield group
        epoch -= 1


def _validation_loss(experiment: Experiment) -> Callable[[], float]:
    kept = list(experiment.course.val.spread(VAL_SUBSET))

    def measure() -> float:
        precision, processes = experiment.precision(), experiment.processes
        return evaluate(experiment.course.forward, kept, experiment.loss, {}, precision, processes=processes).loss

    return measure


@contextmanager
def untouched(experiment: Experiment) -> Iterator[None]:
    """Train in the block, and then give back every module and random state exactly as they were, and prove it."""
    parts = [experiment.model, *experiment.modules.values()]
    modes = [(module, module.training) for part in parts for module in part.modules()]
    gradients = [(parameter, parameter.grad) for part in parts for parameter in part.parameters()]
    before = _digest(parts)
    kept = Kept(slots_of(parts, parameters=True)).take()
    for parameter, _ in gradients:
        parameter.grad = None
    experiment.train_mode()
    try:
        with rng.untouched_randomness():
            random_before = digest(rng.capture())
            yield
    finally:
        kept.put_back()
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for module, mode in modes:
            module.training = mode
    assert _digest(parts) == before, "the LR finder changed the model or what trains it"
    assert digest(rng.capture()) == random_before, "the LR finder changed a random state"


def _digest(parts: Sequence[nn.Module]) -> str:
    return digest({str(index): state_of(part) for index, part in enumerate(parts)})
