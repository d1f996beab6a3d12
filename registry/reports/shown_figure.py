"""A matplotlib figure that a notebook shows by itself, whether or not pyplot is used there. Imports matplotlib."""

from __future__ import annotations

from io import BytesIO

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from registry.reports.chart import PAPER

_DPI = 100


class ShownFigure(Figure):
    """A figure outside pyplot's list, so that it is shown once: as the value of its cell.

    Args:
        width: inches.
        height: inches.
    """

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), dpi=_DPI, facecolor=PAPER, layout="constrained")
        FigureCanvasAgg(self)

    def _repr_png_(self) -> bytes:
        """Return the figure as a notebook shows it."""
        picture = BytesIO()
        self.savefig(picture, format="png")
        return picture.getvalue()
