"""`grade`: hand-ins against the recipe that was given, a line each, as a page and as a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from registry import files
from registry.contracts import Paragraph, Section, Table
from registry.errors import CheckpointError, StorageError
from registry.printing import counted_few, duration, literal, one_line, printable
from registry.spreadsheets import no_formula
from trainer.engine.interrupts import Interrupted
from trainer.recipe.afterwards import RESOLVED
from trainer.report.answer import Answer, Tile
from trainer.report.html import html
from trainer.run.grading import CSV, PAGE, PART, Grade, Grader, hand_ins, with_twins
from trainer.run.proving import broken
from trainer.run.replaying import Replayed

COLUMNS = (
    "who",
    "run",
    "verdict",
    "recipe",
    "seed",
    "data",
    "val",
    "test",
    "expected",
    "files",
    "replay",
    "epochs",
    "time",
)
LONGEST = 40  # letters of a name on the page
SHOWN = ("who", "verdict", "recipe", "data", "val", "test", "expected", "files", "replay")  # on the page
CANNOT = (
    "Files that agree show that nothing was changed by itself: whoever makes up a whole run can make up its chain. An "
    "epoch that a replay finds equal was trained as it says. Equal weights in two hand-ins come of one seed on one "
    "kind of machine, or of a copy; equal times come of a copy alone."
)


def grade(root: Path, grader: Grader, say: Callable[[str], None]) -> bool:
    """Grade the hand-ins in a folder, write grades.html and grades.csv into it; return whether nothing is to look at.

    Raises:
        CheckpointError: it is no folder, or nothing lies in it.
        StorageError: the files cannot be written.
    """
    if (root / RESOLVED).exists():
        raise CheckpointError(f"{root}: is itself a run", f"`verify {root}` looks at one; grade takes the folder above")
    if not root.is_dir():
        raise CheckpointError(f"{root}: is no folder", "hand-ins lie in a folder each, one folder above them all")
    if not any(hand_ins(root)):
        raise CheckpointError(f"{root}: nothing was handed in", "each hand-in is a folder in it, with its run inside")
    done: list[Grade] = []

    def told(one: Grade) -> None:
        done.append(one)
        _write(root, PART, _csv(with_twins(done)))  # replays take hours: what is known stays known
        say(f"{one_line(one.who)}: {_verdict(one)}")

    _write(root, PART, _csv(done))  # a folder that cannot be written is found before anything is repeated
    try:
        grades = grader.grade(root, told)
    except (Interrupted, KeyboardInterrupt):
        several = "" if len(done) == 1 else "s"
        say(f"interrupted after {len(done)} hand-in{several}; what was found is in {root / PART}")
        raise
    _write(root, CSV, _csv(grades))
    _write(root, PAGE, _page(grades, grader, root))
    (root / PART).unlink(missing_ok=True)
    for one in grades:
        if one.copies:
            say(f"{one_line(one.who)}: {one_line(f'a copy of {counted_few(one.copies)}')}")
    say(f"{sum(not one.remarks for one in grades)} of {len(grades)} without a remark; {root / PAGE}, {root / CSV}")
    return not any(one.remarks for one in grades)


def _write(root: Path, name: str, text: str) -> None:
    try:
        files.write(root / name, printable(text).encode(), below=root)
    except OSError as error:
        raise StorageError(f"{root}: cannot be written ({error.strerror or error})") from error


def _verdict(one: Grade) -> str:
    count = len(one.remarks)
    return "nothing to remark" if not count else one_line(one.remarks[0]) + (f" (+{count - 1})" if count > 1 else "")


def _row(one: Grade) -> tuple[str, ...]:
    """Return a hand-in's line, in the order of `COLUMNS`."""
    if one.problem:
        return (one.who, str(one.run), "look", *["-"] * (len(COLUMNS) - 3))
    reached = sum(verdict.ok for verdict in one.verdicts)
    return (
        one.who,
        str(one.run),
        "look" if one.remarks else "sound",
        "as given" if not one.differs else f"differs ({len(one.differs)})",
        "-" if one.seed is None else str(one.seed),
        {"yes": "as given", "no": "others", "unknown": "not told"}[one.same_data],
        _per_cent(one.best),
        _per_cent(one.test),
        f"{reached} of {len(one.verdicts)}" if one.verdicts else "-",
        _files(one),
        _replays(one.replayed),
        str(one.epochs),
        "-" if one.seconds is None else duration(one.seconds),
    )


def _files(one: Grade) -> str:
    if broken(one.checks):
        return "do not agree"
    return "agree" if any(check.name == "chain" and check.outcome == "holds" for check in one.checks) else "no chain"


def _replays(replayed: Sequence[Replayed]) -> str:
    kinds = {kind: sum(each.verdict == kind for each in replayed) for kind in ("equal", "close", "other")}
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count) or "-"


def _per_cent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def _csv(grades: Sequence[Grade]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow((*COLUMNS, "remarks", "same weights as"))
    for one in grades:
        cells = (*_row(one), "; ".join(one.remarks), counted_few(one.twins))
        writer.writerow([no_formula(one_line(cell)) for cell in cells])
    return text.getvalue()


def shortened(name: str) -> str:
    """Return a name in at most `LONGEST` letters, cut in its middle."""
    half = LONGEST // 2
    return name if len(name) <= LONGEST else f"{name[:half]}...{name[-half:]}"


def _cell(text: str) -> str:
    return literal(one_line(text))


def _page(grades: Sequence[Grade], grader: Grader, root: Path) -> str:
    lines = [dict(zip(COLUMNS, _row(one), strict=True)) for one in grades]
    for line in lines:  # somebody's second run is told from the first
        several = sum(one.who == line["who"] for one in grades) > 1
        line["who"] = shortened(f"{line['who']}, {Path(line['run']).name}" if several else line["who"])
    rows = tuple(tuple(_cell(line[column]) for column in SHOWN) for line in lines)
    table = Table("A line per run", SHOWN, rows, "llllrrrll")
    remarks = [(shortened(one.who), text) for one in grades for text in one.remarks]
    found = Table("", ("who", "remark"), tuple((_cell(who), _cell(text)) for who, text in remarks))
    alike = [(shortened(one.who), one.run.name, counted_few(one.twins)) for one in grades if one.twins]
    same = Table("", ("who", "run", "same weights as"), tuple(tuple(map(_cell, line)) for line in alike))
    sections = [
        Section("Hand-ins", (table,), "hand-ins"),
        Section("What to look at", (found,) if remarks else (Paragraph("Nothing."),), "remarks"),
        *([Section("The same weights", (same,), "twins")] if alike else []),
        Section("What this can show", (Paragraph(CANNOT),), "proof"),
    ]
    sound = sum(not one.remarks for one in grades)
    best = max((one.best for one in grades if one.best is not None and not broken(one.checks)), default=None)
    tiles = (
        Tile("Runs handed in", str(len(grades)), f"by {len({one.who for one in grades})}"),
        Tile("Without a remark", str(sound)),
        Tile("Best on validation", _per_cent(best)),
    )
    answer = Answer("", tiles, literal(f"Held against {grader.recipe.file}."), ())
    return html(f"Hand-ins for {grader.recipe.name}", answer, sections, root, kind="Hand-ins")
