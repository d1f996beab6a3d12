"""The language's sections as types, derived from the dataclasses in `recipe.py`.

Owns nothing by hand but the two keys that are shaped differently in a file than in a `Recipe`: `extends`, which is
gone once files are composed, and `expect`, a mapping of bands.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any

from registry.catalogue.annotations import record
from registry.catalogue.grammar import Type, component_at
from trainer.recipe import recipe as recipe_module
from trainer.recipe.reading.nodes import Entry, ListNode, MapNode, Node, Scalar
from trainer.recipe.recipe import Origin, Recipe

_EXTENDS: Mapping[str, Any] = {
    "type": {"kind": "union", "of": [{"kind": "text"}, {"kind": "list", "of": {"kind": "text"}}]},
    "required": False,
    "default": None,
    "doc": "recipes this one builds on, paths relative to this file.",
}
_EXPECT: Mapping[str, Any] = {"kind": "mapping", "of": {"kind": "text", "syntax": "band"}}


@cache
def section_type(cls: type) -> Type:
    """Return the record type of a section's dataclass, without the fields that only the engine fills."""
    described = record(cls)
    engine = {field.name for field in dataclasses.fields(cls) if not field.metadata.get("recipe", True)}
    fields = {name: field for name, field in described["fields"].items() if name not in engine}
    return {**described, "fields": fields}


@cache
def recipe_type() -> Type:
    """Return the type of a whole recipe, as it is written."""
    described = section_type(Recipe)
    fields = dict(described["fields"])
    fields["name"] = {**fields["name"], "required": False}
    fields["expect"] = {**fields["expect"], "type": _EXPECT, "default": {}}
    return {**described, "fields": {**fields, "extends": _EXTENDS}}


def homes_of(key: str) -> list[str]:
    """Return where in a recipe a key belongs: sections that have it, by dotted path."""
    found = [key] if key in recipe_type()["fields"] else []
    waiting: list[tuple[str, Type]] = [("", recipe_type())]
    while waiting:
        path, type = waiting.pop(0)
        for name, field in type["fields"].items():
            inner = f"{path}.{name}".lstrip(".")
            of = field["type"]
            for one in of["of"] if of["kind"] == "union" else [of]:
                if one["kind"] == "record":
                    waiting.append((inner, one))
                    if key in one["fields"]:
                        found.append(f"{inner}.{key}")
    return found


def section_class(name: str) -> type:
    """Return the dataclass that a record type names."""
    return getattr(recipe_module, name)  # type: ignore[no-any-return]


def step(type: Type | None, key: str) -> Type | None:
    """Return the type of `key` inside a value of `type`, None where nothing is known of it."""
    if type is None:
        return None
    if type["kind"] == "union":
        return next((found for of in type["of"] if (found := step(of, key)) is not None), None)
    if type["kind"] == "record" and key in type["fields"]:
        return type["fields"][key]["type"]  # type: ignore[no-any-return]
    if type["kind"] == "list" and key.isdigit():
        return type["of"]  # type: ignore[no-any-return]
    return None


def default(type: Type | None, key: str) -> object:
    """Return the plain default of `key` in a record type; None where there is none."""
    if type is not None and type["kind"] == "union":
        return next((found for of in type["of"] if (found := default(of, key)) is not None), None)
    if type is None or type["kind"] != "record" or key not in type["fields"]:
        return None
    return type["fields"][key]["default"]


def takes_component(type: Type | None) -> bool:
    """Say whether a component may stand where `type` is."""
    return type is not None and component_at(type) is not None


def node_of(value: object, origin: Origin) -> Node:
    """Return a plain default as nodes, all at one place."""
    if isinstance(value, (list, tuple)):
        return ListNode(tuple(node_of(item, origin) for item in value), origin)
    if isinstance(value, Mapping):
        return MapNode({key: Entry(origin, node_of(item, origin)) for key, item in value.items()}, origin)
    assert value is None or isinstance(value, (bool, int, float, str))
    return Scalar(value, origin)
