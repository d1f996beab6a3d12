"""Transforms in a graph: pixel for pixel what Albumentations and OpenCV make, or refused by name with the way out."""

from __future__ import annotations

import albumentations as A
import cv2
import numpy as np
import pytest
import torch

from registry.transforms.graph import NoGraphForm, Seen, forms_of
from registry.transforms.graph_resize import FitGraph
from trainer.data.fitting import Fitting

SIZES = [(24, 24), (31, 47), (48, 24), (60, 33), (96, 96), (25, 140)]
ANY = [  # of pictures whose size only the graph is told
    [A.Resize(24, 32)],
    [A.Resize(24, 32, interpolation=cv2.INTER_NEAREST)],
    [A.Resize(12, 12)],
    [A.SmallestMaxSize(28), A.CenterCrop(24, 20)],
    [A.SmallestMaxSize(40, interpolation=cv2.INTER_NEAREST), A.CenterCrop(24, 24)],
    [A.LongestMaxSize(32), A.PadIfNeeded(32, 36, border_mode=cv2.BORDER_CONSTANT, fill=[1, 2, 250])],
    [A.CenterCrop(20, 24)],
    [A.NoOp(), A.Resize(24, 24), A.CenterCrop(16, 16), A.Normalize((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))],
]
KNOWN = [  # of pictures of one size
    [A.Pad(3, border_mode=cv2.BORDER_REFLECT_101), A.CenterCrop(30, 28)],
    [A.PadIfNeeded(40, 40, border_mode=cv2.BORDER_REPLICATE)],
    [A.PadIfNeeded(40, 40, border_mode=cv2.BORDER_CONSTANT, fill=7, position="top_left")],
    [A.CenterCrop(40, 20, pad_if_needed=True, border_mode=cv2.BORDER_CONSTANT, fill=9)],
    [A.ToFloat()],
]


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, channels), dtype=np.uint8)


def in_graph(transforms, images: torch.Tensor, size=None) -> np.ndarray:
    for form in forms_of(transforms, Seen(size, images.shape[3])):
        images = form.module(images)
    return images.numpy()


def names(transforms) -> str:
    return "+".join(type(each).__name__ for each in transforms)


@pytest.mark.parametrize("transforms", ANY, ids=names)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_graph_makes_the_pixels_that_albumentations_makes(transforms, size):
    image = picture(*size)
    expected = A.Compose(transforms)(image=image)["image"]
    made = in_graph(transforms, torch.from_numpy(image)[None])[0]
    assert made.dtype == expected.dtype
    if made.dtype == np.uint8:
        assert np.array_equal(made, expected)
    else:
        assert np.allclose(made, expected, atol=1e-5)


@pytest.mark.parametrize("transforms", KNOWN, ids=names)
def test_what_follows_from_the_size_needs_pictures_of_one_size(transforms):
    image = picture(32, 32)
    expected = A.Compose(transforms)(image=image)["image"]
    assert np.allclose(in_graph(transforms, torch.from_numpy(image)[None], (32, 32))[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    "size", [(32, 32), (64, 64), (40, 90), (90, 40), (90, 20), (20, 90), (33, 31), (96, 64)], ids=str
)
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_another_size_are_made_the_datas_as_predict_makes_them(size, channels):
    image = picture(*size, channels)
    expected = Fitting(channels, (32, 32)).apply(image).astype(int)
    made = FitGraph(32, 32)(torch.from_numpy(image)[None])[0].numpy().astype(int)
    assert np.abs(made - expected).max() <= (1 if size[0] > 32 else 0)  # a mean between two levels may be rounded away
    assert (made != expected).mean() < 0.03


def test_pictures_of_the_datas_size_are_left_as_they_are():
    image = torch.from_numpy(picture(17, 40))[None]
    assert torch.equal(FitGraph(17, 40)(image), image)


def test_one_mean_and_deviation_serve_all_channels_and_the_first_of_several_serves_grey():
    grey = torch.from_numpy(picture(8, 8, 1))[None]
    expected = A.Normalize((0.5, 0.1, 0.1), (0.25, 1, 1))(image=grey[0].numpy())["image"]
    assert np.allclose(
        in_graph([A.Normalize((0.5, 0.1, 0.1), (0.25, 1, 1))], grey)[0], expected.reshape(8, 8, 1), atol=1e-5
    )


@pytest.mark.parametrize(
    "transforms", [[A.CenterCrop(30, 30)], [A.SmallestMaxSize(20), A.CenterCrop(30, 10)]], ids=names
)
def test_a_picture_smaller_than_its_crop_is_an_error_and_no_other_picture(transforms):
    with pytest.raises((IndexError, RuntimeError)):
        in_graph(transforms, torch.from_numpy(picture(20, 20))[None])


@pytest.mark.parametrize(
    ("transforms", "said", "way_out"),
    [
        ([A.CLAHE(p=1)], "CLAHE: a graph has no form of it", "train with these"),
        ([A.Resize(8, 8, p=0.5)], "Resize: p is 0.5, and a graph leaves nothing to chance", "set p: 1"),
        ([A.SmallestMaxSize(20)], "SmallestMaxSize: each picture has a size of its own", "put CenterCrop right behind"),
        ([A.SmallestMaxSize([20, 30]), A.CenterCrop(8, 8)], r"max_size \[20, 30\] leaves it to chance", "one number"),
        ([A.Resize(8, 8, interpolation=cv2.INTER_CUBIC)], "neither nearest, linear nor by area", "train with these"),
        ([A.Normalize(), A.Resize(8, 8)], "Resize: it stands behind what makes float", "put Resize into data.eval"),
        ([A.ToFloat(), A.Normalize(max_pixel_value=1.0)], "Normalize: it stands behind", "leave out what makes float"),
        ([A.Pad(3)], "Pad: the pictures differ in size", "train with these"),
        ([A.Normalize(normalization="image")], "needs each picture's own statistics", "train with these"),
        ([A.LongestMaxSize(20), A.PadIfNeeded(10, 30)], "frames pictures by one colour alone", "min_height"),
    ],
)
def test_what_a_graph_cannot_hold_is_refused_by_name_with_the_way_out(transforms, said, way_out):
    with pytest.raises(NoGraphForm, match=said) as refused:
        forms_of(transforms, Seen(None, 3))
    assert way_out in refused.value.way_out


class Inverted:
    """A transform of somebody's own."""

    def __call__(self, images, draws):
        return 255 - images

    def graph(self):
        class Form(torch.nn.Module):
            def forward(self, images):
                return 255 - images

        return Form()


def test_a_transform_of_ones_own_brings_its_form_by_a_method():
    image = torch.from_numpy(picture(8, 8))[None]
    assert np.array_equal(in_graph([Inverted()], image), 255 - image.numpy())
