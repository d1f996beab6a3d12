"""What batched transforms draw, and what comes of it, against Albumentations over many draws.

Every comparison is a two-sample test at significance `ALPHA`, with fixed seeds on both sides: it does not flicker.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from scipy import stats

from registry.transforms.batched import batched, batched_pair
from registry.transforms.draws import Draws
from trainer.data.pipeline import Pipeline

ALPHA = 1e-4
HEIGHT, WIDTH = 32, 28
DRAWS = 4000
Columns = dict[str, np.ndarray]


def ours(transform: A.BasicTransform) -> Any:
    made = batched(transform)
    assert made is not None
    return made


def our_parameters(transform: A.BasicTransform) -> Any:
    return ours(transform).draw(Draws(11, 1, torch.arange(DRAWS)), HEIGHT, WIDTH)


def their_parameters(transform: A.BasicTransform) -> list[dict[str, Any]]:
    """Draw as upstream does before it applies a transform."""
    transform.set_random_seed(137)
    data = {"image": np.zeros((HEIGHT, WIDTH, 3), np.uint8)}
    sampled = []
    for _ in range(DRAWS):
        parameters = transform.get_params()
        parameters["shape"] = data["image"].shape
        parameters.update(transform.get_params_dependent_on_data(parameters, data))
        sampled.append(parameters)
    return sampled


def assert_same_distribution(mine: Columns, theirs: Columns) -> None:
    assert mine.keys() == theirs.keys()
    for name in mine:
        assert stats.ks_2samp(mine[name], theirs[name]).pvalue > ALPHA, name
    for one in mine:
        for other in mine:
            if one < other and mine[one].std() > 0 and mine[other].std() > 0:
                gap = np.corrcoef(mine[one], mine[other])[0, 1] - np.corrcoef(theirs[one], theirs[other])[0, 1]
                assert abs(gap) < 5 * np.sqrt(2 / DRAWS), (one, other)


def matrix_columns(matrices: np.ndarray) -> Columns:
    return {f"{row}{column}": matrices[:, row, column].round(9) for row in range(2) for column in range(3)}


def shift_scale_rotate() -> A.ShiftScaleRotate:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # upstream recommends Affine
        return A.ShiftScaleRotate(shift_limit_x=(-0.3, 0.1), scale_limit=0.4)


MOVES = {
    "Rotate": lambda: A.Rotate((-20, 50)),
    "Affine": lambda: A.Affine((0.7, 1.4), translate_percent=(-0.2, 0.4), rotate=(-30, 60), shear=(-10, 20)),
    "Affine axes": lambda: A.Affine(
        scale={"x": (0.7, 1), "y": (1, 1.5)},
        translate_px={"x": (-4, 4), "y": (0, 9)},
        shear={"x": (0, 9), "y": (-5, 5)},
    ),
    "Affine balanced": lambda: A.Affine((0.5, 3), balanced_scale=True),
    "Affine balanced one side": lambda: A.Affine((0.5, 0.9), balanced_scale=True),
    "Affine keeps ratio": lambda: A.Affine((0.5, 2), keep_ratio=True),
    "ShiftScaleRotate": shift_scale_rotate,
}


@pytest.mark.parametrize("case", MOVES)
def test_matrices_are_drawn_as_upstream_draws_them(case: str) -> None:
    transform = MOVES[case]()
    theirs = np.stack([parameters["matrix"] for parameters in their_parameters(transform)])
    assert_same_distribution(matrix_columns(our_parameters(transform).numpy()), matrix_columns(theirs))


def test_colour_shifts_are_drawn_as_upstream_draws_them() -> None:
    transform = A.HueSaturationValue((-20, 35), (-30, 10), (-5, 40))
    theirs = their_parameters(transform)
    rounded = {
        "hue": np.floor([p["hue_shift"] for p in theirs]) % 180,
        "saturation": np.trunc([p["sat_shift"] for p in theirs]),
        "value": np.trunc([p["val_shift"] for p in theirs]),
    }
    mine = our_parameters(transform)
    assert_same_distribution({name: getattr(mine, name).numpy() for name in rounded}, rounded)


def test_jitter_is_drawn_as_upstream_draws_it() -> None:
    transform = A.ColorJitter((0.5, 1.1), (0.8, 2), (0, 1), (-0.1, 0.4))
    theirs, mine = their_parameters(transform), our_parameters(transform)
    names = ("brightness", "contrast", "saturation", "hue")
    assert_same_distribution(
        {name: getattr(mine, name).numpy() for name in names},
        {name: np.array([p[name] for p in theirs]) for name in names},
    )
    orders = [tuple(order) for order in mine.order.T.tolist()]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > ALPHA


def test_brightness_and_contrast_are_drawn_as_upstream_draws_them() -> None:
    transform = A.RandomBrightnessContrast((-0.1, 0.3), (-0.4, 0.2))
    theirs, mine = their_parameters(transform), our_parameters(transform)
    assert_same_distribution(
        {"alpha": mine.contrast.numpy(), "beta": mine.brightness.numpy() * 255},
        {name: np.array([p[name] for p in theirs]) for name in ("alpha", "beta")},
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_holes_range": (1, 1), "hole_height_range": (4, 16), "hole_width_range": (4, 16)},
        {"num_holes_range": (1, 1), "hole_height_range": (3, 99), "hole_width_range": (5, 99)},  # larger than the image
        {"num_holes_range": (1, 1), "hole_height_range": (0.1, 0.5), "hole_width_range": (0.3, 0.9)},
        {"num_holes_range": (2, 5), "hole_height_range": (2, 6), "hole_width_range": (1, 9)},
    ],
)
def test_holes_are_drawn_as_upstream_draws_them(arguments: dict[str, Any]) -> None:
    transform = A.CoarseDropout(**arguments)
    mine, theirs = our_parameters(transform), [parameters["holes"] for parameters in their_parameters(transform)]
    first = np.stack([holes[0] for holes in theirs])
    assert_same_distribution(
        {
            "number": (mine.bottom > mine.top).sum(0).numpy(),
            "height": (mine.bottom - mine.top)[0].numpy(),
            "width": (mine.right - mine.left)[0].numpy(),
            "top": mine.top[0].numpy(),
            "left": mine.left[0].numpy(),
        },
        {
            "number": np.array([len(holes) for holes in theirs]),
            "height": first[:, 3] - first[:, 1],
            "width": first[:, 2] - first[:, 0],
            "top": first[:, 1],
            "left": first[:, 0],
        },
    )
    assert mine.bottom.max() <= HEIGHT
    assert mine.right.max() <= WIDTH
    assert min(mine.top.min(), mine.left.min()) >= 0


def corner_columns(corners: np.ndarray) -> Columns:
    left, top, right, bottom = corners.T
    return {"left": left, "top": top, "height": bottom - top, "width": right - left}


@pytest.mark.parametrize(
    "transform",
    [
        A.RandomResizedCrop((20, 20)),
        A.RandomResizedCrop((20, 20), scale=(0.8, 1), ratio=(1.5, 3)),  # seldom fits: the middle is taken
        A.RandomResizedCrop((20, 20), scale=(1, 1), ratio=(0.2, 0.3)),  # never fits
        A.RandomCropFromBorders(0.3, 0.6, 0.05, 0.5),
    ],
    ids=["usual", "seldom fits", "never fits", "from borders"],
)
def test_rectangles_are_drawn_as_upstream_draws_them(transform: A.BasicTransform) -> None:
    crop = batched_pair(transform, A.Resize(20, 20)) or ours(transform)
    boxes = crop.boxes(Draws(11, 1, torch.arange(DRAWS)), HEIGHT, WIDTH)
    top, left, height, width = (side.numpy() for side in boxes)
    mine = np.stack([left, top, left + width, top + height], axis=-1)
    theirs = np.array([parameters["crop_coords"] for parameters in their_parameters(transform)])
    assert_same_distribution(corner_columns(mine), corner_columns(theirs))


@pytest.mark.parametrize(
    "transform",
    [
        A.RandomCrop(20, 25),
        A.RandomCrop(20, 40, pad_if_needed=True, fill=0),
        A.RandomCrop(20, 40, pad_if_needed=True, pad_position="random", fill=0),
        A.RandomCrop(40, 40, pad_if_needed=True, pad_position="bottom_left", fill=0),
        A.PadIfNeeded(40, 33, position="random", fill=0),
    ],
    ids=["crop", "padded", "random place", "bottom left", "PadIfNeeded"],
)
def test_windows_are_placed_as_upstream_places_them(transform: A.BasicTransform) -> None:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)  # each pixel says where it is, counted from 1
    image[..., 0] = np.arange(1, HEIGHT + 1)[:, None]
    image[..., 1] = np.arange(1, WIDTH + 1)

    def places(out: np.ndarray) -> Columns:
        inside = out[..., 0] > 0
        first = inside.reshape(len(out), -1).argmax(1)
        pixel = out.reshape(len(out), -1, 3)[np.arange(len(out)), first]
        return {"where": first, "row": pixel[:, 0], "column": pixel[:, 1]}

    mine = ours(transform)(torch.from_numpy(np.repeat(image[None], DRAWS, 0)), Draws(11, 1, torch.arange(DRAWS)))
    transform.set_random_seed(137)
    theirs = np.stack([transform(image=image)["image"] for _ in range(DRAWS)])
    assert_same_distribution(places(mine.numpy()), places(theirs))


WHOLE: dict[str, Callable[[], list[Any]]] = {
    "S10": lambda: [
        A.HueSaturationValue(p=0.25),
        A.HorizontalFlip(p=0.5),
        A.Rotate(15, border_mode=cv2.BORDER_REFLECT_101, p=0.5),
        A.CoarseDropout((1, 1), (4, 16), (4, 16), fill=(125, 122, 113), p=0.75),
    ],
    "VerticalFlip": lambda: [A.VerticalFlip(p=0.3)],
    "HueSaturationValue": lambda: [A.HueSaturationValue(40, 60, 60, p=0.5)],
    "ColorJitter": lambda: [A.ColorJitter(p=0.8)],
    "RandomBrightnessContrast": lambda: [A.RandomBrightnessContrast(0.5, 0.5)],
    "ToGray": lambda: [A.ToGray(p=0.4)],
    "Rotate": lambda: [A.Rotate(30, p=0.7)],
    "Affine": lambda: [A.Affine((0.7, 1.4), translate_percent=(-0.2, 0.2), rotate=30, shear=10, fill=99, p=0.9)],
    "ShiftScaleRotate": lambda: [shift_scale_rotate()],
    "pad and crop": lambda: [A.Pad(4, border_mode=cv2.BORDER_REFLECT_101), A.RandomCrop(HEIGHT, WIDTH)],
    "RandomResizedCrop": lambda: [A.RandomResizedCrop((24, 24))],
    "from borders": lambda: [A.RandomCropFromBorders(), A.Resize(24, 24)],
    "CoarseDropout": lambda: [A.CoarseDropout((1, 3), fill=9)],
    "GaussNoise": lambda: [A.GaussNoise((0.1, 0.3))],
    "GaussNoise shared": lambda: [A.GaussNoise((0.1, 0.3), per_channel=False)],
}  # fmt: skip


@pytest.mark.parametrize("case", WHOLE)
def test_mean_and_variance_of_every_pixel_are_upstreams(case: str) -> None:
    """Border pixels included. Each pixel's z is a unit normal where the distributions are the same."""
    n = 1200
    rng = np.random.default_rng(4)
    image = cv2.resize(rng.integers(0, 256, (8, 7, 3), dtype=np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    images, indices = torch.from_numpy(np.repeat(image[None], n, 0)), torch.arange(n)
    mine = Pipeline(WHOLE[case](), [], seed=1, backend="batched").uint8(images, epoch=1, indices=indices).double()
    theirs = (
        Pipeline(WHOLE[case](), [], seed=2, backend="albumentations").uint8(images, epoch=1, indices=indices).double()
    )
    for moment in (1, 2):
        a, b = (x if moment == 1 else (x - x.mean(0)) ** 2 for x in (mine, theirs))
        spread = ((a.var(0) + b.var(0)) / n).sqrt()
        varies = spread > 1e-9
        assert torch.equal(a.mean(0)[~varies], b.mean(0)[~varies])
        z = (a.mean(0) - b.mean(0)) / spread
        if case.startswith("GaussNoise"):
            z[0, 0] = 0  # upstream reseeds OpenCV's generator, whose first number hardly depends on the seed
        z = z[varies]
        assert z.abs().max() < 6, f"moment {moment}"
        assert (z**2).mean() < 6, f"moment {moment}"  # pixels share their draws, so a common offset is no surprise
