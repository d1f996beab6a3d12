"""One trial: a run folder per seed, begun or taken up where it stands, and what it reached.

Knows how a run is ordered and how its epochs are judged; which trial comes next is worker.py's to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from registry.contracts import Callback, Pause, View
from registry.errors import DataError, RecipeError, StorageError
from registry.printing import few
from trainer.engine.interrupts import Paused
from trainer.recipe.afterwards import FREE_AT_RESUME, free
from trainer.recipe.load import load_recipe
from trainer.recipe.problems import render
from trainer.recipe.reading.scalars import spelling
from trainer.recipe.recipe import Recipe
from trainer.recipe.resolve import flat
from trainer.run.beginning import start_as
from trainer.run.conduct import Order
from trainer.run.display import Display
from trainer.run.folder import RunFolder
from trainer.run.resuming import take_up
from trainer.search.place import SweepFolder, run_name
from trainer.search.study import PAUSING, Study, Trial
from trainer.search.sweep import CHOOSE_IMAGES, Goal, Sweep

WILCOXON = "WilcoxonPruner"  # judges by seeds, not by epochs


@dataclass(frozen=True)
class Bench:
    """What every trial of a worker has in common.

    Attributes:
        sweep: the sweep.
        recipe: of its first point: what no trial changes is in it.
        folder: of its runs.
        study: its trials.
        display: makes what shows a run; it logs.
        command: the command line, for the records.
    """

    sweep: Sweep
    recipe: Recipe
    folder: SweepFolder
    study: Study
    display: Callable[[], Display]
    command: Sequence[str]

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """The seeds of each trial: the sweep's, else the recipe's several, else its one, told as None."""
        return self.sweep.seeds or self.recipe.seeds or (None,)


class Judge(Callback):
    """Tells the pruner of every epoch, and leaves the run where the pruner says so."""

    def __init__(self, bench: Bench, trial: Trial) -> None:
        self._bench, self._trial = bench, trial
        self._goal = bench.sweep.goals[0]

    def epoch_finished(self, view: View) -> Pause | None:
        """Report, and ask."""
        row = view.best if self._goal.at == "best" and view.best is not None else view.row
        value = row.get(self._goal.metric)
        if value is None or math.isnan(value):
            return None
        self._bench.study.report(self._trial, view.epoch, value)
        if view.epoch < view.epochs and self._bench.study.should_stop(self._trial):
            return Pause(f"epoch {view.epoch} of {view.epochs} is not among the better ones of the sweep so far")
        return None


def recipe_of(sweep: Sweep, texts: Sequence[str], seed: int | None) -> Recipe:
    """Return the recipe of a trial.

    Raises:
        RecipeError: these values do not go together.
    """
    overrides = [*sweep.assigned(texts), f"name={sweep.sweep}"]
    loaded = load_recipe(sweep.base, overrides)
    if loaded.recipe is None:
        first = loaded.problems[0].text
        raise RecipeError(f"this trial's recipe has problems, {first}\n{render(loaded.problems)}")
    recipe = replace(loaded.recipe, expect=(), seeds=None)
    return recipe if seed is None else replace(recipe, seed=seed)


def run_trial(bench: Bench, trial: Trial) -> None:
    """Run what is left of a trial, and tell the study what came of it.

    Raises:
        Interrupted: a signal came; the trial stays as it is, to be taken up.
        UserError: a run failed.
    """
    sweep, study = bench.sweep, bench.study
    by_seed: dict[str, Sequence[float]] = {}
    seconds = 0.0
    for number, seed in enumerate(bench.seeds):
        judge = _judge(bench, trial) if number == 0 else ()
        try:
            summary = run(bench, "trial", trial, seed, judge)
        except Paused:
            _left(bench, trial, seed)
            return
        _refuse_other_images(bench, trial, seed, summary)
        reached = [value_of(goal, summary) for goal in sweep.goals]
        by_seed[str(bench.recipe.seed if seed is None else seed)] = reached
        seconds += float(summary.get("seconds") or 0.0)
        study.take_in(trial, by_seed, seconds)
        if _is_wilcoxon(sweep) and number + 1 < len(bench.seeds):
            study.report(trial, number, reached[0])
            if study.should_stop(trial):
                study.prune(study.again(trial.number))
                return
    means = [math.fsum(values) / len(values) for values in zip(*by_seed.values(), strict=True)]
    if not all(map(math.isfinite, means)):
        study.fail(trial, "no finite value of the objective")
        return
    study.complete(trial, means)


def _is_wilcoxon(sweep: Sweep) -> bool:
    return sweep.pruner is not None and sweep.pruner.type == WILCOXON


def _judge(bench: Bench, trial: Trial) -> tuple[Callback, ...]:
    sweep = bench.sweep
    per_epoch = sweep.pruner is not None and not _is_wilcoxon(sweep)
    return (Judge(bench, trial),) if per_epoch and len(sweep.goals) == 1 else ()


def _left(bench: Bench, trial: Trial, seed: int | None) -> None:
    """Mark a trial that its pruner has sent away: it waits, or is over."""
    sweep, study = bench.sweep, bench.study
    now = study.again(trial.number)
    epoch = max(now.by_epoch)
    folder = bench.folder.run("trial", trial.number, seed)
    study.take_in(trial, {}, float(sum(row.get("seconds") or 0.0 for row in folder.read_history())))
    if sweep.pruner is not None and sweep.pruner.type in PAUSING:
        study.pause(trial, epoch)
    else:
        mark_pruned(folder)
        study.prune(now)


def mark_pruned(folder: RunFolder) -> None:
    """Write down that a run will not go on."""
    if folder.path.exists():
        folder.write_json("summary.json", {**folder.read_json("summary.json"), "status": "pruned"})


def run(
    bench: Bench, kind: str, trial: Trial, seed: int | None, callbacks: Sequence[Callback] = ()
) -> Mapping[str, Any]:
    """Run a trial by one seed, from where it stands; return what summary.json holds.

    Args:
        bench: of the worker.
        kind: "trial" or "confirm", which begins the folder's name.
        trial: its values.
        seed: of everything random; None for the recipe's own.
        callbacks: judge its epochs.
    """
    folder = bench.folder.run(kind, trial.number, seed)
    display = bench.display()
    spares_test = not any(goal.metric.startswith("test/") for goal in bench.sweep.goals)
    if not folder.resolved.exists():
        order = ordered(recipe_of(bench.sweep, trial.texts, seed), bench.command, callbacks, spares_test=spares_test)
        name = run_name(kind, trial.number, seed)
        return start_as(order, bench.folder.root, name, display).summary
    _refuse_others(folder, recipe_of(bench.sweep, trial.texts, seed))
    summary = folder.read_summary()
    if summary.get("status") == "completed":
        return summary
    order = ordered(resolved_recipe(folder), bench.command, callbacks, spares_test=spares_test)
    return take_up(folder, order, display).summary


def _refuse_other_images(bench: Bench, trial: Trial, seed: int | None, summary: Mapping[str, Any]) -> None:
    """Refuse a trial on other images than those before it, where the sweep itself does not choose among images.

    Raises:
        DataError: naming both trials.
    """
    if any(choice.path.startswith(CHOOSE_IMAGES) for choice in bench.sweep.choices):
        return
    for other in bench.study.trials():
        if other.number == trial.number or other.state != "complete":
            continue
        before = bench.folder.run("trial", other.number, seed).read_json("summary.json").get("fingerprint")
        now = summary.get("fingerprint")
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            parts = [part for part in ("train", "val") if before.get(part) != now.get(part)]
            if parts:
                folder = bench.folder.run("trial", trial.number, seed).path
                raise DataError(
                    f"the {' and '.join(parts)} images of trial {trial.number} are not those of trial {other.number}",
                    f"bring them back and remove {folder}; on other images, begin a sweep of another name",
                )
            return


def _refuse_others(folder: RunFolder, recipe: Recipe) -> None:
    """Refuse a folder in which a trial of the same number but of other values was run.

    Raises:
        StorageError: naming what is other.
    """
    before, now = flat(resolved_recipe(folder)), flat(recipe)
    # What was a reference is by now what it stood for; `lr_finder` has found its rate.
    plain = {key: value for key, value in now.items() if not str(value).startswith("$") and key in before}
    other = [
        f"{key} {spelling(before[key])}, not {spelling(value)}"
        for key, value in plain.items()
        if before[key] != value and free(key, FREE_AT_RESUME) is None
    ]
    if other:
        raise StorageError(
            f"{folder.path} holds a run of other values: {few(other)}",
            "remove the folder if nobody needs it, or give the sweep another name",
        )


def resolved_recipe(folder: RunFolder) -> Recipe:
    """Return the recipe that a run was made with.

    Raises:
        RecipeError: it cannot be read any more.
    """
    return load_recipe(folder.resolved).usable()


def ordered(
    recipe: Recipe,
    command: Sequence[str],
    callbacks: Sequence[Callback] = (),
    *,
    spares_test: bool,
    page: bool = False,
) -> Order:
    """Return how a run of a sweep is ordered: expectations are not judged, and the page is an exception."""
    return Order(
        recipe, (), "a sweep's trials are not judged", tuple(command), callbacks, page=page, spares_test=spares_test
    )


def value_of(goal: Goal, summary: Mapping[str, Any]) -> float:
    """Return what a run has reached of an objective; NaN where it has not."""
    split, _, key = goal.metric.partition("/")
    if goal.metric in ("seconds", "parameters"):
        value = summary.get(goal.metric)
    elif split == "test":
        value = (summary.get("test", {}).get(goal.at) or {}).get(key)
    else:
        value = (summary.get(goal.at) or {}).get(goal.metric)
    return float(value) if isinstance(value, (int, float)) else math.nan
