"""Evidence and parts in, report.html and report.md out.

Owns the order of the page and what happens when a part fails. What sections hold is decided by the parts and by
frame.py, how they look by html.py and markdown.py.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from registry import files
from registry.contracts import Evidence, Paragraph, ReportPart, Section
from registry.printing import printable
from registry.reports.augmentation import AugmentationSheet
from registry.reports.calibration import Calibration
from registry.reports.classes import PerClass
from registry.reports.curves import LRFinderCurve
from trainer.report.answer import answer_of, is_look
from trainer.report.frame import (
    environment_section,
    epochs_section,
    expectations_section,
    model_section,
    recipe_section,
)
from trainer.report.html import html
from trainer.report.markdown import markdown

# Sections by key as the page has them; those of plug-ins stand before the environment, in the recipe's order.
_ORDER = (
    "expectations", "recipe", "model", "lr_finder", "curves", "epochs", "per_class", "confusion", "calibration",
    "misclassified", "gradcam", "augmentation",
)  # fmt: skip


@dataclass(frozen=True)
class ReportResult:
    """What was written.

    Attributes:
        html: the page.
        markdown: the same for a repository.
        facts: numbers by section key, for summary.json.
        failed: one sentence per part that could not be rendered.
        seconds: wall time.
    """

    html: Path
    markdown: Path
    facts: Mapping[str, Mapping[str, float]]
    failed: tuple[str, ...]
    seconds: float


def write_report(evidence: Evidence, parts: Sequence[ReportPart], *, log: Callable[[str], None]) -> ReportResult:
    """Render `parts` and the frame into report.html and report.md in the run folder.

    Args:
        evidence: what the run left behind; without history but with predictions it is a look at a model, which gets
            a page of `parts` alone.
        parts: entries of the recipe's `report:`; what every page has is added where they do not name it.
        log: told of every part that fails; the report and the run go on.
    """
    started = time.perf_counter()
    failed: list[str] = []
    sections = [_section(name, render, evidence, failed) for name, render in _renderers(evidence, parts)]
    for words in failed:
        log(words)
    sections = _with_anchors(sorted(sections, key=lambda section: _place(section.key)))
    answer = answer_of(evidence)
    page, text = evidence.folder / "report.html", evidence.folder / "report.md"
    for path, content in (
        (page, html(evidence.name, answer, sections, evidence.folder)),
        (text, markdown(evidence.name, answer, sections)),
    ):
        files.write(path, printable(content).encode(), below=evidence.folder)
    facts = {section.key: dict(section.facts) for section in sections if section.facts}
    return ReportResult(page, text, facts, tuple(failed), time.perf_counter() - started)


def _renderers(evidence: Evidence, parts: Sequence[ReportPart]) -> list[tuple[str, Callable[[Evidence], Section]]]:
    """Return (name, renderer) of everything on the page."""
    found: list[tuple[str, Callable[[Evidence], Section]]] = [(type(part).__name__, part.render) for part in parts]
    if is_look(evidence):
        return found
    always: list[ReportPart] = [PerClass(), Calibration()]
    if evidence.finding is not None:
        always.append(LRFinderCurve())
    if len(evidence.train_samples):
        always.append(AugmentationSheet())
    named = {type(part) for part in parts}
    found += [(type(part).__name__, part.render) for part in always if type(part) not in named]
    if evidence.summary.get("expect"):
        found.append((expectations_section.__name__, expectations_section))
    frame = (recipe_section, model_section, epochs_section, environment_section)
    return found + [(function.__name__, function) for function in frame]


def _section(name: str, render: Callable[[Evidence], Section], evidence: Evidence, failed: list[str]) -> Section:
    """Return what `render` makes, or a section that says why it could not: a trained model outweighs a picture."""
    try:
        return render(evidence)
    except Exception as error:  # a part may be anybody's code
        words = f"report part {name} failed: {type(error).__name__}: {error}"
        failed.append(words)
        return Section(
            name, (Paragraph(f"This part could not be made. {type(error).__name__}: {error}", "warning"),), name.lower()
        )


def _place(key: str) -> int:
    """Return where a section stands; a second part of a kind, "gradcam-layercam", beside the first."""
    kind = key.partition("-")[0]
    if kind == "environment":
        return len(_ORDER) + 1
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)


def _with_anchors(sections: Sequence[Section]) -> list[Section]:
    """Return sections whose keys are anchors: no two alike, letters, digits and hyphens."""
    found: dict[str, Section] = {}
    for section in sections:
        wanted = re.sub(r"[^A-Za-z0-9_-]+", "-", section.key) or "section"
        names = itertools.chain([wanted], (f"{wanted}-{n}" for n in itertools.count(2)))
        key = next(name for name in names if name not in (*found, "answer"))
        found[key] = replace(section, key=key)
    return list(found.values())
