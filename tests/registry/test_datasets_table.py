"""Table: pictures listed in a table; what cannot be used is told by its line, and `on_bad_image` decides."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from registry.catalogue.catalog import catalogue
from registry.datasets.listed import located, natural
from registry.datasets.source import MissingSplit, UnchosenSplit, stamp
from registry.datasets.table import Table
from registry.errors import DataError
from trainer.data.splits import open_data
from trainer.recipe.recipe import Data, Fraction


def pixels(seed, side=6):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


@pytest.fixture
def put(tmp_path, monkeypatch):
    """Write pictures 0.png to 9.png into pics/, and a table beside them from its lines; return its name."""
    monkeypatch.chdir(tmp_path)
    Path("pics").mkdir()
    for number in range(10):
        cv2.imwrite(f"pics/{number}.png", pixels(number)[..., ::-1])

    def write(*lines, header="image,label,split", name="labels.csv"):
        Path(name).write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        return name

    return write


def opened(file, part="train", **arguments):
    return Table(file, part=part, download=False, **arguments)


def split(file, part="train", **arguments):
    return opened(file, part, split="split", **arguments)


def told(*arguments, **named):
    with pytest.raises(DataError) as caught:
        split(*arguments, **named)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------ what rows say
def test_a_row_names_a_picture_its_class_and_its_split(put):
    file = put("pics/1.png,dog,train", "pics/0.png,cat,test", "pics/2.png,cat,train")
    train, test = split(file), split(file, "test")
    assert train.class_names == test.class_names == ("cat", "dog")
    assert (train.targets.tolist(), test.targets.tolist()) == ([1, 0], [0])
    assert np.array_equal(train.image(1), pixels(2))
    assert [train.describe(0), train.line(1)] == ["pics/1.png", "labels.csv:4"]
    facts = Path("pics/1.png").stat()
    assert train.listing()[0] == ("pics/1.png", facts.st_size, stamp(facts))
    with pytest.raises(MissingSplit, match=r"Table has no split 'val': labels\.csv has train, test"):
        split(file, "val")


@pytest.mark.parametrize("form", ["tsv", "jsonl", "parquet"])
def test_other_forms_of_table_are_the_same_pictures(put, form):
    rows = [("pics/3.png", "10", "train", "p1"), ("pics/1.png", "2", "train", ""), ("pics/0.png", "2", "val", "p1")]
    names = ("image", "label", "split", "who")
    if form == "tsv":
        Path("t.tsv").write_text("\n".join("\t".join(row) for row in (names, *rows)))
    elif form == "jsonl":
        Path("t.jsonl").write_text("\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows))
    else:
        parquet = pytest.importorskip("pyarrow.parquet", reason="pip install 'recipe-trainer[parquet]'")
        import pyarrow

        numbers = [10.0, 2.0, 2.0]  # as pandas writes a column with gaps
        columns = dict(zip(names, zip(*rows, strict=True), strict=True)) | {"label": numbers}
        parquet.write_table(pyarrow.table({name: list(column) for name, column in columns.items()}), "t.parquet")
    expected = split(put(*(",".join(row) for row in rows), header=",".join(names)))
    source = split(f"t.{form}")
    assert source.class_names == expected.class_names == ("2", "10")
    assert source.targets.tolist() == expected.targets.tolist()
    assert source.listing() == expected.listing()
    assert list(source.column("who")) == ["p1", ""]


def test_images_stay_in_the_order_of_the_table(put):
    file = put(*(f"pics/{number}.png,{number % 2},train" for number in (7, 2, 9, 0)))
    assert [opened(file).describe(index) for index in range(4)] == [f"pics/{number}.png" for number in (7, 2, 9, 0)]


def test_paths_begin_beside_the_table_in_root_at_home_or_at_the_top(put, tmp_path, monkeypatch):
    Path("tables").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    lines = ["../pics/0.png,a,train", f"{tmp_path}/pics/1.png,a,train", "~/pics/2.png,b,train"]
    source = opened(put(*lines, name="tables/labels.csv"))
    assert [source.image(index).tolist() for index in range(3)] == [pixels(index).tolist() for index in range(3)]
    assert np.array_equal(opened(put("0.png,a,train"), root="pics").image(0), pixels(0))


def test_classes_stand_in_natural_order_or_as_declared(put):
    labels = ["10", "2", "dog", "Cat"]
    file = put(*(f"pics/{number}.png,{label},train" for number, label in enumerate(labels)))
    assert opened(file).class_names == ("2", "10", "Cat", "dog")
    assert opened(file, classes=["dog", "10", "2", "Cat"]).targets.tolist() == [1, 2, 0, 3]
    assert sorted(["b10", "b9", "a1b", "B1"], key=natural) == ["a1b", "B1", "b9", "b10"]


def test_chosen_classes_leave_the_others_out_and_count_them(put):
    file = put(*(f"pics/{number}.png,{'abcc'[number]},{'train' if number else 'test'}" for number in range(4)))
    source = split(file, classes=["c", "b"])
    assert (source.class_names, source.targets.tolist()) == (("c", "b"), [1, 0, 0])
    assert list(source.remarks()) == ["labels.csv: 1 row is left out, its class is not chosen: a 1"]
    assert told(file, classes=["b", "d"]) == (
        "data.dataset.classes: no row of labels.csv that can be used is of 'd'\n  the labels are a, b, c"
    )
    with pytest.raises(MissingSplit, match=r"no split 'test': labels\.csv has train of the chosen classes"):
        split(file, "test", classes=["c", "b"])


def test_chosen_classes_are_known_without_reading_the_table():
    facts = catalogue().entry("dataset", "Table").data_facts({"classes": ["b", "a"], "channels": 1})
    assert (facts.class_names, facts.classes, facts.channels) == (("b", "a"), 2, 1)
    assert catalogue().entry("dataset", "ImageFolder").data_facts({}).class_names is None


def test_a_split_called_otherwise_is_taken_for_the_one_it_means_and_said(put):
    file = put("pics/0.png,a,Training", "pics/1.png,a,VALID", "pics/2.png,a,test")
    assert [len(split(file, part).targets) for part in ("train", "val", "test")] == [1, 1, 1]
    assert list(split(file).remarks()) == [
        "labels.csv: split 'Training' is taken for train",
        "labels.csv: split 'VALID' is taken for val",
    ]


def test_a_split_column_that_nobody_names_is_a_warning(put):
    (said,) = opened(put("pics/0.png,a,train", "pics/1.png,a,test")).remarks()
    assert said.startswith("warning: labels.csv has a column 'split' that is not used: all rows are training pictures")


def test_labels_that_differ_in_their_case_alone_are_said(put):
    (said,) = split(put("pics/0.png,Cat,train", "pics/1.png,cat,train")).remarks()
    assert said == "warning: labels.csv: 'Cat' and 'cat' differ in their case alone, and are classes of their own"


@pytest.mark.parametrize(("one", "other"), [("B\u00e4r", "Ba\u0308r"), ("dog", "dog\u200b"), ("a b", "a\u00a0b")])
def test_labels_that_look_alike_are_said_by_their_characters(put, one, other):
    (said,) = split(put(f"pics/0.png,{one},train", f"pics/1.png,{other},train")).remarks()
    assert said.startswith("warning: labels.csv: ")
    assert said.endswith(" look alike, but are composed of other Unicode characters, and are classes of their own")
    assert {ascii(one), ascii(other)} <= set(re.findall(r"'.*?'", said))
    assert "look the same" in told(put(f"pics/0.png,{one},train", f"pics/1.png,{other},test"), "test")


def test_labels_that_are_whole_numbers_are_one_class_however_they_are_written(put):
    assert split(put("pics/0.png,3,train", "pics/1.png,3.0,train", "pics/2.png,10.0,train")).class_names == ("3", "10")


def test_endings_that_the_table_leaves_out_are_tried_in_order(put):
    cv2.imwrite("pics/7.bmp", pixels(77)[..., ::-1])
    source = opened(put("pics/0,a,train", "pics/7,a,train", "pics/8.png,a,train"), extensions=["bmp", ".png"])
    assert [source.describe(index) for index in range(3)] == ["pics/0.png", "pics/7.bmp", "pics/8.png"]


# ------------------------------------------------------------------------------------------ rows that cannot be used
GOOD = ("pics/8.png,cat,train", "pics/9.png,dog,train")

MESSES = {
    "a picture that is not there": (
        ["pics/none.png,cat,train"],
        "labels.csv:4: there is no picture pics/none.png",
        "picture not there",
    ),
    "no path": ([",cat,train"], "labels.csv:4: no path in column 'image'", "no path"),
    "no label": (["pics/0.png, ,train"], "labels.csv:4: no label in column 'label'", "no label"),
    "a split that is none": (
        ["pics/0.png,cat,extra"],
        "labels.csv:4: 'extra' is no split; they are train, val and test",
        "no split of that name",
    ),
    "no split": (["pics/0.png,cat,"], "labels.csv:4: no split", "no split of that name"),
    "a row that stands there twice": (
        ["pics/./8.png,cat,train"],
        "labels.csv:4: pics/8.png stands in line 2 already",
        "row that stands there twice",
    ),
    "a picture in two splits": (
        ["pics/0.png,cat,train", "pics/0.png,cat,val"],
        "labels.csv:4: pics/0.png is in val as well (line 5)",
        "picture in two splits",
    ),
}


@pytest.mark.parametrize("mess", MESSES)
def test_a_row_that_cannot_be_used_is_told_by_its_line_or_left_out_and_counted(put, mess):
    lines, said, kind = MESSES[mess]
    file = put(*GOOD, *lines)
    assert told(file) == f"{said}\n  mend the table; data.on_bad_image: skip leaves such rows out"
    source = split(file, on_bad_image="skip")
    assert [source.describe(index) for index in range(len(source.targets))] == ["pics/8.png", "pics/9.png"]
    assert list(source.remarks()) == [f"left out: 1 of {2 + len(lines)} rows of labels.csv, {kind}: line 4"]


def test_a_picture_under_two_labels_is_left_out_whole(put):
    file = put(*GOOD, "pics/0.png,cat,train", "pics/0.png,dog,train")
    assert "labels.csv:4: pics/0.png has two labels, 'cat' (line 4) and 'dog' (line 5); in all 2 of 4 rows" in told(
        file
    )
    source = split(file, on_bad_image="skip")
    assert len(source.targets) == 2
    assert list(source.remarks()) == ["left out: 2 of 4 rows of labels.csv, picture under two labels: lines 4, 5"]


@pytest.mark.parametrize("way", ["absolute", "through a link", "as it is"])
@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("dog,train", "has two labels, 'cat' (line 4) and 'dog' (line 5)"),
        ("cat,train", "stands in line 4, as pics/0.png already"),
        ("cat,test", "is in test as well (line 5"),
    ],
)
def test_a_picture_is_the_same_by_whatever_path(put, tmp_path, way, end, said):
    Path("link").symlink_to("pics")
    folder = {"absolute": f"{tmp_path}/pics", "through a link": "link", "as it is": "link/../pics"}[way]
    file = put(*GOOD, "pics/0.png,cat,train", f"{folder}/0.png,{end}")
    assert said.replace(", as pics/0.png", "" if way == "as it is" else ", as pics/0.png") in told(file)


@pytest.mark.parametrize("other", ["fox,train", "owl,test", "owl,"])
def test_a_picture_under_two_labels_is_left_out_whole_whatever_becomes_of_the_other_row(put, other):
    file = put(*GOOD, "pics/1.png,fox,train", "pics/0.png,cat,train", f"pics/0.png,{other}")
    for classes in (["cat", "dog"], ["cat", "dog", "fox"], None):
        assert "pics/0.png has two labels, 'cat' (line 5) and " in told(file, classes=classes)
        assert "pics/0.png" not in split(file, classes=classes, on_bad_image="skip")._paths


def test_the_other_row_of_a_class_that_is_not_chosen_may_be_no_path_at_all(put):
    assert len(split(put(*GOOD, "https://x.org/1.png,fox,train", ",fox,train"), classes=["cat", "dog"]).targets) == 2


def test_paths_with_backslashes_are_a_kind_of_their_own(put):
    file = put(*GOOD, "pics\\0.png,cat,train")
    assert told(file).startswith(
        "labels.csv:4: there is no picture pics\\0.png, but pics/0.png: write / instead of backslashes\n"
    )
    assert list(split(file, on_bad_image="skip").remarks()) == [
        "left out: 1 of 3 rows of labels.csv, path with backslashes, where / belongs: line 4"
    ]


def test_a_test_split_without_labels_is_none_that_can_be_measured_on_where_rows_may_be_left_out(put):
    file = put("pics/0.png,cat,train", "pics/1.png,dog,train", "pics/2.png,,test", "pics/3.png,,test")
    with pytest.raises(UnchosenSplit, match=r"no row of split 'test' can be used \(no label: lines 4, 5\)"):
        split(file, "test", on_bad_image="skip")


def test_classes_that_are_none_of_the_labels_are_answered_with_those(put):
    assert told(put(*GOOD), classes=["bird"]) == (
        "data.dataset.classes: no row of labels.csv that can be used is of 'bird'\n  the labels are cat, dog"
    )


def test_a_split_column_without_a_word_is_said_to_be_empty(put):
    with pytest.raises(MissingSplit, match=r"labels\.csv has none, but empty cells$"):
        split(put("pics/0.png,cat,"))


def test_a_label_that_no_training_row_has_is_told_in_the_split_that_has_it(put):
    file = put(*GOOD, "pics/0.png,ct,val", "pics/1.png,cat,val")
    assert len(split(file).targets) == 2
    assert told(file, "val").startswith("labels.csv:4: 'ct' is the label of no training row (did you mean 'cat'?)")
    assert split(file, "val", on_bad_image="skip").targets.tolist() == [0]


def test_a_table_without_training_rows_is_measured_on_by_its_own_labels(put):
    source = split(put("pics/0.png,ape,test", "pics/1.png,cat,val"), "test")
    assert (source.class_names, source.targets.tolist()) == (("ape", "cat"), [0])


def test_several_kinds_are_summed_up_by_line(put):
    file = put(
        *GOOD, *(f"pics/{number}.png,cat,train" for number in range(8)), "pics/n.png,cat,train", "pics/0.png,,train"
    )
    assert told(file) == (
        "labels.csv:12: there is no picture pics/n.png; in all 2 of 12 rows cannot be used "
        "(picture not there: line 12; no label: line 13)\n"
        "  mend the table; data.on_bad_image: skip leaves such rows out"
    )


@pytest.mark.parametrize(
    ("line", "arguments", "hint"),
    [
        ("0.png,cat,train", {}, "the paths begin in .; data.dataset.root names another folder"),
        ("pics\\0.png,cat,train", {}, "the paths are written with backslashes, as Windows does: write / instead"),
        ("pics/0,cat,train", {}, "where the table leaves the files' endings out, data.dataset.extensions says them"),
        ("/no/0.png,cat,train", {}, "the paths are absolute: do they lead where the pictures are on this machine?"),
        ("0.png,cat,train", {"root": "pic"}, "the paths begin in pic; data.dataset.root names another folder"),
    ],
)
def test_where_most_pictures_are_not_there_the_way_to_them_is_said_and_nothing_is_skipped(put, line, arguments, hint):
    for on_bad_image in ("fail", "skip"):
        said = told(put(line), on_bad_image=on_bad_image, **arguments)
        assert said.startswith("labels.csv:2: there is no picture ")
        assert hint in said


def test_an_address_is_refused_with_the_reason(put):
    said = told(put(*GOOD, "https://example.org/1.png,cat,train"), on_bad_image="skip")
    assert said.startswith("labels.csv:4: https://example.org/1.png is an address: pictures are read from the disk")


def test_a_broken_picture_is_told_by_its_line(put):
    Path("pics/0.png").write_bytes(b"no picture")
    source = opened(put("pics/1.png,a,train", "pics/0.png,a,train"))
    with pytest.raises(DataError, match=r"^labels\.csv:3: pics/0\.png is damaged"):
        source.image(1)


def test_a_column_that_says_no_split_at_all_is_quoted(put):
    with pytest.raises(MissingSplit, match=r"no split 'train': labels\.csv has none, but 0, 1$"):
        split(put("pics/0.png,cat,0", "pics/1.png,cat,1"))


def test_a_path_that_no_file_can_have_is_a_picture_that_is_not_there(put):
    Path("labels.jsonl").write_text(
        '{"image": "pics/0.png", "label": "a"}\n'
        '{"image": "pics/1.png", "label": "a"}\n'
        '{"image": "a\\u0000", "label": "a"}'
    )
    with pytest.raises(DataError, match=r"labels\.jsonl:3: there is no picture a"):
        opened("labels.jsonl")


def test_a_split_of_which_no_row_can_be_used_is_named(put):
    file = put(*GOOD, "pics/0.png,,val")
    said = told(file, "val", on_bad_image="skip")
    assert said == "labels.csv: no row of split 'val' can be used (no label: line 4)"


# --------------------------------------------------------------------------------------------------------- as a source
@pytest.mark.parametrize("argument", ["part", "on_bad_image", "download"])
def test_what_the_engine_sets_is_none_of_the_recipes(argument):
    entry = catalogue().entry("dataset", "Table")
    assert entry.parameter(argument).role == "engine"
    assert argument not in entry.settable()
    assert "split" in entry.settable()


def test_other_columns_are_read_when_asked_for(put):
    file = put("pics/0.png,a,test,p1", "pics/1.png,a,train,p2", "pics/2.png,b,train,", header="image,label,split,who")
    assert split(file).column("who") == ["p2", ""]
    opened, kept = split(file), split(file)
    assert kept.column("who") == ["p2", ""]
    Path(file).write_text(
        "\n".join([*Path(file).read_text().splitlines()[:1], *reversed(Path(file).read_text().splitlines()[1:])])
    )
    with pytest.raises(DataError, match="has changed since it was opened"):
        opened.column("who")  # its rows stand elsewhere by now
    assert kept.column("who") == ["p2", ""]
    with pytest.raises(DataError, match=r"no column 'patient'.*\n.*data\.val\.group names the column"):
        split(file).column("patient")


def test_what_lies_above_a_linked_folder_is_above_what_it_leads_to(tmp_path):
    for place in ("real/imgs", "imgs"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "real/tables").mkdir()
    (tmp_path / "tables").symlink_to(tmp_path / "real/tables")
    found = located("../imgs/a.png", str(tmp_path / "tables"), ())
    assert found == str((tmp_path / "real/imgs/a.png").resolve())


def test_groups_that_the_tables_own_splits_divide_are_said(put):
    lines = ["pics/0.png,a,train,p1", "pics/1.png,a,train,p2", "pics/2.png,a,test,p2"]
    (said,) = split(put(*lines, header="image,label,split,who"), group="who").remarks()
    assert said.startswith(
        "warning: labels.csv: 1 of 2 groups of 'who' lie in more than one split, "
        "as 'p2' in train (line 3) and test (line 4)"
    )


def opened_data(file, **section):
    log = []

    def open_split(name):
        return Table(file, split=None, part=name, download=False)

    data = open_data(Data(dataset=None, **section), open_split, Table.facts, seed=1, log=log.append)
    return data, log


def test_a_share_of_a_table_keeps_groups_whole(put):
    file = put(
        *(f"pics/{number}.png,{'ab'[number % 2]},p{number // 2}" for number in range(10)), header="image,label,who"
    )
    data, log = opened_data(file, val=Fraction(0.4, group="who"))
    assert {index // 2 for index in data.val.indices.tolist()} & {
        index // 2 for index in data.train.indices.tolist()
    } == set()
    assert len(data.val) == 4
    assert log[-1] == "validation: 4 of 10 training images (0.4, whole groups of who, seed 0)"


def test_a_fold_of_a_table_is_one_of_several(put):
    file = put(*(f"pics/{number}.png,{'ab'[number % 2]}" for number in range(10)), header="image,label")
    folds = [opened_data(file, val=Fraction(folds=3, fold=fold))[0] for fold in range(3)]
    assert sorted(index for data in folds for index in data.val.indices.tolist()) == list(range(10))
    log = opened_data(file, val=Fraction(folds=6, fold=1))[1]
    assert log[-2:] == [
        "validation: 2 of 10 training images (fold 1 of 6, from 0, seed 0)",
        "fewer than 6 training images are of a, b: not every fold has one to validate on",
    ]


def test_rows_of_every_split_that_can_be_used_are_counted(put):
    source = split(put(*GOOD, "pics/1.png,cat,val", "pics/2.png,dog,Valid", "pics/3.png,,val"))
    assert [source.count_of(part) for part in ("train", "val", "test")] == [2, 2, 0]


def test_a_link_to_nothing_is_a_picture_that_is_not_there(put):
    Path("pics/link.png").symlink_to("nowhere")
    assert told(put(*GOOD, "pics/link.png,cat,train")).startswith("labels.csv:4: there is no picture pics/link.png")
