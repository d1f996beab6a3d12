"""The audit stage: the pictures of an experiment, looked through for leaks, duplicates and what cannot be used.

What is found is trainer/audit's; here stands what a run asks of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from registry.audited import Audit, Doubted, Picture
from registry.contracts import Predictions
from registry.reports.scores import probabilities
from trainer.audit.auditing import GroupOf, audited
from trainer.audit.confident import doubts_about
from trainer.data.splits import Part, grouped_by
from trainer.experiment.experiment import Experiment
from trainer.recipe.recipe import DEFAULT_VAL, Fraction
from trainer.stages.used_data import file_of, folder_of

KNOWS = 0.5  # accuracy below which a network's doubts are its own
MOST = 50_000  # pictures among which a run looks for near duplicates: their pairs grow with the square


def audit_of(experiment: Experiment, *, why_not_near: str = "") -> Audit:
    """Audit the pictures of an experiment.

    Args:
        experiment: whose data they are.
        why_not_near: why near duplicates are not looked for; "" where they are.
    """
    folder = folder_of(experiment)
    return audited(
        experiment.data,
        file_of=lambda store, index: file_of(store, index, folder),
        group_of=_groups_of(experiment),
        why_not_near=why_not_near,
        log=experiment.log,
    )


def audit_of_run(experiment: Experiment, answers: Predictions | None = None) -> Audit | None:
    """Audit the pictures of a run for its report; None where they are no files of somebody's own, or a few of them.

    Of more than `MOST` pictures exact copies alone are looked for.

    Args:
        experiment: its model has learnt.
        answers: to the validation part, by which its labels are reviewed; None for no review.
    """
    parts = _parts(experiment)
    if experiment.recipe.fast or all(part.store.source.listing() is None for part in parts):
        return None
    count = sum(map(len, parts))
    many = f"{count:,} pictures are more than {MOST:,}; `audit` looks at all pairs"
    audit = audit_of(experiment, why_not_near=many if count > MOST else "")
    if answers is None:
        return audit
    right = float((answers.logits.argmax(axis=1) == answers.targets).mean())
    if right < KNOWS:
        experiment.log(f"labels are not reviewed: the network answers {100 * right:.0f} % of val right")
        return audit
    found = doubted(experiment, experiment.data.val, answers.indices, answers.logits)
    return replace(audit, reviewed=("val",), doubts=found)


def doubted(
    experiment: Experiment, part: Part, indices: NDArray[np.int64], logits: NDArray[np.float32]
) -> tuple[Doubted, ...]:
    """Return the pictures whose label is probably wrong, the surest first.

    Args:
        experiment: whose data they are.
        part: that they are reviewed in.
        indices: their places in the part's split, int64 (n,).
        logits: of a network that has not learnt from them, float32 (n, C).
    """
    folder, targets = folder_of(experiment), part.store.targets[torch.from_numpy(indices)].numpy()
    in_val = experiment.data.val if experiment.data.val.store is part.store else None
    held_out = set() if in_val is None else set(in_val.indices.tolist())

    def picture(at: int) -> Picture:
        place = int(indices[at])
        name = "val" if place in held_out else part.name
        return Picture(name, part.dataset_split, place, int(targets[at]), file_of(part.store, place, folder))

    doubts = doubts_about(probabilities(logits), targets)
    return tuple(Doubted(picture(each.at), each.suggested, each.confidence, each.given_confidence) for each in doubts)


def _parts(experiment: Experiment) -> list[Part]:
    data = experiment.data
    return [part for part in (data.train, data.val, data.test) if part is not None]


def _groups_of(experiment: Experiment) -> GroupOf | None:
    """Return what tells the group of a picture, by the column that recipe or dataset name; None without one."""
    val = experiment.recipe.data.val
    share = val if isinstance(val, Fraction) else DEFAULT_VAL
    told: dict[int, Sequence[str]] = {}
    for store in {id(part.store): part.store for part in _parts(experiment)}.values():
        column, name = getattr(store.source, "column", None), grouped_by(store.source, share)
        if column is not None and name:
            told[id(store)] = column(name)
    return (lambda store, index: told[id(store)][index] if id(store) in told else "") if told else None
