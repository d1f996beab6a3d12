"""A chart's SVG drawn into a PNG, by matplotlib's Agg canvas: Markdown and TensorBoard get the page's own picture.

Knows the elements and classes that chart_svg.py and diagram_svg.py write, and no others. matplotlib is imported when
the first chart is drawn; Figure objects directly: no pyplot, no global state, no display.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from registry import files
from registry.printing import numbered
from registry.reports.chart import COLORS, GRID, INK, PAPER, SOFT_INK
from registry.reports.lettering import drawable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_UNITS = 100  # user units of an SVG to an inch of the PNG
_DPI = 160
_HEAD = 26  # user units above the chart, for its title
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_STEP = re.compile(r"([MLHVhv])\s*([-\d.\s]*)")
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # what a name may hold all the same
_ROTATION = re.compile(r"rotate\(([-\d.]+) ([-\d.]+) ([-\d.]+)\)")


@dataclass(frozen=True)
class _Style:
    """What the page's style sheet says of a class, for paper.

    Attributes:
        color: of the line, the letters or the filling.
        width: of a line, in user units; a rectangle without one has no edge.
        dash: user units on and off; () for an unbroken line.
        alpha: opacity.
        size: of letters, in user units.
        bold: whether letters are.
    """

    color: str = SOFT_INK
    width: float = 0.0
    dash: tuple[float, float] | tuple[()] = ()
    alpha: float = 1.0
    size: float = 12.5
    bold: bool = False


_STYLES: Mapping[str, _Style] = {
    "grid": _Style(GRID, 1),
    "axis": _Style(SOFT_INK, 1),
    "line": _Style(INK, 2.4),
    "line dashed": _Style(INK, 2.4, (7, 5)),
    "line faint": _Style(INK, 1.2, alpha=0.45),
    "mark": _Style(SOFT_INK, 1.2, (2, 3)),
    "lead": _Style(SOFT_INK, 1, alpha=0.6),
    "cell": _Style(GRID, 1),
    "hit": _Style(COLORS["val"]),
    "miss": _Style(COLORS["train"]),
    "tick": _Style(),
    "label": _Style(bold=True),
    "name": _Style(INK, size=13, bold=True),
    "name beside": _Style(INK, size=13, bold=True),
    "note": _Style(SOFT_INK, size=12, bold=True),
    "faint-cell": _Style("#000000"),
    "middle-cell": _Style("#000000"),
    "full-cell": _Style(PAPER, bold=True),
}


def svg_png(svg: str, title: str, path: Path, *, below: Path) -> None:
    """Draw an SVG of ours into `path`, making its folder; the file depends on nothing but the picture.

    Args:
        svg: the element.
        title: above the picture.
        path: the PNG.
        below: the folder below which no link is followed.
    """
    root = ET.fromstring(_NO_XML.sub(lambda found: numbered(ord(found[0])), svg))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    figure, axes = _sheet(width, height)
    axes.text(8, -_HEAD + 18, lettered(title), fontsize=_points(14), color=INK, va="baseline")
    _draw(axes, root, (0.0, 0.0, 0.0))
    picture = BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    files.write(path, picture.getbuffer(), below=below, lasting=False)


def lettered(words: str) -> str:
    """Return `words` so that matplotlib draws each letter and sets no mathematics."""
    return drawable(words).replace("$", r"\$")


def _sheet(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure whose one pair of axes counts in the SVG's user units, from the top."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / _UNITS, (height + _HEAD) / _UNITS), dpi=_DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, -_HEAD))
    axes.set_axis_off()
    return figure, axes


def _points(units: float) -> float:
    return units * 72 / _UNITS


Turn = tuple[float, float, float]  # degrees, and the point that is turned about


def _draw(axes: Axes, element: ET.Element, turn: Turn) -> None:
    """Draw an element and those within it."""
    kind = element.tag.rpartition("}")[2]
    if found := _ROTATION.match(element.attrib.get("transform", "")):
        turn = (float(found[1]), float(found[2]), float(found[3]))
    if draw := {"path": _path, "rect": _rect, "circle": _circle}.get(kind):
        draw(axes, element.attrib)
    elif kind == "text":
        _text(axes, element.attrib, element.text or "", turn)
    for child in element:
        _draw(axes, child, turn)


def _style(attributes: Mapping[str, str], paint: str) -> tuple[_Style, str]:
    """Return the style of an element's class and its colour, its own where it has one."""
    style = _STYLES.get(attributes.get("class", ""), _Style())
    own = _COLOR.search(attributes.get(paint, "") or attributes.get("style", ""))
    return style, own[0] if own else style.color


def _path(axes: Axes, attributes: Mapping[str, str]) -> None:
    style, color = _style(attributes, "stroke")
    xs: list[float] = []
    ys: list[float] = []
    for command, numbers in _STEP.findall(attributes["d"]):
        values = [float(number) for number in numbers.split()]
        x, y = (xs[-1], ys[-1]) if xs else (0.0, 0.0)
        if command in "ML":
            x, y = values
        elif command in "Hh":
            x = values[0] + (x if command == "h" else 0)
        else:
            y = values[0] + (y if command == "v" else 0)
        xs.append(x)
        ys.append(y)
    dash = (0, tuple(_points(units) / _points(style.width) for units in style.dash)) if style.dash else "-"
    axes.plot(
        xs, ys, color=color, lw=_points(style.width), alpha=style.alpha, ls=dash, solid_capstyle="round",
        solid_joinstyle="round", clip_on=False,
    )  # fmt: skip


def _rect(axes: Axes, attributes: Mapping[str, str]) -> None:
    from matplotlib.patches import Rectangle

    style, color = _style(attributes, "fill")
    x, y, width, height = (float(attributes[name]) for name in ("x", "y", "width", "height"))
    edge = {"fill": False, "ec": color, "lw": _points(style.width)} if style.width else {"fc": color, "lw": 0}
    alpha = float(attributes.get("fill-opacity", style.alpha))
    axes.add_patch(Rectangle((x, y), width, height, alpha=alpha, **edge))  # type: ignore[arg-type]


def _circle(axes: Axes, attributes: Mapping[str, str]) -> None:
    from matplotlib.patches import Circle

    _, color = _style(attributes, "fill")
    centre = (float(attributes["cx"]), float(attributes["cy"]))
    axes.add_patch(Circle(centre, float(attributes["r"]), fc=color, lw=0, clip_on=False, zorder=5))


def _text(axes: Axes, attributes: Mapping[str, str], words: str, turn: Turn) -> None:
    style, color = _style(attributes, "fill")
    degrees, about_x, about_y = turn
    angle, x, y = math.radians(degrees), float(attributes["x"]) - about_x, float(attributes["y"]) - about_y
    side = {"start": "left", "middle": "center", "end": "right"}[attributes.get("text-anchor", "start")]
    size = float(attributes.get("font-size", style.size))
    axes.text(
        about_x + x * math.cos(angle) - y * math.sin(angle), about_y + x * math.sin(angle) + y * math.cos(angle),
        lettered(words), color=color, fontsize=_points(size), fontweight="bold" if style.bold else "normal",
        ha=side, va="baseline", rotation=-degrees, rotation_mode="anchor", zorder=6,
    )  # fmt: skip
