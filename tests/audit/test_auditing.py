"""The audit of a folder in which copies, contradictions and odd pictures were planted: all are found, no more."""

import csv
import io

import cv2
import numpy as np
import pytest
from made_pictures import NAMES, planted, scenes, write

from registry.datasets.folder import ImageFolder
from registry.datasets.shapes import Shapes
from trainer.audit.auditing import audited
from trainer.data.splits import open_data
from trainer.recipe.recipe import Data, Fraction
from trainer.report.audit_list import COLUMNS, csv_of

A_TENTH = Fraction(0.1)


def audit_of(root, *, val=A_TENTH, **options):
    data = open_data(
        Data(dataset=None, val=val, on_bad_image="skip"),
        lambda split: ImageFolder(str(root), split=split, download=False),
        ImageFolder.facts,
        seed=0,
        log=lambda _: None,
    )

    def file_of(store, index):
        return store.describe(index).removeprefix(f"{root}/")

    return audited(data, file_of=file_of, log=lambda _: None, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def found(folder):
    return audit_of(folder.root)


def test_every_planted_leak_is_found_and_nothing_else(found, folder):
    in_train = {each.first.file: each.second.file for each in found.leaked("test") + found.leaked("test", "val")}
    assert in_train == folder.leaks
    assert found.duplicates == ()
    assert found.contradictions == ()
    assert found.leaked("val") == ()


def test_it_says_which_copies_are_exact_and_which_are_mirrored(found):
    exact = [each.first.file for each in found.leaks if each.exact]
    mirrored = [each.first.file for each in found.leaks if each.mirrored]
    assert exact == [f"test/{NAMES[0]}/exact.png"]
    assert mirrored == [f"test/{NAMES[1]}/mirrored.png"]
    assert found.leaks[0].exact, "the surest come first"


def test_what_was_seen_is_kept_so_that_no_picture_is_read_twice(folder, found, monkeypatch):
    def never(*_):
        raise AssertionError("a picture was read")

    monkeypatch.setattr("trainer.audit.looks.read", never)
    assert audit_of(folder.root).leaks == found.leaks


def test_a_picture_that_was_changed_is_seen_anew(tmp_path):
    made = planted(tmp_path, train=20, test=10)
    assert len(audit_of(made.root).leaks) == 9
    write(made.root / "test" / NAMES[1] / "mirrored.png", scenes(1, seed=9)[0])
    assert len(audit_of(made.root).leaks) == 8


def test_duplicates_contradictions_and_odd_pictures_are_told_apart(tmp_path):
    pictures = scenes(60)
    for number, image in enumerate(pictures[:40]):
        write(tmp_path / "train" / NAMES[number % 2] / f"{number}.png", image)
        if number < 20:
            write(tmp_path / "val" / NAMES[number % 2] / f"{number}.png", pictures[40 + number])
    write(tmp_path / "train" / NAMES[0] / "twice.png", pictures[4])
    write(tmp_path / "train" / NAMES[1] / "elsewhere.jpg", pictures[6], quality=70)  # which is of class 0
    write(tmp_path / "train" / NAMES[0] / "tiny.png", cv2.resize(pictures[59], (8, 8), interpolation=cv2.INTER_AREA))
    grain = np.random.default_rng(0).normal(200, 6, (256, 256, 3)).clip(0, 255)
    write(tmp_path / "val" / NAMES[0] / "blank.png", grain.astype(np.uint8))
    halves = np.full((64, 64, 3), (255, 0, 0), np.uint8)
    halves[:, 32:] = (0, 130, 0)  # as bright as the other
    write(tmp_path / "val" / NAMES[0] / "halves.png", halves)
    (tmp_path / "train" / NAMES[1] / "broken.png").write_bytes(b"no picture")
    found = audit_of(tmp_path, val=None)
    twice = {(each.first.file, each.second.file) for each in found.duplicates}
    assert twice == {
        (f"train/{NAMES[0]}/twice.png", f"train/{NAMES[0]}/4.png"),
        (f"train/{NAMES[1]}/elsewhere.jpg", f"train/{NAMES[0]}/6.png"),
    }
    (wrong,) = found.contradictions
    assert (wrong.first.file, wrong.first.label, wrong.second.label) == (f"train/{NAMES[1]}/elsewhere.jpg", 1, 0)
    assert [(each.kind, each.picture.file.rpartition("/")[2]) for each in found.odd] == [
        ("broken", "broken.png"),
        ("tiny", "tiny.png"),
        ("blank", "blank.png"),
    ]
    assert "not an image" in found.odd[0].why
    assert found.odd[1].why == "8 x 8 px, where a shorter side of 64 px is usual"


def test_a_leaked_picture_that_is_there_twice_counts_twice(tmp_path):
    pictures = scenes(30)
    for number, image in enumerate(pictures):
        write(tmp_path / "train" / NAMES[number % 2] / f"{number}.png", image)
    for name in ("a", "b"):
        write(tmp_path / "val" / NAMES[1] / f"{name}.png", pictures[3][:, ::-1])
    write(tmp_path / "val" / NAMES[0] / "c.png", scenes(1, seed=5)[0])
    found = audit_of(tmp_path, val=None)
    assert [each.first.file[-5:] for each in found.leaked("val")] == ["a.png", "b.png"]
    assert {each.second.file for each in found.leaked("val")} == {f"train/{NAMES[1]}/3.png"}
    assert {each.group for each in (*found.leaks, *found.duplicates)} == {1}


def test_thousands_of_the_same_picture_make_a_line_each(tmp_path):
    for number in range(60):
        write(tmp_path / "train" / NAMES[number % 2] / f"{number}.png", scenes(1)[0])
        write(tmp_path / "val" / NAMES[number % 2] / f"{number}.png", scenes(1)[0])
    found = audit_of(tmp_path, val=None)
    assert (len(found.leaks), len(found.duplicates)) == (60, 118)
    assert len(found.contradictions) == 90, "all but the ants of train, before which none of another class stands"


def test_what_pictures_are_like_is_counted(tmp_path):
    write(tmp_path / "train" / "cat" / "1.jpg", scenes(1)[0])
    write(tmp_path / "train" / "cat" / "2.png", cv2.resize(scenes(1, seed=2)[0], (80, 60)))
    write(tmp_path / "train" / "dog" / "3.png", cv2.resize(scenes(1, seed=3)[0], (50, 70)))
    write(tmp_path / "val" / "dog" / "4.png", scenes(1, seed=4)[0])
    grey = tmp_path / "train" / "dog" / "5.png"
    cv2.imwrite(str(grey), scenes(1, seed=5)[0][..., 0])
    train, val = audit_of(tmp_path, val=None).parts
    assert (train.name, train.counts, val.counts) == ("train", (2, 2), (0, 1))
    assert (train.distinct_sizes, train.smallest, train.largest) == (3, (50, 70), (80, 60))
    assert train.shapes == (1, 1, 2)
    assert dict(train.modes) == {"RGB": 3, "L": 1}


def test_files_that_exif_turns_are_counted(tmp_path):
    from PIL import Image

    turned = Image.Exif()
    turned[0x0112] = 6
    for part in ("train", "val"):
        (tmp_path / part / "cat").mkdir(parents=True)
        Image.fromarray(scenes(1)[0][:, :40]).save(tmp_path / part / "cat" / "1.jpg", exif=turned)
    for name in ("2.jpg", "3.jpg"):
        Image.fromarray(scenes(1, seed=1)[0]).save(tmp_path / "train" / "cat" / name)
    train = audit_of(tmp_path, val=None).parts[0]
    assert train.turned == 1
    assert train.shapes == (1, 0, 2), "as they are shown"


def test_groups_on_both_sides_are_named_with_their_pictures(folder):
    def group_of(store, index):
        name = store.describe(index)
        return "patient 7" if name.endswith(("001.png", "011.png")) else ""

    found = audit_of(folder.root, val=None, group_of=group_of)
    (shared,) = found.shared
    assert shared.group == "patient 7"
    assert dict(shared.counts)["test"] == 2
    assert audit_of(folder.root).grouped is False


def test_without_near_duplicates_only_exact_ones_are_found_and_the_reason_is_kept(folder):
    found = audit_of(folder.root, why_not_near="they are too many")
    assert [each.exact for each in found.leaks] == [True]
    assert (found.near, found.why_not_near) == (False, "they are too many")


def test_pictures_that_are_no_files_are_audited_too_and_keep_nothing_on_the_disk(monkeypatch):
    monkeypatch.setattr("trainer.audit.looks.write_cache", lambda *_: pytest.fail("a cache was written"))
    sizes = {"train_size": 40, "val_size": 20, "test_size": 20}
    data = open_data(
        Data(dataset=None),
        lambda split: Shapes(**sizes, split=split, download=False),
        Shapes.facts,
        seed=0,
        log=lambda _: None,
    )
    found = audited(data, file_of=lambda *_: "", log=lambda _: None)
    assert found.odd == ()
    assert [part.images for part in found.parts] == [40, 20, 20]


def test_the_list_has_a_line_per_finding_that_a_spreadsheet_reads(found):
    rows = list(csv.DictReader(io.StringIO(csv_of(found))))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 9
    first = rows[0]
    assert (first["finding"], first["picture"], first["part"]) == ("leak", f"test/{NAMES[0]}/exact.png", "test")
    assert (first["like"], first["its part"]) in {
        (f"train/{NAMES[0]}/000.png", "train"),
        (f"train/{NAMES[0]}/000.png", "val"),
    }
    assert (first["exact"], first["correlation"]) == ("yes", "1.000")
