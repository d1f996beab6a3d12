"""Calibration: the part that asks whether the model's confidence can be trusted."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from registry.catalogue.markers import Bounds
from registry.contracts import Evidence, Figure, Paragraph, ReportPart, Section
from registry.reports import scores
from registry.reports.diagram_svg import reliability_svg
from registry.reports.pictures import read_png
from registry.reports.svg_png import svg_png

__all__ = ["Calibration"]

_WIDTH = 400  # px


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
        alt = f"Reliability diagram in {self.bins} bins; the expected calibration error is {100 * found.ece:.2f} %."
        path, svg = "figures/calibration.png", reliability_svg(found, alt)
        above = f"Reliability on {evidence.split}: calibration error {100 * found.ece:.2f} %"
        svg_png(svg, above, evidence.folder / path, below=evidence.folder)
        evidence.recorder.image(key, read_png(evidence.folder / path))
        lean = (
            "overconfident" if mean > accuracy + 0.005 else "underconfident" if mean < accuracy - 0.005 else "balanced"
        )
        words = (
            f"Expected calibration error **{100 * found.ece:.2f} %** in {self.bins} bins. The mean confidence is "
            f"{100 * mean:.2f} % at an accuracy of {100 * accuracy:.2f} %: {lean} on the whole."
        )
        caption = (
            "Accuracy by confidence: a bar below the diagonal is more sure than right, one above more right than sure."
        )
        figure = Figure(path, alt, caption, svg, width=_WIDTH)
        blocks = (Paragraph(words), Paragraph(_meaning(found)), figure)
        return Section(title, blocks, key, {"ece": found.ece, "mean_confidence": mean})


def _meaning(found: scores.Reliability) -> str:
    """Say what calibration is by the bin that adds most to the error."""
    said = "A model is calibrated if 80 of 100 answers that it is 80 % sure of are right: then its word can be taken."
    weights = np.nan_to_num(np.abs(found.confidence - found.accuracy)) * found.counts
    if not weights.any():
        return said
    worst = int(weights.argmax())
    low, high = 100 * found.edges[worst], 100 * found.edges[worst + 1]
    return (
        f"{said} Furthest off here: of the {found.counts[worst]:,} answers given with {low:.0f} to {high:.0f} % "
        f"confidence, {100 * found.accuracy[worst]:.1f} % are right."
    )
