"""Whether pretrained weights are fetched: not for a network whose own weights are loaded afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_FETCHED = ContextVar("fetched", default=True)


@contextmanager
def architecture_only() -> Iterator[None]:
    """Build models as they are with their pretrained weights, without these weights, for the length of the block."""
    before = _FETCHED.set(False)
    try:
        yield
    finally:
        _FETCHED.reset(before)


def weights_are_fetched() -> bool:
    """Return False inside `architecture_only`."""
    return _FETCHED.get()
