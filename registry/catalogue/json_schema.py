"""From the grammar's types to JSON Schema (draft 2020-12), for editors.

A schema accepts what the check accepts as far as JSON Schema can say it: a reference `$data.mean` may stand for any
value, and whether it fits is left to the check. Knows nothing of recipes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from registry.catalogue.grammar import WEIGHTS, Type, choices

Schema = dict[str, Any]
ComponentRef = Callable[[str], Schema]

REFERENCE: Schema = {"$ref": "#/$defs/reference"}  # a schema that uses it defines it so:
REFERENCE_DEFINITION: Schema = {
    "description": "a value known at run time, or of another section: $data.mean, $lr_finder.lr, $train.epochs.",
    "type": "string",
    "pattern": r"^\$[A-Za-z_]",
}
_LIMITS = {"min": "minimum", "max": "maximum", "above": "exclusiveMinimum", "below": "exclusiveMaximum"}


def json_schema(type: Type, component_ref: ComponentRef) -> Schema:
    """Return the schema of a type.

    Args:
        type: in the grammar of `registry.catalogue.grammar`.
        component_ref: returns the schema of a slot's components.
    """
    alternatives = _alternatives(type, component_ref)
    return alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives}


def value_schema(type: Type, component_ref: ComponentRef) -> Schema:
    """Return the schema of a type for which a reference may stand."""
    alternatives = _alternatives(type, component_ref)
    if {} in alternatives or {"type": "string"} in alternatives:
        return json_schema(type, component_ref)
    return {"anyOf": [*alternatives, REFERENCE]}


def _alternatives(type: Type, component_ref: ComponentRef) -> list[Schema]:
    if type["kind"] == "union":
        return [made for of in type["of"] for made in _alternatives(of, component_ref)]
    return [_SCHEMAS[type["kind"]](type, component_ref)]


def _number(type: Type, _: ComponentRef) -> Schema:
    limits = {word: type[name] for name, word in _LIMITS.items() if name in type}
    return {"type": type["kind"], **limits}


def _text(type: Type, _: ComponentRef) -> Schema:
    syntax = type.get("syntax")
    if syntax == "weights":
        return {
            "type": "string",
            "pattern": re.sub("[a-z]", lambda letter: f"[{letter[0].upper()}{letter[0]}]", WEIGHTS),
        }
    return {"type": "string", **({"minLength": 1} if syntax == "path" else {})}


def _one_of(type: Type, _: ComponentRef) -> Schema:
    names = [name for name in type.get("names", ()) if name not in choices(type)]
    values = [value for value in type["values"] if value not in choices(type)]
    return {"enum": [*choices(type), *names, *values]}


def _list(type: Type, component_ref: ComponentRef) -> Schema:
    made: Schema = {"type": "array", "items": value_schema(type["of"], component_ref)}
    for name, word in (("min_length", "minItems"), ("max_length", "maxItems")):
        if name in type:
            made[word] = type[name]
    return made


def _tuple(type: Type, component_ref: ComponentRef) -> Schema:
    items = [value_schema(of, component_ref) for of in type["of"]]
    return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}


def _mapping(type: Type, component_ref: ComponentRef) -> Schema:
    of = value_schema(type["of"], component_ref)
    if "keys" in type:
        return {"type": "object", "properties": dict.fromkeys(type["keys"], of), "additionalProperties": False}
    return {"type": "object", "additionalProperties": of}


def _record(type: Type, component_ref: ComponentRef) -> Schema:
    return record_schema(type["fields"], component_ref)


def record_schema(fields: Mapping[str, Mapping[str, Any]], component_ref: ComponentRef) -> Schema:
    """Return the schema of a mapping with these fields: name -> type, required, default, doc."""
    properties = {name: described(field, component_ref) for name, field in fields.items()}
    made: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    required = [name for name, field in fields.items() if field["required"]]
    return {**made, "required": required} if required else made


def described(field: Mapping[str, Any], component_ref: ComponentRef) -> Schema:
    """Return a field's schema with its text and its default."""
    made = value_schema(field["type"], component_ref)
    if field["doc"]:
        made = {**made, "description": field["doc"]}
    return made if field["required"] else {**made, "default": field["default"]}


def _tensor(type: Type, _: ComponentRef) -> Schema:
    return {"type": "array", "items": _number({**type, "kind": "number"}, _)}


_SCHEMAS: Mapping[str, Callable[[Type, ComponentRef], Schema]] = {
    "number": _number,
    "integer": _number,
    "bool": lambda _type, _: {"type": "boolean"},
    "text": _text,
    "null": lambda _type, _: {"type": "null"},
    "any": lambda _type, _: {},
    "one_of": _one_of,
    "list": _list,
    "tuple": _tuple,
    "mapping": _mapping,
    "record": _record,
    "tensor": _tensor,
    "component": lambda type, component_ref: component_ref(type["slot"]),
    "opaque": lambda _type, _: {"not": {}},
}
