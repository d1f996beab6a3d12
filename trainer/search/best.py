"""best.yaml: the best trial as an ordinary recipe that extends the sweep's base."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.recipe.problems import Collector
from trainer.recipe.reading.composition import compose_recipe
from trainer.recipe.reading.nodes import ListNode, MapNode, Node, plain
from trainer.recipe.reading.references import resolve
from trainer.recipe.resolve import flow
from trainer.search.sweep import Sweep


def best_yaml(sweep: Sweep, texts: Sequence[str], remark: str, below: Path) -> str:
    """Return the recipe of a trial.

    What the sweep changes is written out; of a component or a list, which are replaced or hang together, all of it.

    Args:
        sweep: the sweep.
        texts: the trial's values.
        remark: first line, as a comment.
        below: the folder that the file will lie in.
    """
    overrides = sweep.assigned(texts)
    whole, bare = _tree(sweep.base, overrides), _tree(sweep.base, ())
    changed: dict[str, Any] = {}
    for override in overrides:
        _put(changed, override.partition("=")[0].split("."), whole, bare)
    base = os.path.relpath(sweep.base, below)
    lines = [f"# {remark}", "version: 1", f"extends: {flow(base)}", f"name: {flow(sweep.sweep + '_best')}"]
    return "\n".join([*lines, *(f"{key}: {flow(value, True)}" for key, value in changed.items())]) + "\n"


def _tree(base: str, overrides: Sequence[str]) -> MapNode:
    """Return a recipe's tree, references to itself replaced by what they name."""
    composed = compose_recipe(Path(base), overrides, Collector())
    assert composed is not None
    return resolve(composed.root, Collector())


def _put(changed: dict[str, Any], path: Sequence[str], node: Node | None, base: Node | None) -> None:
    """Set in `changed` what `node` has at `path`, whole from the first component or list on.

    What `base` has there beside it, and the file would inherit, is taken away by `null`.
    """
    key, rest = path[0], path[1:]
    inner, inherited = (each.get(key) if isinstance(each, MapNode) else None for each in (node, base))
    if inner is None or not rest or isinstance(inner, ListNode) or _is_component(inner):
        changed[key] = None if inner is None else _alone(inner, inherited)
        return
    below = changed.setdefault(key, {})
    if isinstance(below, dict):
        _put(below, rest, inner, inherited)


def _alone(node: Node, inherited: Node | None) -> Any:
    """Return a value such that, laid over `inherited`, it is itself: of one type or none both merge key by key."""
    if not isinstance(node, MapNode) or not isinstance(inherited, MapNode) or _type(node) != _type(inherited):
        return plain(node)
    given = {key: _alone(entry.node, inherited.get(key)) for key, entry in node.entries.items()}
    return given | {key: None for key in inherited.entries if key not in node.entries}


def _type(node: MapNode) -> Any:
    named = node.get("type")
    return None if named is None else plain(named)


def _is_component(node: Node) -> bool:
    return isinstance(node, MapNode) and "type" in node.entries
