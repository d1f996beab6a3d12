"""`data.fixes`: what a decision does to a label, what is counted, and what is wrong with a list."""

import pickle

import numpy as np
import pytest

from registry.datasets.source import PackedSource
from registry.errors import DataError
from trainer.data.fixes import Corrected, Fixes
from trainer.data.opening import open_store
from trainer.data.resized import Shrinking, ShrunkSource
from trainer.data.splits import readable

NAMES = ("cat", "dog", "fox")


def source(labels=(0, 0, 1, 1, 2)):
    images = np.zeros((len(labels), 8, 8, 3), np.uint8)
    return PackedSource("made", images, np.array(labels), NAMES)


@pytest.fixture
def listed(tmp_path):
    """Write a list of decisions and read it."""

    def write(*lines, head="path,given,suggested,decision"):
        path = tmp_path / "fixes.csv"
        path.write_text("\n".join((head, *lines)), encoding="utf-8")
        return Fixes(str(path))

    return write


def corrected(fixes, labels=(0, 0, 1, 1, 2)):
    return Corrected(source(labels), fixes, "train", lambda index: f"{index}.png")


def test_a_decision_changes_a_label_to_what_was_suggested_or_to_another_class_or_leaves_the_picture_out(listed):
    made = corrected(
        listed("0.png,cat,dog,yes", "1.png,cat,dog,fox", "2.png,dog,cat,drop", "3.png,dog,cat,no", "4.png,fox,cat,")
    )
    assert made.targets.tolist() == [1, 2, 1, 1, 2]
    assert made.left_out == (2,)
    store = open_store(made)
    assert readable(store).tolist() == [0, 1, 3, 4]
    assert store.targets.tolist() == [1, 2, 1, 1, 2]


def test_a_class_goes_before_a_word_of_the_list(tmp_path):
    """Where classes are yes and no, "no" is one of them; `No`, which is none, keeps the label."""
    path = tmp_path / "fixes.csv"
    path.write_text("path,given,suggested,decision\n0.png,yes,no,no\n1.png,no,yes,yes\n2.png,yes,no,No\n")
    of = PackedSource("made", np.zeros((3, 8, 8, 3), np.uint8), np.array([1, 0, 1]), ("no", "yes"))
    fixes = Fixes(str(path))
    assert Corrected(of, fixes, "train", lambda index: f"{index}.png").targets.tolist() == [0, 1, 1]
    assert fixes.said() == "2 labels changed, 0 pictures left out, 1 label kept as given"


def test_keeping_a_label_is_a_decision_that_no_other_may_contradict(listed):
    with pytest.raises(DataError, match=r"0\.png was decided before"):
        listed("0.png,cat,dog,no", "0.png,cat,dog,drop")


@pytest.mark.parametrize("name", [" dog", "dog ", "dog\N{NO-BREAK SPACE}"])
def test_spaces_around_a_class_are_those_of_its_cells(listed, name):
    images = PackedSource("made", np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 1]), ("cat", name))
    fixes = listed(f"cat/0.png,cat,{name},yes", f"{name}/1.png,{name},cat,yes")
    made = Corrected(images, fixes, "train", lambda index: ("cat/0.png", f"{name}/1.png")[index])
    assert (made.targets.tolist(), fixes.missing()) == ([1, 0], "")


def test_what_was_done_is_counted(listed):
    fixes = listed("0.png,cat,dog,yes", "1.png,cat,dog,fox", "2.png,dog,cat,drop", "3.png,dog,cat,no", "4.png,fox,cat,")
    made = corrected(fixes)
    assert fixes.said() == "2 labels changed, 1 picture left out, 1 label kept as given, 1 line not decided"
    assert made.remarks()[-1].endswith("fixes.csv: 2 labels changed, 1 picture left out in split 'train'")


@pytest.mark.parametrize("lines", [(), ("",), (",,,",)])
def test_a_list_without_a_line_changes_nothing(listed, lines):
    """As a review writes it that doubts no label, or a spreadsheet of which every line was taken out."""
    fixes = listed(*lines)
    assert corrected(fixes).targets.tolist() == [0, 0, 1, 1, 2]
    assert fixes.said() == "0 labels changed, 0 pictures left out"


def test_a_list_of_nothing_at_all_has_no_column(listed):
    with pytest.raises(DataError, match=r"fixes\.csv has no column 'path'"):
        listed(head="")


def test_a_list_is_a_table_as_spreadsheets_write_it(listed):
    made = corrected(listed("0.png;cat;dog;YES", head="path;given;suggested;decision"))
    assert made.targets[0] == 1


def test_a_path_that_a_spreadsheet_would_have_computed_is_found_again(listed):
    fixes = listed("'=0.png,cat,dog,yes")
    made = Corrected(source(), fixes, "train", lambda index: f"={index}.png")
    assert made.targets[0] == 1


def test_what_is_changed_already_is_counted_and_changes_nothing(listed):
    fixes = listed("0.png,cat,dog,yes")
    assert corrected(fixes, (1, 0, 1, 1, 2)).targets[0] == 1
    assert "1 changed before" in fixes.said()


def test_a_class_called_as_a_word_of_the_list_goes_before_it(listed):
    fixes = listed("0.png,cat,dog,drop")
    named = PackedSource("made", np.zeros((1, 8, 8, 3), np.uint8), np.array([0]), ("cat", "drop"))
    made = Corrected(named, fixes, "train", lambda index: f"{index}.png")
    assert (made.targets.tolist(), made.left_out) == ([1], ())


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["0.png,cat,dog,dgo"], r"fixes\.csv:2: 'dgo' is no class"),
        (["0.png,cat,horse,yes"], r"fixes\.csv:2: 'horse' is no class"),
        (["0.png,dog,fox,yes"], r"fixes\.csv:2: 0\.png was 'dog' when the list was made, and is 'cat' now"),
        (["0.png,cat,dog,yes", "0.png,cat,dog,drop"], r"fixes\.csv:3: 0\.png was decided before, in .*fixes\.csv:2"),
    ],
)
def test_a_decision_that_cannot_be_is_named_by_its_line(listed, lines, message):
    with pytest.raises(DataError, match=message):
        corrected(listed(*lines))


def test_a_list_without_a_column_and_one_that_is_not_there_are_refused(listed, tmp_path):
    with pytest.raises(DataError, match="has no column 'decision'"):
        listed("0.png,cat,dog", head="path,given,suggested")
    with pytest.raises(DataError, match="there is no table"):
        Fixes(str(tmp_path / "nowhere.csv"))


def test_decisions_of_pictures_that_are_not_there_are_named(listed):
    fixes = listed("0.png,cat,dog,yes", "gone.png,cat,dog,yes")
    corrected(fixes)
    assert fixes.missing().endswith("fixes.csv names no picture of these data: gone.png (" + fixes.file + ":3)")
    assert fixes.missing().startswith("1 decision of")


def test_a_corrected_source_travels_to_other_processes_and_is_shrunk_as_any_other(listed):
    made = pickle.loads(pickle.dumps(corrected(listed("2.png,dog,cat,drop"))))
    assert made.describe(2) == "image 2 of made"
    shrunk = ShrunkSource(made, Shrinking(8, reduces=False))
    assert readable(open_store(shrunk)).tolist() == [0, 1, 3, 4]
