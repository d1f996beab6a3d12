"""What a recipe's values say together: rules that look at more than one of them, and warnings of science.

Each rule says which paths it looks at, and is silent where one of them was already reported.
"""

from __future__ import annotations

from registry.catalog import Catalogue
from trainer.recipe.problems import Collector
from trainer.recipe.recipe import Recipe


def check_together(recipe: Recipe, catalogue: Catalogue, problems: Collector) -> None:
    """Check."""
