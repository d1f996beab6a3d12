"""What a person sees while a run goes on: a progress bar on a terminal, plain lines elsewhere, and log.txt in any case.

Owns wording and layout only; the numbers come through the Recorder. Colours and bars are rich's, which honours NO_COLOR
and narrow terminals; where lines break, layout.py says.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, TextIO, cast

from rich.console import Console as RichConsole
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress

from registry import files
from registry.printing import ERRORS, harmless, metric_text, one_line, printable
from trainer.cli.layout import folded, in_words, width_of
from trainer.engine.meters import Meter
from trainer.engine.progress import Progress
from trainer.recipe.recipe import CROSS_ENTROPY
from trainer.run.display import Display

REDRAW_SECONDS = 0.25
LABEL = 24  # letters of a row's name up to which values stand in one column; a longer one has its own beside it
_UNBROKEN = "\x00"  # stands for a space at which no line ends; nothing that is shown holds it


class Forgiving:
    """A stream that may go away (a closed pipe, a lost terminal, a full disk): the text is lost, the run is not."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or drop; what the terminal has no letter for is written as its number."""
        with self._dropping():
            try:
                self._stream.write(text)
            except UnicodeEncodeError as error:
                self._stream.write(text.encode(error.encoding, ERRORS).decode(error.encoding))
        return len(text)

    def flush(self) -> None:
        """Flush, or drop."""
        with self._dropping():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except OSError:  # what the stream still holds, too: the interpreter flushes it at its end
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


class Console(Display):
    """Shows and logs a run.

    Args:
        quiet: show nothing, only log.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._out = RichConsole(
            file=cast("IO[str]", Forgiving(sys.stdout)),
            highlight=False,
            quiet=quiet,
            soft_wrap=True,
            force_jupyter=False,  # else a notebook keeps each line as a piece of HTML of its own
        )
        self._log_file: Path | None = None
        self._progress: Progress | None = None
        self._not_logged = ""  # lines from before there was a file for them
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._next_redraw = 0.0
        self._epochs = 0
        self._plan: tuple[int, int, float] = (0, 0, 0.0)
        self._started: tuple[float, int] = (0.0, 0)  # when this epoch's first step was seen, and which it was
        self._seen: tuple[float, int] = (0.0, 0)  # the same of its last
        self._beside = 0.0  # seconds of the last epoch that were no steps: validation, checkpoints

    # -------------------------------------------------------------------------------------------------------- log lines
    def log_to(self, file: Path) -> None:
        """Append every line to `file` from now on, and first those that had no file yet."""
        self._log_file = file
        waiting, self._not_logged = self._not_logged, ""
        self._append(waiting)

    def line(self, text: str) -> None:
        """Show and log one line."""
        text = harmless(text)
        style = "yellow" if text.startswith("warning") else None
        self._out.print(folded(text, sys.stdout), style=style, markup=False, emoji=False)
        self._write_down(text)

    # ----------------------------------------------------------------------------------------------------------- epochs
    def plan(self, *, epochs: int, steps_per_epoch: int, images_per_step: float) -> None:
        """Say how much there is to do, so that pulses can tell what is left."""
        self._plan = (epochs, steps_per_epoch, images_per_step)

    def epoch(self, epoch: int, row: Mapping[str, float]) -> None:
        """Show one clean line for a finished epoch, with a star where the training has made it the best so far."""
        best = None if self._progress is None else self._progress.best
        shown = [f"epoch {epoch:>{len(str(self._plan[0]))}}/{self._plan[0]}", f"lr {row['lr']:.3g}"]
        for part in ("train", "val"):
            words = [
                f"{_short(key)} {metric_text(key, row[key])}"
                for key in row
                if key.startswith(f"{part}/") and _main(key) and not _repeats_the_loss(key, row)
            ]
            shown.append(f"{part} {', '.join(words)}")
        shown.append(f"{row['seconds']:.1f} s")
        self.line("  ".join(shown) + ("  *" if best is not None and best["epoch"] == epoch else ""))
        speed = self._speed()
        self._beside = max(0.0, row["seconds"] - self._plan[1] / speed) if speed else 0.0
        self._started = self._seen = (0.0, 0)

    def _speed(self) -> float:
        """Return the steps per second of this epoch; 0 before two are seen."""
        (since, first), (now, last) = self._started, self._seen
        return (last - first) / (now - since) if now > since else 0.0

    def pulse(self, progress: Progress, meter: Meter) -> None:
        """Redraw the bar, at most a few times a second; what is best is read off `progress` later, too."""
        self._progress = progress
        if self._bar is None:
            return
        now = time.monotonic()
        self._seen = (now, progress.step)
        if not self._started[0]:
            self._started = self._seen
        if now < self._next_redraw:
            return
        self._next_redraw = now + REDRAW_SECONDS
        epochs, steps, images = self._plan
        done = progress.step - progress.epoch * steps
        speed = self._speed()
        loss = meter.last_loss
        words = [f"lr {progress.lr:.3g}"]
        if loss is not None and loss.device.type == "cpu":
            words.insert(0, f"loss {float(loss):.3f}")
        if speed:
            beside = (epochs - progress.epoch) * self._beside
            left = timedelta(seconds=round((epochs * steps - progress.step) / speed + beside))
            words += [f"{speed * images:,.0f} images/s", f"{left} left"]
        assert self._task is not None
        self._bar.update(
            self._task,
            completed=done,
            total=steps,
            description=f"epoch {progress.epoch + 1}/{epochs}",
            words="  ".join(words),
        )
        self._bar.refresh()

    def sweep(self, step: int, steps: int, lr: float, loss: float) -> None:
        """Show where the LR finder stands."""
        now = time.monotonic()
        if self._bar is None or (now < self._next_redraw and step < steps):
            return
        self._next_redraw = now + REDRAW_SECONDS
        assert self._task is not None
        self._bar.update(
            self._task, completed=step, total=steps, description="finding lr", words=f"lr {lr:.2e}  loss {loss:.3f}"
        )
        self._bar.refresh()

    def counting(self, words: str, total: int) -> Callable[[], None]:
        """Return what is called before each of `total` batches, to show inside a bar how far a measurement is."""
        numbers = itertools.count()

        def counted() -> None:
            done, now = next(numbers), time.monotonic()
            if self._bar is None or now < self._next_redraw:
                return
            self._next_redraw = now + REDRAW_SECONDS
            assert self._task is not None
            self._bar.update(self._task, completed=done, total=total, description=words, words="")
            self._bar.refresh()

        return counted

    @property
    def shows_bars(self) -> bool:
        """Whether a bar can be seen: on a terminal."""
        return self._out.is_terminal and not self._out.quiet

    @contextlib.contextmanager
    def bar(self) -> Iterator[None]:
        """Show a bar for the length of the block, on a terminal."""
        if not self.shows_bars:
            yield
            return
        columns = (TextColumn("{task.description}"), BarColumn(None), TextColumn("{task.completed}/{task.total}"))
        words = TextColumn("{task.fields[words]}")
        with RichProgress(*columns, words, console=self._out, auto_refresh=False, transient=True) as self._bar:
            self._task = self._bar.add_task("", total=1, words="")
            try:
                yield
            finally:
                self._bar = None

    # -------------------------------------------------------------------------------------------------------------- end
    def table(self, rows: Mapping[str, str]) -> None:
        """Show a short two-column table."""
        rows = {one_line(key): one_line(value) for key, value in rows.items()}
        width = max((len(key) for key in rows if len(key) <= LABEL), default=0)
        for key, value in rows.items():
            self._out.print(_row(f"{key:<{width}}  ", value, width_of(sys.stdout)), markup=False, emoji=False)
        self._write_down(*(f"{key}: {value}" for key, value in rows.items()))

    def _write_down(self, *lines: str) -> None:
        """Append lines to the log; what the disk has no room for is lost, the run is not."""
        self._append("".join(f"{time.strftime('%H:%M:%S')} {line}\n" for line in lines))

    def _append(self, text: str) -> None:
        """Append text to the log, or keep it until there is one."""
        if self._log_file is None:
            self._not_logged += text
        elif text:
            with contextlib.suppress(OSError), files.append(self._log_file, below=self._log_file.parent) as file:
                file.write(printable(text).encode())


def _row(key: str, value: str, width: int | None) -> str:
    """Return a row of a table; what does not fit goes on below the value, after a comma.

    Elsewhere it is never broken: a path over two lines could not be copied.
    """
    if width is None or len(key) + len(value) <= width or ", " not in value:
        return key + value
    kept = value.replace(" ", _UNBROKEN).replace(f",{_UNBROKEN}", ", ")
    lines = in_words(kept, width, first=key, hanging=" " * len(key))
    return "\n".join(lines).replace(_UNBROKEN, " ")


def _main(key: str) -> bool:
    return key.count("/") == 1


def _repeats_the_loss(key: str, row: Mapping[str, float]) -> bool:
    """Whether it is the plain cross entropy, and the recipe's loss is nothing else."""
    return key == f"val/{CROSS_ENTROPY}" and metric_text(key, row[key]) == metric_text(key, row["val/loss"])


def _short(key: str) -> str:
    return key.partition("/")[2]
