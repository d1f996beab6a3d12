"""`sweep`: what a person sees while trials go on, and several workers on one machine."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console as RichConsole
from rich.live import Live
from rich.table import Table

from registry.errors import UserError
from registry.printing import counted, duration, harmless, metric_text
from registry.program import typed_as
from trainer.cli.console import Console, Forgiving
from trainer.engine.interrupts import Interrupted
from trainer.recipe.problems import render
from trainer.recipe.recipe import Recipe
from trainer.search.reading import load_sweep
from trainer.search.study import Trial
from trainer.search.sweep import Sweep
from trainer.search.verdict import best_first
from trainer.search.worker import Worker

SHOWN = 5  # trials in the table of the best
WORKER = "RECIPE_TRAINER_WORKER"  # set for those that `--workers` starts: they print lines alone


def sweep(path: str, workers: int, typed: Sequence[str], root: Path) -> int:
    """Run a sweep, by this process or by several; return the exit code.

    Args:
        path: of the sweep's file.
        workers: processes on this machine.
        typed: the command line, for the records.
        root: where runs lie.

    Raises:
        RecipeError: the file has problems; its message shows them all.
        Interrupted: a signal came; every trial in hand is saved.
    """
    loaded = load_sweep(path)
    checked, recipe = loaded.usable(), loaded.recipe
    assert recipe is not None
    alone = WORKER not in os.environ
    if alone:
        _tell(render(loaded.warnings), *(f"note: {note}" for note in loaded.notes))
    board = Board(checked, live=alone)
    made = Worker(checked, recipe, root, lambda: Console(quiet=True), board.line, typed, board.show)
    with board.shown():
        code = _several(path, workers, recipe, board, made) if workers > 1 and alone else _one(path, made)
    if alone and code == 0:
        board.final(made)
    return code


def _tell(*lines: str) -> None:
    for line in filter(None, lines):
        print(line, file=sys.stderr)


def _one(path: str, worker: Worker) -> int:
    try:
        worker.work()
    except Interrupted as interrupt:
        if WORKER not in os.environ:
            _tell(_continued(str(interrupt), path))
        raise
    return 0


def _continued(reason: str, path: str) -> str:
    return f"interrupted by {reason}; to continue: {typed_as()} sweep {shlex.quote(str(path))}"


class Board:
    """Lines as they come, and on a terminal a table of the best trials below them.

    Args:
        sweep: whose trials they are.
        live: whether a terminal gets the table.
    """

    def __init__(self, sweep: Sweep, *, live: bool) -> None:
        self._sweep = sweep
        self._out = RichConsole(file=Forgiving(sys.stdout), highlight=False, soft_wrap=True)  # type: ignore[arg-type]
        self._live = Live(console=self._out, auto_refresh=False, transient=True) if live else None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Keep the table up for the length of the block."""
        if self._live is None or not self._out.is_terminal:
            self._live = None
            yield
            return
        with self._live:
            yield

    def line(self, text: str) -> None:
        """Print one line."""
        with self._lock:
            self._out.print(harmless(text), markup=False, emoji=False)
            sys.stdout.flush()

    def show(self, trials: Sequence[Trial]) -> None:
        """Draw the table anew."""
        if self._live is not None:
            with self._lock:
                self._live.update(self._table(trials), refresh=True)

    def final(self, worker: Worker) -> None:
        """Print the table and where the page lies."""
        trials = worker.trials()
        self._out.print(self._table(trials))
        states = [trial.state for trial in trials]
        ends = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        seconds = sum(trial.seconds for trial in trials)
        self._out.print(f"{counted(len(trials), 'trial')}: {ends}; {duration(seconds)} of training", markup=False)
        if worker.page.exists():
            recipe = worker.page.with_name("best.yaml")
            self._out.print(f"page {worker.page}" + (f"\nrecipe {recipe}" if recipe.exists() else ""), markup=False)

    def _table(self, trials: Sequence[Trial]) -> Table:
        table = Table(title=f"best of {counted(len(trials), 'trial')}", title_justify="left", box=None, pad_edge=False)
        metrics, paths = [goal.metric for goal in self._sweep.goals], [each.path for each in self._sweep.choices]
        for name in ("trial", *metrics, *paths):
            table.add_column(name, overflow="fold")
        for trial in best_first(trials, self._sweep.goals)[:SHOWN]:
            values = (
                metric_text(goal.metric, value) for goal, value in zip(self._sweep.goals, trial.values, strict=True)
            )
            table.add_row(str(trial.number), *values, *self._sweep.shown(trial.texts))
        return table


# ------------------------------------------------------------------------------------------------------ several workers
def _several(path: str, count: int, recipe: Recipe, board: Board, made: Worker) -> int:
    """Start workers, pass on their lines, wait for all; a signal to this process reaches them."""
    command = [sys.executable, "-m", "trainer", "sweep", path]
    processes = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=share(number, count, recipe)
        )
        for number in range(count)
    ]

    def pass_on(signum: int, _frame: object) -> None:
        received.append(signum)
        for process in processes:
            with contextlib.suppress(OSError):
                process.send_signal(signum)

    received: list[int] = []
    before = {
        each: signal.signal(each, pass_on)
        for each in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(each) is not signal.SIG_IGN  # nor do the workers listen to it then
    }
    try:
        readers = [threading.Thread(target=_read, args=(process, board, made)) for process in processes]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        codes = [process.wait() for process in processes]
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    if received:
        _tell(_continued(signal.Signals(received[0]).name, path))
        raise Interrupted(received[0])
    failed = next((code for code in codes if code), 0)
    if failed and not made.is_done():
        _tell(f"a worker ended with exit code {failed}; to continue: {typed_as()} sweep {shlex.quote(str(path))}")
        return abs(failed)
    return 0


def _read(process: subprocess.Popen[str], board: Board, made: Worker) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        board.line(f"[{process.pid}] {line.rstrip()}")
        with contextlib.suppress(UserError):
            board.show(made.trials())


def share(number: int, count: int, recipe: Recipe) -> Mapping[str, str]:
    """Return the environment of one of `count` workers: its part of the GPUs, or of the cores."""
    environment = {**os.environ, WORKER: str(number)}
    gpus = visible_gpus() if recipe.train.device in ("auto", "cuda") else []
    if gpus:
        mine = gpus[number::count] or [gpus[number % len(gpus)]]
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    environment["OMP_NUM_THREADS"] = str(max(1, cores // count))
    return environment


def visible_gpus(counted: Callable[[], int] | None = None) -> list[str]:
    """Return the names of the GPUs that this process may use.

    Args:
        counted: how many there are, where the environment does not name them; asks torch when None.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [each.strip() for each in named.split(",") if each.strip()]
    if counted is None:
        import torch

        counted = torch.cuda.device_count
    return [str(number) for number in range(counted())]
