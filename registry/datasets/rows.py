"""Table files to rows: CSV, TSV, JSON lines and Parquet, every row with its line; what is damaged is named by it.

    .csv             UTF-8; the first line names the columns; what separates them is told by the first lines, or by
                     a line `sep=;` above them, as Excel writes it
    .tsv             the same, separated by tabs
    .jsonl, .ndjson  one JSON object per line
    .parquet         read by pyarrow, an extra, a column at a time

Cells are text: spaces around them are cut off, nothing (an empty cell, null, NaN) is "", the number 3.0 is "3". Owns
the files and their forms. Knows nothing of pictures, classes or splits (listed.py).
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from registry import files
from registry.catalogue.suggest import nearest
from registry.errors import DataError
from registry.printing import counted_few

NAMED = 10  # lines that a message names

_CONVERT = {  # what people have tables in -> how to get one that is read
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".numbers"), "save it as CSV (in Excel: CSV UTF-8)"),
    ".json": "write one JSON object per line, and call it .jsonl",
    **dict.fromkeys((".gz", ".zip", ".bz2", ".xz"), "unpack it"),
}
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}  # as messages call them; the first wins a tie
_SAID = re.compile(r'\s*"?sep=([^\w\s"]|\t)"?[ \t]*(?=[\r\n])', re.IGNORECASE)  # Excel's line above the header
_LOOKED_AT = 20  # records that tell a separator
_WHOLE = re.compile(r"[+-]?[0-9]+(\.0+)?")
_UTF8 = "save it as UTF-8; in Excel that is 'CSV UTF-8 (Comma delimited)'"
_NOT_A_TABLE = "tables are .csv, .tsv, .jsonl, .ndjson or .parquet"


@dataclass(frozen=True)
class Rows:
    """A table's rows, read.

    Attributes:
        file: its path, as it was given.
        columns: their names in order; one without a name is "".
        lines: where each row begins, from 1: lines of the file, or of a Parquet file rows.
        unit: "line" or "row".
        cells: returns a column's raw values, one per row, by its name.
        separated: by what its cells are, as messages say it: "commas"; "" where nothing separates them.
    """

    file: str
    columns: tuple[str, ...]
    lines: Sequence[int]
    unit: str
    cells: Callable[[str], Sequence[object]]
    separated: str = ""

    def __len__(self) -> int:
        return len(self.lines)

    def column(self, name: str, argument: str = "") -> list[str]:
        """Return the text of a column's cells, one per row; "" where there is nothing.

        Args:
            name: of the column.
            argument: of the recipe or the command line that names it, for the hint: "data.dataset.image".

        Raises:
            DataError: there is no such column, or two; or a cell is no text, number or truth value.
        """
        if self.columns.count(name) != 1 or not name:
            raise self._no_column(name, argument)
        made = []
        for row, value in enumerate(self.cells(name)):
            if isinstance(value, str):
                made.append(value.strip())
                continue
            text = _text(value)
            if text is None:
                raise DataError(
                    f"{self.at(row)}: column {name!r} holds {_kind(value)}, where text or a number belongs",
                    f"{argument} names the column" if argument else "name another column",
                )
            made.append(text)
        return made

    def names(self, name: str, argument: str = "") -> list[str]:
        """Return a column of classes or groups as `column` does; where all are whole numbers, 3.0 is 3.

        So they are written where a column of numbers has a gap. Where one is no whole number, text stays as it is.
        """
        texts = self.column(name, argument)
        found = [_WHOLE.fullmatch(text) for text in texts if text]
        if all(found) and any(match[1] for match in found if match):
            return [text.partition(".")[0] for text in texts]
        return texts

    def at(self, row: int) -> str:
        """Return where a row stands: "labels.csv:12", or "labels.parquet, row 12"."""
        return place(self.file, self.lines[row], self.unit)

    def named(self, rows: Sequence[int]) -> str:
        """Return where some rows stand, in words: "line 3", "lines 3, 9 and 4 more"."""
        numbers = [str(self.lines[row]) for row in rows]
        return f"{self.unit}{'' if len(numbers) == 1 else 's'} {counted_few(numbers, NAMED)}"

    def _no_column(self, name: str, argument: str) -> DataError:
        if name and name in self.columns:
            return DataError(f"{self.file} has two columns {name!r}", "give each column a name of its own")
        near = nearest(name, self.columns)
        meant = f"did you mean {near[0]!r}? " if near else ""
        named = ", ".join(repr(each) for each in self.columns if each)
        hint = f"{meant}{argument} names the column" if argument else meant.strip()
        mistaken = self.separated and any(mark in each for each in self.columns for mark in _SEPARATORS)
        how = f", separated by {self.separated}" if mistaken else ""
        return DataError(f"{self.file} has no column {name!r}; it has {named}{how}", hint)


def is_table(name: str) -> bool:
    """Say whether a file is a table by its name."""
    return Path(name).suffix.lower() in _READERS


def place(file: str, line: int, unit: str = "line") -> str:
    """Return a place in a table as messages say it."""
    return f"{file}:{line}" if unit == "line" else f"{file}, {unit} {line}"


def read_table(file: str, *, may_be_empty: bool = False) -> Rows:
    """Read a table.

    Args:
        file: its path; the ending says what it is.
        may_be_empty: the names of its columns are enough.

    Returns:
        Its rows, at least one unless it may be empty; rows without any cell are none.

    Raises:
        DataError: there is no such file, it is no such table, has no row, or is damaged; named by line.
    """
    ending = Path(file).suffix.lower()
    if "://" in file:
        raise DataError(f"{file} is an address: tables are read from the disk", "download it first")
    if ending not in _READERS:
        raise DataError(f"{file} is no table that can be read by its name", _CONVERT.get(ending, _NOT_A_TABLE))
    try:
        rows = _READERS[ending](file)
    except OSError as error:
        hint = "" if Path(file).is_absolute() else f"the path is relative to the working directory, {Path.cwd()}"
        missing = isinstance(error, FileNotFoundError)
        said = f"there is no table {file}" if missing else f"{file} cannot be read: {error.strerror or error}"
        raise DataError(said, hint if missing else "") from error
    if not (may_be_empty or len(rows)):
        raise DataError(f"{file} has no rows", "a row per picture belongs below the names of the columns")
    return rows


# ------------------------------------------------------------------------------------------------------------ CSV, TSV
def _read_csv(file: str) -> Rows:
    text = _utf8(file)
    if said := _SAID.match(text):
        return _separated(file, text[: said.start(1)].count("\n") * "\n" + text[said.end() :], said[1])
    return _separated(file, text, max(_SEPARATORS, key=lambda mark: _divides(file, text, mark)))


def _divides(file: str, text: str, separator: str) -> tuple[bool, int]:
    """Return whether a separator divides the first rows as it does the header, in two cells or more; and how many."""
    columns, fits = 0, True
    try:
        for _, record in islice(_records(file, text, separator), _LOOKED_AT):
            columns = columns or len(record)
            fits = fits and _fits(record, columns)
    except DataError:  # told once it is known what separates the cells
        fits = False
    return fits and columns > 1, columns


def _fits(record: Sequence[str], columns: int) -> bool:
    return len(record) >= columns and not any(cell.strip() for cell in record[columns:])


def _read_tsv(file: str) -> Rows:
    return _separated(file, _utf8(file), "\t")


def _utf8(file: str) -> str:
    """Return the text of a file, without a byte order mark."""
    with files.opened(Path(file)) as opened:
        content = opened.read()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{file} is UTF-16, not UTF-8", _UTF8)
    if (zero := content.find(0)) >= 0:
        raise DataError(f"{place(file, content[:zero].count(10) + 1)}: a zero byte: this is no text", _NOT_A_TABLE)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{place(file, line)}: byte {content[error.start]:#x} is not UTF-8", _UTF8) from error


def _separated(file: str, text: str, delimiter: str) -> Rows:
    records, separated = _records(file, text, delimiter), _SEPARATORS.get(delimiter, repr(delimiter))
    _, header = next(records, (0, []))
    names = tuple(cell.strip() for cell in header)
    lines: list[int] = []
    cells: list[list[str]] = [[] for _ in names]
    for line, record in records:
        if not _fits(record, len(names)):
            raise DataError(
                f"{place(file, line)}: {len(record)} cells, but {len(names)} columns have a name in the first line "
                f"(separated by {separated})",
                "a cell that holds the separator, or a line break, needs quotes around it",
            )
        lines.append(line)
        for column, cell in zip(cells, record, strict=False):
            column.append(cell)
    return Rows(file, names, lines, "line", lambda name: cells[names.index(name)], separated)


def _records(file: str, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record that has a cell, with the line it begins in."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    line = 1
    try:
        for record in reader:
            if any(cell.strip() for cell in record):
                yield line, record
            line = reader.line_num + 1
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            raise DataError(
                f"{place(file, line)}: a quote that is opened in this row is never closed",
                'a quote within a cell is written twice: "a 3"" screw"',
            ) from error
        raise DataError(f"{place(file, line)}: {error}", "quotes stand around a whole cell") from error


# ----------------------------------------------------------------------------------------------------------- JSON lines
def _read_json_lines(file: str) -> Rows:
    lines, objects = [], []
    for line, text in enumerate(_utf8(file).split("\n"), start=1):
        if text.strip():
            lines.append(line)
            objects.append(_object(file, line, text))
    names = tuple(dict.fromkeys(name for each in objects for name in each))
    return Rows(file, names, lines, "line", lambda name: [each.get(name) for each in objects])


def _object(file: str, line: int, text: str) -> Mapping[str, object]:
    try:
        value = json.loads(text, object_pairs_hook=_no_key_twice)
    except (ValueError, RecursionError) as error:
        said = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        hint = "one JSON object belongs in each line; a list of them, or one over several lines, is not read"
        raise DataError(f"{place(file, line)}: no JSON: {said}", hint) from error
    if not isinstance(value, dict):
        raise DataError(f"{place(file, line)}: {_kind(value)}, where an object belongs", 'as in {"path": "1.jpg"}')
    return {name.strip(): item for name, item in value.items()}


def _no_key_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands there twice")
    return found


# -------------------------------------------------------------------------------------------------------------- Parquet
def _read_parquet(file: str) -> Rows:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        hint = 'install it: pip install "recipe-trainer[parquet]"; or save the table as CSV'
        raise DataError(f"{file} needs the package pyarrow", hint) from error

    @contextmanager
    def opened() -> Iterator[Any]:
        with files.opened(Path(file)) as content:
            try:
                yield parquet.ParquetFile(content)
            except (ValueError, ArrowException, OSError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # the disk's; pyarrow's own, of a page or a footer it cannot make out, has no number
                said = str(error).partition("\n")[0]
                raise DataError(f"{file} is no whole Parquet file: {said}", "write it again") from error

    def cells(name: str) -> Sequence[object]:
        with opened() as table:
            values: Sequence[object] = table.read(columns=[name]).column(name).to_pylist()
        return values

    with opened() as table:
        names, count = tuple(table.schema_arrow.names), table.metadata.num_rows
    return Rows(file, names, range(1, count + 1), "row", cells)


# ---------------------------------------------------------------------------------------------------------------- cells
def _text(value: object) -> str | None:
    """Return what no text is as text; None where it has none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        text = "" if value.is_nan() else f"{value:f}"  # `normalize` would round to 28 digits
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return None if isinstance(value, (list, tuple, Mapping, bytes)) else str(value)


def _kind(value: object) -> str:
    if isinstance(value, (bytes, Mapping)):
        return "bytes" if isinstance(value, bytes) else "an object"
    return "a list" if isinstance(value, (list, tuple)) else repr(value)


_READERS: Mapping[str, Callable[[str], Rows]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}
