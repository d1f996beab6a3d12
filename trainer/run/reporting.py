"""The report of a run that is there already, written again from its folder: nothing is trained, only the page is new.

The model comes from the checkpoint of the best epoch, its answers from the data, everything else from the run's small
files. A PDF is printed by Chromium, where there is one.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from registry import files
from registry.contracts import Predictions
from registry.errors import ReportError
from trainer.data.fingerprint import hold_against
from trainer.engine import checkpoint
from trainer.experiment.experiment import Experiment
from trainer.experiment.trained import Trained
from trainer.recipe.load import load_recipe
from trainer.report.page import ReportResult, write_report
from trainer.run.answering import is_of
from trainer.run.display import Display
from trainer.run.environment import of_training
from trainer.run.folder import RunFolder
from trainer.run.recorder import Recorder
from trainer.run.summary import sound
from trainer.stages.audit import audit_of_run
from trainer.stages.calibrate import calibrate
from trainer.stages.evaluate import evaluate_weights
from trainer.stages.report import gather

BROWSERS = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge", "msedge"),
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
_PATIENCE = 120  # seconds for a browser to print a page


def report_again(path: Path, overrides: Sequence[str], display: Display) -> ReportResult:
    """Write report.html, report.md and their pictures anew, and the report's numbers in summary.json.

    Args:
        path: of the run's folder.
        overrides: `key=value` of what a finished run is measured by, such as the place of its data.
        display: shows what happens.

    Raises:
        CheckpointError: there is no run, or it has no whole checkpoint yet.
        DataError: its data are missing, or are others than it was trained on.
        RecipeError: its recipe no longer fits this version, or an override would change nothing.
    """
    folder = RunFolder.open(path)
    with folder.locked():
        trained = Trained.read(folder.path, overrides)
        state, summary = checkpoint.read(trained.file), folder.read_json("summary.json")
        experiment = Experiment.from_recipe(trained.recipe, trained.catalogue, log=display.line, trained=trained)
        trained.load_into(experiment.model)
        hold_against(state, experiment.data, {}, display.line)
        finding = folder.read_finding()
        if finding is not None and finding.lr is not None:
            found = finding.lr
            experiment.facts.define("lr_finder.lr", lambda: found)
        validated = evaluate_weights(experiment, "val").predictions
        if not is_of(sound(summary).get("calibration", {}), trained):
            summary["calibration"] = _calibration(validated, experiment, trained)
        # A run that may go on, and a trial by which a recipe is chosen, leave the test split alone: so does their page.
        tested = summary.get("status") == "completed" and bool(summary.get("test"))
        held_out = experiment.data.test if tested else None
        history = [_numbers(row) for row in folder.read_history()]
        evidence = gather(
            experiment,
            folder.path,
            recorder=Recorder([], display.line),
            part=experiment.data.val if held_out is None else held_out,
            given=folder.read_given(),
            resolved=folder.resolved.read_text(encoding="utf-8"),
            history=history,
            best=_best_row(state),
            predictions=validated if held_out is None else evaluate_weights(experiment, "test").predictions,
            finding=finding,
            summary=sound(summary),
            environment=of_training(folder.read_json("environment.json"), len(history)),
            warnings=_warnings(folder, summary),
            audit=audit_of_run(experiment, validated),
        )
        result = write_report(evidence, experiment.report, log=display.line)
        summary.pop("report_error", None)
        folder.write_json("summary.json", {**summary, "report": dict(result.facts)})
    return result


def print_pdf(page: Path, *, short: bool = False) -> Path:
    """Print a page into a PDF beside it; return where it lies.

    Args:
        page: report.html.
        short: its short version alone.

    Raises:
        ReportError: there is no browser that could, or it did not.
    """
    by_hand = f"open {page}{' with ?short behind its address' if short else ''}, print it, and save it as PDF"
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise ReportError("no PDF is made: there is no Chromium, Chrome or Edge here", by_hand)
    with tempfile.TemporaryDirectory() as place:
        made = Path(place) / "page.pdf"
        options = ["--headless", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
        options += ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # root has no sandbox
        options += [f"--user-data-dir={place}/profile", "--no-pdf-header-footer", f"--print-to-pdf={made}"]
        address = page.resolve().as_uri() + ("?short" if short else "")
        try:
            ended = subprocess.run(
                [browser, *options, address], capture_output=True, text=True, timeout=_PATIENCE, check=False
            )
            said = ended.stderr.strip().splitlines()[-1:]
        except (OSError, subprocess.TimeoutExpired) as error:
            said = [str(error)]
        if not made.is_file():
            raise ReportError(
                f"no PDF is made: {browser} printed nothing ({' '.join(said) or 'and said nothing'})", by_hand
            )
        pdf = page.with_name(f"{page.stem}{'-short' if short else ''}.pdf")
        files.write(pdf, made.read_bytes(), below=page.parent, lasting=False)
    return pdf


def _calibration(answers: Predictions | None, experiment: Experiment, trained: Trained) -> dict[str, Any] | None:
    """Fit the temperature of weights that have none, on their answers to validation; None in the middle of an epoch."""
    if answers is None or trained.epoch is None:
        return None
    return calibrate(answers, experiment.data.selected_on).as_json(trained.which, trained.epoch)


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """Return a row with the numbers that JSON has no sign for: what is not finite is null there."""
    return {key: math.nan if value is None else value for key, value in row.items()}


def _best_row(state: Mapping[str, Any]) -> Mapping[str, float] | None:
    """Return the best epoch's row: beside the best weights, or where the latest state has it; None without one."""
    if "row" in state:
        row: Mapping[str, float] = state["row"]
        return row
    best: Mapping[str, float] | None = state["progress"]["best"]
    return best


def _warnings(folder: RunFolder, summary: Mapping[str, Any]) -> Sequence[str]:
    """Return what the run was warned of; of one that has not kept it, what its recipe is warned of now."""
    kept = summary.get("warnings")
    return kept if isinstance(kept, list) else [each.text for each in load_recipe(folder.resolved).warnings]
