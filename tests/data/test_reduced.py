"""Reduced decoding: no smaller than what the first transforms keep, and the same picture whoever reads it."""

from pathlib import Path

import albumentations as A
import numpy as np
import pytest
import torch
from PIL import Image

from registry.datasets.decoding import Decoding
from registry.datasets.folder import ImageFolder
from registry.datasets.headers import upright_size
from trainer.data.batches import Batches
from trainer.data.fitting import Fitting
from trainer.data.pipeline import Pipeline
from trainer.data.splits import Part
from trainer.data.store import LazyStore

LARGE = (1600, 2400)


def photo(path: Path, size: tuple[int, int] = LARGE, **options) -> Path:
    """Write a smooth picture with an edge."""
    height, width = size
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([rows * 255 // height, columns * 255 // width, (rows > columns) * 200], 2).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def factors(stages, size=LARGE, count=1, epoch=0) -> list[int]:
    pipeline = Pipeline(stages, [], seed=1, reduces=True)
    found = pipeline.factors(epoch=epoch, indices=torch.arange(count))
    return [1] * count if found is None else [factor(*size) for factor in found]


@pytest.mark.parametrize(
    ("stages", "factor"),
    [
        ([A.Resize(224, 224)], 4),  # 1600 / 224 = 7.1
        ([A.Resize(200, 200)], 8),
        ([A.Resize(200, 400)], 4),  # 2400 / 400 = 6
        ([A.Resize(201, 200)], 4),
        ([A.SmallestMaxSize(400)], 4),
        ([A.SmallestMaxSize(200), A.CenterCrop(160, 160)], 8),
        ([A.LongestMaxSize(600)], 4),
        ([A.HorizontalFlip(), A.ColorJitter(), A.Resize(200, 200)], 8),
        ([A.Transpose(), A.Resize(200, 400)], 4),
        ([A.CenterCrop(224, 224), A.Resize(20, 20)], 1),  # pixels are cut out as they are
        ([A.GaussNoise(), A.Resize(200, 200)], 1),  # its grain would become coarser
        ([A.Resize(200, 200, p=0.5), A.CenterCrop(200, 200)], 1),
        ([A.Resize(1000, 1000)], 1),
    ],
)
def test_a_picture_is_decoded_as_small_as_the_first_transform_that_shrinks_it_allows(stages, factor):
    assert factors(stages) == [factor]


def test_pictures_that_may_be_packed_are_decoded_in_full_size():
    assert factors([A.Resize(60, 60)], size=(512, 512)) == [1]
    assert factors([A.Resize(60, 60)], size=(512, 513)) == [8]


def test_of_a_random_crop_the_drawn_size_decides_and_no_crop_is_enlarged_that_would_be_shrunk():
    crop = A.RandomResizedCrop((224, 224))
    found = factors([crop], count=200)
    assert set(found) == {2, 4}
    (single,) = Pipeline([crop], [], seed=1).ahead
    keys = Pipeline([crop], [], seed=1).keys(epoch=0, indices=torch.arange(200))
    for factor, (key,) in zip(found, keys, strict=True):
        crop.set_random_state(*_random(key))
        left, top, right, bottom = crop.get_params_dependent_on_data({"shape": LARGE}, {})["crop_coords"]
        least = min(bottom - top, right - left) / 224
        assert factor == max([each for each in (1, 2, 4, 8) if each <= least], default=1)
    assert single.name == "RandomResizedCrop"


def _random(key):
    import random

    return np.random.Generator(np.random.Philox(key)), random.Random(key)


def test_other_epochs_draw_other_sizes():
    crop = [A.RandomResizedCrop((224, 224))]
    assert factors(crop, count=50, epoch=1) != factors(crop, count=50, epoch=2)


# --------------------------------------------------------------------------------------------------------------- files
def test_a_jpeg_is_turned_before_its_size_counts(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = photo(tmp_path / "turned.jpg", (200, 300), exif=exif)
    assert upright_size(turned.read_bytes()) == (300, 200)
    assert upright_size(photo(tmp_path / "plain.jpg", (200, 300), progressive=True).read_bytes()) == (200, 300)
    assert upright_size(photo(tmp_path / "plain.png", (200, 300)).read_bytes()) is None
    halved = Decoding().read(str(turned), lambda height, width: 2 if (height, width) == (300, 200) else 1)
    assert halved.shape == (150, 100, 3)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\x00\x04Exif", b"\xff\xd8\xff\xda" + bytes(40)]
)
def test_a_header_that_does_not_tell_says_no_size(content):
    assert upright_size(content) is None


def test_other_formats_are_decoded_in_full_size(tmp_path):
    assert Decoding().read(str(photo(tmp_path / "a.png")), lambda *_: 8).shape == (*LARGE, 3)
    assert Decoding().read(str(photo(tmp_path / "a.jpg")), lambda *_: 8).shape == (200, 300, 3)


# -------------------------------------------------------------------------------------------------------- whoever reads
@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> ImageFolder:
    root = tmp_path_factory.mktemp("photos")
    for index in range(6):
        photo(root / "train" / "ab"[index % 2] / f"{index}.jpg", (900 + 10 * index, 1000))
    return ImageFolder(str(root), split="train", download=False)


def batches(photos: ImageFolder, workers: int | str, *, reduces: bool) -> list[torch.Tensor]:
    store = LazyStore(photos, 3)
    stages = [A.RandomResizedCrop((64, 64)), A.HorizontalFlip()]
    pipeline = Pipeline(stages, [A.Normalize()], seed=5, reduces=reduces)
    part = Part("train", store, torch.arange(6), "train")
    options = {"batch_size": 4, "seed": 1, "shuffle": True, "drop_last": False, "device": torch.device("cpu")}
    found = [batch.images for batch in Batches(part, pipeline, workers=workers, **options).epoch(1)]
    if store._readers is not None:
        store._readers.close()
    return found


def test_threads_processes_and_the_training_itself_make_the_same_of_a_picture(photos):
    expected = batches(photos, 0, reduces=True)
    for workers in ("auto", 1):
        assert all(map(torch.equal, expected, batches(photos, workers, reduces=True)))
    full = batches(photos, "auto", reduces=False)
    assert not any(map(torch.equal, expected, full))
    assert torch.cat([(one - other).abs().flatten() for one, other in zip(expected, full, strict=True)]).median() < 0.1


def test_photos_of_one_size_are_handed_in_as_small_as_training_decoded_them(tmp_path):
    """And those of another size are made to that one first, and then as much smaller."""
    for index in range(2):
        photo(tmp_path / "train" / "ab"[index] / f"{index}.jpg", (900, 1000))
    source = ImageFolder(str(tmp_path), split="train", download=False)
    pipeline, at = Pipeline([A.Resize(64, 64)], [A.Normalize()], seed=5, reduces=True), torch.tensor([1])
    (factor,) = pipeline.factors(epoch=0, indices=at)
    (trained,) = LazyStore(source, 3).gather(at, [factor])
    fitting, decoding = Fitting(3, (900, 1000)), Decoding()
    path = tmp_path / "train/b/1.jpg"
    assert trained.shape == (113, 125, 3)
    assert np.array_equal(fitting.reduced(decoding.read(str(path), fitting.at_size(factor)), factor), trained)
    whole = fitting.reduced(decoding.read(str(path)), factor)  # as an array, decoded by somebody else
    assert whole.shape == trained.shape
    assert np.abs(whole.astype(int) - trained).mean() < 3
    photo(tmp_path / "larger.jpg", (1800, 2000))
    larger = decoding.read(str(tmp_path / "larger.jpg"), fitting.at_size(factor))
    assert larger.shape == (1800, 2000, 3)
    assert fitting.reduced(larger, factor).shape == trained.shape
    grey = Fitting(1, (900, 1000)).reduced(np.zeros((900, 1000), np.uint8), factor)
    assert grey.shape == (113, 125, 1)


def test_what_is_shown_and_predicted_is_decoded_as_in_training(photos):
    pipeline = Pipeline([A.Resize(64, 64)], [A.Normalize()], seed=5, reduces=True)
    store, indices = LazyStore(photos, 3), torch.tensor([4, 1])
    images = store.gather(indices, pipeline.factors(epoch=0, indices=indices))
    assert [Path(photos.describe(index)).name for index in (4, 1)] == ["3.jpg", "2.jpg"]
    assert [image.shape for image in images] == [(117, 125, 3), (115, 125, 3)]
    part = Part("val", store, indices, "train")
    options = {"batch_size": 2, "seed": 1, "shuffle": False, "drop_last": False, "device": torch.device("cpu")}
    (batch,) = Batches(part, pipeline, workers=0, **options).epoch(0)
    assert torch.equal(pipeline.apply(images, epoch=0, indices=indices), batch.images)
