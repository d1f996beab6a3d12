"""References: `$data.mean` and the like, known at run time, and `$section.key` of the recipe itself.

Owns the closed list of run-time values with their types, the resolution of a recipe's references to itself, and `bind`,
which puts the facts of a run in place. No arithmetic, no code: a reference is a whole value.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from registry.catalogue.grammar import Type
from registry.catalogue.suggest import nearest
from trainer.recipe.problems import Collector, did_you_mean
from trainer.recipe.reading.merge import Conflict, as_component, is_removal, lay_over
from trainer.recipe.reading.nodes import Entry, ListNode, MapNode, Node, Scalar, is_place, is_reference, plain, walk
from trainer.recipe.reading.text import MAX_DEPTH, MAX_NODES
from trainer.recipe.recipe import Reference, Spec
from trainer.recipe.sections import default, node_of, recipe_type, step

_COUNT: Type = {"kind": "integer", "min": 1}
_PER_CHANNEL: Type = {"kind": "list", "of": {"kind": "number"}}

FACTS: Mapping[str, Type] = {
    "data.num_classes": _COUNT,
    "data.class_names": {"kind": "list", "of": {"kind": "text"}},
    "data.mean": _PER_CHANNEL,
    "data.std": _PER_CHANNEL,
    "data.image_size": {"kind": "tuple", "of": [_COUNT, _COUNT]},
    "data.train_size": _COUNT,
    "run.epochs": _COUNT,
    "run.steps_per_epoch": _COUNT,
    "run.total_steps": _COUNT,
    "lr_finder.lr": {"kind": "number", "above": 0},
}

LR_FOUND = "lr_finder.lr"
_LENGTH = "train.epochs"

_REFERENCE = re.compile(r"\$[A-Za-z_][\w-]*(\.[\w-]+)*")
_CALCULATION = re.compile(r"\$[A-Za-z_][\w.-]*\s*[-+*/%^(,]|[-+*/%^(]\s*\$[A-Za-z_]|\d\s*([*/^]|\s[-+]\s)\s*[\d(]")
NO_ARITHMETIC = "there is no arithmetic, and a reference is a whole value: write the number"
_MAX_CHAIN = 32
_LONGEST, _MOST = 100, 1_000  # letters and number of the paths that suggestions are looked for among

T = TypeVar("T")


def calculates(text: str) -> bool:
    """Say whether a text calculates: "$lr_finder.lr * 2", "-$train.epochs", "1/255"."""
    return _CALCULATION.search(text) is not None


def literal(value: object) -> object:
    """Return a plain value with the escape `$$` at its beginning undone."""
    return value[1:] if isinstance(value, str) and value.startswith("$$") else value


def type_of(reference: object) -> Type | None:
    """Return the type of a run-time reference; None where it is none of the known ones."""
    return FACTS.get(reference.path) if isinstance(reference, Reference) else None


def needs_what_comes_later(reference: Reference, path: str) -> str:
    """Say why a run-time value is not known where it is used; "" where it is.

    Args:
        reference: to a run-time value.
        path: of the argument that it stands in.
    """
    kind = reference.path.partition(".")[0]
    if path.startswith(("data.dataset.", "callbacks.")):
        return "datasets and callbacks are made before the data are read"
    if path.startswith("data.") and (kind != "data" or _makes_its_own_size(reference, path)):
        return "it follows from the prepared images"
    if reference.path == LR_FOUND and not path.startswith(("optimizer.", "scheduler.")):
        return "the learning rate is found with the finished model; only optimizer and scheduler come after it"
    return ""


def _makes_its_own_size(reference: Reference, path: str) -> bool:
    return reference.path == "data.image_size" and not path.startswith("data.augment.")


def bind(value: T, facts: Mapping[str, object]) -> T:
    """Return a value with its run-time references replaced.

    Args:
        value: plain values, components and sections, nested in any way.
        facts: "data.mean" -> [0.49, 0.48, 0.45], ...; a reference that is not among them stays as it is.
    """
    return _bound(value, facts)  # type: ignore[no-any-return]


def _bound(value: Any, facts: Mapping[str, object]) -> Any:
    if isinstance(value, Reference):
        return facts.get(value.path, value)
    if isinstance(value, Spec):
        return dataclasses.replace(value, arguments=_bound(value.arguments, facts), knobs=_bound(value.knobs, facts))
    if isinstance(value, Mapping):
        return {key: _bound(item, facts) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_bound(item, facts) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _bound(getattr(value, f.name), facts) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    return value


def resolve(root: MapNode, problems: Collector, notes: list[str] | None = None) -> MapNode:
    """Return the recipe with its references to itself replaced by what they name; run-time references stay.

    Args:
        root: the composed recipe.
        problems: takes dangling references and circles.
        notes: takes one line for every component that a reference named and whose arguments fell away.
    """
    resolved = _Resolution(root, problems, [] if notes is None else notes).whole()
    return resolved if _is_bounded(resolved, problems) else root


def _is_bounded(root: MapNode, problems: Collector) -> bool:
    """Refuse a recipe that references have blown up, as aliases are."""
    for count, (path, node) in enumerate(walk(root)):
        if count > MAX_NODES or len(path) > MAX_DEPTH:
            size = f"more than {MAX_NODES:,} values" if count > MAX_NODES else f"nested more than {MAX_DEPTH} deep"
            problems.report("R002", node.origin, f"{size} once references are resolved")
            return False
    return True


@dataclass
class _Resolution:
    """Resolves the references of a recipe to itself."""

    root: MapNode
    problems: Collector
    notes: list[str]  # what fell away where something lies over a reference
    done: dict[tuple[str, bool], Node] = field(default_factory=dict)  # every referred place is resolved once
    scheduled: bool = False  # whether what is being resolved is the scheduler, through whatever references
    paths: list[str] = field(default_factory=list)

    def whole(self) -> MapNode:
        entries = dict(self.root.entries)
        for key, entry in self.root.entries.items():
            self.scheduled = key == "scheduler"
            if not key.startswith("x-"):
                entries[key] = Entry(entry.key, self._node(entry.node, key, ()))
        return MapNode(entries, self.root.origin, gone=self.root.gone)

    def _node(self, node: Node, path: str, trail: tuple[str, ...]) -> Node:
        if isinstance(node, ListNode):
            return ListNode(tuple(self._node(n, f"{path}.{i}", trail) for i, n in enumerate(node.items)), node.origin)
        if isinstance(node, MapNode):
            entries = {k: Entry(e.key, self._node(e.node, f"{path}.{k}", trail)) for k, e in node.entries.items()}
            own = MapNode(entries, node.origin, gone=node.gone)
            base = None if node.over is None else self._node(node.over, path, trail)
            if base is not None and (placed := self._misplaced(base, own, path)):
                return placed
            if (
                base is None or base is node.over
            ):  # of what leads nowhere, or is known at run time, nothing is inherited
                return own
            return _laid(base, own, _type_at(path), path, self.notes)
        if not is_reference(node):
            return node
        return self._target(node, path, trail)

    def _misplaced(self, base: Node, over: MapNode, path: str) -> Node | None:
        """Return the base where items are laid over it that it has not, which is reported; None where all is well."""
        if isinstance(base, ListNode):
            wrong = next((key for key in over.entries if not is_place(key, base)), None)
            what = f"a list of {len(base.items)}"
        else:  # keys that are numbers mean items, which a number known at run time shows nobody
            is_later = isinstance(base, Scalar) and str(base.value)[1:] in FACTS
            wrong = next((key for key in over.entries if key.isdigit()), None) if is_later else None
            what = f"{plain(base)}, which is known only at run time"
        if wrong is None:
            return None
        text = f"'{path}' is {what}: it has no '{wrong}'"
        self.problems.report("R044", over.entries[wrong].key, text, path=path)
        return base

    def _target(self, node: Scalar, path: str, trail: tuple[str, ...]) -> Node:
        """Return what a reference names, at the reference's place; the reference itself where that cannot be."""
        text = str(node.value)
        name = text[1:]
        if name == _LENGTH and self.scheduled:
            # The same number by the name that tells a resume of other epochs what the schedule was planned on.
            return dataclasses.replace(node, value="$run.epochs")
        if name in FACTS:
            return node
        if not _REFERENCE.fullmatch(text):
            hint = "references have no braces: $name" if "{" in text else "a text that begins with $ is written $$"
            hint = NO_ARITHMETIC if calculates(text) else hint
            self.problems.report("R030", node.origin, f"'{text}' is no reference", hint=hint, path=path)
            return node
        if name in trail or path == name or path.startswith(name + "."):
            circle = " -> ".join((*trail[trail.index(name) :], name)) if name in trail else f"{path} -> {name}"
            self.problems.report("R032", node.origin, f"references run in a circle: {circle}", path=path)
            return node
        if len(trail) >= _MAX_CHAIN:
            self.problems.report("R002", node.origin, f"more than {_MAX_CHAIN} references in a chain", path=path)
            return node
        known = name, self.scheduled
        if known not in self.done:
            found = self._find(name)
            if found is None:
                self._dangling(node, name, path)
                return node
            self.done[known] = self._node(found, name, (*trail, name))
        target = self.done[known]
        return dataclasses.replace(target, origin=node.origin)

    def _find(self, name: str, trail: tuple[str, ...] = ()) -> Node | None:
        """Return the value a dotted path leads to, a default where the recipe leaves it out."""
        node: Node | None = self.root
        type: Type | None = recipe_type()
        for key in name.split("."):
            node = None if node is None else self._opened(node, type, trail)
            inherited = default(type, key)
            if isinstance(node, ListNode):
                node = node.items[int(key)] if is_place(key, node) else None
            else:
                below = node.get(key) if isinstance(node, MapNode) else None
                node = node_of(inherited, self.root.origin) if below is None and inherited is not None else below
            type = step(type, key)
            if node is None:
                return None
        return node

    def _opened(self, node: Node, type: Type | None, trail: tuple[str, ...]) -> Node:
        """Return what a key leads into: what a reference names, as it is written, or a bare name's long form."""
        if isinstance(node, MapNode) and node.over is not None:
            base = self._opened(node.over, type, trail)
            return _laid(base, MapNode(node.entries, node.origin), type, "", [])
        if not isinstance(node, Scalar) or not is_reference(node):
            return as_component(node, type)
        name = str(node.value)[1:]
        ends = name in trail or len(trail) >= _MAX_CHAIN
        found = None if ends else self._find(name, (*trail, name))
        return node if found is None else self._opened(found, type, (*trail, name))

    def _paths(self) -> list[str]:
        """Return the dotted paths a reference may have meant; the first few, of a sensible length."""
        if not self.paths:
            leaves = (".".join(at) for at, leaf in islice(walk(self.root), _MOST) if isinstance(leaf, Scalar) and at)
            self.paths = [path for path in leaves if len(path) < _LONGEST]
        return self.paths

    def _dangling(self, node: Scalar, name: str, path: str) -> None:
        known = [*FACTS, *self._paths()] if not self.problems.full and len(name) < _LONGEST else []
        section = name.partition(".")[0]
        facts = [f"${fact}" for fact in FACTS if fact.startswith(section + ".")]
        otherwise = f"{section} has {', '.join(facts)}" if facts else "the recipe has no such key"
        hint = did_you_mean([f"${word}" for word in nearest(name, known)], otherwise)
        rule = "R030" if facts and name.count(".") == 1 else "R031"
        self.problems.report(rule, node.origin, f"reference '${name}' leads nowhere", hint=hint, path=path)


def _laid(base: Node, over: MapNode, type: Type | None, path: str, notes: list[str]) -> Node:
    """Return entries laid over what a reference names, in a tree that has no conflicts any more."""
    if isinstance(base, ListNode) and over.entries and all(is_place(key, base) for key in over.entries):
        return _laid_over_items(base, over, type, path, notes)
    laid = lay_over(base, over, type, path, notes)
    assert not isinstance(laid, Conflict)
    return laid


def _laid_over_items(base: ListNode, over: MapNode, type: Type | None, path: str, notes: list[str]) -> Node:
    """Return a list with some of its items laid over, by their places; `null` takes one away."""
    items: list[Node | None] = list(base.items)
    for key, entry in over.entries.items():
        inner = lay_over(base.items[int(key)], entry.node, step(type, key), f"{path}.{key}", notes)
        assert not isinstance(inner, Conflict)
        items[int(key)] = None if is_removal(entry.node) else inner
    return ListNode(tuple(item for item in items if item is not None), base.origin)


def _type_at(path: str) -> Type | None:
    type: Type | None = recipe_type()
    for key in path.split("."):
        type = step(type, key)
    return type
