"""A photo that will be decoded in the first epoch anyway is told by its file: whole or not, its size, which it is."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from registry.datasets import decoding
from registry.datasets.folder import ImageFolder
from registry.errors import DataError
from trainer.data.fingerprint import learnt, print_of, same
from trainer.data.opening import open_store
from trainer.data.splits import Part, open_data
from trainer.data.store import LazyStore
from trainer.recipe.recipe import Data

COUNT = 30


@pytest.fixture
def photos(tmp_path) -> Path:
    """A root with JPEGs of two sizes in each split."""
    for split in ("train", "test"):
        for index in range(COUNT):
            noise = np.random.default_rng(index + 100 * (split == "test")).integers(0, 256, (20, 30 + index % 2, 3))
            path = tmp_path / "root" / split / "ab"[index % 2] / f"{index:02}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), noise.astype(np.uint8))
    return tmp_path / "root"


def source(photos: Path, split: str = "train") -> ImageFolder:
    return ImageFolder(str(photos), split=split, download=False)


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """Names of the files that are decoded."""
    names, decode = [], decoding._decoded
    monkeypatch.setattr(decoding, "_decoded", lambda *given: names.append(given[1]) or decode(*given))
    return names


def glanced(photos: Path, log=lambda _: None) -> LazyStore:
    made = open_store(source(photos), glances=True, log=log)
    assert isinstance(made, LazyStore)
    return made


def whole(store: LazyStore) -> Part:
    return Part("train", store, torch.arange(len(store)), "train")


def test_one_is_decoded_for_its_channels_and_next_time_nothing_is(photos, decoded):
    said = []
    store = glanced(photos, said.append)
    assert store.survey.sizes() == [(20, 30), (20, 31)]
    assert len(set(decoded)) == 1
    assert any(line.startswith("looked at 30 images once, 30 of them by their files alone") for line in said)
    decoded.clear()
    again = glanced(photos)
    assert decoded == []
    assert again.contents.tolist() == store.contents.tolist()
    assert len(set(store.contents.tolist())) == COUNT
    assert again.digests is None


def test_sums_are_decoded_for_whoever_asks_and_are_what_they_were(photos, decoded):
    fully, store = open_store(source(photos)), None
    some = torch.tensor([1, 5, 8])
    expected = fully.sums(some)
    for file in Path(photos).rglob("*.jpg"):
        file.touch()  # another key of the cache
    store = glanced(photos)
    decoded.clear()
    pixels, sums = store.sums(some)
    assert (pixels, sums.tolist()) == (expected[0], expected[1].tolist())
    assert len(decoded) == 3
    store.sums(some)
    assert len(decoded) == 3
    assert store.survey.digests[some].tolist() == fully.survey.digests[some].tolist()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-40], "is damaged, cut short, or not an image"),
        (lambda _: b"no picture", "is damaged, cut short, or not an image"),
        (lambda _: b"", "is empty"),
        (lambda _: b"\xff\xd8\xff\xd9", "is damaged, cut short, or not an image"),
    ],
)
def test_a_file_that_is_not_whole_is_found_before_training(photos, damage, message):
    path = photos / "train/b/07.jpg"  # not of the sample
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"07.jpg {message}"):
        glanced(photos)


def test_another_ending_than_a_jpegs_is_decoded_as_before(photos, decoded):
    (photos / "train/b/07.jpg").unlink()
    cv2.imwrite(str(photos / "train/b/07.png"), np.zeros((20, 30, 3), np.uint8))
    store = glanced(photos)
    assert str(photos / "train/b/07.png") in decoded
    assert store.survey.knows_files()
    assert len(store.survey.undecoded(np.arange(COUNT))) == COUNT - 1


@pytest.mark.parametrize(("on_bad_image", "left"), [("fail", COUNT), ("skip", 0)])
def test_test_images_are_decoded_first_and_all_are_where_broken_ones_are_left_out(photos, decoded, on_bad_image, left):
    section = Data(dataset=None, on_bad_image=on_bad_image)
    opened = open_data(section, lambda split: source(photos, split), ImageFolder.facts, seed=1, log=lambda _: None)
    assert len(opened.train.store.survey.undecoded(np.arange(COUNT))) == left
    assert not len(opened.test.store.survey.undecoded(np.arange(COUNT)))
    assert opened.test.store.digests is not None


def test_other_files_are_other_images_and_copies_are_the_same(photos, tmp_path):
    store = glanced(photos)
    before, digests = print_of(whole(store)), learnt(whole(store))
    assert set(before) == {"used", "contents", "bytes"}
    copies = tmp_path / "elsewhere"
    for file in photos.rglob("*.jpg"):
        (copies / file.relative_to(photos)).parent.mkdir(parents=True, exist_ok=True)
        (copies / file.relative_to(photos)).write_bytes(file.read_bytes())
    assert same(before, print_of(whole(glanced(copies))))
    assert torch.equal(digests, learnt(whole(glanced(copies))))
    first = copies / "train/a/00.jpg"
    content = bytearray(first.read_bytes())
    content[-20] ^= 1
    first.write_bytes(content)
    assert not same(before, print_of(whole(glanced(copies))))


def test_large_pictures_of_one_size_are_not_packed(tmp_path):
    for index in range(3):
        path = tmp_path / "root/train" / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((513, 512, 3), index, np.uint8))
    said = []
    assert isinstance(open_store(source(tmp_path / "root"), log=said.append), LazyStore)
    assert "images stay on the disk and are read during training: they are larger than 512 x 512 (513 x 512)" in said[0]
