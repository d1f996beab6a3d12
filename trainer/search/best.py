"""best.yaml: the best trial as an ordinary recipe that extends the sweep's base."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.recipe.problems import Collector
from trainer.recipe.reading.composition import compose_recipe
from trainer.recipe.reading.nodes import ListNode, MapNode, Node, plain
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
    composed = compose_recipe(Path(sweep.base), overrides, Collector())
    assert composed is not None
    changed: dict[str, Any] = {}
    for override in overrides:
        _put(changed, override.partition("=")[0].split("."), composed.root)
    base = os.path.relpath(sweep.base, below)
    lines = [f"# {remark}", "version: 1", f"extends: {flow(base)}", f"name: {flow(sweep.sweep + '_best')}"]
    return "\n".join([*lines, *(f"{key}: {flow(value, True)}" for key, value in changed.items())]) + "\n"


def _put(changed: dict[str, Any], path: Sequence[str], node: Node | None) -> None:
    """Set in `changed` what `node` has at `path`, whole from the first component or list on."""
    key, rest = path[0], path[1:]
    inner = node.get(key) if isinstance(node, MapNode) else None
    if inner is None or not rest or isinstance(inner, ListNode) or _is_component(inner):
        changed[key] = None if inner is None else plain(inner)
        return
    below = changed.setdefault(key, {})
    if isinstance(below, dict):
        _put(below, rest, inner)


def _is_component(node: Node) -> bool:
    return isinstance(node, MapNode) and "type" in node.entries
