"""The resized store: decoded once, the same pictures whoever asks, no more disk than it is given."""

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from registry.datasets import decoding
from registry.datasets.folder import ImageFolder
from registry.datasets.source import PackedSource
from registry.errors import DataError, RecipeError
from trainer.cli.main import main
from trainer.data import caches
from trainer.data.opening import open_store
from trainer.data.resized import ResizedSource, Shrinking, ShrunkSource, shrunk
from trainer.data.store import LazyStore, Store

COUNT = 12
SIZES = ((60, 80), (90, 60), (40, 120))


@pytest.fixture
def root(tmp_path) -> Path:
    """A folder of pictures of three sizes."""
    for index in range(COUNT):
        path = tmp_path / "root" / "ab"[index % 2] / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(index).integers(0, 256, (*SIZES[index % 3], 3), dtype=np.uint8)
        cv2.imwrite(str(path), noise)
    return tmp_path / "root"


def source(root: Path, side: int = 30, *, reduces: bool = False) -> ShrunkSource:
    return ShrunkSource(ImageFolder(str(root), split="train", download=False), Shrinking(side, reduces))


def opened(root: Path, said: list | None = None, **options) -> LazyStore:
    store = open_store(source(root), log=(said if said is not None else []).append, **options)
    assert isinstance(store, LazyStore)
    return store


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((60, 80), (30, 40)), ((90, 60), (45, 30)), ((20, 100), (20, 100)), ((31, 31), (30, 30)), ((61, 31), (59, 30))],
)
def test_the_short_side_is_shrunk_and_proportions_stay(shape, expected):
    assert shrunk(np.zeros((*shape, 3), np.uint8), 30).shape == (*expected, 3)
    assert shrunk(np.zeros((*shape, 1), np.uint8), 30).shape == (*expected, 1)


def test_pictures_come_from_the_file_as_they_were_shrunk_and_nothing_is_decoded_again(root, monkeypatch):
    said = []
    first = opened(root, said)
    assert isinstance(first.source, ResizedSource)
    assert any(line.startswith("shrank 12 images once; kept in ") for line in said)
    monkeypatch.setattr(decoding, "_decoded", lambda *_: pytest.fail("decoded again"))
    again = opened(root)
    monkeypatch.undo()
    for index in range(COUNT):
        expected = shrunk(first.source._source._source.image(index), 30)
        assert np.array_equal(first.source.image(index), expected)
        assert np.array_equal(again.source.image(index), expected)
    assert again.survey.sizes() == [(30, 40), (30, 90), (45, 30)]
    assert again.digests.tolist() == first.digests.tolist()


@pytest.mark.parametrize("failing", [1, 2])
def test_a_picture_that_could_not_be_read_once_is_itself_all_the_same(root, monkeypatch, failing):
    """As after too many open files: while all are shrunk it has no place in the file, and afterwards it can be read."""
    whole, reads = decoding.content_of, []

    def once(path, most=-1):
        if path.endswith("08.png") and most < 0:
            reads.append(path)
            if len(reads) == failing:
                raise DataError(f"{path} cannot be read: too many open files")
        return whole(path, most)

    monkeypatch.setattr(decoding, "content_of", once)
    for _ in range(2):  # made, and taken from the cache
        store = opened(root)
        assert not len(store.bad)
        for index in range(COUNT):
            assert np.array_equal(store.source.image(index), shrunk(store.source._source._source.image(index), 30))
    assert len(reads) >= failing


def test_another_process_maps_the_file_itself(root):
    made = opened(root).source
    content = pickle.dumps(made)
    assert len(content) < 20_000
    assert np.array_equal(pickle.loads(content).image(5), made.image(5))


def test_another_process_reads_again_what_is_not_there_any_more(root):
    made = opened(root).source
    content = pickle.dumps(made)
    made._path.unlink()
    assert np.array_equal(pickle.loads(content).image(5), made.image(5))


def test_another_decoding_of_the_same_files_leaves_a_store_alone(root):
    made = opened(root).source
    grey = ImageFolder(str(root), split="train", channels=1, download=False)
    open_store(ShrunkSource(grey, Shrinking(30, False)), log=lambda _: None)
    assert made._path.exists()


def test_pictures_of_one_shape_are_packed(root):
    for index in range(COUNT):
        path = root / "ab"[index % 2] / f"{index:02}.png"
        cv2.imwrite(str(path), np.full((600, 800, 3), index, np.uint8))
    store = open_store(source(root))
    assert isinstance(store, Store)
    assert store.image_size == (30, 40)


def test_a_dataset_that_is_an_array_is_shrunk_too():
    packed = PackedSource("it", np.zeros((3, 60, 80, 3), np.uint8), np.array([0, 1, 0]), ("a", "b"))
    store = open_store(ShrunkSource(packed, Shrinking(30, False)))
    assert isinstance(store, Store)
    assert store.image_size == (30, 40)


def test_a_picture_is_decoded_no_larger_than_the_store_needs(root, tmp_path):
    assert [Shrinking(30, True).factor(*size) for size in ((60, 80), (300, 240), (119, 500))] == [2, 8, 2]
    assert Shrinking(30, False).factor(300, 240) == 1
    assert source(root, reduces=True).decoding != source(root).decoding


@pytest.mark.parametrize("damage", ["cut", "changed", "removed", "files"])
def test_a_store_that_is_not_whole_or_of_other_files_is_built_anew(root, damage):
    opened(root)
    (file,) = caches.folder().glob("*.pixels")
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "changed":
        file.write_bytes(bytes(file.stat().st_size))
    elif damage == "removed":
        file.unlink()
    else:
        cv2.imwrite(str(root / "a" / "00.png"), np.zeros((50, 50, 3), np.uint8))
    said = []
    store = opened(root, said)
    assert any(line.startswith("shrank 12 images once") for line in said)
    assert np.array_equal(store.source.image(0), shrunk(store.source._source._source.image(0), 30))
    assert len(list(caches.folder().glob("*.pixels"))) == 1


def test_unreadable_pictures_are_left_out_or_end_it(root):
    (root / "a" / "04.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"04\.png is empty"):
        opened(root)
    store = opened(root, on_bad_image="skip")
    assert len(store.bad) == 1
    assert np.array_equal(store.source.image(3), shrunk(store.source._source._source.image(3), 30))


# --------------------------------------------------------------------------------------------------------- how much
def test_what_does_not_fit_is_not_kept_and_the_log_says_so(root, monkeypatch):
    monkeypatch.setenv(caches.LIMIT, "0")
    said = []
    store = opened(root, said)
    assert isinstance(store.source, ShrunkSource)
    assert store.source.image(0).shape == (30, 40, 3)
    assert any("no resized store is kept" in line and caches.LIMIT in line for line in said)
    assert any("no cache is kept" in line and caches.LIMIT in line for line in said)
    assert caches.found(caches.folder()) == []  # what was seen of the pictures is not kept either


def test_what_was_not_used_for_longest_makes_room(tmp_path, monkeypatch):
    folder = tmp_path / "images"
    folder.mkdir()
    for age, name in enumerate("abc"):
        (folder / f"{name}-1.images").write_bytes(bytes(2**20))
        caches.os.utime(folder / f"{name}-1.images", (1e9 - age, 1e9 - age))
    caches.used(folder / "c-1.images")
    monkeypatch.setenv(caches.LIMIT, str(3.5 / 1024))
    assert caches.make_room(folder / "d-1.images", 2**20 + 1) == ""
    assert sorted(file.name for file in folder.iterdir()) == ["a-1.images", "c-1.images"]


@pytest.mark.parametrize("said", ["much", "-1", "nan"])
def test_a_limit_that_is_no_number_is_refused(tmp_path, monkeypatch, said):
    monkeypatch.setenv(caches.LIMIT, said)
    with pytest.raises(RecipeError, match=f"the environment says TRAINER_CACHE_GB={said}"):
        caches.limit(tmp_path)


def test_an_empty_limit_is_none(tmp_path, monkeypatch):
    monkeypatch.delenv(caches.LIMIT, raising=False)
    without = caches.limit(tmp_path)
    monkeypatch.setenv(caches.LIMIT, "")
    assert caches.limit(tmp_path) == pytest.approx(without, rel=0.1)


def test_a_limit_that_is_no_number_is_told_before_anything_is_listed(root, monkeypatch, capsys):
    opened(root)
    monkeypatch.setenv(caches.LIMIT, "much")
    assert main(["cache"]) == 2
    assert str(root) not in capsys.readouterr().out


def test_the_command_lists_what_is_kept_and_clears_what_is_meant(root, capsys):
    opened(root)
    open_store(ImageFolder(str(root), split="train", download=False))
    assert main(["cache"]) == 0
    listed = capsys.readouterr().out
    assert f"{root}/a/00.png (short side 30)\n" in listed
    assert f"{root}/a/00.png\n" in listed
    assert f"in {caches.folder()}, of " in listed
    assert main(["cache", "*short side*", "--clear"]) == 0
    assert [each.of for each in caches.found(caches.folder())] == [f"{root}/a/00.png"]
    assert main(["cache", "--clear"]) == 0
    assert list(caches.folder().iterdir()) == []
    assert main(["cache"]) == 0
