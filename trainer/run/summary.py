"""What can be relied on in a summary.json: numbers that are finite, in the shape in which a run writes them.

A number that is not defined (the AUROC of one class) is null in the file, and a file may have been edited by hand.
Whoever takes numbers from one reads it through here, so that what is no number is missing for everyone alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_MOST = 1e300  # whole numbers in a file may have any number of digits
_WEIGHTS = ("best", "final")  # whose numbers on a test split stand under `test`


def sound(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a summary.json holds without what has not the type that a run writes.

    Args:
        stored: as the file has it.

    Returns:
        `best`, `final` and `images` by name, finite numbers alone, and accuracies from 0 to 1; `test` the same, by
        weights; `lr_finder` with a `lr` that is a finite number, or without one; `calibration` with a temperature
        above 0; what is no such section, or `expect` without its lines, is left out.
    """
    found = {}
    for key, value in stored.items():
        kept = _SHAPES[key](value) if key in _SHAPES else value
        if kept is not None:
            found[key] = kept
    return found


def chosen(rows: Sequence[Mapping[str, Any]], metric: str, mode: str) -> Mapping[str, Any] | None:
    """Return the row of the epoch that a metric chooses, as the training loop does; None where none can be chosen.

    Args:
        rows: of metrics.jsonl, by epoch; of epochs alike the first is taken.
        metric: key.
        mode: "max" where greater is better, "min" where less is.
    """
    known = [row for row in rows if is_number(row.get(metric)) and is_number(row.get("val/loss", 0))]
    return (max if mode == "max" else min)(known, key=lambda row: row[metric], default=None)


def is_number(value: object) -> bool:
    """Whether a value of a JSON file is a finite number."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return abs(value) < _MOST and math.isfinite(value)


def _number(value: Any) -> Any:
    return value if is_number(value) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _numbers(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, Mapping):
        return None
    return {key: each for key, each in value.items() if is_number(each) and _may_be(str(key), each)}


def _may_be(key: str, number: float) -> bool:
    """Whether a number can be what its name says: an accuracy is a share."""
    return key.rpartition("/")[2] != "accuracy" or 0 <= number <= 1


def _by_weights(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, Mapping):
        return None
    inner = {key: _numbers(each) if key in _WEIGHTS else _number(each) for key, each in value.items()}
    return {key: each for key, each in inner.items() if each is not None}


def _finding(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, Mapping):
        return None
    return {key: each for key, each in value.items() if key != "lr" or is_number(each)}


def _calibration(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, Mapping) or not is_number(value.get("temperature")) or value["temperature"] <= 0:
        return None
    return {**value, **{key: _numbers(value.get(key)) or {} for key in ("nll", "ece")}}


def _expect(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, Mapping) or not isinstance(value.get("lines"), list):
        return None
    lines = [line for line in value["lines"] if isinstance(line, Mapping) and isinstance(line.get("text"), str)]
    each = [{**line, "value": _number(line.get("value")), "ok": bool(line.get("ok"))} for line in lines]
    return {**value, "lines": each, "not_judged": str(value.get("not_judged") or "")}


_SHAPES: Mapping[str, Callable[[Any], Any]] = {
    "metric": _text,
    "best": _numbers,
    "final": _numbers,
    "images": _numbers,
    "test": _by_weights,
    "lr_finder": _finding,
    "calibration": _calibration,
    "expect": _expect,
    **dict.fromkeys(("seconds", "epochs", "steps", "seed", "parameters"), _number),
}
