"""ImageFolder: what counts as a split, a class and an image; and every kind of file is defined."""

import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from registry.datasets.decoding import decode, read_image
from registry.datasets.folder import ImageFolder
from registry.datasets.source import MissingSplit, stamp
from registry.errors import DataError


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


def opened(root, split="train"):
    return ImageFolder(root, split=split, download=False)


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
    root = put("train/cat/a.png", "train/dog/b.png", "val/cat/c.png", "val/wolf/d.png")
    with pytest.raises(DataError) as caught:
        opened(root, "val")
    assert "has 2 class folders" in str(caught.value)
    assert "not in train: wolf" in str(caught.value)


@pytest.mark.parametrize(("found", "meant"), [("valid", "val"), ("validation", "val"), ("testing", "test")])
def test_a_split_under_another_name_is_not_passed_over(put, found, meant):
    root = put("train/cat/a.png", f"{found}/cat/b.png")
    with pytest.raises(DataError, match=f"{found} looks like a split"):
        opened(root, meant)


def test_a_root_with_only_misnamed_splits_is_not_taken_for_classes(put):
    with pytest.raises(DataError, match="testing looks like a split"):
        opened(put("training/cat/a.png", "testing/cat/b.png"))


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


def test_transparency_is_dropped():
    image = RGB.copy()
    image.putalpha(Image.fromarray(np.linspace(0, 255, 24 * 32).astype(np.uint8).reshape(24, 32)))
    assert np.array_equal(decode(encoded(image, "PNG"), "it"), picture())


def test_sixteen_bits_keep_the_upper_eight():
    deep = (picture().astype(np.uint16) << 8) + 77
    for suffix in (".png", ".tif"):
        content = cv2.imencode(suffix, deep[..., ::-1])[1].tobytes()
        assert np.abs(decode(content, "it").astype(int) - picture()).max() <= 1
    grey = cv2.imencode(".png", GREY.astype(np.uint16) << 8)[1].tobytes()
    assert np.abs(decode(grey, "it").astype(int) - GREY[..., None]).max() <= 1


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
