"""Overrides: `key.path=value`, an argument of the command line, laid over a recipe.

The value goes through the recipe's own parser and merge rules; whether the key exists and the value fits is checked
with everything else (checks/check.py), at the argument's position.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace

from registry.catalogue.grammar import Type
from trainer.recipe.problems import COMMAND_LINE, Collector
from trainer.recipe.reading.merge import Conflict, Tree, as_mapping, is_removal, lay_over
from trainer.recipe.reading.nodes import Entry, Gone, ListNode, MapNode, Node, Scalar, is_place, is_reference
from trainer.recipe.reading.scalars import quoted
from trainer.recipe.reading.text import MAX_DEPTH, comment_in, compose_value
from trainer.recipe.recipe import Origin
from trainer.recipe.sections import default, node_of, recipe_type, step, takes_component

_NOTHING = {  # what reads like a value and would remove one
    "": "write {}=null to take it away; an unset shell variable leaves nothing behind",
    "~": "YAML reads ~ as null: write {}=null to take it away, or ~/ for the home folder",
}


def apply(root: Tree | None, argument: str, number: int, problems: Collector, notes: list[str]) -> Tree | None:
    """Return `root` with one override applied; unchanged where the override is wrong, which is reported.

    Args:
        root: the recipe so far; None where it could not be read, then only the argument itself is checked.
        argument: "optimizer.lr=0.05", split at the first "=".
        number: which argument it is, from 1; the line of its positions.
        problems: takes what is wrong.
        notes: takes what fell away.
    """
    override = _Override(argument, number, problems)
    value = override.value() if override.names_a_key() else None
    if root is None or value is None:
        return root
    return _Setting(override.key, value, problems, notes).at(root, override.segments, recipe_type(), "")


class _Override:
    """One argument of the command line as it is read: key and value, or a report of what is wrong with them."""

    def __init__(self, argument: str, number: int, problems: Collector) -> None:
        lines = problems.sources.lines.setdefault(COMMAND_LINE, [])
        lines += [""] * (number - len(lines))
        lines[number - 1] = argument.replace("\n", " ")
        self.argument, self.number, self.problems = argument, number, problems
        self.key, self.equals, self.text = argument.partition("=")
        self.segments = _segments(self.key, number)

    def names_a_key(self) -> bool:
        """Say whether what stands before the first "=" is a path that may be set here; else report it."""
        first = self.segments[0][0]
        if not self.equals or not all(name for name, _ in self.segments):
            self._refuse_key(f"'{self.argument}' is no override", "write key.path=value, as in train.epochs=5")
        elif len(self.segments) > MAX_DEPTH:
            self._refuse_key(f"an override reaches {MAX_DEPTH} keys deep at most")
        elif first in ("extends", "version"):
            hint = "write a recipe that extends another" if first == "extends" else ""
            self._refuse_key(f"'{first}' cannot be set on the command line", hint)
        else:
            return True
        return False

    def value(self) -> Node | None:
        """Return what stands behind the "="; None where YAML cannot read it or would lose some of it, once reported."""
        written = self.text.strip()
        if written in _NOTHING:
            self._refuse_value(f"'{self.argument}' gives no value", _NOTHING[written].format(self.key))
            return None
        begin = comment_in(self.text)
        if begin is not None:
            what = f"YAML reads '{self.text[begin:].splitlines()[0]}' as a comment and would drop it"
            before = len(self.argument) - len(self.text) + begin
            self._refuse_value(what, _in_quotes(self.key, self.text), column=before + 1)
            return None
        value = compose_value(self.text, self.argument, self.number, self.problems)
        if isinstance(value, Scalar) and _is_cut(self.text, value):
            what = f"YAML reads {repr(value.text) if value.text else 'nothing'} where '{written}' is written"
            self._refuse_value(what, _in_quotes(self.key, self.text))
            return None
        return value

    def _refuse_key(self, text: str, hint: str = "") -> None:
        self.problems.report("R043", Origin(COMMAND_LINE, self.number, 1), text, hint=hint)

    def _refuse_value(self, text: str, hint: str, column: int = 1) -> None:
        self.problems.report("R107", Origin(COMMAND_LINE, self.number, column), text, hint=hint, path=self.key)


def _is_cut(text: str, value: Scalar) -> bool:
    """Say whether an unquoted value is less than its text: an anchor, a tag or a mark of documents was taken off.

    White space does not count, since YAML folds it; a tag of the core (`!!str 5`) is meant.
    """
    if value.quoted or text.lstrip().startswith("!!"):
        return False
    return "".join(value.text.split()) != "".join(text.split())


def _in_quotes(key: str, text: str) -> str:
    """Return the hint that shows how text reaches the recipe whole: in quotes of its own, inside those of the shell."""
    if text.lstrip().startswith(("[", "{", '"', "'")):
        return "leave the comment out, or put the text that '#' belongs to in quotes"
    return f"text goes in quotes inside the shell's: {shlex.quote(f'{key}={quoted(text.strip())}')}"


def _segments(key: str, number: int) -> list[tuple[str, Origin]]:
    """Return the names between the dots of a key path, each with its place."""
    found, column = [], 1
    for name in key.split("."):
        found.append((name, Origin(COMMAND_LINE, number, column)))
        column += len(name) + 1
    return found


@dataclass
class _Setting:
    """One value on its way to its place."""

    key: str
    value: Node
    problems: Collector
    notes: list[str]

    def at(self, node: Tree, segments: list[tuple[str, Origin]], type: Type | None, path: str) -> Tree:
        """Return `node` with the value set at what is left of the path."""
        if not segments:
            return lay_over(node, self._in_full(node, type), type, path, self.notes)
        if isinstance(node, Conflict):
            return self._in_conflict(node, segments, type, path)
        node = as_mapping(node, type)
        if isinstance(node, ListNode):
            return self._in_list(node, segments, type, path)
        return self._in_mapping(node, segments, type, path)

    def _in_full(self, node: Tree, type: Type | None) -> Node:
        """Return the value; a name laid over a component within another, whose type is not known here, in full."""
        value = self.value
        is_name = isinstance(value, Scalar) and isinstance(value.value, str) and not is_reference(value)
        if type is None and is_name and isinstance(node, MapNode) and "type" in node.entries:
            return MapNode({"type": Entry(value.origin, value)}, value.origin)
        return value

    def _in_conflict(self, node: Conflict, segments: list[tuple[str, Origin]], type: Type | None, path: str) -> Tree:
        """Return a value that bases set differently with something below it set: another type decides, no more does."""
        (name, place), rest = segments[0], segments[1:]
        if name == "type" and not rest:
            return lay_over(node, MapNode({name: Entry(place, self.value)}, place), type, path, self.notes)
        sides = [self.at(side, segments, type, path) for side in node.sides]
        return Conflict(tuple(sides))  # type: ignore[arg-type]  # the sides of a conflict are nodes

    def _in_mapping(self, node: Node, segments: list[tuple[str, Origin]], type: Type | None, path: str) -> Tree:
        (name, place), rest = segments[0], segments[1:]
        if isinstance(node, Scalar) and type is None and isinstance(node.value, str) and not is_reference(node):
            node = MapNode({"type": Entry(node.origin, node)}, node.origin)  # a component's name, within another
        node = node if isinstance(node, MapNode) else MapNode({}, node.origin)
        is_component = takes_component(type) or (type is None and "type" in node.entries)
        if name == "type" and not rest and is_component:
            # Another type brings its own arguments; those that the command line has given are meant for it.
            typed = {key: entry for key, entry in node.entries.items() if entry.key.file == COMMAND_LINE}
            over = MapNode({**typed, name: Entry(place, self.value)}, place)
            return lay_over(node, over, type, path, self.notes)
        entries, gone = dict(node.entries), dict(node.gone)
        here, inner = f"{path}.{name}".lstrip("."), step(type, name)
        known = entries.get(name)
        inherited = default(type, name)
        if known is None and rest and isinstance(inherited, (list, str)):
            known = Entry(place, node_of(inherited, place))  # `callbacks.0.x=` means the default's first callback
        if known is not None and not rest and is_removal(self.value) and node.over is None:
            del entries[name]
            gone[name] = Entry(place, self.value)
        elif known is not None:
            entries[name] = Entry(place, self.at(known.node, rest, inner, here))  # type: ignore[arg-type]
        else:
            empty = MapNode({}, place)
            below = self.at(empty, rest, inner, here) if rest else self.value
            entries[name] = Entry(place, below)  # type: ignore[arg-type]
        return replace(node, entries=entries, gone={key: each for key, each in gone.items() if key not in entries})

    def _in_list(self, node: ListNode, segments: list[tuple[str, Origin]], type: Type | None, path: str) -> Tree:
        (name, place), rest = segments[0], segments[1:]
        if not is_place(name, node):
            count = len(node.items)
            range_ = f"its places are 0 to {count - 1}" if count else "it is empty"
            self.problems.report("R044", place, f"'{path}' is a list of {count}, it has no '{name}'", hint=range_)
            return node
        index = int(name)
        items: list[Tree] = list(node.items)
        if isinstance(items[index], Gone):
            hint = "places are those of the list before it"
            self.problems.report("R044", place, f"'{path}.{name}' is taken away by an earlier override", hint=hint)
        elif not rest and is_removal(self.value):
            items[index] = Gone(None, place)
        else:
            items[index] = self.at(items[index], rest, step(type, name), f"{path}.{name}")
        return ListNode(tuple(items), node.origin)  # type: ignore[arg-type]  # conflicts lie in bases, not in lists
