"""Parallel coordinates as inline SVG: an upright axis per quantity, a line per item across all of them.

Knows how it is drawn, not what it means. Colours come from the page's CSS variables, as in chart_svg.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from registry.reports.chart import Axis, Role, format_value
from registry.reports.chart_svg import HEIGHT, WIDTH, color, text

_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 70, 62, 34
_LETTERS = 16  # of a name or a choice; longer ones are cut
_NAME_ROW = 19  # user units between the two rows of names


@dataclass(frozen=True)
class Upright:
    """One axis.

    Attributes:
        label: quantity.
        choices: names of places, in order from below; () for numbers.
        log: decades at equal distances.
        percent: values are fractions and shown as per cent.
    """

    label: str
    choices: tuple[str, ...] = ()
    log: bool = False
    percent: bool = False


@dataclass(frozen=True)
class Strand:
    """One item.

    Attributes:
        label: shown when pointed at.
        values: one per axis, of an axis of choices the number of the choice; NaN leaves the axis out.
        weight: 0 for the least, 1 for the most important, which is drawn on top.
        role: gives the colour.
    """

    label: str
    values: Sequence[float]
    weight: float
    role: Role = "val"


def parallel_svg(title: str, axes: Sequence[Upright], strands: Sequence[Strand]) -> str:
    """Return strands over axes as an SVG element."""
    gap = (WIDTH - _LEFT - _RIGHT) / max(len(axes) - 1, 1)
    scales = [_Span(axis, [strand.values[number] for strand in strands]) for number, axis in enumerate(axes)]
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for number, (axis, span) in enumerate(zip(axes, scales, strict=True)):
        parts.append(_axis(axis, span, _LEFT + gap * number, row=number % 2))
    for strand in sorted(strands, key=lambda each: each.weight):
        parts.append(_strand(strand, scales, gap))
    return "".join([*parts, "</svg>"])


class _Span:
    """Where the values of an axis lie in user units."""

    def __init__(self, axis: Upright, values: Sequence[float]) -> None:
        self._log = axis.log
        finite = [value for value in values if math.isfinite(value) and (value > 0 or not axis.log)] or [1.0]
        self.low, self.high = (0.0, len(axis.choices) - 1.0) if axis.choices else (min(finite), max(finite))

    def y(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self._log:
            low, high, at = math.log(low), math.log(high), math.log(value)
        share = (at - low) / (high - low) if high > low else 0.5
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def _axis(axis: Upright, span: _Span, x: float, row: int) -> str:
    parts = [f'<path class="axis" d="M{x:.1f} {_TOP}V{HEIGHT - _BOTTOM}"/>']
    parts.append(text(x, 16 + _NAME_ROW * row, _cut(axis.label), "middle", "label"))
    if axis.choices:
        parts += [text(x + 5, span.y(number) + 4, _cut(name)) for number, name in enumerate(axis.choices)]
        return "".join(parts)
    shown = Axis(axis.label, percent=axis.percent)
    parts.append(text(x, _TOP - 6, format_value(span.high, shown), "middle"))
    parts.append(text(x, HEIGHT - _BOTTOM + 18, format_value(span.low, shown), "middle"))
    return "".join(parts)


def _strand(strand: Strand, scales: Sequence[_Span], gap: float) -> str:
    points = [
        f"{_LEFT + gap * number:.1f} {span.y(value):.1f}"
        for number, (value, span) in enumerate(zip(strand.values, scales, strict=True))
        if math.isfinite(value)
    ]
    if len(points) < 2:
        return ""
    look = f"stroke-width:{0.8 + 1.8 * strand.weight:.2f};opacity:{0.18 + 0.82 * strand.weight:.2f}"
    path = f'<path class="line" d="M{"L".join(points)}" stroke="{color(strand.role)}" style="{look}">'
    return f"{path}<title>{escape(strand.label)}</title></path>"


def _cut(words: str) -> str:
    return words if len(words) <= _LETTERS else f"{words[: _LETTERS - 1]}\u2026"
