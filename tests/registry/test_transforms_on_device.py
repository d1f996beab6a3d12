"""The form of a batched transform for GPUs gives what its form for the CPU gives, on images of every shape."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from pretended_gpu import pretended_gpu

from registry.errors import DataError
from registry.transforms.batched import MAKERS
from trainer.data.pipeline import Pipeline

RNG = np.random.default_rng(0)
SIZES = [(32, 32), (7, 12), (1, 9), (9, 1), (1, 1)]


def shift_scale_rotate() -> A.ShiftScaleRotate:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # upstream advises Affine
        return A.ShiftScaleRotate(p=0.7)


TRANSFORMS: dict[str, Callable[[], A.BasicTransform]] = {
    "Affine": lambda: A.Affine(scale=(0.7, 1.3), rotate=40, translate_px=(-2, 2), fill=100.7, p=0.7),
    "Affine reflect": lambda: A.Affine(rotate=40, translate_px=(-2, 2), border_mode=cv2.BORDER_REFLECT, p=1),
    "Affine reflect_101": lambda: A.Affine(rotate=40, translate_px=(-2, 2), border_mode=cv2.BORDER_REFLECT_101, p=1),
    "Affine replicate": lambda: A.Affine(rotate=40, translate_px=(-2, 2), border_mode=cv2.BORDER_REPLICATE, p=1),
    "CenterCrop": lambda: A.CenterCrop(5, 8, pad_if_needed=True, fill=9.5),
    "CoarseDropout": lambda: A.CoarseDropout((1, 3), (0.2, 0.6), (0.2, 0.6), fill=100.7, p=0.7),
    "ColorJitter": lambda: A.ColorJitter(p=0.7),
    "GaussNoise": lambda: A.GaussNoise(p=0.7),
    "HorizontalFlip": lambda: A.HorizontalFlip(),
    "HueSaturationValue": lambda: A.HueSaturationValue(p=0.7),
    "Normalize": lambda: A.Normalize(mean=(0.5,), std=(0.25,)),
    "Pad": lambda: A.Pad((1, 2, 3, 4), fill=100.7),
    "Pad reflect_101": lambda: A.Pad((1, 2, 3, 4), border_mode=cv2.BORDER_REFLECT_101),
    "PadIfNeeded": lambda: A.PadIfNeeded(14, 10, border_mode=cv2.BORDER_REPLICATE),
    "RandomBrightnessContrast": lambda: A.RandomBrightnessContrast(p=0.7),
    "RandomCrop": lambda: A.RandomCrop(5, 8, pad_if_needed=True, pad_position="random"),
    "RandomResizedCrop": lambda: A.RandomResizedCrop((8, 6)),
    "Resize": lambda: A.Resize(8, 6),
    "Resize nearest": lambda: A.Resize(8, 6, interpolation=cv2.INTER_NEAREST),
    "Rotate": lambda: A.Rotate((-90, 90), p=0.7),
    "ShiftScaleRotate": shift_scale_rotate,
    "ToGray": lambda: A.ToGray(p=0.7),
    "VerticalFlip": lambda: A.VerticalFlip(),
}
EXACT = {"CenterCrop", "CoarseDropout", "GaussNoise", "HorizontalFlip", "Normalize", "PadIfNeeded", "RandomCrop"}
EXACT |= {"Pad", "Pad reflect_101", "ToGray", "VerticalFlip"}


def test_every_batched_transform_is_among_them() -> None:
    assert {name.split()[0] for name in TRANSFORMS} == set(MAKERS)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", TRANSFORMS)
def test_both_forms_give_the_same_image(name: str, size: tuple[int, int]) -> None:
    """To two grey levels: interpolation rounds differently, at places a nearest pixel lies on the edge of two."""
    for channels in (3, 1):
        images = torch.from_numpy(RNG.integers(0, 256, (64, *size, channels), dtype=np.uint8))
        images = images.float().mul_(0.2).add_(100).to(torch.uint8) if name.startswith("Resize") else images
        first, second = ([], [TRANSFORMS[name]()]) if name == "Normalize" else ([TRANSFORMS[name]()], [])
        indices = torch.arange(64)
        here = Pipeline(first, second, seed=1, backend="batched").apply(images, epoch=1, indices=indices)
        with pretended_gpu() as gpu:
            pipeline = Pipeline(first, second, seed=1, backend="batched", device="cuda")
            there = pipeline.apply(
                images.to("cuda", non_blocking=True), epoch=1, indices=indices.to("cuda", non_blocking=True)
            )
            assert there.device.type == "cuda"
            assert gpu.waits == []
            there = there.cpu()
        off = (here - there).abs()
        if name in EXACT:
            assert off.max() < 1e-5
        else:
            assert (off > 2.01 / 255).float().mean() < 0.01
            assert off.mean() < 0.5 / 255


@pytest.mark.parametrize("fill", [100.2, 100.5, 100.7, 101.5, -5, 300, (10.7, 20.5, 30.2)], ids=str)
@pytest.mark.parametrize(
    "make",
    [
        lambda fill: A.Pad(2, fill=fill),
        lambda fill: A.PadIfNeeded(12, 12, border_mode=cv2.BORDER_CONSTANT, fill=fill),
        lambda fill: A.CenterCrop(12, 12, pad_if_needed=True, fill=fill),
        lambda fill: A.Rotate((45, 45), border_mode=cv2.BORDER_CONSTANT, fill=fill, p=1),
        lambda fill: A.Affine(rotate=45, fill=fill, p=1),
    ],
    ids=["Pad", "PadIfNeeded", "CenterCrop", "Rotate", "Affine"],
)
def test_a_border_is_filled_with_the_grey_level_that_upstream_rounds_to(make, fill) -> None:
    images = np.zeros((2, 8, 8, 3), np.uint8)
    theirs = make(fill)(image=images[0])["image"][0, 0].tolist()
    ours = Pipeline([make(fill)], [], seed=1, backend="batched").uint8(
        torch.from_numpy(images), epoch=1, indices=torch.arange(2)
    )
    assert ours[0, 0, 0].tolist() == theirs
    with pretended_gpu():
        pipeline = Pipeline([make(fill)], [], seed=1, backend="batched", device="cuda")
        there = pipeline.uint8(torch.from_numpy(images), epoch=1, indices=torch.arange(2))
    assert there[0, 0, 0].tolist() == theirs


def holes(heights, widths, fill=255, size=(8, 8)) -> torch.Tensor:
    """Return which pixels of 200 black images became holes, bool (200, H, W)."""
    pipeline = Pipeline([A.CoarseDropout((1, 1), heights, widths, fill=fill, p=1)], [], seed=1, backend="batched")
    black = torch.zeros((200, *size, 1), dtype=torch.uint8)
    return pipeline.uint8(black, epoch=1, indices=torch.arange(200))[..., 0] > 0


@pytest.mark.parametrize(
    ("heights", "widths", "said"),
    [
        ((9, 40), (2, 3), r"hole_height_range \[9, 40\] does not fit into images of 8 px"),
        ((2, 3), (16, 16), r"hole_width_range \[16, 16\] does not fit into images of 8 px"),
        ((0.1, 0.2), (2, 3), r"hole_width_range \[2, 3\] does not fit"),
    ],
)
def test_holes_that_cannot_lie_inside_are_an_error_as_they_are_upstream(heights, widths, said) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  upstream's; its words are numpy's or the random module's
        A.CoarseDropout((1, 1), heights, widths, fill=255, p=1)(image=np.zeros((8, 8, 1), np.uint8))
    with pytest.raises(DataError, match=said):
        holes(heights, widths)


def test_holes_up_to_a_size_beyond_the_image_end_at_its_own_size() -> None:
    made = holes((4, 40), (8, 16))
    assert set(made.any(2).sum(1).tolist()) == {4, 5, 6, 7, 8}
    assert set(made.any(1).sum(1).tolist()) == {8}


@pytest.mark.parametrize("fill", [300, -5])
def test_holes_are_filled_with_a_grey_level(fill: int) -> None:
    with pytest.raises(DataError, match=rf"fill {fill}(\.0)? is no grey level"):
        holes((2, 3), (2, 3), fill)
