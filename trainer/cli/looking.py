"""Commands that look without training: lr-find, preview, evaluate, explain, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from registry.contracts import Evidence, Predictions, ReportPart
from registry.errors import DivergedError, RecipeError, ReportError
from registry.printing import duration, number_text, one_line
from registry.reports import scores
from registry.reports.augmentation import AugmentationSheet
from registry.reports.curves import LRFinderCurve
from registry.reports.gradcam import GradCAM
from registry.reports.pictures import as_rgb
from trainer.cli.console import Console
from trainer.cli.inputs import say
from trainer.engine.interrupts import Interrupted, Interrupts
from trainer.experiment.experiment import Experiment
from trainer.experiment.trained import Trained
from trainer.recipe.afterwards import RESOLVED
from trainer.recipe.load import Loaded
from trainer.recipe.problems import render
from trainer.recipe.recipe import LRFinder, Recipe
from trainer.report.page import write_report
from trainer.run.answering import Sureness, sureness
from trainer.run.asked import require_picture
from trainer.run.folder import RunFolder
from trainer.run.loading import LoadedRun, load
from trainer.run.recorded import held_against_recorded
from trainer.run.recorder import Recorder
from trainer.run.reporting import print_pdf, report_again
from trainer.stages.evaluate import evaluate_weights
from trainer.stages.lr_finder import find_lr
from trainer.stages.report import gather

OUTPUT = Path("runs")


def lr_find(loaded: Loaded) -> int:
    """Sweep, print every pick and draw the curve below runs/<name>/."""
    recipe, console = _recipe(loaded), Console()
    assert loaded.catalogue is not None
    RunFolder.require_place(OUTPUT, recipe.name)
    experiment = Experiment.from_recipe(recipe, loaded.catalogue, log=console.line)
    section = _finder(loaded, recipe)
    console.line(f"sweeping {section.start:g} to {section.end:g} in {section.steps} steps ...")
    try:
        with console.bar(), Interrupts().listening() as interrupts:
            finding = find_lr(experiment, section, interrupts=interrupts, progress=console.sweep)
    except Interrupted as interrupt:
        say(f"interrupted by {interrupt}; nothing was written")
        raise
    rows = {name: "none" if lr is None else f"{lr:.6g}" for name, lr in finding.picks.items()}
    rows["taken"] = f"{finding.lr:.6g} ({finding.pick})" if finding.lr is not None else f"none: {finding.reason}"
    rows["time"] = duration(finding.seconds)
    folder = RunFolder.create(OUTPUT, recipe.name, {}, suffix="-lr")
    folder.write_finding(finding, section)
    evidence = gather(experiment, folder.path, finding=finding, recorder=Recorder([], console.line))
    LRFinderCurve().render(evidence)
    rows["curve"] = str(folder.path / "figures" / "lr_finder.png")
    console.table(rows)
    return 0 if finding.lr is not None else DivergedError.exit_code


def _finder(loaded: Loaded, recipe: Recipe) -> LRFinder:
    """Return how to sweep: as the recipe says, and as a run has swept, whose resolved recipe holds the rate instead."""
    written = recipe.lr_finder or LRFinder()
    kept = RunFolder(Path(loaded.path).parent).finder_settings() if Path(loaded.path).name == RESOLVED else {}
    known = {each.name for each in fields(LRFinder) if f"lr_finder.{each.name}" not in recipe.origins}
    return replace(written, **{name: value for name, value in kept.items() if name in known})


def preview(loaded: Loaded) -> int:
    """Draw a sheet of training images and what augmentation makes of them."""
    recipe, console = _recipe(loaded), Console()
    assert loaded.catalogue is not None
    RunFolder.require_place(OUTPUT, recipe.name)
    experiment = Experiment.of_images(recipe, loaded.catalogue, log=console.line)
    folder = RunFolder.create(OUTPUT, recipe.name, {}, suffix="-preview")
    evidence = gather(experiment, folder.path, recorder=Recorder([], console.line))
    AugmentationSheet().render(evidence)
    for line in experiment.transform_lines():
        console.line(line)
    console.line(f"sheet {folder.path / 'figures' / 'augmentation.png'}")
    return 0


def evaluate(run: Path, overrides: Sequence[str]) -> int:
    """Measure a run's best weights on all images given that it has not learnt from, split by split.

    Says beside it whether the numbers are those that the run recorded.
    """
    console, folder = Console(), RunFolder.open(run)
    trained = Trained.read(folder.path, overrides)
    experiment, measured = Experiment.of_trained(trained, log=console.line)
    parts = measured.parts
    tta, summary, how = trained.recipe.train.tta, folder.read_summary(), sureness(trained, folder)
    rows, recorded = {"weights": str(trained.file)}, []
    for part in parts:
        batches = len(experiment.batches(part)) * (1 if tta == "none" else 2)
        with console.bar():
            counted = console.counting(f"measuring {part.name}", batches)
            outcome = evaluate_weights(experiment, part, tta=tta, between=counted)
        told = {**outcome.values, **_when_sure(outcome.predictions, how)}
        values = ", ".join(f"{key} {number_text(value)}" for key, value in told.items())
        rows[part.name] = f"{values} ({len(part):,} images)"
        recorded.append(f"{part.name}: {held_against_recorded(trained, part, outcome.values, summary)}")
    console.table({**rows, "recorded": "; ".join(recorded)})
    return 0


def _when_sure(predictions: Predictions | None, how: Sureness) -> dict[str, float]:
    """Return what the recipe's `answers` changes of the numbers: the loss by the temperature, and what is answered."""
    if predictions is None:
        return {}
    answers, found = scores.read(scores.tempered(predictions, how.temperature)), {}
    if how.temperature != 1:
        found["calibrated/cross_entropy"] = float(np.mean(answers.loss))
    if how.abstain_below is not None:
        kept = scores.coverage(answers, how.abstain_below)
        found |= {"answered": kept.share, "answered/accuracy": kept.accuracy}
    return found


def explain(run: Path, pictures: Sequence[Path]) -> int:
    """Write a page of GradCAM for pictures, or the run's whole report again."""
    console = Console()
    RunFolder.open(run).refuse_links()
    if not pictures:
        return _explain_run(run, console)
    for picture in pictures:
        require_picture(picture)
    loaded = load(run)
    evidence = _evidence_of_pictures(loaded, pictures, console)
    return _explained(evidence, [GradCAM(select="confident", count=len(pictures))], console)


def report(run: Path, overrides: Sequence[str], *, pdf: bool, short: bool) -> int:
    """Write a run's page again, and print it where that is wanted.

    Raises:
        ReportError: the page lacks a part, or cannot be printed.
    """
    console = Console()
    result = report_again(run, overrides, console)
    console.line(f"report {result.html} ({duration(result.seconds)})")
    if pdf:
        console.line(f"report {print_pdf(result.html, short=short)}")
    if result.failed:
        raise ReportError(f"{result.html} is not complete: {'; '.join(result.failed)}")
    return 0


def _explain_run(run: Path, console: Console) -> int:
    folder = RunFolder.open(run)
    experiment, measured = Experiment.of_trained(Trained.read(folder.path), log=console.line)
    part = measured.parts[-1]
    outcome = evaluate_weights(experiment, part)
    target = folder.page("mistakes")
    recorder = Recorder([], console.line)
    evidence = gather(experiment, target.path, recorder=recorder, part=part, predictions=outcome.predictions)
    evidence = replace(evidence, data=None)  # a look at pictures: what the training was stands on the run's own page
    parts = [part for part in experiment.report if isinstance(part, GradCAM)] or [GradCAM()]
    return _explained(evidence, parts, console)


def _explained(evidence: Evidence, parts: Sequence[ReportPart], console: Console) -> int:
    """Write a page of maps and say where it lies.

    Raises:
        ReportError: a part of what was asked for is not on it.
    """
    console.line("writing the report ...")
    result = write_report(evidence, parts, log=lambda _: None)
    console.line(f"report {result.html}")
    if result.failed:
        raise ReportError(f"{result.html} is not complete: {'; '.join(result.failed)}")
    return 0


def _recipe(loaded: Loaded) -> Recipe:
    if loaded.recipe is None:
        raise RecipeError(f"this recipe cannot be run\n{render(loaded.problems)}")
    return replace(loaded.recipe, callbacks=())


class _Pictures:
    """Pictures of a user's own, as report parts ask for images."""

    def __init__(self, run: LoadedRun, pictures: Sequence[Path]) -> None:
        self._run, self._pictures = run, pictures

    def raw(self, positions: Sequence[int]) -> list[np.ndarray]:
        return self._run.images([self._pictures[i] for i in positions])

    def shown(self, positions: Sequence[int]) -> list[np.ndarray]:
        return [as_rgb(image) for image in self._run.shown([self._pictures[i] for i in positions])]

    def prepared(self, positions: Sequence[int]) -> Tensor:
        return self._run.preprocess([self._pictures[i] for i in positions])

    def files(self, positions: Sequence[int]) -> list[str]:
        return [one_line(str(self._pictures[i])) for i in positions]

    def masks(self, positions: Sequence[int]) -> None:  # noqa: ARG002  (own pictures have none)
        return None


def _evidence_of_pictures(run: LoadedRun, pictures: Sequence[Path], console: Console) -> Evidence:
    logits = run.logits(pictures) / run.sureness.temperature  # as sure as `predict` says
    unknown = np.full(len(pictures), -1, np.int64)
    predictions = Predictions(np.arange(len(pictures)), unknown, logits.numpy(), float("nan"), {})
    folder = run.folder.page("pictures")
    names = "\n".join(f"{index}: {one_line(str(picture))}" for index, picture in enumerate(pictures))
    return Evidence(
        folder=folder.path,
        name=f"{run.recipe.name}: own pictures",
        description=f"What the network answers to pictures whose truth is not known, and where it looked. {names}",
        recipe=run.recipe.text,
        resolved={},
        class_names=tuple(one_line(name) for name in run.class_names),
        split="pictures",
        selected_on="",
        history=(),
        best=None,
        summary={},
        environment={},
        finding=None,
        model=run.model,
        predictions=predictions,
        images=_Pictures(run, pictures),
        train_samples=(),
        augmented=lambda _: (),
        warnings=(),
        recorder=Recorder([], console.line),
        parameters=sum(p.numel() for p in run.model.parameters()),
    )
