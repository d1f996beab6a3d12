"""The fit stage: assembles the loop from an experiment and runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from registry.contracts import Callback
from registry.errors import MemoryLimitError
from trainer.engine import checkpoint
from trainer.engine.averaging import Averaging
from trainer.engine.chain import Chain
from trainer.engine.guard import Guard
from trainer.engine.interrupts import Interrupts
from trainer.engine.keeper import CheckpointKeeper
from trainer.engine.loop import EpochRecorder, Keeper, Limits, Loop, Parts, named_callbacks
from trainer.engine.progress import Progress
from trainer.experiment.experiment import Experiment


@dataclass(frozen=True)
class FitResult:
    """What training left behind.

    Attributes:
        progress: history, best row, steps, time.
        final: state dict of the last epoch, the averaged weights where there are any.
    """

    progress: Progress
    final: Mapping[str, Any]


def fit(
    experiment: Experiment,
    callbacks: Sequence[Callback],
    recorder: EpochRecorder,
    interrupts: Interrupts,
    checkpoints: Path,
    facts: Mapping[str, Any],
    *,
    chain: Chain | None = None,
    state: Mapping[str, Any] | None,
    ask_again: bool = False,
    log: Callable[[str], None],
    below: Path | None = None,
) -> FitResult:
    """Train, from the start or from `state`.

    Args:
        experiment: what to train.
        callbacks: behaviour.
        recorder: records.
        interrupts: signals.
        checkpoints: folder of the checkpoints.
        facts: plain values stored in each of them.
        chain: digests of the weights; None for one that holds on to nothing.
        state: a checkpoint to continue from; None for a fresh start.
        ask_again: the callbacks are others than in `state`; what they stopped goes on unless they still ask for it.
        log: takes one line.
        below: the run's folder, below which no link is followed; `checkpoints` where omitted.

    Raises:
        Interrupted: a signal came; the state is saved.
        Paused: a callback asked to leave; the state is saved.
        DivergedError: the loss, a gradient or a weight is not finite.
        CheckpointError: a component's state cannot be saved.
        MemoryLimitError: the device is out of memory.
        StorageError: checkpoints cannot be written.
    """
    section = experiment.recipe.train
    keeper = CheckpointKeeper(
        checkpoints,
        facts,
        every=section.checkpoint.every,
        epochs=section.epochs,
        minutes=section.checkpoint.minutes,
        steps=section.checkpoint.steps,
        keep=section.checkpoint.keep,
        log=log,
        whole_epoch_in_last=None if state is None or state["progress"]["batch"] else state["progress"]["epoch"],
        before=recorder.flush,
        below=below,
        processes=experiment.processes,
    )
    loop = assemble(experiment, callbacks, recorder, interrupts, keeper, chain or Chain())
    if state is not None:
        loop.load(state, ask_again=ask_again)
    checkpoint.refuse_unsaveable(loop.state())  # before anything is trained that could not be kept
    try:
        progress = loop.run()
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise MemoryLimitError(
            f"out of memory on {experiment.device} in epoch {loop.progress.epoch + 1}, "
            f"step {loop.progress.step + 1}, with data.batch_size {experiment.recipe.data.batch_size} "
            f"and images of {experiment.input_shape}",
            "halve data.batch_size and double train.accumulate: the steps stay the same",
        ) from error
    finally:
        keeper.wait()
    return FitResult(progress, loop.evaluated_weights())


def assemble(
    experiment: Experiment,
    callbacks: Sequence[Callback],
    recorder: EpochRecorder,
    interrupts: Interrupts,
    keeper: Keeper,
    chain: Chain,
    *,
    epochs: int | None = None,
) -> Loop:
    """Build the loop with everything that is fresh for a training.

    Args:
        experiment: what to train.
        callbacks: behaviour.
        recorder: records.
        interrupts: signals.
        keeper: of the state.
        chain: digests of the weights.
        epochs: after which to end; None for as many as the recipe says. What is planned on their number stays.
    """
    section, course = experiment.recipe.train, experiment.course
    optimizer = experiment.optimizer()
    precision = experiment.precision()
    guard = Guard(experiment.device, section.on_nan, [experiment.model, *experiment.modules.values()])
    ema = section.ema
    parts = Parts(
        model=experiment.model,
        forward=course.forward,
        loss=experiment.loss,
        step=experiment.step(optimizer, precision, guard),
        guard=guard,
        schedule=experiment.schedule(optimizer),
        precision=precision,
        averaging=None if ema is None else Averaging(experiment.model, ema.decay, ema.every, ema.mode),
        penalties=experiment.penalties,
        train=course.train,
        val=course.val,
        train_metrics=experiment.metrics(),
        val_metrics=experiment.evaluation_metrics(),
        mixer=experiment.mixer,
        callbacks=callbacks,
        recorder=recorder,
        keeper=keeper,
        interrupts=interrupts,
        modules={**experiment.modules, **_modules_of(callbacks)},
        still=experiment.still,
        processes=experiment.processes,
        chain=chain,
    )
    limits = Limits(
        epochs=section.epochs if epochs is None else epochs,
        accumulate=section.accumulate,
        log_every=section.log_every,
        max_minutes=section.max_minutes,
        on_nan=section.on_nan,
        best_metric=section.best.metric,
        best_mode=section.best.mode,
    )
    return Loop(parts, limits)


def _modules_of(callbacks: Sequence[Callback]) -> dict[str, nn.Module]:
    """Return the callbacks that are modules, by type and number among their kind: a resume may add or drop others."""
    return {f"callback {key}": each for key, each in named_callbacks(callbacks) if isinstance(each, nn.Module)}
