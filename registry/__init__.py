"""What a recipe may name: models, datasets, transforms, losses, optimizers, ... and the table that lists them.

Knows nothing of `trainer`, which decides what happens to a recipe. How names become entries is `registry.catalogue`;
everything else is components and the contracts they keep.

This is also the door for components of one's own: `from registry import component, Bounds`. A name of `__all__` is
loaded when it is asked for, so that importing the package imports nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from registry.catalogue.markers import Bounds, Slot, Text
    from registry.catalogue.plugins import component
    from registry.contracts import (
        Callback,
        Code,
        Evidence,
        Figure,
        Gallery,
        Images,
        ImageSource,
        LRFinding,
        Metric,
        Paragraph,
        Predictions,
        Regularizer,
        ReportPart,
        Section,
        Stop,
        Table,
        View,
    )
    from registry.data_facts import DataFacts, FromArgument
    from registry.errors import DataError, RecipeError, UserError
    from registry.recording import Curve, RunInfo, Sink

_CONTRACTS = (
    *("Callback", "Code", "Evidence", "Figure", "Gallery", "ImageSource", "Images", "LRFinding", "Metric", "Paragraph"),
    *("Predictions", "Regularizer", "ReportPart", "Section", "Stop", "Table", "View"),
)
_HOMES = {
    "component": "registry.catalogue.plugins",
    **dict.fromkeys(("Bounds", "Slot", "Text"), "registry.catalogue.markers"),
    **dict.fromkeys(_CONTRACTS, "registry.contracts"),
    **dict.fromkeys(("DataFacts", "FromArgument"), "registry.data_facts"),
    **dict.fromkeys(("DataError", "RecipeError", "UserError"), "registry.errors"),
    **dict.fromkeys(("Curve", "RunInfo", "Sink"), "registry.recording"),
}

__all__ = [  # noqa: RUF022, in the order in which one meets them
    "component",
    "Bounds",
    "Slot",
    "Text",
    "Callback",
    "Stop",
    "View",
    "Metric",
    "Regularizer",
    "ImageSource",
    "DataFacts",
    "FromArgument",
    "ReportPart",
    "Evidence",
    "Section",
    "Paragraph",
    "Table",
    "Figure",
    "Gallery",
    "Code",
    "Images",
    "Predictions",
    "LRFinding",
    "Sink",
    "Curve",
    "RunInfo",
    "UserError",
    "RecipeError",
    "DataError",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'registry' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
