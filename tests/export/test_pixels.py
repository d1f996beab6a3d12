"""The pixels that an exported graph makes of pictures as large as cameras': OpenCV's own, not nearly those.

A grey level more in one pixel of a hundred thousand moved a probability by 0.0009.
"""

from __future__ import annotations

import importlib.util

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from small_run import train_small
from torch import nn

import trainer
from registry.transforms.graph import Seen, forms_of
from trainer.export.about import About
from trainer.export.exported import load_exported
from trainer.export.exporting import Request, export
from trainer.export.formats import PACKAGES, SUFFIX
from trainer.export.standalone import opened
from trainer.export.whole import Whole
from trainer.export.writing import traced, written

HAS_ONNX = all(importlib.util.find_spec(name) for name in PACKAGES)
TRANSFORMS = [
    [A.Resize(64, 48)],
    [A.Resize(1800, 40)],
    [A.SmallestMaxSize(256), A.CenterCrop(224, 224)],
    [A.LongestMaxSize(96), A.PadIfNeeded(96, 96, border_mode=cv2.BORDER_CONSTANT, fill=[1, 2, 250])],
    [A.SmallestMaxSize(60, interpolation=cv2.INTER_NEAREST), A.CenterCrop(48, 48)],
]


class _Levels(Whole):
    """The pictures after their transforms, in place of probabilities."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        for step in self.steps:
            pictures = step(pictures)
        return pictures.to(torch.float32).flatten(1)


@pytest.mark.parametrize("to", SUFFIX if HAS_ONNX else ["torch"])
@pytest.mark.parametrize("transforms", TRANSFORMS, ids=lambda steps: "+".join(type(each).__name__ for each in steps))
def test_a_file_makes_of_a_large_picture_the_pixels_that_opencv_makes(transforms, to, tmp_path):
    draw = np.random.default_rng(0)
    levels = _Levels([form.module for form in forms_of(transforms, Seen(None, 3))], nn.Identity()).eval()
    example = torch.from_numpy(draw.integers(0, 256, (2, 301, 307, 3), dtype=np.uint8))
    file = tmp_path / f"levels{SUFFIX[to]}"
    file.write_bytes(written(traced(levels, example), to, About.of({})))
    answer, _ = opened(file)
    for height, width in ((1399, 1094), (700, 1300)):
        picture = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
        expected = A.Compose(transforms)(image=picture)["image"]
        assert np.array_equal(answer(picture[None]).reshape(expected.shape), expected)


@pytest.mark.parametrize("size", [(1399, 1094), (50, 60), (50, 300), (300, 50), (128, 96)], ids=str)
def test_means_over_areas_are_opencvs_but_for_a_grey_level_in_one_pixel_of_thousands(size):
    resize = A.Resize(64, 48, interpolation=cv2.INTER_AREA)
    (form,) = forms_of([resize], Seen(None, 3))
    assert not form.exact
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = resize(image=picture)["image"].astype(int)
    made = form.module(torch.from_numpy(picture[None])).numpy()[0].astype(int)
    assert np.abs(made - expected).max() <= 1
    assert (made != expected).mean() < 1e-3


@pytest.mark.parametrize(
    ("size", "transforms"),
    [
        ((480, 640), [A.LongestMaxSize(102), A.PadIfNeeded(102, 102, border_mode=cv2.BORDER_CONSTANT, fill=0)]),
        ((960, 1280), [A.LongestMaxSize(46), A.PadIfNeeded(46, 46, border_mode=cv2.BORDER_CONSTANT, fill=0)]),
        ((600, 800), [A.LongestMaxSize(70), A.PadIfNeeded(70, 70, border_mode=cv2.BORDER_CONSTANT, fill=0)]),
        ((720, 1280), [A.LongestMaxSize(232), A.PadIfNeeded(232, 232, border_mode=cv2.BORDER_CONSTANT, fill=0)]),
        ((1000, 1500), [A.SmallestMaxSize(71), A.CenterCrop(64, 64)]),
        ((1000, 1500), [A.SmallestMaxSize(143), A.CenterCrop(128, 128)]),
        ((3456, 5184), [A.SmallestMaxSize(225), A.CenterCrop(224, 224)]),
    ],
    ids=str,
)
def test_a_side_that_comes_to_half_a_pixel_is_rounded_as_upstream_rounds_it(size, transforms):
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    made = torch.from_numpy(picture[None])
    for form in forms_of(transforms, Seen(None, 3)):
        made = form.module(made)
    assert np.array_equal(made[0].numpy(), A.Compose(transforms)(image=picture)["image"])


@pytest.mark.skipif(not HAS_ONNX, reason="the extra `export` is not installed")
@pytest.mark.parametrize("how", ["bits: 12, channels: 1", "background: black", "background: [200, 0, 30]"])
def test_a_file_reads_pictures_as_its_run_does(how, tmp_path):
    draw = np.random.default_rng(0)
    paths = [tmp_path / "pets" / name / f"{index}.png" for name in ("a", "b") for index in range(8)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        deep = "bits" in how
        image = draw.integers(0, 4096, (20, 20), np.uint16) if deep else draw.integers(0, 256, (20, 20, 4), np.uint8)
        assert cv2.imwrite(str(path), image)
    mean = "[0.5]" if "bits" in how else "[0.5, 0.5, 0.5]"
    (tmp_path / "deep.yaml").write_text(
        f"version: 1\nname: deep\ndata:\n  dataset: {{type: ImageFolder, root: {tmp_path / 'pets'}, {how}}}\n"
        "  val: {fraction: 0.25}\n  batch_size: 4\n"
        f"  preprocess: [{{type: Normalize, mean: {mean}, std: {mean}}}]\n"
        "model: {type: SmallCNN, width: 4}\noptimizer: {type: SGD, lr: 0.1}\n"
        "train: {epochs: 3, device: cpu, precision: fp32}\nreport: []\ncallbacks: []\n"
    )
    folder = trainer.train(tmp_path / "deep.yaml", runs=tmp_path / "runs").folder.path
    made = export(Request(folder, (), "onnx"), lambda _: None, lambda _, __: lambda: None)
    expected = trainer.load(folder, device="cpu").probabilities(paths)
    assert np.abs(load_exported(made.file).probabilities(paths) - expected).max() < 1e-4
    card = made.card.read_text()
    assert ("np.minimum(picture, 4095) * (255 / 4095)" in card) == ("bits" in how)
    assert ('"white"' in card) == ("bits" in how)


@pytest.mark.skipif(not HAS_ONNX, reason="the extra `export` is not installed")
def test_that_a_file_cannot_decode_pictures_smaller_is_said(tmp_path):
    run = train_small(tmp_path, "data.decode=reduced", "train.epochs=1")
    said = []
    made = export(Request(run, (), "onnx"), said.append, lambda _, __: lambda: None)
    assert any("data.decode: reduced" in line for line in said)
    assert "the report's accuracy is of pictures decoded smaller" in " ".join(made.card.read_text().split())
