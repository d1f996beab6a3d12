"""When checkpoints are written, and which of them stay.

The step waits only for the copy of the state; a thread of its own serialises and writes it. A save that fails leaves
the files before it whole; training goes on and says so, until too many have failed.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch

from registry.errors import CheckpointError, StorageError
from trainer.engine import checkpoint
from trainer.engine.loop import Loop

MOST_FAILURES = 3


class CheckpointKeeper:
    """Writes last.pt, best.pt and best.safetensors into one folder.

    Args:
        folder: the run's checkpoints folder; exists.
        facts: plain values stored in every file: the resolved recipe, class names, versions.
        every: epochs between checkpoints.
        epochs: planned; the last epoch is always saved.
        minutes: also every so many minutes; None for not.
        steps: also every so many optimizer steps; None for not.
        keep: earlier epochs' checkpoints that stay.
        log: takes one line.
        whole_epoch_in_last: epoch whose end last.pt holds already, in a resumed run; None where it holds none.
    """

    def __init__(
        self,
        folder: Path,
        facts: Mapping[str, Any],
        *,
        every: int,
        epochs: int,
        minutes: float | None,
        steps: int | None,
        keep: int,
        log: Callable[[str], None],
        whole_epoch_in_last: int | None = None,
    ) -> None:
        self._folder, self._facts = folder, facts
        self._every, self._epochs, self._minutes, self._steps, self._keep = every, epochs, minutes, steps, keep
        self._log = log
        self._saved_at = time.monotonic()
        self._writer: threading.Thread | None = None
        self._failure: OSError | None = None
        self._failures = 0
        self._whole_epoch_in_last = whole_epoch_in_last

    # ------------------------------------------------------------------------------------------------- loop's requests
    def step_finished(self, loop: Loop) -> None:
        """Save in the middle of an epoch when `steps` or `minutes` say so."""
        if self._steps is None and self._minutes is None:
            return
        by_steps = self._steps is not None and loop.progress.step % self._steps == 0
        by_time = self._minutes is not None and time.monotonic() - self._saved_at >= 60 * self._minutes
        if by_steps or by_time:
            self._save_last(loop)

    def epoch_finished(self, loop: Loop, is_best: bool) -> None:
        """Save the best weights if this epoch has them, and the whole state when it is due."""
        progress = loop.progress
        last = progress.epoch >= self._epochs or bool(progress.stopped)
        due = progress.epoch % self._every == 0 or last
        if is_best:
            state = {"model": checkpoint.snapshot(loop.evaluated_weights()), "row": dict(progress.best or {})}
            self._write_later(lambda: self._write_best(state))
        if due:
            self._save_last(loop)
        if last:
            self.wait()

    def interrupted(self, loop: Loop) -> None:
        """Save now, and wait until it is written."""
        self._save_last(loop)
        self.wait()

    def last_state(self) -> Mapping[str, Any] | None:
        """Return the last whole state; None before the first."""
        self.wait()
        path = self._folder / "last.pt"
        return checkpoint.read(path) if path.exists() else None

    def wait(self) -> None:
        """Wait for the writer.

        Raises:
            StorageError: too many saves have failed.
        """
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._failure is None:
            return
        failure, self._failure = self._failure, None
        self._failures += 1
        if self._failures >= MOST_FAILURES:
            raise StorageError(
                f"{self._folder}: {self._failures} checkpoints could not be written ({failure.strerror or failure})",
                "make room or mend the permissions, then resume: the last whole checkpoint is kept",
            ) from failure
        self._log(f"warning: a checkpoint could not be written ({failure.strerror or failure}); the one before is kept")

    # --------------------------------------------------------------------------------------------------------- writing
    def _save_last(self, loop: Loop) -> None:
        state = {**checkpoint.snapshot(loop.state()), **self._facts}
        self._saved_at = time.monotonic()
        whole_epoch = loop.progress.epoch if loop.progress.batch == 0 else None
        self._write_later(lambda: self._write_last(state, whole_epoch))

    def _write_later(self, write: Callable[[], None]) -> None:
        self.wait()

        def guarded() -> None:
            try:
                write()
            except OSError as error:
                self._failure = error

        self._writer = threading.Thread(target=guarded, name="checkpoint")
        self._writer.start()

    def _write_last(self, state: Mapping[str, Any], whole_epoch: int | None) -> None:
        last, before = self._folder / "last.pt", self._whole_epoch_in_last
        if before is not None and before != whole_epoch and self._keep and last.exists():
            _second_name(last, self._folder / f"epoch-{before}.pt")
        checkpoint.write(last, state)
        self._whole_epoch_in_last = whole_epoch
        for old in epoch_files(self._folder)[self._keep :]:
            old.unlink(missing_ok=True)

    def _write_best(self, state: Mapping[str, Any]) -> None:
        checkpoint.write(self._folder / "best.pt", {**state, **self._facts})
        weights = {name: tensor.contiguous() for name, tensor in state["model"].items()}
        checkpoint.write_bytes(self._folder / "best.safetensors", safetensors.torch.save(weights))


def epoch_files(folder: Path) -> list[Path]:
    """Return the epoch-<n>.pt files, newest (by number) first."""
    numbered = [
        (int(match[1]), path) for path in folder.iterdir() if (match := re.fullmatch(r"epoch-(\d+)\.pt", path.name))
    ]
    return [path for _, path in sorted(numbered, reverse=True)]


def read_latest(folder: Path, log: Callable[[str], None]) -> dict[str, Any] | None:
    """Return the newest whole state in `folder`, falling back to earlier ones; None where there never was one.

    Raises:
        CheckpointError: there are files, but none is whole.
    """
    candidates = (
        [path for path in (folder / "last.pt", *epoch_files(folder)) if path.exists()] if folder.is_dir() else []
    )
    problems = []
    for path in candidates:
        try:
            state = checkpoint.read(path)
        except CheckpointError as error:
            problems.append(error.message)
            log(f"warning: {error.message}; falling back to the checkpoint before it")
            continue
        return state
    if problems:
        raise CheckpointError("no checkpoint of this run is whole:\n  " + "\n  ".join(problems), "start the run again")
    return None


def _second_name(path: Path, other: Path) -> None:
    """Give the file a second name, without copying where the file system can."""
    temporary = other.with_name(f"{other.name}.tmp-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        temporary.hardlink_to(path)
    except OSError:
        shutil.copyfile(path, temporary)
    temporary.replace(other)
