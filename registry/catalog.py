"""Where plug-ins written before `from registry import component` find it."""

from registry.catalogue.plugins import component

__all__ = ["component"]
