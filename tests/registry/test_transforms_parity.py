"""Batched transforms against Albumentations where both are given the same drawn parameters.

Held to: mean difference at most 0.5 grey levels and 99.5 % of values within 2, for the form the CPU uses and for the
torch form that a GPU uses, on smooth images and on noise, RGB and grey.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from albumentations.augmentations.pixel.functional import get_safe_brightness_contrast_params

from registry.transforms.batched import batched, batched_pair
from registry.transforms.contract import Sometimes
from registry.transforms.cropping import BoxCrop
from registry.transforms.draws import Draws

HEIGHT, WIDTH = 32, 28  # not square, so that x and y cannot be exchanged unnoticed
Kwargs = Iterator[dict[str, Any]]  # upstream's parameters, image by image


def _images() -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (24, 7, 7, 3), dtype=np.uint8)
    smooth = [cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for image in coarse]
    noise = rng.integers(0, 256, (24, HEIGHT, WIDTH, 3), dtype=np.uint8)
    return np.concatenate([np.stack(smooth), noise])


IMAGES = _images()


def nothing(parameters: Any, images: np.ndarray) -> Kwargs:
    yield from ({} for _ in images)


def shifts(parameters: Any, images: np.ndarray) -> Kwargs:
    for hue, saturation, value in zip(*(p.tolist() for p in parameters), strict=True):
        yield {"hue_shift": hue, "sat_shift": saturation, "val_shift": value}


def matrices(parameters: Any, images: np.ndarray) -> Kwargs:
    for matrix in parameters.numpy():
        whole = np.vstack([matrix, [0, 0, 1]])
        yield {
            "matrix": whole,
            **dict.fromkeys(("x_min", "x_max", "y_min", "y_max"), -1),
            "output_shape": images.shape[1:3],
        }


def holes(parameters: Any, images: np.ndarray) -> Kwargs:
    top, bottom, left, right = (p.numpy() for p in parameters)
    for n in range(len(images)):
        yield {"holes": np.stack([left[:, n], top[:, n], right[:, n], bottom[:, n]], axis=-1), "seed": 0}


def factors(parameters: Any, images: np.ndarray) -> Kwargs:
    for n in range(len(images)):
        names = ("brightness", "contrast", "saturation", "hue")
        yield {
            **{k: float(getattr(parameters, k)[n]) for k in names},
            "order": parameters.order[:, n].tolist(),
        }


def line_of_255(parameters: Any, images: np.ndarray) -> Kwargs:
    for contrast, brightness in zip(*(p.tolist() for p in parameters), strict=True):
        yield {"alpha": contrast, "beta": brightness * 255}


def line_of_mean(parameters: Any, images: np.ndarray) -> Kwargs:
    for image, contrast, brightness in zip(images, *(p.tolist() for p in parameters), strict=True):
        yield {"alpha": contrast, "beta": brightness * image.mean()}


def safe_line(parameters: Any, images: np.ndarray) -> Kwargs:
    for one in line_of_255(parameters, images):
        alpha, beta = get_safe_brightness_contrast_params(one["alpha"], one["beta"], 255)
        yield {"alpha": float(alpha), "beta": float(beta)}


def noise(parameters: Any, images: np.ndarray) -> Kwargs:
    pixels = images[0].size
    z = parameters.draws.normals(16, pixels).numpy().reshape(images.shape)
    for n, field in enumerate(z):
        yield {"noise_map": (field * float(parameters.std[n]) + float(parameters.mean[n])).astype(np.float32) * 255}


def shift_scale_rotate(**arguments: Any) -> A.ShiftScaleRotate:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # upstream recommends Affine
        return A.ShiftScaleRotate(**arguments)


BORDERS = {
    "constant": cv2.BORDER_CONSTANT,
    "replicate": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT,
    "reflect_101": cv2.BORDER_REFLECT_101,
}
CASES: dict[str, tuple[A.BasicTransform, Callable[[Any, np.ndarray], Kwargs]]] = {
    "HorizontalFlip": (A.HorizontalFlip(p=1), nothing),
    "VerticalFlip": (A.VerticalFlip(p=1), nothing),
    "HueSaturationValue": (A.HueSaturationValue(p=1), shifts),
    "HueSaturationValue far": (A.HueSaturationValue(180, 255, 255, p=1), shifts),
    **{f"Rotate {name}": (A.Rotate(90, border_mode=b, fill=77, p=1), matrices) for name, b in BORDERS.items()},
    "Rotate nearest": (A.Rotate(45, interpolation=cv2.INTER_NEAREST, p=1), matrices),
    "Affine": (
        A.Affine((0.5, 1.6), translate_percent=(-0.3, 0.3), rotate=(-90, 90), shear=(-20, 20), border_mode=2, p=1),
        matrices,
    ),
    "Affine in pixels": (A.Affine(translate_px={"x": (-9, 9), "y": (-3, 3)}, fill=200, p=1), matrices),
    "ShiftScaleRotate": (shift_scale_rotate(border_mode=cv2.BORDER_REFLECT_101, p=1), matrices),
    "CoarseDropout": (A.CoarseDropout((1, 4), (2, 16), (2, 9), fill=50, p=1), holes),
    "CoarseDropout shares": (A.CoarseDropout((2, 2), (0.1, 0.5), (0.2, 0.3), fill=50, p=1), holes),
    "ColorJitter": (A.ColorJitter(p=1), factors),
    "ColorJitter wide": (A.ColorJitter((0, 2), (0, 2), (0, 3), (-0.5, 0.5), p=1), factors),
    "ColorJitter to grey": (A.ColorJitter((1, 1), (0, 0), (0, 0), (0, 0), p=1), factors),
    "RandomBrightnessContrast": (A.RandomBrightnessContrast(0.6, 0.6, p=1), line_of_255),
    "RandomBrightnessContrast of mean": (A.RandomBrightnessContrast(brightness_by_max=False, p=1), line_of_mean),
    "RandomBrightnessContrast safe": (A.RandomBrightnessContrast(0.5, 0.5, ensure_safe_range=True, p=1), safe_line),
    "RandomBrightnessContrast negative": (
        A.RandomBrightnessContrast(0.5, (-3, -1), ensure_safe_range=True, p=1),
        safe_line,
    ),
    **{
        f"ToGray {method}": (A.ToGray(method=method, p=1), nothing)
        for method in ("weighted_average", "average", "desaturation", "max")
    },
    "GaussNoise": (A.GaussNoise((0.05, 0.4), (-0.2, 0.2), p=1), noise),
}  # fmt: skip


def assert_agree(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype == np.uint8
    difference = np.abs(ours.astype(int) - theirs)
    assert difference.mean() <= 0.5
    assert (difference <= 2).mean() >= 0.995


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("form", ["cpu", "torch"])
@pytest.mark.parametrize("case", CASES)
def test_same_parameters_give_the_same_image(case: str, form: str, channels: int) -> None:
    upstream, translate = CASES[case]
    images = np.ascontiguousarray(IMAGES[..., :channels])
    ours = batched(upstream)
    assert isinstance(ours, Sometimes)
    parameters = ours.draw(Draws(1, 1, torch.arange(len(images))), HEIGHT, WIDTH)
    if form == "cpu":
        out = images.copy()
        ours.on_cpu(out, np.arange(len(out)), parameters)
    else:
        out = ours.on_device(torch.from_numpy(images.copy()), parameters).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # upstream warns of grey images
        expected = [
            upstream.apply(image.copy(), **kwargs, shape=image.shape).reshape(image.shape)
            for image, kwargs in zip(images, translate(parameters, images), strict=True)
        ]
    assert channels == 1 or (np.stack(expected) != images).any()
    assert_agree(out, np.stack(expected))


BOXED = {
    "Resize up": A.Resize(45, 61),
    "Resize down": A.Resize(16, 14),
    "Resize odd": A.Resize(13, 31),
    "Resize nearest": A.Resize(45, 61, interpolation=cv2.INTER_NEAREST),
    "RandomResizedCrop": A.RandomResizedCrop((24, 20), scale=(0.1, 1)),
    "RandomResizedCrop nearest": A.RandomResizedCrop((24, 20), scale=(0.1, 1), interpolation=cv2.INTER_NEAREST),
}


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("form", ["cpu", "torch"])
@pytest.mark.parametrize("case", BOXED)
def test_same_rectangles_give_the_same_image(case: str, form: str, channels: int) -> None:
    upstream = BOXED[case]
    images = np.ascontiguousarray(IMAGES[..., :channels])
    ours = batched(upstream)
    assert isinstance(ours, BoxCrop)
    boxes = ours.boxes(Draws(1, 1, torch.arange(len(images))), HEIGHT, WIDTH)
    scale = ours.scaling.on_cpu if form == "cpu" else ours.scaling.on_device
    out = scale(torch.from_numpy(images), boxes).numpy()
    expected = []
    for image, y, x, height, width in zip(images, *(b.tolist() for b in boxes), strict=True):
        one = upstream.apply(image, crop_coords=(x, y, x + width, y + height), shape=image.shape)
        expected.append(one.reshape(*one.shape[:2], channels))
    assert_agree(out, np.stack(expected))


FIXED: dict[str, A.BasicTransform] = {
    "CenterCrop": A.CenterCrop(17, 12),
    "CenterCrop whole": A.CenterCrop(HEIGHT, WIDTH),
    **{
        f"CenterCrop padded {position}": A.CenterCrop(
            39, 12, pad_if_needed=True, pad_position=position, border_mode=cv2.BORDER_REFLECT_101
        )
        for position in ("center", "top_left", "top_right", "bottom_left", "bottom_right")
    },
    **{f"Pad {name}": A.Pad((3, 9, 40, 1), border_mode=b, fill=99) for name, b in BORDERS.items()},
    "Pad wrap": A.Pad(4, border_mode=cv2.BORDER_WRAP),
    "Pad pair": A.Pad((2, 5), fill=(1, 2, 3)),
    "PadIfNeeded": A.PadIfNeeded(41, 30, fill=(1, 2, 3)),
    "PadIfNeeded enough": A.PadIfNeeded(20, 20),
    "PadIfNeeded divisor": A.PadIfNeeded(None, None, pad_height_divisor=7, pad_width_divisor=10),
    **{
        f"PadIfNeeded {position}": A.PadIfNeeded(41, 41, position=position)
        for position in ("top_left", "top_right", "bottom_left", "bottom_right")
    },
    "Pad then CenterCrop": A.CenterCrop(36, 36, pad_if_needed=True, fill=7),
    "Resize linear": A.Resize(40, 40),
}


@pytest.mark.parametrize("case", FIXED)
def test_what_leaves_nothing_to_chance_equals_upstream(case: str) -> None:
    upstream = FIXED[case]
    ours = batched(upstream)
    assert ours is not None
    out = ours(torch.from_numpy(IMAGES.copy()), Draws(1, 1, torch.arange(len(IMAGES)))).numpy()
    np.testing.assert_array_equal(out, np.stack([upstream(image=image)["image"] for image in IMAGES]))


def test_a_window_is_cut_where_its_corner_says_on_any_device() -> None:
    from registry.transforms.windows import windows, windows_by_torch

    images = torch.from_numpy(IMAGES)
    top, left = torch.arange(len(images)) % 7, torch.arange(len(images)) % 5
    expected = torch.stack([image[y : y + 9, x : x + 11] for image, y, x in zip(images, top, left, strict=True)])
    assert torch.equal(windows(images, top, left, 9, 11), expected)
    assert torch.equal(windows_by_torch(images, top, left, 9, 11), expected)


def test_crop_from_borders_and_resize_equal_upstream_on_the_same_rectangles() -> None:
    crop, resize = A.RandomCropFromBorders(0.3, 0.4, 0.2, 0.5), A.Resize(20, 24)
    ours = batched_pair(crop, resize)
    assert isinstance(ours, BoxCrop)
    draws = Draws(1, 1, torch.arange(len(IMAGES)))
    expected = []
    for image, y, x, height, width in zip(IMAGES, *(b.tolist() for b in ours.boxes(draws, HEIGHT, WIDTH)), strict=True):
        cropped = crop.apply(image, crop_coords=(x, y, x + width, y + height))
        expected.append(resize.apply(cropped, shape=cropped.shape))
    np.testing.assert_array_equal(ours(torch.from_numpy(IMAGES), draws).numpy(), np.stack(expected))
