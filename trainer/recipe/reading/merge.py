"""The merge rules: how one mapping is laid over another, and what happens where two bases disagree.

    mapping over mapping        they merge, key by key
    component of another type   it replaces the inherited one whole, arguments included
    list or plain value         it replaces what is inherited
    null                        it removes the inherited key
    mapping over a reference    it lies over what is referred to, which is known when all is composed (references.py)

Knows nodes and, to tell a component from another value, the sections' types. Reads no files (composition.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from registry.catalogue.grammar import Type
from trainer.recipe.reading.nodes import Entry, Gone, ListNode, MapNode, Node, Scalar, is_reference, plain
from trainer.recipe.recipe import Origin
from trainer.recipe.sections import step, takes_component


@dataclass(frozen=True, slots=True, eq=False)
class Conflict:
    """A merge conflict: bases of one recipe give the same key different values.

    It stands in the tree where the value would. A value laid over it, by the recipe itself or by an override, decides
    it; a conflict that is still there when everything is composed is reported (composition.py).

    Attributes:
        sides: values of the bases, the one named earlier first.
    """

    sides: tuple[Node, ...]

    @property
    def last(self) -> Node:
        """The value of the base named last."""
        return self.sides[-1]

    @property
    def origin(self) -> Origin:
        """Where the last one stands."""
        return self.last.origin


Tree = Node | Conflict  # what is being composed; entries of a MapNode may be conflicts too, until `without_conflicts`


def lay_over(base: Tree, over: Tree, type: Type | None, path: str, notes: list[str]) -> Tree:
    """Return `over` laid over `base`.

    Args:
        base: what is inherited.
        over: what is written in the child; it wins.
        type: the type that is expected there, None where it is unknown.
        path: dotted path, for notes.
        notes: takes one line for every component whose arguments fell away.
    """
    if isinstance(over, Conflict):
        return over
    over = as_component(over, type)
    if not isinstance(over, MapNode):
        return over
    if isinstance(base, Conflict):
        return _lay_over_conflict(base, over, type, path, notes)
    base = as_mapping(base, type)
    if not isinstance(base, MapNode):
        return over
    if _changes_type(base, over):
        _note_loss(base, over, path, notes)
        return over
    return _merged(base, over, type, path, notes)


def join(first: Tree, second: Tree, type: Type | None) -> Tree:
    """Return two bases side by side: what only one says, what both say alike, and a `Conflict` where they differ.

    What one has taken away and the other has not is a difference, too.
    """
    if isinstance(first, Conflict) or isinstance(second, Conflict):
        every = [side for each in (first, second) for side in (each.sides if isinstance(each, Conflict) else (each,))]
        sides = [as_component(side, type) for side in every]
        return Conflict(tuple(side for i, side in enumerate(sides) if not any(_same(side, one) for one in sides[:i])))
    first, second = as_component(first, type), as_component(second, type)
    if isinstance(first, MapNode) and isinstance(second, MapNode) and _may_merge(first, second):
        entries = dict(first.entries)
        for key, entry in second.entries.items():
            ours = entries.get(key) or first.gone.get(key)
            inner = join(ours.node, entry.node, step(type, key)) if ours else entry.node
            entries[key] = Entry(entry.key, inner)  # type: ignore[arg-type]
        for key, taken in second.gone.items():
            if key in first.entries and key not in second.entries:
                entries[key] = Entry(taken.key, join(first.entries[key].node, taken.node, step(type, key)))  # type: ignore[arg-type]
        gone = {key: entry for key, entry in {**first.gone, **second.gone}.items() if key not in entries}
        return MapNode(entries, second.origin, first.over or second.over, gone)
    return second if _same(first, second) else Conflict((first, second))


def conflicts(node: Tree, path: str = "") -> Iterator[tuple[str, Conflict]]:
    """Yield what is still undecided, with its dotted path."""
    if isinstance(node, Conflict):
        yield path, node
    elif isinstance(node, MapNode):
        for key, entry in node.entries.items():
            yield from conflicts(entry.node, _below(path, key))


def without_conflicts(node: Tree) -> Node:
    """Return a tree without what is only for composing: the later base has won every conflict, items gone are gone."""
    if isinstance(node, Conflict):
        return without_conflicts(node.last)
    if isinstance(node, ListNode):
        items = tuple(without_conflicts(item) for item in node.items if not isinstance(item, Gone))
        return replace(node, items=items)
    if isinstance(node, MapNode):
        return replace(node, entries={k: Entry(e.key, without_conflicts(e.node)) for k, e in node.entries.items()})
    return node


def is_removal(node: Tree) -> bool:
    """Say whether a value is `null`."""
    return isinstance(node, Scalar) and node.value is None


def as_component(node: Node, type: Type | None) -> Node:
    """Return a component's long form: a bare name where a component may stand becomes a mapping with `type`."""
    if isinstance(node, Scalar) and isinstance(node.value, str) and takes_component(type) and not is_reference(node):
        return MapNode({"type": Entry(node.origin, node)}, node.origin)
    return node


def as_mapping(node: Node, type: Type | None) -> Node:
    """Return what a mapping can be laid over: a bare name's long form, and an empty mapping over a reference."""
    if isinstance(node, Scalar) and is_reference(node):
        return MapNode({}, node.origin, node)
    return as_component(node, type)


def _merged(base: MapNode, over: MapNode, type: Type | None, path: str, notes: list[str]) -> MapNode:
    """Return two mappings as one, key by key."""
    entries, gone = dict(base.entries), {**base.gone, **over.gone}
    for key, entry in over.entries.items():
        inherited = entries.get(key)
        if inherited is None:
            entries[key] = entry
        elif is_removal(entry.node) and base.over is None:
            del entries[key]
            gone[key] = entry
        else:
            inner = lay_over(inherited.node, entry.node, step(type, key), _below(path, key), notes)
            entries[key] = Entry(entry.key, inner)  # type: ignore[arg-type]
    return MapNode(entries, over.origin, base.over, {key: each for key, each in gone.items() if key not in entries})


def _lay_over_conflict(base: Conflict, over: MapNode, type: Type | None, path: str, notes: list[str]) -> Tree:
    """Lay a mapping over a value that bases set differently.

    A mapping that says its `type` decides: it goes over the base of that type, or replaces all. One that does not is
    laid over all, and they go on to disagree in the rest.
    """
    sides = [as_mapping(side, type) for side in base.sides]
    if _type_of(over) is not None:
        alike = next((side for side in sides if _type_of(side) == _type_of(over)), None)
        return over if alike is None else lay_over(alike, over, type, path, notes)
    if not all(isinstance(side, MapNode) or is_removal(side) for side in sides):
        return over
    laid = (side if is_removal(side) else lay_over(side, over, type, path, notes) for side in sides)
    # Where the sides differ is what the bases say, so that is where they stand.
    placed = (
        replace(new, origin=old.origin) if isinstance(new, MapNode) else new
        for new, old in zip(laid, sides, strict=True)
    )
    return Conflict(tuple(placed))  # type: ignore[arg-type]


def _type_of(node: Node) -> object:
    named = node.get("type") if isinstance(node, MapNode) else None
    return named.value if isinstance(named, Scalar) else None


def _may_merge(first: MapNode, second: MapNode) -> bool:
    overs = {each.over.value for each in (first, second) if each.over is not None}
    return len(overs) < 2 and not _changes_type(first, second)


def _changes_type(base: MapNode, over: MapNode) -> bool:
    before, after = _type_of(base), _type_of(over)
    if any(isinstance(each, str) and each.startswith("$") for each in (before, after)):  # which type is known later
        return False
    return before is not None and after is not None and before != after


def _note_loss(base: MapNode, over: MapNode, path: str, notes: list[str]) -> None:
    """Say which inherited arguments fell away with the component's old type."""
    lost = [f"{key} ({entry.node.origin})" for key, entry in base.entries.items() if key not in ("type", *over.entries)]
    if lost:
        notes.append(f"{path}: {_type_of(over)} replaces {_type_of(base)}; fell away: {', '.join(lost)}")


def _same(first: Node, second: Node) -> bool:
    one, other = plain(first), plain(second)
    return one == other and repr(one) == repr(other)  # 1, 1.0 and true are equal to Python, not in a recipe


def _below(path: str, key: str) -> str:
    return f"{path}.{key}".lstrip(".")
