"""The pipeline: who runs what, keyed chance, and the form of what comes out."""

from __future__ import annotations

import albumentations as A
import cv2
import numpy as np
import pytest
import torch

from registry.errors import DataError, RecipeError
from trainer.data.pipeline import Pipeline

RNG = np.random.default_rng(0)
IMAGES = torch.from_numpy(RNG.integers(0, 256, (24, 32, 32, 3), dtype=np.uint8))
INDICES = torch.arange(100, 124)


def s10() -> list[A.BasicTransform]:
    return [
        A.HueSaturationValue(p=0.25),
        A.HorizontalFlip(p=0.5),
        A.Rotate(limit=15, border_mode=cv2.BORDER_REFLECT_101, p=0.5),
        A.CoarseDropout(
            num_holes_range=(1, 1), hole_height_range=(4, 16), hole_width_range=(4, 16), fill=(125, 122, 113), p=0.75
        ),
    ]


def normalize() -> list[A.BasicTransform]:
    return [A.Normalize(mean=(0.49, 0.48, 0.44), std=(0.2, 0.21, 0.22))]


@pytest.mark.parametrize("backend", ["auto", "batched", "albumentations"])
def test_an_image_meets_the_same_chance_in_any_chunk_and_order(backend: str) -> None:
    pipeline = Pipeline(s10(), normalize(), seed=3, backend=backend)
    whole = pipeline.apply(IMAGES, epoch=2, indices=INDICES)
    order = torch.randperm(len(IMAGES), generator=torch.Generator().manual_seed(0))
    for part in order.split(7):
        assert torch.equal(pipeline.apply(IMAGES[part], epoch=2, indices=INDICES[part]), whole[part])


@pytest.mark.parametrize("backend", ["batched", "albumentations"])
def test_seed_epoch_and_index_each_change_the_chance(backend: str) -> None:
    def run(seed: int, epoch: int, shift: int) -> torch.Tensor:
        return Pipeline(s10(), [], seed=seed, backend=backend).uint8(IMAGES, epoch=epoch, indices=INDICES + shift)

    base = run(1, 1, 0)
    for other in (run(2, 1, 0), run(1, 2, 0), run(1, 1, 24)):
        assert (other != base).flatten(1).any(1).float().mean() > 0.8
    assert torch.equal(run(1, 1, 0), base)


def test_the_input_images_are_left_as_they_are() -> None:
    before = IMAGES.clone()
    Pipeline(s10(), normalize(), seed=1).apply(IMAGES, epoch=1, indices=INDICES)
    assert torch.equal(IMAGES, before)


def test_the_result_is_channels_last_float32() -> None:
    out = Pipeline([], normalize(), seed=1).apply(IMAGES, epoch=1, indices=INDICES)
    assert out.shape == (24, 3, 32, 32)
    assert out.dtype == torch.float32
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_normalize_equals_upstream() -> None:
    ours = Pipeline([], normalize(), seed=1, backend="batched").apply(IMAGES, epoch=1, indices=INDICES)
    theirs = Pipeline([], normalize(), seed=1, backend="albumentations").apply(IMAGES, epoch=1, indices=INDICES)
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=0)


def test_uint8_at_the_end_is_scaled_and_said() -> None:
    pipeline = Pipeline([A.HorizontalFlip(p=1)], [], seed=1)
    out = pipeline.apply(IMAGES, epoch=1, indices=INDICES)
    torch.testing.assert_close(out, IMAGES.flip(2).permute(0, 3, 1, 2) / 255)
    assert any("0..1" in line for line in pipeline.log_lines())


def test_to_tensor_is_refused_with_a_hint() -> None:
    from albumentations.pytorch import ToTensorV2

    with pytest.raises(RecipeError, match="the engine makes tensors"):
        Pipeline([], [ToTensorV2()], seed=1)


def test_backend_batched_names_what_it_lacks_and_why() -> None:
    with pytest.raises(RecipeError, match="Rotate: interpolation 2"):
        Pipeline([A.Rotate(interpolation=cv2.INTER_CUBIC)], [], seed=1, backend="batched")


def test_float_before_preprocess_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"data\.preprocess"):
        Pipeline(normalize(), [], seed=1)


def test_images_of_several_sizes_pass_once_a_transform_gives_them_one() -> None:
    images = [RNG.integers(0, 256, (20 + i, 40 - i, 3), dtype=np.uint8) for i in range(6)]
    pipeline = Pipeline([A.HorizontalFlip(), A.Resize(16, 16), A.Rotate(15)], normalize(), seed=1)
    whole = pipeline.apply(images, epoch=1, indices=torch.arange(6))
    assert whole.shape == (6, 3, 16, 16)
    for i, image in enumerate(images):
        assert torch.equal(pipeline.apply([image], epoch=1, indices=torch.tensor([i])), whole[i : i + 1])


def test_images_that_keep_several_sizes_are_an_error_with_the_way_out() -> None:
    images = [np.zeros((20 + i, 30, 3), np.uint8) for i in range(3)]
    with pytest.raises(DataError, match="Resize"):
        Pipeline([A.HorizontalFlip()], normalize(), seed=1).apply(images, epoch=1, indices=torch.arange(3))
