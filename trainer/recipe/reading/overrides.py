"""Overrides: `key.path=value`, an argument of the command line, laid over a recipe.

The value goes through the recipe's own parser and merge rules; whether the key exists and the value fits is checked
with everything else (checks/check.py), at the argument's position.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from registry.catalogue.grammar import Type
from trainer.recipe.problems import COMMAND_LINE, Collector
from trainer.recipe.reading.merge import Conflict, Tree, as_component, is_removal, lay_over
from trainer.recipe.reading.nodes import Entry, ListNode, MapNode, Node, Scalar
from trainer.recipe.reading.scalars import quoted
from trainer.recipe.reading.text import MAX_DEPTH, comment_in, compose_value
from trainer.recipe.recipe import Origin
from trainer.recipe.sections import default, node_of, recipe_type, step

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
    lines = problems.sources.lines.setdefault(COMMAND_LINE, [])
    lines += [""] * (number - len(lines))
    lines[number - 1] = argument.replace("\n", " ")
    key, equals, text = argument.partition("=")
    segments = _segments(key, number)
    start = Origin(COMMAND_LINE, number, 1)
    if not equals or not all(name for name, _ in segments):
        problems.report(
            "R043", start, f"'{argument}' is no override", hint="write key.path=value, as in train.epochs=5"
        )
        return root
    if len(segments) > MAX_DEPTH:
        problems.report("R043", start, f"an override reaches {MAX_DEPTH} keys deep at most")
        return root
    if segments[0][0] in ("extends", "version"):
        hint = "write a recipe that extends another" if segments[0][0] == "extends" else ""
        problems.report("R043", start, f"'{segments[0][0]}' cannot be set on the command line", hint=hint)
        return root
    if text.strip() in _NOTHING:
        problems.report(
            "R107", start, f"'{argument}' gives no value", hint=_NOTHING[text.strip()].format(key), path=key
        )
        return root
    begin = comment_in(text)
    if begin is not None:
        place = Origin(COMMAND_LINE, number, len(argument) - len(text) + begin + 1)
        what = f"YAML reads '{text[begin:].splitlines()[0]}' as a comment and would drop it"
        problems.report("R107", place, what, hint=_in_quotes(key, text), path=key)
        return root
    value = compose_value(text, argument, number, problems)
    if isinstance(value, Scalar) and _is_cut(text, value):
        what = f"YAML reads {repr(value.text) if value.text else 'nothing'} where '{text.strip()}' is written"
        problems.report("R107", start, what, hint=_in_quotes(key, text), path=key)
        return root
    if root is None or value is None:
        return root
    return _Setting(key, value, problems, notes).at(root, segments, recipe_type(), "")


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
            return lay_over(node, self.value, type, path, self.notes)
        if isinstance(node, Conflict):
            node = node.second
        node = as_component(node, type)
        if isinstance(node, ListNode):
            return self._in_list(node, segments, type, path)
        return self._in_mapping(node, segments, type, path)

    def _in_mapping(self, node: Node, segments: list[tuple[str, Origin]], type: Type | None, path: str) -> Tree:
        (name, place), rest = segments[0], segments[1:]
        entries = dict(node.entries) if isinstance(node, MapNode) else {}
        here, inner = f"{path}.{name}".lstrip("."), step(type, name)
        known = entries.get(name)
        inherited = default(type, name)
        if known is None and rest and isinstance(inherited, (list, str)):
            known = Entry(place, node_of(inherited, place))  # `callbacks.0.x=` means the default's first callback
        if known is not None and not rest and is_removal(self.value):
            del entries[name]
        elif known is not None:
            entries[name] = Entry(place, self.at(known.node, rest, inner, here))  # type: ignore[arg-type]
        else:
            empty = MapNode({}, place)
            below = self.at(empty, rest, inner, here) if rest else self.value
            entries[name] = Entry(place, below)  # type: ignore[arg-type]
        return MapNode(entries, node.origin)

    def _in_list(self, node: ListNode, segments: list[tuple[str, Origin]], type: Type | None, path: str) -> Tree:
        (name, place), rest = segments[0], segments[1:]
        if not (name.isascii() and name.isdigit() and int(name[:9]) < len(node.items)):
            count = len(node.items)
            range_ = f"its places are 0 to {count - 1}" if count else "it is empty"
            self.problems.report("R044", place, f"'{path}' is a list of {count}, it has no '{name}'", hint=range_)
            return node
        index = int(name)
        items: list[Tree] = list(node.items)
        if not rest and is_removal(self.value):
            del items[index]
        else:
            items[index] = self.at(items[index], rest, step(type, name), f"{path}.{name}")
        return ListNode(tuple(items), node.origin)  # type: ignore[arg-type]  # conflicts lie in bases, not in lists
