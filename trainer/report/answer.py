"""What the page opens with: how good, by what evidence, at what cost, and what to beware of.

Reads the evidence and puts it in words, with one curve and the worst confusions; what to beware of is cautions.py's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from registry.contracts import Block, Evidence, Paragraph, Table
from registry.printing import counted, duration, literal, metric_text, metric_words, sentence_case
from registry.reports import scores
from registry.reports.classes import worst_confusions
from registry.reports.curves import metric_curve, takes
from trainer.report.audited import leaks_of
from trainer.report.cautions import cautions_of, measured_text, planned_epochs, state_of, undefined_because

_PAIRS = 3  # confusions named
_ACCURACY = "val/accuracy"
_ROUNDING = 1e-6  # share by which a rate counts as the same


@dataclass(frozen=True)
class Tile:
    """One number of the answer.

    Attributes:
        label: what it is.
        value: the number, as text.
        note: the evidence for it.
        interval: how far chance reaches; "" where that is not known.
    """

    label: str
    value: str
    note: str = ""
    interval: str = ""


@dataclass(frozen=True)
class Answer:
    """The top of the page.

    Attributes:
        description: the recipe's own sentence; "" where it has none.
        tiles: numbers, the most important first.
        verdict: one paragraph.
        warnings: what to beware of, one sentence each.
        blocks: the evidence at a glance.
        banner: what nobody may overlook, above everything; "" for nothing.
    """

    description: str
    tiles: tuple[Tile, ...]
    verdict: str
    warnings: tuple[str, ...]
    blocks: tuple[Block, ...] = ()
    banner: str = ""


def answer_of(evidence: Evidence) -> Answer:
    """Return the answer that `evidence` allows; its curve is written below the run's folder."""
    tiles = [*_quality(evidence), *_learning_rate(evidence), *_cost(evidence)]
    cautions = cautions_of(evidence)
    blocks = () if is_look(evidence) else (*_curve(evidence), *_confusions(evidence), *_expectations(evidence))
    banner = " ".join(filter(None, (_FAST if evidence.summary.get("fast") else "", _unfinished(evidence))))
    return Answer(evidence.description, tuple(tiles), _verdict(evidence, cautions), cautions, tuple(blocks), banner)


_FAST = (
    "**A fast run** (`--fast`): a few batches of each part, to see that everything works. No number on this page says "
    "how good the recipe is."
)


def _unfinished(evidence: Evidence) -> str:
    """Return the banner of a run that has not come to its end; "" for one that has."""
    state = state_of(evidence)
    return f"**A run that is not complete**: {state}. Its numbers are those so far." if state else ""


def is_look(evidence: Evidence) -> bool:
    """Whether a model is only looked at: pictures explained, nothing trained."""
    return evidence.data is None and not evidence.history and evidence.predictions is not None


def best_metric(resolved: Mapping[str, Any]) -> str:
    """Return the key of the metric that chose the best epoch."""
    return str(_at(resolved, "train", "best", "metric") or "val/accuracy")


def _metric(key: str) -> str:
    """Return the name of a metric without the part it is of: "accuracy" of "val/accuracy"."""
    return key.removeprefix("val/").removeprefix("train/")


def _quality(evidence: Evidence) -> list[Tile]:
    if evidence.predictions is not None and is_look(evidence):
        return [Tile("Images", f"{len(evidence.predictions.targets):,}", evidence.split)]
    if not evidence.history:
        return [Tile("Result", "none", "no epoch was finished")]
    key, last = best_metric(evidence.resolved), evidence.history[-1]
    metric, word, tiles = _metric(key), metric_words(key), []
    held_out = _held_out(evidence, metric)
    if held_out is not None:
        tiles += [_held_out_tile(key, held_out, evidence)]
        if not scores.is_share_of_images(key):
            tiles += [_held_out_tile(_ACCURACY, _accuracy(evidence), evidence)]
    tiles += _without_leaks(evidence)
    if evidence.best is not None and key in evidence.best:
        note = f"epoch {evidence.best['epoch']:g} of {_epochs(evidence)}, chosen on {evidence.selected_on}"
        value = evidence.best[key]
        tiles.append(Tile(f"Best {word}", metric_text(key, value), note, _interval(key, value, evidence, "val")))
    if key in last:
        tiles.append(
            Tile(
                f"Final {word}",
                metric_text(key, last[key]),
                f"after epoch {last['epoch']:g}, on {evidence.selected_on}",
                _interval(key, last[key], evidence, "val"),
            )
        )
    if evidence.best is not None and not scores.is_share_of_images(key) and _ACCURACY in evidence.best:
        value = evidence.best[_ACCURACY]
        within = _interval(_ACCURACY, value, evidence, "val")
        note = f"of epoch {evidence.best['epoch']:g}, on {evidence.selected_on}"
        tiles.append(Tile("Accuracy there", metric_text(_ACCURACY, value), note, within))
    augmented = _test_time_augmented(evidence, metric)
    if augmented is not None:
        tiles.append(
            Tile(
                f"{sentence_case(word)} with TTA",
                metric_text(key, augmented),
                f"test-time augmentation, best weights, on {evidence.split}",
                _interval(key, augmented, evidence, evidence.split),
            )
        )
    return tiles


def _without_leaks(evidence: Evidence) -> list[Tile]:
    """Return the accuracy without the pictures that were learnt from; nothing where none was."""
    leak = leaks_of(evidence)
    if leak is None or leak.leaked == leak.images:
        return []
    low, high = scores.interval(leak.without, leak.images - leak.leaked)
    return [
        Tile(
            f"{evidence.split} accuracy without leaks",
            metric_text("accuracy", leak.without),
            f"{leak.leaked:,} of {leak.images:,} pictures were learnt from, too",
            f"95 % interval {100 * low:.1f} to {100 * high:.1f} %",
        )
    ]


def _held_out_tile(key: str, value: float, evidence: Evidence) -> Tile:
    """Return the number of a metric on the split that chose nothing, with why it is undefined where it is."""
    note = undefined_because(evidence, evidence.split) if math.isnan(value) else "held out, chose nothing"
    within = _interval(key, value, evidence, evidence.split)
    return Tile(f"{evidence.split} {metric_words(key)}", metric_text(key, value), note, within)


def _accuracy(evidence: Evidence) -> float:
    """Return the share of the images that the page's scores are of that were answered right, whatever was measured."""
    assert evidence.predictions is not None
    return float(np.mean(~scores.read(evidence.predictions).wrong))


def _epochs(evidence: Evidence) -> int:
    """Return of how many epochs a run's are: those that it had, and of one that may go on those that it is to have."""
    return planned_epochs(evidence) if state_of(evidence) else len(evidence.history)


def _interval(key: str, value: float, evidence: Evidence, split: str) -> str:
    """Say between what chance lets an accuracy lie that was measured on a part; "" for what is no share of images."""
    measured = evidence.data
    part = None if measured is None else measured.part(split) or measured.part("val")
    if not scores.is_share_of_images(key) or part is None or not part.images or not 0 <= value <= 1:
        return ""
    low, high = scores.interval(value, part.images)
    return f"95 % interval {100 * low:.1f} to {100 * high:.1f} %, {part.images:,} images"


def _curve(evidence: Evidence) -> list[Block]:
    """Return the curve of the metric that chose the best epoch; nothing where no epoch has it."""
    figure = metric_curve(evidence, best_metric(evidence.resolved))
    return [] if figure is None else [figure]


def _confusions(evidence: Evidence) -> list[Block]:
    if evidence.predictions is None:
        return []
    counts = scores.confusion(scores.read(evidence.predictions), len(evidence.class_names))
    return [worst_confusions(counts, evidence.class_names, _PAIRS, f"Most confused on {evidence.split}")]


def _expectations(evidence: Evidence) -> list[Block]:
    """Return what the recipe expected of the run, and whether it came so."""
    expect = evidence.summary.get("expect")
    if not expect:
        return []
    verdict = {True: "reached", False: "**missed**"}
    rows = []
    for line in expect["lines"]:
        key, _, band = line["text"].partition(": ")
        value = "not measured" if line["value"] is None else measured_text(line)
        rows.append((key, band, value, "not judged" if expect["not_judged"] else verdict[bool(line["ok"])]))
    headers = ("number", "expected", "measured", "verdict")
    blocks: list[Block] = [Table("What the recipe expects of a run", headers, tuple(rows))]
    if expect["not_judged"]:
        blocks.append(Paragraph(f"Not judged, because the recipe did not run as written: {expect['not_judged']}."))
    return blocks


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
    return evidence.predictions.loss if metric == "loss" else evidence.predictions.metrics.get(metric, math.nan)


def _learning_rate(evidence: Evidence) -> list[Tile]:
    """Return the rate that was given or found, and how; where the schedule went above it, how far."""
    finding, lr = evidence.finding, _at(evidence.resolved, "optimizer", "lr")
    if finding is not None and finding.lr is None and not isinstance(lr, (int, float)):
        return [Tile("Learning rate", "not found", "the sweep was inconclusive")]
    found = finding is not None and finding.lr is not None and (not isinstance(lr, (int, float)) or lr == finding.lr)
    how = "" if finding is None else f"{'found' if finding.status == 'found' else 'assumed'} by the rule {finding.pick}"
    if found and finding is not None and finding.lr is not None:
        lr, note = finding.lr, how
    elif finding is not None and finding.lr and takes(evidence.resolved, finding.lr, sections=("scheduler",)):
        return [Tile("Learning rate", f"up to {finding.lr:.4g}", f"{how}, for the schedule")]
    elif isinstance(lr, (int, float)):
        unused = "" if finding is None or finding.lr is None else f"; the rate found, {finding.lr:.4g}, was not taken"
        note = f"given by the recipe{unused}"
    else:
        return []
    most = max((row["lr"] for row in evidence.history if "lr" in row), default=lr)
    if most > lr * (1 + _ROUNDING):
        return [Tile("Learning rate", f"up to {most:.3g}", f"by epoch, as the schedule sets it; {lr:.4g} {note}")]
    return [Tile("Learning rate", f"{lr:.4g}", note)]


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


def _verdict(evidence: Evidence, cautions: tuple[str, ...]) -> str:
    model = literal(_name(evidence.resolved.get("model")))
    data = literal(_name(_at(evidence.resolved, "data", "dataset")))
    if is_look(evidence):
        return "A trained model looks at images; nothing was trained for this page."
    if not evidence.history:
        return f"The run of **{model}** on **{data}** ended before its first epoch; there is nothing to judge."
    key = best_metric(evidence.resolved)
    word = metric_words(key)
    epochs = len(evidence.history)
    learnt = None if evidence.data is None else evidence.data.part("train")
    images = "" if learnt is None else f" {learnt.images:,} images of"
    state = state_of(evidence)
    length = counted(epochs, "epoch") if not state else f"{epochs} of {counted(_epochs(evidence), 'epoch')} so far"
    text = f"**{model}** was trained on{images} **{data}** for {length}. "
    text += f"The run is not complete: {state}. " if state else ""
    if evidence.best is None:
        text += f"No epoch has both a finite validation loss and a finite {word}, so there are no best weights: "
        text += "this page speaks of the final ones. "
    elif key in evidence.best:
        best, last = evidence.best, evidence.history[-1]
        text += f"Its best {word} on {evidence.selected_on} is **{metric_text(key, best[key])}**, "
        text += f"at epoch {best['epoch']:g}; "
        text += f"the last epoch has {metric_text(key, last.get(key, math.nan))}. "
    held_out = _held_out(evidence, _metric(key))
    if held_out is not None:
        which = "final" if evidence.best is None else "best"
        text += f"On {evidence.split}, which took no part in any choice, the {which} weights reach "
        text += f"**{metric_text(key, held_out)}**"
        other = "" if scores.is_share_of_images(key) else metric_text(_ACCURACY, _accuracy(evidence))
        text += f", with an accuracy of **{other}**. " if other else ". "
    if cautions:
        count = len(cautions)
        text += f"Read the {count} caution{'s' * (count > 1)} below before you rely on it."
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
