"""The sections that no recipe's `report:` names: data, recipe, model, epochs, environment.

Knows the evidence; parts and rendering are elsewhere.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from registry.contracts import (
    Block,
    Code,
    Evidence,
    Figure,
    Gallery,
    Paragraph,
    Section,
    Table,
    UsedData,
)
from registry.printing import literal
from registry.program import typed_as
from registry.reports.pictures import enlarged, file_name, write_png
from trainer.report.model_summary import model_section

__all__ = ["data_section", "date_of", "environment_section", "epochs_section", "model_section", "recipe_section"]

_PERCENT = ("accuracy",)  # as `metric_text` has it
_SAID_ELSEWHERE = ("version", "name", "description")
_MOST_CLASSES = 40  # with a row of their own in the table of the data
_SAMPLE = 96  # px
_MOST_NAMED = 10  # files that could not be read


def date_of(evidence: Evidence) -> str:
    """Return the day on which the run was started, "2026-01-31"; "" where nobody has written it down."""
    return str(evidence.environment.get("started", "")).partition("T")[0]


def data_section(evidence: Evidence) -> Section:
    """Return what images there were, how they were divided, and one of each class."""
    data = evidence.data
    assert data is not None
    total = sum(part.images for part in data.parts)
    where = f" in `{literal(data.place)}`" if data.place else ""
    classes = len(evidence.class_names)
    words = f"**{literal(data.dataset)}**{where}: **{total:,}** images of {classes:,} class{'es' * (classes != 1)}; "
    blocks: list[Block] = [Paragraph(f"{words}{data.pixels}. {' '.join(data.drawn)}")]
    if data.left_out:
        named = ", ".join(f"`{literal(file)}`" for file in data.left_out[:_MOST_NAMED])
        more = ", ..." if len(data.left_out) > _MOST_NAMED else ""
        count = len(data.left_out)
        were = "files could not be read and were" if count > 1 else "file could not be read and was"
        blocks.append(Paragraph(f"{count} {were} left out: {named}{more}.", "warning"))
    blocks.append(_counts(data, evidence.class_names))
    if samples := _samples(evidence):
        blocks.append(samples)
    return Section("Data", tuple(blocks), "data", {part.name: float(part.images) for part in data.parts})


def _counts(data: UsedData, names: Sequence[str]) -> Table:
    """Return images per class and part; of many classes those with the fewest training images."""
    order = sorted(range(len(names)), key=lambda i: data.parts[0].counts[i]) if len(names) > _MOST_CLASSES else None
    shown = range(len(names)) if order is None else order[:_MOST_CLASSES]
    rows = [(literal(names[i]), *(f"{part.counts[i]:,}" for part in data.parts)) for i in shown]
    rows.append(("**all**", *(f"**{part.images:,}**" for part in data.parts)))
    caption = (
        "Images per class and part"
        if order is None
        else (
            f"Images per class and part: the {_MOST_CLASSES} of {len(names):,} classes with the fewest training images"
        )
    )
    return Table(caption, ("class", *(part.name for part in data.parts)), tuple(rows), "l" + "r" * len(data.parts))


def _samples(evidence: Evidence) -> Gallery | None:
    """Write a training image of each class below figures/samples and return them; None where there are none."""
    labels = evidence.sample_classes
    if not labels:
        return None
    figures = []
    for image, label, file in zip(evidence.train_samples, labels, evidence.sample_files, strict=True):
        name = evidence.class_names[label]
        path = f"figures/samples/{label:03d}-{file_name(name)}.png"
        write_png(evidence.folder / path, enlarged(image, _SAMPLE), below=evidence.folder)
        words = f"**{literal(name)}**" + (f" `{literal(file)}`" if file else "")
        figures.append(Figure(path, f"A training image of {name}.", words, width=_SAMPLE))
    whole = len(labels) == len(evidence.class_names)
    of = "each class" if whole else f"{len(labels)} of the {len(evidence.class_names):,} classes"
    return Gallery(tuple(figures), f"The first training image of {of}", 10)


def recipe_section(evidence: Evidence) -> Section:
    """Return what a recipe says beyond the defaults, its text to copy, and all settings."""
    rows = tuple(_settings(evidence.resolved))
    usual = set(_settings(evidence.defaults))
    told = (*(row for row in rows if row not in usual), *_emptied(evidence.resolved, evidence.defaults))
    blocks: list[Block] = []
    if told:
        blocks.append(Table("What differs from the defaults", ("setting", "value"), told))
    blocks.append(Code(evidence.recipe, "yaml"))
    if rows:
        table = Table("Settings, defaults included; what is not set is left out", ("setting", "value"), rows)
        blocks.append(Section("All settings", (table,), "settings", fold="always"))
    return Section("Recipe", tuple(blocks), "recipe")


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
    blocks: list[Block] = []
    run = shlex.quote(str(evidence.folder))
    fast = " --fast" if evidence.summary.get("fast") else ""
    command = evidence.environment.get("command")
    if command:
        blocks += [Paragraph("It was started by"), Code(shlex.join(map(str, command)), "sh")]
    commands = [f"{typed_as()} {run}/resolved.yaml{fast}", f"{typed_as()} evaluate {run}"]
    if has_curves(evidence.folder):
        commands.append(f"tensorboard --logdir {shlex.quote(str(evidence.folder.parent))}")
    blocks.append(
        Paragraph("To repeat it with all that it was given, measure its model again, and look at its curves:")
    )
    blocks.append(Code("\n".join(commands), "sh"))
    rows = tuple((key, literal(value)) for key, value in _flat(evidence.environment) if value and key != "command")
    blocks += [Table("Environment", ("", ""), rows)] if rows else []
    return Section("Environment and how to repeat this", tuple(blocks), "environment")


def has_curves(run: Path) -> bool:
    """Whether TensorBoard has something to show of a run: its callback may be left out."""
    return any(path.is_file() for path in (run / "tensorboard").rglob("*"))


def _settings(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return (dotted setting, value in words) of a resolved recipe; a component is one row, a list one row per item."""
    rows: list[tuple[str, str]] = []
    for key, given in values.items():
        value = [_plain(item) for item in given] if isinstance(given, list) else _plain(given)
        path = f"{prefix}{key}"
        if value is None or value in ([], {}, "") or path in _SAID_ELSEWHERE:
            continue
        if isinstance(value, Mapping) and "type" not in value:
            rows.extend(_settings(value, f"{path}."))
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            rows.extend((f"{path} {number}", _words(item)) for number, item in enumerate(value, start=1))
        else:
            rows.append((path, _words(value)))
    return rows


def _emptied(values: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield a row per setting of a resolved recipe that has a default, and here nothing."""
    for key, usual in defaults.items():
        given = values.get(key, usual)
        if isinstance(usual, Mapping) and isinstance(given, Mapping):
            yield from _emptied(given, usual, f"{prefix}{key}.")
        elif not isinstance(usual, Mapping) and usual not in (None, [], "") and given in (None, [], {}):
            yield f"{prefix}{key}", "none"


def _plain(value: Any) -> Any:
    """Return a component without arguments as its name, which is how a recipe writes it."""
    return value["type"] if isinstance(value, Mapping) and list(value) == ["type"] else value


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
