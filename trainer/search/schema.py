"""The JSON Schema of a sweep's file, for editors."""

from __future__ import annotations

from registry.catalogue.catalog import Catalogue, catalogue
from registry.catalogue.json_schema import REFERENCE_DEFINITION, Schema, record_schema
from registry.catalogue.slots import SWEEP_SLOTS
from trainer.recipe.schema import DIALECT, definitions, slot_ref
from trainer.recipe.sections import section_type
from trainer.search.sweep import Sweep


def schema(components: Catalogue | None = None) -> Schema:
    """Return the schema of a sweep; what it draws is its recipe's to check.

    Args:
        components: what may be named; the catalogue without plug-ins when None.
    """
    components = components or catalogue()
    return {
        "$schema": DIALECT,
        "title": "Sweep over an image-classification recipe",
        **record_schema(section_type(Sweep)["fields"], slot_ref),
        "patternProperties": {"^x-": {"description": "free, for notes and anchors."}},
        "$defs": {"reference": REFERENCE_DEFINITION, **definitions(components, SWEEP_SLOTS.values())},
    }
