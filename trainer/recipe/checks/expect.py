"""`expect:`: what a run must reach, as bands of metrics, read here and judged at the end of a run.

    "best val/accuracy": ">= 0.9175"     "epoch 1 train/accuracy": "0.48 +- 0.03"     "lr drop 1 epoch": "18..35"

Owns the little language of keys and bands. Which metrics exist is consistency.py's to check.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from registry.patterns import matches
from trainer.recipe.checks.check import BANDS
from trainer.recipe.problems import Collector, shown
from trainer.recipe.reading.nodes import MapNode, Node, Scalar, plain
from trainer.recipe.recipe import Expectation, Origin, Recipe

_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_WHEN = re.compile(r"(?:(best|final|epoch [1-9]\d*) )?(\S+)")
_DROP = re.compile(r"lr drop [1-9]\d* epoch")
_FREE = (  # may differ, and the run is still as written
    *("data.dataset.root", "data.dataset.file", "name", "description", "train.device", "data.workers"),
    *("report", "report.**", "answers", "answers.**", "train.checkpoint", "train.checkpoint.**"),
)


@dataclass(frozen=True)
class Verdict:
    """How one expectation came out.

    Attributes:
        expectation: what was expected.
        value: what the run reached; None where it has no such number.
        ok: whether it lies in the band.
    """

    expectation: Expectation
    value: float | None
    ok: bool


def expectations(node: Node | None, problems: Collector) -> tuple[Expectation, ...]:
    """Return the bands of a recipe's `expect` section; report those that cannot be read."""
    found = []
    for key, entry in node.entries.items() if isinstance(node, MapNode) else ():
        if not isinstance(entry.node, Scalar) or not isinstance(entry.node.value, str):
            continue  # its type has been reported
        made = _expectation(key, entry.key, entry.node, problems)
        if made is not None:
            found.append((made, entry))
    for i, (later, entry) in enumerate(found):
        for earlier, _ in found[:i]:
            if (earlier.when, earlier.key) == (later.when, later.key) and _disjoint(earlier, later):
                text = f"expect: '{later.text}' contradicts '{earlier.text}' in line {earlier.origin.line}"
                problems.report("R062", entry.node.origin, text, path="expect")
    return tuple(expectation for expectation, _ in found)


def _expectation(key: str, place: Origin, node: Scalar, problems: Collector) -> Expectation | None:
    when, metric = _key(key)
    if not when:
        hint = "as in 'best val/accuracy', 'epoch 3 train/loss', 'lr drop 1 epoch'"
        problems.report("R060", place, f"expect: '{key}' cannot be read", hint=hint, path="expect")
        return None
    low, high = _band(str(node.value))
    if (low is None and high is None) or any(limit is not None and math.isinf(limit) for limit in (low, high)):
        text = f"expect: {shown(plain(node))} is no band"
        problems.report("R061", node.origin, text, hint=BANDS, path="expect")
        return None
    if low is not None and high is not None and low > high:
        problems.report("R062", node.origin, f"expect: nothing lies in '{node.value}'", path="expect")
        return None
    return Expectation(when, metric, low, high, f"{key}: {node.value}", place)


def _key(key: str) -> tuple[str, str]:
    """Return when and what; ("", "") where the key cannot be read. A bare metric means the final value."""
    key = " ".join(key.split())
    if _DROP.fullmatch(key):
        return key, ""
    found = _WHEN.fullmatch(key)
    return (found.group(1) or "final", found.group(2)) if found else ("", "")


def _band(text: str) -> tuple[float | None, float | None]:
    """Return the limits of a band, None for no limit; (None, None) where it cannot be read."""
    text = text.strip()
    if found := re.fullmatch(rf"(>=|<=)\s*{_NUMBER}", text):
        limit = float(found.group(2))
        return (limit, None) if found.group(1) == ">=" else (None, limit)
    if found := re.fullmatch(rf"{_NUMBER}\s*(?:\+-|±)\s*{_NUMBER}", text):
        middle, width = float(found.group(1)), float(found.group(2))
        return middle - width, middle + width
    if found := re.fullmatch(rf"{_NUMBER}\s*\.\.\s*{_NUMBER}", text):
        return float(found.group(1)), float(found.group(2))
    return None, None


def _disjoint(one: Expectation, other: Expectation) -> bool:
    lows = [e.low for e in (one, other) if e.low is not None]
    highs = [e.high for e in (one, other) if e.high is not None]
    return bool(lows and highs) and max(lows) > min(highs)


# ------------------------------------------------------------------------------------------------------------- judging
def judge(
    expected: Sequence[Expectation], history: Sequence[Mapping[str, float]], summary: Mapping[str, Any]
) -> list[Verdict]:
    """Hold a finished run against its bands.

    Args:
        expected: the recipe's bands.
        history: one row per epoch, as in metrics.jsonl; `epoch` counts from 1.
        summary: as in summary.json; `best` is the best epoch's row, `test` what was reached on a test split held out.
    """
    return [verdict_on(one, _reached(one, history, summary)) for one in expected]


def verdict_on(expected: Expectation, value: float | None) -> Verdict:
    """Hold one number, or the lack of it, against a band."""
    if value is None or not math.isfinite(value):
        return Verdict(expected, value, ok=False)
    slack = 1e-9 * max(1.0, abs(value))  # 0.48 + 0.03 is 0.51 for people
    above = expected.low is None or value >= expected.low - slack
    below = expected.high is None or value <= expected.high + slack
    return Verdict(expected, value, above and below)


def _reached(expected: Expectation, history: Sequence[Mapping[str, float]], summary: Mapping[str, Any]) -> float | None:
    if expected.when.startswith("lr drop"):
        return _drop(int(expected.when.split()[2]), history)
    if expected.when == "best":
        row: Mapping[str, Any] = summary.get("best") or {}
    elif expected.when == "final":
        row = {**(history[-1] if history else {}), **(summary.get("final") or {})}
    else:
        epoch = int(expected.when.split()[1])
        row = next((one for one in history if one.get("epoch") == epoch), {})
    if expected.key.startswith("test/") and expected.key not in row:
        row = _test_row(summary, expected.when)
    value = row.get(expected.key)
    return float(value) if isinstance(value, (int, float)) else None


def _test_row(summary: Mapping[str, Any], when: str) -> dict[str, Any]:
    """Return what was reached on the held-out test split as "test/accuracy": ..., of the best or the final weights."""
    test = summary.get("test") or {}
    inner = test.get(when, test)
    return {f"test/{key.removeprefix('test/')}": value for key, value in inner.items()}


def _drop(number: int, history: Sequence[Mapping[str, float]]) -> float | None:
    """Return the first epoch that ran with the learning rate lowered for the `number`-th time."""
    lrs = [(row["epoch"], row["lr"]) for row in history if row.get("lr") is not None and "epoch" in row]
    drops = [epoch for (_, before), (epoch, lr) in pairwise(lrs) if lr < before]
    return float(drops[number - 1]) if len(drops) >= number else None


def not_judged_because(recipe: Recipe) -> str:
    """Say why a run cannot be held against the recipe's bands: it did not run as written. "" where it did."""
    if recipe.fast:
        return "--fast"
    changed = [argument.partition("=")[0] for argument in recipe.overrides]
    changed = [key for key in changed if not any(matches(pattern, key) for pattern in _FREE)]
    return f"{', '.join(changed)} set on the command line" if changed else ""
