"""ImageFolder: what counts as a split, a class and an image; and every kind of file is defined."""

import io
import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from registry.datasets.decoding import Decoding, decode, read_image
from registry.datasets.folder import ImageFolder
from registry.datasets.source import MissingSplit, UnchosenSplit, stamp
from registry.errors import DataError
from trainer.data.splits import open_data
from trainer.recipe.recipe import Data, Fraction


def picture(height=24, width=32, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def encoded(image, format_, **options):
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


@pytest.fixture
def put(tmp_path):
    """Write PNG images below a root: put("train/cat/1.png", ...)."""

    def write(*names):
        for number, name in enumerate(names):
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(Image.fromarray(picture(seed=number)), "PNG"))
        return str(tmp_path / "root")

    return write


def opened(root, split="train", **arguments):
    return ImageFolder(root, split=split, download=False, **arguments)


# ------------------------------------------------------------------------------------------------- splits and classes
def test_images_lie_by_split_and_class(put):
    root = put("train/dog/b.png", "train/cat/a.png", "train/cat/deep/er/c.png", "val/cat/d.png", "test/dog/e.png")
    train, val, test = (opened(root, split) for split in ("train", "val", "test"))
    assert train.class_names == val.class_names == test.class_names == ("cat", "dog")
    assert [name for name, _, _ in train.listing()] == ["cat/a.png", "cat/deep/er/c.png", "dog/b.png"]
    assert [source.targets.tolist() for source in (train, val, test)] == [[0, 0, 1], [0], [1]]
    assert np.array_equal(train.image(2), picture(seed=0))
    assert train.describe(0) == f"{root}/train/cat/a.png"


def test_a_flat_root_is_the_training_split(put):
    root = put("cat/a.png", "dog/b.png")
    assert opened(root).targets.tolist() == [0, 1]
    for split in ("val", "test"):
        with pytest.raises(MissingSplit):
            opened(root, split)


def test_the_listing_has_size_and_stamp_of_every_file(put):
    root = put("train/cat/a.png")
    facts = Path(root, "train/cat/a.png").stat()
    assert opened(root).listing() == [("cat/a.png", facts.st_size, stamp(facts))]


def test_a_root_without_a_training_split_opens_what_it_has(put):
    root = put("val/dog/a.png", "test/cat/b.png", "test/dog/c.png")
    for split, targets in (("val", [1]), ("test", [0, 1])):
        source = opened(root, split)
        assert (source.class_names, source.targets.tolist()) == (("cat", "dog"), targets)
    with pytest.raises(MissingSplit, match=r"has no split 'train': .* holds the splits val, test"):
        opened(root)


def test_a_file_of_the_same_size_and_time_has_another_stamp(put):
    root = put("train/cat/a.png")
    path = Path(root, "train/cat/a.png")
    (before,), facts = opened(root).listing(), path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    (after,) = opened(root).listing()
    assert path.stat().st_mtime_ns == facts.st_mtime_ns
    assert after[:2] == before[:2]
    assert after[2] != before[2]


def test_hidden_folders_hidden_files_and_other_files_do_not_count(put, tmp_path):
    root = put("train/cat/a.png", "train/cat/.hidden.png", "train/.ipynb_checkpoints/b.png", "train/cat/.git/c.png")
    (tmp_path / "root/train/cat/notes.txt").write_text("hello")
    (tmp_path / "root/train/readme.md").write_text("hello")
    source = opened(root)
    assert source.class_names == ("cat",)
    assert [name for name, _, _ in source.listing()] == ["cat/a.png"]


@pytest.mark.parametrize("suffix", ["jpg", "JPG", "jpeg", "png", "bmp", "tif", "TIFF", "webp", "ppm", "gif"])
def test_file_names_of_images(put, suffix):
    assert len(opened(put(f"cat/a.{suffix}")).targets) == 1


def test_an_empty_class_folder_is_named(put, tmp_path):
    root = put("train/cat/a.png")
    (tmp_path / "root/train/dog").mkdir()
    with pytest.raises(DataError, match=r"class folder .*train/dog holds no image"):
        opened(root)


def test_a_split_without_a_class_keeps_the_labels_of_the_others(put):
    root = put("train/ant/a.png", "train/bee/b.png", "train/cow/c.png", "val/cow/d.png", "val/ant/e.png")
    val = opened(root, "val")
    assert val.class_names == ("ant", "bee", "cow")
    assert val.targets.tolist() == [0, 2]


def test_a_class_that_only_another_split_has_is_refused_by_name(put):
    root = put("train/cat/a.png", "train/dog/b.png", "val/cat/c.png", "val/ape/d.png")
    own = opened(root, "val")
    assert (own.class_names, own.targets.tolist()) == (("cat", "dog", "ape"), [2, 0]), "train's numbers stay"
    with pytest.raises(DataError, match="their names differ: only there: ape"):
        open_data(Data(dataset=None), lambda split: opened(root, split), ImageFolder.facts, seed=0, log=print)


def test_a_root_that_leads_nowhere_is_said_to_be_relative_only_where_it_is(tmp_path):
    with pytest.raises(DataError) as caught:
        opened("nowhere/at/all")
    assert caught.value.hint == "data.dataset.root is relative to the working directory"
    with pytest.raises(DataError) as caught:
        opened(str(tmp_path / "no/such/place"))
    assert caught.value.hint == f"data.dataset.root is an absolute path, which leads as far as {tmp_path}"


@pytest.mark.parametrize(("found", "meant"), [("valid", "val"), ("validation", "val"), ("testing", "test")])
def test_a_split_under_another_name_is_not_passed_over(put, found, meant):
    root = put("train/cat/a.png", f"{found}/cat/b.png")
    with pytest.raises(DataError, match=f"{found} looks like a split"):
        opened(root, meant)


def test_a_root_with_only_misnamed_splits_is_not_taken_for_classes(put):
    with pytest.raises(DataError, match="testing looks like a split"):
        opened(put("training/cat/a.png", "testing/cat/b.png"))


@pytest.mark.parametrize(
    "name", ["Train", "VAL", "Validation", "valid", "dev", "eval", "training_set", "test-set", "TestImages", "val2017"]
)
def test_a_name_that_looks_like_a_split_is_refused_with_the_ways_out(put, name):
    root = put("train/cat/a.png", "train/dog/b.png", f"{name}/cat/c.png", f"{name}/dog/d.png")
    with pytest.raises(DataError, match=f"{name} looks like a split, but splits are called train, val and test") as met:
        opened(root)
    assert "data.dataset.layout: classes takes every folder for a class" in met.value.hint
    assert opened(root, layout="classes").class_names == tuple(sorted((name, "train")))
    assert list(opened(root, layout="splits").remarks()) == [f"{root}: not used, being no split: {name}"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("seg_train", "seg_test"), ("x_train", "x_test"), ("asl_alphabet_train", "asl_alphabet_test"),
        ("XTrain", "XVal"),
        ("data-train-images", "data-valid-images"), ("2020 training", "2020 dev"),
    ],
)  # fmt: skip
def test_words_before_a_splits_name_count_where_they_stand_before_another_as_well(put, first, second):
    root = put(*(f"{split}/{split}/{name}/1.png" for split in (first, second) for name in ("cat", "dog")))
    with pytest.raises(DataError, match="looks like a split, but splits are called train, val and test") as met:
        opened(root)
    assert "; or data.dataset.layout: classes takes every folder for a class" in met.value.hint
    assert set(opened(root, layout="classes").class_names) == {first, second}


def test_splits_to_be_renamed_beside_pictures_without_a_class_are_named(put):
    root = put(
        "seg_train/cat/1.png", "seg_train/dog/2.png", "seg_test/cat/3.png", "seg_test/dog/4.png", "seg_pred/5.png"
    )
    with pytest.raises(DataError, match="seg_test and seg_train as splits, or all of seg_pred, seg_test") as met:
        opened(root)
    assert "rename seg_test to test and seg_train to train, and data.dataset.layout: splits" in met.value.hint


@pytest.mark.parametrize(
    "names",
    [("bullet_train", "steam_train"), ("crash_test", "steam_train"), ("trainer", "tester"), ("test_a", "test_b")],
)
def test_a_splits_name_beside_words_of_its_own_is_a_class(put, names):
    assert opened(put(*(f"{name}/1.png" for name in names))).class_names == tuple(sorted(names))


@pytest.mark.parametrize("tops", [("fold1", "fold2"), ("2020", "2021"), ("treino", "teste"), ("a", "b", "c")])
@pytest.mark.parametrize("lone", ["", "inner/"])
def test_folders_that_all_hold_the_same_folders_are_not_taken_for_classes(put, tops, lone):
    root = put(*(f"{top}/{lone}{name}/deep/1.png" for top in tops for name in ("cat", "dog")))
    with pytest.raises(DataError, match="all hold the same folders, cat and dog: these look like the classes") as met:
        opened(root)
    first = f"{root}/{sorted(tops)[0]}/{lone}".rstrip("/")
    assert f"set data.dataset.root: {first}; or data.dataset.layout: classes takes" in met.value.hint
    assert opened(first).class_names == ("cat", "dog")
    assert opened(root, layout="classes").class_names == tuple(sorted(tops))


def test_folders_of_the_same_names_below_the_classes_of_a_training_split_are_refused_as_well(put):
    root = put(*(f"train/{top}/{name}/1.png" for top in ("fold1", "fold2") for name in ("cat", "dog")))
    with pytest.raises(DataError, match="layout: splits takes fold1 and fold2 for the classes"):
        opened(root)


@pytest.mark.parametrize(
    "more",
    [
        ["dog/front/3.png"],  # one side only
        ["dog/front/3.png", "dog/top/4.png"],  # other names
        ["dog/front/3.png", "dog/back/4.png", "dog/5.png"],  # images of its own
        ["dog/front/3.png", "dog/back/4.png", "dog/top/5.png"],  # one more
    ],
)
def test_classes_whose_folders_differ_are_classes(put, more):
    assert opened(put("cat/front/1.png", "cat/back/2.png", *more)).class_names == ("cat", "dog")


def test_capital_letters_do_not_make_classes_of_splits(put):
    with pytest.raises(DataError, match="Train looks like a split") as met:
        opened(put("Train/a/1.png", "Train/b/2.png", "Val/a/3.png", "Val/b/4.png"))
    assert met.value.hint.startswith("rename it to train; or ")


@pytest.mark.parametrize(
    "name", ["trainer", "testbed", "valley", "devil", "contest", "evaluations", "strain", "retest"]
)
def test_a_word_that_only_contains_a_splits_name_is_a_class(put, name):
    assert opened(put(f"{name}/a.png", "other/b.png")).class_names == tuple(sorted((name, "other")))


def test_a_root_one_level_too_high_is_refused_and_the_right_one_named(put):
    root = put("flowers/train/a/1.png", "flowers/train/b/2.png", "flowers/val/a/3.png", "flowers/val/b/4.png")
    with pytest.raises(DataError) as met:
        opened(root)
    assert met.value.message == f"{root}/flowers would be a class, but holds train and val, which look like splits"
    assert met.value.hint.startswith(f"set data.dataset.root: {root}/flowers; or data.dataset.layout: classes")
    assert opened(root, layout="classes").class_names == ("flowers",)
    assert opened(f"{root}/flowers").class_names == ("a", "b")


def test_splits_below_the_classes_are_refused_instead_of_being_poured_together(put):
    with pytest.raises(DataError, match="cat would be a class, but holds test and train") as met:
        opened(put("cat/train/1.png", "cat/test/2.png", "dog/train/3.png", "dog/test/4.png"))
    assert "splits come first: test/cat" in met.value.hint


def test_a_folder_with_images_of_its_own_is_a_class_though_it_is_called_train(put):
    assert opened(put("bus/1.png", "car/2.png", "train/3.png")).class_names == ("bus", "car", "train")


def test_a_class_called_test_beside_another_is_a_class(put):
    root = put("control/1.png", "test/2.png")
    assert opened(root).class_names == ("control", "test")
    with pytest.raises(MissingSplit):
        opened(root, "test")


def test_splits_beside_folders_of_images_need_the_readers_word(put):
    root = put("bus/1.png", "car/2.png", "train/steam/3.png", "train/electric/4.png")
    with pytest.raises(DataError) as met:
        opened(root)
    assert met.value.message == (
        f"{root} can be read in two ways: train as a split, or all of bus, car, train as classes"
    )
    assert (
        "data.dataset.layout: splits leaves out what is called otherwise, classes takes every folder" in met.value.hint
    )
    assert opened(root, layout="classes").class_names == ("bus", "car", "train")
    splits = opened(root, layout="splits")
    assert splits.class_names == ("electric", "steam")
    assert list(splits.remarks()) == [f"{root}: not used, being no split: bus, car"]


def test_images_of_splits_without_classes_are_no_classes(put):
    with pytest.raises(DataError, match="train has no class folders, its images have no class"):
        opened(put("train/1.png", "test/2.png"))


def test_a_folder_without_images_beside_the_splits_is_named_in_the_log(put, tmp_path):
    root = put("train/cat/a.png", "train/dog/b.png")
    (tmp_path / "root/annotations").mkdir()
    assert list(opened(root).remarks()) == [f"{root}: not used, being no split: annotations"]


# ------------------------------------------------------------------------------------------------- what is not taken
def test_files_that_are_no_images_by_their_names_are_counted_by_ending(put):
    root = put("cat/a.png", "dog/b.png", "dog/c.heic", "dog/deep/d.heic", "cat/plain", "cat/notes.TXT", "cat/.hidden")
    assert list(opened(root).remarks()) == [
        f"{root}: 4 files are no images by their names: .heic 2, .txt 1, none 1; "
        "convert .heic to .jpg or .png: OpenCV does not read them"
    ]


def test_a_class_of_images_that_opencv_cannot_read_says_what_lies_there(put):
    root = put("cat/a.png", "dog/b.heic", "dog/c.heic")
    with pytest.raises(DataError) as met:
        opened(root)
    assert met.value.message == (
        f"class folder {root}/dog holds no image; its files are no images by their names: .heic 2"
    )
    assert met.value.hint == "convert .heic to .jpg or .png: OpenCV does not read them"


@pytest.mark.parametrize(
    ("names", "beside"),
    [([], ""), (["a.png"], ", and the 1 image in it has no label"), (["a.png", "b.png"], ", and the 2 images in it")],
)
def test_a_split_without_class_folders_is_none_that_can_be_measured_on(put, names, beside):
    root = put("train/cat/a.png", "train/dog/b.png", *(f"test/{name}" for name in names))
    Path(root, "test").mkdir(exist_ok=True)
    with pytest.raises(UnchosenSplit) as caught:
        opened(root, "test")
    assert caught.value.message.startswith(f"ImageFolder has no split 'test': {root}/test has no class folders{beside}")


def test_images_outside_the_class_folders_are_counted(put):
    root = put("train/cat/a.png", "train/dog/b.png", "train/loose.png", "train/loose2.jpg")
    assert list(opened(root).remarks()) == [f"{root}/train: 2 images lie in no class folder and are not used"]


@pytest.mark.parametrize("suffix", ["jfif", "avif"])
def test_images_under_other_endings_that_opencv_reads_are_taken(tmp_path, suffix):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"1.{suffix}").write_bytes(encoded(RGB, "JPEG" if suffix == "jfif" else "AVIF", quality=95))
    source = opened(str(tmp_path))
    assert source.image(1).shape == (24, 32, 3)
    assert list(source.remarks()) == []


def test_a_link_to_nothing_is_an_image_that_cannot_be_read(put):
    root = put("a/1.png", "b/2.png")
    Path(root, "b/gone.png").symlink_to("/nowhere/x.png")
    source = opened(root)
    assert [(name, size) for name, size, _ in source.listing()][2:] == [("b/gone.png", 0)]
    with pytest.raises(DataError, match=r"b/gone\.png cannot be read: No such file"):
        source.image(2)


def test_a_pipe_is_left_out_and_said_and_never_waited_for(put):
    root = put("a/1.png", "b/2.png")
    os.mkfifo(Path(root, "b/pipe.png"))
    source = opened(root)
    assert len(source.targets) == 2
    assert list(source.remarks()) == [f"{root}: left out, being no plain files: {root}/b/pipe.png"]
    with pytest.raises(DataError, match=r"pipe\.png is no plain file"):
        read_image(f"{root}/b/pipe.png")


def test_a_folder_named_like_an_image_is_a_folder(put):
    assert len(opened(put("a/holiday.jpg/1.png", "b/2.png")).targets) == 2


def test_what_becomes_of_deep_and_transparent_images_is_said(put):
    root = put("a/1.png", "b/2.png", "b/3.png")
    cv2.imwrite(f"{root}/a/1.png", np.full((4, 4), 4080, np.uint16))
    image = RGB.copy()
    image.putalpha(Image.fromarray(ALPHA))
    image.save(f"{root}/b/2.png")
    assert list(opened(root).remarks()) == [
        "1 of 3 images looked at have 16 bits: the upper 8 bits are used, the greatest value in them is 4080, so 0..15 "
        "of 255 occur; data.dataset.white_level: 4095 would take all of 12 bits",
        "1 of 3 images looked at are transparent in places: white shows through",
    ]
    assert "white_level 4095 becomes 255" in next(iter(opened(root, white_level=4095).remarks()))


def test_a_few_deep_images_among_many_are_seen(tmp_path):
    for index in range(200):
        path = tmp_path / "train" / "ab"[index % 2] / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((4, 4), 4080, np.uint16) if index % 40 == 7 else np.zeros((4, 4), np.uint8)
        cv2.imwrite(str(path), pixels)
    (said,) = opened(str(tmp_path / "train")).remarks()
    assert said.startswith("5 of 200 images looked at have 16 bits: the upper 8 bits are used, the greatest value in")


# --------------------------------------------------------------------------------------------------- what is chosen
def test_chosen_classes_leave_the_others_out_and_count_them(put):
    root = put(
        "train/cat/1.png",
        "train/dog/2.png",
        "train/fox/3.png",
        "train/fox/4.png",
        "val/owl/5.png",
        "val/cat/6.png",
        "test/owl/7.png",
    )
    train, val = (opened(root, split, classes=["dog", "cat"]) for split in ("train", "val"))
    assert train.class_names == val.class_names == ("dog", "cat")
    assert (train.targets.tolist(), val.targets.tolist()) == ([1, 0], [1])
    assert list(train.remarks()) == [f"{root}/train: 2 images are left out, their class is not chosen: fox 2"]
    with pytest.raises(MissingSplit, match=r"no split 'test': .* has no folder of a chosen class"):
        opened(root, "test", classes=["dog", "cat"])
    assert list(val.remarks()) == [f"{root}/val: 1 image is left out, its class is not chosen: owl 1"]


def test_a_split_that_writes_the_chosen_classes_otherwise_is_no_missing_one(put):
    root = put("train/cat/1.png", "train/dog/2.png", "val/Cat/3.png", "val/Dog/4.png")
    with pytest.raises(DataError, match="has no folder of a chosen class") as told:
        opened(root, "val", classes=["cat", "dog"])
    assert not isinstance(told.value, MissingSplit)
    assert told.value.hint == "there are Cat, Dog: give a class one name everywhere"


def test_a_chosen_class_without_a_folder_is_answered_with_the_nearest(put):
    root = put("train/cat/1.png", "train/fox/3.png")
    with pytest.raises(DataError) as caught:
        opened(root, classes=["cat", "fxo"])
    assert str(caught.value) == (f"data.dataset.classes: {root}/train has no class folder 'fxo'\n  did you mean 'fox'?")
    shutil.rmtree(f"{root}/train")
    assert opened(put("test/cat/1.png"), "test", classes=["cat", "owl"]).class_names == ("cat", "owl"), "measured alone"


def test_folders_below_a_class_are_groups_by_their_name_whatever_the_class(put):
    names = [f"{'cat' if number % 2 else 'dog'}/p{number // 4}/{number}.png" for number in range(16)]
    root = put(*names, "cat/alone.png", "dog/p0/deep/er.png")
    log = []
    data = open_data(
        Data(dataset=None, val=Fraction(0.3, group="folder")),
        lambda split: opened(root, split),
        ImageFolder.facts,
        seed=0,
        log=log.append,
    )
    told = opened(root).column("folder")
    assert set(told) == {"", "p0", "p1", "p2", "p3"}
    assert {told[index] for index in data.val.indices} & {told[index] for index in data.train.indices} <= {""}
    assert "whole groups of folder" in log[-1]
    with pytest.raises(DataError, match=r"of images in folders only 'folder' is known, .*, not 'patient'"):
        opened(root).column("patient")


def test_images_of_another_split_are_counted_by_its_chosen_classes(put):
    root = put("train/a/1.png", "train/b/1.png", "val/a/1.png", "val/a/deep/2.png", "val/b/3.png", "val/b/.hidden.png")
    assert [opened(root).count_of(split) for split in ("val", "test")] == [3, 0]
    assert opened(root, classes=["b"]).count_of("val") == 1
    assert opened(f"{root}/train").count_of("val") == 0


def test_class_folders_that_look_alike_are_a_warning(put):
    root = put("train/Cat/1.png", "train/cat/1.png", "train/B\u00e4r/1.png", "train/Ba\u0308r/1.png")
    if len(list(Path(root, "train").iterdir())) < 4:
        pytest.skip("this file system has one name for both")
    assert [each.partition("train: ")[2] for each in opened(root).remarks()] == [
        f"{'Bär'!a} and {'Bär'!a} look alike, but are composed of other Unicode characters, "
        "and are classes of their own",
        "'Cat' and 'cat' differ in their case alone, and are classes of their own",
    ]


def test_extensions_say_which_files_count(put, tmp_path):
    root = put("cat/1.png", "cat/1.jpg", "dog/2.PNG", "dog/2.jpg", "dog/3.photo")
    assert [name for name, _, _ in opened(root, extensions=["png", ".photo"]).listing()] == [
        *("cat/1.png", "dog/2.PNG", "dog/3.photo"),
    ]
    assert list(opened(root, extensions=["png"]).remarks()) == [
        f"{root}: 3 files are not of data.dataset.extensions: .jpg 2, .photo 1"
    ]
    with pytest.raises(DataError, match=r"class folder .*cat holds no image; its files are not of data\.dataset\.ext"):
        opened(root, extensions=[".photo"])


def test_one_channel_is_the_grey_of_the_colours(put):
    source = opened(put("cat/1.png"), channels=1)
    assert np.array_equal(source.image(0)[..., 0], cv2.cvtColor(picture(seed=0), cv2.COLOR_RGB2GRAY))
    assert np.array_equal(Decoding(channels=1).decode(encoded(RGB.convert("L"), "PNG"), "it")[..., 0], GREY)
    assert source.decoding != opened(put("cat/1.png")).decoding


def test_bits_are_a_white_level():
    assert Decoding.of(bits=12) == Decoding(4095)
    assert Decoding.of(bits=16) == Decoding()
    assert Decoding.of(bits=8) == Decoding(255)


@pytest.mark.parametrize(("background", "ground"), [("white", 255), ("black", 0), ([10, 10, 10], 10)])
def test_the_background_shows_through(background, ground):
    image = RGB.copy()
    image.putalpha(Image.fromarray(np.zeros((24, 32), np.uint8)))
    assert np.unique(Decoding.of(background=background).decode(encoded(image, "PNG"), "it")).tolist() == [ground]


def test_a_coloured_background_keeps_its_colour_in_half_transparency():
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 51))
    assert Decoding.of(background=[250, 100, 0]).decode(encoded(image, "PNG"), "it")[0, 0].tolist() == [200, 80, 0]


def test_a_root_without_class_folders_says_what_belongs_there(put):
    with pytest.raises(DataError, match="has no class folders"):
        opened(put("train/a.png"))


def test_a_root_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(DataError, match=r"there is no folder .*nowhere"):
        opened(str(tmp_path / "nowhere"))


def test_names_beyond_ascii_and_with_spaces(put):
    source = opened(put("train/größe 猫/ein bild ä.png", "train/b/a.png"))
    assert source.class_names == ("b", "größe 猫")
    assert source.image(1).shape == (24, 32, 3)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs symbolic links")
def test_a_link_to_a_folder_above_ends(put):
    root = put("train/cat/a.png")
    Path(root, "train/cat/again").symlink_to(Path(root, "train/cat"), target_is_directory=True)
    assert len(opened(root).targets) == 1


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs symbolic links")
@pytest.mark.parametrize("aim", [".", "train", "train/cat"])
def test_a_link_to_what_a_class_lies_in_does_not_make_its_own_of_all_classes(put, aim):
    root = put("train/cat/a.png", "train/dog/b.png")
    Path(root, "train/cat/up").symlink_to(Path(root, aim), target_is_directory=True)
    assert [name for name, _, _ in opened(root).listing()] == ["cat/a.png", "dog/b.png"]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs symbolic links")
@pytest.mark.parametrize("aim", [".", "train"])
def test_a_link_upward_is_no_class(put, aim):
    root = put("train/cat/a.png", "train/dog/b.png")
    Path(root, "train/all").symlink_to(Path(root, aim), target_is_directory=True)
    source = opened(root)
    assert source.class_names == ("cat", "dog")
    assert "train: no class, being a link to a folder that it lies in: all" in " ".join(source.remarks())


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs symbolic links")
def test_a_link_to_all_classes_is_none_of_them(put):
    root = put("cat/a.png", "dog/b.png")
    Path(root, "all").symlink_to(root, target_is_directory=True)
    assert opened(root).class_names == ("cat", "dog")


def test_a_class_that_is_a_link_is_read(put, tmp_path):
    root = put("train/cat/a.png", "elsewhere/b.png")
    Path(root, "elsewhere").rename(tmp_path / "elsewhere")
    Path(root, "train/dog").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert [name for name, _, _ in opened(root).listing()] == ["cat/a.png", "dog/b.png"]


# ---------------------------------------------------------------------------------------------------- kinds of images
RGB = Image.fromarray(picture())
GREY = np.asarray(RGB.convert("L"))


@pytest.mark.parametrize("format_", ["PNG", "BMP", "GIF", "TIFF", "WEBP", "JPEG"])
def test_every_format_gives_what_pillow_gives(format_):
    content = encoded(RGB, format_)
    theirs = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert np.abs(decode(content, "it").astype(int) - theirs).max() <= 1


def test_grey_becomes_three_equal_channels():
    for image in (RGB.convert("L"), RGB.convert("LA")):
        assert np.array_equal(decode(encoded(image, "PNG"), "it"), np.repeat(GREY[..., None], 3, axis=2))


def test_a_palette_gives_its_colours():
    image = RGB.quantize(16)
    assert np.array_equal(decode(encoded(image, "PNG"), "it"), np.asarray(image.convert("RGB")))


ALPHA = np.linspace(0, 255, 24 * 32).astype(np.uint8).reshape(24, 32)


def over_white(colours, alpha):
    share = alpha[..., None] / 255
    return np.rint(colours * share + 255 * (1 - share))


@pytest.mark.parametrize(
    ("format_", "options"),
    [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True}), ("WEBP", {"quality": 100, "exact": True})],
)
def test_transparent_pixels_let_white_through(format_, options):
    image = RGB.copy()
    image.putalpha(Image.fromarray(ALPHA))
    content = encoded(image, format_, **options)
    stored = np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))
    laid = over_white(stored[..., :3].astype(float), stored[..., 3])
    assert np.abs(decode(content, "it") - laid).max() <= (1 if options.get("quality") is None else 3)


def test_a_jpeg_which_has_no_transparency_is_decoded_once(monkeypatch):
    """Its tables hold the letters "cdef", which tell transparency in other formats."""
    decoded, decode_once = [], cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda *given: decoded.append(given[1]) or decode_once(*given))
    content = encoded(Image.fromarray(picture()), "JPEG")
    assert b"cdef" in content
    assert decode(content, "it").shape == picture().shape
    assert len(decoded) == 1


def test_every_way_of_storing_transparency_lets_white_through():
    drawing = Image.fromarray(np.where(GREY > 128, 255, 0).astype(np.uint8))  # black and, where transparent, white
    clear = np.asarray(drawing) == 255
    for image, options in (
        (drawing, {"transparency": 255}),  # a grey level that is transparent
        (drawing.convert("1"), {"transparency": 1}),
        (drawing.convert("RGB"), {"transparency": (255, 255, 255)}),
        (Image.merge("LA", (Image.new("L", drawing.size), Image.fromarray(np.where(clear, 0, 255).astype("u1")))), {}),
    ):
        expected = np.where(clear, 255, 0)
        assert np.array_equal(decode(encoded(image, "PNG", **options), "it")[..., 0], expected), (image.mode, options)
    palette = drawing.convert("RGB").quantize(2)
    white = int(np.asarray(palette)[clear][0])
    palette.putpalette([9, 9, 9] * white + [200, 0, 0] + [9, 9, 9] * (1 - white))  # red, were it not transparent
    for format_ in ("PNG", "GIF"):
        pixels = decode(encoded(palette, format_, transparency=white), "it")
        assert (pixels[clear] == 255).all(), format_
        assert (pixels[~clear] == 9).all(), format_


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["PNG", "WEBP"])
def test_transparency_is_turned_with_its_picture(format_, orientation):
    from PIL import ImageOps

    image = RGB.copy()
    image.putalpha(Image.fromarray(ALPHA))
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(image, format_, exif=exif.tobytes(), lossless=True, exact=True)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content)).convert("RGBA")))
    assert np.abs(decode(content, "it") - over_white(upright[..., :3].astype(float), upright[..., 3])).max() <= 1


def test_sixteen_bits_keep_the_upper_eight():
    deep = (picture().astype(np.uint16) << 8) + 77
    for suffix in (".png", ".tif"):
        content = cv2.imencode(suffix, deep[..., ::-1])[1].tobytes()
        assert np.abs(decode(content, "it").astype(int) - picture()).max() <= 1
    grey = cv2.imencode(".png", GREY.astype(np.uint16) << 8)[1].tobytes()
    assert np.abs(decode(grey, "it").astype(int) - GREY[..., None]).max() <= 1


def test_a_white_level_scales_sixteen_bits_and_leaves_eight_alone():
    twelve = np.array([[0, 16, 2048, 4095, 5000]], dtype=np.uint16)
    for suffix in (".png", ".tif", ".pgm"):
        content = cv2.imencode(suffix, twelve)[1].tobytes()
        assert decode(content, "it")[0, :, 0].tolist() == [0, 0, 8, 15, 19]
        assert Decoding(white_level=4095).decode(content, "it")[0, :, 0].tolist() == [0, 1, 128, 255, 255]
    content = encoded(RGB, "PNG")
    assert np.array_equal(Decoding(white_level=4095).decode(content, "it"), picture())


def test_pixels_of_which_nobody_knows_the_white_are_refused():
    content = cv2.imencode(".tif", np.ones((4, 4, 3), np.float32))[1].tobytes()
    with pytest.raises(DataError, match=r"x\.tif holds pixels of type float32"):
        decode(content, "x.tif")


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 3)])
def test_grey_and_colour_of_such_pixels_are_refused_for_the_same_reason(kind, shape, capfd):
    content = cv2.imencode(".tif", np.ones(shape, kind))[1].tobytes()
    with pytest.raises(DataError, match=rf"x\.tif holds pixels of type {kind.__name__}") as caught:
        decode(content, "x.tif")
    assert caught.value.hint == "convert it to 8 or 16 bits"


def test_cmyk_becomes_rgb():
    content = encoded(RGB.convert("CMYK"), "JPEG", quality=95)
    assert np.abs(decode(content, "it").astype(int) - picture()).mean() < 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(RGB, "JPEG", exif=exif.tobytes(), quality=95)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    assert np.array_equal(decode(content, "it"), upright)


# ------------------------------------------------------------------------------------------------------------- damage
@pytest.mark.parametrize("format_", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.97])
def test_a_file_cut_short_is_an_error_that_names_it(tmp_path, format_, share, capfd):
    content = encoded(RGB, format_)
    path = tmp_path / "half.img"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"half\.img is damaged, cut short, or not an image"):
        read_image(str(path))


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "GIF"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.97])
def test_a_file_whose_end_a_crash_made_zeros_is_an_error_that_names_it(format_, share):
    thumbnail = b"\xff\xe5\x00\x06\xff\xd9\xff\xd9"  # has an end that is not the picture's
    content = encoded(RGB, format_)
    if format_ == "JPEG":
        content = content[:2] + thumbnail + content[2:]
    whole = int(len(content) * share)
    with pytest.raises(DataError, match="half is damaged, cut short, or not an image"):
        decode(content[:whole] + bytes(len(content) - whole), "half")


@pytest.mark.parametrize(
    "behind", [bytes(100), b"\xff\xda a film that a telephone puts there", encoded(RGB, "JPEG")[:300]]
)
def test_a_whole_jpeg_with_something_behind_it_is_one(behind):
    content = encoded(RGB, "JPEG")
    assert np.array_equal(decode(content + behind, "it"), decode(content, "it"))


def test_opencv_adds_nothing_to_the_error_of_what_it_cannot_decode(tmp_path):
    path = tmp_path / "counts.tiff"
    Image.fromarray(np.arange(400, dtype=np.int32).reshape(20, 20)).save(path)
    script = """import sys; from registry.datasets.decoding import read_image
try: read_image(sys.argv[1])
except Exception as error: print(error)"""
    ended = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert (ended.stderr, "counts.tiff holds pixels of type int32" in ended.stdout) == ("", True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.jpg is empty \(0 bytes\)"),
        (b"<html>please log in</html>", r"a\.jpg is damaged, cut short, or not an image \(26 bytes\)"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (b"\xff\xd8\xff", "damaged"),
        (bytes(5000), "damaged"),
    ],
)
def test_what_is_no_image_is_an_error_that_names_it(content, message, capfd):
    with pytest.raises(DataError, match=message):
        decode(content, "a.jpg")


def test_a_file_that_vanished_is_an_error_that_names_it(put):
    root = put("train/cat/a.png")
    source = opened(root)
    Path(root, "train/cat/a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png cannot be read: No such file"):
        source.image(0)


def test_a_decompression_bomb_is_refused_by_its_header():
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    with pytest.raises(DataError, match=r"bomb\.png is 30000 x 30000 pixels"):
        decode(content, "bomb.png")
