"""How a run begins: in a new folder, once per seed and fold, from a checkpoint, or again after its processes were lost.

What it then does is conduct.py's. Several processes begin one run together, and only where they would train the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from registry.errors import CheckpointError, RecipeError
from registry.printing import counted_few
from trainer.engine.interrupts import Interrupted
from trainer.engine.keeper import Latest, find_latest, require_best
from trainer.engine.processes import ONE, Processes, states_in
from trainer.recipe.afterwards import RESOLVED
from trainer.recipe.checks.expect import judge
from trainer.recipe.fast import fast_limit
from trainer.recipe.load import load_recipe
from trainer.recipe.recipe import Fraction, Recipe
from trainer.recipe.resolve import resolved_yaml
from trainer.run import index
from trainer.run import verdicts as verdicts_table
from trainer.run.conduct import Order, Result, Run, guarded, short_digest
from trainer.run.display import Display
from trainer.run.environment import program_facts
from trainer.run.folder import GIVEN, RunFolder
from trainer.run.following import FollowedFolder, RankLog
from trainer.run.launches import FILE as LAUNCH
from trainer.run.launches import Launch, begun


def start(order: Order, root: Path, display: Display, processes: Processes = ONE) -> Result:
    """Run a recipe in a new folder below `root`, or per seed and fold in one each; write the page of all runs anew.

    Args:
        order: what to run and how.
        root: of the run folders.
        display: shows what happens.
        processes: that all run it, together.
    """
    display = display_of(display, processes)
    require_alike(order, processes)
    try:
        return _start(order, root, display, processes)
    finally:
        if processes.is_first:
            index.refresh(root, display.line)


def _start(order: Order, root: Path, display: Display, processes: Processes) -> Result:
    singles = repeated(order.recipe)
    if len(singles) == 1 and not singles[0].suffix:
        return _new_run(order, root, display, processes)
    many = "runs" if "," in singles[0].said else f"{singles[0].said.partition(' ')[0]}s"
    results = []
    for each in singles:
        display.line(each.said)
        single = replace(order, recipe=each.recipe, not_judged=f"the {many} are judged together")
        try:
            results.append(_new_run(single, root, display, processes, suffix=each.suffix))
        except Interrupted:
            if left := [one.said for one in singles[len(results) + 1 :]]:
                display.line(
                    f"not begun: {counted_few(left, len(left))}; the mean over all {many} is taken by one command"
                )
            raise
    judged = [each.verdicts for each in results]
    means = verdicts_table.mean_verdicts(judged)
    rows = verdicts_table.over_seeds([each.summary for each in results], many)
    rows.update(verdicts_table.rows(means, order.not_judged))
    display.table(rows)
    last = results[-1]
    return Result(last.folder, last.summary, means, verdicts_table.exit_code(means, order.not_judged))


@dataclass(frozen=True)
class Single:
    """One of several runs of a recipe.

    Attributes:
        said: which it is, "seed 1, fold 0".
        suffix: of its folder, "-s1-f0"; "" where the recipe runs once.
        recipe: that it runs by, as if there were no others.
    """

    said: str
    suffix: str
    recipe: Recipe


def repeated(recipe: Recipe) -> list[Single]:
    """Return the runs that a recipe asks for: one for each of its seeds, and of those one for each fold."""
    val = recipe.data.val
    folds = val.folds if isinstance(val, Fraction) and val.fold is None else None
    made = []
    for seed, fold in product(recipe.seeds or (None,), (None,) if folds is None else range(folds)):
        single = recipe if seed is None else replace(recipe, seed=seed, seeds=None)
        if fold is not None and isinstance(val, Fraction):
            single = replace(single, data=replace(single.data, val=replace(val, fold=fold)))
        named = [("seed", seed), ("fold", fold)]
        said = ", ".join(f"{name} {number}" for name, number in named if number is not None)
        suffix = "".join(f"-{name[0]}{number}" for name, number in named if number is not None)
        made.append(Single(said, suffix, single))
    return made


def require_alike(order: Order, processes: Processes) -> None:
    """Refuse processes that would not train the same, or of which one would have nothing to learn from.

    Raises:
        RecipeError: naming the process and what differs.
    """
    recipe = order.recipe
    processes.require_share(recipe.data.batch_size, recipe.origins.get("data.batch_size", recipe.file))

    def facts() -> dict[str, str]:
        return {"the recipe": short_digest(resolved_yaml(recipe, fast_limit=fast_limit(recipe))), **program_facts()}

    processes.require_same(facts, RecipeError, "start all of them with the same recipe, overrides and packages")


def display_of(display: Display, processes: Processes) -> Display:
    """Return what shows a process's lines: one of them speaks, the others write down what only they have to say."""
    return display if processes.is_first else RankLog(processes.rank)


def resume(order: Order, folder: RunFolder, latest: Latest, display: Display, processes: Processes = ONE) -> Result:
    """Continue the run in `folder`, which is locked, from its latest state.

    Nothing in it is touched before the data and the model have been found to fit.
    """
    require_alike(order, processes)
    stands = "none" if latest.state is None else f"step {latest.state['progress']['step']}"
    processes.require_same(
        lambda: {"the last checkpoint": stands}, CheckpointError, "the run's folder must be the same for all"
    )
    where = (
        "from the start: it has no checkpoint"
        if latest.state is None
        else (f"after epoch {latest.state['progress']['epoch']}, step {latest.state['progress']['step']}")
    )
    display.line(f"resuming {folder.path} {where}")
    if latest.state is not None and (before := len(states_in(latest.state, "rng"))) != processes.count:
        display.line(
            f"the checkpoint is of {before} process{'es' if before > 1 else ''}, this is {processes.count}: "
            "the same images in the same steps; dropout draws differently, and BatchNorm counts over other shares"
        )
    return guarded(Run(order, folder, display, latest, processes))


def start_as(order: Order, root: Path, folder: str, display: Display) -> Result:
    """Run a recipe in the new folder <root>/<name>/`folder`; the caller knows that there is none of this name."""
    return _new_run(order, root, display, ONE, named=folder)


def _new_run(
    order: Order, root: Path, display: Display, processes: Processes, suffix: str = "", named: str = ""
) -> Result:
    recipe = order.recipe
    resolved = resolved_yaml(recipe, fast_limit=fast_limit(recipe))
    launch = None if named else Launch.of(processes, asked=short_digest(resolved))
    before = processes.made_by_first(lambda: begun(root / recipe.name, suffix, launch))
    if launch is not None and before is not None:
        return _started_again(order, before, launch, display, processes)
    files = {GIVEN: recipe.text, RESOLVED: resolved}
    files |= {} if launch is None else {LAUNCH: launch.text()}
    made = processes.made_by_first(lambda: RunFolder.create(root, recipe.name, files, suffix=suffix, named=named))
    folder = made if processes.is_first else FollowedFolder(made.path)
    with folder.locked():
        display.log_to(folder.path / "log.txt")
        display.line(f"run folder {folder.path}")
        return guarded(Run(order, folder, display, None, processes))


def _started_again(order: Order, path: Path, launch: Launch, display: Display, processes: Processes) -> Result:
    """Continue the run that an earlier start of the same launch began, from its last checkpoint."""
    folder = RunFolder(path) if processes.is_first else FollowedFolder(path)
    summary = processes.made_by_first(lambda: folder.read_summary())
    if summary.get("status") == "completed":
        history = processes.made_by_first(folder.read_history)
        judged = judge(order.recipe.expect, history, summary) if order.recipe.expect else []
        display.line(f"{path} is complete")
        return Result(folder, summary, judged, verdicts_table.exit_code(judged, order.not_judged))
    recipe = replace(load_recipe(folder.resolved).usable(), fast=order.recipe.fast)
    with folder.locked():
        latest = find_latest(folder.checkpoints, display.line)
        if latest.state is not None:
            require_best(folder.checkpoints, latest.state["progress"], recipe.train.epochs)
        folder.write_text(LAUNCH, launch.text())
        display.line("all processes were started anew, by the same launch")
        return resume(replace(order, recipe=recipe), folder, latest, display, processes)
