"""Which pictures somebody asks about: files, all that lie in a folder, and those that a table names.

Knows names, not pixels: whether a file is a picture is seen when it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from registry import files
from registry.datasets.folder import pictures_below
from registry.datasets.listed import located
from registry.datasets.rows import is_table, read_table
from registry.errors import DataError
from registry.spreadsheets import as_meant

COLUMNS = ("image", "path", "file", "filename", "picture")  # the first that a table has names its pictures


@dataclass(frozen=True)
class Asked:
    """A picture that is asked about.

    Attributes:
        path: of its file.
        name: what answers call it: as it was written.
        line: where it stands in a table, "labels.csv:12"; "" where in none.
        problem: why there is nothing to read; "" where there may be.
    """

    path: Path
    name: str
    line: str = ""
    problem: str = ""


def pictures_in(words: Sequence[Path], note: Callable[[str], None], column: str = "") -> list[Asked]:
    """Return the pictures that words of a command line mean, in their order: a folder's by name, a table's by row.

    Args:
        words: files, folders and tables.
        note: told of files that a folder holds beside pictures.
        column: of tables, which names the pictures; "" for the first of `COLUMNS` that there is.

    Raises:
        DataError: a word is no file and no folder, a folder holds no picture, or a table cannot be read.
    """
    return [asked for word in words for asked in _of(word, note, column)]


def _of(word: Path, note: Callable[[str], None], column: str) -> Iterator[Asked]:
    if word.is_dir():
        found, remarks = pictures_below(str(word))
        for remark in remarks:
            note(remark)
        if not found:
            hint = "a folder's pictures are told by their names: .jpg, .png, .webp, ..."
            raise DataError(f"{word} holds no picture", hint)
        yield from (Asked(Path(path), path) for path in found)
        return
    require_picture(word)
    yield from _in_table(word, column) if is_table(str(word)) else [Asked(word, str(word))]


def _in_table(table: Path, column: str) -> Iterator[Asked]:
    """Yield the pictures of a table's rows; a row without one has its place, too."""
    rows = read_table(str(table))
    if not column:
        column = next((name for name in COLUMNS if name in rows.columns), COLUMNS[0])
    for row, cell in enumerate(rows.column(column, "--column")):
        name = as_meant(cell)  # a table of answers keeps spreadsheets from taking =1.png for a formula
        line, problem, path = rows.at(row), "", Path()
        if name:
            try:
                path = Path(located(name, str(table.parent)))
            except DataError as error:  # an address, say
                problem = error.message
        yield Asked(path, name or line, line, problem if name else f"no path in column {column!r}")


def require_picture(picture: Path) -> None:
    """Refuse what is no plain file, before a network is loaded; a pipe would be waited for.

    Raises:
        DataError: it is none.
    """
    try:
        files.require_plain(picture.stat().st_mode, picture)
    except OSError as error:
        raise DataError(f"{picture} cannot be read: {error.strerror or error}") from error
