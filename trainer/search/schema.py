"""The JSON Schema of a sweep's file, for editors."""

from __future__ import annotations

from registry.catalogue.catalog import Catalogue, catalogue
from registry.catalogue.json_schema import REFERENCE_DEFINITION, Schema, record_schema
from registry.catalogue.slots import SWEEP_SLOTS
from trainer.recipe.schema import DIALECT, definitions, nullable, slot_ref
from trainer.recipe.sections import section_type
from trainer.search.sweep import Sweep


def schema(components: Catalogue | None = None) -> Schema:
    """Return the schema of a sweep; what it draws is its recipe's to check.

    Args:
        components: what may be named; the catalogue without plug-ins when None.
    """
    components, fields = components or catalogue(), section_type(Sweep)["fields"]
    whole = record_schema(fields, slot_ref)
    sections = {
        name: made if fields[name]["required"] else nullable(made) for name, made in whole["properties"].items()
    }
    return {
        "$schema": DIALECT,
        "title": "Sweep over an image-classification recipe",
        **whole,
        "properties": sections,
        "patternProperties": {"^x-": {"description": "free, for notes and anchors."}},
        "$defs": {"reference": REFERENCE_DEFINITION, **definitions(components, SWEEP_SLOTS.values())},
    }
