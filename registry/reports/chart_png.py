"""Line charts as PNG files: the picture that chart_svg.py draws for a page, on paper (svg_png.py)."""

from __future__ import annotations

from pathlib import Path

from registry.reports.chart import LineChart
from registry.reports.chart_svg import line_chart_svg
from registry.reports.svg_png import svg_png


def line_chart_png(chart: LineChart, path: Path, *, below: Path) -> None:
    """Draw `chart` into `path`; `below` is the folder below which no link is followed."""
    svg_png(line_chart_svg(chart), chart.title, path, below=below)
