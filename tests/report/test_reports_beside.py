"""Charts whose lines are named beside the plot: a colour each, names apart, the same in SVG and PNG."""

import itertools
import re

import pytest
from PIL import Image

from registry.reports.chart import COLORS, SERIES, Axis, Line, LineChart, spread
from registry.reports.chart_png import line_chart_png
from registry.reports.chart_svg import WIDTH, line_chart_svg


def chart(count: int) -> LineChart:
    """Lines that all end at the same place."""
    lines = tuple(Line(f"#{n} lr 0.1, wd 5e-4", (1, 2, 3), (n, 2, 1.0), SERIES[n]) for n in range(count))
    faint = Line("a seed", (1, 2, 3), (1, 1, 1), "s1", faint=True)
    return LineChart("t", Axis("epoch"), Axis("loss"), (*lines, faint), beside=True)


def test_names_beside_the_plot_stand_apart_and_within_the_picture():
    svg = line_chart_svg(chart(10))
    names = re.findall(r'<text class="name ending" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]+)<', svg)
    assert len(names) == 10
    heights = sorted(float(y) for _, y, _ in names)
    assert min(b - a for a, b in itertools.pairwise(heights)) >= 19.9
    assert all(float(x) + 12 * len(words) < WIDTH for x, _, words in names)
    assert "a seed" not in re.sub(r'data-chart="[^"]*"', "", svg)


def test_every_series_has_a_colour_of_its_own():
    assert len({COLORS[role] for role in SERIES}) == len(SERIES) == 10


def test_the_png_has_room_for_the_names(tmp_path):
    line_chart_png(chart(10), tmp_path / "c.png", below=tmp_path)
    picture = Image.open(tmp_path / "c.png").convert("RGB")
    edge = picture.crop((picture.width - 3, 0, picture.width, picture.height))
    assert edge.getcolors() == [(3 * picture.height, (255, 255, 255))], "no name is cut off"


@pytest.mark.parametrize(
    ("wanted", "places"),
    [
        ([5, 5, 5], [5, 7, 9]),
        ([1, 9], [1, 9]),
        ([0, 0, 0, 0, 0, 0], [0, 2, 4, 6, 8, 10]),
        ([10, 0, 10], [8, 0, 10]),
        ([0] * 11, list(range(11))),
    ],
)
def test_places_keep_their_distance_and_their_order(wanted, places):
    assert spread(wanted, 2, 0, 10) == pytest.approx(places)
