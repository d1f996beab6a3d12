"""The pipeline: who runs what, keyed chance, and the form of what comes out."""

from __future__ import annotations

import albumentations as A
import cv2
import numpy as np
import pytest
import torch

from registry.errors import DataError, RecipeError
from registry.transforms.flips import AlternatingFlip
from trainer.data.pipeline import Pipeline
from trainer.data.singly import naming

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
    assert (ours - theirs).abs().max() < 2e-6


def test_uint8_at_the_end_is_scaled_and_said() -> None:
    pipeline = Pipeline([A.HorizontalFlip(p=1)], [], seed=1)
    out = pipeline.apply(IMAGES, epoch=1, indices=INDICES)
    assert (out * 255 - IMAGES.flip(2).permute(0, 3, 1, 2)).abs().max() < 1e-4
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


@pytest.mark.parametrize("inside", [A.Sequential([A.Normalize()]), A.OneOf([A.ToFloat(), A.NoOp()], p=1)])
@pytest.mark.parametrize("one_size", [True, False])
def test_float_that_a_transform_makes_before_preprocess_is_refused_when_it_is_made(inside, one_size) -> None:
    several = [RNG.integers(0, 256, (20 + i, 40 - i, 3), dtype=np.uint8) for i in range(6)]
    images = IMAGES[:6] if one_size else several
    pipeline = Pipeline([A.Resize(16, 16), inside], [], seed=1)
    with pytest.raises(RecipeError, match="makes float32, but augment and eval keep uint8"):
        pipeline.apply(images, epoch=1, indices=torch.arange(6))


def test_only_what_leaves_every_pixel_where_it_is_keeps_what_is_told_of_places() -> None:
    class Own:
        def __call__(self, images: torch.Tensor, draws: object) -> torch.Tensor:
            return images

    colours = [A.ColorJitter(p=1), A.OneOf([A.ToGray(), A.Posterize()], p=0.5)]
    assert Pipeline(colours, normalize(), seed=1).keeps_places
    for moving in (A.CenterCrop(24, 24), A.HorizontalFlip(), A.OneOf([A.ToGray(), A.Rotate(15)]), Own()):
        assert not Pipeline([*colours, moving], normalize(), seed=1).keeps_places


def test_what_works_in_place_acts_behind_a_transform_that_gives_another_view() -> None:
    class Turned:
        def __call__(self, images: torch.Tensor, draws: object) -> torch.Tensor:
            return torch.rot90(images, 1, (1, 2))

    class Trimmed:
        def __call__(self, images: torch.Tensor, draws: object) -> torch.Tensor:
            return images[:, 2:-2, 2:-2]

    for first in (Turned(), Trimmed()):
        plain = Pipeline([first], [], seed=1).uint8(IMAGES, epoch=1, indices=INDICES)
        for second in (A.CoarseDropout(p=1), A.RandomBrightnessContrast((0.3, 0.3), (0, 0), p=1)):
            done = Pipeline([first, second], [], seed=1, backend="auto").uint8(IMAGES, epoch=1, indices=INDICES)
            assert (done != plain).flatten(1).any(dim=1).all()


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


def every_batched() -> list[A.BasicTransform]:
    """One of each transform that has a batched version and keeps 32x32."""
    return [
        *s10(),
        A.VerticalFlip(),
        A.ColorJitter(),
        A.RandomBrightnessContrast(),
        A.ToGray(p=0.2),
        A.Affine(scale=(0.8, 1.2), rotate=20),
        A.GaussNoise(),
        A.PadIfNeeded(40, 40, border_mode=cv2.BORDER_REFLECT_101),
        A.RandomCrop(36, 36),
        A.CenterCrop(34, 34),
        A.RandomResizedCrop((32, 32)),
        A.RandomCropFromBorders(),
        A.Resize(32, 32),
    ]


@pytest.mark.parametrize("channels", [3, 1])
def test_every_batched_transform_takes_rgb_and_grey_and_gives_the_same_in_any_chunk(channels: int) -> None:
    images = IMAGES[..., :channels].contiguous()
    stages = [t for t in every_batched() if not isinstance(t, A.CoarseDropout)]
    pipeline = Pipeline(stages, [A.Normalize(mean=(0.5,), std=(0.25,))], seed=1, backend="batched")
    whole = pipeline.apply(images, epoch=1, indices=INDICES)
    assert whole.shape == (24, channels, 32, 32)
    for part in torch.arange(24).split(5):
        assert torch.equal(pipeline.apply(images[part], epoch=1, indices=INDICES[part]), whole[part])


@pytest.mark.parametrize(
    "transform",
    [
        A.OneOf([A.HorizontalFlip(p=1), A.GaussNoise(p=1), A.MotionBlur(p=1)], p=0.8),
        A.SomeOf([A.VerticalFlip(p=1), A.RandomGamma(p=1), A.Posterize(p=1)], n=2, p=0.8),
        A.ElasticTransform(alpha=20, p=1),
        A.GaussNoise(noise_scale_factor=0.5, p=1),
        A.CoarseDropout(fill="random", p=1),
    ],
    ids=lambda t: type(t).__name__,
)
def test_albumentations_draws_by_key_too(transform: A.BasicTransform) -> None:
    pipeline = Pipeline([A.HorizontalFlip(), transform, A.Rotate()], [], seed=1)
    assert any(line.startswith(f"{type(transform).__name__} runs by Albumentations") for line in pipeline.log_lines())
    whole = pipeline.uint8(IMAGES, epoch=1, indices=INDICES)
    for row in (23, 0, 11):
        alone = pipeline.uint8(IMAGES[row : row + 1], epoch=1, indices=INDICES[row : row + 1])
        assert torch.equal(alone[0], whole[row])
    again = pipeline.uint8(IMAGES, epoch=2, indices=INDICES)
    assert (again != whole).any()


def test_transforms_run_in_the_order_of_the_recipe_across_backends() -> None:
    white = torch.full((4, 32, 32, 3), 255, dtype=torch.uint8)
    stages = [A.Pad(4, fill=0), A.InvertImg(p=1), A.CenterCrop(8, 8), A.Pad(1, fill=9)]
    out = Pipeline(stages, [], seed=1).uint8(white, epoch=1, indices=torch.arange(4))
    assert out.shape == (4, 10, 10, 3)
    assert (out[:, 0] == 9).all()
    assert (out[:, 1:-1, 1:-1] == 0).all()


def test_a_crop_of_many_sizes_and_its_resize_run_by_either_backend() -> None:
    stages = [A.RandomCropFromBorders(), A.Resize(16, 20)]
    for backend in ("batched", "albumentations"):
        pipeline = Pipeline(stages, [], seed=1, backend=backend)
        assert pipeline.uint8(IMAGES, epoch=1, indices=INDICES).shape == (24, 16, 20, 3)
    several = [RNG.integers(0, 256, (20 + i, 40 - i, 3), dtype=np.uint8) for i in range(6)]
    assert Pipeline(stages, [], seed=1).uint8(several, epoch=1, indices=torch.arange(6)).shape == (6, 16, 20, 3)


def test_our_own_transform_runs_in_any_backend_and_on_images_of_several_sizes() -> None:
    for backend in ("batched", "albumentations"):
        pipeline = Pipeline([AlternatingFlip()], [], seed=1, backend=backend)
        odd, even = (pipeline.uint8(IMAGES, epoch=epoch, indices=INDICES) for epoch in (1, 2))
        assert torch.equal(odd, even.flip(2))
    several = [RNG.integers(0, 256, (20 + i, 40 - i, 3), dtype=np.uint8) for i in range(6)]
    pipeline = Pipeline([AlternatingFlip(), A.Resize(16, 16)], [], seed=1)
    assert pipeline.uint8(several, epoch=1, indices=torch.arange(6)).shape == (6, 16, 16, 3)


@pytest.mark.parametrize(
    ("preprocess", "sizes"),
    [
        ([A.Resize(16, 20), A.Normalize()], [(16, 20), (16, 20)]),
        ([A.LongestMaxSize(24), A.PadIfNeeded(24, 24), A.Normalize()], [(24, 24), (24, 24)]),
        ([A.ToFloat(), A.Resize(16, 20)], [(30, 40), (50, 20)]),
        ([A.Normalize()], [(30, 40), (50, 20)]),
        ([], [(30, 40), (50, 20)]),
    ],
)
def test_images_of_any_sizes_are_shown_as_they_last_are_in_grey_levels(preprocess, sizes) -> None:
    several = [RNG.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((30, 40), (50, 20))]
    shown = Pipeline([A.InvertImg(p=1)], preprocess, seed=1).shown(several, epoch=1, indices=torch.arange(2))
    assert [image.shape[:2] for image in shown] == sizes
    assert all(image.dtype == np.uint8 for image in shown)
    if sizes[0] == (30, 40):
        assert all(np.array_equal(image, 255 - before) for image, before in zip(shown, several, strict=True))


def test_images_are_shown_as_training_has_them_with_the_same_draws() -> None:
    pipeline = Pipeline(s10(), [A.Normalize()], seed=3)
    shown = pipeline.shown(IMAGES, epoch=2, indices=INDICES)
    assert np.array_equal(np.stack(shown), pipeline.uint8(IMAGES, epoch=2, indices=INDICES).numpy())
    assert pipeline.shown([], epoch=2, indices=INDICES[:0]) == []


def test_nothing_is_said_of_scaling_where_a_transform_of_ones_own_makes_float() -> None:
    class Halved:
        def __call__(self, images: torch.Tensor, draws: object) -> torch.Tensor:
            return images.float() / 510

    pipeline = Pipeline([], [Halved()], seed=1)
    assert pipeline.apply(IMAGES, epoch=1, indices=INDICES).max() <= 0.5
    assert not any("makes float" in line for line in pipeline.log_lines())


def test_what_ones_own_transform_raises_names_the_transform_and_the_image() -> None:
    class Picky:
        def __call__(self, images: torch.Tensor, draws: object) -> torch.Tensor:
            if images.shape[1] < 20:
                raise ValueError("too low")
            return images

    several = [np.zeros((30 - i, 40, 3), np.uint8) for i in range(12)]
    pipeline = Pipeline([Picky(), A.Resize(16, 16)], [], seed=1)
    with (
        pytest.raises(DataError, match=r"picture 111: Picky cannot transform an image of shape \(19, 40, 3\)"),
        naming(lambda index: f"picture {index}", torch.arange(100, 112)),
    ):
        pipeline.apply(several, epoch=1, indices=torch.arange(12))


def test_what_upstream_cannot_transform_is_an_error_with_its_shape() -> None:
    pipeline = Pipeline([A.RandomCrop(64, 64, p=0.999999)], [], seed=1)
    with pytest.raises(DataError, match=r"RandomCrop cannot transform an image of shape \(32, 32, 3\)"):
        pipeline.apply(IMAGES, epoch=1, indices=INDICES)


def test_preprocess_draws_apart_from_augment() -> None:
    pipeline = Pipeline([A.HorizontalFlip()], [A.HorizontalFlip()], seed=1)
    once = pipeline.uint8(IMAGES, epoch=1, indices=INDICES)
    twice = pipeline.apply(IMAGES, epoch=1, indices=INDICES)
    unchanged = ((twice * 255).round().byte() == IMAGES.permute(0, 3, 1, 2)).flatten(1).all(1)
    assert 0 < unchanged.sum() < 24
    assert not torch.equal(once, IMAGES)


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@gpu
def test_a_gpu_agrees_with_the_cpu() -> None:
    here = Pipeline(every_batched(), normalize(), seed=1, backend="batched")
    there = Pipeline(every_batched(), normalize(), seed=1, backend="batched", device="cuda")
    one = here.apply(IMAGES, epoch=1, indices=INDICES)
    other = there.apply(IMAGES.cuda(), epoch=1, indices=INDICES.cuda()).cpu()
    grey_levels = (one - other).abs() * 255 * 0.2
    assert grey_levels.mean() <= 0.5
    assert (grey_levels <= 2).float().mean() >= 0.995


@gpu
def test_a_gpu_is_never_waited_for() -> None:
    pipeline = Pipeline(every_batched(), normalize(), seed=1, backend="batched", device="cuda")
    images, indices = IMAGES.cuda(), INDICES.cuda()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        pipeline.apply(images, epoch=1, indices=indices)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@gpu
def test_what_albumentations_runs_is_brought_to_the_cpu_and_back() -> None:
    stages = [A.HorizontalFlip(), A.InvertImg(p=1), A.VerticalFlip()]
    here = Pipeline(stages, [], seed=1).uint8(IMAGES, epoch=1, indices=INDICES)
    there = Pipeline(stages, [], seed=1, device="cuda").uint8(IMAGES.cuda(), epoch=1, indices=INDICES.cuda())
    assert there.is_cuda
    assert torch.equal(here, there.cpu())


# --------------------------------------------------------------------------------------------------- where batches lose
@pytest.mark.parametrize(("side", "who"), [(48, "batched"), (49, "albumentations")])
def test_what_is_slower_in_batches_of_large_images_runs_by_albumentations_there(side, who):
    images = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, side, side, 3), dtype=np.uint8))
    jitter, indices = [A.ColorJitter(p=1)], torch.arange(3)
    made = Pipeline(jitter, [], seed=5).uint8(images, epoch=1, indices=indices)
    expected = Pipeline(jitter, [], seed=5, backend=who).uint8(images, epoch=1, indices=indices)
    assert torch.equal(made, expected)


def test_it_runs_where_images_are_read_once_they_have_one_size_and_the_log_says_so():
    crop, jitter, flip = A.RandomResizedCrop((64, 64)), A.ColorJitter(p=1), A.HorizontalFlip()
    pipeline = Pipeline([crop, jitter, flip], [A.Normalize()], seed=5)
    assert [single.name for single in pipeline.ahead] == ["RandomResizedCrop", "ColorJitter"]
    images = [np.random.default_rng(index).integers(0, 256, (90 + index, 80, 3), dtype=np.uint8) for index in range(3)]
    indices = torch.arange(3)
    begun = images
    for single, keys in zip(pipeline.ahead, zip(*pipeline.keys(epoch=1, indices=indices), strict=True), strict=True):
        begun = single(begun, keys)
    assert torch.equal(
        pipeline.apply(begun, epoch=1, indices=indices, begun=True), pipeline.apply(images, epoch=1, indices=indices)
    )
    assert "ColorJitter runs by Albumentations on images of more than 2,304 pixels, where it is faster" in (
        pipeline.log_lines()
    )
    small = Pipeline([A.RandomResizedCrop((32, 32)), jitter, flip], [A.Normalize()], seed=5)
    assert [single.name for single in small.ahead] == ["RandomResizedCrop"]
