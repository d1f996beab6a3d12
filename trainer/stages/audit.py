"""The audit stage: the pictures of an experiment, looked through for leaks, duplicates and what cannot be used.

What is found is trainer/audit's; here stands what a run asks of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from registry.audited import Audit
from trainer.audit.auditing import GroupOf, audited
from trainer.data.splits import Part, grouped_by
from trainer.experiment.experiment import Experiment
from trainer.recipe.recipe import DEFAULT_VAL, Fraction
from trainer.stages.used_data import file_of, folder_of

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


def audit_of_run(experiment: Experiment) -> Audit | None:
    """Audit the pictures of a run for its report; None where they are no files of somebody's own, or a few of them.

    Of more than `MOST` pictures exact copies alone are looked for.
    """
    parts = _parts(experiment)
    if experiment.recipe.fast or all(part.store.source.listing() is None for part in parts):
        return None
    count = sum(map(len, parts))
    many = f"{count:,} pictures are more than {MOST:,}; `audit` looks at all pairs"
    return audit_of(experiment, why_not_near=many if count > MOST else "")


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
