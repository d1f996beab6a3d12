"""Confusion matrix and per-class scores: the parts that look at the classes."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from registry.catalogue.markers import Bounds
from registry.contracts import Evidence, Figure, Paragraph, ReportPart, Section, Table
from registry.printing import literal
from registry.reports import scores
from registry.reports.chart import INK, SOFT_INK
from registry.reports.chart_png import lettered, new_figure, save
from registry.reports.diagram_svg import matrix_svg, share_text
from registry.reports.pictures import read_png

__all__ = ["ConfusionMatrix", "PerClass"]

_MOST_LABELLED = 30  # classes up to which a matrix has room for names and numbers
_UNLABELLED = 640  # px: width of a matrix without names
_MOST_ROWS = 40  # of a table


class ConfusionMatrix(ReportPart):
    """How often each class is taken for each other, as shares of the true class, and the worst pairs by name.

    Args:
        pairs: confusions named in the table, the most frequent first.
    """

    def __init__(self, pairs: Annotated[int, Bounds(min=1)] = 10) -> None:
        self.pairs = pairs

    def render(self, evidence: Evidence) -> Section:
        """Write figures/confusion.png and return it with the table of the worst pairs."""
        title, key = "Confusion matrix", "confusion"
        if evidence.predictions is None:
            return Section(title, (Paragraph("There are no predictions: no epoch was finished.", "note"),), key)
        answers = scores.read(evidence.predictions)
        names = evidence.class_names
        counts = scores.confusion(answers, len(names))
        path = "figures/confusion.png"
        _draw(counts, names, evidence)
        evidence.recorder.image(key, read_png(evidence.folder / path))
        svg, width = matrix_svg(counts, names) if len(names) <= _MOST_LABELLED else (None, _UNLABELLED)
        mistakes = int(answers.wrong.sum())
        alt = (
            f"Confusion matrix of {len(names)} classes on {len(answers.truth)} images; {mistakes} are off the diagonal."
        )
        figure = Figure(path, alt, "Each row is a true class and adds up to 100 %.", svg, width=width)
        return Section(
            title,
            (figure, worst_confusions(counts, names, self.pairs, "Most frequent confusions")),
            key,
            {"mistakes": float(mistakes)},
        )


class PerClass(ReportPart):
    """Precision, recall, F1 and support of every class."""

    def render(self, evidence: Evidence) -> Section:
        """Return the table; with many classes, those with the lowest F1."""
        title, key = "Per class", "per_class"
        if evidence.predictions is None:
            return Section(title, (Paragraph("There are no predictions: no epoch was finished.", "note"),), key)
        names = evidence.class_names
        shares = scores.probabilities(evidence.predictions.logits)
        evidence.recorder.predictions(shares, evidence.predictions.targets, names)
        found = scores.class_scores(scores.confusion(scores.read(evidence.predictions), len(names)))
        order = np.arange(len(names))
        caption = f"Scores per class on {evidence.split}"
        if len(names) > _MOST_ROWS:
            order = np.argsort(np.nan_to_num(found.f1, nan=2.0), kind="stable")[:_MOST_ROWS]
            caption += f": the {_MOST_ROWS} of {len(names)} classes with the lowest F1"
        rows: list[tuple[str, ...]] = [
            (
                literal(names[i]),
                _percent(found.precision[i]),
                _percent(found.recall[i]),
                _percent(found.f1[i]),
                str(found.support[i]),
            )
            for i in order
        ]
        mean = scores.mean_scores(found)
        means = tuple(_percent(value) for value in (mean.precision, mean.recall, mean.f1))
        rows.append(("mean over classes", *means, str(int(found.support.sum()))))
        table = Table(caption, ("class", "precision", "recall", "F1", "images"), tuple(rows), "lrrrr")
        return Section(title, (table, _how_meant(mean, len(names))), key, {"macro_f1": mean.f1})


def _how_meant(mean: scores.MeanScores, classes: int) -> Paragraph:
    """Say which classes the means are over."""
    without = classes - mean.classes
    words = f"Means are over the {mean.classes} classes that have images here, each counting the same"
    words += f"; {without} without images {'is' if without == 1 else 'are'} left out" if without else ""
    count = "one class was" if mean.unpredicted == 1 else f"{mean.unpredicted} classes were"
    words += f"; {count} never predicted, which counts as a precision and an F1 of 0" if mean.unpredicted else ""
    return Paragraph(f"{words}.", "note")


def worst_confusions(counts: np.ndarray, names: tuple[str, ...], most: int, caption: str) -> Table | Paragraph:
    """Return the most frequent confusions; equals in the order of the classes."""
    off = counts.copy()
    np.fill_diagonal(off, 0)
    order = np.argsort(-off, axis=None, kind="stable")[:most]
    truth, predicted = np.unravel_index(order, off.shape)
    rows = tuple(
        (literal(names[t]), literal(names[p]), str(off[t, p]), f"{100 * off[t, p] / counts[t].sum():.1f} %")
        for t, p in zip(truth, predicted, strict=True)
        if off[t, p] > 0
    )
    if not rows:
        return Paragraph("No image is taken for another class.", "note")
    return Table(caption, ("truth", "predicted", "images", "share"), rows, "llrr")


def _draw(counts: np.ndarray, names: tuple[str, ...], evidence: Evidence) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    labelled = len(names) <= _MOST_LABELLED
    side = 2.2 + 0.46 * len(names) if labelled else 7.0
    side = min(max(side, 3.6), 15.0)
    figure, axes = new_figure(side, side * 0.94)
    axes.grid(False)
    axes.spines["bottom"].set_visible(False)
    # The square root makes rare confusions visible beside a strong diagonal.
    blues = LinearSegmentedColormap.from_list("paper to ink", ["#ffffff", "#cfe3f3", "#5d9fd0", "#0067a5", "#06294a"])
    axes.imshow(np.sqrt(shares), cmap=blues, vmin=0, vmax=1, interpolation="nearest" if labelled else "antialiased")
    axes.set_xlabel("predicted", color=SOFT_INK, fontsize=9)
    axes.set_ylabel("truth", color=SOFT_INK, fontsize=9)
    if labelled:
        words = [lettered(name[:18]) for name in names]
        axes.set_xticks(range(len(names)), words, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), words)
        for (row, column), share in np.ndenumerate(shares):
            if counts[row, column]:
                axes.text(
                    column, row, share_text(share), ha="center", va="center", fontsize=7.5,
                    color="#ffffff" if np.sqrt(share) > 0.55 else INK,
                )  # fmt: skip
    axes.set_title(
        f"Confusion on {evidence.split}, per cent of the true class", color=INK, fontsize=10.5, loc="left", pad=10
    )
    save(figure, evidence.folder / "figures" / "confusion.png", below=evidence.folder)


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.1f} %"
