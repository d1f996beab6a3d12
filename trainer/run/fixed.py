"""What a run builds on: the values of its recipe that cannot change without making it another run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from trainer.recipe.afterwards import FREE_AT_RESUME, free


def fixed(resolved: str) -> dict[str, Any]:
    """Return the values that cannot change, by dotted path.

    Args:
        resolved: text of a resolved.yaml.
    """
    return {path: value for path, value in leaves(yaml.safe_load(resolved)) if free(path, FREE_AT_RESUME) is None}


def recipe_digest(resolved: str) -> str:
    """Return a digest of the values that cannot change."""
    text = json.dumps(fixed(resolved), sort_keys=True, default=str)  # a date is a value of YAML, and none of JSON
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def learnt_from(prints: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fingerprints of the parts that a run learns from or chooses by; test images may be replaced.

    Args:
        prints: by part, of trainer/data/fingerprint.py.
    """
    return {part: prints[part] for part in ("train", "val") if part in prints}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested maps and lists by dotted path; what is empty is a value."""
    below = dict(enumerate(value)) if isinstance(value, list) else value
    if not isinstance(below, Mapping) or not below:
        yield path, value
        return
    for key, item in below.items():
        yield from leaves(item, f"{path}.{key}" if path else str(key))
