"""Confusion matrix and per-class scores: the parts that look at the classes."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np

from registry.catalogue.adoption import Change
from registry.catalogue.markers import Bounds
from registry.contracts import Evidence, Figure, Paragraph, ReportPart, Section, Table
from registry.printing import literal
from registry.reports import scores
from registry.reports.chart import COLORS, share_said
from registry.reports.diagram_svg import matrix_svg, matrix_svgs
from registry.reports.lettering import drawable
from registry.reports.pictures import read_png, write_png
from registry.reports.svg_png import svg_png

__all__ = ["ConfusionMatrix", "PerClass"]

_MOST_LABELLED = 30  # classes up to which a matrix has room for names and numbers
_UNLABELLED = 640  # px: width of a matrix without names
_MOST_ROWS = 40  # of a table


class ConfusionMatrix(ReportPart):
    """How often each class is taken for each other, in images, and the worst pairs by name.

    Args:
        pairs: confusions named in the table, the most frequent first.
    """

    change: ClassVar = Change(facts={"owns": ""})

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
        path, labelled = "figures/confusion.png", len(names) <= _MOST_LABELLED
        if labelled:
            above = f"Confusion on {evidence.split}: images by true and predicted class"
            svg_png(
                matrix_svg(counts, [drawable(name) for name in names])[0],
                above,
                evidence.folder / path,
                below=evidence.folder,
            )
        else:
            write_png(evidence.folder / path, _shaded(counts), below=evidence.folder)
        evidence.recorder.image(key, read_png(evidence.folder / path))
        svg, width = matrix_svgs(counts, names) if labelled else (None, _UNLABELLED)
        mistakes = int(answers.wrong.sum())
        shown = f"{len(names)} classes on {len(answers.truth):,} images"
        alt = f"Confusion matrix of {shown}; {mistakes:,} are off the diagonal."
        caption = "Images by true class (row) and predicted class (column); the colour is the share of the row."
        figure = Figure(path, alt, caption, svg, width=width)
        return Section(
            title,
            (figure, worst_confusions(counts, names, self.pairs, "Most frequent confusions")),
            key,
            {"mistakes": float(mistakes)},
        )


class PerClass(ReportPart):
    """Precision, recall, F1 and support of every class."""

    change: ClassVar = Change(facts={"owns": ""})

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
            caption += f": the {_MOST_ROWS} of {len(names):,} classes with the lowest F1"
        rows: list[tuple[str, ...]] = [
            (
                literal(names[i]),
                _percent(found.precision[i]),
                _percent(found.recall[i]),
                _percent(found.f1[i]),
                f"{found.support[i]:,}",
            )
            for i in order
        ]
        mean = scores.mean_scores(found)
        means = tuple(_percent(value) for value in (mean.precision, mean.recall, mean.f1))
        rows.append(("mean over classes", *means, f"{int(found.support.sum()):,}"))
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
        (literal(names[t]), literal(names[p]), str(off[t, p]), share_said(float(off[t, p] / counts[t].sum())))
        for t, p in zip(truth, predicted, strict=True)
        if off[t, p] > 0
    )
    if not rows:
        return Paragraph("No image is taken for another class.", "note")
    return Table(caption, ("truth", "predicted", "images", "share"), rows, "llrr")


def _shaded(counts: np.ndarray) -> np.ndarray:
    """Return a matrix of more classes than have room for names as a picture: the darker, the more."""
    opacity = np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))[:, :, None]  # rare ones show, too
    hit = np.eye(len(counts), dtype=bool)[:, :, None]
    ink = np.where(hit, _rgb(COLORS["val"]), _rgb(COLORS["train"]))
    cells = np.rint(255 * (1 - opacity) + ink * opacity).astype(np.uint8)
    times = max(1, _UNLABELLED // len(counts))
    return np.asarray(cells.repeat(times, axis=0).repeat(times, axis=1))


def _rgb(color: str) -> np.ndarray:
    return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else share_said(float(value))
