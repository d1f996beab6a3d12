"""Table: the reader's own images, listed in a spreadsheet or another table, a row per image.

Owns how a listed image is opened and named. What the rows say is listed.py, how a table file is read rows.py, how an
image file becomes pixels decoding.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from registry.catalogue.adoption import Change
from registry.catalogue.markers import Bounds, Text
from registry.contracts import DataFacts, FromArgument
from registry.datasets.decoding import FULL, Background, Decoding, Factor, content_of, endings_of
from registry.datasets.layout import SPLITS
from registry.datasets.listed import Columns, OnBadImage, listed
from registry.datasets.rows import place, read_table
from registry.errors import DataError


class Table:
    """Images listed in a table, a row each: CSV, TSV, JSON lines, or Parquet (which needs pyarrow).

    Relative paths begin in `root`, by default in the table's own folder. A row that cannot be used (no such picture, no
    label, a picture listed twice, under two labels or in two splits) is told by its line; `data.on_bad_image` decides.

    Args:
        file: the table, relative to the working directory: .csv, .tsv, .jsonl, .ndjson or .parquet.
        image: the column of the images' paths.
        target: the column of the classes' names.
        split: the column that says train, val or test; omitted: all rows are the training split.
        group: the column of what belongs together, as a patient: a share that `data.val` cuts off keeps it whole.
        root: folder in which relative paths begin, relative to the working directory; omitted: the table's own.
        classes: those that count, in this order; omitted: all labels of training rows, in natural order (2 before 10).
        extensions: endings that are tried, in this order, where the table leaves the files' endings out.
        channels: 3 for RGB, 1 for grey.
        bits: of deep images, 12 or 14 in files of 16: the greatest value of so many bits becomes 255.
        white_level: the same as a value, 4095 for 12 bits; 65535 keeps the upper 8 bits. 8-bit images stay as they are.
        background: what shows through transparent pixels: white, black or an RGB colour.
        part: "train", "val" or "test".
        download: there is nothing to fetch; taken so that all datasets open alike.
        on_bad_image: "fail" at a row that cannot be used, or "skip" it.
    """

    facts = DataFacts(
        splits=dict.fromkeys(SPLITS),
        channels=3,
        follows={"channels": FromArgument("channels"), "class_names": FromArgument("classes")},
    )
    change = Change(
        user=("split",),
        engine={
            "part": "data.val and the stages pick the split",
            "on_bad_image": "data.on_bad_image says it for all images",
        },
    )

    def __init__(
        self,
        file: Annotated[str, Text("path")],
        image: str = "image",
        target: str = "label",
        split: str | None = None,
        group: str | None = None,
        root: Annotated[str, Text("path")] | None = None,
        classes: Sequence[str] | None = None,
        extensions: Sequence[str] | None = None,
        channels: Literal[1, 3] = 3,
        bits: Annotated[int, Bounds(min=8, max=16)] | None = None,
        white_level: Annotated[int, Bounds(min=255, max=FULL)] = FULL,
        background: Background = "white",
        *,
        part: str,
        download: bool,
        on_bad_image: OnBadImage = "fail",
    ) -> None:
        del download  # the images are the reader's own
        self.group = group or ""
        self._file = file
        self._decoding = Decoding.of(white_level, bits, channels, background)
        rows = read_table(file)
        self._content, self._columns = _digest_of(file), dict[str, list[str]]()
        found = listed(
            rows,
            Columns(image, target, split or "", self.group),
            part,
            folder=root or os.path.dirname(file),  # noqa: PTH120
            classes=classes,
            endings=endings_of(extensions),
            on_bad_image=on_bad_image,
        )
        self.class_names: Sequence[str] = found.class_names
        self.targets: NDArray[np.int64] = np.array(found.targets, dtype=np.int64)
        self._rows = np.array(found.rows, dtype=np.int64)
        self._lines, self._unit = np.array(rows.lines, dtype=np.int64)[self._rows], rows.unit
        self._paths = found.paths
        self._listing = [(name, *size) for name, size in zip(found.names, found.sizes, strict=True)]
        self._remarks = found.remarks
        self._counts = found.counts

    def image(self, index: int) -> NDArray[np.uint8]:
        """Decode image `index`, uint8 (H, W, C)."""
        return self._read(index)

    def content(self, index: int) -> bytes:
        """Return the bytes of image `index`'s file."""
        return content_of(self._paths[index])

    def reduced(self, index: int, factor: Factor) -> NDArray[np.uint8]:
        """Decode image `index` smaller where its format can: by what `factor` says of its (height, width)."""
        return self._read(index, factor)

    def _read(self, index: int, factor: Factor | None = None) -> NDArray[np.uint8]:
        try:
            return self._decoding.read(self._paths[index], factor)
        except DataError as error:
            raise DataError(f"{self.line(index)}: {error.message}", error.hint) from error

    def describe(self, index: int) -> str:
        """Return the path of image `index`."""
        return self._paths[index]

    def line(self, index: int) -> str:
        """Return where image `index` stands in the table: "labels.csv:12"."""
        return place(self._file, int(self._lines[index]), self._unit)

    def column(self, name: str) -> Sequence[str]:
        """Return another column of the table, one text per image, "" where it says nothing; read when asked for.

        Raises:
            DataError: there is no such column, or the table is another one by now.
        """
        if name not in self._columns:
            if _digest_of(self._file) != self._content:
                raise DataError(f"{self._file} has changed since it was opened", "start again once it is written")
            cells = read_table(self._file).names(name, "data.val.group")
            self._columns[name] = [cells[row] for row in self._rows]
        return self._columns[name]

    def count_of(self, split: str) -> int:
        """Return how many rows of a split can be used, as far as the table tells."""
        return self._counts.get(split, 0)

    def packed(self) -> None:
        """Return None: images are read one by one."""
        return

    def listing(self) -> Sequence[tuple[str, int, int]]:
        """Return (path as the table has it, bytes, stamp) per image."""
        return self._listing

    @property
    def decoding(self) -> str:
        """How files become pixels; part of the key of their cache."""
        return self._decoding.key

    def remarks(self) -> Sequence[str]:
        """Say which rows were left out, and what becomes of images that are not plain 8-bit RGB, for the run's log."""
        return [*self._remarks, *self._decoding.remarks(len(self._paths), self.describe)]


def _digest_of(file: str) -> str:
    try:
        return blake2b(Path(file).read_bytes(), digest_size=16).hexdigest()
    except OSError:  # gone: another one
        return ""
