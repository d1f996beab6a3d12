"""`compare`: runs side by side, as a table on the terminal and a page with their curves laid over each other."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from registry.contracts import Figure, Paragraph, Section, Table
from registry.errors import CheckpointError, RecipeError
from registry.printing import ERRORS, duration, literal, one_line
from registry.reports.chart import Axis, Line, LineChart, Role
from registry.reports.chart_png import line_chart_png
from registry.reports.chart_svg import line_chart_svg
from trainer.cli.console import Console
from trainer.engine import checkpoint
from trainer.recipe.load import load_recipe
from trainer.recipe.reading.references import LR_FOUND
from trainer.recipe.resolve import flat
from trainer.report.answer import Answer, Tile
from trainer.report.html import html
from trainer.run.folder import RunFolder
from trainer.run.verdicts import numbers, over_seeds

ROLES: tuple[Role, ...] = ("train", "val", "accent", "quiet")
OUTPUT = Path("runs")
CURVES = {"val/accuracy": True, "val/loss": False, "train/loss": False, "lr": False}  # key -> shown in per cent
MARKS = 3  # settings that tell a group of runs from others of its recipe
ITSELF = ("seed", "name", "description", "seeds")  # differ between runs of one experiment
IMAGES = "images"  # stands beside the settings: what a run has learnt from and was measured on
CLASSES = 5  # named of a run
UNTOLD = "has no whole checkpoint: which images it saw cannot be told, so it counts in no mean over seeds"


@dataclass(frozen=True)
class Images:
    """What a checkpoint tells of a run's data.

    Attributes:
        classes: names, one per class index.
        counts: training images per class; empty where it does not tell.
        prints: digests by part (trainer/data/fingerprint.py); left out are those of parts that the seed chose
            (`data.limit`).
    """

    classes: tuple[str, ...]
    counts: tuple[int, ...]
    prints: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Run:
    """What is compared of a run.

    Attributes:
        name: <recipe>/<time>, or the whole path where another run has that name, too.
        settings: the recipe's values by dotted path; a learning rate that was found is `$lr_finder.lr`.
        history: a row per epoch.
        summary: of summary.json.
        images: None where no checkpoint tells.
    """

    name: str
    settings: Mapping[str, Any]
    history: Sequence[Mapping[str, float]]
    summary: Mapping[str, Any]
    images: Images | None


def compare(folders: Sequence[Path]) -> int:
    """Print a table, write runs/compare/<time>/report.html, and return the exit code."""
    runs = _with_images(_told_apart([_read(folder) for folder in folders], folders))
    remarks = {**_repeats(runs), **{run.name: UNTOLD for run in runs if run.images is None and _counts(run)}}
    console = Console()
    for run in runs:
        console.line(f"{run.name}: {run.summary.get('status', 'unknown')}")
    for name, words in remarks.items():
        console.line(f"{name} {words}")
    for key, values in _differences(runs).items():
        console.line(f"  {key}: {' | '.join(values)}")
    found = [numbers(run.summary) for run in runs]
    keys = dict.fromkeys(key for one in found for key in one)
    rows = {key: " | ".join(f"{one[key]:.4f}" if key in one else "-" for one in found) for key in keys}
    console.table(rows)
    groups = _same_experiment(runs)
    for group in groups:
        console.line(f"{group.name}, one experiment over {len(group.runs)} seeds: {group.members}")
        console.table(over_seeds([run.summary for run in group.runs]))
    folder = RunFolder.create(OUTPUT, "compare", {})
    sections = [_results(runs), *_spread(groups), _settings(runs), _curves(runs, folder.path)]
    warnings = tuple(f"{name} {words}." for name, words in remarks.items())
    answer = Answer("", _tiles(runs), f"{len(runs)} runs side by side.", warnings)
    folder.write_text("report.html", html("Comparison", answer, sections, folder.path))
    console.line(f"report {folder.report}")
    return 0


def _read(path: Path) -> Run:
    folder = RunFolder.open(path)
    loaded = load_recipe(folder.resolved)
    if loaded.recipe is None:
        raise RecipeError(f"{path}: its recipe cannot be read: {loaded.problems[0].text}")
    whole = path.resolve()  # one word names a run from its own folder
    name = f"{whole.parent.name}/{whole.name}"
    settings = flat(loaded.recipe)
    finding, asked = folder.read_finding(), folder.finder_settings()
    if finding is not None and finding.lr is not None and loaded.recipe.lr_finder is None:
        found = [key for key, value in settings.items() if isinstance(value, float) and value == finding.lr]
        settings |= dict.fromkeys(found, f"${LR_FOUND}")
    settings |= {f"lr_finder.{key}": value for key, value in asked.items()}
    summary = folder.read_json("summary.json")
    drawn = settings["data.limit"] is not None or bool(summary.get("fast"))
    images = _images(folder, ("train", "val") if drawn else ())
    return Run(one_line(name), settings, folder.read_history(), summary, images)


def _images(folder: RunFolder, drawn: Sequence[str]) -> Images | None:
    """Return what the run's first whole checkpoint tells of its data, `drawn` being the parts that the seed chose."""
    for path in (folder.checkpoints / "best.pt", folder.checkpoints / "last.pt"):
        try:
            state = checkpoint.read(path)
        except CheckpointError:  # said of the run as a whole, where none is left
            continue
        prints = {part: each for part, each in state.get("data", {}).items() if part not in drawn}
        return Images(tuple(state["class_names"]), tuple(state.get("class_counts") or ()), prints)
    return None


def _with_images(runs: Sequence[Run]) -> list[Run]:
    """Return the runs with a setting that says what images each saw: the same words for the same images."""
    every = [each for run in runs if run.images is not None for each in run.images.prints.values()]
    kinds = ["used", *(["pixels"] if all("pixels" in each for each in every) else ["bytes"])]
    return [replace(run, settings={**run.settings, IMAGES: _in_words(run.images, kinds)}) for run in runs]


def _in_words(images: Images | None, kinds: Sequence[str]) -> str:
    """Return what tells data from others: how many of which classes, and a digest of all that is known.

    Args:
        images: None where nothing is.
        kinds: of digests that are compared, those that all runs have.
    """
    if images is None:
        return "cannot be told: no whole checkpoint"
    prints = {part: [each.get(kind) for kind in kinds] for part, each in sorted(images.prints.items())}
    digest = hashlib.blake2b(repr((images.classes, images.counts, prints)).encode(errors=ERRORS), digest_size=4)
    named = ", ".join(images.classes[:CLASSES]) + (", ..." if len(images.classes) > CLASSES else "")
    count = f"{sum(images.counts):,} to learn from, " if images.counts else ""
    return f"{count}classes {named} ({digest.hexdigest()})"


def _counts(run: Run) -> bool:
    """Whether a run has reached something that a mean could be taken over."""
    return bool(run.summary.get("best"))


def _told_apart(runs: Sequence[Run], folders: Sequence[Path]) -> list[Run]:
    """Return the runs, those that share a name under their whole paths."""
    names = [run.name for run in runs]
    return [
        replace(run, name=one_line(str(folder))) if names.count(run.name) > 1 else run
        for run, folder in zip(runs, folders, strict=True)
    ]


def _repeats(runs: Sequence[Run]) -> dict[str, str]:
    """Return what is to be said of runs that repeat an earlier one, by name: a copy, or the same seed again."""
    found: dict[str, str] = {}
    for number, run in enumerate(runs):
        for earlier in runs[:number]:
            if (run.settings, run.history, run.summary) == (earlier.settings, earlier.history, earlier.summary):
                found[run.name] = f"is identical to {earlier.name}: a copy, which counts once"
                break
            if _experiment(run) == _experiment(earlier) and run.settings["seed"] == earlier.settings["seed"]:
                found[run.name] = f"has the seed of {earlier.name}: no second seed"
    return found


def _differences(runs: Sequence[Run]) -> dict[str, list[str]]:
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    shown = {key: [one_line(str(run.settings.get(key, "(not set)"))) for run in runs] for key in keys}
    return {key: values for key, values in shown.items() if len(set(values)) > 1}


@dataclass(frozen=True)
class Group:
    """Finished runs that differ in their seed alone.

    Attributes:
        name: the recipe's, and what sets the group apart from others of that name.
        runs: one per seed.
    """

    name: str
    runs: Sequence[Run]

    @property
    def members(self) -> str:
        """The runs' names with their seeds."""
        return ", ".join(f"{run.name} (seed {run.settings['seed']})" for run in self.runs)


def _experiment(run: Run) -> str:
    """Return what runs over seeds have in common, to compare."""
    return repr(sorted((key, value) for key, value in run.settings.items() if key not in ITSELF))


def _same_experiment(runs: Sequence[Run]) -> list[Group]:
    """Return groups of at least two seeds on the same images, each seed once."""
    found: dict[str, dict[int, Run]] = {}
    for run in runs:
        if _counts(run) and run.images is not None:
            found.setdefault(_experiment(run), {}).setdefault(run.settings["seed"], run)
    groups = [list(by_seed.values()) for by_seed in found.values() if len(by_seed) > 1]
    firsts = [group[0] for group in groups]
    apart = {key: values for key, values in _differences(firsts).items() if key not in ITSELF}
    return [
        Group(", ".join([str(group[0].settings["name"]), *_marks(apart, number)]), group)
        for number, group in enumerate(groups)
    ]


def _marks(apart: Mapping[str, Sequence[str]], number: int) -> list[str]:
    """Return the settings of one group that others have otherwise, a few of them."""
    marks = [f"{key} {values[number]}" for key, values in apart.items()]
    return [*marks[:MARKS], *([f"... ({len(marks) - MARKS} more)"] if len(marks) > MARKS else [])]


def _results(runs: Sequence[Run]) -> Section:
    found = [numbers(run.summary) for run in runs]
    keys = list(dict.fromkeys(key for one in found for key in one))
    rows = [(key, *(f"{one[key]:.4f}" if key in one else "-" for one in found)) for key in keys]
    rows.append(("time", *(duration(run.summary["seconds"]) if "seconds" in run.summary else "-" for run in runs)))
    if any("lr_finder" in run.summary for run in runs):
        rows.append(("learning rate found", *(_found_lr(run) for run in runs)))
    headers = ("number", *(run.name for run in runs))
    return Section("Results", (Table("Final numbers", headers, tuple(rows), "l" + "r" * len(runs)),), "results")


def _found_lr(run: Run) -> str:
    lr = run.summary.get("lr_finder", {}).get("lr")
    return "-" if lr is None else f"{lr:.4g}"


def _spread(groups: Sequence[Group]) -> list[Section]:
    sections = []
    for number, group in enumerate(groups, start=1):
        rows = tuple((key, text) for key, text in over_seeds([run.summary for run in group.runs]).items())
        table = Table(literal(f"{group.name}: mean and standard deviation"), ("number", "over the seeds"), rows, "lr")
        sections.append(Section("Over seeds", (Paragraph(literal(group.members)), table), f"seeds-{number}"))
    return sections


def _settings(runs: Sequence[Run]) -> Section:
    different = _differences(runs)
    if not different:
        return Section("Recipe differences", (Paragraph("The recipes say the same."),), "settings")
    rows = tuple((literal(key), *map(literal, values)) for key, values in different.items())
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
