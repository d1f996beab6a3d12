"""The last lines of a run: what it reached, whether that was expected, and over several seeds or folds.

Functions of summaries and verdicts; `trainer.recipe.checks.expect` judges, `trainer.run.conduct` calls.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from registry.errors import CheckpointError, ExpectationError, RecipeError
from registry.printing import duration, number_text
from trainer.recipe.checks.expect import Verdict, judge, verdict_on
from trainer.recipe.load import load_recipe
from trainer.report.frame import has_curves
from trainer.run.folder import RunFolder
from trainer.run.summary import sound

EXPECT = "say what a run must reach, as in expect: {best val/accuracy: '>= 0.9'}"


def numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return what a run reached, by flat name: "best/val_accuracy" -> 0.93; what is not defined is left out."""
    found, whole = {}, sound(summary)
    for name in ("best", "final"):
        for key, value in whole.get(name, {}).items():
            if key.partition("/")[0] in ("val", "epoch"):
                found[f"{name}/{key.replace('/', '_')}"] = float(value)
    for name, values in whole.get("test", {}).items():
        if isinstance(values, Mapping):
            found.update({f"{name}/test_{key.replace('/', '_')}": float(value) for key, value in values.items()})
    return found


def ending(summary: Mapping[str, Any], metric: str, folder: Path) -> dict[str, str]:
    """Return the short table at the end of a run."""
    rows = {}
    for name in ("best", "final"):
        row = summary.get(name)
        if row is not None:
            extra = "".join(f", {key} {number_text(value)}" for key, value in row.items() if "/tta/" in key)
            rows[name] = f"{metric} {number_text(row[metric])} in epoch {row['epoch']:.0f}{extra}"
    for name, values in summary.get("test", {}).items():
        rows[f"test, {name} weights"] = ", ".join(f"{key} {number_text(value)}" for key, value in values.items())
    rows["training time"] = duration(summary["seconds"])
    rows["report"] = str(folder / "report.html")
    if has_curves(folder):
        rows["TensorBoard"] = f"tensorboard --logdir {folder.parent.parent}"
    return rows


def rows(verdicts: Sequence[Verdict], not_judged: str) -> dict[str, str]:
    """Return a line per expectation."""
    lines = {}
    for verdict in verdicts:
        reached = "nothing" if verdict.value is None else f"{verdict.value:.6g}"
        state = f"not judged: {not_judged}" if not_judged else "reached" if verdict.ok else "MISSED"
        lines[f"expected {verdict.expectation.text}"] = f"got {reached} ({state})"
    return lines


def recorded(run: Path, overrides: Sequence[str]) -> tuple[Sequence[Verdict], str]:
    """Judge a run that has ended by what it recorded.

    Args:
        run: its folder.
        overrides: `key=value`, of `expect` alone; what they expect is judged.

    Returns:
        The verdicts, none where nothing is expected, and why they do not count; "" where they do.

    Raises:
        RecipeError: an override is of something else.
        CheckpointError: the run has not been completed.
    """
    folder = RunFolder.open(run)
    others = [each for each in overrides if each.partition("=")[0].partition(".")[0] != "expect"]
    if others:
        text = f"{', '.join(others)}: of a run that has ended, only what is expected can be given anew"
        raise RecipeError(text, "as in 'expect={best val/accuracy: \">= 0.9\"}'; verify the recipe to run it anew")
    recipe = load_recipe(folder.resolved, overrides).usable()
    if not recipe.expect:
        return (), ""
    summary = folder.read_summary()
    if summary.get("status") != "completed":
        state = summary.get("status", "unknown")
        raise CheckpointError(f"{run}: cannot be judged: it is {state}, not completed", f"`resume {run}` continues it")
    then = str((summary.get("expect") or {}).get("not_judged", ""))
    not_judged = "--fast" if summary.get("fast") else "" if overrides else then
    return judge(recipe.expect, folder.read_history(), summary), not_judged


def exit_code(verdicts: Sequence[Verdict], not_judged: str) -> int:
    """Return 8 when a judged expectation was missed, else 0."""
    missed = not not_judged and any(not verdict.ok for verdict in verdicts)
    return ExpectationError.exit_code if missed else 0


def over_seeds(summaries: Sequence[Mapping[str, Any]], many: str = "seeds") -> dict[str, str]:
    """Return mean and standard deviation of every number over the runs that have it.

    Args:
        summaries: of the runs.
        many: what they differ in: "seeds", "folds", or "runs" where it is both.
    """
    every = [numbers(summary) for summary in summaries]
    found = {}
    for key in dict.fromkeys(key for one in every for key in one):
        values = [one[key] for one in every if key in one]
        spread = f" +- {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        count = f"{len(values)}" if len(values) == len(every) else f"{len(values)} of {len(every)}"
        found[key] = f"{statistics.mean(values):.4f}{spread} over {count} {many}"
    return found


def mean_verdicts(by_run: Sequence[Sequence[Verdict]]) -> list[Verdict]:
    """Return the verdicts on the means over several runs; a number that one run lacks is missing."""
    means = []
    for same in zip(*by_run, strict=True):
        values = [verdict.value for verdict in same if verdict.value is not None]
        means.append(verdict_on(same[0].expectation, statistics.mean(values) if len(values) == len(same) else None))
    return means
