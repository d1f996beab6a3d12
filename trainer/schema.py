"""The JSON Schema of a whole recipe, for editors: sections from their dataclasses, components from the catalogue.

Owns how the two are put together. One definition per component, so that an editor offers each one's own arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry.catalog import Catalogue, Entry, Parameter, catalogue
from registry.json_schema import Schema, described, record_schema, value_schema
from registry.slots import SLOTS, SlotRules
from trainer.recipe.sections import recipe_type, section_class, section_type

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NAME = {"type": "string", "description": "a name for this one, where two of a type would collide."}


def schema(components: Catalogue | None = None) -> Schema:
    """Return the schema of a recipe.

    Args:
        components: what may be named; the catalogue without plug-ins when None.
    """
    components = components or catalogue()
    fields = recipe_type()["fields"]
    properties = {name: _section(field) for name, field in fields.items()}
    required = [name for name, field in fields.items() if field["required"] and name != "version"]
    return {
        "$schema": DIALECT,
        "title": "Recipe of an image-classification experiment",
        "type": "object",
        "properties": properties,
        "patternProperties": {"^x-": {"description": "free, for notes and anchors."}},
        "additionalProperties": False,
        "required": ["version"],
        "if": {"not": {"required": ["extends"]}},
        "then": {"required": required},
        "$defs": _definitions(components),
    }


def _section(field: Mapping[str, Any]) -> Schema:
    """Return a section's schema; null takes away what a recipe under `extends` has."""
    made = described(field, _slot_ref)
    taken = "anyOf" in made and {"type": "null"} in made["anyOf"]
    if field["required"] or taken:
        return made
    texts: Schema = {key: made.pop(key) for key in ("description", "default") if key in made}
    return {"anyOf": [*made.pop("anyOf", [made]), {"type": "null"}], **texts}


def _slot_ref(slot: str) -> Schema:
    return {"$ref": f"#/$defs/{slot}"}


def _definitions(components: Catalogue) -> Schema:
    made: Schema = {}
    for rules in SLOTS.values():
        entries = [components.entry(rules.name, name) for name in components.names(rules.name)]
        made[rules.name] = _slot(rules, entries)
        for entry in entries:
            made[f"{rules.name}.{entry.name}"] = _component(rules, entry)
    return made


def _slot(rules: SlotRules, entries: list[Entry]) -> Schema:
    """Any component of a slot: one branch per component, the bare names of those without required arguments."""
    bare = [entry.name for entry in entries if not _required(entry)]
    branches = [{"$ref": f"#/$defs/{rules.name}.{entry.name}"} for entry in entries]
    path = {"type": "string", "pattern": "^[^:]+:[^:]+$"}
    return {
        "description": rules.about,
        "anyOf": [
            {"enum": bare},
            {**path, "description": "package.module:Object of a plug-in, or the name of an extra."},
            {"type": "object", "properties": {"type": path}, "required": ["type"]},
            {"type": "object", "required": ["type"], "oneOf": branches},
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
        "required": ["type", *_required(entry)],
        "additionalProperties": False,
    }


def _required(entry: Entry) -> list[str]:
    """Return the arguments a recipe must give; an optimizer's learning rate among them, whatever its default."""
    names = [one.name for one in entry.parameters if one.required and one.role == "user"]
    if entry.slot == "optimizer" and "lr" not in names and entry.parameter("lr") is not None:
        names.append("lr")
    return names


def _parameter(parameter: Parameter) -> Schema:
    made = value_schema(parameter.type, _slot_ref)
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
        return record_schema(fields, _slot_ref)
    for parameter in entry.parameters:
        if parameter.role == "user" and parameter.type["kind"] != "opaque":
            fields.setdefault(
                parameter.name,
                {"type": parameter.type, "required": False, "default": parameter.default, "doc": parameter.doc},
            )
    return {"type": "array", "items": record_schema(fields, _slot_ref)}
