"""Confusion matrix and reliability diagram as inline SVG, in the page's colours.

Knows how they are drawn; the numbers come from scores.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from registry.reports.chart import share_said
from registry.reports.chart_svg import color, text
from registry.reports.scores import Reliability

_HEAD = 30  # user units: the room for "predicted"
_CELLS = ((10, 46), (20, 34), (1000, 28))  # classes up to which a cell has so many user units
_DENSE = 20  # classes beyond which letters are small
_NARROW_CELL, _MOST_NARROW = 27, 11  # of a matrix for a phone, and the classes up to which there is one
_FAINT = 0.625  # opacity of a cell up to which a dark page needs white words on it
_FULL = {True: 0.86, False: 0.9}  # opacity of a hit and of a miss from which a light page needs white words on it
_LETTER = 7.0
_LONGEST, _SHORT = 18, 10  # letters of a class name, and of one on a phone
_SIDE, _LEFT, _TOP, _COUNTS, _BOTTOM = 270, 58, 92, 48, 46  # of the reliability diagram


def matrix_svg(counts: np.ndarray, names: Sequence[str]) -> tuple[str, int]:
    """Return counts (truth, predicted) as cells coloured by their share of the true class, and the natural width in px.

    Numbers are images, which no rounding falsifies.
    """
    cell = next(size for most, size in _CELLS if len(names) <= most)
    return _matrix(counts, names, cell, _LONGEST, " dense" if len(names) > _DENSE else "")


def matrix_svgs(counts: np.ndarray, names: Sequence[str]) -> tuple[str, int]:
    """Return the matrix for wide places with one for narrow ones, or words where no such would be readable."""
    svg, width = matrix_svg(counts, names)
    wide = svg.replace('class="chart small', 'class="chart small wide', 1)
    if len(names) <= _MOST_NARROW:
        return wide + _matrix(counts, names, _NARROW_CELL, _SHORT, " dense narrow")[0], width
    words = f"A matrix of {len(names)} classes needs a wider page; the most frequent confusions are named below."
    return f'{wide}<p class="narrow note">{words}</p>', width


def _matrix(counts: np.ndarray, names: Sequence[str], cell: int, longest: int, kind: str) -> tuple[str, int]:
    words = _shortened(names, longest)
    margin = 34 + round(_LETTER * max(map(len, words)))
    size = cell * len(names)
    upright = cell <= _NARROW_CELL  # names below stand on end, where there is no room beside the last
    slant = margin - 18 if upright else round(0.75 * (margin - 34)) + 26
    width, height = margin + size + (4 if upright else slant), size + slant + _HEAD
    totals = counts.sum(axis=1)
    parts = [
        f'<svg class="chart small{kind}" viewBox="0 0 {width} {height}" style="max-width: {1.25 * width:.0f}px" '
        f'role="img" aria-label="Confusion matrix of {len(names)} classes, images by true and predicted class">'
    ]
    for (row, column), count in np.ndenumerate(counts):
        x, y = margin + column * cell, row * cell
        parts.append(f'<rect class="cell" x="{x}" y="{y}" width="{cell}" height="{cell}"/>')
        if count:
            share = count / totals[row]
            of = f"{count} of {totals[row]} ({share_said(float(share))})"
            hover = f"{names[row]} taken for {names[column]}: {of}"
            tone = "hit" if row == column else "miss"
            opacity = float(np.sqrt(share))  # the root makes rare confusions visible beside a strong diagonal
            shade = word_on_cell(row == column, opacity)
            parts.append(
                f'<g><title>{escape(hover)}</title><rect class="{tone}" x="{x}" y="{y}" width="{cell}" '
                f'height="{cell}" fill-opacity="{opacity:.3f}"/>'
                + text(x + cell / 2, y + cell / 2 + 4, str(count), "middle", shade)
                + "</g>"
            )
    for i, name in enumerate(words):
        parts.append(text(margin - 8, i * cell + cell / 2 + 4, name, "end"))
        x, y = margin + i * cell + cell / 2 - 4, size + 16
        parts.append(f'<g transform="rotate({90 if upright else 40} {x} {y})">' + text(x, y, name) + "</g>")
    parts.append(
        f'<g transform="rotate(-90 12 {size / 2})">' + text(12, size / 2 + 4, "truth", "middle", "label") + "</g>"
    )
    parts.append(text(margin + size / 2, height - 6, "predicted", "middle", "label"))
    return "".join(parts) + "</svg>", width


def _shortened(names: Sequence[str], longest: int) -> list[str]:
    """Return names cut to `longest` letters; in their middle where only their ends tell them apart."""
    cut = [name if len(name) <= longest else name[: longest - 1] + "…" for name in names]
    end = max(1, (longest - 1) // 2)
    return [
        word if cut.count(word) == 1 or len(name) <= longest else f"{name[: longest - 1 - end]}…{name[-end:]}"
        for name, word in zip(names, cut, strict=True)
    ]


def word_on_cell(hit: bool, opacity: float) -> str:
    """Return the CSS class of words on a cell, which the page colours black or white for enough contrast."""
    return "faint-cell" if opacity < _FAINT else "full-cell" if opacity > _FULL[hit] else "middle-cell"


def reliability_svg(found: Reliability, title: str) -> str:
    """Return accuracy by confidence as bars, the mean confidence as dots, and below how many answers there are."""
    width, height = _LEFT + _SIDE + 24, _TOP + _SIDE + _COUNTS + _BOTTOM
    bottom = _TOP + _SIDE
    parts = [f'<svg class="chart small" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">']
    parts += _legend()
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
        x, wide = _LEFT + _SIDE * low, max(0.5, _SIDE * (high - low) - 1.5)
        tall, middle, sure = _SIDE * accuracy, x + wide / 2, bottom - _SIDE * confidence
        down = max(1.0, (_COUNTS - 10) * count / most)
        hover = f"confidence {100 * confidence:.1f} %, accuracy {100 * accuracy:.1f} %, {count} answers"
        parts.append(
            f"<g><title>{hover}</title>"
            f'<rect x="{x:.1f}" y="{bottom - tall:.1f}" width="{wide:.1f}" height="{tall:.1f}" fill="{color("val")}" '
            f'fill-opacity=".5"/>'
            f'<path class="line" d="M{middle:.1f} {bottom - tall:.1f}L{middle:.1f} {sure:.1f}" '
            f'stroke="{color("train")}"/>'
            f'<circle cx="{middle:.1f}" cy="{sure:.1f}" r="3.5" fill="{color("train")}"/>'
            f'<rect x="{x:.1f}" y="{bottom + 6}" width="{wide:.1f}" height="{down:.1f}" fill="{color("quiet")}" '
            f'fill-opacity=".6"/></g>'
        )
    parts.append(f'<path class="mark" d="M{_LEFT} {bottom}L{_LEFT + _SIDE} {_TOP}" stroke="{color("quiet")}"/>')
    parts.append(f'<path class="axis" d="M{_LEFT} {bottom}h{_SIDE}"/>')
    middle = _TOP + _SIDE / 2
    parts.append(
        f'<g transform="rotate(-90 14 {middle})">' + text(14, middle, "share that is right", "middle", "label") + "</g>"
    )
    parts.append(text(_LEFT + _SIDE / 2, height - 6, "confidence", "middle", "label"))
    return "".join(parts) + "</svg>"


def _legend() -> list[str]:
    """Say what the four signs of the reliability diagram are, a row each."""
    rows = (
        (
            f'<rect x="8" y="{{y}}" width="14" height="10" fill="{color("val")}" fill-opacity=".5"/>',
            "share of the answers that is right",
        ),
        (f'<circle cx="15" cy="{{middle}}" r="3.5" fill="{color("train")}"/>', "how sure the model was of them"),
        (f'<path class="mark" d="M8 {{middle}}h14" stroke="{color("quiet")}"/>', "as often right as sure"),
        (
            f'<rect x="8" y="{{y}}" width="14" height="10" fill="{color("quiet")}" fill-opacity=".6"/>',
            "how many answers, below the axis",
        ),
    )
    parts = []
    for number, (sign, words) in enumerate(rows):
        y = 6 + 19 * number
        parts.append(sign.format(y=y, middle=y + 5) + text(30, y + 9, words))
    return parts
