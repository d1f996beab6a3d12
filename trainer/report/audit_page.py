"""The page of an audit: how many pictures serve for what, what they are like, and what was found, with pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from registry import files
from registry.audited import LIST, Audit, PartFacts
from registry.contracts import Paragraph, Section, Table, UsedData
from registry.printing import duration, literal, metric_text, printable
from registry.reports.chart import share_said
from trainer.report.answer import Answer, Tile
from trainer.report.audited import WithoutLeaks, accuracy_table, findings_of, how_found, summary_of, write_lists
from trainer.report.html import html

SHOWN = 40  # pairs of each kind that have pictures
CLASSES = 60  # with a row of their own


def write_page(
    audit: Audit,
    folder: Path,
    *,
    name: str,
    used: UsedData,
    dated: str,
    leak: WithoutLeaks | None = None,
    more: Sequence[Section] = (),
) -> Path:
    """Write report.html, its pictures and audit.csv into `folder`; return the page.

    Args:
        audit: what was found.
        folder: of the page.
        name: of the recipe.
        used: what the data are, in words.
        dated: the day.
        leak: what leaks do to a run's accuracy; None where there is no run or no leak.
        more: sections above the findings.
    """
    where = f" in {used.place}" if used.place else ""
    answer = Answer(f"{used.dataset}{where}: {used.pixels}.", _tiles(audit, leak), summary_of(audit), ())
    accuracy = () if leak is None else (Section("Accuracy without leaks", (accuracy_table(leak),), "accuracy"),)
    sections = [
        *accuracy,
        *more,
        *findings_of(audit, folder, shown=SHOWN),
        _parts(audit, used),
        _how(audit),
    ]
    page = folder / "report.html"
    content = html(name, answer, sections, folder, dated=dated, kind="Audit of the pictures")
    files.write(page, printable(content).encode(), below=folder)
    write_lists(audit, folder)
    return page


def _tiles(audit: Audit, leak: WithoutLeaks | None) -> tuple[Tile, ...]:
    parts = ", ".join(f"{part.images:,} {part.name}" for part in audit.parts)
    tiles = [Tile("Pictures", f"{sum(part.images for part in audit.parts):,}", parts)]
    for name in ("test", "val"):
        part = audit.part(name)
        if part is not None and part.images:
            leaked = len(audit.leaked_indices(name))
            note = (
                f"{share_said(leaked / part.images)} of {part.images:,}: like training pictures" if leaked else "none"
            )
            tiles.append(Tile(f"Leaked {name} pictures", f"{leaked:,}", note))
    if leak is not None:
        note = f"{metric_text('accuracy', leak.accuracy)} with them"
        tiles.append(Tile(f"{leak.part} accuracy without leaks", metric_text("accuracy", leak.without), note))
    tiles.append(Tile("Contradicting labels", f"{len(audit.contradictions):,}", "alike, under two classes"))
    if audit.reviewed:
        tiles.append(Tile("Probably mislabelled", f"{len(audit.doubts):,}", f"of {' and '.join(audit.reviewed)}"))
    tiles.append(Tile("Duplicates", f"{len(audit.duplicates):,}", "like an earlier one of the same part"))
    if audit.grouped:
        tiles.append(Tile("Groups on both sides", f"{len(audit.shared):,}"))
    odd = ", ".join(f"{len(audit.of_kind(kind)):,} {kind}" for kind in ("broken", "tiny", "blank"))
    tiles.append(Tile("To look at", f"{len(audit.odd):,}", odd))
    return tuple(tiles)


def _parts(audit: Audit, used: UsedData) -> Section:
    names = tuple(part.name for part in audit.parts)
    align = "l" + "r" * len(names)
    order = range(len(audit.class_names))
    caption = "Pictures per class and part"
    if len(audit.class_names) > CLASSES:
        caption += f": the {CLASSES} classes with the fewest training pictures, of {len(audit.class_names):,}"
        order = sorted(order, key=lambda label: audit.parts[0].counts[label])[:CLASSES]  # type: ignore[assignment]
    rows = [(literal(audit.class_names[at]), *(f"{part.counts[at]:,}" for part in audit.parts)) for at in order]
    rows.append(("**all**", *(f"**{part.images:,}**" for part in audit.parts)))
    counts = Table(caption, ("class", *names), tuple(rows), align, sortable=False)
    like = Table("What they are like", ("", *names), tuple(_facts(audit.parts)), "l" * (1 + len(names)))
    return Section("Classes, sizes and files", (Paragraph(" ".join(used.drawn)), counts, like), "parts")


def _facts(parts: Sequence[PartFacts]) -> list[tuple[str, ...]]:
    """Return a row per fact, a column per part."""
    return [
        ("sizes", *(f"{part.distinct_sizes:,}" for part in parts)),
        ("most frequent", *(", ".join(f"{w} x {h} ({n:,})" for w, h, n in part.sizes) for part in parts)),
        ("smallest", *("{} x {}".format(*part.smallest) for part in parts)),
        ("largest", *("{} x {}".format(*part.largest) for part in parts)),
        ("wide, high, square", *(", ".join(f"{n:,}" for n in part.shapes) for part in parts)),
        ("stored as", *(", ".join(f"{mode} ({n:,})" for mode, n in part.modes) for part in parts)),
        ("turned by EXIF", *(f"{part.turned:,}" for part in parts)),
    ]


def _how(audit: Audit) -> Section:
    words = "Exact copies are told by a digest of all pixels, whatever the files are called. "
    words += how_found(audit) if audit.near else f"Near duplicates were not looked for: {audit.why_not_near}."
    return Section(
        "How this was found",
        (
            Paragraph(words),
            Paragraph(
                f"It took {duration(audit.seconds)}. Every finding is a line of `{LIST}`, beside this page.", "note"
            ),
        ),
        "how",
    )
