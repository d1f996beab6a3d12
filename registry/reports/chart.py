"""What a chart shows, apart from how it is drawn: lines, marks, axes and their ticks.

A part describes a chart once; chart_svg.py makes the page's picture of it and chart_png.py the one for paper. Owns the
palette, which holds for colour-blind readers and on paper: no two roles share both colour and dash.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_SMALLEST_SPAN = 1e-12  # of an axis, relative to its values
_LOG_PADDING = 0.02  # of an axis with decades, on either side

Role = Literal["train", "val", "accent", "quiet", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10"]

# Okabe and Ito's palette, darkened where a line would have less than 3:1 against white. s1 to s10 tell runs apart.
COLORS: dict[Role, str] = {
    "train": "#b04a00", "val": "#0067a5", "accent": "#00795c", "quiet": "#6b7280",
    "s1": "#0067a5", "s2": "#b04a00", "s3": "#00795c", "s4": "#7b3fb5", "s5": "#c2185b",
    "s6": "#6b6b00", "s7": "#007c91", "s8": "#7a4b2a", "s9": "#4a55c7", "s10": "#4d5663",
}  # fmt: skip
SERIES: tuple[Role, ...] = ("s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10")
INK, SOFT_INK, GRID, PAPER = "#1c2430", "#566072", "#e3e7ec", "#ffffff"


@dataclass(frozen=True)
class Line:
    """A line through points; a value that is not finite leaves a gap.

    Attributes:
        label: in the legend and the tooltip.
        xs: abscissae.
        ys: ordinates, as many.
        role: what it stands for, which gives its colour.
        faint: drawn thin and pale, behind the others (raw values behind their smooth).
        dashed: drawn with dashes.
    """

    label: str
    xs: Sequence[float]
    ys: Sequence[float]
    role: Role
    faint: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class Mark:
    """A vertical line at `x` with a word beside it, and a dot at `y` where that is given.

    Attributes:
        label: beside the line; "" for a plain line.
        x: abscissa.
        y: ordinate of the dot.
        role: gives the colour.
        brief: label in a narrow picture; "" for the same.
    """

    label: str
    x: float
    y: float | None = None
    role: Role = "quiet"
    brief: str = ""


@dataclass(frozen=True)
class Axis:
    """One direction of a chart.

    Attributes:
        label: quantity and unit.
        log: decades at equal distances.
        percent: values are fractions and shown as per cent.
        low: smallest value shown; None follows the data.
        high: greatest value shown; None follows the data.
        whole: only integers get a tick.
    """

    label: str
    log: bool = False
    percent: bool = False
    low: float | None = None
    high: float | None = None
    whole: bool = False


@dataclass(frozen=True)
class LineChart:
    """Lines over one pair of axes.

    Attributes:
        title: read out in place of the picture, and above the PNG.
        x: horizontal axis.
        y: vertical axis.
        lines: in drawing order.
        marks: vertical lines.
        beside: every line's name stands at its end, however long; faint lines have none.
    """

    title: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    marks: tuple[Mark, ...] = ()
    beside: bool = False


@dataclass(frozen=True)
class Scale:
    """An axis with numbers: its ends and its ticks.

    Attributes:
        low: value at the beginning.
        high: value at the end.
        log: decades at equal distances.
        ticks: (value, text) from low to high.
    """

    low: float
    high: float
    log: bool
    ticks: tuple[tuple[float, str], ...]

    def position(self, value: float) -> float:
        """Return where `value` lies: 0 at the beginning, 1 at the end, beyond them outside."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def can_show(self, value: float) -> bool:
        """Whether `value` has a place on this scale, inside or outside."""
        return math.isfinite(value) and (value > 0 or not self.log)


def scale(axis: Axis, values: Sequence[float], padding: float = 0.0) -> Scale:
    """Return the scale of `axis` for `values`, widened by `padding` of its length on the sides that follow the data."""
    finite = [v for v in values if math.isfinite(v) and (v > 0 or not axis.log)] or [1.0]
    low, high = min(finite), max(finite)
    if axis.log:
        return _log_scale(axis, low, high)
    if high - low <= _SMALLEST_SPAN * max(abs(low), abs(high), _SMALLEST_SPAN):  # equal, to what a tick can say
        half = abs(low) / 2 if abs(low) > _SMALLEST_SPAN else 0.5
        low, high = low - half, high + half
    low, high = low - padding * (high - low), high + padding * (high - low)
    if axis.percent and min(finite) >= 0:  # there are no shares below
        low = max(low, 0.0)
    low = low if axis.low is None else axis.low
    high = high if axis.high is None else axis.high
    step = _nice_step((high - low) / 6)
    if axis.whole:
        step = max(1.0, round(step))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    ticks = tuple((i * step, format_tick(i * step, step, axis.percent)) for i in range(first, last + 1))
    return Scale(low, high, False, ticks)


def format_tick(value: float, step: float, percent: bool) -> str:
    """Return `value` with as many decimals as ticks `step` apart need."""
    if percent:
        value, step = value * 100, step * 100
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    text = f"{value + 0.0:.{decimals}f}"
    return f"{text} %" if percent else text


def format_value(value: float, axis: Axis) -> str:
    """Return one value of `axis` for a tooltip or a table."""
    if not math.isfinite(value):
        return str(value)
    if axis.percent:
        return f"{100 * value:.2f} %"
    if axis.whole:
        return f"{value:g}"
    return f"{value:.4g}"


def share_said(share: float) -> str:
    """Return a share as per cent with one decimal, which reaches neither 0 nor 100 % by rounding: "> 99.9 %"."""
    percent = f"{100 * share:.1f}"
    if percent == "100.0" and share < 1:
        return "> 99.9 %"
    return "< 0.1 %" if percent == "0.0" and share > 0 else f"{percent} %"


Point = tuple[float, float]


def visible_pieces(line: Line, across: Scale, up: Scale) -> list[list[Point]]:
    """Return the pieces of `line` that can be drawn, as (share across, share up) of the plot, each 0 to 1.

    A value that is not finite leaves a gap; a line that leaves the plot above or below is cut where it leaves.
    """
    pieces: list[list[Point]] = [[]]
    before: Point | None = None
    for x, y in zip(line.xs, line.ys, strict=True):
        if not across.can_show(x) or not up.can_show(y):
            before = None
            pieces.append([])
            continue
        here = (across.position(x), up.position(y))
        crossings = [] if before is None else [_crossing(before, here, edge) for edge in (0.0, 1.0)]
        points = sorted(
            [*(p for p in crossings if p is not None), here], key=lambda p: abs(p[0] - here[0]), reverse=True
        )
        for point in points:
            if 0.0 <= point[1] <= 1.0:
                pieces[-1].append(point)
            else:
                pieces.append([])
        before = here
    return [piece for piece in pieces if piece]


def _crossing(a: Point, b: Point, edge: float) -> Point | None:
    """Return where the stretch from `a` to `b` passes the height `edge`; None where it does not."""
    if (a[1] - edge) * (b[1] - edge) >= 0:
        return None
    return a[0] + (b[0] - a[0]) * (edge - a[1]) / (b[1] - a[1]), edge


def rows_of_marks(marks: Sequence[Mark], across: Scale, letter: float, beyond: int = 8) -> list[tuple[Mark, int, bool]]:
    """Place marks' labels above the plot: (mark, row from 0 at the plot, label to the left of its line).

    Rows are filled from the right, so that no line rises through the label of one further left.

    Args:
        marks: in any order.
        across: the horizontal scale.
        letter: width of a letter as a share of the plot.
        beyond: letters by which a label may reach over the right edge.
    """
    placed: list[tuple[Mark, int, bool]] = []
    begins: list[float] = []
    for mark in sorted(marks, key=lambda m: -m.x):
        at, width = across.position(mark.x), letter * len(mark.label)
        left = at + width > 1.0 + beyond * letter and at > width
        begin, end = (at - width, at) if left else (at, at + width)
        row = next((i for i, taken in enumerate(begins) if end + letter <= taken), len(begins))
        if mark.label:
            begins[row : row + 1] = [begin]
        placed.append((mark, row, left))
    return placed


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return places at least `gap` apart, in the order of those wanted and near them, between `low` and `high`.

    Where there is no room for all, they are equally far apart over the whole of it.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    gap = min(gap, (high - low) / max(1, len(wanted) - 1))
    places = [0.0] * len(wanted)
    last = low - gap
    for i in order:
        last = places[i] = max(wanted[i], last + gap)
    last = high + gap
    for i in reversed(order):
        last = places[i] = min(places[i], last - gap)
    return places


def scales(chart: LineChart) -> tuple[Scale, Scale]:
    """Return the horizontal and vertical scale of `chart`."""
    xs = [x for line in chart.lines for x in line.xs] + [mark.x for mark in chart.marks]
    ys = [y for line in chart.lines for y in line.ys] + [mark.y for mark in chart.marks if mark.y is not None]
    return scale(chart.x, xs), scale(chart.y, ys, padding=0.04)


def _nice_step(rough: float) -> float:
    magnitude = 10.0 ** math.floor(math.log10(rough))
    return magnitude * next(m for m in (1, 2, 5, 10) if m * magnitude >= rough * 0.999)


def _log_scale(axis: Axis, low: float, high: float) -> Scale:
    low = low if axis.low is None else axis.low
    high = high if axis.high is None else axis.high
    span = max(math.log10(high / low), 0.2)
    low, high = low / 10 ** (_LOG_PADDING * span), high * 10 ** (_LOG_PADDING * span)
    bottom, top = math.floor(math.log10(low)), math.ceil(math.log10(high))
    multiples = (1, 2, 5) if top - bottom <= 3 and span < 2 else (1,)
    every = max(1, math.ceil((top - bottom) / 7))
    values = [m * 10.0**e for e in range(bottom, top + 1, every) for m in multiples]
    return Scale(low, high, True, tuple((v, f"{v:g}") for v in values if low <= v <= high))
