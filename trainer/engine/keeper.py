"""Checkpointing: when the state of a training and its best weights are saved, and which files stay.

    last.pt                      everything a resume needs, after the last save
    epoch-<n>.pt                 the same after earlier epochs, as many as `keep` says
    best.pt, best.safetensors    the weights that were best on the validation part
    best-before.pt               those of last.pt while best.pt is newer already

The step waits only for the copy of the state; a thread of its own serialises and writes it, the best weights before the
state that speaks of them. A save that fails leaves the files before it whole; training goes on and says so, until too
many have failed in a row. The last one of a training must succeed. What a state holds is loop.py's to know, how a file
is written and checked checkpoint.py's.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry import files
from registry.errors import CheckpointError, StorageError
from trainer.engine import checkpoint
from trainer.engine.loop import Loop
from trainer.engine.processes import ONE, Processes
from trainer.engine.weights import to_safetensors

LAST, BEST, BEFORE = "last.pt", "best.pt", "best-before.pt"
SAFETENSORS = "best.safetensors"
MOST_FAILURES = 3  # saves in a row that may fail
UNREADABLE = ".unreadable"  # added to the name of a damaged checkpoint


class CheckpointKeeper:
    """Writes last.pt, best.pt and best.safetensors into one folder.

    Args:
        folder: the run's checkpoints folder.
        facts: plain values stored in every file: the resolved recipe, class names, versions.
        every: epochs between checkpoints.
        epochs: planned; the last epoch is always saved.
        minutes: also every so many minutes; None for not.
        steps: also every so many optimizer steps; None for not.
        keep: earlier epochs' checkpoints that stay.
        log: takes one line.
        whole_epoch_in_last: epoch whose end last.pt holds already, in a resumed run; None where it holds none.
        before: called before the state is copied: what must be on the disk by then because a resume begins after it.
        below: the run's folder, below which no link is followed; `folder` where omitted.
        processes: whose state is kept; the first alone writes.
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
        before: Callable[[], None] = lambda: None,
        below: Path | None = None,
        processes: Processes = ONE,
    ) -> None:
        self._processes = processes
        self._folder, self._facts, self._below = folder, facts, below or folder
        self._every, self._epochs, self._minutes, self._steps, self._keep = every, epochs, minutes, steps, keep
        self._log, self._before = log, before
        self._saved_at = time.monotonic()
        self._writer: threading.Thread | None = None
        self._job: Callable[[], None] = lambda: None  # of the writer; kept to be tried again
        self._error: BaseException | None = None  # that the writer met
        self._failures = 0  # in a row
        self._unwritten_best: Mapping[str, Any] | None = None  # what best.pt is to hold
        self._whole_epoch_in_last = whole_epoch_in_last

    # ------------------------------------------------------------------------------------------------- loop's requests
    def step_finished(self, loop: Loop) -> None:
        """Save in the middle of an epoch when `steps` or `minutes` say so."""
        if self._steps is None and self._minutes is None:
            return
        by_steps = self._steps is not None and loop.progress.step % self._steps == 0
        by_time = self._minutes is not None and self._processes.said_by_first(
            time.monotonic() - self._saved_at >= 60 * self._minutes
        )
        if by_steps or by_time:
            self._save_last(loop)

    def epoch_finished(self, loop: Loop, is_best: bool) -> None:
        """Save the best weights if this epoch has them, and the whole state when it is due."""
        progress = loop.progress
        last = progress.epoch >= self._epochs or bool(progress.stopped)
        due = progress.epoch % self._every == 0 or last
        if is_best:
            self._take_best(loop)
        if due:
            self._save_last(loop)
        elif is_best and self._processes.is_first:
            self._write_later(self._write_best)
        if last:
            self._settle()

    def interrupted(self, loop: Loop) -> None:
        """Save now, and wait until it is written."""
        self._save_last(loop)
        self.wait()
        self._processes.totals(0)  # the others stay until it is written: the launcher ends all when one ends

    def last_state(self) -> Mapping[str, Any] | None:
        """Return the last whole state; None before the first."""
        self.wait()
        return self._processes.made_by_first(lambda: read_latest(self._folder, self._log, below=self._below))

    def holds_any(self) -> bool:
        """Whether a whole state has been written."""
        self.wait()
        return (self._folder / "last.pt").exists() or bool(epoch_files(self._folder))

    def wait(self) -> None:
        """Wait for the writer.

        Raises:
            StorageError: too many saves have failed in a row.
        """
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        error, self._error = self._error, None
        if error is None:
            return
        if not isinstance(error, OSError):  # out of memory, say: not the disk's fault
            raise error
        self._failures += 1
        if self._failures >= MOST_FAILURES:
            raise self._storage_error(error)
        self._log(f"warning: a checkpoint could not be written ({error.strerror or error}); the one before is kept")

    # ---------------------------------------------------------------------------------------------------------- saving
    def _take_best(self, loop: Loop) -> None:
        """Copy the weights that were evaluated; they are written with the next save."""
        if not self._processes.is_first:
            return
        self.wait()  # the writer may hold the best weights before these
        held = loop.evaluated_weights()
        on_host = {key: {name: tensor.cpu() for name, tensor in part.items()} for key, part in held.items()}
        self._unwritten_best = {**on_host, "row": dict(loop.progress.best or {}), **self._facts}

    def _save_last(self, loop: Loop) -> None:
        """Copy the state and have it written, after the best weights that wait."""
        self.wait()
        self._before()
        held = loop.state()  # of which every process has a part
        if not self._processes.is_first:
            return
        state = {**checkpoint.snapshot(held), **self._facts}
        self._saved_at = time.monotonic()
        whole_epoch = loop.progress.epoch if loop.progress.batch == 0 else None

        def write() -> None:
            self._write_best()  # first: a state must not speak of best weights that are not there
            self._write_last(state, whole_epoch)

        self._write_later(write)

    def _write_later(self, job: Callable[[], None]) -> None:
        """Run a job in the writer's thread, after the one before it; an error comes up in the next `wait`."""
        self.wait()

        def guarded() -> None:
            try:
                job()
            except BaseException as error:  # for the main thread, in `wait`
                self._error = error
            else:
                self._failures = 0

        self._job = job
        self._writer = threading.Thread(target=guarded, name="checkpoint")
        self._writer.start()

    def _settle(self) -> None:
        """Wait for the last save of a training, and try once more where it failed."""
        self.wait()
        if self._failures:
            try:
                self._job()
            except OSError as error:
                self._failures += 1
                raise self._storage_error(error) from error

    def _storage_error(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self._folder}: {self._failures} checkpoints in a row could not be written ({error.strerror or error})",
            "make room or mend the permissions, then resume: the last whole checkpoint is kept",
        )

    def _write_last(self, state: Mapping[str, Any], whole_epoch: int | None) -> None:
        """Write last.pt; one of an epoch's end that lies there stays as epoch-<n>.pt, and the oldest of these go.

        Args:
            state: of the training.
            whole_epoch: at whose end it was taken; None in the middle of one.
        """
        last, before = self._folder / LAST, self._whole_epoch_in_last
        if before is not None and before != whole_epoch and self._keep and last.exists():
            files.second_name(last, f"epoch-{before}.pt", below=self._below)
        checkpoint.write(last, state, below=self._below)
        self._whole_epoch_in_last = whole_epoch
        for old in (self._folder / BEFORE, *epoch_files(self._folder)[self._keep :]):
            with contextlib.suppress(OSError):
                files.remove(old, below=self._below)

    def _write_best(self) -> None:
        """Write best.pt; the one before stays until a state speaks of the new one: a resume may begin before it."""
        state = self._unwritten_best
        if state is None:
            return
        best, before = self._folder / BEST, self._folder / BEFORE
        if best.exists() and not before.exists():
            files.second_name(best, BEFORE, below=self._below)
        checkpoint.write(best, state, below=self._below)
        _write_safetensors(self._folder, state, self._below)
        self._unwritten_best = None


def _write_safetensors(folder: Path, state: Mapping[str, Any], below: Path) -> None:
    content = to_safetensors(state["model"], state.get("class_names", ()), state.get("about"))
    files.write(folder / SAFETENSORS, content, below=below)


def epoch_files(folder: Path) -> list[Path]:
    """Return the epoch-<n>.pt files, newest (by number) first."""
    numbered = [
        (int(match[1]), path) for path in folder.iterdir() if (match := re.fullmatch(r"epoch-(\d+)\.pt", path.name))
    ]
    return [path for _, path in sorted(numbered, reverse=True)]


def best_weights(folder: Path, epoch: float) -> Mapping[str, Any]:
    """Return what best.pt holds, the network's `model` and `buffers` among it.

    Args:
        folder: of the checkpoints.
        epoch: that was best.

    Raises:
        CheckpointError: the file is missing, damaged or of another epoch.
    """
    path = folder / BEST
    state = checkpoint.read(path)
    if state["row"]["epoch"] != epoch:
        raise CheckpointError(
            f"{path}: holds the weights of epoch {state['row']['epoch']:.0f}, but the best was epoch {epoch:.0f}",
            "bring back the one that belongs to this run, or resume it with more train.epochs",
        )
    return state


def require_best(folder: Path, progress: Mapping[str, Any], epochs: int) -> None:
    """Refuse to go on without the best weights so far: at the end they may be asked for, and be the best still.

    A best.pt that is newer than the state is fine where the one before is there still (`put_best_back`), or where
    its epoch comes again: it was written just before a kill.

    Args:
        folder: of the checkpoints.
        progress: of the state that is continued from.
        epochs: that there will be.

    Raises:
        CheckpointError: best.pt is missing, damaged or of an epoch that does not come again.
    """
    best, done = progress["best"], progress["epoch"]
    if best is None or best["epoch"] == done >= epochs:  # none yet, or the state itself holds them and nothing follows
        return
    if _best_before(folder, progress) is not None:
        return
    path = folder / BEST
    try:
        held = checkpoint.read(path)["row"]["epoch"]
    except CheckpointError as error:
        raise CheckpointError(
            f"{error.message}; it held the best weights so far, of epoch {best['epoch']:.0f}",
            f"bring it back from a copy, or start a new run with train.start_from: {folder / 'last.pt'}",
        ) from error
    if not done < held <= epochs:
        best_weights(folder, best["epoch"])


def _best_before(folder: Path, progress: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the older best weights that lie in a folder, where they are the best of a state; else None."""
    if progress["best"] is None or not (folder / BEFORE).is_file():
        return None
    try:
        state = checkpoint.read(folder / BEFORE)
    except CheckpointError:
        return None
    return state if state["row"]["epoch"] == progress["best"]["epoch"] else None


def read_latest(folder: Path, log: Callable[[str], None], *, below: Path | None = None) -> dict[str, Any] | None:
    """Return the newest whole state in `folder`, falling back to earlier ones; None where there never was one.

    Files that had to be passed over are put aside.

    Args:
        folder: of the checkpoints.
        log: takes one line.
        below: the run's folder, below which no link is followed; `folder` where omitted.

    Raises:
        CheckpointError: there are files, but none is whole.
    """
    latest = find_latest(folder, log)
    latest.put_aside(below=below or folder)
    return latest.state


def put_best_back(folder: Path, progress: Mapping[str, Any], *, below: Path) -> None:
    """Make best.pt that of a state from which a run goes on: newer best weights are of epochs that come again.

    Args:
        folder: of the checkpoints.
        progress: of the state.
        below: the run's folder, below which no link is followed.
    """
    state = _best_before(folder, progress)
    if state is not None:
        files.rename(folder / BEFORE, BEST, below=below)
        _write_safetensors(folder, state, below)
    # Of an older state, where the process was killed before it could remove them; or both names are still of one file.
    files.remove(folder / BEFORE, below=below)


@dataclass(frozen=True)
class Latest:
    """The newest whole state of a run.

    Attributes:
        state: what it holds; None where there never was one.
        damaged: files that had to be passed over.
    """

    state: dict[str, Any] | None
    damaged: Sequence[Path]

    def put_aside(self, *, below: Path) -> None:
        """Give damaged files another name, so that no later save takes them for whole.

        Args:
            below: the run's folder, below which no link is followed.
        """
        for path in self.damaged:
            with contextlib.suppress(OSError):
                files.rename(path, f"{path.name}{UNREADABLE}", below=below)


def find_latest(folder: Path, log: Callable[[str], None]) -> Latest:
    """Look for the newest whole state in `folder`, and for those to fall back to; nothing is changed.

    Raises:
        CheckpointError: there are files, but none is whole.
    """
    candidates = [folder / LAST, *epoch_files(folder)] if folder.is_dir() else []
    passed_over: dict[Path, str] = {}
    for path in candidates:
        if not path.exists():
            continue
        try:
            state = checkpoint.read(path)
        except CheckpointError as error:
            passed_over[path] = error.message
            continue
        for problem in passed_over.values():
            log(f"warning: {problem}; falling back to {path.name}")
        return Latest(state, tuple(passed_over))
    if passed_over:
        raise CheckpointError(
            "no checkpoint of this run is whole:\n  " + "\n  ".join(passed_over.values()), "start the run again"
        )
    return Latest(None, ())
