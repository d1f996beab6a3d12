"""An outline of YAML lines with remarks: what `show` prints and resolved.yaml holds.

Knows how lines are laid out, nothing of what they mean. Reading an outline back gives the values of its active lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_COLUMN = 44  # remarks begin here where the line is short enough


@dataclass(frozen=True)
class Line:
    """A key and what stands under it.

    Attributes:
        key: YAML text.
        value: YAML text of a value, or lines below the key, or items below it.
        remark: comment behind the value.
        active: whether it is a value; a line that is not is itself a comment.
    """

    key: str
    value: Value
    remark: str = ""
    active: bool = True


@dataclass(frozen=True)
class Items:
    """A list in block style: each item a value or lines."""

    items: tuple[str | tuple[Line, ...], ...]


Value = str | tuple[Line, ...] | Items


def render(lines: tuple[Line, ...]) -> str:
    """Return an outline as YAML text."""
    return "\n".join(_with_remark(text, remark) for text, remark in _rows(lines, "")) + "\n"


def _with_remark(text: str, remark: str) -> str:
    return f"{text:<{_COLUMN}}  # {remark}" if remark else text


def _rows(lines: tuple[Line, ...], indent: str) -> Iterator[tuple[str, str]]:
    for line in lines:
        if not line.active:
            assert isinstance(line.value, str)
            yield f"{indent}# {line.key}: {line.value}", line.remark
        elif isinstance(line.value, str):
            yield f"{indent}{line.key}: {line.value}", line.remark
        else:
            yield f"{indent}{line.key}:", line.remark
            if isinstance(line.value, Items):
                yield from _items(line.value, indent + "  ")
            else:
                yield from _rows(line.value, indent + "  ")


def _items(items: Items, indent: str) -> Iterator[tuple[str, str]]:
    for item in items.items:
        if isinstance(item, str):
            yield f"{indent}- {item}", ""
            continue
        for number, (text, remark) in enumerate(_rows(item, indent + "  ")):
            yield (f"{indent}- {text[len(indent) + 2 :]}" if number == 0 else text), remark
