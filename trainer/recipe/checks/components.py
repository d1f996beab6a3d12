"""Checking of components: the name against the catalogue, the arguments against the signature.

Owns the one form (`type`, `as`, arguments, knobs). What a component is, and which types its parameters have, only the
catalogue knows; nothing is imported or built here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from registry.catalogue.catalog import Catalogue, Entry, Parameter
from registry.catalogue.grammar import plain_words
from registry.catalogue.slots import EVERY_SLOT
from registry.catalogue.suggest import nearest
from registry.errors import RecipeError
from trainer.recipe.checks.check import INVALID, Checker, Invalid, Place
from trainer.recipe.checks.habits import ARGUMENTS, component_elsewhere
from trainer.recipe.problems import did_you_mean, listed, shown
from trainer.recipe.reading.nodes import Entry as KeyEntry
from trainer.recipe.reading.nodes import ListNode, MapNode, Node, Scalar, plain
from trainer.recipe.recipe import Group, Origin, Spec, default_name
from trainer.recipe.sections import section_class, section_type

RESERVED = ("type", "as")
_NAME = re.compile(r"[^\W\d][\w-]*")


@dataclass
class Components:
    """Looks at components; the other half of `Checker`.

    Attributes:
        checker: looks at their arguments.
        catalogue: what may be named.
        complete: whether every plug-in could be had; where not, an unknown name may be one of theirs.
    """

    checker: Checker
    catalogue: Catalogue
    complete: bool = True

    def __post_init__(self) -> None:
        self.checker.component = self.component
        self._report = self.checker.problems.report

    def component(self, slot: str, node: Node, path: str) -> Spec | Invalid:
        """Return a component of `slot`; `INVALID` where it cannot be told what it is."""
        named = self._type(slot, node, path)
        if named is None:
            return INVALID
        entry = self._entry(slot, named, path)
        if entry is None:
            return INVALID
        entries = node.entries if isinstance(node, MapNode) else {}
        name = self._name(entries["as"].node, path) if "as" in entries else default_name(str(named.value))
        arguments: dict[str, Any] = {}
        knobs: dict[str, Any] = {}
        meant: set[str] = set()
        for key, item in entries.items():
            if key in RESERVED:
                continue
            if key in EVERY_SLOT[slot].knobs:
                knobs[key] = self._knob(slot, entry, key, item.node, f"{path}.{key}")
                continue
            parameter = self._parameter(entry, key, item, path, meant)
            if parameter is not None:
                arguments[key] = self._argument(entry, parameter, item.node, path)
        gone = {key: taken.key for key, taken in node.gone.items()} if isinstance(node, MapNode) else {}
        self._missing(entry, {*arguments, *meant}, named.origin, gone, path)
        return Spec(slot, str(named.value), name, arguments, path, node.origin, knobs)

    def _type(self, slot: str, node: Node, path: str) -> Scalar | None:
        """Return the scalar that names a component's type."""
        if isinstance(node, MapNode):
            named = node.get("type")
            if named is None:
                self._untyped(slot, node, path)
                return None
        else:
            named = node
        if isinstance(named, Scalar) and isinstance(named.value, str):
            return named
        got = shown(plain(named))
        text = f"expected {_article(slot)}: a name, or a mapping with 'type', got {got}"
        self._report("R024", named.origin, text, path=path)
        return None

    def _untyped(self, slot: str, node: MapNode, path: str) -> None:
        near = [key for key in node.entries if nearest(key.partition(":")[0], ["type"])]
        known = self.catalogue.names(slot, refused=True)
        if near:
            before, _, after = near[0].partition(":")
            hint = f"a space is missing: write 'type: {after}'" if after and before == "type" else ""
            text = f"{_article(slot)} needs 'type', got '{near[0]}'"
            self._report("R024", node.entries[near[0]].key, text, hint=hint, path=path)
            return
        only = next(iter(node.entries), "")
        hint = f"write {{type: {only}, ...}}" if only in known else f"as in {{type: {known[0]}}}" if known else ""
        self._report("R024", node.origin, f"{_article(slot)} needs 'type'", hint=hint, path=path)

    def _entry(self, slot: str, named: Scalar, path: str) -> Entry | None:
        name = str(named.value)
        try:
            entry = self.catalogue.entry(slot, name)
        except RecipeError as error:
            self._report("R028", named.origin, error.message, hint=error.hint, path=path)
            return None
        except KeyError:
            if self.complete:
                self._unknown(slot, name, named.origin, path)
            return None
        if entry.refused:
            self._report("R027", named.origin, f"{slot} {name} cannot be used: {entry.refused}", path=path)
            return None
        return entry

    def _unknown(self, slot: str, name: str, origin: Origin, path: str) -> None:
        names = self.catalogue.names(slot)
        near = [] if self.checker.problems.full else nearest(name, names)
        here = component_elsewhere(slot, name)
        elsewhere = [_article(other) for other in self.catalogue.slots_of(name)]
        otherwise = f"'list {slot}' shows all {len(names)}" if len(names) > 12 else f"there are {listed(names)}"
        if here:
            near, otherwise = [], here
        elif elsewhere and not near:
            otherwise = f"{name} is {' and '.join(elsewhere)}"
        self._report("R020", origin, f"there is no {slot} '{name}'", hint=did_you_mean(near, otherwise), path=path)

    def _name(self, node: Node, path: str) -> str:
        if isinstance(node, Scalar) and isinstance(node.value, str) and _NAME.fullmatch(node.value):
            return node.value
        text = f"'as' gives a name of letters, digits, '_' and '-', got {shown(plain(node))}"
        self._report("R026", node.origin, text, path=f"{path}.as")
        return ""

    def _parameter(self, entry: Entry, key: str, item: KeyEntry, path: str, meant: set[str]) -> Parameter | None:
        """Return the parameter that a key names; where there is none, report it and remember what was meant."""
        origin, node = item.key, item.node
        label = f"{entry.slot} {entry.name}"
        parameter = entry.parameter(key)
        engine = EVERY_SLOT[entry.slot].engine if parameter is None else {}
        if parameter is not None and key not in EVERY_SLOT[entry.slot].engine and _says_nothing(parameter, node):
            return parameter
        if key in engine or (parameter is not None and parameter.role == "engine"):
            reason = engine.get(key) or (parameter.reason if parameter is not None else "")
            settable = entry.settable() if parameter is None else []  # a component without it may have its like
            near = nearest(key, settable) or [name for name in settable if name.startswith(key)]
            reason = did_you_mean(near, reason)
            text = f"{label}: '{key}' is the engine's to set"
            self._report("R023", origin, text, hint=reason, path=f"{path}.{key}")
            return None
        if parameter is not None and parameter.type["kind"] == "opaque":
            text = f"{label}: '{key}' cannot be written in a recipe"
            self._report("R023", origin, text, hint=f"it takes {parameter.type['reason']}", path=f"{path}.{key}")
            return None
        if parameter is not None:
            return parameter
        settable = [*entry.settable(), *EVERY_SLOT[entry.slot].knobs]
        if key in entry.renamed:
            now = entry.renamed[key]
            meant.add(now)
            hint = f"renamed: use '{now}'" if now in settable else f"use {now}"
        elif ARGUMENTS.get(key) in settable:
            meant.add(ARGUMENTS[key])
            hint = f"here it is '{ARGUMENTS[key]}'"
        else:
            before, colon, after = key.partition(":")
            spaced = f"a space is missing: write '{before}: {after}'" if colon and before in settable else ""
            near = [before] if spaced else nearest(key, settable)
            meant.update(near)
            hint = spaced or did_you_mean(near, f"it takes {listed(settable)}" if settable else "it takes none")
        path = f"{path}.{sorted(meant)[0]}" if meant else f"{path}.{key}"
        self._report("R021", origin, f"{label} takes no argument '{key}'", hint=hint, path=path)
        return None

    def _argument(self, entry: Entry, parameter: Parameter, node: Node, path: str) -> Any:
        hint = "" if parameter.required else f"default {_default(parameter)}"
        label = f"{entry.slot} {entry.name}.{parameter.name}"
        return self.checker.value(parameter.type, node, Place(f"{path}.{parameter.name}", label, hint, facts=True))

    def _missing(self, entry: Entry, given: set[str], origin: Origin, gone: Mapping[str, Origin], path: str) -> None:
        """Report required arguments that are not there, where they were taken away if they were."""
        label = f"{entry.slot} {entry.name}"
        for parameter in entry.parameters:
            name = parameter.name
            if not parameter.required or parameter.role != "user" or name in given:
                continue
            text, hint = f"{label} needs '{name}'", parameter.doc.rstrip(".")
            if name in EVERY_SLOT[entry.slot].written:
                text, hint = f"{text}, whatever the library's default is", EVERY_SLOT[entry.slot].written[name]
            place = gone.get(name, origin)
            self._report("R022", place, text, hint=hint, path=f"{path}.{name}")

    # ------------------------------------------------------------------------------------------------------------ knobs
    def _knob(self, slot: str, entry: Entry, key: str, node: Node, path: str) -> Any:
        if slot == "optimizer" and key == "groups":
            return self._groups(entry, node, path)
        type = section_type(section_class(EVERY_SLOT[slot].knobs[key]))
        return self.checker.value(type, node, Place(path, path))

    def _groups(self, entry: Entry, node: Node, path: str) -> tuple[Group | Invalid, ...] | Invalid:
        if not isinstance(node, ListNode):
            text = f"{path}: expected a list of mappings with 'match', got {shown(plain(node))}"
            self._report("R016", node.origin, text, path=path)
            return INVALID
        return tuple(self._group(entry, item, f"{path}.{index}") for index, item in enumerate(node.items))

    def _group(self, entry: Entry, node: Node, path: str) -> Group | Invalid:
        """Return a parameter group: `match`, `lr_scale`, and arguments of the optimizer."""
        type = section_type(Group)
        if not isinstance(node, MapNode):
            text = f"{path}: expected a mapping with 'match', got {shown(plain(node))}"
            self._report("R016", node.origin, text, path=path)
            return INVALID
        own = {key: item for key, item in node.entries.items() if key in type["fields"]}
        values = self.checker.fields(type, MapNode(own, node.origin), Place(path, path))
        arguments: dict[str, Any] = {}
        for key, item in node.entries.items():
            if key in own:
                continue
            near = nearest(key, type["fields"])
            if near and entry.parameter(key) is None:
                hint = did_you_mean(near)
                self._report("R011", item.key, f"'{path}' has no key '{key}'", hint=hint, path=f"{path}.{near[0]}")
                continue
            parameter = self._parameter(entry, key, item, path, set())
            if parameter is not None:
                arguments[key] = self._argument(entry, parameter, item.node, path)
        return Group(**values, arguments=arguments, origin=node.origin)


def _default(parameter: Parameter) -> str:
    return plain_words(parameter.default) if parameter.default_plain else str(parameter.default)


def _says_nothing(parameter: Parameter, node: Node) -> bool:
    """Whether an argument that nobody reads is written as it would be anyway."""
    return parameter.role == "engine" and parameter.default_plain and plain(node) == parameter.default


def _article(slot: str) -> str:
    return f"an {slot}" if slot[0] in "aeiou" else f"a {slot}"
