"""What the page opens with: how good, by what evidence, at what cost, and what to beware of.

Reads the evidence and puts it in words; renders nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from registry.contracts import Evidence
from registry.printing import duration, literal
from registry.printing import metric_text as said


@dataclass(frozen=True)
class Tile:
    """One number of the answer.

    Attributes:
        label: what it is.
        value: the number, as text.
        note: the evidence for it.
    """

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Answer:
    """The top of the page.

    Attributes:
        description: the recipe's own sentence; "" where it has none.
        tiles: numbers, the most important first.
        verdict: one paragraph.
        warnings: what to beware of, one sentence each.
    """

    description: str
    tiles: tuple[Tile, ...]
    verdict: str
    warnings: tuple[str, ...]


def answer_of(evidence: Evidence) -> Answer:
    """Return the answer that `evidence` allows."""
    tiles = [*_quality(evidence), *_learning_rate(evidence), *_cost(evidence)]
    return Answer(evidence.description, tuple(tiles), _verdict(evidence), tuple(evidence.warnings))


def is_look(evidence: Evidence) -> bool:
    """Whether a model is only looked at: pictures explained, nothing trained."""
    return not evidence.history and evidence.predictions is not None


def best_metric(resolved: Mapping[str, Any]) -> str:
    """Return the key of the metric that chose the best epoch."""
    return str(_at(resolved, "train", "best", "metric") or "val/accuracy")


def _quality(evidence: Evidence) -> list[Tile]:
    if evidence.predictions is not None and is_look(evidence):
        return [Tile("Images", f"{len(evidence.predictions.targets):,}", evidence.split)]
    if not evidence.history:
        return [Tile("Result", "none", "no epoch was finished")]
    key = best_metric(evidence.resolved)
    word, last = key.removeprefix("val/").removeprefix("train/"), evidence.history[-1]
    tiles = []
    held_out = _held_out(evidence, word)
    if held_out is not None:
        tiles.append(Tile(f"{evidence.split} {word}", said(key, held_out), "held out: it played no part in any choice"))
    if evidence.best is not None and key in evidence.best:
        note = f"epoch {evidence.best['epoch']:g} of {len(evidence.history)}, chosen on {evidence.selected_on}"
        tiles.append(Tile(f"Best {word}", said(key, evidence.best[key]), note))
    if key in last:
        tiles.append(
            Tile(
                f"Final {word}",
                said(key, last[key]),
                f"after epoch {last['epoch']:g}, on {evidence.selected_on}",
            )
        )
    augmented = _test_time_augmented(evidence, word)
    if augmented is not None:
        tiles.append(
            Tile(
                f"{word.capitalize()} with TTA",
                said(key, augmented),
                f"test-time augmentation, best weights, on {evidence.split}",
            )
        )
    return tiles


def _test_time_augmented(evidence: Evidence, metric: str) -> float | None:
    """Return `metric` of the best weights with test-time augmentation; None where the recipe asks for none."""
    tested = evidence.summary.get("test")
    if tested is not None:
        value = tested.get("best", {}).get(f"tta/{metric}")
    else:
        value = (evidence.summary.get("best") or {}).get(f"val/tta/{metric}")
    return value if isinstance(value, float) else None


def _held_out(evidence: Evidence, metric: str) -> float | None:
    """Return `metric` on a split that chose nothing; None where the report is of the split that chose."""
    if evidence.predictions is None or evidence.split == evidence.selected_on:
        return None
    return evidence.predictions.metrics.get(metric)


def _learning_rate(evidence: Evidence) -> list[Tile]:
    finding = evidence.finding
    if finding is None:
        lr = _at(evidence.resolved, "optimizer", "lr")
        return [Tile("Learning rate", f"{lr:.4g}", "given by the recipe")] if isinstance(lr, (int, float)) else []
    if finding.lr is None:
        return [Tile("Learning rate", "not found", "the sweep was inconclusive")]
    note = "found" if finding.status == "found" else "assumed"
    return [Tile("Learning rate", f"{finding.lr:.4g}", f"{note} by the rule {finding.pick}")]


def _cost(evidence: Evidence) -> list[Tile]:
    seconds = sum(row.get("seconds", 0.0) for row in evidence.history)
    return [Tile("Training time", duration(seconds), hardware(evidence.environment))] if seconds else []


def hardware(environment: Mapping[str, Any]) -> str:
    """Return the device in a few words, from whatever `environment` calls it; "" where it does not say."""
    flat = dict(_leaves(environment))
    for word in ("gpu", "device_name", "device", "cpu", "processor"):
        for key, value in flat.items():
            if key.split(".")[-1] == word and isinstance(value, str) and value:
                return value
    return ""


def _verdict(evidence: Evidence) -> str:
    model = literal(_name(evidence.resolved.get("model")))
    data = literal(_name(_at(evidence.resolved, "data", "dataset")))
    if is_look(evidence):
        return "A trained model looks at images; nothing was trained for this page."
    if not evidence.history:
        return f"The run of **{model}** on **{data}** ended before its first epoch; there is nothing to judge."
    key = best_metric(evidence.resolved)
    word = key.removeprefix("val/").removeprefix("train/")
    epochs = len(evidence.history)
    text = f"**{model}** was trained on **{data}** for {epochs} epoch{'s' * (epochs > 1)}. "
    if evidence.best is None:
        text += f"No epoch has both a finite validation loss and a finite {word}, so there are no best weights: "
        text += "this page speaks of the final ones. "
    elif key in evidence.best:
        best, last = evidence.best, evidence.history[-1]
        text += f"Its best {word} on {evidence.selected_on} is **{said(key, best[key])}**, at epoch {best['epoch']:g}; "
        text += f"the last epoch has {said(key, last.get(key, math.nan))}. "
    held_out = _held_out(evidence, word)
    if held_out is not None:
        which = "final" if evidence.best is None else "best"
        text += f"On {evidence.split}, which took no part in any choice, the {which} weights reach "
        text += f"**{said(key, held_out)}**. "
    if evidence.warnings:
        count = len(evidence.warnings)
        text += f"Read the {count} warning{'s' * (count > 1)} below before you rely on it."
    return text.strip()


def _name(component: object) -> str:
    return str(component.get("type", "a model")) if isinstance(component, Mapping) else str(component or "a model")


def _at(values: Mapping[str, Any], *path: str) -> Any:
    here: Any = values
    for key in path:
        here = here.get(key) if isinstance(here, Mapping) else None
    return here


def _leaves(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return (dotted key, value) of everything that is no mapping."""
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        path = f"{prefix}{key}"
        found.extend(_leaves(value, f"{path}.") if isinstance(value, Mapping) else [(path, value)])
    return found
