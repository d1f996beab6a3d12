"""What a reader should beware of before relying on a run's numbers, in plain sentences.

Reads the evidence; the checks of the recipe have added theirs to it.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from registry.contracts import Evidence
from registry.printing import counted, counted_few, literal, metric_text, metric_words, sentence_case
from registry.program import typed_as
from trainer.report.audited import also_learnt, leaks_of

_FEW = 30  # images of a class below which its scores are rough: one image is three points and more
_NAMED = 3  # classes named


def cautions_of(evidence: Evidence) -> tuple[str, ...]:
    """Return what to beware of, the gravest first."""
    found = (*_fast(evidence), *_unfinished(evidence), *_missed(evidence), *evidence.warnings, *_not_held_out(evidence))
    found = (*found, *_audited(evidence))
    return (*found, *_undefined(evidence), *_of_few_images(evidence), *_left_out(evidence))


def planned_epochs(evidence: Evidence) -> int:
    """Return how many epochs the recipe asks for; those that there were, where it does not say."""
    planned = (evidence.resolved.get("train") or {}).get("epochs")
    return planned if isinstance(planned, int) else len(evidence.history)


def state_of(evidence: Evidence) -> str:
    """Say how far a run has come that is not complete: "interrupted after 1 of 400 epochs"; "" for one that is."""
    status = str(evidence.summary.get("status", "completed"))
    if status == "completed":
        return ""
    ended = {"running": "broken off"}.get(status, status)  # a killed process has not written down how it ended
    return f"{ended} after {len(evidence.history)} of {counted(planned_epochs(evidence), 'epoch')}"


def _unfinished(evidence: Evidence) -> Iterator[str]:
    if state := state_of(evidence):
        yield (
            f"The run was {state}: every number is of the training so far, and the best epoch may still come. "
            f"`{typed_as()} resume {shlex.quote(str(evidence.folder))}` continues it."
        )


def _fast(evidence: Evidence) -> Iterator[str]:
    if evidence.summary.get("fast"):
        yield "This was a fast run (`--fast`): it saw a few batches, and its numbers say nothing of the recipe."


def measured_text(line: Mapping[str, Any]) -> str:
    """Return what was measured for a line of `expect`, in digits that show on which side of its bounds it lies."""
    value = line["value"]
    if value is None:
        return "nothing"
    bounds = [line[end] for end in ("low", "high") if line.get(end) is not None]
    sides = [(value < bound, value > bound) for bound in bounds]
    texts = [f"{value:.{digits}g}" for digits in range(4, 18)]
    return next(text for text in texts if [(float(text) < each, float(text) > each) for each in bounds] == sides)


def _missed(evidence: Evidence) -> Iterator[str]:
    expect = evidence.summary.get("expect") or {"not_judged": True, "lines": ()}
    for line in () if expect["not_judged"] else expect["lines"]:
        if not line["ok"]:
            measured = measured_text(line)
            yield f"The recipe expects {literal(line['text'])}; measured was {measured}."


def _not_held_out(evidence: Evidence) -> Iterator[str]:
    if evidence.data is None or evidence.selected_on == "test" or not evidence.history:
        return
    if evidence.split != "test":
        no_test = "There is no held-out test"
        if evidence.data.part("test") is not None:
            no_test = "The held-out test was not looked at"
        yield (
            f"{no_test}: the numbers are of {evidence.selected_on}, which chose the best epoch, and so "
            "somewhat too good for new images."
        )


def _audited(evidence: Evidence) -> Iterator[str]:
    """Name the findings of the audit that make the page's numbers other than they seem."""
    audit, leak = evidence.audit, leaks_of(evidence)
    if leak is not None:
        others = metric_text("accuracy", leak.without) if leak.leaked < leak.images else "not known"
        yield (
            f"{leak.leaked:,} of the {leak.images:,} {leak.part} pictures {also_learnt(leak.leaked)}: "
            "without them the accuracy is "
            f"**{others}** instead of {metric_text('accuracy', leak.accuracy)}; see Audit."
        )
    chooser = evidence.selected_on
    leaked = len(audit.leaked_indices(chooser)) if audit is not None and evidence.history else 0
    if audit is not None and leaked and (leak is None or leak.part != chooser):
        part = audit.part(chooser)
        of = "" if part is None else f" of the {part.images:,}"
        yield (
            f"{leaked:,}{of} {chooser} pictures {also_learnt(leaked)}, and {chooser} chose the best epoch: its numbers "
            "are partly of what was learnt; see Audit."
        )
    if audit is not None and audit.shared:
        count = len(audit.shared)
        have = "group has" if count == 1 else "groups have"
        yield f"{count:,} {have} pictures on both sides of a split: what is measured was partly learnt; see Audit."
    if audit is not None and audit.doubts:
        count = len(audit.doubts)
        are = "label of" if count == 1 else "labels of"
        parts = " and ".join(audit.reviewed)
        yield f"{count:,} {are} {parts} {'is' if count == 1 else 'are'} probably wrong; see Audit."
    if audit is not None and audit.contradictions:
        count = len(audit.contradictions)
        are = "picture is" if count == 1 else "pictures are"
        yield f"{count:,} {are} like one of another class: a label is wrong, or two classes fit; see Audit."


def undefined_because(evidence: Evidence, split: str) -> str:
    """Say why a metric of a part may have no value."""
    measured = None if evidence.data is None else evidence.data.part(split) or evidence.data.part("val")
    present = [] if measured is None else [i for i, count in enumerate(measured.counts) if count]
    if len(present) == 1:
        return f"all images of {split} are of {evidence.class_names[present[0]]}"
    return f"not a number on the images of {split}"


def _undefined(evidence: Evidence) -> Iterator[str]:
    """Name the metrics that have no value: on the part that the page's scores are of, and in every epoch."""
    measured = {} if evidence.predictions is None else evidence.predictions.metrics
    gone = {evidence.split: [key for key, value in measured.items() if math.isnan(value)]}
    rows, keys = evidence.history, dict.fromkeys(key for row in evidence.history for key in row)
    never = [key for key in keys if key.startswith("val/") and all(math.isnan(row.get(key, math.nan)) for row in rows)]
    gone.setdefault(evidence.selected_on, []).extend(key for key in never if key.partition("/")[2] not in measured)
    if evidence.split != evidence.selected_on:
        gone[evidence.selected_on] = never
    for split, metrics in gone.items():
        if metrics:
            words = ", ".join(dict.fromkeys(literal(metric_words(key)) for key in metrics))
            has = "has" if len(metrics) == 1 else "have"
            yield f"{sentence_case(words)} {has} no value on {split}: {literal(undefined_because(evidence, split))}."


def _of_few_images(evidence: Evidence) -> Iterator[str]:
    measured = None if evidence.data is None else evidence.data.part(evidence.split) or evidence.data.part("val")
    if measured is not None and evidence.predictions is not None:
        yield from of_few_images(evidence.class_names, measured.counts, evidence.split)


def of_few_images(class_names: Sequence[str], counts: Sequence[int], split: str) -> Iterator[str]:
    """Name the classes of which a page's scores tell nothing, and those with too few images for a score of their own.

    Args:
        class_names: all of them.
        counts: images of each among those that the scores are of.
        split: what these are called.
    """
    none = [name for name, count in zip(class_names, counts, strict=True) if not count]
    if none:
        named = counted_few(list(map(literal, none)), _NAMED)
        yield f"No image of {named} on {split}: no number on this page tells how well they are known."
    few = sorted((count, name) for name, count in zip(class_names, counts, strict=True) if 0 < count < _FEW)
    if few:
        named = counted_few([f"{literal(name)} ({count})" for count, name in few], _NAMED)
        yield (
            f"Fewer than {_FEW} images of {named} on {split}: the scores of such a class move by "
            "several points with every single image."
        )


def _left_out(evidence: Evidence) -> Iterator[str]:
    if evidence.data is not None and evidence.data.left_out:
        count = len(evidence.data.left_out)
        were = "files could not be read and were" if count > 1 else "file could not be read and was"
        yield f"{count} {were} left out; see Data."
