"""Merging of metrics' states: those of several processes, each over images of its own, as one over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry.contracts import Plain


def summed(states: Sequence[Mapping[str, Plain]]) -> dict[str, Plain]:
    """Return the sum of states, entry by entry: numbers and tensors add up, None stands for nothing so far.

    Args:
        states: of the same metric, one at least; left as they are.
    """
    return {name: _sum([state[name] for state in states]) for name in states[0]}


def _sum(values: Sequence[Plain]) -> Plain:
    there = [value for value in values if value is not None]
    return sum(there[1:], start=there[0]) if there else None


def joined(states: Sequence[Mapping[str, Plain]]) -> dict[str, Plain]:
    """Return states one behind the other, entry by entry along the first dimension; None stands for nothing so far.

    Args:
        states: of the same metric, one at least; left as they are.
    """
    import torch

    columns = {name: [state[name] for state in states if state[name] is not None] for name in states[0]}
    return {name: torch.cat(column) if column else None for name, column in columns.items()}
