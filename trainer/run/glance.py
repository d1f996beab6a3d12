"""A run at a glance: one line, and the small card that a notebook shows in its place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from registry.printing import metric_text, one_line
from trainer.recipe.recipe import Recipe
from trainer.run.summary import is_number, sound

_WIDTH, _HEIGHT = 240, 56  # px, of the curve
_POINTS = 40  # of the curve at most, so that a card of a long run stays small
_CARD = (
    "display:inline-block;border:1px solid #8884;border-radius:6px;padding:8px 12px;"
    "font:13px/1.5 system-ui,sans-serif;max-width:30em"
)
_SMALL = "opacity:.7;font-size:11px"


def line(recipe: Recipe, folder: Path, summary: Mapping[str, Any]) -> str:
    """Return what a run is and reached, in one line.

    Args:
        recipe: of the run.
        folder: of the run.
        summary: as in summary.json, whatever stands there.
    """
    return one_line(f"run {recipe.name}: {'; '.join(_answers(recipe, summary))} ({folder})")


def card(recipe: Recipe, folder: Path, summary: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> str:
    """Return the name, the answer and the curve of a run as a small piece of HTML, without scripts or other files.

    Args:
        recipe: of the run.
        folder: of the run.
        summary: as in summary.json.
        history: a row per epoch.
    """
    answers = "<br>".join(map(_escaped, _answers(recipe, summary)))
    curve = _curve(recipe.train.best.metric, history)
    return (
        f'<div style="{_CARD}"><b>{_escaped(recipe.name)}</b> <span style="opacity:.7">{_escaped(recipe.model.type)}, '
        f"{_escaped(recipe.data.dataset.type)}</span><br>{answers}{curve}"
        f'<div style="{_SMALL}">{_escaped(str(folder))}</div></div>'
    )


def _answers(recipe: Recipe, summary: Mapping[str, Any]) -> list[str]:
    """Return what a run reached, a sentence each, what was held out first."""
    key, summary = recipe.train.best.metric, sound(summary)
    said, word = [], key.partition("/")[2]
    held_out = summary.get("test", {}).get("best" if summary.get("best") else "final")
    if isinstance(held_out, Mapping) and word in held_out:
        said.append(f"test {word} {metric_text(key, held_out[word])}")
    best = summary.get("best", {})
    if key in best and "epoch" in best:
        where = " on test" if summary.get("selected_on") == "test" else ""
        epochs = f"epoch {best['epoch']:g} of {summary.get('epochs', recipe.train.epochs)}"
        said.append(f"best {key} {metric_text(key, best[key])} in {epochs}{', chosen' + where if where else ''}")
    status = str(summary.get("status", "not finished"))
    said += [] if status == "completed" else [status]
    return said + (["--fast: cut short, no result"] if summary.get("fast") else [])


def _curve(key: str, history: Sequence[Mapping[str, float]]) -> str:
    """Return the metric that chose the best epoch over the epochs, as inline SVG; "" with fewer than two epochs."""
    step = max(1, math.ceil(len(history) / _POINTS))
    rows = [*history[:-1:step], *history[-1:]]
    points = [(float(row["epoch"]), float(row[key])) for row in rows if is_number(row.get(key))]
    if len(points) < 2:
        return ""
    (first, _), (last, _) = points[0], points[-1]
    low, high = min(y for _, y in points), max(y for _, y in points)
    span = (high - low) or 1.0
    path = " ".join(
        f"{_WIDTH * (x - first) / (last - first):.0f},{2 + (_HEIGHT - 4) * (high - y) / span:.0f}" for x, y in points
    )
    title = f"{key}: {metric_text(key, points[0][1])} to {metric_text(key, points[-1][1])} over {len(history)} epochs"
    return (
        f'<svg role="img" width="{_WIDTH}" height="{_HEIGHT}" style="display:block;margin-top:4px">'
        f"<title>{_escaped(title)}</title>"
        f'<polyline points="{path}" fill="none" stroke="#0a7abf" stroke-width="2"/></svg>'
        f'<div style="{_SMALL}">{_escaped(key)} by epoch</div>'
    )


def _escaped(text: str) -> str:
    return escape(one_line(text))
