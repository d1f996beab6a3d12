"""Calibration: the part that asks whether the model's confidence can be trusted."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from registry.catalogue.markers import Bounds
from registry.contracts import Evidence, Figure, Paragraph, ReportPart, Section
from registry.reports import scores
from registry.reports.chart import COLORS, GRID, INK, SOFT_INK
from registry.reports.chart_png import new_figure, save
from registry.reports.diagram_svg import reliability_svg
from registry.reports.pictures import read_png

__all__ = ["Calibration"]


class Calibration(ReportPart):
    """Reliability diagram and expected calibration error: is the model right as often as it is sure?

    Args:
        bins: of equal width, over confidences from 0 to 1.
    """

    def __init__(self, bins: Annotated[int, Bounds(min=1)] = 15) -> None:
        self.bins = bins

    def render(self, evidence: Evidence) -> Section:
        """Write figures/calibration.png and return it with the error in words."""
        title, key = "How sure it is", "calibration"
        if evidence.predictions is None:
            return Section(title, (Paragraph("There are no predictions: no epoch was finished.", "note"),), key)
        answers = scores.read(evidence.predictions)
        found = scores.reliability(answers, self.bins)
        mean = float(np.nanmean(answers.confidence)) if len(answers.confidence) else float("nan")
        accuracy = float(np.mean(~answers.wrong)) if len(answers.wrong) else float("nan")
        _draw(found, evidence)
        path = "figures/calibration.png"
        evidence.recorder.image(key, read_png(evidence.folder / path))
        lean = (
            "overconfident" if mean > accuracy + 0.005 else "underconfident" if mean < accuracy - 0.005 else "balanced"
        )
        words = (
            f"Expected calibration error **{100 * found.ece:.2f} %** in {self.bins} bins. The mean confidence is "
            f"{100 * mean:.2f} % at an accuracy of {100 * accuracy:.2f} %: {lean} on the whole."
        )
        alt = f"Reliability diagram in {self.bins} bins; the expected calibration error is {100 * found.ece:.2f} %."
        caption = (
            "Accuracy by confidence; on the diagonal the model is right as often as it is sure. Below: answers per bin."
        )
        figure = Figure(path, alt, caption, reliability_svg(found, alt), width=560)
        return Section(title, (Paragraph(words), figure), key, {"ece": found.ece, "mean_confidence": mean})


def _draw(found: scores.Reliability, evidence: Evidence) -> None:
    figure, axes = new_figure(5.6, 4.6)
    width = np.diff(found.edges)
    left = found.edges[:-1]
    known = found.counts > 0
    axes.plot([0, 1], [0, 1], color=SOFT_INK, lw=1, ls=(0, (3, 3)))
    axes.bar(
        left[known], found.accuracy[known], width[known], align="edge", color=COLORS["val"], edgecolor="white", lw=1
    )
    shares = found.counts / max(1, found.counts.sum())
    axes.bar(left, -0.22 * shares / max(shares.max(), 1e-12), width, align="edge", color=COLORS["quiet"], alpha=0.55)
    axes.axhline(0, color=SOFT_INK, lw=0.8)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.25, 1.0)
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    axes.set_yticks(ticks, [f"{100 * t:.0f} %" for t in ticks])
    axes.set_xticks(ticks, [f"{100 * t:.0f} %" for t in ticks])
    axes.grid(axis="y", color=GRID, lw=0.8)
    axes.set_xlabel("confidence", color=SOFT_INK, fontsize=9)
    axes.set_ylabel("accuracy", color=SOFT_INK, fontsize=9)
    title = f"Reliability on {evidence.split}: calibration error {100 * found.ece:.2f} %"
    axes.set_title(title, color=INK, fontsize=10.5, loc="left", pad=10)
    save(figure, evidence.folder / "figures" / "calibration.png", below=evidence.folder)
