"""Type checking of a recipe: every value is looked at once, and everything wrong with it is reported.

Owns the walk over sections and plain values, and the words of its messages. Types come from trainer/recipe/sections.py
and the catalogue; whether a plain value is of one, registry/catalogue/grammar.py says. Components are checked by
components.py, what several values say together by consistency.py.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from registry.catalogue.grammar import Mismatch, Type, mismatch, plain_words, words
from registry.catalogue.suggest import nearest
from trainer.recipe.checks.habits import key_elsewhere
from trainer.recipe.problems import Collector, did_you_mean, listed
from trainer.recipe.reading.nodes import ListNode, MapNode, Node, Scalar, is_reference, plain
from trainer.recipe.reading.references import FACTS, NO_ARITHMETIC, calculates, literal, type_of
from trainer.recipe.reading.scalars import resolve
from trainer.recipe.reading.scalars import spelling as quotable
from trainer.recipe.recipe import Origin, Reference, Spec
from trainer.recipe.sections import homes_of, node_of, section_class


class Invalid:
    """The value of what was reported: whoever meets it says nothing more about it."""

    def __repr__(self) -> str:
        return "<invalid>"


INVALID = Invalid()
_RULES = {"type": "R016", "range": "R017", "choice": "R019", "key": "R011", "missing": "R012", "empty": "R107"}
UNSET = "write a path; an unset shell variable leaves nothing behind"
BANDS = "as in '>= 0.9', '<= 0.3', '0.48 +- 0.03', '18..35'"
_MAPPING_KINDS = ("record", "component", "mapping", "any")  # that a mapping may be meant as, the likeliest first
_PATHS = ("path", "weights")  # texts of a syntax in which a tilde is the home folder
_LIST_KINDS = ("list", "tuple", "tensor", "any")  # likewise of a list
_YES = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}

Component = Callable[[str, Node, str], "Spec | Invalid"]


@dataclass(frozen=True)
class Place:
    """The place of a value in a recipe, as messages say it.

    Attributes:
        path: dotted path in the recipe.
        label: what a message begins with: "train.epochs", "scheduler StepLR.gamma".
        hint: what is added where nothing better is known: the default.
        facts: whether run-time references may stand here.
    """

    path: str
    label: str
    hint: str = ""
    facts: bool = False

    def below(self, key: str | int) -> Place:
        """Return the place of a key or index inside the value."""
        return Place(f"{self.path}.{key}", f"{self.label}.{key}", "", self.facts)


@dataclass
class Checker:
    """Turns nodes into values of a type, or reports why they are none.

    Attributes:
        problems: takes what is wrong.
        component: looks at a component: (slot, node, path) -> Spec.
        sections: name of a record type -> its dataclass.
        whole: what is checked, as messages say it.
    """

    problems: Collector
    component: Component = field(init=False)
    sections: Callable[[str], type] = section_class
    whole: str = "a recipe"

    def value(self, type: Type, node: Node, place: Place) -> Any:
        """Return the value of a node, `INVALID` where it is not of its type."""
        if isinstance(node, Scalar) and is_reference(node):
            return self._reference(type, node, place)
        chosen = _alternative(type, node)
        kind = chosen["kind"]
        if kind == "record" and isinstance(node, MapNode):
            return self.section(chosen, node, place)
        if kind == "component":
            return self.component(chosen["slot"], node, place.path)
        if kind in ("list", "tuple") and isinstance(node, ListNode):
            return self._list(chosen, node, place)
        if kind in ("mapping", "any") and isinstance(node, MapNode):
            return self._mapping(chosen, node, place)
        if kind == "any" and isinstance(node, ListNode):
            return [self.value(chosen, item, place.below(i)) for i, item in enumerate(node.items)]
        value = literal(plain(node))
        found = mismatch(chosen, value)
        if found is None:
            return self._expanded(value, node, place) if _is_path(chosen) else value
        self._mismatch(_innermost(found, chosen, value), node, place)
        return INVALID

    def _expanded(self, value: Any, node: Node, place: Place) -> Any:
        """Return a path with the home folder in place of its tilde, as a shell has it."""
        if not isinstance(value, str) or not value.startswith("~"):
            return value
        whole = os.path.expanduser(value)  # noqa: PTH111  Path.expanduser raises without a home
        if whole.startswith("~"):
            text = f"{place.label}: there is no home folder '{value.partition('/')[0]}'"
            self.problems.report("R016", node.origin, text, hint=f"a file of that name is ./{value}", path=place.path)
            return INVALID
        return whole

    def section(self, type: Type, node: MapNode, place: Place) -> Any:
        """Return the section that a record type names; a field that was reported holds `INVALID`.

        Of a class that is a plug-in's the fields are returned: it is made when the component is built.
        """
        if "class" in type:
            return self.fields(type, node, place)
        return self.sections(type["name"])(**self.fields(type, node, place))

    def fields(self, type: Type, node: MapNode, place: Place) -> dict[str, Any]:
        """Return every field of a record, defaults filled in."""
        known: Mapping[str, Mapping[str, Any]] = type["fields"]
        meant = self._unknown_keys(known, node, place)
        values: dict[str, Any] = {}
        for name, field_ in known.items():
            inner = place.below(name) if place.path else Place(name, name)
            entry = node.entries.get(name)
            if entry is not None and not (place.path == "" and _is_null(entry.node)):
                inner = Place(inner.path, inner.label, _default_hint(field_["default"]))
                values[name] = self.value(field_["type"], entry.node, inner)
            elif not field_["required"]:
                values[name] = self._default(field_, node.origin, inner)
            else:
                values[name] = INVALID
                if name not in meant:
                    taken = entry or node.gone.get(name)
                    origin = taken.key if taken else node.origin
                    where = f"'{place.label}'" if place.path else self.whole
                    text = f"{where} needs '{name}': {field_['doc'].rstrip('.')}"
                    self.problems.report("R012", origin, text, path=inner.path)
        return values

    def _default(self, field_: Mapping[str, Any], origin: Origin, place: Place) -> Any:
        """Return the default of a field that is left out, as the value that it would be if it were written."""
        standing = field_["default"]
        if standing == []:
            return ()
        return self.value(field_["type"], node_of(standing, origin), place) if standing else standing

    def _unknown_keys(self, known: Mapping[str, Any], node: MapNode, place: Place) -> set[str]:
        """Report keys that a section does not have; return the known keys they were probably meant to be."""
        meant: set[str] = set()
        for key, entry in node.entries.items():
            if key in known or (not place.path and key.startswith("x-")):
                continue
            near = [] if self.problems.full else nearest(key, known)
            meant.update(near)
            self._unknown_key(key, entry.key, near, known, place)
        return meant

    def _unknown_key(
        self, key: str, origin: Origin, near: Sequence[str], known: Mapping[str, Any], place: Place
    ) -> None:
        """Report one of them; `near` are the known keys that it may be a slip of."""
        path, belongs = near[0] if near else key, "" if near else where_it_belongs(key)
        if place.path:
            hint = did_you_mean(near, belongs or f"it has {listed(known, 16)}")
            text = f"'{place.label}' has no key '{key}'"
            self.problems.report("R011", origin, text, hint=hint, path=f"{place.path}.{path}")
        else:
            hint = did_you_mean(near, belongs or f"sections are {listed(known, 30)}; x-... is free")
            self.problems.report("R010", origin, f"unknown section '{key}'", hint=hint, path=path)

    def _list(self, type: Type, node: ListNode, place: Place) -> Any:
        """Return a list or tuple: its length is checked first, then each item on its own."""
        count, is_tuple, anything = len(node.items), type["kind"] == "tuple", {"kind": "any"}
        of_anything = {**type, "of": [anything] * len(type["of"]) if is_tuple else anything}
        if mismatch(of_anything, [None] * count) is not None:
            self._mismatch(Mismatch((), words(type), f"a list of {count}"), node, place)
            return INVALID
        kinds = type["of"] if is_tuple else [type["of"]] * count
        values = [self.value(kinds[i], item, place.below(i)) for i, item in enumerate(node.items)]
        if any(value is INVALID for value in values):
            return INVALID
        return tuple(values) if type.get("tuple") and not place.facts else values

    def _mapping(self, type: Type, node: MapNode, place: Place) -> Any:
        inner = type["of"] if type["kind"] == "mapping" else type
        for key, entry in node.entries.items():
            if "keys" in type and key not in type["keys"]:
                hint = did_you_mean(nearest(key, type["keys"]), f"it takes {listed(type['keys'])}")
                text = f"'{place.label}' takes no key '{key}'"
                self.problems.report("R011", entry.key, text, hint=hint, path=place.path)
        values = {key: self.value(inner, entry.node, place.below(key)) for key, entry in node.entries.items()}
        return INVALID if any(value is INVALID for value in values.values()) else values

    def _reference(self, type: Type, node: Scalar, place: Place) -> Any:
        reference = Reference(str(node.value)[1:])
        if reference.path not in FACTS:
            self.problems.wrong.add(place.path)  # reported when references were resolved, maybe at another place
            return INVALID
        if not place.facts:
            text = f"{place.label}: '{node.text or node.value}' is known only at run time, and this is needed before"
            hint = "run-time values can stand in arguments of components"
            self.problems.report("R033", node.origin, text, hint=hint, path=place.path)
            return INVALID
        found = mismatch(type, reference, references=type_of)
        if found is None:
            return reference
        text = f"{place.label}: expected {found.expected}, got '{node.value}', which is {_many(FACTS[reference.path])}"
        self.problems.report("R033", node.origin, text, hint=place.hint, path=place.path)
        return INVALID

    def _mismatch(self, found: Mismatch, node: Node, place: Place) -> None:
        """Report what is wrong with a value, at the key or item inside it that is."""
        label = ".".join(map(str, (place.label, *found.path)))
        at = _inside(node, found.path)
        value = plain(at)
        is_finite = not isinstance(value, float) or math.isfinite(value)
        text = f"{label}: expected {found.expected}, got {found.got}"
        hint = _repair(found, at, place.hint) or place.hint
        self.problems.report(_RULES[found.kind] if is_finite else "R018", at.origin, text, hint=hint, path=place.path)


# --------------------------------------------------------------------------------------------------------------- unions
def _alternative(type: Type, node: Node) -> Type:
    """Return the alternative of a union that a node is meant as, by its shape; the union where that does not tell."""
    if type["kind"] != "union":
        return type
    if isinstance(node, Scalar):
        return _scalar_alternative(type, literal(node.value))
    if isinstance(node, ListNode):
        return _list_alternative(type, plain(node))
    first_of = {of["kind"]: of for of in reversed(type["of"])}
    return next((first_of[kind] for kind in _MAPPING_KINDS if kind in first_of), type)


def _scalar_alternative(type: Type, value: object) -> Type:
    """Return the component for text that no plain alternative takes: it is a name. Else the plain alternatives."""
    components = [of for of in type["of"] if of["kind"] == "component"]
    plain_ones = [of for of in type["of"] if of["kind"] != "component"]
    if isinstance(value, str) and all(mismatch(of, value) is not None for of in plain_ones):
        return components[0] if components else type
    return {**type, "of": plain_ones} if plain_ones else type


def _list_alternative(type: Type, value: object) -> Type:
    """Return the first alternative that takes a list; where none does, the only one that takes lists at all."""
    lists = [of for of in type["of"] if of["kind"] in _LIST_KINDS]
    fitting = next((of for of in lists if mismatch(of, value) is None), None)
    return fitting or (lists[0] if len(lists) == 1 else type)


def _innermost(found: Mismatch, type: Type, value: object) -> Mismatch:
    """Return the mismatch of a value with a union, at the place inside it where that can be said.

    The grammar says of a union only that the whole value fits no alternative. Where all alternatives of the value's
    shape fail at one and the same inner place, that place is what is wrong, and what they expect there is listed.
    """
    if type["kind"] != "union" or not isinstance(value, (list, Mapping)):
        return found
    kinds = ("list", "tuple") if isinstance(value, list) else ("mapping", "record")
    inner = [one for of in type["of"] if of["kind"] in kinds and (one := mismatch(of, value)) is not None]
    if len({one.path for one in inner}) != 1 or not inner[0].path:
        return found
    return replace(inner[0], expected=" or ".join(dict.fromkeys(one.expected for one in inner)))


def _is_path(type: Type) -> bool:
    return any(map(_is_path, type["of"])) if type["kind"] == "union" else type.get("syntax") in _PATHS


# ---------------------------------------------------------------------------------------------------------------- nodes
def _inside(node: Node, path: Sequence[str | int]) -> Node:
    """Return the node at `path` below `node`, or the nearest one around it: a key may be what is missing."""
    for key in path:
        if isinstance(node, ListNode) and isinstance(key, int):
            node = node.items[key]
        elif isinstance(node, MapNode) and str(key) in node.entries:
            node = node.entries[str(key)].node
    return node


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None


# ---------------------------------------------------------------------------------------------------------------- hints
def _many(type: Type) -> str:
    """Put the type of a run-time value into words after "which is"."""
    text = words(type)
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def where_it_belongs(key: str) -> str:
    """Return the hint for a key that stands in the wrong place, or is another library's; "" where neither is known."""
    homes = homes_of(key)
    if homes:
        return f"it belongs to {' or '.join(homes)}"
    return key_elsewhere(key)


def _default_hint(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return "default {" + ", ".join(f"{key}: {plain_words(item)}" for key, item in value.items()) + "}"
    return f"default {plain_words(value)}"


def _repair(found: Mismatch, node: Node, default: str) -> str:
    """Return the hint for what people write from habit; "" where none is known.

    Args:
        found: what is wrong.
        node: the value.
        default: in words; "" where there is none.
    """
    if found.expected == "text (band)":
        return BANDS
    if found.kind == "empty":
        return UNSET
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        return _repair_of_no_text(found, node, default)
    text = node.value
    if node.quoted and not isinstance(resolve(text), str):
        return f"write {text} without quotes"
    if "true or false" in found.expected and text.lower() in _YES:
        return f"write {_YES[text.lower()]}"
    if "number" in found.expected or "integer" in found.expected:
        if calculates(text):
            return NO_ARITHMETIC
        bare = text.replace("_", "")
        for spelling in (bare, bare.lstrip("0") or "0", *_without_comma(text)):
            if spelling != text and isinstance(resolve(spelling), (int, float)):
                return f"write {spelling}"
    elif found.expected.startswith("list"):
        return f"write [{quotable(text)}]"
    near = nearest(text, [choice for choice in found.choices if isinstance(choice, str)])
    return did_you_mean(near)


def _without_comma(text: str) -> tuple[str, ...]:
    """Return what a number with one comma may have meant, the likelier first; () where it is none."""
    whole, comma, rest = text.partition(",")
    if not comma or not rest.isascii() or not rest.isdigit():
        return ()
    return (whole + rest,) if len(rest) == 3 and whole != "0" else (f"{whole}.{rest}",)


def _repair_of_no_text(found: Mismatch, node: Node, default: str) -> str:
    if isinstance(node, MapNode) and found.expected.startswith("list"):
        return "put it in [ ], or begin it with '- '"
    if _is_null(node):
        if found.expected.startswith("list"):
            return "write [] for none"
        return "leave the key out for the default" if default else ""
    if isinstance(node, Scalar) and found.expected == "text" and node.text:
        return f"put it in quotes: '{node.text}'"
    return ""
