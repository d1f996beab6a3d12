"""`predict`: pictures, folders and tables of them answered, as lines or as a table, in the order one wants."""

from __future__ import annotations

import csv
import io
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from registry import files
from registry.errors import DataError, RecipeError, StorageError
from registry.printing import counted_few, duration, one_line, printable
from registry.spreadsheets import no_formula
from trainer.cli.answerers import answerer_of
from trainer.cli.console import Console
from trainer.cli.inputs import say
from trainer.engine.interrupts import Interrupted, Interrupts
from trainer.export.formats import is_exported
from trainer.run.answering import NOT_SURE, Answerer
from trainer.run.asked import Asked, pictures_in
from trainer.run.folder import RunFolder
from trainer.run.many import Answer, answers
from trainer.run.ranking import RANKINGS, Ranking

DELIMITERS = {".csv": ",", ".tsv": "\t"}  # of tables that are written, by their ending
WORKERS = min(4, os.cpu_count() or 1)  # threads that read pictures
LISTED = 20  # pictures that could not be read, named on the terminal where a table has them all
_PULSE = 10.0  # seconds between lines on how far it is, where no bar shows it


@dataclass(frozen=True)
class Form:
    """How answers are wanted.

    Attributes:
        top: classes named per picture.
        out: the table to write; None for lines on standard output.
        column: of tables, which names the pictures; "" for the usual ones.
        rank: what orders the pictures, a name in `ranking.RANKINGS`; None for the order in which they were asked about.
        workers: threads that read them.
    """

    top: int = 3
    out: Path | None = None
    column: str = ""
    rank: str | None = None
    workers: int = WORKERS


def predict(
    run: Path, words: Sequence[Path], form: Form, calibrated: bool | None = None, abstain_below: float | None = None
) -> int:
    """Answer to pictures, folders and tables, and name at the end what could not be read.

    A signal ends it after the picture in hand; what was answered until then is written, beside a table of before.

    Args:
        run: whose network answers, or an exported file.
        words: files, folders and tables.
        form: how answers are wanted.
        calibrated: as `trainer.load` takes it.
        abstain_below: as `trainer.load` takes it.

    Raises:
        DataError: there is no picture, or some could not be read; all others were answered.
        StorageError: the table cannot be written.
        Interrupted: a signal came.
    """
    if not is_exported(run):
        RunFolder.open(run)  # what is no run is said before what is no picture
    elif form.rank == "diverse":
        raise RecipeError(
            f"{run}: an exported file tells probabilities alone, not what its last layer is given",
            "ask the run itself for --rank diverse, or take --rank uncertain",
        )
    if form.out is not None:
        _refuse_out(form.out, words)
    asked = pictures_in(words, say, form.column)
    loaded = answerer_of(run, calibrated, abstain_below)
    started, stopped = time.perf_counter(), None
    at_once = form.out is None and form.rank is None
    found: list[Answer] = []
    try:
        for answer in _answers(loaded, asked, form, quiet=at_once):
            found.append(answer)
            if at_once and not answer.problem:
                print(_line(loaded, answer, form.top))
    except Interrupted as error:
        stopped = error
    ranking = _ranking(found, form.rank)
    if form.out is not None and stopped is not None and form.out.exists():  # what it holds may be more
        form = replace(form, out=form.out.with_name(f"{form.out.stem}.part{form.out.suffix}"))
    if form.out is not None:
        _write(form.out, _table(loaded, found, ranking, form))
        _say_what(loaded, found, form.out, time.perf_counter() - started)
    elif not at_once:
        for answer in _ordered(found, ranking):
            print(_line(loaded, answer, form.top))
    if stopped is not None:
        say(f"interrupted after {len(found):,} of {len(asked):,} pictures")
        raise stopped
    _tell_unread(found, form.out)
    return 0


def _answers(run: Answerer, asked: Sequence[Asked], form: Form, *, quiet: bool) -> Iterator[Answer]:
    """Yield the answers, and show meanwhile how far it is.

    Raises:
        Interrupted: a signal came.
    """
    with Interrupts().listening() as interrupts, _pulse(len(asked), quiet) as pulse:
        for answer in answers(run, asked, workers=form.workers, features=form.rank == "diverse"):
            interrupts.check()
            pulse()
            yield answer


@contextmanager
def _pulse(total: int, quiet: bool) -> Iterator[Callable[[], None]]:
    """Yield what is called for every answer: on a terminal a bar shows how far it is, elsewhere a line now and then."""
    if quiet:
        yield lambda: None
        return
    console = Console()
    done, said = 0, time.monotonic()
    counted = console.counting("answering", total)

    def pulse() -> None:
        nonlocal done, said
        done += 1
        counted()
        if not console.shows_bars and time.monotonic() - said > _PULSE:
            said = time.monotonic()
            say(f"answered {done:,} of {total:,} pictures")

    with console.bar():
        yield pulse


# -------------------------------------------------------------------------------------------------------------- answers
def _likeliest(run: Answerer, answer: Answer, top: int) -> list[tuple[str, float]]:
    """Return the `top` classes of an answer and their probabilities, best first."""
    assert answer.probabilities is not None
    order = np.argsort(-answer.probabilities, kind="stable")[:top]
    return [(run.class_names[place], float(answer.probabilities[place])) for place in order]


def _said(run: Answerer, answer: Answer) -> str:
    """Return the answer in a word: the likeliest class, or "not sure"."""
    ((name, share),) = _likeliest(run, answer, 1)
    return name if run.sureness.is_sure(share) else NOT_SURE


def _line(run: Answerer, answer: Answer, top: int) -> str:
    found = _likeliest(run, answer, top)
    likeliest = ", ".join(f"{name} {100 * share:.1f} %" for name, share in found)
    told = likeliest if run.sureness.is_sure(found[0][1]) else f"{NOT_SURE} ({likeliest})"
    return one_line(f"{answer.asked.name}: {told}")


def _ranking(found: Sequence[Answer], rank: str | None) -> Ranking | None:
    """Return the order of the answers that there are; None where none is wanted."""
    read = [answer for answer in found if answer.probabilities is not None]
    if rank is None or not read:
        return None
    features = [answer.features for answer in read if answer.features is not None]
    return RANKINGS[rank](
        np.stack([answer.probabilities for answer in read if answer.probabilities is not None]),
        np.stack(features) if features else None,
    )


def _ordered(found: Sequence[Answer], ranking: Ranking | None) -> list[Answer]:
    """Return the answers in their order, without those that there are not."""
    read = [answer for answer in found if not answer.problem]
    return read if ranking is None else [read[place] for place in ranking.order]


# ---------------------------------------------------------------------------------------------------------------- table
def _refuse_out(out: Path, words: Sequence[Path]) -> None:
    """Refuse a table that would not be one, or would take the place of what is asked about.

    Raises:
        RecipeError: it is such a one.
        StorageError: it could not be written once all is answered.
    """
    if out.suffix.lower() not in DELIMITERS:
        raise RecipeError(f"--out {out}: answers are written as {' or '.join(DELIMITERS)}", "as in --out answers.csv")
    if any(word.exists() and out.exists() and word.samefile(out) for word in words):
        raise RecipeError(f"--out {out} is what is asked about, and would be overwritten", "name another file")
    if not out.parent.is_dir():
        raise StorageError(f"{out} cannot be written: there is no folder {out.parent}", "make it, or name another")
    if out.is_dir():
        raise StorageError(f"{out} cannot be written: it is a folder", "name a file")
    try:
        tempfile.TemporaryFile(dir=out.parent).close()
    except OSError as error:
        why = error.strerror or error
        raise StorageError(f"{out} cannot be written: {why}", "name a file in another folder") from error


def _table(run: Answerer, found: Sequence[Answer], ranking: Ranking | None, form: Form) -> str:
    """Return the table: a row per picture in the order asked about; ranked, those that could not be read last."""
    assert form.out is not None
    top = min(form.top, len(run.class_names))
    text = io.StringIO()
    writer = csv.writer(text, delimiter=DELIMITERS[form.out.suffix.lower()], lineterminator="\n")
    named = [f"{what}_{place}" for place in range(1, top + 1) for what in ("class", "probability")]
    measure = [] if ranking is None else [ranking.measure]
    writer.writerow(["file", "answer", *named, *measure, "problem"])
    values = [] if ranking is None else [[f"{ranking.values[place]:.6g}"] for place in ranking.order]
    unread = [answer for answer in found if answer.problem]
    for place, answer in enumerate(found if ranking is None else [*_ordered(found, ranking), *unread]):
        if answer.problem:
            cells = [""] * (1 + len(named) + len(measure))
        else:
            likeliest = _likeliest(run, answer, top)
            shares = [cell for name, share in likeliest for cell in (no_formula(name), f"{share:.6g}")]
            cells = [no_formula(_said(run, answer)), *shares, *(values[place] if values else [])]
        writer.writerow(map(printable, [no_formula(answer.asked.name), *cells, no_formula(answer.problem)]))
    return text.getvalue()


def _write(out: Path, text: str) -> None:
    try:
        files.write(out, text.encode(), below=out.parent)
    except OSError as error:
        raise StorageError(f"{out} cannot be written: {error.strerror or error}", "name another file") from error


def _say_what(run: Answerer, found: Sequence[Answer], out: Path, seconds: float) -> None:
    """Say in a few lines what was written."""
    read = [answer for answer in found if not answer.problem]
    speed = f", {len(read) / seconds:,.0f} pictures/s" if seconds > 1 else ""
    rows = {"answers": f"{out} ({len(read):,} of {len(found):,} pictures, {duration(seconds)}{speed})"}
    counts = Counter(_said(run, answer) for answer in read)
    if counts:
        rows["classes"] = counted_few([f"{name} {count:,}" for name, count in counts.most_common()], most=10)
    Console().table(rows)


def _tell_unread(found: Sequence[Answer], out: Path | None) -> None:
    """Name what could not be read.

    Raises:
        DataError: so it is with one or more.
    """
    unread = [answer for answer in found if answer.problem]
    if not unread:
        return
    if len(found) == 1:
        raise DataError(unread[0].problem)
    shown = unread if out is None else unread[:LISTED]
    for answer in shown:
        say(one_line(answer.problem))
    more = f"; {out} names all in its last column" if len(unread) > len(shown) else ""
    raise DataError(f"{len(unread):,} of {len(found):,} pictures could not be read{more}", "all others were answered")
