"""A worker: one process that takes up one piece of work after another until the sweep is done.

    abandoned trial -> paused trial that is promoted -> new trial -> wait for others -> confirmation -> verdict and page

Everybody who gives the command works; what is left to do is read from the study and the locks, never remembered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from registry.errors import DataError, DivergedError, StorageError, UserError
from registry.printing import counted, duration, metric_text
from trainer.engine.interrupts import Interrupted
from trainer.recipe.recipe import Recipe
from trainer.run import index
from trainer.run.display import Display
from trainer.search import building
from trainer.search.ending import finish
from trainer.search.place import PAGE, SweepFolder, run_name
from trainer.search.study import Study, Trial
from trainer.search.sweep import Sweep
from trainer.search.trial import Bench, mark_pruned, run_trial
from trainer.search.verdict import best_first

WAIT = 1.0  # seconds between looks at what others do
MOST_FAILURES = 5  # trials that fail before any has been completed
STOPPING = (StorageError, DataError)  # what the next trial would meet, too


class Worker:
    """Works on a sweep.

    Args:
        sweep: checked.
        recipe: of its first point.
        root: where runs lie.
        display: makes what shows a run; it logs.
        say: takes one line.
        command: the command line, for the records.
        show: takes all trials after each one.
    """

    def __init__(
        self,
        sweep: Sweep,
        recipe: Recipe,
        root: Path,
        display: Callable[[], Display],
        say: Callable[[str], None],
        command: Sequence[str],
        show: Callable[[Sequence[Trial]], None] = lambda _: None,
    ) -> None:
        self._sweep, self._say, self._show = sweep, say, show
        self._folder = SweepFolder.made(root, sweep.sweep)
        self._here = self._folder.place()
        with self._folder.waiting("study"):
            self._study = Study(sweep, recipe, root, self._here)
        self._bench = Bench(sweep, recipe, self._folder, self._study, display, command)
        grid = building.size(sweep) if sweep.sampler.type in building.FINITE else None
        self._total = min((each for each in (sweep.trials, grid) if each is not None), default=None)

    @property
    def page(self) -> Path:
        """Where the page lies, once there is one."""
        return self._folder.path / PAGE

    def trials(self) -> list[Trial]:
        """Return all trials as they stand."""
        return self._study.trials()

    def is_done(self) -> bool:
        """Whether every trial has ended and the page is written."""
        ended = all(trial.state not in ("running", "paused") for trial in self.trials())
        return ended and self.page.exists()

    def work(self) -> None:
        """Work until nothing is left.

        Raises:
            Interrupted: a signal came; the trial in hand is saved.
            DivergedError: the first trials all failed, or none was completed.
            UserError: what every trial would meet.
        """
        said = False
        try:
            while True:
                with ExitStack() as held:
                    trial = self._next(held)
                    if trial is not None:
                        self._run(trial)
                        continue
                if self._others_work():
                    if not said:
                        self._say("no trial is left to begin; waiting for the other workers")
                    said = True
                    time.sleep(WAIT)
                    continue
                self._end_paused()
                if not self._others_work():  # else one was promoted just before
                    break
            if not self._elsewhere():
                finish(self._bench, self._say)
                self._refuse_failing(least=1)
        finally:
            index.refresh(self._folder.root, self._say)

    # -------------------------------------------------------------------------------------------------- choosing work
    def _next(self, held: ExitStack) -> Trial | None:
        """Return a trial to work on, its lock entered into `held`; None where none can be begun now."""
        with self._folder.waiting("asking"):
            trials = self._study.trials()
            for trial in self._abandoned(trials):
                if self._takes(trial, held):
                    self._say(f"trial {trial.number}: taken up where it was left")
                    return self._study.complete_draw(trial)
            for trial in trials:
                waits = trial.state == "paused" and self._is_mine(trial)
                if waits and self._study.promoted(trial) and self._takes(trial, held):
                    self._study.go_on(trial)
                    self._say(f"trial {trial.number}: goes on after epoch {max(trial.by_epoch)}")
                    return trial
            if self._may_begin(trials):
                trial = self._study.ask()
                if self._total is not None and trial.number >= self._total:  # another place asked at the same moment
                    self._study.fail(trial, "came when the sweep had all its trials")
                    return None
                taken = self._takes(trial, held)
                assert taken
                return trial
        return None

    def _abandoned(self, trials: Sequence[Trial]) -> Iterator[Trial]:
        """Yield the trials that are begun and that nobody works on."""
        alone = all(trial.place in ("", self._here) for trial in trials)
        for trial in trials:
            if trial.state == "running" and (self._is_mine(trial) or (alone and not trial.place)):
                yield trial

    def _is_mine(self, trial: Trial) -> bool:
        return trial.place == self._here

    def _takes(self, trial: Trial, held: ExitStack) -> bool:
        mine = held.enter_context(self._folder.working(run_name("trial", trial.number, None)))
        return mine and self._study.again(trial.number).state in ("running", "paused")

    def _may_begin(self, trials: Sequence[Trial]) -> bool:
        if self._total is not None and len(trials) >= self._total:
            return False
        minutes = self._sweep.minutes
        return minutes is None or time.time() - self._study.began < 60 * minutes

    def _others_work(self) -> bool:
        """Whether somebody of this place is at a trial: it may fail him, or let a paused one go on."""
        return any(trial.state == "running" and self._is_mine(trial) for trial in self._study.trials())

    def _elsewhere(self) -> bool:
        """Whether workers of other places have trials in hand; they write the page when they are done."""
        theirs = [trial for trial in self._study.trials() if trial.state in ("running", "paused")]
        if theirs:
            self._say(f"{len(theirs)} trials are in hand elsewhere; the same command writes the page when they ended")
        return bool(theirs)

    def _end_paused(self) -> None:
        """End the trials that nothing can promote any more."""
        with self._folder.waiting("asking"):
            for trial in self._study.trials():
                if trial.state == "paused" and self._is_mine(trial):
                    mark_pruned(self._folder.run("trial", trial.number, self._bench.seeds[0]))
                    self._study.prune(trial)

    # ---------------------------------------------------------------------------------------------------------- running
    def _run(self, trial: Trial) -> None:
        """Run a trial, and say in one line what came of it."""
        try:
            run_trial(self._bench, trial)
        except (Interrupted, *STOPPING):
            raise
        except Exception as error:  # one trial's values or a component's code; the next trial may do
            text = error.message if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            self._study.fail(trial, text)
            self._refuse_failing()
        trials = self._study.trials()
        self._say(self._line(next(each for each in trials if each.number == trial.number), trials))
        self._show(trials)

    def _refuse_failing(self, least: int = MOST_FAILURES) -> None:
        """Stop where nothing but failures has come so far, `least` of them.

        Raises:
            DivergedError: with the last one's words.
        """
        trials = self._study.trials()
        failed = [trial for trial in trials if trial.state == "failed"]
        if len(failed) >= least and all(trial.state != "complete" for trial in trials):
            raise DivergedError(
                f"no trial was completed, {counted(len(failed), 'trial')} failed, the last one so: {failed[-1].error}",
                f"their logs lie below {self._folder.path}; narrow `search`, and give the sweep another name",
            )

    def _line(self, trial: Trial, trials: Sequence[Trial]) -> str:
        texts = zip(self._sweep.choices, self._sweep.shown(trial.texts), strict=True)
        drawn = ", ".join(f"{choice.path} {text}" for choice, text in texts)
        total = "" if self._total is None else f"/{self._total}"
        head = f"trial {trial.number}{total}  {self._reached(trial)}  {duration(trial.seconds)}  {drawn}"
        best = best_first(trials, self._sweep.goals)
        return f"{head}  *" if best and best[0].number == trial.number else head

    def _reached(self, trial: Trial) -> str:
        if trial.state == "complete":
            pairs = zip(self._sweep.goals, trial.values, strict=True)
            return ", ".join(f"{goal.metric} {metric_text(goal.metric, value)}" for goal, value in pairs)
        epoch = f" after epoch {max(trial.by_epoch)}" if trial.by_epoch else ""
        return f"failed: {trial.error.splitlines()[0]}" if trial.state == "failed" else f"{trial.state}{epoch}"
