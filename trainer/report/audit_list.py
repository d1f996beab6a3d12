"""audit.csv and fixes.csv: every finding of an audit and every doubted label, a line each, for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from registry.audited import FIX_COLUMNS, Alike, Audit, Picture
from registry.printing import printable
from registry.spreadsheets import no_formula

COLUMNS = (
    *("finding", "picture", "part", "class", "like", "its part", "its class"),
    *("exact", "correlation", "mirrored", "group", "note"),
)


def csv_of(audit: Audit) -> str:
    """Return the text of audit.csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for kind, pairs in (
        ("leak", audit.leaks),
        ("contradiction", audit.contradictions),
        ("duplicate", audit.duplicates),
    ):
        for pair in pairs:
            writer.writerow([kind, *_pair(pair, audit)])
    for shared in audit.shared:
        words = ", ".join(f"{count} {part}" for part, count in shared.counts)
        writer.writerow(
            ["group on both sides", *_picture(shared.example, audit), *[""] * 6, no_formula(shared.group), words]
        )
    for odd in audit.odd:
        writer.writerow([odd.kind, *_picture(odd.picture, audit), *[""] * 7, no_formula(odd.why)])
    return printable(text.getvalue())


def fixes_of(audit: Audit) -> str:
    """Return the text of fixes.csv: a line per label that is probably wrong, the decision left open."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIX_COLUMNS)
    names = audit.class_names
    for doubt in audit.doubts:
        words = (doubt.picture.name, names[doubt.picture.label], names[doubt.suggested], "")
        writer.writerow([*map(no_formula, words), f"{doubt.confidence:.3f}", doubt.picture.part])
    return printable(text.getvalue())


def _pair(pair: Alike, audit: Audit) -> Iterator[str]:
    yield from _picture(pair.first, audit)
    yield from _picture(pair.second, audit)
    yield from ("yes" if pair.exact else "no", f"{pair.likeness:.3f}", "yes" if pair.mirrored else "no")
    yield from (str(pair.group), "")


def _picture(picture: Picture, audit: Audit) -> Iterator[str]:
    known = 0 <= picture.label < len(audit.class_names)
    yield from (no_formula(picture.name), picture.part)
    yield no_formula(audit.class_names[picture.label]) if known else ""
