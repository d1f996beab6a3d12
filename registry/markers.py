"""Where plug-ins written before `from registry import Bounds` find it."""

from registry.catalogue.markers import Bounds, Slot, Text

__all__ = ["Bounds", "Slot", "Text"]
