"""Overrides of `evaluate`: those that would change nothing are refused; recipe/afterwards.py says which are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from registry.errors import RecipeError
from trainer.recipe.afterwards import READ_BY_EVALUATE, free, patterns
from trainer.recipe.load import load_recipe
from trainer.recipe.recipe import Recipe
from trainer.recipe.resolve import flat


def is_read(key: str) -> bool:
    """Say whether an evaluation reads a key, or some below it: "train.tta", "data.dataset.root", "data.dataset"."""
    return free(key, READ_BY_EVALUATE) is not None


def refuse_idle(overrides: Sequence[str], resolved: Path) -> None:
    """Refuse overrides that an evaluation does not read.

    Args:
        overrides: `key=value`; the recipe takes them.
        resolved: the recipe that they are laid over.

    Raises:
        RecipeError: naming those keys, and the ones that matter.
    """
    before = load_recipe(resolved, unread=is_unread).recipe
    idle = [key for override in overrides for key in _idle(override, before, resolved)]
    if idle:
        them = "it" if len(idle) == 1 else "them"
        raise RecipeError(
            f"{', '.join(idle)} would change nothing: an evaluation does not read {them}",
            f"leave {them} out. What matters: {patterns(READ_BY_EVALUATE)}",
        )


def is_unread(key: str) -> bool:
    """Say whether nobody who uses a finished run reads a key."""
    return not is_read(key)


def _idle(override: str, before: Recipe | None, resolved: Path) -> list[str]:
    """Return the keys that an override sets and an evaluation does not read."""
    key = override.partition("=")[0]
    if is_read(key):
        return []
    after = load_recipe(resolved, [override], unread=is_unread).recipe
    if before is None or after is None:
        return [key]
    one, other = flat(before), flat(after)
    changed = [path for path in {**one, **other} if one.get(path) != other.get(path)]
    return [path for path in changed if not is_read(path)] if any(map(is_read, changed)) else [key]
