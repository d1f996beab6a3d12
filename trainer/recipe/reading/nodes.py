"""Nodes: values that know where they were written, which recipe text becomes before it means anything.

Knows nothing of YAML (text.py) or of recipes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from trainer.recipe.reading.scalars import Plain
from trainer.recipe.recipe import Origin


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """A single value.

    Attributes:
        value: what it means.
        origin: where it was written.
        text: as written, without quotes.
        quoted: whether it stood in quotes or as a block, and so is text whatever it looks like.
    """

    value: Plain
    origin: Origin
    text: str = ""
    quoted: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Gone(Scalar):
    """An item that an override has taken out of a list: it keeps its place until the last one has been applied."""


@dataclass(frozen=True, slots=True, eq=False)
class ListNode:
    """A list."""

    items: tuple[Node, ...]
    origin: Origin


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's place and its value."""

    key: Origin
    node: Node


@dataclass(frozen=True, slots=True, eq=False)
class MapNode:
    """Keys and values, in the order written.

    Attributes:
        entries: by key.
        origin: where it was written.
        over: a reference to the mapping that the entries are laid over once it is resolved.
        gone: keys that `null` has taken away from what was inherited, where it stands.
    """

    entries: Mapping[str, Entry]
    origin: Origin
    over: Scalar | None = None
    gone: Mapping[str, Entry] = field(default_factory=dict)

    def get(self, key: str) -> Node | None:
        """Return the value of `key`; None where it is missing."""
        entry = self.entries.get(key)
        return entry.node if entry else None


Node = Scalar | ListNode | MapNode


def plain(node: Node) -> Plain | list[object] | dict[str, object]:
    """Return a node's value without positions."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, ListNode):
        return [plain(item) for item in node.items]
    below = {} if node.over is None else {"<<": node.over.value}
    return {**below, **{key: plain(entry.node) for key, entry in node.entries.items()}}


def is_place(key: str, of: ListNode) -> bool:
    """Say whether a key is the place of an item in a list."""
    return key.isascii() and key.isdigit() and str(int(key[:9])) == key and int(key) < len(of.items)


def is_reference(node: Node) -> bool:
    """Say whether a value is a reference: text that begins with one dollar sign."""
    return isinstance(node, Scalar) and isinstance(node.value, str) and node.value[:1] == "$" != node.value[1:2]


def walk(node: Node, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Node]]:
    """Yield every node below and including `node` with its path, in the order written."""
    stack = [(path, node)]
    while stack:
        at, current = stack.pop()
        yield at, current
        if isinstance(current, ListNode):
            stack += [((*at, str(i)), item) for i, item in reversed(list(enumerate(current.items)))]
        elif isinstance(current, MapNode):
            stack += [((*at, key), entry.node) for key, entry in reversed(list(current.entries.items()))]
