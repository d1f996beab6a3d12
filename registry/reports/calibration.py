"""Calibration: the part that asks whether the model's confidence can be trusted, and what it costs to ask for more.

The temperature was fitted by the run (`summary.calibration`); what it changes is measured here, on the reported split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from registry.catalogue.adoption import Change
from registry.catalogue.markers import Bounds
from registry.contracts import Block, Evidence, Figure, Paragraph, Predictions, ReportPart, Section, Table
from registry.printing import share_text
from registry.reports import scores
from registry.reports.diagram_svg import reliability_svg
from registry.reports.pictures import read_png
from registry.reports.svg_png import svg_png

__all__ = ["Calibration"]

_WIDTH = 400  # px
_ASKED = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)  # confidences below which a model might be asked not to answer


@dataclass(frozen=True)
class _Tempered:
    """What the temperature changes on the reported split.

    Attributes:
        words: where the temperature comes from.
        table: before and after.
        facts: to keep.
        answers: by it.
        found: reliability of those.
    """

    words: Paragraph
    table: Table
    facts: Mapping[str, float]
    answers: scores.Answers
    found: scores.Reliability


class Calibration(ReportPart):
    """Reliability diagram and expected calibration error: is the model right as often as it is sure?

    Args:
        bins: of equal width, over confidences from 0 to 1.
    """

    change: ClassVar = Change(facts={"owns": ""})

    def __init__(self, bins: Annotated[int, Bounds(min=1)] = 15) -> None:
        self.bins = bins

    def render(self, evidence: Evidence) -> Section:
        """Write figures/calibration.png and return it with the error in words, before and after the temperature."""
        title, key = "How sure it is", "calibration"
        predictions = evidence.predictions
        if predictions is None:
            return Section(title, (Paragraph("There are no predictions: no epoch was finished.", "note"),), key)
        answers = scores.read(predictions)
        found = scores.reliability(answers, self.bins)
        known = np.isfinite(answers.confidence)  # what the error is of, too
        mean, accuracy = _mean(answers.confidence), _mean(~answers.wrong[known])
        lean = (
            "overconfident" if mean > accuracy + 0.005 else "underconfident" if mean < accuracy - 0.005 else "balanced"
        )
        words = (
            f"Expected calibration error **{100 * found.ece:.2f} %** in {self.bins} bins. The mean confidence is "
            f"{share_text(mean)} at an accuracy of {share_text(accuracy)}: {lean} on the whole."
        )
        if not known.all():
            words += f" {int((~known).sum()):,} answers that are no numbers are left out."
        blocks: list[Block] = [Paragraph(words), Paragraph(_meaning(found))]
        facts = {"ece": found.ece, "mean_confidence": mean}
        kept, asked = evidence.summary.get("calibration") or {}, evidence.resolved.get("answers") or {}
        if not kept:
            blocks.append(self._diagram(evidence, found))
        else:
            told = self._tempered(evidence, predictions, kept, answers)
            blocks += [told.words, self._diagram(evidence, found)]
            facts |= told.facts
            if asked.get("calibrated"):
                answers = told.answers
                blocks.append(self._diagram(evidence, told.found, "calibrated"))
            blocks.append(told.table)
        below = asked.get("abstain_below")
        if below is not None:
            cost = scores.coverage(answers, below)
            blocks += [Paragraph(_cost(cost, evidence.split)), _costs(answers, evidence.split, below)]
            facts |= {"coverage": cost.share, "accuracy_answered": cost.accuracy}
        return Section(title, tuple(blocks), key, facts)

    def _diagram(self, evidence: Evidence, found: scores.Reliability, kind: str = "") -> Figure:
        """Write a reliability diagram; `kind` says of which probabilities where they are not the network's own."""
        of = f", {kind}," if kind else ""
        alt = f"Reliability diagram{of} in {self.bins} bins; the expected calibration error is {100 * found.ece:.2f} %."
        name = f"calibration{f'-{kind}' if kind else ''}"
        path, svg = f"figures/{name}.png", reliability_svg(found, alt)
        above = (
            f"Reliability on {evidence.split}{f', {kind}' if kind else ''}: calibration error {100 * found.ece:.2f} %"
        )
        svg_png(svg, above, evidence.folder / path, below=evidence.folder)
        evidence.recorder.image(name, read_png(evidence.folder / path))
        caption = (
            "Accuracy by confidence: a bar below the diagonal is more sure than right, one above more right than sure."
            if not kind
            else "The same by the temperature: how sure this run's answers are said to be."
        )
        return Figure(path, alt, caption, svg, width=_WIDTH)

    def _tempered(
        self, evidence: Evidence, predictions: Predictions, kept: Mapping[str, Any], before: scores.Answers
    ) -> _Tempered:
        """Return what the temperature changes on the reported split, in a table of before and after."""
        temperature = float(kept["temperature"])
        after = scores.read(scores.tempered(predictions, temperature))
        found = {name: scores.reliability(each, self.bins) for name, each in (("before", before), ("after", after))}
        rows = tuple(
            (name, f"{100 * found[name].ece:.2f} %", f"{_mean(each.loss):.4f}", f"{100 * _mean(each.confidence):.2f} %")
            for name, each in (("before", before), ("after", after))
        )
        headers = ("", "calibration error", "negative log-likelihood", "mean confidence")
        table = Table(f"Calibration on {evidence.split} before and after the temperature", headers, rows, "lrrr")
        facts = {
            "temperature": temperature,
            "ece_calibrated": found["after"].ece,
            "nll": _mean(before.loss),
            "nll_calibrated": _mean(after.loss),
        }
        return _Tempered(Paragraph(_of_the_temperature(kept, evidence.split)), table, facts, after, found["after"])


def _of_the_temperature(kept: Mapping[str, Any], split: str) -> str:
    """Say where the temperature comes from and what it does."""
    temperature, fitted_on = float(kept["temperature"]), str(kept.get("split", "validation"))
    if kept.get("reason"):
        return f"The temperature stays 1: {kept['reason']}."
    does = (
        "makes the answers less sure" if temperature > 1 else "makes them surer" if temperature < 1 else "changes none"
    )
    words = (
        f"A temperature of **{temperature:.4g}**, fitted on the {int(kept.get('images', 0)):,} images of {fitted_on} "
        f"(of which {int(kept.get('wrong', 0)):,} are answered wrong), {does}; each picture keeps its class."
    )
    own = f" It was fitted on {split} itself, so that its numbers here are better than on new images."
    return words + (own if fitted_on == split else "")


def _costs(answers: scores.Answers, split: str, below: float) -> Table:
    """Return what is left of the answers where only sure ones count, by how sure."""
    rows = tuple(_coverage_row(scores.coverage(answers, each)) for each in sorted({*_ASKED, below}))
    headers = ("sure from", "answered", "images", "of these right", "wrong answers")
    return Table(f'What is left on {split} where less sure answers are "not sure"', headers, rows, "rrrrr")


def _coverage_row(kept: scores.Coverage) -> tuple[str, ...]:
    right = share_text(kept.accuracy) if kept.answered else ""
    wrong = kept.answered - kept.right
    return f"{100 * kept.below:g} %", share_text(kept.share), f"{kept.answered:,}", right, f"{wrong:,}"


def _cost(kept: scores.Coverage, split: str) -> str:
    """Say what it costs to be sure, and what it gives."""
    declined, lost = kept.images - kept.answered, kept.right_of_all - kept.right
    words = (
        f'Below {100 * kept.below:g} % the answer is "not sure": on {split} it answers **{share_text(kept.share)}** '
        f"({kept.answered:,} of {kept.images:,} images)"
    )
    if kept.answered:
        words += f", of which **{share_text(kept.accuracy)}** are right; of all, {_share(kept)} would be"
    return f"{words}. Of the {declined:,} that it does not answer, {lost:,} would have been right."


def _share(kept: scores.Coverage) -> str:
    return share_text(kept.right_of_all / kept.images)


def _mean(values: np.ndarray) -> float:
    """Return the mean of what is a number; NaN of nothing."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _meaning(found: scores.Reliability) -> str:
    """Say what calibration is by the bin that adds most to the error."""
    said = "A model is calibrated if 80 of 100 answers that it is 80 % sure of are right: then its word can be taken."
    weights = np.nan_to_num(np.abs(found.confidence - found.accuracy)) * found.counts
    if not weights.any():
        return said
    worst = int(weights.argmax())
    low, high = 100 * found.edges[worst], 100 * found.edges[worst + 1]
    return (
        f"{said} Most of the error here: of the {found.counts[worst]:,} answers given with {low:.0f} to {high:.0f} % "
        f"confidence, {100 * found.accuracy[worst]:.1f} % are right."
    )
