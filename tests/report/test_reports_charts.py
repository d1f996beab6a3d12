"""Charts: scales whose ticks are right, lines that break where they must, SVG that is whole and escaped."""

import json
import math
import re
import xml.etree.ElementTree as ET
from html import unescape

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from registry.reports.chart import (
    COLORS,
    Axis,
    Line,
    LineChart,
    Mark,
    Scale,
    rows_of_marks,
    scale,
    scales,
    share_said,
    visible_pieces,
)
from registry.reports.chart_png import line_chart_png
from registry.reports.chart_svg import WIDTH, line_chart_svg, line_chart_svgs
from registry.reports.diagram_svg import matrix_svg, matrix_svgs, reliability_svg
from registry.reports.scores import Reliability

FINITE = st.floats(-1e9, 1e9, allow_nan=False)


def chart(lines, marks=(), **y):
    return LineChart("Loss by epoch", Axis("epoch", whole=True), Axis("loss", **y), tuple(lines), tuple(marks))


@pytest.mark.parametrize(
    ("low", "high", "axis", "expected"),
    [
        (0, 1, Axis("a", percent=True), ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]),
        (1, 6, Axis("a", whole=True), ["1", "2", "3", "4", "5", "6"]),
        (1, 50, Axis("a", whole=True), ["10", "20", "30", "40", "50"]),
        (0.2, 2.1, Axis("a"), ["0.5", "1.0", "1.5", "2.0"]),
        (1e-5, 2, Axis("a", log=True), ["1e-05", "0.0001", "0.001", "0.01", "0.1", "1"]),
        (0.005, 0.05, Axis("a", log=True), ["0.005", "0.01", "0.02", "0.05"]),
    ],
)
def test_ticks_are_round_numbers_inside_the_data(low, high, axis, expected):
    assert [words for _, words in scale(axis, [low, high]).ticks] == expected


@given(FINITE, FINITE)
def test_every_scale_has_ends_in_order_and_ticks_between_them(a, b):
    found = scale(Axis("a"), [a, b], padding=0.04)
    assert found.low < found.high
    assert all(
        found.low - 1e-6 * (found.high - found.low) <= v <= found.high * (1 + 1e-6) + 1e-6 * (found.high - found.low)
        for v, _ in found.ticks
    )
    assert 1 <= len(found.ticks) <= 9


@given(st.floats(1e-12, 1e6), st.floats(1e-12, 1e6))
def test_every_logarithmic_scale_has_ticks(a, b):
    found = scale(Axis("a", log=True), [a, b])
    assert found.low < found.high
    assert all(found.low <= v <= found.high for v, _ in found.ticks)
    assert found.position(found.low) == pytest.approx(0)
    assert found.position(found.high) == pytest.approx(1)


def test_values_that_are_not_finite_neither_move_the_scale_nor_draw():
    line = Line("val", [1, 2, 3, 4, 5], [1.0, math.nan, 3.0, math.inf, 2.0], "val")
    across, up = scales(chart([line]))
    assert (up.low, up.high) == (0.92, 3.08)
    assert [len(piece) for piece in visible_pieces(line, across, up)] == [1, 1, 1]


def test_a_line_that_leaves_the_plot_is_cut_at_its_border():
    across, up = Scale(0, 4, False, ()), Scale(0, 1, False, ())
    line = Line("a", [0, 1, 2, 3, 4], [0.5, 0.5, 2.5, 0.5, -0.5], "val")
    pieces = visible_pieces(line, across, up)
    assert [[(round(4 * x, 3), round(y, 3)) for x, y in piece] for piece in pieces] == [
        [(0, 0.5), (1, 0.5), (1.25, 1)],
        [(2.75, 1), (3, 0.5), (3.5, 0)],
    ]


def test_a_line_through_the_whole_plot_between_two_points_outside_is_drawn():
    pieces = visible_pieces(Line("a", [0, 1], [-1, 2], "val"), Scale(0, 1, False, ()), Scale(0, 1, False, ()))
    assert [[(round(x, 3), y) for x, y in piece] for piece in pieces] == [[(0.333, 0.0), (0.667, 1.0)]]


def test_labels_of_neighbouring_marks_stand_on_rows_of_their_own_and_those_at_the_edge_turn_left():
    marks = [Mark("steepest", 0.3), Mark("valley", 0.32), Mark("minimum", 0.34), Mark("far", 0.99)]
    placed = {mark.label: (row, left) for mark, row, left in rows_of_marks(marks, Scale(0, 1, False, ()), 0.012)}
    assert placed == {"far": (0, False), "minimum": (0, False), "valley": (1, False), "steepest": (2, False)}
    wide = rows_of_marks([Mark("a very long label at the end", 0.99)], Scale(0, 1, False, ()), 0.012)
    assert wide[0][2] is True


def tree(svg):
    return ET.fromstring(svg)


def test_the_svg_is_well_formed_named_and_carries_every_value_for_its_tooltip():
    lines = [
        Line("train", [1, 2, 3], [3.0, 2.0, 1.0], "train", dashed=True),
        Line("val", [1, 2, 3], [2.0, 1.5, 1.25], "val"),
    ]
    svg = line_chart_svg(chart(lines, [Mark("best: epoch 3", 3, 1.25, "val")]))
    root = tree(svg)
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == "Loss by epoch"
    data = json.loads(root.attrib["data-chart"])
    assert data["rows"][1] == ["epoch: 2", "train: 2", "val: 1.5"]
    assert len(data["x"]) == len(data["rows"]) == 3
    words = [node.text for node in root.iter() if node.text]
    assert {"train", "val", "best: epoch 3", "loss", "epoch"} <= set(words)


def test_names_too_long_for_the_margin_stand_above_the_plot_each_inside_the_picture():
    names = ["a_recipe_with_a_name_of_its_own/20260101-1200", "another_recipe/20260101-120500", "third"]
    root = tree(line_chart_svg(chart([Line(name, [1, 2], [1.0, n], "val") for n, name in enumerate(names, start=2)])))
    placed = {node.text: node for node in root.iter() if node.text in names}
    plot = min(float(n.attrib["d"].split()[1].split("H")[0]) for n in root.iter() if n.attrib.get("class") == "grid")
    assert set(placed) == set(names)
    assert len({node.attrib["y"] for node in placed.values()}) == len(names), "one row each"
    for name, node in placed.items():
        assert float(node.attrib["x"]) + 9 * len(name) <= WIDTH
        assert float(node.attrib["y"]) < plot


def test_text_in_an_svg_is_escaped():
    lines = [Line("<b>&'\"", [1, 2], [1, 2], "val"), Line("other", [1, 2], [2, 1], "train")]
    svg = line_chart_svg(LineChart("<script>", Axis("'x'"), Axis('"y" <y>'), tuple(lines)))
    assert "<script>" not in svg
    assert "<b>" not in svg
    assert "<script>" in unescape(svg)
    tree(svg)


def test_a_single_epoch_is_a_dot():
    svg = line_chart_svg(chart([Line("val", [1], [0.5], "val")]))
    assert "<circle" in svg
    tree(svg)


def test_long_sweeps_keep_their_tooltips_small():
    xs = list(np.geomspace(1e-5, 1, 5000))
    svg = line_chart_svg(LineChart("t", Axis("lr", log=True), Axis("loss"), (Line("raw", xs, xs, "val"),)))
    assert len(json.loads(tree(svg).attrib["data-chart"])["rows"]) <= 600


def test_the_png_is_the_same_twice(tmp_path):
    lines = [
        Line("train $x$", [1, 2, 3], [3.0, math.nan, 1.0], "train", dashed=True),
        Line("val", [1, 2, 3], [2, 1.5, 1], "val"),
    ]
    for name in ("a.png", "b.png"):
        line_chart_png(chart(lines, [Mark("best $", 2, 1.5, "val")]), tmp_path / "deep" / name, below=tmp_path)
    first = (tmp_path / "deep" / "a.png").read_bytes()
    assert first == (tmp_path / "deep" / "b.png").read_bytes()
    assert first.startswith(b"\x89PNG")


def test_a_matrix_names_its_cells_and_shortens_what_is_too_long():
    svg, width = matrix_svg(np.array([[8, 2], [0, 0]]), ["<cat>", "a name that is much too long"])
    assert 200 < width < 500
    root = tree(svg)
    titles = [node.text for node in root.iter() if node.tag == "title"]
    assert titles == [
        "<cat> taken for <cat>: 8 of 10 (80.0 %)",
        "<cat> taken for a name that is much too long: 2 of 10 (20.0 %)",
    ]
    assert "a name that is mu…" in [node.text for node in root.iter() if node.tag == "text"]


def test_the_numbers_of_a_matrix_are_images_which_no_rounding_falsifies():
    root = tree(matrix_svg(np.array([[399, 1], [0, 400]]), ["a", "b"])[0])
    cells = [node.text for node in root.iter() if node.tag == "text" and "-cell" in node.attrib["class"]]
    assert cells == ["399", "1", "400"]


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.834, "83.4 %"), (0.0123, "1.2 %"), (1.0, "100.0 %"), (0.9996, "> 99.9 %"), (0.0004, "< 0.1 %"), (0.0, "0.0 %")],
)
def test_a_share_reaches_neither_end_by_rounding(share, words):
    assert share_said(share) == words


def test_a_matrix_for_a_phone_has_small_cells_and_of_many_classes_there_are_words_instead():
    names = [f"class number {i}" for i in range(12)]
    few, _ = matrix_svgs(np.eye(11, dtype=int), names[:11])
    wide, narrow = re.findall(r'class="chart small([^"]*)" viewBox="0 0 (\d+)', few)
    assert (wide[0], narrow[0]) == (" wide", " dense narrow")
    assert int(narrow[1]) < 460 < int(wide[1])
    many, _ = matrix_svgs(np.eye(12, dtype=int), names)
    assert many.count("<svg") == 1
    assert "A matrix of 12 classes needs a wider page" in many


def test_a_chart_for_a_phone_has_brief_labels_and_the_same_values():
    lines = [Line("train", [1, 2], [2.0, 1.0], "train"), Line("val", [1, 2], [2.0, 1.5], "val")]
    marks = [Mark("minimum / 10 0.043 (taken)", 1.5, 1.2, brief="minimum / 10 (taken)")]
    wide, narrow = (tree(each + "</svg>") for each in line_chart_svgs(chart(lines, marks)).split("</svg>")[:2])
    assert (wide.attrib["class"], narrow.attrib["class"]) == ("chart wide", "chart narrow")
    labels = [[node.text for node in root.iter() if node.attrib.get("class") == "note"] for root in (wide, narrow)]
    assert labels == [["minimum / 10 0.043 (taken)"], ["minimum / 10 (taken)"]]
    rows = [json.loads(root.attrib["data-chart"])["rows"] for root in (wide, narrow)]
    assert rows[0] == rows[1]


def test_names_at_the_ends_of_lines_stay_inside_the_plot():
    lines = [Line(name, [1, 2], [3.0, 1.0], "val") for name in ("a", "b", "c")]
    root = tree(line_chart_svg(chart(lines)))
    heights = sorted(float(node.attrib["y"]) for node in root.iter() if node.attrib.get("class") == "name")
    assert np.diff(heights).min() >= 16.9
    axis = max(
        float(re.search(r" ([\d.]+)H", node.attrib["d"])[1])
        for node in root.iter()
        if node.attrib.get("class") == "axis" and "H" in node.attrib["d"]
    )
    assert heights[-1] <= axis + 5


def test_the_png_has_the_colours_and_the_size_of_the_svg(tmp_path):
    lines = [Line("train", [1, 2], [2.0, 2.0], "train"), Line("val", [1, 2], [1.0, 1.0], "val")]
    line_chart_png(chart(lines), tmp_path / "a.png", below=tmp_path)
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert abs(picture.shape[1] / picture.shape[0] - 720 / (340 + 26)) < 0.01
    for role in ("train", "val"):
        red, green, blue = (int(COLORS[role][i : i + 2], 16) for i in (1, 3, 5))
        assert (picture == (red, green, blue)).all(axis=2).sum() > 1000, role


def test_a_reliability_diagram_draws_only_bins_with_answers():
    found = Reliability(np.linspace(0, 1, 3), np.array([np.nan, 0.9]), np.array([np.nan, 0.5]), np.array([0, 4]), 0.4)
    root = tree(reliability_svg(found, "how sure"))
    assert [node.text for node in root.iter() if node.tag == "title"] == [
        "confidence 90.0 %, accuracy 50.0 %, 4 answers"
    ]
    assert "nan" not in reliability_svg(found, "how sure")
