"""The sections that no recipe's `report:` names: expectations, recipe, model, epochs, environment.

Knows the evidence; parts and rendering are elsewhere.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from registry.contracts import Block, Code, Evidence, Paragraph, Section, Table
from registry.printing import literal
from registry.program import typed_as
from trainer.report.model_summary import model_section

__all__ = ["environment_section", "epochs_section", "expectations_section", "model_section", "recipe_section"]

_PERCENT = ("accuracy", "error")
_SAID_ELSEWHERE = ("version", "name", "description")


def recipe_section(evidence: Evidence) -> Section:
    """Return the recipe as a table of settings and as text to copy."""
    rows = tuple(_settings(evidence.resolved))
    caption = "Settings, defaults included; what is not set is left out"
    blocks: list[Block] = [Table(caption, ("setting", "value"), rows)] if rows else []
    blocks.append(Code(evidence.recipe, "yaml"))
    return Section("Recipe", tuple(blocks), "recipe")


def expectations_section(evidence: Evidence) -> Section:
    """Return what the recipe expected of the run, and whether it came so."""
    expect = evidence.summary["expect"]
    verdict = {True: "reached", False: "**missed**"}
    rows = []
    for line in expect["lines"]:
        key, _, band = line["text"].partition(": ")
        value = "not measured" if line["value"] is None else f"{line['value']:.4g}"
        rows.append((key, band, value, "not judged" if expect["not_judged"] else verdict[bool(line["ok"])]))
    blocks: list[Block] = [
        Table("What the recipe expects of a run", ("number", "expected", "measured", "verdict"), tuple(rows))
    ]
    if expect["not_judged"]:
        blocks.append(Paragraph(f"Not judged, because the recipe did not run as written: {expect['not_judged']}."))
    return Section("Expectations", tuple(blocks), "expectations")


def epochs_section(evidence: Evidence) -> Section:
    """Return one row per epoch, as in metrics.jsonl."""
    rows = evidence.history
    if not rows:
        return Section("Epochs", (Paragraph("No epoch was finished.", "note"),), "epochs")
    keys = list(dict.fromkeys(key for row in rows for key in row))
    best = None if evidence.best is None else evidence.best.get("epoch")
    cells = tuple(tuple(_cell(key, row.get(key), best) for key in keys) for row in rows)
    caption = "One row per epoch; the best epoch is bold" if best is not None else "One row per epoch"
    headers = tuple(f"{key} (%)" if _is_percent(key) else key for key in keys)
    return Section("Epochs", (Table(caption, headers, cells, "r" * len(keys)),), "epochs")


def environment_section(evidence: Evidence) -> Section:
    """Return versions and hardware, and the commands that repeat the run from resolved.yaml, overrides included."""
    rows = tuple((key, literal(value)) for key, value in _flat(evidence.environment) if value)
    blocks: list[Block] = [Table("Environment", ("", ""), rows)] if rows else []
    repeat = "To repeat this run with the overrides it was given, or measure its model again:"
    blocks.append(Paragraph(repeat))
    run = shlex.quote(str(evidence.folder))
    fast = " --fast" if evidence.summary.get("fast") else ""
    commands = [
        f"{typed_as()} {run}/resolved.yaml{fast}",
        f"{typed_as()} evaluate {run}",
    ]
    if has_curves(evidence.folder):
        commands.append(f"tensorboard --logdir {shlex.quote(str(evidence.folder.parent))}")
    blocks.append(Code("\n".join(commands), "sh"))
    return Section("Environment and how to repeat this", tuple(blocks), "environment")


def has_curves(run: Path) -> bool:
    """Whether TensorBoard has something to show of a run: its callback may be left out."""
    return any(path.is_file() for path in (run / "tensorboard").rglob("*"))


def _settings(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return (dotted setting, value in words) of a resolved recipe; a component is one row, a list one row per item."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        path = f"{prefix}{key}"
        if value is None or value in ([], {}, "") or path in _SAID_ELSEWHERE:
            continue
        if isinstance(value, Mapping) and "type" not in value:
            rows.extend(_settings(value, f"{path}."))
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            rows.extend((f"{path} {number}", _words(item)) for number, item in enumerate(value, start=1))
        else:
            rows.append((path, _words(value)))
    return rows


def _words(value: Any) -> str:
    """Return a setting's value as text; a component as its type and arguments."""
    if isinstance(value, Mapping):
        rest = ", ".join(f"{key} {_words(item)}" for key, item in value.items() if key != "type")
        name = literal(str(value.get("type", "")))
        return f"**{name}**" + (f" {rest}" if rest else "") if name else rest
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_words(item) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:.6g}" if isinstance(value, float) else literal(str(value))


def _is_percent(key: str) -> bool:
    return any(word in key for word in _PERCENT)


def _cell(key: str, value: float | None, best: float | None) -> str:
    if value is None:
        return ""
    if not math.isfinite(value):
        return str(value)
    if key == "epoch":
        return f"**{value:g}**" if value == best else f"{value:g}"
    if _is_percent(key):
        return f"{100 * value:.2f}"
    return f"{value:.1f}" if key == "seconds" else f"{value:.4g}"


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows.extend(_flat(value, f"{prefix}{key}."))
        elif isinstance(value, Sequence) and not isinstance(value, str):
            rows.append((f"{prefix}{key}", " ".join(map(str, value))))
        else:
            rows.append((f"{prefix}{key}", "" if value is None else str(value)))
    return rows
