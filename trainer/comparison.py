"""`compare`: runs side by side, as a table on the terminal and a page with their curves laid over each other."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.contracts import Figure, Paragraph, Section, Table
from registry.errors import RecipeError
from registry.reports.chart import Axis, Line, LineChart, Role
from registry.reports.chart_png import line_chart_png
from registry.reports.chart_svg import line_chart_svg
from trainer.console import Console, duration
from trainer.recipe.load import load_recipe
from trainer.recipe.resolve import flat
from trainer.report.answer import Answer, Tile
from trainer.report.html import html
from trainer.run_folder import RunFolder
from trainer.verdicts import numbers, over_seeds

ROLES: tuple[Role, ...] = ("train", "val", "accent", "quiet")
OUTPUT = Path("runs")
CURVES = {"val/accuracy": True, "val/loss": False, "train/loss": False, "lr": False}  # key -> shown in per cent
ITSELF = ("seed", "name", "description", "seeds")  # differ between runs of one experiment


@dataclass(frozen=True)
class Run:
    """What is compared of a run.

    Attributes:
        name: <recipe>/<time>.
        settings: the recipe's values by dotted path.
        history: a row per epoch.
        summary: of summary.json.
    """

    name: str
    settings: Mapping[str, Any]
    history: Sequence[Mapping[str, float]]
    summary: Mapping[str, Any]


def compare(folders: Sequence[Path]) -> int:
    """Print a table, write runs/compare/<time>/report.html, and return the exit code."""
    runs = [_read(folder) for folder in folders]
    console = Console()
    for run in runs:
        console.line(f"{run.name}: {run.summary.get('status', 'unknown')}")
    for key, values in _differences(runs).items():
        console.line(f"  {key}: {' | '.join(values)}")
    found = [numbers(run.summary) for run in runs]
    keys = dict.fromkeys(key for one in found for key in one)
    rows = {key: " | ".join(f"{one[key]:.4f}" if key in one else "-" for one in found) for key in keys}
    groups = _same_experiment(runs)
    for names, summaries in groups:
        rows.update({f"{len(summaries)} seeds: {key}": text for key, text in over_seeds(summaries).items()})
        console.line(f"one experiment over seeds: {', '.join(names)}")
    console.table(rows)
    folder = RunFolder.create(OUTPUT, "compare", {})
    sections = [_results(runs), *_spread(groups), _settings(runs), _curves(runs, folder.path)]
    answer = Answer("", _tiles(runs), f"{len(runs)} runs side by side.", ())
    folder.write_text("report.html", html("Comparison", answer, sections, folder.path))
    console.line(f"report {folder.report}")
    return 0


def _read(path: Path) -> Run:
    folder = RunFolder.open(path)
    loaded = load_recipe(folder.path / "resolved.yaml")
    if loaded.recipe is None:
        raise RecipeError(f"{path}: its recipe cannot be read: {loaded.problems[0].text}")
    name = f"{folder.path.parent.name}/{folder.path.name}"
    return Run(name, flat(loaded.recipe), folder.read_history(), folder.read_json("summary.json"))


def _differences(runs: Sequence[Run]) -> dict[str, list[str]]:
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    shown = {key: [str(run.settings.get(key, "(not set)")) for run in runs] for key in keys}
    return {key: values for key, values in shown.items() if len(set(values)) > 1}


def _same_experiment(runs: Sequence[Run]) -> list[tuple[list[str], list[Mapping[str, Any]]]]:
    """Return groups of finished runs that differ in their seed alone."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run.summary.get("best"):
            same = {key: value for key, value in run.settings.items() if key not in ITSELF}
            groups.setdefault(repr(sorted(same.items())), []).append(run)
    return [
        ([run.name for run in group], [run.summary for run in group]) for group in groups.values() if len(group) > 1
    ]


def _results(runs: Sequence[Run]) -> Section:
    found = [numbers(run.summary) for run in runs]
    keys = list(dict.fromkeys(key for one in found for key in one))
    rows = [(key, *(f"{one[key]:.4f}" if key in one else "-" for one in found)) for key in keys]
    rows.append(("time", *(duration(run.summary["seconds"]) if "seconds" in run.summary else "-" for run in runs)))
    headers = ("number", *(run.name for run in runs))
    return Section("Results", (Table("Final numbers", headers, tuple(rows), "l" + "r" * len(runs)),), "results")


def _spread(groups: Sequence[tuple[list[str], list[Mapping[str, Any]]]]) -> list[Section]:
    sections = []
    for number, (names, summaries) in enumerate(groups, start=1):
        rows = tuple((key, text) for key, text in over_seeds(summaries).items())
        table = Table("Mean and standard deviation", ("number", "over the seeds"), rows, "lr")
        sections.append(Section("Over seeds", (Paragraph(", ".join(names)), table), f"seeds-{number}"))
    return sections


def _settings(runs: Sequence[Run]) -> Section:
    different = _differences(runs)
    if not different:
        return Section("Recipe differences", (Paragraph("The recipes say the same."),), "settings")
    rows = tuple((key, *values) for key, values in different.items())
    return Section(
        "Recipe differences", (Table("Settings that differ", ("setting", *(r.name for r in runs)), rows),), "settings"
    )


def _curves(runs: Sequence[Run], folder: Path) -> Section:
    recipes = [run.name.partition("/")[0] for run in runs]
    labels = recipes if len(set(recipes)) == len(runs) else [run.name for run in runs]
    figures = []
    for key, percent in CURVES.items():
        lines = []
        for number, run in enumerate(runs):
            points = [(row["epoch"], row[key]) for row in run.history if row.get(key) is not None]
            if points:
                xs, ys = zip(*points, strict=True)
                role, dashed = ROLES[number % len(ROLES)], number >= len(ROLES)
                lines.append(Line(labels[number], xs, ys, role, dashed=dashed))
        if not lines:
            continue
        chart = LineChart(
            f"{key} by epoch", Axis("epoch", whole=True), Axis(key, percent=percent, log=key == "lr"), tuple(lines)
        )
        path = f"figures/{key.replace('/', '_')}.png"
        line_chart_png(chart, folder / path, below=folder)
        alt = "; ".join(f"{line.label} ends at {line.ys[-1]:.4g}" for line in lines)
        figures.append(Figure(path, alt, f"{key} by epoch", line_chart_svg(chart)))
    return Section("Curves", tuple(figures) or (Paragraph("No run has finished an epoch."),), "curves")


def _tiles(runs: Sequence[Run]) -> tuple[Tile, ...]:
    reached = [(run.summary["best"].get("val/accuracy"), run.name) for run in runs if run.summary.get("best")]
    known = [(value, name) for value, name in reached if value is not None]
    if not known:
        return ()
    value, name = max(known)
    middle = statistics.mean(value for value, _ in known)
    return (
        Tile("Best val accuracy", f"{100 * value:.2f} %", name),
        Tile("Mean of the runs", f"{100 * middle:.2f} %", f"over {len(known)} runs"),
    )
