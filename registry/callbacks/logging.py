"""Callbacks and sinks that measure or keep numbers: parameter norms, a model summary, a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import torch

from registry import files
from registry.catalogue.adoption import Change
from registry.catalogue.markers import Bounds
from registry.contracts import Callback, View
from registry.norms import norms, sum_of_magnitudes
from registry.printing import printable
from registry.recording import RunInfo, Sink


class ParameterNorms(Callback):
    """Measures the size of the weights every epoch: the sum of |p| and the sum over tensors of their Euclidean norms.

    Args:
        key: the numbers appear as <key>/sum_abs and <key>/sum_norms.
    """

    measures: ClassVar[Sequence[str]] = ("{key}/sum_abs", "{key}/sum_norms")
    change: ClassVar = Change(facts={"owns": "key"})

    def __init__(self, key: str = "parameters") -> None:
        self._key = key

    @torch.no_grad()
    def measure(self, view: View) -> Mapping[str, float]:
        """Return both sums over all parameters, frozen ones too."""
        parameters = [p.detach() for p in view.model.parameters()]
        return {
            f"{self._key}/sum_abs": float(sum_of_magnitudes(parameters)),
            f"{self._key}/sum_norms": float(norms(parameters).sum()),
        }


class ModelSummary(Callback):
    """Writes the network's modules and their parameter counts into the log and the dashboards, once.

    Args:
        max_depth: levels of nested modules to show; 0 shows the total alone.
    """

    def __init__(self, max_depth: Annotated[int, Bounds(min=0)] = 2) -> None:
        self._max_depth = max_depth

    def run_started(self, view: View) -> None:
        """Write the table."""
        lines = ["| module | type | parameters |", "|---|---|---:|"]
        for name, module in view.model.named_modules():
            depth = name.count(".") + 1 if name else 0
            if depth <= self._max_depth:
                count = sum(p.numel() for p in module.parameters())
                lines.append(f"| {name or '(whole)'} | {type(module).__name__} | {count:,} |")
        view.recorder.text("model", "\n".join(lines))


class CSV(Sink):
    """Writes the epochs' rows as a table, for spreadsheets.

    Args:
        file: name of the file inside the run folder; ends in .csv or .tsv.
        delimiter: between columns; one character.
    """

    change: ClassVar = Change(facts={"owns": "file"})

    def __init__(self, file: str = "metrics.csv", delimiter: str = ",") -> None:
        if Path(file).name != file or not file.endswith((".csv", ".tsv")):
            raise ValueError(f"file must be a plain file name that ends in .csv or .tsv, got {file!r}")
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise ValueError(f"delimiter must be one character, no quote and no line's end, got {delimiter!r}")
        self._file, self._delimiter = file, delimiter
        self._rows: list[Mapping[str, str]] = []

    def open(self, run: RunInfo) -> None:
        """Start, with the rows up to where a resumed run continues, whoever has taken them."""
        self._folder, self._path = run.folder, run.folder / self._file
        self._rows = [_cells(row, int(row["epoch"])) for row in run.history]
        self._write()

    def epoch(self, epoch: int, row: Mapping[str, float]) -> None:
        """Add a row; a column that is new stays empty in the rows before."""
        self._rows.append(_cells(row, epoch))
        self._write()

    def _write(self) -> None:
        columns = list(dict.fromkeys(key for row in self._rows for key in row))
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, columns, delimiter=self._delimiter)
        writer.writeheader()
        writer.writerows(self._rows)
        text = printable(table.getvalue())  # whole or not at all: a table cut short would lose rows at a resume
        files.write(self._path, text.encode(), below=self._folder, lasting=False)


def _cells(row: Mapping[str, float], epoch: int) -> dict[str, str]:
    return {key: repr(value) for key, value in {**row, "epoch": epoch}.items()}
