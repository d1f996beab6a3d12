"""How things are called in metrics.jsonl: keys of metrics and penalties, made from a component's name.

Knows nothing of where they are measured.
"""

from __future__ import annotations

import re

from trainer.recipe.recipe import Spec

CROSS_ENTROPY = "cross_entropy"  # measured beside the loss on every part that is not learnt from


def snake_case(name: str) -> str:
    """Return a type's name as a key: L2Norm -> l2_norm, Accuracy -> accuracy."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def default_name(type: str) -> str:
    """Return the name of a component without `as`: its type, of an import path the last part."""
    return type.rpartition(":")[2]


def key_of(spec: Spec) -> str:
    """Return the key of a metric or penalty: its `as` or its type."""
    return snake_case(spec.name)
