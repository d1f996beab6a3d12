"""Class names in pictures, whatever their letters."""

from dataclasses import replace

import numpy as np
import pytest
from made_evidence import made_evidence

from registry.reports.classes import ConfusionMatrix
from registry.reports.lettering import drawable
from registry.reports.pictures import Tile, sheet
from registry.reports.svg_png import lettered


@pytest.mark.parametrize(
    ("words", "drawn"),
    [("cat", "cat"), ("caf\u00e9", "caf\u00e9"), ("a\tb", r"a\u0009b"), ("\u65e5x", r"\u65e5x"), ("\u2192", "\u2192")],
)
def test_a_letter_without_a_glyph_is_written_as_its_number(words, drawn):
    assert drawable(words) == drawn


def test_a_sheet_and_a_chart_draw_such_names_as_their_numbers():
    tile = np.zeros((20, 20, 3), np.uint8)
    named, spelt = (sheet([(words, [Tile(tile, (words,))])], words, words) for words in ("\u65e5", r"\u65e5"))
    assert np.array_equal(named, spelt)
    assert lettered("\u65e5$") == r"\u65e5\$"


def test_a_confusion_matrix_of_such_classes_is_drawn_without_a_warning(tmp_path):
    evidence = made_evidence(tmp_path)
    first, *others = evidence.class_names
    spelt = {}
    for words in ("\u65e5\t", r"\u65e5\u0009"):
        ConfusionMatrix().render(replace(evidence, class_names=(words, *others)))
        spelt[words] = (evidence.folder / "figures/confusion.png").read_bytes()
    assert len(set(spelt.values())) == 1
    ConfusionMatrix().render(evidence)
    assert (evidence.folder / "figures/confusion.png").read_bytes() not in spelt.values(), first
