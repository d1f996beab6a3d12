"""Sources that stand before others: whatever a table or a folder knows of its pictures is known of them, too."""

import numpy as np
import pytest

from trainer.data.fitting import Fitting
from trainer.data.fixes import Corrected, Fixes
from trainer.data.opening import open_store
from trainer.data.resized import ResizedSource, Shrinking, ShrunkSource
from trainer.experiment.measuring import _FittedSource


class Knowing:
    """Eight pictures of two sizes in a table that knows all that a table may know."""

    group, left_out, decoding = "patient", (3,), "full"
    class_names, targets = ["a", "b"], np.arange(8) % 2

    def image(self, index):
        return np.full((6, 6 + index % 2, 3), index, dtype=np.uint8)

    def describe(self, index):
        return f"{index}.png"

    def packed(self):
        return None

    def listing(self):
        return [(f"{index}.png", 1, index) for index in range(8)]

    def column(self, name):
        return [f"{name} {index}" for index in range(8)]

    def count_of(self, split):
        return len(split)

    def line(self, index):
        return index + 2

    def remarks(self):
        return ["seen"]


def resized(_):
    store = open_store(ShrunkSource(Knowing(), Shrinking(4, reduces=False)))
    assert isinstance(store.source, ResizedSource)
    return store.source


def corrected(folder):
    (folder / "fixes.csv").write_text("path,given,suggested,decision\n0.png,a,b,\n", encoding="utf-8")
    return Corrected(Knowing(), Fixes(str(folder / "fixes.csv")), "train", str)


STANDING = {
    "shrunk": lambda _: ShrunkSource(Knowing(), Shrinking(4, reduces=False)),
    "resized": resized,
    "fitted": lambda _: _FittedSource(Knowing(), Fitting(3, (4, 4))),
    "corrected": corrected,
}


@pytest.mark.parametrize("name", STANDING)
def test_what_a_table_knows_beside_pixels_is_known_of_whatever_stands_before_it(name, tmp_path):
    source, table = STANDING[name](tmp_path), Knowing()
    assert source.column("age") == table.column("age")
    assert (source.group, source.count_of("val"), source.line(5)) == ("patient", 3, 7)
    assert source.remarks()[0] == "seen"
    assert source.decoding.startswith("full")
    assert source.describe(2) == table.describe(2)
    assert source.listing() == table.listing()


@pytest.mark.parametrize("name", ["shrunk", "resized", "fitted"])
def test_a_picture_that_no_part_may_hold_is_so_however_its_pixels_are_changed(name, tmp_path):
    assert STANDING[name](tmp_path).left_out == (3,)


@pytest.mark.parametrize("name", ["shrunk", "resized", "fitted"])
def test_what_is_of_the_pixels_is_not_passed_on(name, tmp_path):
    source = STANDING[name](tmp_path)
    assert not any(hasattr(source, each) for each in ("masks", "content"))
