"""Charts as inline SVG: colours come from the page's CSS variables, so that they follow light, dark and print.

Knows how a chart is drawn, not what it means. Every text is escaped. What a tooltip shows travels in `data-chart`; the
page's script reads it, and without script the chart is complete.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
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
    runs_of_finite,
    scales,
)

WIDTH, HEIGHT = 720, 330  # user units; the page scales them
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 62, 34, 52
_MOST_TOOLTIPS = 600
_LABEL_GAP = 17  # user units between two labels at the lines' ends


def color(role: Role) -> str:
    """Return the CSS colour of `role`, with the paper's as fallback."""
    return f"var(--{role}, {COLORS[role]})"


def line_chart_svg(chart: LineChart) -> str:
    """Return `chart` as an SVG element."""
    across, up = scales(chart)
    frame = _Frame(across, up)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)}" '
        f"data-chart='{_tooltips(chart, frame)}'>",
        _grid(chart, frame),
        *(_line(line, chart, frame) for line in chart.lines),
        *_marks(chart.marks, frame),
        *_end_labels(chart.lines, frame),
        "</svg>",
    ]
    return "".join(parts)


class _Frame:
    """Where values lie in user units."""

    def __init__(self, across: Scale, up: Scale) -> None:
        self.across, self.up = across, up
        self.right, self.bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM

    def x(self, value: float) -> float:
        return _LEFT + self.across.position(value) * (self.right - _LEFT)

    def y(self, value: float) -> float:
        return self.bottom - self.up.position(value) * (self.bottom - _TOP)


def text(x: float, y: float, words: str, anchor: str = "start", kind: str = "tick", fill: str = "") -> str:
    """Return a text element; `kind` is its CSS class."""
    paint = f' style="fill:{fill}"' if fill else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{paint}>{escape(words)}</text>'


def _grid(chart: LineChart, frame: _Frame) -> str:
    parts = []
    for value, words in frame.up.ticks:
        y = frame.y(value)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{frame.right}"/>')
        parts.append(text(_LEFT - 8, y + 4, words, "end"))
    for value, words in frame.across.ticks:
        x = frame.x(value)
        parts.append(f'<path class="axis" d="M{x:.1f} {frame.bottom}v5"/>')
        parts.append(text(x, frame.bottom + 20, words, "middle"))
    parts.append(f'<path class="axis" d="M{_LEFT} {frame.bottom}H{frame.right}"/>')
    parts.append(text(_LEFT - 60, 18, chart.y.label, kind="label"))
    parts.append(text(frame.right, HEIGHT - 6, chart.x.label, "end", "label"))
    return "".join(parts)


def _line(line: Line, chart: LineChart, frame: _Frame) -> str:
    kind = "line faint" if line.faint else "line dashed" if line.dashed else "line"
    shapes = []
    for piece in runs_of_finite(line, chart.x.log, chart.y.log):
        points = [(frame.x(x), frame.y(y)) for x, y in piece]
        if len(points) == 1:
            shapes.append(
                f'<circle cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3.5" fill="{color(line.role)}"/>'
            )
        else:
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
            shapes.append(f'<path class="{kind}" d="M{path}" stroke="{color(line.role)}"/>')
    return "".join(shapes)


def _marks(marks: Sequence[Mark], frame: _Frame) -> list[str]:
    """Draw marks; labels of near neighbours go on lines of their own."""
    parts, taken = [], [-1e9, -1e9, -1e9]
    for mark in sorted(marks, key=lambda m: m.x):
        x = frame.x(mark.x)
        parts.append(f'<path class="mark" d="M{x:.1f} {_TOP}V{frame.bottom}" stroke="{color(mark.role)}"/>')
        if mark.y is not None:
            parts.append(f'<circle cx="{x:.1f}" cy="{frame.y(mark.y):.1f}" r="4.5" fill="{color(mark.role)}"/>')
        if mark.label:
            width = 7.2 * len(mark.label)
            to_left = x + width > frame.right
            begin = x - width if to_left else x
            row = next((i for i, end in enumerate(taken) if begin > end + 8), 0)
            taken[row] = begin + width
            anchor, shift = ("end", -6) if to_left else ("start", 6)
            parts.append(text(x + shift, _TOP + 11 + 16 * row, mark.label, anchor, "note", color(mark.role)))
    return parts


def _end_labels(lines: Sequence[Line], frame: _Frame) -> list[str]:
    """Name each line at its end, pushed apart where ends are close."""
    ends = []
    for line in lines:
        pieces = runs_of_finite(line, frame.across.log, frame.up.log)
        if pieces and not line.faint:
            x, y = pieces[-1][-1]
            ends.append((frame.y(y), frame.x(x), line))
    ends.sort(key=lambda end: end[0])
    parts, last = [], -1e9
    for y, x, line in ends:
        last = max(y, last + _LABEL_GAP)
        parts.append(text(min(x + 7, frame.right + 7), last + 4, line.label, kind="name", fill=color(line.role)))
    return parts


def _tooltips(chart: LineChart, frame: _Frame) -> str:
    """Return what the page's script shows, as JSON safe inside single quotes: positions and one list of words each."""
    xs = sorted({x for line in chart.lines for x in line.xs if x > 0 or not chart.x.log})
    xs = xs[:: max(1, -(-len(xs) // _MOST_TOOLTIPS))]
    values = [(line, dict(zip(line.xs, line.ys, strict=True))) for line in chart.lines]
    rows = [
        [_words(x, chart.x), *(f"{line.label}: {format_value(at[x], chart.y)}" for line, at in values if x in at)]
        for x in xs
    ]
    data = {"x": [round(frame.x(x), 1) for x in xs], "rows": rows, "top": _TOP, "bottom": frame.bottom, "width": WIDTH}
    return escape(json.dumps(data, ensure_ascii=False, separators=(",", ":")), quote=True)


def _words(x: float, axis: Axis) -> str:
    return f"{axis.label}: {format_value(x, axis)}"
