"""SpeedNet: what `prepare` does, how it starts, and every argument's effect."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from registry.models.speed_net import SpeedNet


def correlated_images(count: int = 300, channels: int = 3) -> Tensor:
    """Images whose neighbouring pixels and channels resemble each other, as in photographs."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(count, channels, 8, 8, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=32, mode="bilinear", align_corners=False)
    return smooth + 0.5 * smooth.mean(1, keepdim=True) + 0.05 * torch.randn(smooth.shape, generator=generator)


@pytest.mark.parametrize("size", [2, 3])
def test_prepare_makes_responses_uncorrelated_and_of_equal_size(size: int) -> None:
    images = correlated_images()
    model = SpeedNet(10, whiten_size=size, whiten_eps=1e-9)
    model.prepare(images)
    half = model.whiten.out_channels // 2
    with torch.no_grad():
        responses = model.whiten(images)[:, :half].transpose(0, 1).flatten(1)  # (filters, positions)
    moments = responses @ responses.mT / responses.shape[1]
    torch.testing.assert_close(moments, torch.eye(half), atol=0.02, rtol=0)


def test_each_whitening_filter_has_its_negative() -> None:
    model = SpeedNet(10)
    model.prepare(correlated_images())
    first, second = model.whiten.weight.chunk(2)
    assert torch.equal(first, -second)


def test_prepare_does_not_depend_on_the_memory_format_and_leaves_the_rest_alone() -> None:
    torch.manual_seed(0)
    one, other = SpeedNet(10), SpeedNet(10)
    other.load_state_dict(one.state_dict())
    images = correlated_images()
    one.prepare(images)
    other.prepare(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(one.whiten.weight.abs(), other.whiten.weight.abs(), atol=1e-3, rtol=1e-3)
    for name, value in one.named_parameters():
        if name != "whiten.weight":
            assert torch.equal(value, other.state_dict()[name])


def test_a_larger_whiten_eps_damps_weak_directions() -> None:
    images = correlated_images()
    norms = []
    for eps in (1e-6, 1e-1):
        model = SpeedNet(10, whiten_eps=eps)
        model.prepare(images)
        norms.append(model.whiten.weight.norm().item())
    assert norms[1] < norms[0]


def test_whitening_filters_and_norm_scales_do_not_learn() -> None:
    frozen = {name for name, p in SpeedNet(10).named_parameters() if not p.requires_grad}
    norms = {f"stages.layer{stage}.{place}.weight" for stage in (1, 2, 3) for place in (2, 5)}
    assert frozen == {"whiten.weight"} | norms


def test_convolutions_start_by_passing_their_input_through() -> None:
    model = SpeedNet(10)
    convolution = model.get_submodule("stages.layer2.0")
    images = torch.randn(1, 64, 8, 8)
    torch.testing.assert_close(convolution(images)[:, :64], images)


@pytest.mark.parametrize(
    ("arguments", "key", "shape"),
    [
        ({"num_classes": 7}, "head.weight", (7, 256)),
        ({"in_channels": 1}, "whiten.weight", (8, 1, 2, 2)),
        ({"widths": (32, 48)}, "stages.layer2.0.weight", (48, 32, 3, 3)),
        ({"whiten_size": 3}, "whiten.weight", (54, 3, 3, 3)),
    ],
)
def test_each_size_argument_changes_its_layer(arguments: dict[str, object], key: str, shape: tuple[int, ...]) -> None:
    model = SpeedNet(**{"num_classes": 10, **arguments}).eval()  # type: ignore[arg-type]
    assert model.state_dict()[key].shape == shape
    with torch.no_grad():
        assert model(torch.randn(2, model.whiten.in_channels, 32, 32)).shape == (2, model.head.out_features)


def test_the_logit_scale_scales_the_logits() -> None:
    one, other = SpeedNet(10, logit_scale=1.0).eval(), SpeedNet(10, logit_scale=0.5).eval()
    other.load_state_dict(one.state_dict())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(other(images), one(images) / 2)


def test_the_norm_momentum_is_the_share_of_the_newest_batch() -> None:
    model = SpeedNet(10, norm_momentum=0.7)
    assert {module.momentum for module in model.modules() if isinstance(module, nn.BatchNorm2d)} == {0.7}


def test_it_has_two_million_parameters_and_builds_without_memory() -> None:
    with torch.device("meta"):
        model = SpeedNet(10)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(1.97e6, rel=0.01)
    assert model(torch.zeros(1, 3, 32, 32, device="meta")).shape == (1, 10)
