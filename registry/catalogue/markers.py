"""Annotations of our own: what a signature can say about a parameter beyond its Python type.

They go into `typing.Annotated` and are read by annotations.py; nothing here knows how they are checked.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    """Limits of a number; `min` and `max` are allowed values, `above` and `below` are not.

    Attributes:
        min: smallest allowed value.
        max: largest allowed value.
        above: the value must be greater than this.
        below: the value must be smaller than this.
    """

    min: float | None = None
    max: float | None = None
    above: float | None = None
    below: float | None = None


@dataclass(frozen=True)
class Slot:
    """The value is a component of this slot ("model", "optimizer", ...), written as a name or a mapping with `type`.

    Attributes:
        name: the slot.
    """

    name: str


@dataclass(frozen=True)
class Text:
    """A text with a syntax of its own, checked where it is read ("pattern", "path", "metric").

    Attributes:
        kind: what the text is.
    """

    kind: str
