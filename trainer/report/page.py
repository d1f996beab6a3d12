"""Evidence and parts in, report.html and report.md out.

Owns the order of the page and what happens when a part fails. What sections hold is decided by the parts and by
frame.py, how they look by html.py and markdown.py.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from registry import files
from registry.contracts import Block, Evidence, Fold, Paragraph, ReportPart, Section
from registry.printing import literal, printable
from registry.reports.augmentation import AugmentationSheet
from registry.reports.calibration import Calibration
from registry.reports.classes import PerClass
from registry.reports.curves import LRFinderCurve
from trainer.report.answer import Answer, answer_of, is_look
from trainer.report.audited import audit_section
from trainer.report.frame import (
    data_section,
    date_of,
    environment_section,
    epochs_section,
    model_section,
    recipe_section,
)
from trainer.report.html import html
from trainer.report.markdown import markdown


@dataclass(frozen=True)
class _Chapter:
    """A heading of the page and the sections it gathers.

    Attributes:
        title: heading.
        keys: of its sections, in order; a second part of a kind, "gradcam-layercam", stands beside the first.
        name: anchor of a chapter of several sections; one alone keeps its own.
        fold: where only the heading shows at first.
        short: which of its sections stand in the short version.
    """

    title: str
    keys: tuple[str, ...]
    name: str = ""
    fold: Fold = "open"
    short: tuple[str, ...] = ()

    @property
    def anchor(self) -> str:
        """Its anchor where it has several sections."""
        return self.name or f"{self.keys[0]}-all"


# The page below the answer: evidence first, then, folded, what only some readers look up. Sections of plug-ins stand
# between the two, in the recipe's order.
_EVIDENCE = (
    _Chapter("Data", ("data",), short=("data",)),
    _Chapter("Audit of the pictures", ("audit",)),
    _Chapter("Curves", ("curves",), short=("curves",)),
    _Chapter("Where it fails", ("confusion", "per_class", "misclassified"), "failures", short=("confusion",)),
    _Chapter("Where it looked", ("gradcam",), "explanations", short=("gradcam",)),
    _Chapter("Learning-rate finder", ("lr_finder",)),
    _Chapter("How sure it is", ("calibration",)),
)
_LOOKED_UP = (
    _Chapter("Recipe", ("recipe",), fold="on screen"),
    _Chapter("Model", ("model",), fold="on screen"),
    _Chapter("Epochs", ("epochs",), fold="on screen"),
    _Chapter("Augmentation", ("augmentation",), fold="on screen"),
    _Chapter("Environment and how to repeat this", ("environment",), fold="on screen"),
)


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
    sections = _with_anchors(sections)
    answer = answer_of(evidence)
    try:
        contents = _drawn(evidence, answer, sections)
    except Exception:  # one of them cannot be drawn: which one?
        sections = [_drawable(section, evidence, failed, log) for section in sections]
        contents = _drawn(evidence, answer, sections)
    page, text = evidence.folder / "report.html", evidence.folder / "report.md"
    for path, content in zip((page, text), contents, strict=True):
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
    frame = [recipe_section, model_section, epochs_section, environment_section]
    frame += [] if evidence.data is None else [data_section]
    frame += [] if evidence.audit is None else [audit_section]
    return found + [(function.__name__, function) for function in frame]


def _drawn(evidence: Evidence, answer: Answer, sections: Sequence[Section]) -> tuple[str, str]:
    """Return the page in HTML and in Markdown."""
    chapters = in_chapters(sections)
    page = html(evidence.name, answer, chapters, evidence.folder, dated=date_of(evidence))
    return page, markdown(evidence.name, answer, chapters)


def _drawable(section: Section, evidence: Evidence, failed: list[str], log: Callable[[str], None]) -> Section:
    """Return a section that can be drawn: itself, or one that says why it cannot."""
    try:
        _drawn(evidence, Answer("", (), "", ()), [section])
    except Exception as error:  # a part may be anybody's code
        said = _said_of(str(section.title), error, failed)
        log(failed[-1])
        return replace(said, key=section.key)
    return section


def _section(name: str, render: Callable[[Evidence], Section], evidence: Evidence, failed: list[str]) -> Section:
    """Return what `render` makes, or a section that says why it could not: a trained model outweighs a picture."""
    try:
        section = render(evidence)
        if not isinstance(section, Section):
            raise TypeError(f"render() has returned {type(section).__name__}, not a Section")
    except Exception as error:  # a part may be anybody's code
        return _said_of(name, error, failed)
    return section


def _said_of(name: str, error: Exception, failed: list[str]) -> Section:
    why = f"{type(error).__name__}: {error}"
    failed.append(f"report part {name} failed: {why}")
    words = Paragraph(f"This part could not be made. {literal(why)}", "warning")
    return Section(literal(name), (words,), name.lower())


def in_chapters(sections: Sequence[Section]) -> list[Section]:
    """Return the sections in the page's order, gathered below the headings of its chapters."""
    known = {key for chapter in (*_EVIDENCE, *_LOOKED_UP) for key in chapter.keys}
    others = [section for section in sections if _kind(section) not in known]
    return [*_filled(_EVIDENCE, sections), *others, *_filled(_LOOKED_UP, sections)]


def _filled(chapters: Sequence[_Chapter], sections: Sequence[Section]) -> Iterator[Section]:
    """Yield each chapter that has a section."""
    for chapter in chapters:
        own = [
            replace(section, in_short=key in chapter.short)
            for key in chapter.keys
            for section in sections
            if _kind(section) == key
        ]
        if len(own) == 1:
            yield replace(own[0], title=chapter.title, fold=chapter.fold)
        elif own:
            blocks: tuple[Block, ...] = tuple(own)
            yield Section(chapter.title, blocks, chapter.anchor, fold=chapter.fold, in_short=bool(chapter.short))


def _kind(section: Section) -> str:
    return section.key.partition("-")[0]


def _with_anchors(sections: Sequence[Section]) -> list[Section]:
    """Return sections whose keys are anchors: no two alike, letters, digits and hyphens."""
    taken = {"answer", *(chapter.anchor for chapter in (*_EVIDENCE, *_LOOKED_UP))}
    found: list[Section] = []
    for section in sections:
        wanted = re.sub(r"[^A-Za-z0-9_-]+", "-", section.key) or "section"
        names = itertools.chain([wanted], (f"{wanted}-{n}" for n in itertools.count(2)))
        key = next(name for name in names if name not in taken)
        taken.add(key)
        found.append(replace(section, key=key))
    return found
