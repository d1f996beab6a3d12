"""`audit`: the pictures of a recipe looked through before anybody trusts a number.

Nothing is trained, but for a review of the labels, which needs networks that have not learnt from them.

Of a run it says as well what leaks do to its accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np

from registry.audited import FIXES, LIST, Audit
from registry.printing import metric_text
from trainer.cli.console import Console
from trainer.experiment.experiment import Experiment
from trainer.recipe.load import Loaded
from trainer.report.audit_page import write_page
from trainer.report.audited import WithoutLeaks, without_leaks
from trainer.run import predictions as predictions_file
from trainer.run.folder import RunFolder
from trainer.run.folding import out_of_fold
from trainer.run.naming import RUNS
from trainer.stages.audit import audit_of, doubted
from trainer.stages.used_data import used_data


def audit(loaded: Loaded, run: Path | None, typed: Sequence[str], *, folds: int | None) -> int:
    """Audit the pictures that a recipe names, write a page and its lists below runs/<name>/, and say what was found.

    Args:
        loaded: the recipe; pictures that cannot be read are a finding, and stop nothing.
        run: one whose accuracy is given with and without the leaked pictures; None for none.
        typed: the command line.
        folds: networks that are trained to review the labels of the training split; None for no review.
    """
    recipe, console = loaded.usable(), Console()
    assert loaded.catalogue is not None
    RunFolder.require_place(RUNS, recipe.name)
    lenient = replace(recipe.data, on_bad_image="list")  # type: ignore[arg-type]  # no recipe may say so
    experiment = Experiment.of_images(replace(recipe, data=lenient), loaded.catalogue, log=console.line)
    experiment.recipe = replace(recipe, callbacks=(), data=replace(recipe.data, on_bad_image="skip"))
    found = audit_of(experiment)
    if folds is not None:
        found = _reviewed(found, experiment, folds, typed, console)
    leak = None if run is None else _leak_of(run, found, experiment, console)
    folder = RunFolder.create(RUNS, recipe.name, {}, suffix="-audit")
    today = date.today().isoformat()
    page = write_page(found, folder.path, name=recipe.name, used=used_data(experiment), dated=today, leak=leak)
    console.table({**_rows(found, leak), "page": str(page), "list": str(folder.path / LIST), **_fixes(found, folder)})
    return 0


def _reviewed(found: Audit, experiment: Experiment, folds: int, typed: Sequence[str], console: Console) -> Audit:
    """Return an audit with the labels of the training split that are probably wrong."""
    answered = out_of_fold(experiment, folds, RUNS, typed, console)
    doubts = doubted(experiment, answered.part, answered.indices, answered.logits)
    parts = ("train", "val") if experiment.data.val.dataset_split == "train" else ("train",)
    return replace(found, doubts=doubts, reviewed=parts)


def _fixes(found: Audit, folder: RunFolder) -> dict[str, str]:
    """Return where the doubted labels wait for a decision."""
    return {"fixes": str(folder.path / FIXES)} if found.doubts else {}


def _leak_of(run: Path, found: Audit, experiment: Experiment, console: Console) -> WithoutLeaks | None:
    """Return what leaks do to the accuracy that a run has recorded; None where there is none, or it cannot be told."""
    kept = predictions_file.read_answers(run)
    if kept is None:
        console.line(f"{run} has kept no predictions: its accuracy without leaks is not told")
        return None
    data = experiment.data
    part = data.test if kept.split == "test" and data.test is not None else data.val
    places = part.indices.numpy()
    by_file = kept.keyed_by == predictions_file.CONTENTS
    digests = part.store.contents if by_file else part.store.digests
    keys = places if kept.keyed_by == predictions_file.PLACES or digests is None else digests[places]
    if not np.array_equal(keys, kept.keys):
        console.line(f"the {part.name} pictures are not those that {run} was measured on: its accuracy is not told")
        return None
    return without_leaks(found, part.name, places, kept.right)


def _rows(found: Audit, leak: WithoutLeaks | None) -> dict[str, str]:
    """Return what is printed at the end."""
    rows = {"pictures": ", ".join(f"{part.images:,} {part.name}" for part in found.parts)}
    for part in found.parts:
        if part.name != "train":
            leaked = found.leaked(part.name)
            exact = sum(each.exact for each in leaked)
            rows[f"{part.name} learnt from"] = f"{len(leaked):,} ({exact:,} exact, {len(leaked) - exact:,} near)"
    if leak is not None:
        rows[f"{leak.part} accuracy"] = f"{metric_text('accuracy', leak.accuracy)} with them"
        rows[f"{leak.part} accuracy"] += f", {metric_text('accuracy', leak.without)} without"
    rows["contradicting"] = f"{len(found.contradictions):,} like one of another class"
    if found.reviewed:
        rows["mislabelled"] = f"{len(found.doubts):,} probably, of {' and '.join(found.reviewed)}"
    rows["duplicates"] = f"{len(found.duplicates):,} within a part"
    if found.grouped:
        rows["groups"] = f"{len(found.shared):,} on both sides"
    rows["to look at"] = ", ".join(f"{len(found.of_kind(kind)):,} {kind}" for kind in ("broken", "tiny", "blank"))
    return rows
