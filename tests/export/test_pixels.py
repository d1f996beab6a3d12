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

from registry.transforms.graph import Seen, forms_of
from trainer.export.about import About
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


@pytest.mark.skipif(not HAS_ONNX, reason="the extra `export` is not installed")
def test_that_a_file_cannot_decode_pictures_smaller_is_said(tmp_path):
    run = train_small(tmp_path, "data.decode=reduced", "train.epochs=1")
    said = []
    made = export(Request(run, (), "onnx"), said.append, lambda _, __: lambda: None)
    assert any("data.decode: reduced" in line for line in said)
    assert "the report's accuracy is of pictures decoded smaller" in " ".join(made.card.read_text().split())
