"""What upstream's transforms promise in special cases, held by the batched ones."""

from __future__ import annotations

import albumentations as A
import cv2
import numpy as np
import pytest
import torch

from registry.errors import DataError
from registry.transforms.batched import batched, batched_pair, why_not
from registry.transforms.contract import Batched
from registry.transforms.draws import Draws
from registry.transforms.flips import AlternatingFlip
from registry.transforms.hsv import Shifts, hsv_to_rgb, rgb_to_hsv, shifted_by_opencv, shifted_by_torch

RNG = np.random.default_rng(0)
N = 256


def run(transform: A.BasicTransform, images: np.ndarray, epoch: int = 1) -> np.ndarray:
    made = batched(transform)
    assert made is not None, why_not(transform)
    return made(torch.from_numpy(images.copy()), Draws(1, epoch, torch.arange(len(images)))).numpy()


def test_grey_pixels_stay_grey_under_hue_and_saturation_shifts() -> None:
    grey = np.repeat(RNG.integers(0, 256, (N, 8, 8, 1), dtype=np.uint8), 3, axis=-1)
    out = run(A.HueSaturationValue((-180, 180), (1, 255), (0, 0), p=1), grey)
    assert (out == out[..., :1]).all()
    assert np.abs(out.astype(int) - grey).max() <= 1  # the way to HSV and back rounds


def test_hue_wraps_around_the_circle() -> None:
    colours = RNG.integers(0, 256, (N, 8, 8, 3), dtype=np.uint8)
    for shifted in (shifted_by_opencv, lambda x, s: shifted_by_torch(torch.from_numpy(x), s).numpy()):
        still = torch.zeros(N, dtype=torch.int64)
        hue_before = cv2.cvtColor(colours.reshape(-1, 8, 3), cv2.COLOR_RGB2HSV)[..., 0].astype(int)
        saturated = cv2.cvtColor(colours.reshape(-1, 8, 3), cv2.COLOR_RGB2HSV)[..., 1:].min(-1) > 128
        for step in (1, 90, 179):
            out = shifted(colours, Shifts(still + step, still, still))
            hue = cv2.cvtColor(out.reshape(-1, 8, 3), cv2.COLOR_RGB2HSV)[..., 0].astype(int)
            off = (hue - hue_before - step) % 180
            assert (np.minimum(off, 180 - off)[saturated] <= 1).all()


def test_colour_conversions_are_opencvs() -> None:
    levels = torch.cartesian_prod(*[torch.arange(0, 256, 5)] * 3).to(torch.uint8)
    expected = cv2.cvtColor(levels.numpy()[None], cv2.COLOR_RGB2HSV)[0]
    np.testing.assert_array_equal(torch.stack(rgb_to_hsv(levels), -1).numpy(), expected)
    hsv = torch.cartesian_prod(torch.arange(180), torch.arange(0, 256, 5), torch.arange(0, 256, 5)).to(torch.uint8)
    back = cv2.cvtColor(hsv.numpy()[None], cv2.COLOR_HSV2RGB)[0]
    difference = np.abs(hsv_to_rgb(*hsv.int().unbind(-1)).numpy().astype(int) - back)
    assert difference.max() <= 1
    assert difference.mean() < 0.01


def test_no_shift_at_all_leaves_the_image_as_upstream_does() -> None:
    images = RNG.integers(0, 256, (N, 8, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(run(A.HueSaturationValue(0, 0, 0, p=1), images), images)


def test_a_hole_lies_inside_and_its_sides_are_drawn_apart_with_both_ends() -> None:
    images = np.zeros((4000, 32, 32, 1), np.uint8)
    holes = run(A.CoarseDropout((1, 1), (4, 16), (4, 16), fill=255, p=1), images)[..., 0] == 255
    heights, widths = holes.any(2).sum(1), holes.any(1).sum(1)
    np.testing.assert_array_equal(holes.sum((1, 2)), heights * widths)  # a whole rectangle, none cut by the border
    assert set(heights) == set(widths) == set(range(4, 17))
    assert abs(np.corrcoef(heights, widths)[0, 1]) < 0.08
    assert holes[:, 0].any()
    assert holes[:, :, 31].any()


def test_fill_is_per_channel() -> None:
    out = run(A.CoarseDropout((1, 1), (4, 4), (4, 4), fill=(125, 122, 113), p=1), np.zeros((4, 8, 8, 3), np.uint8))
    assert {tuple(pixel) for pixel in out.reshape(-1, 3)} == {(0, 0, 0), (125, 122, 113)}


def test_rotate_turns_counter_clockwise_about_the_middle() -> None:
    images = np.zeros((2, 33, 33, 1), np.uint8)
    images[0, 16, 26] = 255  # right of the middle
    images[1, 16, 16] = 255  # in the middle
    out = run(A.Rotate((90, 90), p=1), images)
    assert out[0, 6, 16] == 255
    assert out[0].astype(int).sum() == 255
    assert out[1, 16, 16] == 255


def test_rotate_fills_with_black_unless_told_to_reflect() -> None:
    white = np.full((4, 32, 32, 3), 255, np.uint8)
    assert (run(A.Rotate((45, 45), p=1), white)[:, 0, 0] == 0).all()
    assert (run(A.Rotate((45, 45), border_mode=cv2.BORDER_REFLECT_101, p=1), white) == 255).all()


@pytest.mark.parametrize("p", [0.0, 0.25, 1.0])
def test_p_is_the_share_of_images_that_change(p: float) -> None:
    images = RNG.integers(0, 256, (4000, 6, 6, 3), dtype=np.uint8)
    share = (run(A.HorizontalFlip(p=p), images) != images).any((1, 2, 3)).mean()
    assert abs(share - p) <= 4.5 * np.sqrt(p * (1 - p) / 4000)


def test_transforms_in_a_row_choose_their_images_apart() -> None:
    images = np.repeat(RNG.integers(0, 256, (1, 6, 6, 3), dtype=np.uint8), 4000, 0)
    both = []
    for position in (0, 1):
        made = batched(A.HorizontalFlip(p=0.5))
        assert made is not None
        out = made(torch.from_numpy(images.copy()), Draws(1, 1, torch.arange(4000)).at(position)).numpy()
        both.append((out != images).any((1, 2, 3)))
    assert abs(np.corrcoef(*both)[0, 1]) < 0.08


def test_alternating_flip_shows_every_image_both_ways_in_two_epochs() -> None:
    images = RNG.integers(0, 256, (1000, 6, 6, 3), dtype=np.uint8)
    flip, indices = AlternatingFlip(), torch.arange(1000)

    def mirrored(seed: int, epoch: int) -> np.ndarray:
        out = flip(torch.from_numpy(images.copy()), Draws(seed, epoch, indices)).numpy()
        changed = (out != images).any((1, 2, 3))
        np.testing.assert_array_equal(out[changed], images[changed][:, :, ::-1])
        return changed

    for epoch in (1, 2, 7):
        np.testing.assert_array_equal(mirrored(1, epoch), ~mirrored(1, epoch + 1))
    np.testing.assert_array_equal(mirrored(1, 1), mirrored(1, 3))
    assert 400 < mirrored(1, 1).sum() < 600
    assert (mirrored(1, 1) != mirrored(2, 1)).any()


@pytest.mark.parametrize(
    ("transform", "reason"),
    [
        (A.Rotate(interpolation=cv2.INTER_CUBIC), "interpolation 2 is neither nearest nor linear"),
        (A.Rotate(border_mode=cv2.BORDER_WRAP), "border_mode 3 is none of constant"),
        (A.Rotate(crop_border=True), "crop_border changes the size"),
        (A.Affine(fit_output=True), "fit_output changes the size"),
        (A.RandomCrop(4, 4, p=0.5), "p below 1 leaves images of two sizes"),
        (A.Pad(4, p=0.5), "p below 1 leaves images of two sizes"),
        (A.RandomResizedCrop((4, 4), area_for_downscale="image"), "area_for_downscale"),
        (A.Resize(4, 4, interpolation=cv2.INTER_AREA), "neither nearest nor linear"),
        (A.CoarseDropout(fill="random"), "fill 'random' is no grey level"),
        (A.GaussNoise(noise_scale_factor=0.5), "noise_scale_factor"),
        (A.ToGray(method="pca"), "method 'pca'"),
        (A.ToGray(num_output_channels=1), "number of channels"),
        (A.Normalize(normalization="image"), "normalization 'image'"),
        (A.Normalize(p=0.5), "p below 1"),
        (A.RandomCropFromBorders(), "put Resize right behind it"),
        (A.ElasticTransform(), "it has no batched version"),
        (A.OneOf([A.HorizontalFlip(), A.VerticalFlip()]), "it has no batched version"),
    ],
)
def test_what_has_no_batched_version_says_why(transform: A.BasicTransform, reason: str) -> None:
    assert batched(transform) is None
    assert reason in why_not(transform)


def test_a_class_derived_from_an_upstream_one_is_not_taken_for_it() -> None:
    class HorizontalFlip(A.HorizontalFlip):
        def apply(self, img: np.ndarray, **params: object) -> np.ndarray:
            return img

    assert batched(HorizontalFlip()) is None


def test_crop_from_borders_is_batched_only_with_a_plain_resize_behind_it() -> None:
    assert batched_pair(A.RandomCropFromBorders(), A.Resize(8, 8)) is not None
    assert batched_pair(A.RandomCropFromBorders(p=0.5), A.Resize(8, 8)) is None
    assert batched_pair(A.RandomCropFromBorders(), A.Resize(8, 8, interpolation=cv2.INTER_AREA)) is None
    assert batched_pair(A.RandomCrop(8, 8), A.Resize(8, 8)) is None


def test_a_crop_larger_than_the_image_says_how_to_mend_it() -> None:
    with pytest.raises(DataError, match="pad_if_needed"):
        run(A.RandomCrop(40, 8), np.zeros((2, 32, 32, 3), np.uint8))


def test_a_fill_for_other_channels_is_an_error_that_names_both() -> None:
    with pytest.raises(DataError, match="3 values, the images have 1 channels"):
        run(A.CoarseDropout(fill=(1, 2, 3), p=1), np.zeros((2, 32, 32, 1), np.uint8))


def test_an_empty_batch_passes() -> None:
    empty = np.zeros((0, 32, 32, 3), np.uint8)
    for transform in (
        A.HorizontalFlip(),
        A.Rotate(),
        A.CoarseDropout(),
        A.RandomCrop(8, 8),
        A.RandomResizedCrop((8, 8)),
        A.Normalize(),
    ):
        assert len(run(transform, empty)) == 0


def test_batched_instances_are_batched() -> None:
    made: Batched | None = batched(A.HorizontalFlip())
    assert callable(made)
