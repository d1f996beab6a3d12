"""The store and its cache: decoded once, opened again at once, never wrong."""

import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from registry.datasets.folder import ImageFolder
from registry.datasets.source import PackedSource
from registry.errors import DataError
from trainer.data import cache, opening, splits
from trainer.data.opening import open_store
from trainer.data.splits import open_data
from trainer.data.store import LazyStore, Store
from trainer.recipe.recipe import Data


@pytest.fixture
def root(tmp_path):
    """Forty PNG images of two classes, each of one grey level."""
    for index in range(40):
        path = tmp_path / "root" / "train" / ("cat" if index < 25 else "dog") / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), (index, index, 100)).save(path)
    return tmp_path / "root"


def opened(root, on_bad_image="fail"):
    log = []
    made = open_store(ImageFolder(str(root), split="train", download=False), on_bad_image=on_bad_image, log=log.append)
    return made, log


def cache_files():
    return sorted(Path(os.environ["XDG_CACHE_HOME"], "recipe-trainer", "images").glob("*"))


def assert_right(made):
    assert isinstance(made, Store)
    assert made.images.shape == (40, 4, 6, 3)
    assert made.images[:, 1, 2].tolist() == [[index, index, 100] for index in range(40)]
    assert made.targets.tolist() == [0] * 25 + [1] * 15


def loaded(root, log=print, few=None, **values):
    def open_split(split):
        return ImageFolder(str(root), split=split, download=False)

    return open_data(Data(dataset=None, **values), open_split, ImageFolder.facts, seed=1, log=log, few=few)


def refuse_to_decode(monkeypatch):
    monkeypatch.setattr(ImageFolder, "image", lambda self, index: pytest.fail("an image was decoded again"))


# ------------------------------------------------------------------------------------------------------------ in memory
def test_files_of_one_size_are_decoded_into_one_array(root):
    made, log = opened(root)
    assert_right(made)
    assert (made.image_size, made.channels, made.class_names) == ((4, 6), 3, ("cat", "dog"))
    assert len(log) == 2
    assert log[0] == (
        "decoding 40 images once: they take 2.8 KiB of memory and as much disk, in "
        f"{Path(os.environ['XDG_CACHE_HOME'], 'recipe-trainer', 'images')}"
    )
    assert "decoded 40 images once; kept in" in log[1]


def test_images_are_taken_out_by_index(root):
    made, _ = opened(root)
    taken = made.gather(torch.tensor([39, 0, 39]))
    assert taken[:, 0, 0, 0].tolist() == [39, 0, 39]
    taken.zero_()
    assert made.images[39, 0, 0, 0] == 39, "what is taken out is not a copy"


def test_the_second_opening_decodes_nothing(root, monkeypatch):
    opened(root)
    refuse_to_decode(monkeypatch)
    made, log = opened(root)
    assert_right(made)
    assert log == []


def test_writing_into_the_images_does_not_reach_the_cache(root):
    opened(root)
    opened(root)[0].images.zero_()
    assert_right(opened(root)[0])


def test_arrays_that_do_not_fit_their_labels_are_refused():
    images = np.zeros((3, 2, 2, 3), np.uint8)
    with pytest.raises(DataError, match=r"type uint8 and shape \(3, 2, 2, 3\) for 2 labels"):
        open_store(PackedSource("made", images, np.zeros(2), ["a"]))
    with pytest.raises(DataError, match="type float32"):
        open_store(PackedSource("made", images.astype(np.float32), np.zeros(3), ["a"]))


# ---------------------------------------------------------------------------------------------------------------- cache
def change(root):
    path = root / "train/cat/03.png"
    Image.new("RGB", (6, 4), (77, 3, 3)).save(path)
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize(
    "touch",
    [
        change,
        lambda root: (root / "train/cat/03.png").rename(root / "train/cat/0333.png"),
        lambda root: os.utime(root / "train/cat/03.png", ns=(2, 2)),
        lambda root: (root / "train/cat/03.png").unlink(),
    ],
    ids=["content", "name", "time", "number"],
)
def test_any_change_of_the_files_makes_a_new_cache_and_removes_the_old(root, touch):
    opened(root)
    (before,) = cache_files()
    touch(root)
    _, log = opened(root)
    (after,) = cache_files()
    assert before != after
    assert "decoded" in log[1]


def test_a_picture_replaced_by_one_of_the_same_size_and_time_is_not_taken_from_the_cache(root):
    path = root / "train/cat/03.bmp"
    Image.new("RGB", (6, 4), (1, 2, 3)).save(path)
    opened(root)
    facts = path.stat()
    Image.new("RGB", (6, 4), (7, 8, 9)).save(path)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (facts.st_size, facts.st_mtime_ns)
    assert opened(root)[0].images[3, 0, 0].tolist() == [7, 8, 9]


def test_equal_pixels_have_one_digest_in_any_file_and_from_the_cache(root, monkeypatch):
    first, other = root / "train/cat/03.png", root / "train/dog/39.bmp"
    Image.open(first).save(other)
    decoded = opened(root)[0]
    refuse_to_decode(monkeypatch)
    again = opened(root)[0]
    assert again.digests.tolist() == decoded.digests.tolist()
    assert len(set(decoded.digests.tolist())) == 40
    assert decoded.digests[3] == decoded.digests[39] != 0
    packed = open_store(PackedSource("made", decoded.images.numpy(), decoded.targets.numpy(), decoded.class_names))
    assert packed.digests.tolist() == decoded.digests.tolist()


def test_another_folder_with_the_same_listing_has_a_cache_of_its_own(root, tmp_path):
    opened(root)
    shutil.copytree(root, tmp_path / "other", copy_function=shutil.copy2)
    path = tmp_path / "other/train/cat/00.png"
    facts, size = path.stat(), path.stat().st_size
    Image.new("RGB", (6, 4), (1, 0, 100)).save(path)
    if path.stat().st_size != size:
        pytest.skip("the two images compress to different lengths")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert opened(tmp_path / "other")[0].images[0, 0, 0].tolist() == [1, 0, 100]
    assert len(cache_files()) == 2


def damage_header(content):
    content[20] ^= 1
    return content


def damage_pixels(content):
    content[cache.HEADER + 500] ^= 1
    return content


def damage_digests(content):
    content[-3] ^= 1
    return content


def other_version(content):
    text, _ = bytes(content[: cache.HEADER]).rstrip(b"\0").rsplit(b"\n", 1)
    text = text.replace(b'"version": %d' % cache.VERSION, b'"version": 99')
    head = b"%s\n%d" % (text, __import__("zlib").crc32(text))
    return bytearray(head.ljust(cache.HEADER, b"\0") + content[cache.HEADER :])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[:-10], "its length is wrong"),
        (lambda content: content[: cache.HEADER // 2], "its length is wrong"),
        (lambda content: content[:100], "its header is damaged"),
        (lambda content: b"", "its header is damaged"),
        (lambda content: content + b"x", "its length is wrong"),
        (lambda content: bytes(len(content)), "its header is damaged"),
        (damage_header, "its header is damaged"),
        (damage_pixels, "its content is damaged"),
        (damage_digests, "its content is damaged"),
        (other_version, "it belongs to another version or to other files"),
    ],
    ids=[
        "cut",
        "half a header",
        "a hundred bytes",
        "empty",
        "longer",
        "zeros",
        "header",
        "pixels",
        "digests",
        "version",
    ],
)
def test_a_cache_that_is_not_whole_is_built_anew_with_one_line(root, damage, reason, monkeypatch):
    opened(root)
    (path,) = cache_files()
    path.write_bytes(damage(bytearray(path.read_bytes())))
    made, log = opened(root)
    assert_right(made)
    assert log[0] == f"the image cache {path} is not used, it is built anew: {reason}"
    refuse_to_decode(monkeypatch)
    assert_right(opened(root)[0])


def test_a_cache_of_other_files_under_this_name_is_not_believed(root):
    opened(root)
    (old,) = cache_files()
    content = old.read_bytes()  # whole, and of the files as they were
    change(root)
    opened(root)
    (path,) = cache_files()
    path.write_bytes(content)
    made, log = opened(root)
    assert log[0].endswith("is not used, it is built anew: it belongs to another version or to other files")
    assert made.images[3, 0, 0].tolist() == [77, 3, 3]


def test_a_cache_folder_that_cannot_be_written_costs_one_line(root, tmp_path, monkeypatch):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    made, log = opened(root)
    assert_right(made)
    assert len(log) == 3
    assert "is not used, it is built anew" in log[0]
    assert "no cache is kept" in log[2]


def test_a_full_disk_costs_one_line_and_leaves_nothing(root, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", full)
    made, log = opened(root)
    assert_right(made)
    assert len(log) == 2
    assert "No space left on device" in log[1]
    assert cache_files() == []


def test_a_large_cache_is_checked_by_sample(root, monkeypatch):
    monkeypatch.setattr(cache, "BLOCK", 64)
    monkeypatch.setattr(cache, "CHECKED_WHOLE", 1000)
    monkeypatch.setattr(cache, "SAMPLED", 4)
    assert len(cache._blocks_to_check(64 * 100, 100)) == 4
    assert {0, 99} <= set(cache._blocks_to_check(64 * 100, 100))
    opened(root)
    (path,) = cache_files()
    content = bytearray(path.read_bytes())
    content[cache.HEADER + 4 * 6 * 3 * 40 - 8] ^= 1  # a byte of the last pixels
    path.write_bytes(content)
    made, _ = opened(root)
    assert_right(made)


def build(root, folder, barrier):
    os.environ["XDG_CACHE_HOME"] = folder
    barrier.wait(30)
    made, _ = opened(root)
    assert_right(made)


def test_two_processes_may_build_it_at_once(root):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(3)
    workers = [context.Process(target=build, args=(root, os.environ["XDG_CACHE_HOME"], barrier)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(cache_files()) == 1
    assert_right(opened(root)[0])


# --------------------------------------------------------------------------------------------------- unreadable images
@pytest.fixture
def damaged(root):
    (root / "train/cat/05.png").write_bytes(b"")
    (root / "train/dog/30.png").write_text("this is text")
    return root


@pytest.mark.parametrize("times", [1, 2])
def test_an_unreadable_image_ends_the_run_and_is_named(damaged, times, capfd):
    for _ in range(times):  # the second time its place is known from the cache
        with pytest.raises(DataError) as caught:
            opened(damaged)
    assert "cat/05.png is empty (0 bytes)" in caught.value.message
    assert caught.value.hint == "data.on_bad_image: skip leaves such images out"


@pytest.mark.parametrize("times", [1, 2])
def test_skipped_images_are_named_and_in_no_part(damaged, times, capfd):
    for _ in range(times):
        made, log = opened(damaged, "skip")
    assert made.bad == (5, 30)
    lines = [line for line in log if line.startswith("left out")]
    assert len(lines) == 2
    assert "05.png is empty" in lines[0]
    assert "30.png is damaged" in lines[1]
    data = open_data(
        Data(dataset=None, on_bad_image="skip"),
        lambda split: ImageFolder(str(damaged), split=split, download=False),
        ImageFolder.facts,
        seed=1,
        log=log.append,
    )
    used = sorted([*data.train.indices.tolist(), *data.val.indices.tolist()])
    assert used == [index for index in range(40) if index not in (5, 30)]


def test_more_than_a_tenth_unreadable_is_no_case_for_skipping(root, capfd):
    for index in range(5):
        (root / f"train/cat/{index:02}.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="5 of 40 images are unreadable, more than a tenth"):
        opened(root, "skip")


def test_an_image_mended_since_is_read_again(damaged, monkeypatch, capfd):
    opened(damaged, "skip")
    path = damaged / "train/cat/05.png"
    monkeypatch.setattr(
        ImageFolder,
        "image",
        lambda self, index: np.full((4, 6, 3), index, np.uint8) if index == 5 else pytest.fail(path),
    )
    made, _ = opened(damaged, "skip")
    assert made.bad == (30,)
    assert made.images[5, 0, 0].tolist() == [5, 5, 5]


@pytest.mark.parametrize("times", [1, 2])
def test_images_read_during_training_are_looked_at_once_before_bad_ones_are_skipped(damaged, times, monkeypatch, capfd):
    Image.new("RGB", (9, 9)).save(damaged / "train/dog/big.png")
    image, again = ImageFolder.image, {5, 30}
    made, log = opened(damaged, "skip")
    if times == 2:
        monkeypatch.setattr(ImageFolder, "image", lambda self, index: image(self, index) if index in again else 1 / 0)
        made, log = opened(damaged, "skip")
    assert isinstance(made, LazyStore)
    assert made.bad == (5, 30)
    assert sum("left out" in line for line in log) == 2
    assert sum("looked at 41 images once; kept in" in line for line in log) == (times == 1)


# ---------------------------------------------------------------------------------------------------- what does not fit
def test_images_of_several_sizes_are_read_during_training(root):
    Image.new("RGB", (9, 9)).save(root / "train/dog/big.png")
    made, log = opened(root)
    assert isinstance(made, LazyStore)
    assert made.image_size is None
    assert log[0].startswith("images stay on the disk and are read during training: they differ in size")
    assert "looked at 41 images once; kept in" in log[1]
    images = made.gather(torch.tensor([1, 40]))
    assert [image.shape for image in images] == [(4, 6, 3), (9, 9, 3)]
    assert [path.stat().st_size < 20_000 for path in cache_files()] == [True], "what was seen, and no pixels"


def test_pixels_that_were_kept_go_when_their_images_no_longer_have_one_size_and_come_again(root):
    opened(root)
    (pack,) = cache_files()
    Image.new("RGB", (9, 9)).save(root / "train/dog/big.png")
    opened(root)
    (seen,) = cache_files()
    assert seen != pack
    (root / "train/dog/big.png").unlink()
    assert isinstance(opened(root)[0], Store)
    assert cache_files() == [pack]


def test_a_single_other_size_is_found_wherever_it_is(root, monkeypatch):
    monkeypatch.setattr(opening, "SAMPLE", 2)
    Image.new("RGB", (9, 9)).save(root / "train/cat/17b.png")
    made, log = opened(root)
    assert isinstance(made, LazyStore)
    assert log[1] == "images stay on the disk and are read during training: they differ in size (4 x 6, 9 x 9)"
    refuse_to_decode(monkeypatch)
    again, log = opened(root)
    assert isinstance(again, LazyStore), "the finding is kept"
    assert log == [log[0]]
    assert log[0].startswith("images stay on the disk")


@pytest.mark.parametrize("broken", ["train", "val", "test"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_broken_image_among_several_sizes_is_found_before_training_in_every_split(root, broken, times):
    for split in ("val", "test"):
        shutil.copytree(root / "train", root / split)
    Image.new("RGB", (9, 9)).save(root / broken / "dog/big.png")
    (root / broken / "dog/33.png").write_bytes(b"junk")
    (root / broken / "dog/34.png").write_bytes(b"")
    for _ in range(times):
        with pytest.raises(DataError, match=rf"{broken}/dog/33.png is damaged.*; so are 1 more of 41 images") as caught:
            loaded(root)
    assert caught.value.hint == "data.on_bad_image: skip leaves such images out"
    data = loaded(root, on_bad_image="skip")
    assert len(getattr(data, broken)) == 39


def test_looking_says_how_far_it_is(root, monkeypatch):
    Image.new("RGB", (9, 9)).save(root / "train/dog/big.png")
    monkeypatch.setattr(opening, "SAY_EVERY", 0.0)
    monkeypatch.setattr(opening, "TASK", 10)
    log = opened(root)[1]
    assert [line for line in log if line.startswith("looked at") and "once" not in line] == [
        f"looked at {count} of 41 images" for count in (10, 20, 30, 40)
    ]


def test_a_fast_run_decodes_no_more_images_than_it_uses(root, monkeypatch):
    shutil.copytree(root / "train", root / "test")
    decoded, image = [], ImageFolder.image
    monkeypatch.setattr(ImageFolder, "image", lambda self, index: decoded.append(index) or image(self, index))
    monkeypatch.setattr(opening, "SAMPLE", 2)
    data = loaded(root, few=6)
    assert [len(part) for part in (data.train, data.val, data.test)] == [6, 4, 6]
    assert len(decoded) == 2 * 2 + 16, "a sample of both splits, and what is used"
    assert cache_files() == []
    assert data.image_size == (4, 6)
    pixels = np.stack(data.train.store.gather(data.train.indices)).reshape(-1, 3) / 255
    assert data.mean == pytest.approx(pixels.mean(0).tolist(), abs=1e-12)


def test_a_fast_run_takes_what_is_decoded_already_and_finds_a_broken_image_it_uses(root, monkeypatch):
    opened(root)
    with monkeypatch.context() as context:
        refuse_to_decode(context)
        assert isinstance(loaded(root, few=6).train.store, Store)
    for path in (root / "train").glob("*/*.png"):
        path.write_bytes(b"junk")
    Image.new("RGB", (6, 4)).save(root / "train/cat/00.png")
    with pytest.raises(DataError, match="is damaged"):
        loaded(root, few=6)


def test_all_splits_share_one_half_of_memory(root, monkeypatch):
    shutil.copytree(root / "train", root / "val")
    one, log = 40 * 4 * 6 * 3, []
    monkeypatch.setattr(splits, "physical_memory", lambda: 2 * (2 * one) - 1)
    data = loaded(root, log=log.append)
    assert (type(data.train.store), type(data.val.store)) == (Store, LazyStore)
    assert any("2.8 KiB, with 2.8 KiB of other splits, are more than half of 11.2 KiB" in line for line in log)
    assert data.val.store.image_size == (4, 6), "they have one size, only no room"
    monkeypatch.setattr(splits, "physical_memory", lambda: 2 * (2 * one))
    assert type(loaded(root).val.store) is Store


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="asks Linux where memory belongs")
def test_the_memory_that_images_were_decoded_in_is_free_once_they_are_written(root):
    made, _ = opened(root)
    address, (path,) = made.images.data_ptr(), cache_files()
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(end, 16) for end in line.split()[0].split("-"))
        if first <= address < last:
            assert line.endswith(str(path))


def test_images_beyond_half_of_memory_are_read_during_training(root, monkeypatch):
    monkeypatch.setattr(opening, "physical_memory", lambda: 2 * 40 * 4 * 6 * 3 - 1)
    made, log = opened(root)
    assert isinstance(made, LazyStore)
    assert "are more than half of" in log[0]
    monkeypatch.setattr(opening, "physical_memory", lambda: 2 * 40 * 4 * 6 * 3)
    assert isinstance(opened(root)[0], Store)


def test_this_machines_memory_is_known():
    assert 2**28 < opening.physical_memory() < 2**50


def test_mean_and_deviation_of_images_of_several_sizes(root):
    Image.new("RGB", (9, 9)).save(root / "train/dog/big.png")
    data = open_data(
        Data(dataset=None),
        lambda split: ImageFolder(str(root), split=split, download=False),
        ImageFolder.facts,
        seed=1,
        log=print,
    )
    pixels = np.concatenate([image.reshape(-1, 3) for image in data.train.store.gather(data.train.indices)]) / 255
    assert data.mean == pytest.approx(pixels.mean(0).tolist())
    assert data.std == pytest.approx(pixels.std(0).tolist())
