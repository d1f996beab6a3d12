"""The training loop. Knows a model, batches and a schedule; nothing of recipes, files or figures.

    run_started
    for epoch:      epoch_started
        for batch:  forward, loss, backward, unscale, penalties, check, clip, step, average, schedule, step_finished
        validate, schedule, select_best, record, epoch_finished, checkpoint
    run_finished    also after an error or an interrupt

Everything it remembers is `Progress`, the meter and the states of the objects it calls: `state()` and `load()`. How one
step is taken is step.py, what looks out for numbers that are not finite guard.py, when the state is saved keeper.py.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, Protocol

from torch import Tensor, nn

from registry.contracts import Callback, Metric, Pause, Stop, View
from registry.errors import DivergedError
from registry.printing import counted
from registry.recording import Recorder
from trainer.data.batches import Batches
from trainer.engine import checkpoint, rng
from trainer.engine.averaging import Averaging
from trainer.engine.chain import Chain, weights_digest
from trainer.engine.criterion import Loss
from trainer.engine.evaluation import Evaluation, evaluate
from trainer.engine.guard import Fault, Guard, OnNan
from trainer.engine.interrupts import Interrupted, Interrupts, Paused
from trainer.engine.meters import BatchResult, Meter
from trainer.engine.modules import (
    buffers_of,
    counters_go_on,
    learnt_in,
    load_network,
    load_state,
    moved_in,
    state_of,
    transient_buffers,
)
from trainer.engine.precision import Precision
from trainer.engine.processes import ONE, Mixer, Processes
from trainer.engine.progress import Progress
from trainer.engine.schedule import Schedule
from trainer.engine.step import Penalty, Step
from trainer.engine.training_mode import train

MOST_SKIPS_IN_A_ROW = 10
MOST_RESTORES = 3


class Keeper(Protocol):
    """Checkpointing as the loop sees it: it says when something has happened, the keeper what is saved."""

    def step_finished(self, loop: Loop) -> None:
        """Save in the middle of an epoch, if it is time."""

    def epoch_finished(self, loop: Loop, is_best: bool) -> None:
        """Save the state and the best weights, as due."""

    def interrupted(self, loop: Loop) -> None:
        """Save now."""

    def last_state(self) -> Mapping[str, Any] | None:
        """Return the last state saved; None before the first."""

    def holds_any(self) -> bool:
        """Whether a state has been saved."""


class EpochRecorder(Recorder, Protocol):
    """The recorder as the loop sees it."""

    def epoch(self, epoch: int, row: Mapping[str, float]) -> None:
        """Record the row of a finished epoch."""

    def flush(self) -> None:
        """Bring everything to the disk, before a checkpoint that has it behind it."""

    def pulse(self, progress: Progress, meter: Meter) -> None:
        """Show where training stands; called after every step, so it must decide by the clock whether to act."""


@dataclass(frozen=True)
class Limits:
    """The loop's settings: how long to train and how to behave on the way.

    Attributes:
        epochs: passes over the training part.
        accumulate: micro-batches per optimizer step.
        log_every: optimizer steps between readings.
        max_minutes: end after the epoch in which this much training time has passed; None for no limit.
        on_nan: what to do at a loss or gradient that is not finite.
        best_metric: key of the epoch's row that chooses the best epoch.
        best_mode: "max" where greater is better.
    """

    epochs: int
    accumulate: int
    log_every: int
    max_minutes: float | None
    on_nan: OnNan
    best_metric: str
    best_mode: Literal["min", "max"]


@dataclass(frozen=True)
class Parts:
    """The live objects the loop moves.

    Attributes:
        model: the module that holds the weights.
        forward: what is called on a batch: `model`, or its compiled form.
        loss: plain loss.
        step: takes an optimizer step.
        guard: looks at what `step` computes.
        schedule: moves the learning rate.
        precision: number format.
        averaging: of weights; None without.
        penalties: of `step`, for their values.
        train: training batches.
        val: validation batches.
        train_metrics: by key.
        val_metrics: by key, other instances.
        mixer: (epoch, step) -> mixes a batch; None without.
        callbacks: behaviour.
        recorder: records.
        keeper: keeps the state.
        interrupts: signals received.
        modules: what else has a state of its own, by the role it plays: the loss, the mix, penalties, callbacks.
        still: layers of `model` that stay in evaluation mode.
        processes: that share every batch; the first has all callbacks.
        chain: digests of the weights, epoch by epoch.
    """

    model: nn.Module
    forward: nn.Module
    loss: Loss
    step: Step
    guard: Guard
    schedule: Schedule
    precision: Precision
    averaging: Averaging | None
    penalties: Sequence[Penalty]
    train: Batches
    val: Batches
    train_metrics: Mapping[str, Metric]
    val_metrics: Mapping[str, Metric]
    mixer: Callable[[int, int], Mixer] | None
    callbacks: Sequence[Callback]
    recorder: EpochRecorder
    keeper: Keeper
    interrupts: Interrupts
    modules: Mapping[str, nn.Module] = field(default_factory=dict)
    still: Sequence[nn.Module] = ()
    processes: Processes = ONE
    chain: Chain = field(default_factory=Chain)


class Loop:
    """The training loop over live objects; its way is the picture at the top of this file.

    Args:
        parts: what to move.
        limits: how long.
    """

    def __init__(self, parts: Parts, limits: Limits) -> None:
        self.parts, self.limits = parts, limits
        self.progress = Progress()
        self.meter = Meter(parts.train_metrics, parts.processes)
        self._loss_begun = {name: buffer.clone() for name, buffer in buffers_of(parts.loss).items()}
        self._clock = time.perf_counter()

    # ------------------------------------------------------------------------------------------------------ the loop
    def run(self) -> Progress:
        """Train until the epochs are done or somebody asks to stop.

        Raises:
            Interrupted: after saving, when a signal came.
            Paused: after saving, when a callback asked to leave.
            DivergedError: at a loss, gradient or weight that is not finite, as `on_nan` says; after the last epoch
                where none had a finite validation loss.
        """
        self._tell("run_started")
        self._agree_to_stop()
        self.parts.recorder.pulse(self.progress, self.meter)
        try:
            while self._goes_on():
                self._train_epoch()
                self._close_epoch()
            self._require_validated()
        except (Interrupted, Paused):
            self._read_clock()
            self.parts.keeper.interrupted(self)
            raise
        finally:
            self._tell("run_finished")
        return self.progress

    def _goes_on(self) -> bool:
        """Whether there is an epoch to train: one that was begun is brought to its end, whoever asked to stop in it."""
        progress = self.progress
        return progress.batch > 0 or (progress.epoch < self.limits.epochs and not progress.stopped)

    def _train_epoch(self) -> None:
        """Take the steps of one epoch, or in a resumed run those that are left of it."""
        parts, progress, accumulate = self.parts, self.progress, self.limits.accumulate
        self._clock = time.perf_counter()
        epoch = progress.epoch + 1
        if progress.batch == 0:
            self.meter.reset()
            self._tell("epoch_started")
        train(parts.model, parts.still)
        batches = parts.train.epoch(epoch, start=progress.batch)
        while group := list(islice(batches, accumulate)):
            progress.lr, *progress.group_lrs = parts.schedule.rates
            mix = None if parts.mixer is None else parts.mixer(epoch, progress.step)
            parts.step.measures = (progress.step + 1) % self.limits.log_every == 0
            results = parts.step(group, mix)
            progress.step += 1
            progress.batch += len(group)
            self._step_finished(results)

    def _step_finished(self, results: Sequence[BatchResult]) -> None:
        """Count a step that was taken, unless it was bad, and tell everybody who waits for one."""
        parts, progress = self.parts, self.progress
        due = progress.step % self.limits.log_every == 0
        fault = parts.guard.look() if due or parts.guard.immediate else None
        if fault is not None:
            self._not_finite(fault)
        else:
            progress.skipped_in_a_row = 0
            self.meter.add(results)
            if parts.averaging is not None:
                parts.averaging.step_finished()
        parts.schedule.step_finished()
        if due:
            parts.recorder.step(progress.step, self._interval())
            self._tell("step_finished")
        parts.recorder.pulse(progress, self.meter)
        parts.keeper.step_finished(self)
        parts.interrupts.check()

    def _close_epoch(self) -> None:
        """Validate, write the epoch's row, and tell everybody who waits for one."""
        parts, progress = self.parts, self.progress
        self._require_sound()
        training = self.meter.read()
        if not training:
            self._note(f"epoch {progress.epoch + 1}: none of its steps counts, each had a loss or gradient not finite")
        validation = self._validate()
        self._read_clock()
        row = self._row(training, validation)
        parts.schedule.epoch_finished(row)
        is_best = self._select_best(row)
        progress.history.append(row)
        progress.epoch += 1
        progress.batch = 0
        progress.epoch_seconds = 0.0
        parts.chain.add(progress.epoch, self.weights_digest(), row)
        parts.recorder.epoch(progress.epoch, row)
        self._tell("epoch_finished")
        if self._time_is_up() and progress.epoch < self.limits.epochs and not progress.stopped:
            progress.stopped, progress.out_of_time = f"train.max_minutes: {self.limits.max_minutes} reached", True
        self._agree_to_stop()
        parts.keeper.epoch_finished(self, is_best)
        parts.interrupts.check()

    # ------------------------------------------------------------------------------------------------------ its steps
    def _validate(self) -> Evaluation:
        """Evaluate on the validation part, with averaged weights where there are."""
        parts = self.parts
        with self._averaged():
            return evaluate(
                parts.forward,
                parts.val.epoch(0),
                parts.loss,
                parts.val_metrics,
                parts.precision,
                between=parts.interrupts.check,
                processes=parts.processes,
            )

    def _averaged(self) -> AbstractContextManager[object]:
        """Put averaged weights, where there are, into the network for the length of a block."""
        return nullcontext() if self.parts.averaging is None else self.parts.averaging.applied()

    def _row(self, training: Mapping[str, float], validation: Evaluation) -> dict[str, float]:
        """Return the epoch's row: everything that is recorded of it, by key."""
        progress = self.progress
        row: dict[str, float] = {"epoch": progress.epoch + 1, **self._rates(), "seconds": progress.epoch_seconds}
        row.update({f"train/{key}": value for key, value in training.items()})
        for penalty in self.parts.penalties:
            row[f"train/penalty/{penalty.name}"] = float(penalty.regularizer.value(penalty.parameters))
        row["val/loss"] = validation.loss
        row.update({f"val/{key}": value for key, value in validation.metrics.items()})
        view = self._view()
        with rng.untouched_randomness():
            for callback in self.parts.callbacks:
                row.update({key: float(value) for key, value in callback.measure(view).items()})
        row = self.parts.processes.said_by_first(row)  # its clock, and what its callbacks have measured
        if not math.isfinite(row["val/loss"]):
            self._not_validated(row["val/loss"])
        return row

    def _not_validated(self, loss: float) -> None:
        """End at a validation loss that is not finite, or say that its epoch cannot be the best."""
        progress = self.progress
        said = f"the validation loss is {loss} in epoch {progress.epoch + 1}"
        if self.limits.on_nan == "stop":
            raise DivergedError(
                f"{said} (step {progress.step}, learning rate {progress.lr:.4g})",
                f"lower optimizer.lr, or set train.clip_norm; {self._what_is_kept()}",
            )
        self._note(f"{said}: it cannot be the best")

    def _require_validated(self) -> None:
        """Refuse to end as a success where no epoch could be measured: nothing tells what the weights are worth."""
        history = self.progress.history
        if history and not any(math.isfinite(row["val/loss"]) for row in history):
            count = f"all {len(history)} epochs" if len(history) > 1 else "the only epoch"
            raise DivergedError(
                f"the validation loss is not finite in {count}: there are no best weights",
                "lower optimizer.lr, or set train.clip_norm, and look at the images of val; the last checkpoint is "
                "kept, and resume with more train.epochs goes on from it",
            )

    def _select_best(self, row: Mapping[str, float]) -> bool:
        """Note the row as the best so far where it is; without a finite validation loss it never is."""
        value = row.get(self.limits.best_metric, float("nan"))
        best = self.progress.best
        sign = 1.0 if self.limits.best_mode == "max" else -1.0
        is_best = best is None or sign * value > sign * best[self.limits.best_metric]
        if not is_best or not math.isfinite(row["val/loss"] + value):
            return False
        self.progress.best = dict(row)
        return True

    def _agree_to_stop(self) -> None:
        """Stop where the first process does, whose clock and callbacks decide."""
        progress = self.progress
        asked = (progress.stopped, progress.out_of_time)
        progress.stopped, progress.out_of_time = self.parts.processes.said_by_first(asked)

    def _time_is_up(self) -> bool:
        limit = self.limits.max_minutes
        return limit is not None and self.progress.seconds >= 60 * limit

    def _rates(self) -> dict[str, float]:
        """Learning rates of the last step: `lr` of the first parameter group, `lr/group2` of the second, ..."""
        others = {f"lr/group{number}": lr for number, lr in enumerate(self.progress.group_lrs, start=2)}
        return {"lr": self.progress.lr, **others}

    def _interval(self) -> dict[str, float]:
        """Return the readings at the log interval, by key."""
        values = {**self._rates(), **{f"train/{key}": value for key, value in self.meter.fold().items()}}
        norm = self.parts.step.gradient_norm
        return values if norm is None else {**values, "grad_norm": float(norm)}

    # ------------------------------------------------------------------------------------------- what is not finite
    def _require_sound(self) -> None:
        """Look before something is kept: at the steps since the last look, and at the weights they have left."""
        guard = self.parts.guard
        fault = guard.look() or (None if guard.sound() else Fault("weight", 0, self.progress.lr))
        if fault is not None:
            self._not_finite(fault)

    def _not_finite(self, fault: Fault) -> None:
        """Do what `on_nan` says, as often as it may be done; else end the training."""
        progress = self.progress
        where = f"epoch {progress.epoch + 1}, step {progress.step - fault.ago}, learning rate {fault.lr:.4g}"
        progress.skipped_in_a_row += 1
        if self._may_skip(fault):
            progress.skipped += 1
            self._note(f"{fault.what} not finite at {where}: step skipped")
            return
        kept = self.parts.keeper.last_state() if self.limits.on_nan == "restore" else None
        if kept is not None and progress.restores < MOST_RESTORES:
            progress.restores += 1
            self._restore(kept)
            lost = progress.step - kept["progress"]["step"]
            self._note(
                f"{fault.what} not finite at {where}: weights of the last checkpoint restored, "
                f"what the last {lost} steps learnt is lost"
            )
            return
        raise DivergedError(f"the {fault.what} is not finite ({where}){self._tried()}", self._way_out())

    def _tried(self) -> str:
        """Say what `on_nan` has done in vain."""
        progress, skipped = self.progress, self.progress.skipped_in_a_row - 1
        if self.limits.on_nan == "skip" and skipped >= MOST_SKIPS_IN_A_ROW:
            return f", and the {skipped} steps before it were skipped"
        if self.limits.on_nan == "restore" and progress.restores:
            return f", after {counted(progress.restores, 'checkpoint')} had been restored"
        return ""

    def _way_out(self) -> str:
        skips = "train.on_nan: skip leaves such steps out; " if self.limits.on_nan == "stop" else ""
        return f"lower optimizer.lr, or set train.clip_norm; {skips}{self._what_is_kept()}"

    def _what_is_kept(self) -> str:
        kept = self.parts.keeper.holds_any()
        return "the last good checkpoint is kept" if kept else "there is no checkpoint yet to go on from"

    def _may_skip(self, fault: Fault) -> bool:
        """Whether a step may be left out: not a bad weight's, which comes of an update and only a checkpoint undoes."""
        few = self.progress.skipped_in_a_row <= MOST_SKIPS_IN_A_ROW
        return self.limits.on_nan == "skip" and fault.what != "weight" and few

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state` had learnt, and on from where training stands.

        Schedule, progress and counters are left as they are, and so are the groups' settings, the learning rates among
        them: the schedule has set them, and the optimizer's state would bring back older ones.
        """
        groups = self.parts.step.optimizer.param_groups
        settings = [{key: value for key, value in group.items() if key != "params"} for group in groups]
        with counters_go_on([self.parts.model, *self.parts.modules.values()]):
            self._load_learnt(state)
        for group, own in zip(self.parts.step.optimizer.param_groups, settings, strict=True):
            group.update(own)

    # ------------------------------------------------------------------------------------------------------- its state
    def state(self) -> dict[str, Any]:
        """Return everything a resume needs, random states last; tensors are the live ones.

        Raises:
            DivergedError: something is not finite, and `on_nan` cannot take it back: it is not to be kept.
        """
        self._require_sound()
        if self.progress.batch:  # within an epoch nobody has read it since the epoch began
            self._read_clock()
        parts = self.parts
        own = {"meter": self.meter.state(), "rng": rng.capture()}
        return {
            **self._weights(),
            **self._beside(),
            "modules": {name: state_of(module) for name, module in parts.modules.items()},
            "optimizer": parts.step.optimizer.state_dict(),
            "schedule": parts.schedule.state(),
            "precision": parts.precision.state(),
            "averaging": None if parts.averaging is None else parts.averaging.state(),
            "progress": self.progress.state(),
            "chain": parts.chain.state(),
            "callbacks": {key: callback.state() for key, callback in named_callbacks(self.parts.callbacks)},
            **own,
            **parts.processes.every_state(own),
        }

    def load(self, state: Mapping[str, Any], *, ask_again: bool = False) -> None:
        """Continue from `state`; random states are restored last, because loading may draw.

        Args:
            state: of `state()`.
            ask_again: the callbacks are others than then: what one of them stopped goes on unless one still asks.
        """
        parts = self.parts
        self._load_learnt(state)
        parts.schedule.load(state["schedule"])
        self.progress.load(state["progress"])
        if self.progress.out_of_time and not self._time_is_up():
            self.progress.stopped, self.progress.out_of_time = "", False
        own = parts.processes.own_state(state)
        self.meter.load(state["meter"], next(parts.model.parameters()).device, own.meters)
        if "chain" in state:  # a checkpoint of an earlier version has none
            parts.chain.load(state["chain"])
        known = state["callbacks"]
        for (key, callback), (numbered, _) in zip(
            named_callbacks(self.parts.callbacks), named_callbacks(self.parts.callbacks, by_name=False), strict=True
        ):
            if (there := key if key in known else numbered) in known:  # by number, as earlier versions have it
                callback.load(known[there])
        if ask_again and self.progress.stopped and not self.progress.out_of_time:
            asked = (callback.still_asks() for callback in self.parts.callbacks)
            self.progress.stopped = next((each.reason for each in asked if each is not None), "")
        rng.restore(own.rng)

    def _load_learnt(self, state: Mapping[str, Any]) -> None:
        """Load what steps change: the network, other modules, the optimizer, the gradient scaler and the average.

        Where training stands (progress, schedule, meter, callbacks, random states) is left as it is.
        """
        parts = self.parts
        load_network(parts.model, state)
        for name, module in parts.modules.items():
            if name in state.get("modules", {}):  # a callback may be new, a checkpoint of an earlier version
                load_state(module, state["modules"][name])
        optimizer = parts.step.optimizer
        optimizer.load_state_dict(checkpoint.as_kept(state["optimizer"], optimizer.state_dict()))
        parts.precision.load(state["precision"])
        if parts.averaging is not None and state["averaging"] is not None:
            parts.averaging.load(state["averaging"])

    def evaluated_weights(self) -> dict[str, dict[str, Tensor]]:
        """Return what validation saw of the network, averaged where there is an average, as `load_network` takes it.

        `loss` and `loss_buffers` beside it hold what the loss has learnt. Tensors are copies.
        """
        with self._averaged():
            held = {**self._weights(), **self._beside()}
            return {key: {name: tensor.clone() for name, tensor in part.items()} for key, part in held.items()}

    def weights_digest(self) -> str:
        """Return the digest of what validation sees of the network."""
        with self._averaged():
            return weights_digest(self._weights())

    def _beside(self) -> dict[str, dict[str, Tensor]]:
        """Return what the loss has learnt, as `load_learnt` takes it; tensors are the live ones."""
        loss = self.parts.loss
        return {"loss": learnt_in(loss), "loss_buffers": moved_in(loss, self._loss_begun)}

    def _weights(self) -> dict[str, dict[str, Tensor]]:
        """Return what the network holds now, as `load_network` takes it; tensors are the live ones."""
        model = self.parts.model
        return {"model": model.state_dict(), "buffers": transient_buffers(model)}

    # ---------------------------------------------------------------------------------------------------------- events
    def _view(self, *, starts: bool = False) -> View:
        """Return what callbacks see; `starts` where the epoch to come is the one that they are told of."""
        progress, parts = self.progress, self.parts
        return View(
            epoch=progress.epoch + (1 if starts or progress.batch else 0),
            epochs=self.limits.epochs,
            step=progress.step,
            steps_per_epoch=-(-len(parts.train) // self.limits.accumulate),
            lr=progress.lr,
            model=parts.model,
            row=progress.history[-1] if progress.history else {},
            best=progress.best,
            recorder=parts.recorder,
        )

    def _tell(self, event: str) -> None:
        """Tell every callback of an event, and note the first that asks to stop; their draws change nothing."""
        if not self.parts.callbacks:
            return
        view = self._view(starts=event == "epoch_started")
        with rng.untouched_randomness():
            for callback in self.parts.callbacks:
                answer = getattr(callback, event)(view)
                if isinstance(answer, Stop):
                    self.progress.stopped = self.progress.stopped or answer.reason
                elif isinstance(answer, Pause):
                    self.parts.interrupts.pause(answer.reason)

    def _note(self, text: str) -> None:
        self.parts.recorder.text("log", text)

    def _read_clock(self) -> None:
        """Add the time since the last reading to the training's and the epoch's, in seconds."""
        now = time.perf_counter()
        self.progress.seconds += now - self._clock
        self.progress.epoch_seconds += now - self._clock
        self._clock = now


def named_callbacks(callbacks: Sequence[Callback], *, by_name: bool = True) -> list[tuple[str, Callback]]:
    """Return callbacks by type and what the recipe calls them, else number: a resume may add or drop others.

    Args:
        callbacks: in order.
        by_name: whether names that the recipe gives (`as`) count.
    """
    named, seen = [], Counter[str]()
    for callback in callbacks:
        kind, called = type(callback).__name__, callback.called if by_name else ""
        named.append((f"{kind} {called}" if called else f"{kind}-{seen[kind]}", callback))
        seen[kind] += 1
    return named
