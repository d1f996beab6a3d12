"""Charts as inline SVG: colours come from the page's CSS variables, so that they follow light, dark and print.

Knows how a chart is drawn, not what it means. Every text is escaped. What a tooltip shows travels in `data-chart`; the
page's script reads it, and without script the chart is complete.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

from registry.reports.chart import (
    COLORS,
    Axis,
    Line,
    LineChart,
    Mark,
    Role,
    Scale,
    format_value,
    rows_of_marks,
    scales,
    spread,
    visible_pieces,
)

WIDTH, HEIGHT = 720, 340  # user units; the page scales them
_ROW = 17  # user units between lines of labels
_MOST_TOOLTIPS = 600
_BESIDE_LETTER, _BESIDE_ROW = 13.6, 22.0  # user units of a name beside the plot, in the size for narrow pages
_SHORT = 9  # letters of a name that fit beside the plot; longer ones stand above it, a row each


@dataclass(frozen=True)
class _Layout:
    """How much room a chart has; all in user units.

    Attributes:
        width: of the picture.
        height: of it.
        left: of the plot, where the vertical axis has its numbers.
        right: of it, where lines have their names.
        letter: width of a label's letter.
        beyond: letters by which a label may reach into the room on the right.
        kind: CSS class.
    """

    width: int
    height: int
    left: int
    right: int
    letter: float
    beyond: int
    kind: str


_TOP, _BOTTOM = 34, 52
_ALONE = _Layout(WIDTH, HEIGHT, 72, 78, 9.0, 8, "")  # letters grow on narrow pages
_WIDE = _Layout(WIDTH, HEIGHT, 72, 78, 8.0, 0, " wide")
_NARROW = _Layout(400, 290, 60, 56, 7.6, 0, " narrow")  # in which the letters keep their size on a phone


def color(role: Role) -> str:
    """Return the CSS colour of `role`, with the paper's as fallback."""
    return f"var(--{role}, {COLORS[role]})"


def line_chart_svg(chart: LineChart) -> str:
    """Return `chart` as an SVG element."""
    return _chart(chart, _ALONE)


def line_chart_svgs(chart: LineChart) -> str:
    """Return `chart` as two SVG elements, for wide and for narrow places; the page's style sheet shows one of them."""
    return _chart(chart, _WIDE) + _chart(chart, _NARROW)


def _chart(chart: LineChart, layout: _Layout) -> str:
    across, up = scales(chart)
    labelled = [replace(mark, label=mark.brief or mark.label) for mark in chart.marks]
    marks = labelled if layout is _NARROW else chart.marks
    share = layout.letter / (layout.width - layout.left - layout.right)
    placed = rows_of_marks(marks, across, share, layout.beyond)
    rows = max((row + 1 for mark, row, _ in placed if mark.label), default=0)
    named = [line for line in chart.lines if not line.faint]
    named = named if len(named) > 1 or chart.beside else []  # a line alone needs no name
    above = [] if chart.beside or all(len(line.label) <= _SHORT for line in named) else named
    rows += len(above)
    room = max([layout.right, *(_BESIDE_LETTER * len(line.label) + 16 for line in named if chart.beside)])
    frame = _Frame(across, up, _TOP + _ROW * rows, room, layout)
    parts = [
        f'<svg class="chart{layout.kind}" viewBox="0 0 {layout.width} {layout.height}" role="img" '
        f'aria-label="{escape(chart.title)}" data-chart="{_tooltips(chart, frame)}">',
        _grid(chart, frame),
        *(_mark(mark, row, left, frame) for mark, row, left in placed),
        *(_line(line, frame) for line in chart.lines),
        *(_dot(mark, frame) for mark in chart.marks),
        *(_legend(above, frame) if above else _beside(named, frame) if chart.beside else _end_labels(named, frame)),
        "</svg>",
    ]
    return "".join(parts)


def sparkline_svg(values: Sequence[float], label: str) -> str:
    """Return a line without axes as an SVG element, for a cell of a table; "" where there is nothing to draw.

    Args:
        values: in order, at equal distances.
        label: read out in place of the picture.
    """
    finite = [(index, value) for index, value in enumerate(values) if math.isfinite(value)]
    if not finite:
        return ""
    low, high = min(value for _, value in finite), max(value for _, value in finite)
    across, up = 96 / max(len(values) - 1, 1), 20 / (high - low) if high > low else 0.0
    points = [(2 + across * index, 22 - up * (value - low)) for index, value in finite]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    end = f'<circle cx="{points[-1][0]:.1f}" cy="{points[-1][1]:.1f}" r="2"/>'
    head = f'<svg class="sparkline" viewBox="0 0 100 24" role="img" aria-label="{escape(label)}">'
    return f'{head}<path d="{path}"/>{end}</svg>'


class _Frame:
    """Where values lie in user units."""

    def __init__(self, across: Scale, up: Scale, top: float, room: float, layout: _Layout) -> None:
        self.across, self.up, self.top, self.layout = across, up, top, layout
        self.left, self.right, self.bottom = layout.left, layout.width - room, layout.height - _BOTTOM

    def at(self, share_across: float, share_up: float) -> tuple[float, float]:
        """Return the place of shares of the plot."""
        return self.left + share_across * (self.right - self.left), self.bottom - share_up * (self.bottom - self.top)

    def x(self, value: float) -> float:
        return self.at(self.across.position(value), 0)[0]

    def y(self, value: float) -> float:
        return self.at(0, self.up.position(value))[1]


def text(x: float, y: float, words: str, anchor: str = "start", kind: str = "tick", fill: str = "") -> str:
    """Return a text element; `kind` is its CSS class."""
    paint = f' style="fill:{fill}"' if fill else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{paint}>{escape(words)}</text>'


def _grid(chart: LineChart, frame: _Frame) -> str:
    parts = []
    for value, words in frame.up.ticks:
        y = frame.y(value)
        parts.append(f'<path class="grid" d="M{frame.left} {y:.1f}H{frame.right}"/>')
        parts.append(text(frame.left - 8, y + 4, words, "end"))
    for value, words in frame.across.ticks:
        x = frame.x(value)
        parts.append(f'<path class="axis" d="M{x:.1f} {frame.bottom}v5"/>')
        parts.append(text(x, frame.bottom + 21, words, "middle"))
    parts.append(f'<path class="axis" d="M{frame.left} {frame.bottom}H{frame.right}"/>')
    parts.append(text(frame.left - 52, 16, chart.y.label, kind="label"))
    parts.append(text(frame.right, frame.layout.height - 6, chart.x.label, "end", "label"))
    return "".join(parts)


def _line(line: Line, frame: _Frame) -> str:
    kind = "line faint" if line.faint else "line dashed" if line.dashed else "line"
    shapes = []
    for piece in visible_pieces(line, frame.across, frame.up):
        points = [frame.at(*point) for point in piece]
        if len(points) == 1:
            shapes.append(
                f'<circle cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3.5" fill="{color(line.role)}"/>'
            )
        else:
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
            shapes.append(f'<path class="{kind}" d="M{path}" stroke="{color(line.role)}"/>')
    return "".join(shapes)


def _mark(mark: Mark, row: int, left: bool, frame: _Frame) -> str:
    """Draw a mark's line up to its label, and the label."""
    x, y = frame.x(mark.x), frame.top - 5 - _ROW * row
    top = y if mark.label else frame.top
    shape = f'<path class="mark" d="M{x:.1f} {top:.1f}V{frame.bottom}" stroke="{color(mark.role)}"/>'
    anchor, shift = ("end", -4) if left else ("start", 4)
    return shape + (text(x + shift, y, mark.label, anchor, "note", color(mark.role)) if mark.label else "")


def _dot(mark: Mark, frame: _Frame) -> str:
    if mark.y is None:
        return ""
    return f'<circle cx="{frame.x(mark.x):.1f}" cy="{frame.y(mark.y):.1f}" r="4.5" fill="{color(mark.role)}"/>'


def _legend(lines: Sequence[Line], frame: _Frame) -> list[str]:
    """Name the lines above the plot."""
    parts = []
    for number, line in enumerate(lines):
        x, y = frame.left, _TOP + 4 + number * _ROW
        kind = "line dashed" if line.dashed else "line"
        parts.append(f'<path class="{kind}" d="M{x} {y - 4}h22" stroke="{color(line.role)}"/>')
        parts.append(text(x + 30, y, line.label, kind="name", fill=color(line.role)))
    return parts


def _end_labels(lines: Sequence[Line], frame: _Frame) -> list[str]:
    """Name each line at its end, pushed apart where ends are close."""
    drawn = [(line, visible_pieces(line, frame.across, frame.up)) for line in lines]
    ends = [(line, frame.at(*pieces[-1][-1])) for line, pieces in drawn if pieces]
    places = spread([y for _, (_, y) in ends], _ROW, frame.top, frame.bottom)
    return [
        text(min(x, frame.right) + 8, place + 4, line.label, kind="name", fill=color(line.role))
        for (line, (x, _)), place in zip(ends, places, strict=True)
    ]


def _beside(lines: Sequence[Line], frame: _Frame) -> list[str]:
    """Name each line beside the plot at the height of its end, names apart and led to where they were moved."""
    drawn = [(line, visible_pieces(line, frame.across, frame.up)) for line in lines]
    ends = [(line, frame.at(*pieces[-1][-1])) for line, pieces in drawn if pieces]
    places = spread([y for _, (_, y) in ends], _BESIDE_ROW, frame.top, frame.bottom)
    parts = []
    for (line, (x, y)), place in zip(ends, places, strict=True):
        paint = color(line.role)
        way = f"M{x + 3:.1f} {y:.1f}L{frame.right + 8:.1f} {place:.1f}"
        parts.append(f'<path class="lead" d="{way}" stroke="{paint}"/>')
        parts.append(text(frame.right + 11, place + 4, line.label, kind="name ending", fill=paint))
    return parts


def _tooltips(chart: LineChart, frame: _Frame) -> str:
    """Return what the page's script shows: positions, and a list of words each, as escaped JSON."""
    xs = sorted({x for line in chart.lines for x in line.xs if frame.across.can_show(x)})
    xs = xs[:: max(1, -(-len(xs) // _MOST_TOOLTIPS))]
    told = [line for line in chart.lines if not (chart.beside and line.faint)]
    values = [(line, dict(zip(line.xs, line.ys, strict=True))) for line in told]
    rows = [
        [_words(x, chart.x), *(f"{line.label}: {format_value(at[x], chart.y)}" for line, at in values if x in at)]
        for x in xs
    ]
    data = {
        "x": [round(frame.x(x), 1) for x in xs],
        "rows": rows,
        "top": frame.top,
        "bottom": frame.bottom,
        "width": frame.layout.width,
    }
    return escape(json.dumps(data, ensure_ascii=False, separators=(",", ":")), quote=True)


def _words(x: float, axis: Axis) -> str:
    return f"{axis.label}: {format_value(x, axis)}"
