"""A source that stands before another: it changes pixels or labels, and passes on what it does not change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from registry.contracts import ImageSource

# What a source may know of its pictures beside their pixels. Masks and the bytes of files are of the pixels.
_KNOWN = frozenset(("column", "count_of", "decoding", "group", "left_out", "line", "remarks"))


class StandIn:
    """A source whose pictures are those of another; what gives them is the subclass's.

    Args:
        source: of the pictures.
    """

    def __init__(self, source: ImageSource) -> None:
        self._source = source
        self.class_names: Sequence[str] = source.class_names
        self.targets: NDArray[Any] = source.targets

    def __getattr__(self, name: str) -> Any:
        """Return what the source knows of its pictures beside their pixels."""
        if name in _KNOWN:
            return getattr(self._source, name)
        raise AttributeError(name)

    def describe(self, index: int) -> str:
        """Name picture `index` for a message."""
        return self._source.describe(index)

    def listing(self) -> Sequence[tuple[str, int, int]] | None:
        """Return the files behind it."""
        return self._source.listing()
