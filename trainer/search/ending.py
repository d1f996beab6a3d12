"""The end of a sweep: the best few run again by fresh seeds, the verdict, the winner's test, best.yaml and the page.

Workers share the runs; the rest is done by whoever comes first, and again by the same command, to the same end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from registry import files
from registry.errors import DivergedError, MemoryLimitError, StorageError
from registry.printing import metric_text, printable
from trainer.run.resuming import take_up
from trainer.run.summary import sound
from trainer.search.best import best_yaml
from trainer.search.page import Found, page
from trainer.search.place import BEST, PAGE, run_name
from trainer.search.study import Trial
from trainer.search.trial import Bench, ordered, resolved_recipe, run, value_of
from trainer.search.verdict import Candidate, Verdict, best_first, distinct, front, judged

VERDICT = "verdict"  # what was said last
WAIT = 1.0  # seconds between looks at runs that others have in hand


def finish(bench: Bench, say: Callable[[str], None]) -> Path:
    """Confirm, judge, test and write; return the page.

    Raises:
        Interrupted: a signal came; the run in hand is saved.
        StorageError: something cannot be written.
    """
    trials = bench.study.trials()
    verdict, confirms = _confirmed(bench, trials, say)
    with bench.folder.waiting("ending"):
        chosen = _chosen(bench, trials, verdict)
        wins = not confirms if verdict is None else verdict.winner is not None
        tested = None if chosen is None else _tested(bench, chosen, say, wins=wins)
        recipe = "" if chosen is None else _write_best(bench, chosen)
        found = Found(trials, verdict, chosen, tested, recipe, bench.study.importances(), confirms)
        _write(bench.folder.path / PAGE, page(bench, found), bench.folder.path)
        said = "" if verdict is None else verdict.text(bench.sweep.goals[0])
        if said and bench.study.note(VERDICT) != said:  # of several workers one says it
            say(said)
            bench.study.keep(VERDICT, said)
    return bench.folder.path / PAGE


# -------------------------------------------------------------------------------------------------------- confirmation
def _confirmed(bench: Bench, trials: Sequence[Trial], say: Callable[[str], None]) -> tuple[Verdict | None, bool]:
    """Run the best few again by fresh seeds and return the verdict, None without a number; and whether any was run."""
    confirm, ranked = bench.sweep.confirm, distinct(best_first(trials, bench.sweep.goals))
    if confirm == "none" or len(bench.sweep.goals) > 1 or len(ranked) < 2:
        return None, False
    few, seeds = ranked[: confirm.best], fresh_seeds(bench, confirm.seeds)
    open_ = [(trial, seed) for seed in seeds for trial in few]
    summaries: dict[tuple[int, int], Mapping[str, Any]] = {}
    while open_:
        left = [each for each in open_ if not _run_again(bench, *each, summaries, say)]
        if len(left) == len(open_):
            time.sleep(WAIT)
        open_ = left
    goal = bench.sweep.goals[0]
    candidates = []
    for trial in few:
        values = {seed: value_of(goal, summaries[trial.number, seed]) for seed in seeds}
        reached = {seed: each for seed, each in values.items() if math.isfinite(each)}
        candidates.append(Candidate(trial.number, reached, tuple(seed for seed in seeds if seed not in reached)))
    return judged(candidates, goal), True


def fresh_seeds(bench: Bench, count: int) -> list[int]:
    """Return seeds that no trial was run by."""
    first = 1 + max(bench.recipe.seed if seed is None else seed for seed in bench.seeds)
    return [first + number for number in range(count)]


def _run_again(
    bench: Bench,
    trial: Trial,
    seed: int,
    summaries: dict[tuple[int, int], Mapping[str, Any]],
    say: Callable[[str], None],
) -> bool:
    """Run a trial by a fresh seed; return False where another worker is at it."""
    name = run_name("confirm", trial.number, seed)
    with bench.folder.working(name) as mine:
        if not mine:
            return False
        known = bench.folder.run("confirm", trial.number, seed).path.exists()
        try:
            summary = run(bench, "confirm", trial, seed)
        except (DivergedError, MemoryLimitError) as error:
            say(f"trial {trial.number} again by seed {seed}: failed: {error.message.splitlines()[0]}")
            summary = {}
        else:
            goal = bench.sweep.goals[0]
            reached = metric_text(goal.metric, value_of(goal, summary))
            if not known:
                say(f"trial {trial.number} again by seed {seed}: {goal.metric} {reached}")
        summaries[trial.number, seed] = summary
        return True


# ------------------------------------------------------------------------------------------------------------ the best
def _chosen(bench: Bench, trials: Sequence[Trial], verdict: Verdict | None) -> Trial | None:
    """Return the trial that best.yaml is made of; None where none was completed."""
    if verdict is not None:
        return next(trial for trial in trials if trial.number == verdict.leader.number)
    ranked = front(trials, bench.sweep.goals)
    return ranked[0] if ranked else None


def _tested(bench: Bench, chosen: Trial, say: Callable[[str], None], *, wins: bool) -> Mapping[str, Any] | None:
    """Return what the chosen trial's run has reached on the test split, measured once; None where it is left alone.

    It is where no winner could be named: whoever takes the leader may still measure it, once.
    """
    folder = bench.folder.run("trial", chosen.number, bench.seeds[0])
    summary = folder.read_json("summary.json")
    wanted = bench.sweep.report == "best" and "report" not in summary
    if (wins and "test" not in summary and "no test" not in summary) or wanted:
        order = ordered(resolved_recipe(folder), bench.command, spares_test=not wins, page=bench.sweep.report == "best")
        summary = dict(take_up(folder, order, bench.display()).summary)
        if wins and "test" not in summary:
            folder.write_json("summary.json", {**summary, "no test": True})
    test: Mapping[str, Any] | None = sound(summary).get("test", {}).get("best")
    if test is not None:
        said = ", ".join(f"{key} {metric_text(key, value)}" for key, value in test.items())
        say(f"trial {chosen.number} on the test split: {said}")
    return test


def _write_best(bench: Bench, chosen: Trial) -> str:
    goals = zip(bench.sweep.goals, chosen.values, strict=True)
    reached = ", ".join(f"{goal.metric} {metric_text(goal.metric, value)}" for goal, value in goals)
    remark = f"Trial {chosen.number} of the sweep {bench.sweep.sweep}: {reached}"
    text = best_yaml(bench.sweep, chosen.texts, remark, bench.folder.path)
    _write(bench.folder.path / BEST, text, bench.folder.path)
    return text


def _write(path: Path, text: str, below: Path) -> None:
    try:
        files.write(path, printable(text).encode(), below=below)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or error})") from error
