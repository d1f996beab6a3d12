"""The JSON Schema of a whole recipe, for editors: sections from their dataclasses, components from the catalogue.

Owns how the two are put together. One definition per component, so that an editor offers each one's own arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from registry.catalogue.catalog import Catalogue, Entry, Parameter, catalogue
from registry.catalogue.grammar import Type
from registry.catalogue.json_schema import (
    REFERENCE,
    REFERENCE_DEFINITION,
    Schema,
    described,
    record_schema,
    value_schema,
)
from registry.catalogue.slots import SLOTS, SlotRules
from trainer.recipe.sections import recipe_type, section_class, section_type

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NAME = {"type": "string", "description": "a name for this one, where two of a type would collide."}


def schema(components: Catalogue | None = None) -> Schema:
    """Return the schema of a recipe.

    A recipe that extends others may leave out what they say, in sections and in components; lists are always whole,
    since they replace. So what must be there is demanded of recipes without `extends` alone.

    Args:
        components: what may be named; the catalogue without plug-ins when None.
    """
    components = components or catalogue()
    fields = recipe_type()["fields"]
    demanded = _demands(fields)
    return {
        "$schema": DIALECT,
        "title": "Recipe of an image-classification experiment",
        "type": "object",
        "properties": {**{name: _section(field) for name, field in fields.items()}, "version": {"const": 1}},
        "patternProperties": {"^x-": {"description": "free, for notes and anchors."}},
        "additionalProperties": False,
        "if": {"not": {"required": ["extends"]}},
        "then": demanded,
        "$defs": {"reference": REFERENCE_DEFINITION, **definitions(components, SLOTS.values())},
    }


def _section(field: Mapping[str, Any]) -> Schema:
    """Return a section's schema without demands; null takes away what a recipe under `extends` has."""
    made = _undemanding(described({**field, "type": _partial(field["type"])}, slot_ref))
    return made if field["required"] else nullable(made)


def _partial(type: Type) -> Type:
    """Return the type with components that may lack arguments and entries that null takes away, outside lists."""
    if type["kind"] == "component":
        return {**type, "slot": f"{type['slot']}-partial"}
    if type["kind"] == "union":
        return {**type, "of": [_partial(of) for of in type["of"]]}
    if type["kind"] == "record":
        fields = {name: {**field, "type": _partial(field["type"])} for name, field in type["fields"].items()}
        return {**type, "fields": fields}
    if type["kind"] == "mapping":
        return {**type, "of": {"kind": "union", "of": [_partial(type["of"]), {"kind": "null"}]}}
    return type


def _undemanding(made: Schema) -> Schema:
    """Take away what mappings must have, outside lists."""
    kept = {key: value for key, value in made.items() if key != "required"}
    if "anyOf" in kept:
        kept["anyOf"] = [_undemanding(one) for one in kept["anyOf"]]
    if "properties" in kept:
        kept["properties"] = {name: nullable(_undemanding(one)) for name, one in kept["properties"].items()}
    return kept


def nullable(made: Schema) -> Schema:
    """Let null take the place of a value: it takes away what is inherited, or stands for the default."""
    if {"type": "null"} in made.get("anyOf", ()):
        return made
    texts: Schema = {key: made[key] for key in ("description", "default") if key in made}
    rest = {key: value for key, value in made.items() if key not in texts}
    alternatives = rest["anyOf"] if list(rest) == ["anyOf"] else [rest]
    return {"anyOf": [*alternatives, {"type": "null"}], **texts} if rest else made


def _demands(fields: Mapping[str, Mapping[str, Any]]) -> Schema:
    """Return what a mapping with these fields must have, and the mappings and components in it."""
    inner = {name: demanded for name, field in fields.items() if (demanded := _demand(field["type"]))}
    required = [name for name, field in fields.items() if field["required"]]
    return {**({"required": required} if required else {}), **({"properties": inner} if inner else {})}


def _demand(type: Type) -> Schema:
    if type["kind"] == "component":
        return {"anyOf": [slot_ref(type["slot"]), REFERENCE]}
    if type["kind"] == "record":
        return _demands(type["fields"])
    if type["kind"] != "union":
        return {}
    demanded = [made for of in type["of"] if (made := _demand(of))]
    if any("anyOf" in made for made in demanded):
        return {"anyOf": [*demanded[0]["anyOf"], {"type": "null"}]}
    return demanded[0] if demanded else {}


def slot_ref(slot: str) -> Schema:
    """Return the reference to a slot's definition."""
    return {"$ref": f"#/$defs/{slot}"}


def definitions(components: Catalogue, slots: Iterable[SlotRules]) -> Schema:
    """Return a definition for each slot, with and without demands, and for each of its components."""
    made: Schema = {}
    for rules in slots:
        entries = [components.entry(rules.name, name) for name in components.names(rules.name)]
        made[rules.name] = _slot(rules, entries)
        made[f"{rules.name}-partial"] = _partial_slot(rules, entries)
        for entry in entries:
            made[f"{rules.name}.{entry.name}"] = _component(rules, entry)
    return made


_PATH = {"type": "string", "pattern": r"^([^:]+:[^:]+|\$[^$].*)$"}  # or a reference to what names the component


def _slot(rules: SlotRules, entries: list[Entry]) -> Schema:
    """Any component of a slot: one branch per component, the bare names of those without required arguments."""
    bare = [entry.name for entry in entries if not required(entry)]
    branches = [_branch(rules, entry, required(entry)) for entry in entries]
    return _any_of(rules, bare, {"required": ["type"], "oneOf": branches})


def _partial_slot(rules: SlotRules, entries: list[Entry]) -> Schema:
    """The same where a recipe under `extends` may have given the rest, `type` among it."""
    branches = [_branch(rules, entry, []) for entry in entries]
    untyped = {"not": {"required": ["type"]}}
    return _any_of(rules, [entry.name for entry in entries], {"anyOf": [untyped, {"oneOf": branches}]})


def _branch(rules: SlotRules, entry: Entry, names: list[str]) -> Schema:
    return {"$ref": f"#/$defs/{rules.name}.{entry.name}", **({"required": names} if names else {})}


def _any_of(rules: SlotRules, names: list[str], mapping: Schema) -> Schema:
    return {
        "description": rules.about,
        "anyOf": [
            {"enum": names},
            {**_PATH, "description": "package.module:Object of a plug-in, or the name of an extra."},
            {"type": "object", "properties": {"type": _PATH}, "required": ["type"]},
            {"type": "object", **mapping},
        ],
    }


def _component(rules: SlotRules, entry: Entry) -> Schema:
    properties: Schema = {"type": {"const": entry.name, "description": entry.doc}, "as": _NAME}
    for name in entry.settable():
        parameter = entry.parameter(name)
        assert parameter is not None
        properties[name] = _parameter(parameter)
    for knob, name in rules.knobs.items():
        properties[knob] = _knob(knob, name, entry)
    return {
        "type": "object",
        "description": f"{entry.doc} ({entry.origin})",
        "properties": properties,
        "required": ["type"],
        "additionalProperties": False,
    }


def required(entry: Entry) -> list[str]:
    """Return the arguments a recipe must give."""
    return [one.name for one in entry.parameters if one.required and one.role == "user"]


def _parameter(parameter: Parameter) -> Schema:
    made = value_schema(parameter.type, slot_ref)
    made = made if parameter.required else nullable(made)
    text = parameter.doc if parameter.role == "user" else f"{parameter.doc} Supplied: {parameter.reason}.".strip()
    if text:
        made = {**made, "description": text}
    if not parameter.required and parameter.default_plain:
        made = {**made, "default": parameter.default}
    return made


def _knob(knob: str, name: str, entry: Entry) -> Schema:
    """Return the schema of an engine-only sub-map; a parameter group also takes the optimizer's own arguments."""
    fields = dict(section_type(section_class(name))["fields"])
    if knob != "groups":
        return {"anyOf": [record_schema(fields, slot_ref), REFERENCE]}
    for parameter in entry.parameters:
        if parameter.role == "user" and parameter.type["kind"] != "opaque":
            fields.setdefault(
                parameter.name,
                {"type": parameter.type, "required": False, "default": parameter.default, "doc": parameter.doc},
            )
    group = {"anyOf": [record_schema(fields, slot_ref), REFERENCE]}
    return {"anyOf": [{"type": "array", "items": group}, REFERENCE, {"type": "null"}]}
