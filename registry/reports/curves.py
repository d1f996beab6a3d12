"""Learning curves: parts that show a training in lines, loss, accuracy, learning rate, and the sweep that found it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from registry.catalogue.adoption import Change
from registry.contracts import Evidence, Figure, LRFinding, Paragraph, ReportPart, Section, Table
from registry.mixes import MIXED_NUMBERS
from registry.printing import metric_words, sentence_case
from registry.reports.chart import Axis, Line, LineChart, Mark, Role
from registry.reports.chart_png import line_chart_png
from registry.reports.chart_svg import line_chart_svgs

__all__ = ["Curves", "LRFinderCurve"]

_EPOCH = Axis("epoch", whole=True)
_PICK_NAMES = {
    "minimum": "minimum",
    "steepest": "steepest",
    "valley": "valley",
    "minimum_over_10": "minimum / 10",
}
_AS_TRAINED = (
    "Training values are means over the epoch's batches as trained, with augmentation and dropout; "
    "validation values are taken after the epoch on whole images. So validation may lie above training."
)
_NOT_PLAIN = {  # argument of the loss -> what it does to its value
    "label_smoothing": "its targets are smoothed, so that it cannot come near 0",
    "weight": "its images count by the weights of their classes",
}
_DECADE = 8  # greatest rate to smallest, from which an axis may have decades
_MOST_POINTS = 500  # of a line of steps
_MOST_NAMED = 5  # drops of the learning rate up to which each has a label
Rows = Sequence[Mapping[str, float]]


class Curves(ReportPart):
    """Loss, accuracy and learning rate over the epochs, train and validation in one figure, the best epoch marked."""

    change: ClassVar = Change(facts={"owns": ""})

    def render(self, evidence: Evidence) -> Section:
        """Write figures/loss.png, accuracy.png and lr.png and return them."""
        rows = evidence.history
        if not rows:
            return Section("Curves", (Paragraph("No epoch was finished, so there is no curve.", "note"),), "curves")
        best = None if evidence.best is None else evidence.best.get("epoch")
        charts = {
            "loss": _over_epochs("Loss by epoch", "loss", rows, "loss", best, evidence.rates),
            "accuracy": _over_epochs("Accuracy by epoch", "accuracy", rows, "accuracy", best, evidence.rates),
            "lr": _learning_rate(rows, evidence.rates),
        }
        figures = [_figure(evidence, name, chart, _summary(chart)) for name, chart in charts.items() if chart.lines]
        return Section("Curves", (*_notes(evidence.resolved), *figures), "curves", _facts(rows, evidence.rates))


def metric_curve(evidence: Evidence, key: str) -> Figure | None:
    """Write the curve of a metric over the epochs, of train and validation, as Curves does; None where none has it.

    Args:
        evidence: of the run.
        key: "val/accuracy", say; a metric of train has the same name there.
    """
    metric = key.partition("/")[2]
    best = None if evidence.best is None else evidence.best.get("epoch")
    spoken = metric_words(metric)
    chart = _over_epochs(f"{sentence_case(spoken)} by epoch", metric, evidence.history, spoken, best, evidence.rates)
    return _figure(evidence, metric.replace("/", "-"), chart, _summary(chart)) if chart.lines else None


def _notes(resolved: Mapping[str, Any]) -> list[Paragraph]:
    """Return what a reader must know to compare the lines, as the recipe has it."""
    notes = [Paragraph(_AS_TRAINED)]
    loss, mix = resolved.get("loss"), (resolved.get("train") or {}).get("mix")
    own = [words for name, words in _NOT_PLAIN.items() if isinstance(loss, Mapping) and loss.get(name)]
    if own:
        words = f"The loss is the recipe's: {' and '.join(own)}. `val/cross_entropy` beside it is plain."
        notes.append(Paragraph(words, "note"))
    if mix and not (isinstance(mix, Mapping) and mix.get("p") == 0):
        name = mix.get("type") if isinstance(mix, Mapping) else mix
        notes.append(Paragraph(f"{name} mixes training images: {MIXED_NUMBERS}.", "note"))
    return notes


class LRFinderCurve(ReportPart):
    """The learning-rate sweep: raw and smoothed loss, with every rule's pick on one plot."""

    change: ClassVar = Change(facts={"owns": ""})

    def render(self, evidence: Evidence) -> Section:
        """Write figures/lr_finder.png and return it with a table of the picks."""
        finding = evidence.finding
        if finding is None:
            words = "The recipe has no `lr_finder`: its learning rate was given by hand."
            return Section("Learning-rate finder", (Paragraph(words, "note"),), "lr_finder")
        chart = _sweep(finding, evidence.resolved)
        figure = _figure(evidence, "lr_finder", chart, _summary(chart))
        rows = tuple(
            (
                _PICK_NAMES.get(rule, rule),
                "none" if lr is None else f"{lr:.4g}",
                _choice(finding, rule, evidence.resolved),
            )
            for rule, lr in finding.picks.items()
        )
        table = Table("Learning rate by rule", ("rule", "learning rate", "choice"), rows, "lrl")
        facts = {} if finding.lr is None else {"lr": finding.lr}
        return Section("Learning-rate finder", (_verdict(finding), figure, table), "lr_finder", facts)


def _verdict(finding: LRFinding) -> Paragraph:
    rule = _PICK_NAMES.get(finding.pick, finding.pick)
    steps = f"{len(finding.lrs)} steps in {finding.seconds:.1f} s"
    stopped = {
        "end": "to the end of the range",
        "diverged": "until the loss diverged",
        "non-finite": "until the loss was no longer finite",
    }[finding.stopped]
    if finding.status == "inconclusive":
        return Paragraph(f"Inconclusive after {steps}, {stopped}: {finding.reason}", "warning")
    if finding.status == "assumed":
        return Paragraph(
            f"Assumed, not found: the middle of the range, **{finding.lr:.4g}**. {finding.reason}", "warning"
        )
    loss = "" if finding.loss is None else f" where the smoothed loss is {finding.loss:.4f}"
    return Paragraph(f"Learning rate **{finding.lr:.6g}** by the rule `{rule}`{loss}; {steps}, {stopped}.")


def _choice(finding: LRFinding, rule: str, resolved: Mapping[str, Any]) -> str:
    """Say of a rule whether it is the one that was asked for, and whether the run took its rate."""
    if rule != finding.pick:
        return ""
    return "taken" if finding.lr is not None and takes(resolved, finding.lr) else "asked for, not taken"


def takes(resolved: Mapping[str, Any], rate: float, *, sections: Sequence[str] = ("optimizer", "scheduler")) -> bool:
    """Whether a resolved recipe has a learning rate among the rates of its optimizer or its scheduler."""
    return any(value == rate for section in sections for value in _rates(resolved.get(section)))


def _rates(value: Any) -> Iterator[Any]:
    """Yield the learning rates in a component, those of its groups and of the schedulers in it among them."""
    for key, inner in value.items() if isinstance(value, Mapping) else ():
        if key in ("lr", "max_lr", "base_lr"):
            yield from inner if isinstance(inner, (list, tuple)) else (inner,)
        else:
            for each in inner if isinstance(inner, (list, tuple)) else (inner,):
                yield from _rates(each)


def _sweep(finding: LRFinding, resolved: Mapping[str, Any]) -> LineChart:
    lines = (
        Line("raw", finding.lrs, finding.losses, "quiet", faint=True),
        Line("smoothed", finding.lrs, finding.smoothed, "val"),
    )
    marks = []
    for rule, lr in finding.picks.items():
        if lr is not None and finding.lrs:
            nearest = min(range(len(finding.lrs)), key=lambda i: abs(math.log(finding.lrs[i] / lr)))
            taken = _choice(finding, rule, resolved) == "taken"
            name, said = _PICK_NAMES.get(rule, rule), " (taken)" if taken else ""
            role: Role = "train" if taken else "accent"
            marks.append(Mark(f"{name} {lr:.2g}{said}", lr, finding.smoothed[nearest], role, f"{name}{said}"))
    shown = [value for value in finding.smoothed if math.isfinite(value)]
    # A diverging sweep ends far above where it began; the interesting part is below.
    high = min(max(shown), 1.6 * shown[0]) if shown else None
    low = min(shown) - 0.12 * (high - min(shown)) if high is not None and high > min(shown) else None
    axis = Axis("loss", low=low, high=high if low is not None else None)
    log = len(finding.lrs) < 3 or finding.lrs[-1] / finding.lrs[0] > 20
    return LineChart("Loss by learning rate", Axis("learning rate", log=log), axis, lines, tuple(marks))


def _over_epochs(
    title: str, metric: str, rows: Rows, label: str, best: float | None, rates: Sequence[float] = ()
) -> LineChart:
    """Return the chart of train/`metric` and val/`metric`, with a dot at the best epoch."""
    lines = []
    for split, role in (("train", "train"), ("val", "val")):
        key = f"{split}/{metric}"
        points = [(row["epoch"], row[key]) for row in rows if key in row]
        if points:
            xs, ys = zip(*points, strict=True)
            lines.append(Line(split, xs, ys, role, dashed=split == "train"))  # type: ignore[arg-type]
    at_best = [row.get(f"val/{metric}") for row in rows if row["epoch"] == best]
    marks = [Mark(f"best: epoch {best:g}", best, at_best[0], "val")] if best is not None and at_best else []
    drops = drops_of(rows, rates)
    marks += [Mark(f"lr {lr:.2g}" if len(drops) <= _MOST_NAMED else "", epoch) for epoch, lr in drops]
    percent = "accuracy" in metric
    axis = Axis(label, percent=percent, high=_top(lines) if percent else None)
    return LineChart(title, _EPOCH, axis, tuple(lines), tuple(marks))


def _top(lines: Sequence[Line]) -> float | None:
    """Return 1 where accuracies come so near to it that padding would pass it."""
    values = [y for line in lines for y in line.ys if math.isfinite(y)]
    return 1.0 if values and max(values) > 0.96 else None


def _learning_rate(rows: Rows, rates: Sequence[float]) -> LineChart:
    """Return the chart of the learning rate: of every step where that is known, else of every epoch.

    Its axis has decades only where the rate falls by steps through them: one that glides to nothing would be drawn as a
    cliff at the end.
    """
    points = [(row["epoch"], row["lr"]) for row in rows if "lr" in row]
    if not points:
        return LineChart("Learning rate by epoch", _EPOCH, Axis("learning rate"), ())
    drops, by_step = drops_of(rows, rates), len(rates) / len(rows)
    if rates:
        xs, ys = _thinned([(step / by_step, rate) for step, rate in enumerate(rates, start=1)])
        before = 1 - 1 / by_step  # of an epoch, between its first step and its end
    else:
        xs, ys = _stairs(*zip(*points, strict=True))
        before = 0.0
    log = bool(drops) and min(ys) > 0 and max(ys) / min(ys) > _DECADE
    named = len(drops) <= _MOST_NAMED
    marks = tuple(Mark(f"epoch {epoch:g}" if named else "", epoch - before, lr) for epoch, lr in drops)
    title = "Learning rate by step" if rates else "Learning rate by epoch"
    return LineChart(title, _EPOCH, Axis("learning rate", log=log), (Line("lr", xs, ys, "accent"),), marks)


def _thinned(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Return points without those within a stretch that stands still, and of many that move every so manieth."""
    kept = [
        point
        for i, point in enumerate(points)
        if i in (0, len(points) - 1) or not point[1] == points[i - 1][1] == points[i + 1][1]
    ]
    every = -(-len(kept) // _MOST_POINTS)
    kept = [*kept[:-1:every], kept[-1]]
    return [x for x, _ in kept], [y for _, y in kept]


def _stairs(xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the points of a line that keeps each value until the next one begins."""
    stair_xs, stair_ys = [xs[0]], [ys[0]]
    for i in range(1, len(xs)):
        stair_xs += [xs[i], xs[i]]
        stair_ys += [ys[i - 1], ys[i]]
    return stair_xs, stair_ys


def drops_of(rows: Rows, rates: Sequence[float] = ()) -> list[tuple[float, float]]:
    """Return (epoch, new lr) wherever a learning rate that stood still fell to half or less.

    One that changes every epoch, as under a cosine or one cycle, glides and does not drop.

    Args:
        rows: of the epochs.
        rates: of every optimizer step, which tell whether the first epoch's stood still; without them it did where
            the second's does.
    """
    lrs = [row.get("lr", math.nan) for row in rows]
    steps = len(rates) // max(len(rows), 1)
    first_stood = len(set(rates[:steps])) == 1 if steps > 1 else len(lrs) > 2 and lrs[1] == lrs[2]
    return [
        (rows[i]["epoch"], lrs[i])
        for i in range(1, len(rows))
        if 0 < lrs[i] <= 0.5 * lrs[i - 1] and (first_stood if i == 1 else lrs[i - 1] == lrs[i - 2])
    ]


def _figure(evidence: Evidence, name: str, chart: LineChart, alt: str) -> Figure:
    path = f"figures/{name}.png"
    line_chart_png(chart, evidence.folder / path, below=evidence.folder)
    return Figure(path, alt, chart.title, line_chart_svgs(chart))


def _summary(chart: LineChart) -> str:
    """Say in words where each line begins and ends."""
    parts = []
    for line in chart.lines:
        finite = [y for y in line.ys if math.isfinite(y)]
        if finite and not line.faint:
            words = [f"{100 * y:.1f} %" if chart.y.percent else f"{y:.4g}" for y in (finite[0], finite[-1])]
            parts.append(f"{line.label} from {words[0]} to {words[1]}")
    marks = [mark.label for mark in chart.marks if mark.label]
    return f"{chart.title}: " + "; ".join(parts) + (f". Marked: {', '.join(marks)}." if marks else ".")


def _facts(rows: Rows, rates: Sequence[float]) -> dict[str, float]:
    return {"epochs": float(len(rows)), "lr_drops": float(len(drops_of(rows, rates)))}
