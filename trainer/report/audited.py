"""What an audit has found, as sections of a page: leaks, contradicting labels, duplicates, what cannot be used.

The same on the page of an audit (audit_page.py) and, shorter, on that of every run on one's own pictures. Knows the
audit and the evidence; finds nothing itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from registry import files
from registry.audited import FIXES, LIST, Alike, Audit, Doubted, Odd, Picture
from registry.contracts import Block, Evidence, Figure, Gallery, Paragraph, Section, Table
from registry.printing import literal, metric_text, sentence_case
from registry.reports import scores
from registry.reports.chart import share_said
from registry.reports.pictures import TILE, enlarged, write_png
from trainer.report.audit_list import csv_of, fixes_of

SIDE = 112  # px of each of two pictures side by side
COLUMNS = 5  # pairs in a row
GAP = 4  # px between them
GROUND = (128, 134, 144)  # around a picture that is no square: neither the page's light nor its dark
ROWS = 20  # of a table
FILES = "figures/audit"

_ODD = {
    "broken": "cannot be read",
    "tiny": "are far smaller than the others",
    "blank": "show nothing but one grey",
}


@dataclass(frozen=True)
class WithoutLeaks:
    """Accuracy on a part, with and without the pictures that the network has learnt from.

    Attributes:
        part: "test" or "val".
        images: of the part.
        leaked: of them those that are like a training picture.
        accuracy: on all.
        without: on the others; NaN where there are none.
        on_leaked: on the leaked alone.
    """

    part: str
    images: int
    leaked: int
    accuracy: float
    without: float
    on_leaked: float


def without_leaks(audit: Audit, part: str, indices: NDArray[np.int64], right: NDArray[np.bool_]) -> WithoutLeaks | None:
    """Return the accuracy with and without the leaked pictures of a part; None where none is leaked.

    Args:
        audit: what was found.
        part: that was measured.
        indices: places of its pictures in their split, (N,).
        right: which of them were answered right, (N,).
    """
    leaked = np.isin(indices, list(audit.leaked_indices(part)))
    if not leaked.any():
        return None
    others = right[~leaked]
    return WithoutLeaks(
        part,
        len(right),
        int(leaked.sum()),
        float(right.mean()),
        float(others.mean()) if len(others) else math.nan,
        float(right[leaked].mean()),
    )


def measured_part(evidence: Evidence) -> str:
    """Return the part that the page's numbers are of: "test", or "val" where that chose the best epoch."""
    return "val" if evidence.split == evidence.selected_on else evidence.split


def leaks_of(evidence: Evidence) -> WithoutLeaks | None:
    """Return what leaks do to the page's accuracy; None where nothing was audited, measured or leaked."""
    if evidence.audit is None or evidence.predictions is None:
        return None
    right = ~scores.read(evidence.predictions).wrong
    return without_leaks(evidence.audit, measured_part(evidence), evidence.predictions.indices, right)


# ------------------------------------------------------------------------------------------------------------- sections
def audit_section(evidence: Evidence) -> Section:
    """Return the audit of a run's pictures, in short; everything stands in audit.csv, which is written here."""
    audit = evidence.audit
    assert audit is not None
    leak = leaks_of(evidence)
    write_lists(audit, evidence.folder)
    blocks: list[Block] = [Paragraph(summary_of(audit))]
    if leak is not None:
        blocks.append(accuracy_table(leak))
    blocks += findings_of(audit, evidence.folder, shown=2 * COLUMNS)
    if not audit.clean:
        blocks.append(Paragraph(f"All of it stands in `{LIST}` in the run's folder. {how_found(audit)}", "note"))
    return Section("Audit of the pictures", tuple(blocks), "audit", facts_of(audit, leak))


def write_lists(audit: Audit, folder: Path) -> None:
    """Write audit.csv, and fixes.csv where labels are doubted, below `folder`."""
    files.write(folder / LIST, csv_of(audit).encode(), below=folder)
    if audit.doubts:
        files.write(folder / FIXES, fixes_of(audit).encode(), below=folder)


def findings_of(audit: Audit, folder: Path, *, shown: int) -> list[Section]:
    """Return a section for each kind of finding that there is, the gravest first; pictures are written below `folder`.

    Args:
        audit: what was found.
        folder: of the page.
        shown: pairs of each kind that have pictures.
    """
    pictures = _Pictures(audit, folder, shown)
    made = (
        _leaks(audit, pictures),
        _contradictions(audit, pictures),
        _doubts(audit, pictures),
        _shared(audit),
        _duplicates(audit, pictures),
        _odd(audit),
    )
    return [section for section in made if section is not None]


def facts_of(audit: Audit, leak: WithoutLeaks | None) -> dict[str, float]:
    """Return what is worth keeping in numbers."""
    facts = {f"leaked_{part}": float(len(audit.leaked_indices(part))) for part in ("test", "val") if audit.part(part)}
    facts |= {"duplicates": float(len(audit.duplicates)), "contradictions": float(len(audit.contradictions))}
    if audit.reviewed:
        facts["probably_mislabelled"] = float(len(audit.doubts))
    facts |= {kind: float(len(audit.of_kind(kind))) for kind in _ODD}
    if audit.grouped:
        facts["groups_on_both_sides"] = float(len(audit.shared))
    if leak is not None:
        facts |= {f"{leak.part}_accuracy": leak.accuracy, f"{leak.part}_accuracy_without_leaked": leak.without}
    return facts


def summary_of(audit: Audit) -> str:
    """Say in a few sentences what was found."""
    said = [*_said_of_leaks(audit)]
    if audit.contradictions:
        said.append(f"**{_count(len(audit.contradictions), 'picture')}** like one of another class.")
    if audit.doubts:
        parts = " and ".join(audit.reviewed)
        said.append(f"**{_count(len(audit.doubts), f'{parts} picture')}** probably mislabelled.")
    if audit.shared:
        said.append(f"**{_count(len(audit.shared), 'group')}** on both sides of a split.")
    if audit.duplicates:
        said.append(f"**{_count(len(audit.duplicates), 'picture')}** like an earlier one of the same part.")
    for kind, words in _ODD.items():
        if found := audit.of_kind(kind):
            only = words if len(found) > 1 else _singular(words)
            said.append(f"{len(found):,} {'pictures' if len(found) > 1 else 'picture'} {only}.")
    if not said:
        said.append("Nothing was found: no picture lies in two parts or under two classes, none is broken.")
    if not audit.near:
        said.append(f"Only exact copies were looked for: {audit.why_not_near}.")
    return " ".join(said)


def _said_of_leaks(audit: Audit) -> Iterator[str]:
    for part in ("test", "val"):
        facts, leaked = audit.part(part), audit.leaked(part)
        if facts is not None and leaked:
            exact, share = sum(each.exact for each in leaked), share_said(len(leaked) / facts.images)
            yield (
                f"**{len(leaked):,} of the {facts.images:,} {part} pictures** ({share}) "
                f"{also_learnt(len(leaked))}: {exact:,} pixel for pixel, {len(leaked) - exact:,} nearly."
            )


def also_learnt(count: int) -> str:
    """Say of leaked pictures what they are."""
    return "is like a training picture" if count == 1 else "are like training pictures"


def how_found(audit: Audit) -> str:
    """Say how near duplicates were told."""
    if not audit.near:
        return ""
    return (
        "Near duplicates are pictures whose details correlate once they are laid over each other, mirrored, rescaled "
        "and moved where that fits better: by 0.78 at least, and by more where a picture has much in common with many. "
        "Of those below 0.9 some are two pictures of one kind: look at them."
    )


def accuracy_table(leak: WithoutLeaks) -> Table:
    """Return the accuracy with and without the pictures that were learnt from."""
    rows = (
        (f"all {leak.part} pictures", f"{leak.images:,}", *_accuracy(leak.accuracy, leak.images)),
        ("**without those that were learnt from**", f"{leak.images - leak.leaked:,}",
         *_accuracy(leak.without, leak.images - leak.leaked)),
        ("those that were learnt from, alone", f"{leak.leaked:,}", *_accuracy(leak.on_leaked, leak.leaked)),
    )  # fmt: skip
    return Table(f"Accuracy on {leak.part}", ("measured on", "pictures", "accuracy", "95 % interval"), rows, "lrrr")


def _accuracy(value: float, images: int) -> tuple[str, str]:
    if not images:
        return "none is left", ""
    low, high = scores.interval(value, images)
    return metric_text("accuracy", value), f"{100 * low:.1f} to {100 * high:.1f} %"


def _count(count: int, noun: str) -> str:
    """Return "1 picture is", "3 pictures are"."""
    return f"{count:,} {noun} is" if count == 1 else f"{count:,} {noun}s are"


def _singular(words: str) -> str:
    return words.replace("are", "is", 1).replace("the others", "others").replace("show ", "shows ", 1)


# ---------------------------------------------------------------------------------------------------- kinds of findings
def _leaks(audit: Audit, pictures: _Pictures) -> Section | None:
    if not audit.leaks:
        return None
    blocks: list[Block] = []
    for measured, other in (("test", "train"), ("val", "train"), ("test", "val")):
        found = audit.leaked(measured, other)
        if found:
            seen = "which the network learns from" if other == "train" else "which chooses the best epoch"
            words = (
                f"{sentence_case(measured)} pictures that are like pictures of {other}, {seen}: {measured} on the left"
            )
            blocks.append(pictures.of(found, f"leak-{measured}-{other}", words))
    return Section("Leaks", tuple(blocks), "leaks")


def _contradictions(audit: Audit, pictures: _Pictures) -> Section | None:
    if not audit.contradictions:
        return None
    gallery = pictures.of(audit.contradictions, "contradiction", "The same picture under two classes")
    words = "One of the two labels is wrong, or both classes are on the picture."
    return Section("Contradicting labels", (Paragraph(words), gallery), "contradictions")


def _duplicates(audit: Audit, pictures: _Pictures) -> Section | None:
    if not audit.duplicates:
        return None
    words = "They count twice in training, and an accuracy counts them twice."
    gallery = pictures.of(audit.duplicates, "duplicate", "Pictures that are like an earlier one of their own part")
    return Section("Duplicates within a part", (Paragraph(words), gallery), "duplicates")


def _doubts(audit: Audit, pictures: _Pictures) -> Section | None:
    if not audit.doubts:
        return None
    words = (
        "Confident learning (Northcutt et al. 2021), by a network that has not learnt from these pictures: some are "
        f"mislabelled, some are merely hard. They stand in `{FIXES}`: write yes, no, drop or a class into its column "
        f"`decision`, and let the recipe say `data.fixes: {FIXES}`."
    )
    return Section("Probably mislabelled", (Paragraph(words), pictures.doubted(audit.doubts)), "mislabelled")


def _shared(audit: Audit) -> Section | None:
    if not audit.shared:
        return None
    rows = tuple(
        (literal(each.group), ", ".join(f"{count:,} {part}" for part, count in each.counts)) for each in audit.shared
    )
    caption = _of_so_many("Groups whose pictures lie in more than one part", len(rows))
    words = (
        "What the network has learnt of a patient, a burst or a place, it is measured by: name `group` in `data.val`."
    )
    return Section(
        "Groups on both sides",
        (Paragraph(words), Table(caption, ("group", "pictures"), rows[:ROWS])),
        "groups",
    )


def _odd(audit: Audit) -> Section | None:
    if not audit.odd:
        return None
    rows = tuple((_named(each, audit), each.kind, literal(each.why)) for each in audit.odd)
    table = Table(_of_so_many("Pictures to look at", len(rows)), ("picture", "what", "why"), rows[:ROWS])
    return Section("Broken, tiny and blank pictures", (table,), "odd")


def _of_so_many(caption: str, count: int) -> str:
    return caption if count <= ROWS else f"{caption}: {ROWS} of {count:,}"


def _named(odd: Odd, audit: Audit) -> str:
    return f"**{_class(odd.picture, audit)}** `{literal(odd.picture.name)}`"


def _class(picture: Picture, audit: Audit) -> str:
    known = 0 <= picture.label < len(audit.class_names)
    return literal(audit.class_names[picture.label]) if known else "unknown"


@dataclass(frozen=True)
class _Pictures:
    """Galleries of pairs.

    Attributes:
        audit: whose pictures they are.
        folder: of the page.
        shown: pairs in a gallery, at most.
    """

    audit: Audit
    folder: Path
    shown: int

    def of(self, pairs: Sequence[Alike], name: str, caption: str) -> Gallery:
        """Write a picture per pair and return them; of many those that are spread evenly over their likeness."""
        some = [pairs[at] for at in _spread(len(pairs), self.shown)]
        figures = tuple(self._figure(pair, f"{FILES}/{name}-{number:02d}.png") for number, pair in enumerate(some, 1))
        more = f"; {len(some)} of {len(pairs):,}" if len(some) < len(pairs) else ""
        return Gallery(figures, f"{caption}{more}", COLUMNS)

    def doubted(self, doubts: Sequence[Doubted]) -> Gallery:
        """Write a picture per doubted label, the surest, and return them."""
        figures = []
        for number, doubt in enumerate(doubts[: self.shown], 1):
            path = f"{FILES}/mislabelled-{number:02d}.png"
            write_png(self.folder / path, enlarged(self.audit.pixels(doubt.picture)), below=self.folder)
            given, suggested = _class(doubt.picture, self.audit), literal(self.audit.class_names[doubt.suggested])
            sure = f"{share_said(doubt.confidence)} against {share_said(doubt.given_confidence)}"
            words = f"**{given}**, probably **{suggested}**: {sure}, `{literal(doubt.picture.name)}`"
            alt = f"{doubt.picture.name}: labelled {given}, probably {suggested}."
            figures.append(Figure(path, alt, words, width=TILE))
        more = f"; the surest {len(figures)} of {len(doubts):,}" if len(figures) < len(doubts) else ""
        return Gallery(tuple(figures), f"Labels that are probably wrong{more}", COLUMNS)

    def _figure(self, pair: Alike, path: str) -> Figure:
        both = [_squared(self.audit.pixels(picture)) for picture in (pair.first, pair.second)]
        gap = np.full((SIDE, GAP, 3), GROUND, np.uint8)
        write_png(self.folder / path, np.concatenate((both[0], gap, both[1]), axis=1), below=self.folder)
        first, second = (
            f"**{_class(picture, self.audit)}** `{literal(picture.name)}`" for picture in (pair.first, pair.second)
        )
        alike = "the same pixels" if pair.exact else f"correlation {pair.likeness:.2f}"
        alike += ", mirrored" if pair.mirrored else ""
        alt = f"{pair.first.name} and {pair.second.name}, {alike}."
        return Figure(path, alt, f"{first} and {second}, {alike}", width=2 * SIDE + GAP)


def _spread(count: int, shown: int) -> list[int]:
    """Return up to `shown` places of `count`, evenly spread, the first and the last among them."""
    if count <= shown:
        return list(range(count))
    return sorted({round(step * (count - 1) / (shown - 1)) for step in range(shown)})


def _squared(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture in the middle of a square, uint8 (SIDE, SIDE, 3)."""
    scaled = enlarged(image, SIDE)
    square = np.full((SIDE, SIDE, 3), GROUND, np.uint8)
    top, left = (SIDE - scaled.shape[0]) // 2, (SIDE - scaled.shape[1]) // 2
    square[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    return square
