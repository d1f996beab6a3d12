"""The recipe's JSON Schema as text: what it says in many places is written once, and every definition is a line.

Owns the form alone. Unfolded again, the text says what `trainer.recipe.schema` made: the same completions, descriptions
and refusals. Knows nothing of recipes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from registry.catalogue.json_schema import Schema

_NAMED = ("properties", "patternProperties")  # keywords that hold schemas under names
_LISTED = ("anyOf", "oneOf", "prefixItems")
_SINGLE = ("items", "not", "if", "then", "additionalProperties")
_WORDS = ("description", "default")  # what may stand beside a reference: it constrains nothing
_BLOCKS = ("properties", "$defs")  # at the top: a line for each of theirs


def schema_text(whole: Schema) -> str:
    """Return the schema as JSON, a line for each section of a recipe and for each definition."""
    made = shared(whole)
    return f"{{\n{_lines((key, _block(made[key]) if key in _BLOCKS else _dense(made[key])) for key in made)}\n}}"


def shared(whole: Schema) -> Schema:
    """Return the schema with each part that occurs more than once, and is long enough, under `$defs` by a name.

    A part is shared as it stands, or without its description and default, which then stand beside the reference.
    """
    parts = _counted(whole)
    names = _names(parts, taken=whole["$defs"])
    definitions = {name: _folded(made, names) for name, made in whole["$defs"].items()}
    definitions |= {name: _part(parts[form].schema, names, itself=form) for form, name in names.items()}
    rest = {key: value for key, value in whole.items() if key != "$defs"}
    return {**_folded(rest, names), "$defs": definitions}


@dataclass
class _Part:
    """A schema within the schema, which may occur in many places.

    Attributes:
        schema: what stands there.
        key: the name it stands under where it was met first; "" in a list.
        count: places.
    """

    schema: Schema
    key: str
    count: int = 0

    @property
    def name(self) -> str:
        """The argument's name where it is described, else the kinds of value it takes."""
        alternatives = self.schema.get("anyOf", [self.schema])
        kinds = (each.get("type", "choice" if "enum" in each else "") for each in alternatives)
        described = self.key if "description" in self.schema else ""
        return described or "-or-".join(dict.fromkeys(filter(None, kinds))) or self.key or "part"


def _counted(whole: Schema) -> dict[str, _Part]:
    """Return every part by its text; what lies in a part that occurs often counts once."""
    parts: dict[str, _Part] = {}

    def visit(outer: Schema) -> None:
        for key, schema in _inner(outer):
            forms = _forms(schema)
            for form in forms:
                parts.setdefault(_dense(form), _Part(form, key)).count += 1
            if parts[_dense(forms[0])].count == 1:
                visit(schema)

    for outer in (whole, *whole["$defs"].values()):
        visit(outer)
    return parts


def _forms(schema: Schema) -> list[Schema]:
    """Return the schema, and where that is another one, the schema without its words."""
    bare = {key: value for key, value in schema.items() if key not in _WORDS}
    return [schema] if len(bare) == len(schema) else [schema, bare]


def _names(parts: dict[str, _Part], taken: Iterable[str]) -> dict[str, str]:
    """Return the text of each part worth sharing -> its name; one that is a reference has a name already."""
    names: dict[str, str] = {}
    used = Counter(taken)
    for text, part in parts.items():
        name = part.name
        spared = part.count * (len(text) - len(_dense(_reference(name)))) - len(text)
        if spared > 0 and "$ref" not in part.schema:
            used[name] += 1
            names[text] = name if used[name] == 1 else f"{name}-{used[name]}"
    return names


def _part(schema: Schema, names: dict[str, str], itself: str = "") -> Schema:
    """Return a reference to the schema where it is shared, with its words where they are not; else it, folded.

    Args:
        schema: a part of the whole.
        names: the text of a shared part -> its name.
        itself: the text of the part that is being defined, which cannot be a reference to itself.
    """
    for form in _forms(schema):
        text = _dense(form)
        if text in names and text != itself:
            return {**_reference(names[text]), **{key: schema[key] for key in schema if key not in form}}
    return _folded(schema, names)


def _folded(schema: Schema, names: dict[str, str]) -> Schema:
    made: Schema = {}
    for key, value in schema.items():
        if key in _NAMED:
            made[key] = {name: _part(each, names) for name, each in value.items()}
        elif key in _LISTED:
            made[key] = [_part(each, names) for each in value]
        else:
            made[key] = _part(value, names) if key in _SINGLE and isinstance(value, dict) else value
    return made


def _reference(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _inner(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Yield the schemas directly within one, each with the name it stands under, if it has one."""
    for key, value in schema.items():
        if key in _NAMED:
            yield from value.items()
        elif key in _LISTED:
            yield from (("", each) for each in value)
        elif key in _SINGLE and isinstance(value, dict):
            yield "", value


def _block(schemas: dict[str, Schema]) -> str:
    return f"{{\n{_lines((name, _dense(each)) for name, each in schemas.items())}\n}}"


def _lines(members: Iterable[tuple[str, str]]) -> str:
    return ",\n".join(f"{json.dumps(key)}:{text}" for key, text in members)


def _dense(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
