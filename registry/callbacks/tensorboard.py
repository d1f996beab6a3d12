"""TensorBoard: train and val in one chart per quantity, the finder's curve, pictures, hparams over runs.

Owns the event files below <run>/tensorboard, three entries of a run in TensorBoard's list: `train/` and `val/` hold one
point per epoch under the same tags (so the two lines share a chart), the folder itself the rest: readings at the log
interval, pictures, text and hparams.
TensorBoard's own writer opens files by itself and follows links; here each is opened by registry/files.py.
"""

from __future__ import annotations

import io
import math
import os
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np

from registry import files
from registry.catalogue.adoption import Change
from registry.catalogue.markers import Bounds
from registry.contracts import Callback, View
from registry.recording import Curve, RunInfo, Sink

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from torch import Tensor
    from torch.nn import Parameter


BEST = "best/"  # begins the names of the best weights' numbers
MOST_PR_CURVES = 20  # classes that get one
STEPS, GRADIENTS = "step/", "gradients/"  # begin the tags of what belongs to a step, not to an epoch or the whole run
TRACED = "profile"  # begins the tags of what is traced once, by whichever process


class TensorBoard(Sink, Callback):
    """Writes event files that `tensorboard --logdir runs` shows live.

    Args:
        images: write the pictures of the report (galleries, GradCAM) too.
        histograms: write the distribution of every weight after every epoch, and of every gradient of the epoch's
            first micro-batch, as it counts in its step (under fp16, as the scaler has scaled it); costs disk and copies
            off the device.
        pr_curves: write a precision-recall curve of every class at the end, of the first 20 where there are more.
        flush_seconds: seconds after which what was recorded reaches the disk.
    """

    change: ClassVar = Change(facts={"owns": ""})

    def __init__(
        self,
        images: bool = True,
        histograms: bool = False,
        pr_curves: bool = False,
        flush_seconds: Annotated[int, Bounds(min=1)] = 10,
    ) -> None:
        self._images = images
        self._histograms = histograms
        self._pr_curves = pr_curves
        self._flush_seconds = flush_seconds
        self._files: dict[str, EventFile] = {}

    def open(self, run: RunInfo) -> None:
        """Open the event files; in a resumed run keep each point up to the checkpoint, exactly once."""
        self._run = run
        folder = run.folder / "tensorboard"
        wanted: dict[str, Callable[[Event], bool]] = {
            "train": lambda event: event.step <= run.resumed_epoch,
            "val": lambda event: event.step <= run.resumed_epoch,
            ".": lambda event: _stays(event, run),
        }
        for name, keep in wanted.items():
            there = keep_events(folder / name, keep, below=run.folder)
            self._files[name] = EventFile(folder / name, self._flush_seconds, below=run.folder)
            for row in run.history if name != "." else ():  # where it was not there to take what is behind the run
                if int(row["epoch"]) not in there:
                    self._files[name].add(summary_of(_by_line(row)[name]), int(row["epoch"]))

    def epoch(self, epoch: int, row: Mapping[str, float]) -> None:
        """Write "train/loss" as `loss` of the train line, "val/loss" as `loss` of the val line."""
        for line, values in _by_line(row).items():
            self._files[line].add(summary_of(values), epoch)

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Write the readings of a log interval as one event: the step waits for it."""
        self._files["."].add(
            summary_of({f"{STEPS}{key.removeprefix('train/')}": value for key, value in values.items()}), step
        )

    def curve(self, tag: str, curve: Curve) -> None:
        """Write a curve point by point; its abscissa is written beside it, because TensorBoard counts in steps."""
        for index, (x, y) in enumerate(zip(curve.xs, curve.ys, strict=True)):
            self._files["."].add(summary_of({tag: y, f"{tag} - {curve.x_label}": x}), index)

    def image(self, tag: str, image: np.ndarray, *, step: int = 0) -> None:
        """Write a picture."""
        if self._images:
            from torch.utils.tensorboard.summary import image as picture

            self._files["."].add(picture(tag, image, dataformats="HWC"), step)

    def text(self, tag: str, text: str) -> None:
        """Write Markdown."""
        from torch.utils.tensorboard.summary import text as words

        self._files["."].add(words(tag, text), 0)

    def epoch_started(self, view: View) -> None:
        """Have the gradients of the first micro-batch taken: they are gone when the step is done."""
        if self._histograms:
            for name, parameter in view.model.named_parameters():
                if parameter.requires_grad:
                    record_gradient_once(parameter, f"{GRADIENTS}{name}", view)

    def epoch_finished(self, view: View) -> None:
        """Send the weights' distributions through the recorder, so that a full disk stops this sink and no training."""
        if self._histograms:
            for name, parameter in view.model.named_parameters():
                values = parameter.detach().float().cpu().numpy()
                view.recorder.histogram(f"weights/{name}", values, step=view.epoch)

    def histogram(self, tag: str, values: np.ndarray, *, step: int) -> None:
        """Write a distribution; numbers that are not finite have no place in it."""
        finite = values[np.isfinite(values)]
        if not self._histograms or not finite.size:
            return
        from torch.utils.tensorboard.summary import histogram

        name = "." if tag.startswith(GRADIENTS) else "train"
        self._files[name].add(histogram(tag, finite, "auto"), step)

    def predictions(self, probabilities: np.ndarray, targets: np.ndarray, class_names: Sequence[str]) -> None:
        """Write the curve of each class against all others."""
        if not self._pr_curves or not np.isfinite(probabilities).all():
            return
        from torch.utils.tensorboard.summary import pr_curve

        for index, name in enumerate(class_names[:MOST_PR_CURVES]):
            self._files["."].add(pr_curve(f"pr/{name}", targets == index, probabilities[:, index]), 0)

    def result(self, values: Mapping[str, float]) -> None:
        """Write the recipe's values and the best weights' numbers as one hparams session; curves have the last ones."""
        from torch.utils.tensorboard.summary import hparams

        told = {key: value for key, value in values.items() if key.startswith(BEST)} or values
        finite = {f"result/{key}": value for key, value in told.items() if math.isfinite(value)}
        for summary in (*hparams(dict(self._run.hparams), finite), summary_of(finite)):
            self._files["."].add(summary, 0)

    def flush(self) -> None:
        """Bring every event to the disk."""
        for file in self._files.values():
            file.flush()

    def close(self) -> None:
        """Flush and close."""
        for file in self._files.values():
            file.close()
        self._files = {}


def summary_of(values: Mapping[str, float]) -> Summary:
    """Return scalars by tag as one summary: written together they cost little more than one of them."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])


class EventFile:
    """An event file written at once, by TensorBoard's own record writer.

    A step waits for its readings, and torch's SummaryWriter hands each to a thread of its own: switching to it and back
    takes longer than the writing.

    Args:
        folder: where the file goes; made.
        flush_seconds: what is written reaches the disk at the next event after so long.
        below: the run's folder, below which no link is followed.
    """

    def __init__(self, folder: Path, flush_seconds: float, *, below: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        files.make_folder(folder, below=below)
        name = f"events.out.tfevents.{_later_than(folder):.6f}.{socket.gethostname()}.{os.getpid()}.0"
        self._event, self._flush_seconds = Event, flush_seconds
        self._file = files.create(folder / name, below=below)
        self._writer = RecordWriter(self._file)
        self._writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        self.flush()

    def add(self, summary: Summary, step: int) -> None:
        """Write a summary at a step, or at an epoch."""
        now = time.time()
        self._writer.write(self._event(wall_time=now, step=step, summary=summary).SerializeToString())
        if now - self._flushed > self._flush_seconds:
            self.flush()

    def flush(self) -> None:
        """Bring what was written to the disk."""
        self._file.flush()
        self._flushed = time.time()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()


def record_gradient_once(parameter: Parameter, tag: str, view: View) -> None:
    """Record the next gradient of a parameter, at the step that will use it."""

    def record(owner: Tensor) -> None:
        hook.remove()
        if owner.grad is not None:
            view.recorder.histogram(tag, owner.grad.detach().float().cpu().numpy(), step=view.step + 1)

    hook = parameter.register_post_accumulate_grad_hook(record)


def _later_than(folder: Path) -> float:
    """Return the time for a new file's name: now, or later than the files there, which a clock set back would precede.

    TensorBoard reads a folder's files in the order of their names, and looks at no earlier one again.
    """
    stamps = [re.match(r"events\.out\.tfevents\.(\d+)", path.name) for path in folder.glob("*tfevents*")]
    latest = max((int(found[1]) for found in stamps if found is not None), default=0)
    return max(time.time(), latest + 1.0)


def _stays(event: Event, run: RunInfo) -> bool:
    """Whether an event is of what a resumed run has behind it; one without tags is the head of its file.

    Curve, pictures and numbers of the whole run are written anew by every process, at step 0.
    """
    values = event.summary.value
    if not values or all(value.tag.startswith((STEPS, GRADIENTS)) for value in values):
        return bool(event.step <= run.resumed_step)
    if all(value.tag.startswith(TRACED) for value in values):
        return run.resumed_step > 0
    return bool(0 < event.step <= run.resumed_epoch) and all(value.HasField("image") for value in values)


def _by_line(row: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return the numbers of an epoch by line, `train` or `val`, under the tags they have there."""
    lines: dict[str, dict[str, float]] = {"train": {}, "val": {}}
    for key, value in row.items():
        line, _, tag = key.partition("/")
        if line in lines and tag:
            lines[line][tag] = value
        elif key != "epoch":
            lines["train"][key] = value
    return lines


def keep_events(folder: Path, keep: Callable[[Event], bool], *, below: Path) -> set[int]:
    """Rewrite the event files of `folder` so that they hold the events that `keep` says, whole ones only.

    Returns the steps of those that stayed.

    What an earlier rewriting left half done goes, too, and a file of which nothing but its head stays.

    Args:
        folder: of the files; need not exist.
        keep: says of an event whether it stays.
        below: the run's folder, below which no link is followed.

    TensorBoard's own `purge_step` only hides later events from its own reader; other readers would see them twice.
    """
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
    from tensorboard.summary.writer.record_writer import RecordWriter

    files.remove_temporaries(folder, below=below)
    steps: set[int] = set()
    for path in sorted(folder.glob("*tfevents*")):
        with files.opened(path):  # else a pipe of that name would be waited for
            events = [event for event in LegacyEventFileLoader(str(path)).Load() if keep(event)]
        if not any(event.summary.value for event in events):
            files.remove(path, below=below)
            continue
        kept = io.BytesIO()
        writer = RecordWriter(kept)
        for event in events:
            writer.write(event.SerializeToString())
        files.write(path, kept.getbuffer(), below=below, lasting=False)
        steps |= {event.step for event in events if event.summary.value}
    return steps
