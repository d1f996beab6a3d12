"""Numbers of a run measured again, held against those that it recorded when it ended. Measures nothing itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry.printing import number_text
from trainer.data.fingerprint import print_of, same
from trainer.data.splits import Part
from trainer.experiment.trained import Trained

SHOWN = 5e-5  # numbers are shown with four digits behind the point


def held_against_recorded(trained: Trained, part: Part, values: Mapping[str, float], summary: Mapping[str, Any]) -> str:
    """Say whether what was measured on a part equals what the run recorded of it, to the digits that are shown.

    Args:
        trained: the run's network.
        part: what was measured.
        values: "loss", "accuracy", ...
        summary: the run's summary.json.
    """
    stored = _stored(summary, part.name, trained.which)
    both = {key: stored[key] for key in values if isinstance(stored.get(key), (int, float))}
    if not both:
        return "nothing"
    if trained.prints and not same(trained.prints.get(part.name), print_of(part)):
        return "numbers of other images"
    if all(abs(stored[key] - values[key]) < SHOWN for key in both):
        return "the same numbers"
    return "other numbers, " + ", ".join(f"{key} {number_text(value)}" for key, value in both.items())


def _stored(summary: Mapping[str, Any], part: str, weights: str) -> Mapping[str, Any]:
    """Return what a run recorded of a part with its "best" or "final" weights, by the names of metrics."""
    if part == "test":
        return (summary.get("test") or {}).get(weights) or {}
    row = (summary.get(weights) or {}) if part == "val" else {}
    return {key.partition("/")[2]: value for key, value in row.items() if key.startswith("val/")}
