"""The catalogue is read once for all tests of recipes, not once a recipe."""

from __future__ import annotations

from functools import cache

import pytest

import trainer.recipe.load as load_module
from registry.catalogue.catalog import Catalogue, catalogue


@cache
def read_once() -> Catalogue:
    return catalogue()


@pytest.fixture(autouse=True)
def _one_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    known = read_once()  # before anybody looks at the clock
    monkeypatch.setattr(load_module, "catalogue", lambda plugins=(): catalogue(plugins) if plugins else known)
