"""The residual networks hold the facts of the S10 experiment: sizes, initialisation, and where dropout acts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from registry.models.cifar_resnet import cifar_resnet18, cifar_resnet34, cifar_resnet50

BUILDERS = [cifar_resnet18, cifar_resnet34, cifar_resnet50]


def named_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    return dict(model.named_parameters())


def called_modules(model: nn.Module, images: Tensor) -> list[str]:
    """Names of the leaf modules in the order in which a forward pass calls them."""
    names: list[str] = []
    for name, module in model.named_modules():
        if not list(module.children()):
            module.register_forward_hook(lambda *_, name=name: names.append(name))
    model(images)
    return names


def test_resnet18_has_the_parameters_of_the_original() -> None:
    parameters = named_parameters(cifar_resnet18(10))
    assert len(parameters) == 62
    assert sum(p.numel() for p in parameters.values()) == 11_173_962


def test_resnet18_starts_with_the_weight_sums_of_the_original() -> None:
    torch.manual_seed(1)
    parameters = list(cifar_resnet18(10).parameters())
    assert sum(p.abs().sum().item() for p in parameters) == pytest.approx(109_400, abs=150)
    assert sum(p.norm().item() for p in parameters) == pytest.approx(458.7, abs=0.5)


@pytest.mark.parametrize(("build", "millions"), [(cifar_resnet34, 21.282), (cifar_resnet50, 23.521)])
def test_deeper_networks_have_their_published_size(build: Callable[..., nn.Module], millions: float) -> None:
    assert sum(p.numel() for p in build(10).parameters()) / 1e6 == pytest.approx(millions, abs=5e-4)


@pytest.mark.parametrize("build", BUILDERS)
def test_stages_have_maps_of_32_16_8_and_4_pixels(build: Callable[..., nn.Module]) -> None:
    model = build(7, in_channels=1).eval()
    sizes: dict[str, int] = {}
    for name in ("layer1", "layer2", "layer3", "layer4"):
        model.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, name=name: sizes.update({name: out.shape[-1]})
        )
    with torch.no_grad():
        assert model(torch.randn(2, 1, 32, 32)).shape == (2, 7)
    assert sizes == {"layer1": 32, "layer2": 16, "layer3": 8, "layer4": 4}


@pytest.mark.parametrize("build", BUILDERS)
def test_no_module_is_called_twice(build: Callable[..., nn.Module]) -> None:
    with torch.no_grad():
        names = called_modules(build(10).eval(), torch.randn(1, 3, 32, 32))
    assert len(names) == len(set(names))


@pytest.mark.parametrize("build", BUILDERS)
def test_dropout_follows_the_stems_relu_and_each_blocks_first_relu_only(build: Callable[..., nn.Module]) -> None:
    model = build(10, dropout=0.5)
    blocks = sum(len(model.get_submodule(f"layer{i}")) for i in range(1, 5))  # type: ignore[arg-type]
    with torch.no_grad():
        names = called_modules(model, torch.randn(2, 3, 32, 32))
    dropouts = [position for position, name in enumerate(names) if name.endswith("dropout")]
    assert len(dropouts) == 1 + blocks
    for position in dropouts:
        block, _, leaf = names[position - 1].rpartition(".")
        assert leaf == ("relu1" if block else "relu")
        assert isinstance(model.get_submodule(names[position]), nn.Dropout)


def test_dropout_acts_in_training_and_is_off_in_eval() -> None:
    model = cifar_resnet18(10, dropout=0.5)
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        assert not torch.equal(model(images), model(images))
        model.eval()
        assert torch.equal(model(images), model(images))


@pytest.mark.parametrize("place", ["dropout", "layer1.0.dropout", "layer4.1.dropout"])
def test_dropout_zeroes_the_share_that_was_asked_for(place: str) -> None:
    module = cifar_resnet18(10, dropout=0.15).get_submodule(place)
    share = (module(torch.ones(100_000)) == 0).float().mean().item()
    assert share == pytest.approx(0.15, abs=0.01)


def test_convolutions_have_no_bias_and_the_head_has_one() -> None:
    model = cifar_resnet18(10)
    assert all(m.bias is None for m in model.modules() if isinstance(m, nn.Conv2d))
    assert isinstance(model.fc, nn.Linear)
    assert model.fc.bias is not None
