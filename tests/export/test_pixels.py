"""The pixels that an exported graph makes of pictures as large as cameras': those of OpenCV, not those nearly like them.

A grey level more in one pixel of a hundred thousand moved a probability by 0.0009.
"""

from __future__ import annotations

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from torch import nn

from registry.transforms.graph import Seen, forms_of
from trainer.export.about import About
from trainer.export.standalone import opened
from trainer.export.formats import SUFFIX
from trainer.export.whole import Whole
from trainer.export.writing import traced, written

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


@pytest.mark.parametrize("to", SUFFIX)
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
