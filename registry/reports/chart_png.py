"""Charts as PNG files, by matplotlib's Agg canvas, in the house's look; matplotlib is imported when the first is drawn.

Works on Figure objects directly: no pyplot, no global state, no display.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from registry import files
from registry.reports.chart import (
    COLORS,
    GRID,
    INK,
    PAPER,
    SOFT_INK,
    Line,
    LineChart,
    Scale,
    rows_of_marks,
    scales,
    spread,
    visible_pieces,
)
from registry.reports.lettering import drawable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
_SIZE = (7.6, 3.7)  # inches
_NAME_ROW = 0.06  # height of a name beside the plot, as a share of it
_LETTER = 0.0115  # width of a label's letter, as a share of the plot


def new_figure(width: float = _SIZE[0], height: float = _SIZE[1]) -> tuple[Figure, Axes]:
    """Return a figure of `width` x `height` inches with one pair of axes in the house's look."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(SOFT_INK)
    axes.tick_params(colors=SOFT_INK, labelsize=8.5, length=0)
    axes.set_axisbelow(True)
    return figure, axes


def save(figure: Figure, path: Path, *, below: Path) -> None:
    """Write `figure` to `path`, making its folder; the file depends on nothing but the figure.

    Args:
        figure: what to write.
        path: the PNG.
        below: the folder below which no link is followed.
    """
    picture = BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    files.write(path, picture.getbuffer(), below=below, lasting=False)


def line_chart_png(chart: LineChart, path: Path, *, below: Path) -> None:
    """Draw `chart` into `path`; `below` is the folder below which no link is followed."""
    figure, axes = new_figure()
    across, up = scales(chart)
    for line in chart.lines:
        width, alpha = (1.0, 0.35) if line.faint else (2.0, 1.0)
        drawable = [across.can_show(x) and up.can_show(y) for x, y in zip(line.xs, line.ys, strict=True)]
        ys = [y if shown else float("nan") for y, shown in zip(line.ys, drawable, strict=True)]
        axes.plot(
            line.xs, ys, "--" if line.dashed else "-", color=COLORS[line.role], lw=width, alpha=alpha,
            marker="o" if sum(drawable) == 1 else None, ms=4, label="_" if line.faint else lettered(line.label),
        )  # fmt: skip
    marks = rows_of_marks(chart.marks, across, _LETTER)
    for mark, row, left in marks:
        axes.axvline(mark.x, color=COLORS[mark.role], lw=1, ls=(0, (2, 2)), zorder=1)
        if mark.y is not None:
            axes.plot([mark.x], [mark.y], "o", color=COLORS[mark.role], ms=5.5, zorder=5)
        axes.annotate(
            lettered(mark.label), (mark.x, 1.0), xycoords=axes.get_xaxis_transform(), fontsize=8, va="bottom",
            xytext=(-1 if left else 1, 2 + 11 * row), textcoords="offset points", color=COLORS[mark.role],
            ha="right" if left else "left",
        )  # fmt: skip
    rows = max((row + 1 for mark, row, _ in marks if mark.label), default=0)
    _dress(axes, chart, across, up, above=11 * rows)
    if chart.beside:
        _name_beside(axes, [line for line in chart.lines if not line.faint], across, up)
    elif sum(not line.faint for line in chart.lines) > 1:
        axes.legend(loc="best", frameon=False, fontsize=8.5, labelcolor=INK)
    save(figure, path, below=below)


def _name_beside(axes: Axes, lines: Sequence[Line], across: Scale, up: Scale) -> None:
    """Name each line at the height of its end, beside the plot."""
    ends = [(line, pieces[-1][-1]) for line in lines if (pieces := visible_pieces(line, across, up))]
    places = spread([y for _, (_, y) in ends], _NAME_ROW, 0.0, 1.0)
    for (line, end), place in zip(ends, places, strict=True):
        axes.annotate(
            lettered(line.label), end, xycoords="axes fraction", xytext=(1.03, place), textcoords="axes fraction",
            fontsize=8, va="center", color=COLORS[line.role], annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": COLORS[line.role], "lw": 0.7, "alpha": 0.6},
        )  # fmt: skip


def lettered(words: str) -> str:
    """Return `words` so that matplotlib draws each letter and sets no mathematics."""
    return drawable(words).replace("$", r"\$")


def _dress(axes: Axes, chart: LineChart, across: Scale, up: Scale, above: float) -> None:
    """Give the axes their scales, ticks, labels and, `above` points higher than usual, their title."""
    axes.set_xscale("log" if across.log else "linear")
    axes.set_yscale("log" if up.log else "linear")
    axes.minorticks_off()
    axes.set_xlim(across.low, across.high)
    axes.set_ylim(up.low, up.high)
    axes.set_xticks([value for value, _ in across.ticks], [lettered(words) for _, words in across.ticks])
    axes.set_yticks([value for value, _ in up.ticks], [lettered(words) for _, words in up.ticks])
    axes.grid(axis="y", color=GRID, lw=0.8)
    axes.set_xlabel(lettered(chart.x.label), color=SOFT_INK, fontsize=9)
    axes.set_ylabel(lettered(chart.y.label), color=SOFT_INK, fontsize=9)
    axes.set_title(lettered(chart.title), color=INK, fontsize=10.5, loc="left", pad=10 + above)
