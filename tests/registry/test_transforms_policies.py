"""torchvision's policies in batches: the same operations, drawn as upstream draws them, with chances that are keyed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pretended_gpu import pretended_gpu
from scipy import stats
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from registry.errors import DataError, RecipeError
from registry.transforms import policies
from registry.transforms.draws import Draws
from registry.transforms.operations import NAMES, Operations, operated
from registry.transforms.policies import AugMix, AutoAugment, Policy, RandAugment, TrivialAugmentWide
from registry.transforms.warp import Sampling
from trainer.data.pipeline import Pipeline
from trainer.recipe.load import load_recipe

ALPHA = 1e-4  # significance of each test; seeds are fixed, so it passes or fails once and for all
HEIGHT, WIDTH = 32, 28  # not square, so that x and y cannot be exchanged unnoticed


def _images() -> Tensor:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (6, 7, 7, 3), dtype=np.uint8)
    smooth = [cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for image in coarse]
    noise = rng.integers(60, 200, (5, HEIGHT, WIDTH, 3), dtype=np.uint8)
    flat = np.full((1, HEIGHT, WIDTH, 3), 77, np.uint8)  # has no contrast to stretch, and one level to equalise
    return torch.from_numpy(np.concatenate([np.stack(smooth), noise, flat]))


IMAGES = _images()
MAGNITUDES = {
    "Identity": [0.0],
    "ShearX": [-0.99, -0.31, 0.1, 0.7],
    "ShearY": [-0.99, -0.31, 0.1, 0.7],
    "TranslateX": [-12.7, 5.0, 40.0],
    "TranslateY": [-12.7, 5.0, 40.0],
    "Rotate": [-135.0, -31.5, 4.5, 90.0, 117.0],
    "Brightness": [-0.99, -0.3, 0.0, 0.5, 0.99],
    "Color": [-0.99, -0.3, 0.0, 0.5, 0.99],
    "Contrast": [-0.99, -0.3, 0.0, 0.5, 0.99],
    "Sharpness": [-0.99, -0.3, 0.0, 0.5, 0.99],
    "Posterize": [0.0, 2.0, 5.0, 8.0],
    "Solarize": [0.0, 0.3333333432674408, 0.5, 1.0],
    "AutoContrast": [0.0],
    "Equalize": [0.0],
    "Invert": [0.0],
}


def upstream_operation(images: Tensor, name: str, magnitude: float, interpolation: str, fill: Any = None) -> Tensor:
    """Return what torchvision makes of images (n, H, W, C)."""
    policy = v2.TrivialAugmentWide(interpolation=InterpolationMode(interpolation), fill=fill)
    planes = images.permute(0, 3, 1, 2).contiguous()
    changed = policy._apply_image_or_video_transform(planes, name, magnitude, policy.interpolation, policy._fill)
    return changed.permute(0, 2, 3, 1)


def test_every_operation_is_among_the_cases() -> None:
    assert set(MAGNITUDES) == set(NAMES)
    spaces = [v2.TrivialAugmentWide, v2.RandAugment, v2.AutoAugment, v2.AugMix]
    assert set().union(*(one._AUGMENTATION_SPACE for one in spaces)) == set(NAMES)


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("form", ["cpu", "torch"])
@pytest.mark.parametrize("name", NAMES)
def test_an_operation_gives_torchvisions_image(name: str, form: str, channels: int) -> None:
    """Grey levels to one, which the order of additions decides; of moved pixels a few, which lie between two."""
    images = IMAGES[..., :channels].contiguous()
    moves = name.startswith(("Shear", "Translate", "Rotate"))
    for interpolation, constant in (("nearest", cv2.INTER_NEAREST), ("bilinear", cv2.INTER_LINEAR)):
        for magnitude in MAGNITUDES[name] if moves or interpolation == "nearest" else ():
            number = torch.full((len(images),), NAMES.index(name))
            operations = Operations(number, torch.full((len(images),), magnitude, dtype=torch.float64))
            sampling = Sampling(constant, cv2.BORDER_CONSTANT, 0)
            if form == "cpu":
                ours = operated(images.clone(), operations, sampling)
            else:
                with pretended_gpu() as gpu:
                    there = Operations(*(part.to("cuda", non_blocking=True) for part in operations))
                    ours = operated(images.to("cuda", non_blocking=True), there, sampling)
                    assert gpu.waits == []
                    ours = ours.cpu()
            theirs = upstream_operation(images, name, magnitude, interpolation)
            off = (ours.int() - theirs.int()).abs()
            assert (off > 1).float().mean() <= (0.01 if moves else 0), (interpolation, magnitude)
            assert off.float().mean() <= (0.5 if moves else 0.01), (interpolation, magnitude)


def test_each_image_of_a_batch_has_its_own_operation() -> None:
    chosen = Draws(1, 1, torch.arange(len(IMAGES)))
    numbers = chosen.integers(0, 0, len(NAMES) - 1)
    operations = Operations(numbers, torch.full((len(IMAGES),), 0.4, dtype=torch.float64))
    together = operated(IMAGES.clone(), operations, Sampling(cv2.INTER_LINEAR, cv2.BORDER_CONSTANT, 0))
    for row, number in enumerate(numbers.tolist()):
        alone = upstream_operation(IMAGES[row : row + 1], NAMES[number], 0.4, "bilinear")
        assert (together[row].int() - alone[0].int()).abs().float().mean() <= 0.5, NAMES[number]


def test_what_comes_in_from_beyond_the_border_has_the_colour_that_is_asked_for() -> None:
    white = torch.full((64, 32, 32, 3), 255, dtype=torch.uint8)
    draws = Draws(1, 1, torch.arange(64))
    seen = [
        {tuple(pixel) for pixel in RandAugment(fill=fill)(white.clone(), draws).view(-1, 3).tolist()}
        for fill in ([9, 120, 30], [40], None)
    ]
    assert (9, 120, 30) in seen[0]
    assert (40, 40, 40) in seen[1]
    assert (0, 0, 0) in seen[2]


# ------------------------------------------------------------------------------------------------------ what is drawn
POLICIES: dict[str, tuple[type[Policy], Any, dict[str, Any]]] = {
    "TrivialAugmentWide": (TrivialAugmentWide, v2.TrivialAugmentWide, {}),
    "TrivialAugmentWide of 5 magnitudes": (TrivialAugmentWide, v2.TrivialAugmentWide, {"num_magnitude_bins": 5}),
    "RandAugment": (RandAugment, v2.RandAugment, {}),
    "RandAugment of 3": (RandAugment, v2.RandAugment, {"num_ops": 3, "magnitude": 4, "num_magnitude_bins": 6}),
    **{
        f"AutoAugment {policy.name}": (AutoAugment, v2.AutoAugment, {"policy": policy})
        for policy in v2.AutoAugmentPolicy
    },
    "AugMix": (AugMix, v2.AugMix, {}),
    "AugMix of long chains": (AugMix, v2.AugMix, {"chain_depth": 4, "mixture_width": 2, "severity": 8}),
    "AugMix of few operations": (AugMix, v2.AugMix, {"all_ops": False}),
}
Done = list[tuple[str, float]]  # what was done to one image, in order


def our_operations(policy: Policy, count: int) -> list[Done]:
    done: list[Done] = []

    def noted(images: Tensor, operations: Operations) -> Tensor:
        for image, number, magnitude in zip(done[-len(images) :], *(part.tolist() for part in operations), strict=True):
            if number:  # upstream calls its Identity too, and ours has it for what is left out
                image.append((NAMES[number], round(magnitude, 5)))
        return images

    policy.operated = noted  # type: ignore[method-assign]
    for indices in torch.arange(count).split(250):
        done += [[] for _ in indices]
        policy(torch.zeros((len(indices), HEIGHT, WIDTH, 3), dtype=torch.uint8), Draws(3, 1, indices))
    return done


def their_operations(policy: Any, count: int) -> list[Done]:
    done: list[Done] = []
    black = torch.zeros((3, HEIGHT, WIDTH), dtype=torch.uint8)

    def noted(image: Tensor, name: str, magnitude: float, interpolation: Any, fill: Any) -> Tensor:
        if name != "Identity":
            done[-1].append((name, round(magnitude, 5)))
        return image

    policy._apply_image_or_video_transform = noted
    torch.manual_seed(7)
    for _ in range(count):
        done.append([])
        policy(black)
    return done


def assert_equally_frequent(ours: list[Any], theirs: list[Any]) -> None:
    """Two-sample chi-squared test over what occurs; what is rare counts as one."""
    mine, other = Counter(ours), Counter(theirs)
    rows = [(mine[key], other[key]) for key in mine | other]
    usual = [row for row in rows if sum(row) >= 10]
    rare = [sum(column) for column in zip(*(row for row in rows if sum(row) < 10), strict=True)] or [0, 0]
    table = np.array([*usual, rare] if sum(rare) >= 10 else usual)
    if len(table) > 1:
        assert stats.chi2_contingency(table.T).pvalue > ALPHA


@pytest.mark.parametrize("case", POLICIES)
def test_operations_and_magnitudes_are_drawn_as_upstream_draws_them(case: str) -> None:
    ours, theirs, arguments = POLICIES[case]
    mine, other = our_operations(ours(**arguments), 1500), their_operations(theirs(**arguments), 600)
    assert_equally_frequent([len(done) for done in mine], [len(done) for done in other])
    for link in range(2):
        assert_equally_frequent(*([done[link] for done in side if len(done) > link] for side in (mine, other)))
    names = [[tuple(name for name, _ in done[:2]) for done in side] for side in (mine, other)]
    assert_equally_frequent(*names)  # what follows on what
    kinds = [{name for image in side for name, _ in image} for side in (mine, other)]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("alpha", [0.1, 1.0, 3.5])
@pytest.mark.parametrize("count", [2, 3])
def test_shares_are_drawn_from_dirichlets_distribution(alpha: float, count: int) -> None:
    shares = policies._shares(Draws(5, 1, torch.arange(4000)), 0, alpha, count).numpy()
    np.testing.assert_allclose(shares.sum(0), 1, atol=1e-5)
    for share in shares:  # each of them has Beta's distribution
        inside = share[(share > 1e-6) & (share < 1 - 1e-6)]  # float32 has no more of what lies near 0 and 1
        expected = stats.beta(alpha, alpha * (count - 1))
        low, high = expected.cdf([1e-6, 1 - 1e-6])
        assert stats.kstest(inside, lambda x: (expected.cdf(x) - low) / (high - low)).pvalue > ALPHA  # noqa: B023


@pytest.mark.parametrize(
    "case", ["TrivialAugmentWide", "RandAugment", "AutoAugment CIFAR10", "AutoAugment SVHN", "AugMix"]
)
def test_mean_and_variance_of_every_pixel_are_upstreams(case: str) -> None:
    """Each pixel's z is a unit normal where the distributions are the same."""
    n, (ours, theirs, arguments) = 300, POLICIES[case]
    image = IMAGES[3]
    mine = ours(**arguments)(image.expand(n, -1, -1, -1).clone(), Draws(1, 1, torch.arange(n))).double()
    policy = theirs(**arguments)
    torch.manual_seed(1)
    planes = image.permute(2, 0, 1).contiguous()
    other = torch.stack([policy(planes) for _ in range(n)]).permute(0, 2, 3, 1).double()
    for moment in (1, 2):
        a, b = (x if moment == 1 else (x - x.mean(0)) ** 2 for x in (mine, other))
        z = (a.mean(0) - b.mean(0)) / ((a.var(0) + b.var(0)) / n).sqrt().clamp(min=1e-9)
        assert z.abs().max() < 6, f"moment {moment}"
        assert (z**2).mean() < 6, f"moment {moment}"  # pixels share their draws


# --------------------------------------------------------------------------------------------------------------- keyed
def every_policy() -> list[Policy]:
    chosen = ("TrivialAugmentWide", "RandAugment", "AutoAugment SVHN", "AugMix")
    return [POLICIES[case][0](**POLICIES[case][2]) for case in chosen]


def test_an_image_meets_the_same_chance_in_any_batch() -> None:
    indices = torch.arange(100, 100 + len(IMAGES))
    for policy in every_policy():
        whole = Pipeline([policy], [], seed=3).uint8(IMAGES, epoch=2, indices=indices)
        part = Pipeline([policy], [], seed=3).uint8(IMAGES[5:8], epoch=2, indices=indices[5:8])
        assert torch.equal(whole[5:8], part)
        singly = Pipeline([policy], [], seed=3).uint8(list(IMAGES.numpy()), epoch=2, indices=indices)
        assert torch.equal(whole, singly)  # as images of several sizes pass


def test_seed_epoch_image_and_place_each_change_what_is_drawn() -> None:
    same, indices = IMAGES[3].expand(24, -1, -1, -1), torch.arange(24)
    for policy in every_policy():
        base = policy(same.clone(), Draws(1, 1, indices))
        for other in (Draws(2, 1, indices), Draws(1, 2, indices), Draws(1, 1, indices + 24), Draws(1, 1, indices, 1)):
            assert not torch.equal(base, policy(same.clone(), other))


def test_the_form_for_gpus_gives_the_same_and_waits_for_nothing() -> None:
    indices = torch.arange(len(IMAGES))
    for policy in every_policy():
        here = Pipeline([policy], [], seed=1).uint8(IMAGES, epoch=1, indices=indices)
        with pretended_gpu() as gpu:
            pipeline = Pipeline([policy], [], seed=1, device="cuda")
            images, places = (each.to("cuda", non_blocking=True) for each in (IMAGES, indices))
            there = pipeline.uint8(images, epoch=1, indices=places)
            assert gpu.waits == []
            off = (there.cpu().int() - here.int()).abs()
        assert (off > 2).float().mean() < 0.01
        assert off.float().mean() < 0.5


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (7, 3)])
def test_images_of_any_shape_pass(size: tuple[int, int]) -> None:
    for channels in (3, 1):
        images = torch.randint(0, 256, (40, *size, channels), dtype=torch.uint8)
        for policy in every_policy():
            assert policy(images.clone(), Draws(1, 1, torch.arange(40))).shape == images.shape
            assert len(policy(images[:0].clone(), Draws(1, 1, torch.arange(0)))) == 0


# ----------------------------------------------------------------------------------------------------------- in recipes
RECIPE = """version: 1
data:
  dataset: Shapes
  augment: [AUGMENT]
model: SmallCNN
optimizer: {type: SGD, lr: 0.1}
train: {epochs: 1}
"""


def said(tmp_path: Path, augment: str, before: str = "", after: str = "") -> list[str]:
    text = RECIPE.replace("[AUGMENT]", f"[{augment}]").replace(before, after, 1)
    (tmp_path / "recipe.yaml").write_text(text)
    loaded = load_recipe(tmp_path / "recipe.yaml")
    return [str(each).partition("recipe.yaml:")[2] for each in (*loaded.problems, *loaded.warnings)]


@pytest.mark.parametrize(
    "augment",
    [
        "TrivialAugmentWide",
        "{type: RandAugment, num_ops: 3, magnitude: 12, fill: [125, 122, 113]}",
        "{type: AutoAugment, policy: CIFAR10, interpolation: bilinear}",
        "{type: AugMix, severity: 5, all_ops: false, alpha: 0.5}",
        '{type: "torchvision.transforms.v2:RandAugment"}',
    ],
)
def test_a_recipe_names_a_policy_as_upstream_does(augment: str, tmp_path: Path) -> None:
    assert said(tmp_path, augment) == []


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (
            "TrivialAugment",
            "4:13: there is no transform 'TrivialAugment' (here it is 'TrivialAugmentWide') [R020]",
        ),
        (
            "{type: RandAugment, p: 0.5}",
            "4:33: transform RandAugment takes no argument 'p' "
            "(use nothing: it acts on every image, and chance leaves some as they are) [R021]",
        ),
        (
            "{type: RandAugment, m: 9}",
            "4:33: transform RandAugment takes no argument 'm' (renamed: use 'magnitude') [R021]",
        ),
        (
            "{type: AutoAugment, policy: cifar10}",
            "4:41: transform AutoAugment.policy: expected 'IMAGENET', 'CIFAR10' or 'SVHN', got 'cifar10' "
            "(did you mean 'CIFAR10'?) [R019]",
        ),
        (
            "{type: AugMix, severity: 11}",
            "4:38: transform AugMix.severity: expected integer from 1 to 10, got 11 (default 3) [R017]",
        ),
        (
            "{type: RandAugment, num_ops: 1000000}",
            "4:42: warning: data.augment.0.num_ops: 1e+06 is far from what RandAugment is used with (1 to 10) [W040]",
        ),
        (
            "{type: OneOf, transforms: [HorizontalFlip, RandAugment]}",
            "4:56: transform OneOf.transforms: RandAugment works on whole batches, it cannot stand in a group "
            "(put it into the list itself, before or after the group) [R206]",
        ),
        (
            "{type: RandAugment, interpolation: bicubic}",
            "4:48: transform RandAugment.interpolation: expected 'nearest' or 'bilinear', got 'bicubic' "
            "(default 'nearest') [R019]",
        ),
    ],
)
def test_what_a_policy_does_not_take_is_answered(augment: str, message: str, tmp_path: Path) -> None:
    assert said(tmp_path, augment) == [message]


def test_a_policy_that_is_looked_for_elsewhere_is_found(tmp_path: Path) -> None:
    mix = said(tmp_path, "", "{epochs: 1}", "{epochs: 1, mix: AugMix}")
    assert mix[0].endswith("there is no mix 'AugMix' (AugMix is a transform) [R020]")
    key = said(tmp_path, "", "{epochs: 1}", "{epochs: 1, auto_augment: randaugment}")
    assert "name it in data.augment: TrivialAugmentWide, RandAugment, AutoAugment or AugMix" in key[0]
    late = said(tmp_path, "", "augment: []", "preprocess: [{type: Normalize}, RandAugment]")
    assert late[0].endswith("(put it before Normalize) [R104]")


def test_a_magnitude_beyond_the_last_is_refused() -> None:
    with pytest.raises(RecipeError, match="magnitude 31 is none of 31 magnitudes") as error:
        RandAugment(magnitude=31)
    assert error.value.hint.startswith("they count from 0 to 30")


def test_a_policy_takes_grey_levels_alone() -> None:
    with pytest.raises(DataError, match=r"RandAugment works on grey levels 0\.\.255 and was given torch\.float32"):
        RandAugment()(IMAGES.float(), Draws(1, 1, torch.arange(len(IMAGES))))
