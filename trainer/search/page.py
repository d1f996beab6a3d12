"""The page of a sweep, runs/<sweep>/report.html: what was found, how sure that is, and every trial.

Reads trials and run folders; renders through trainer/report.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from registry.contracts import Block, Code, Figure, Paragraph, Section, Table
from registry.printing import duration, literal, metric_text, one_line
from registry.program import typed_as
from registry.reports.chart import Axis, Line, LineChart
from registry.reports.chart_svg import line_chart_svg, sparkline_svg
from registry.reports.parallel_svg import Strand, Upright, parallel_svg
from trainer.comparison.statistics import optimism
from trainer.report.answer import Answer, Tile
from trainer.report.html import html
from trainer.search.place import run_name
from trainer.search.study import Trial, url_of, without_password
from trainer.search.sweep import CHOOSE_IMAGES, Choice, Goal, Sweep
from trainer.search.trial import Bench
from trainer.search.verdict import Verdict, best_first, front

FEW = 5  # trials that stand out in the picture of all


@dataclass(frozen=True)
class Found:
    """What came of a sweep.

    Attributes:
        trials: all of them.
        verdict: over fresh seeds; None where they were not run, or none of those runs came to an end.
        chosen: the trial of best.yaml.
        tested: its numbers on the test split, by key; None where it was left alone.
        recipe: text of best.yaml.
        importances: share by dotted path.
        confirms: whether some were run again by fresh seeds.
    """

    trials: Sequence[Trial]
    verdict: Verdict | None
    chosen: Trial | None
    tested: Mapping[str, Any] | None
    recipe: str
    importances: Mapping[str, float]
    confirms: bool = False


def page(bench: Bench, found: Found) -> str:
    """Return the page."""
    sweep = bench.sweep
    sections = [
        _winner(bench, found),
        *_confirmation(sweep, found),
        _history(sweep, found),
        *_values(sweep, found),
        _trials(bench, found),
        _time(bench, found),
        Section("Sweep", (Code(sweep.text, "yaml"), _storage(bench)), "sweep"),
    ]
    answer = Answer(sweep.description, _tiles(bench, found), _verdict(bench, found), _warnings(bench, found))
    return html(sweep.sweep, answer, sections, bench.folder.path, kind="Sweep")


# -------------------------------------------------------------------------------------------------------------- answer
def _tiles(bench: Bench, found: Found) -> tuple[Tile, ...]:
    tiles = []
    if found.chosen is not None:
        name = "Winner" if found.verdict is not None and found.verdict.winner is not None else "Leading trial"
        for goal, value in zip(bench.sweep.goals, found.chosen.values, strict=True):
            shown, note = metric_text(goal.metric, value), f"trial {found.chosen.number}"
            if found.verdict is not None:
                note += f", the mean of {len(found.verdict.leader.by_seed)} fresh seeds; the search itself saw {shown}"
                shown = metric_text(goal.metric, found.verdict.leader.mean)
            tiles.append(Tile(f"{name}, {goal.metric}", shown, note))
    if found.tested is not None and "accuracy" in found.tested:
        tested = metric_text("accuracy", found.tested["accuracy"])
        chose = bench.sweep.selects_on_test
        note = "no estimate: this split chose among the trials" if chose else "held out: measured once, by this trial"
        tiles.append(Tile("test accuracy", tested, note))
    tiles.append(Tile("Trials", f"{len(found.trials)}", _counted(found.trials)))
    tiles.append(Tile("Training time", duration(_seconds(bench, found)), "over all workers, confirmation included"))
    return tuple(tiles)


def _counted(trials: Sequence[Trial]) -> str:
    states = [trial.state for trial in trials]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def _verdict(bench: Bench, found: Found) -> str:
    goal = bench.sweep.goals[0]
    if found.chosen is None:
        return "No trial has come to its end, so there is nothing to choose from."
    if found.verdict is not None:
        said = found.verdict.text(goal)
        if found.verdict.winner is None:
            untouched = "" if bench.sweep.selects_on_test else ", and the test split is untouched"
            said += (
                f" No winner is named{untouched}. best.yaml holds the one with the best mean; "
                "any of them would do as well."
            )
        return said
    if len(bench.sweep.goals) > 1:
        count = len(front(found.trials, bench.sweep.goals))
        return f"{count} trials are on the Pareto front: of no other trial is every objective at least as good."
    best = f"Trial {found.chosen.number} has the best {goal.metric} of all looks"
    if found.confirms:
        return f"{best}. It was run again by fresh seeds, but no such run came to an end: it wins nothing."
    return f"{best}; it was not run again by fresh seeds."


def _warnings(bench: Bench, found: Found) -> tuple[str, ...]:
    sweep, said = bench.sweep, []
    complete = sum(trial.state == "complete" for trial in found.trials)
    if sweep.selects_on_test:
        said.append(
            "The test split chose among the trials (selects_on_test: true): "
            f"its number is the best of {complete} looks and no estimate for new images."
        )
    if drawn := [choice.path for choice in sweep.choices if choice.path.startswith(CHOOSE_IMAGES)]:
        said.append(f"{', '.join(drawn)}: the trials are measured on other pictures, so the best may have the easiest.")
    if found.verdict is None and len(sweep.goals) == 1 and complete > 1:
        said.append(
            f"The best number of {complete} looks at one split is too good by luck{_optimism(bench, found)}: it is no "
            "estimate of what this recipe reaches. `confirm` runs the best few again by fresh seeds."
        )
    failed = [trial for trial in found.trials if trial.state == "failed"]
    if failed:
        said.append(f"{len(failed)} of {len(found.trials)} trials failed; the table says why.")
    return tuple(said)


def _optimism(bench: Bench, found: Found) -> str:
    """Say by how much the best of the looks is expected to be too high; "" where it is no share of images."""
    first = bench.folder.run("trial", found.trials[0].number, bench.seeds[0])
    images = first.read_summary().get("images", {}) if first.path.is_dir() else {}
    metric = bench.sweep.goals[0].metric
    count = images.get(metric.partition("/")[0])
    if not count or metric.partition("/")[2] != "accuracy":
        return ""
    shares = [trial.values[0] for trial in found.trials if trial.state == "complete"]
    return f", by up to {100 * optimism(shares, count):.2f} points as is to be expected"


# ------------------------------------------------------------------------------------------------------------ sections
def _quoted(bench: Bench, name: str) -> str:
    return shlex.quote(str(bench.folder.path / name))


def _winner(bench: Bench, found: Found) -> Section:
    if found.chosen is None:
        return Section("Best recipe", (Paragraph("No trial was completed.", "note"),), "best")
    named = found.verdict is not None and found.verdict.winner is not None
    rows = tuple(
        (literal(choice.path), literal(one_line(text)))
        for choice, text in zip(bench.sweep.choices, found.chosen.texts, strict=True)
    )
    run = run_name("trial", found.chosen.number, bench.seeds[0])
    blocks: list[Block] = [
        Table(f"What trial {found.chosen.number} drew", ("setting", "value"), rows),
        Paragraph("The recipe, which also lies beside this page as `best.yaml`:"),
        Code(found.recipe, "yaml"),
        Paragraph("To train it, or to use what the trial has learnt:"),
        Code(f"{typed_as()} {_quoted(bench, 'best.yaml')}\n{typed_as()} explain {_quoted(bench, run)}", "sh"),
    ]
    return Section("Winner" if named else "Best recipe", tuple(blocks), "best")


def _confirmation(sweep: Sweep, found: Found) -> list[Section]:
    if found.verdict is None:
        return _pareto(sweep, found)
    goal, verdict = sweep.goals[0], found.verdict
    leads = {lead.over: lead for lead in verdict.leads}
    rows = []
    for candidate in verdict.candidates:
        lead = leads.get(candidate.number)
        told = lead is not None and math.isfinite(lead.low)
        behind = f"{_number(goal, lead.low)} to {_number(goal, lead.high)}" if lead is not None and told else "-"
        values = ", ".join(f"{seed}: {metric_text(goal.metric, value)}" for seed, value in candidate.by_seed.items())
        spread = "" if candidate.deviation is None else f" \u00b1 {_number(goal, candidate.deviation)}"
        mean = f"{metric_text(goal.metric, candidate.mean)}{spread}"
        rows.append((f"trial {candidate.number}", mean, behind, values))
    headers = ("trial", goal.metric, "behind the first by", "by seed")
    caption = "The best few again by fresh seeds: mean, standard deviation, and the paired interval of the lead"
    unit = "points" if "accuracy" in goal.metric else goal.metric
    words = (
        f"Intervals hold together with 95 %, are of the same seeds on both sides, and are in {unit}; one that reaches "
        "zero or below leaves room for no difference, or the other way round."
    )
    table = Table(caption, headers, tuple(rows), "lrrl")
    return [Section("Fresh seeds", (table, Paragraph(words, "note")), "confirmation")]


def _pareto(sweep: Sweep, found: Found) -> list[Section]:
    if len(sweep.goals) < 2:
        return []
    rows = tuple(
        (f"trial {trial.number}", *(metric_text(goal.metric, value) for goal, value in _reached(sweep, trial)))
        for trial in front(found.trials, sweep.goals)
    )
    headers = ("trial", *(goal.metric for goal in sweep.goals))
    table = Table("Trials that no other beats in everything", headers, rows, "l" + "r" * len(sweep.goals))
    return [Section("Pareto front", (table,), "pareto")]


def _reached(sweep: Sweep, trial: Trial) -> list[tuple[Goal, float]]:
    return list(zip(sweep.goals, trial.values, strict=True))


def _number(goal: Goal, value: float) -> str:
    if not math.isfinite(value):
        return "?"
    return f"{100 * value:.2f}" if "accuracy" in goal.metric else f"{value:.4g}"


def _history(sweep: Sweep, found: Found) -> Section:
    done = [trial for trial in found.trials if trial.state == "complete"]
    if not done:
        return Section("History", (Paragraph("No trial was completed.", "note"),), "history")
    goal = sweep.goals[0]
    best, so_far = [], -math.inf
    for trial in done:
        so_far = max(so_far, goal.sign * trial.values[0])
        best.append(goal.sign * so_far)
    lines = (
        _dots("trial", [trial.number for trial in done], [trial.values[0] for trial in done]),
        Line("best so far", [trial.number for trial in done], best, "accent"),
    )
    percent = "accuracy" in goal.metric
    chart = LineChart(f"{goal.metric} by trial", Axis("trial", whole=True), Axis(goal.metric, percent=percent), lines)
    alt = f"best so far {metric_text(goal.metric, best[-1])} after {len(done)} trials"
    return Section("History", (Figure("", alt, "Each trial, and the best so far", line_chart_svg(chart)),), "history")


def _dots(label: str, xs: Sequence[float], ys: Sequence[float]) -> Line:
    """Return points that no line joins: one that is not finite before each of them leaves a gap."""
    apart = [(x, y) for pair in zip(xs, ys, strict=True) for x, y in ((pair[0], math.nan), pair)]
    return Line(label, [x for x, _ in apart], [y for _, y in apart], "val")


def _values(sweep: Sweep, found: Found) -> list[Section]:
    """Return how the objective depends on what was drawn: shares, all trials in one picture, a slice per setting."""
    ranked = best_first(found.trials, sweep.goals)
    if len(ranked) < 2:
        return []
    blocks: list[Block] = []
    if found.importances:
        rows = tuple((literal(path), f"{100 * share:.1f} %") for path, share in found.importances.items())
        caption = "Share of each setting in whether a trial is among the better ones (PED-ANOVA)"
        blocks.append(Table(caption, ("setting", "share"), rows, "lr"))
    else:
        blocks.append(Paragraph("Too few trials, or all alike: no share of a setting can be told.", "note"))
    slices = [_slice(sweep, number, ranked) for number in range(len(sweep.choices))]
    settings = Section("What matters", (*blocks, *slices), "importances")
    picture = Figure(
        "", "a line per complete trial", "Every complete trial; the better, the stronger", _parallel(sweep, ranked)
    )
    return [settings, Section("Parallel coordinates", (picture,), "parallel")]


def _slice(sweep: Sweep, number: int, ranked: Sequence[Trial]) -> Block:
    """Return the objective over one setting: points over a range, a row per choice otherwise."""
    choice, goal = sweep.choices[number], sweep.goals[0]
    if choice.texts:
        rows = []
        for text in choice.texts:
            values = [trial.values[0] for trial in ranked if trial.texts[number] == text]
            best = max(values, key=lambda value: goal.sign * value, default=math.nan)
            mean = math.fsum(values) / len(values) if values else math.nan
            shown = (metric_text(goal.metric, each) if values else "-" for each in (mean, best))
            rows.append((literal(one_line(text)), f"{len(values)}", *shown))
        headers = (choice.path, "trials", f"mean {goal.metric}", f"best {goal.metric}")
        return Table(literal(f"{goal.metric} by {choice.path}"), headers, tuple(rows), "lrrr")
    points = sorted((_place(choice, trial.texts[number]), trial.values[0]) for trial in ranked)
    log = bool(choice.distribution.arguments.get("log"))
    percent = "accuracy" in goal.metric
    line = _dots("trial", [x for x, _ in points], [y for _, y in points])
    title = f"{goal.metric} by {choice.path}"
    chart = LineChart(title, Axis(choice.path, log=log), Axis(goal.metric, percent=percent), (line,))
    return Figure("", title, literal(title), line_chart_svg(chart))


def _place(choice: Choice, text: str) -> float:
    """Return where a drawn value lies on its axis: the number itself, or that of the choice."""
    if choice.texts:
        return float(choice.texts.index(text)) if text in choice.texts else math.nan
    value = yaml.safe_load(text)
    return float(value) if text else math.nan


def _parallel(sweep: Sweep, ranked: Sequence[Trial]) -> str:
    axes = [
        Upright(
            choice.path.rpartition(".")[2] if choice.path.count(".") else choice.path,
            tuple(map(one_line, choice.texts)),
            log=bool(choice.distribution.arguments.get("log")),
        )
        for choice in sweep.choices
    ]
    axes += [Upright(goal.metric, percent="accuracy" in goal.metric) for goal in sweep.goals]
    strands = []
    for rank, trial in enumerate(ranked):
        values = [_place(choice, text) for choice, text in zip(sweep.choices, trial.texts, strict=True)]
        reached = ", ".join(
            f"{goal.metric} {metric_text(goal.metric, value)}" for goal, value in _reached(sweep, trial)
        )
        weight = 1 - rank / max(len(ranked) - 1, 1)
        role = "accent" if rank < min(FEW, len(ranked) // 2 + 1) else "val"
        strands.append(Strand(f"trial {trial.number}: {reached}", [*values, *trial.values], weight, role))  # type: ignore[arg-type]
    return parallel_svg("parallel coordinates of the complete trials", axes, strands)


def _trials(bench: Bench, found: Found) -> Section:
    sweep = bench.sweep
    several = len(bench.seeds) > 1
    headers = (
        "trial",
        "state",
        *(goal.metric for goal in sweep.goals),
        *(("deviation",) if several else ()),
        "epochs",
        "seconds",
        *(choice.path for choice in sweep.choices),
        *(("why",) if any(trial.error for trial in found.trials) else ()),
    )
    rows, links, sketches = [], [], []
    for trial in found.trials:
        name = run_name("trial", trial.number, bench.seeds[0])
        run = bench.folder.run("trial", trial.number, bench.seeds[0])
        history = run.read_history() if run.path.is_dir() else []
        values = trial.values or (math.nan,) * len(sweep.goals)
        shown = (
            metric_text(goal.metric, value) if math.isfinite(value) else "-"
            for goal, value in zip(sweep.goals, (*values, *(math.nan,) * len(sweep.goals)), strict=False)
        )
        row = [f"{trial.number}", trial.state, *shown]
        row += [_deviation(sweep.goals[0], trial)] if several else []
        row += [f"{len(history)}", f"{trial.seconds:.1f}", *map(literal, sweep.shown(trial.texts))]
        row += [literal(one_line(trial.error))] if "why" in headers else []
        rows.append(tuple(row))
        links.append(_link(run.path, name))
        metric = sweep.goals[0].metric
        sketches.append(
            sparkline_svg([row[metric] for row in history if row.get(metric) is not None], f"{metric} by epoch")
        )
    align = "ll" + "r" * (len(sweep.goals) + several + 2) + "l" * (len(sweep.choices) + ("why" in headers))
    caption = "Every trial; a pruned one with the number it was judged by"
    table = Table(caption, headers, tuple(rows), align, sortable=True, links=tuple(links), sketches=tuple(sketches))
    return Section("Trials", (table,), "trials")


def _link(path: Path, name: str) -> str:
    return "" if not path.is_dir() else f"{name}/report.html" if (path / "report.html").exists() else f"{name}/"


def _deviation(goal: Goal, trial: Trial) -> str:
    values = [each[0] for each in trial.by_seed.values()]
    if len(values) < 2:
        return "-"
    mean = math.fsum(values) / len(values)
    return _number(goal, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)))


def _time(bench: Bench, found: Found) -> Section:
    """Return what the trials took, and what pruning has left undone."""
    planned = sum(_planned(bench, trial) for trial in found.trials)
    done = sum(_epochs(bench, trial) for trial in found.trials)
    sent_away = sum(trial.state == "pruned" for trial in found.trials)
    rows = [
        ("trials' training time", duration(sum(trial.seconds for trial in found.trials))),
        ("with confirmation", duration(_seconds(bench, found))),
        ("epochs trained", f"{done} of {planned} that all trials would have in full"),
        ("pruned", f"{sent_away} of {len(found.trials)} trials"),
    ]
    return Section("Time", (Table("Time spent", ("", ""), tuple(rows)),), "time")


def _planned(bench: Bench, trial: Trial) -> int:
    """Return the epochs that a trial would have in full, which its recipe may have drawn."""
    epochs = bench.recipe.train.epochs
    for choice, value in zip(bench.sweep.choices, trial.texts, strict=False):
        if choice.path == "train.epochs":
            epochs = int(float(value))
    return epochs * len(bench.seeds)


def _epochs(bench: Bench, trial: Trial) -> int:
    runs = (bench.folder.run("trial", trial.number, seed) for seed in bench.seeds)
    return sum(len(run.read_history()) for run in runs if run.path.is_dir())


def _seconds(bench: Bench, found: Found) -> float:
    again = found.verdict.candidates if found.verdict is not None else ()
    summaries = (
        bench.folder.run("confirm", candidate.number, seed).read_summary()
        for candidate in again
        for seed in candidate.by_seed
    )
    return sum(trial.seconds for trial in found.trials) + sum(float(each.get("seconds") or 0) for each in summaries)


def _storage(bench: Bench) -> Block:
    url = without_password(url_of(bench.sweep, bench.folder.root))
    return Paragraph(literal(f"Optuna's own tools open the trials, too: optuna-dashboard {url}"))
