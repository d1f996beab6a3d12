"""Confusion matrix and reliability diagram as inline SVG, in the page's colours.

Knows how they are drawn; the numbers come from scores.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from registry.reports.chart_svg import color, text
from registry.reports.scores import Reliability

_CELL, _HEAD = 46, 30  # user units: a matrix cell, and the room for "predicted"
_FAINT = 0.625  # opacity of a cell up to which a dark page needs white words on it
_FULL = {True: 0.86, False: 0.9}  # opacity of a hit and of a miss from which a light page needs white words on it
_LETTER = 7.0
_LONGEST = 18  # letters of a class name
_SIDE, _LEFT, _TOP, _COUNTS, _BOTTOM = 360, 62, 14, 70, 46  # of the reliability diagram


def matrix_svg(counts: np.ndarray, names: Sequence[str]) -> tuple[str, int]:
    """Return counts (truth, predicted) as cells coloured by their share of the true class, and the natural width in px.

    Numbers are per cent.
    """
    words = [name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…" for name in names]
    margin = 34 + round(_LETTER * max(map(len, words)))
    size = _CELL * len(names)
    slant = round(0.75 * (margin - 34)) + 26
    width, height = margin + size + slant, size + slant + _HEAD
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    parts = [
        f'<svg class="chart small" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="Confusion matrix of {len(names)} classes, per cent of the true class">'
    ]
    for (row, column), share in np.ndenumerate(shares):
        x, y = margin + column * _CELL, row * _CELL
        parts.append(f'<rect class="cell" x="{x}" y="{y}" width="{_CELL}" height="{_CELL}"/>')
        if counts[row, column]:
            hover = f"{names[row]} taken for {names[column]}: {counts[row, column]}"
            tone = "hit" if row == column else "miss"
            opacity = float(np.sqrt(share))  # the root makes rare confusions visible beside a strong diagonal
            shade = word_on_cell(row == column, opacity)
            parts.append(
                f'<g><title>{escape(hover)}</title><rect class="{tone}" x="{x}" y="{y}" width="{_CELL}" '
                f'height="{_CELL}" fill-opacity="{opacity:.3f}"/>'
                + text(x + _CELL / 2, y + _CELL / 2 + 4, share_text(share), "middle", shade)
                + "</g>"
            )
    for i, name in enumerate(words):
        parts.append(text(margin - 8, i * _CELL + _CELL / 2 + 4, name, "end"))
        x, y = margin + i * _CELL + _CELL / 2 - 4, size + 16
        parts.append(f'<g transform="rotate(40 {x} {y})">' + text(x, y, name) + "</g>")
    parts.append(
        f'<g transform="rotate(-90 12 {size / 2})">' + text(12, size / 2 + 4, "truth", "middle", "label") + "</g>"
    )
    parts.append(text(margin + size / 2, height - 6, "predicted", "middle", "label"))
    return "".join(parts) + "</svg>", width


def word_on_cell(hit: bool, opacity: float) -> str:
    """Return the CSS class of words on a cell, which the page colours black or white for enough contrast."""
    return "faint-cell" if opacity < _FAINT else "full-cell" if opacity > _FULL[hit] else "middle-cell"


def share_text(share: float) -> str:
    """Return a share as per cent with at most one decimal, which a small share keeps."""
    percent = 100 * share
    return f"{percent:.0f}" if percent >= 9.95 or percent == round(percent) else f"{percent:.1f}"


def reliability_svg(found: Reliability, title: str) -> str:
    """Return accuracy by confidence as bars with their gap to the diagonal, and below how many answers there are."""
    width, height = _LEFT + _SIDE + 20, _TOP + _SIDE + _COUNTS + _BOTTOM
    bottom = _TOP + _SIDE
    parts = [f'<svg class="chart small" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">']
    for tick in (0, 20, 40, 60, 80, 100):
        x, y = _LEFT + _SIDE * tick / 100, bottom - _SIDE * tick / 100
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}h{_SIDE}"/>' + text(_LEFT - 8, y + 4, f"{tick} %", "end"))
        parts.append(text(x, bottom + _COUNTS + 20, f"{tick} %", "middle"))
    most = max(int(found.counts.max()), 1)
    for low, high, accuracy, confidence, count in zip(
        found.edges[:-1], found.edges[1:], found.accuracy, found.confidence, found.counts, strict=True
    ):
        if not count:
            continue
        x, wide = _LEFT + _SIDE * low, _SIDE * (high - low) - 1.5
        tall, gap = _SIDE * accuracy, _SIDE * abs(accuracy - confidence)
        edge = bottom - _SIDE * max(accuracy, confidence)
        down = max(1.0, (_COUNTS - 10) * count / most)
        hover = f"confidence {100 * confidence:.1f} %, accuracy {100 * accuracy:.1f} %, {count} answers"
        parts.append(
            f"<g><title>{hover}</title>"
            f'<rect x="{x:.1f}" y="{bottom - tall:.1f}" width="{wide:.1f}" height="{tall:.1f}" fill="{color("val")}"/>'
            f'<rect x="{x:.1f}" y="{edge:.1f}" width="{wide:.1f}" height="{gap:.1f}" fill="{color("train")}" '
            f'fill-opacity=".45"/>'
            f'<rect x="{x:.1f}" y="{bottom + 6}" width="{wide:.1f}" height="{down:.1f}" fill="{color("quiet")}" '
            f'fill-opacity=".6"/></g>'
        )
    parts.append(f'<path class="mark" d="M{_LEFT} {bottom}L{_LEFT + _SIDE} {_TOP}" stroke="{color("quiet")}"/>')
    parts.append(f'<path class="axis" d="M{_LEFT} {bottom}h{_SIDE}"/>')
    middle = _TOP + _SIDE / 2
    parts.append(f'<g transform="rotate(-90 14 {middle})">' + text(14, middle, "accuracy", "middle", "label") + "</g>")
    parts.append(text(_LEFT + _SIDE / 2, height - 6, "confidence", "middle", "label"))
    return "".join(parts) + "</svg>"
