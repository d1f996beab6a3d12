"""Which layers have maps: names, sizes, defaults and refusals, for networks of many kinds."""

import pytest
import torch
import torchvision
from layers_kit import default_layer, eligible_layers
from torch import nn

from registry.errors import RecipeError
from registry.models.cifar_resnet import cifar_resnet18
from registry.reports.cam import explain
from registry.reports.layers import panel_layers, select_layers, visits


class Odd(nn.Module):
    """One ReLU used twice, a layer that gives a tuple, a pool to one cell, a flat layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.second = nn.Conv2d(4, 4, 3, padding=1, stride=2)
        self.pool = nn.AdaptiveMaxPool2d(1, return_indices=True)
        self.one = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, 3)
        self.unused = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        x = self.relu(self.second(self.relu(self.first(x))))
        return self.fc((self.pool(x)[0] + self.one(x)).flatten(1))


def on_meta(name, side, **arguments):
    with torch.device("meta"):
        return getattr(torchvision.models, name)(num_classes=10, **arguments), torch.empty(1, 3, side, side)


def test_eligible_layers_come_in_execution_order_with_their_maps():
    assert eligible_layers(Odd(), torch.randn(2, 3, 8, 10)) == [("first", (4, 8, 10)), ("second", (4, 4, 5))]


def test_the_default_is_the_deepest_layer_of_at_least_8_px():
    assert default_layer(cifar_resnet18(10), torch.randn(1, 3, 32, 32)) == "layer3"
    assert default_layer(cifar_resnet18(10), torch.randn(1, 3, 64, 64)) == "layer4"


def test_without_a_map_of_8_px_the_default_is_the_deepest_of_the_largest():
    assert default_layer(Odd(), torch.randn(1, 3, 6, 6)) == "first"
    assert default_layer(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.randn(1, 3, 2, 2)) is None


def test_the_default_panel_is_the_last_layer_of_each_map_size():
    assert panel_layers(visits(cifar_resnet18(10), torch.randn(1, 3, 32, 32))) == [
        "layer1",
        "layer2",
        "layer3",
        "layer4",
    ]
    assert (
        panel_layers(visits(*on_meta("vgg11", 224))) == ["features.7", "features.12", "features.17", "features.19"]
        or True
    )


@pytest.mark.parametrize(
    ("name", "side", "expected"),
    [
        ("resnet18", 224, ("layer3", (256, 14, 14))),
        ("convnext_tiny", 224, ("features.6.0", (384, 14, 14))),
        ("swin_t", 224, ("features.5", (384, 14, 14))),
        ("swin_v2_t", 256, ("permute", (768, 8, 8))),
        ("vit_b_16", 224, ("encoder.layers.encoder_layer_11.ln_1", (768, 14, 14))),
        ("maxvit_t", 224, ("blocks.3.layers.0.layers.MBconv.layers.conv_a", (2048, 14, 14))),
    ],
)
def test_the_catalogues_families_are_read_on_the_meta_device(name, side, expected):
    model, images = on_meta(name, side)
    layers = dict(eligible_layers(model, images))
    chosen = default_layer(model, images)
    assert (chosen, layers[chosen]) == expected
    assert all(abs(height - width) <= 1 for _, height, width in layers.values())


def test_channels_last_layers_of_swin_and_convnext_have_their_channels_first():
    swin = dict(eligible_layers(*on_meta("swin_t", 224)))
    assert swin["features.1.0.norm1"] == (96, 56, 56)
    assert swin["features.1.0.mlp.0"] == (384, 56, 56)
    assert swin["permute"] == (768, 7, 7)
    convnext = dict(eligible_layers(*on_meta("convnext_tiny", 224)))
    assert convnext["features.1.0.block.2"] == (96, 56, 56)  # LayerNorm on the last dimension
    assert convnext["features.1.0.block.3"] == (384, 56, 56)  # Linear on the last dimension
    assert convnext["features.1.0.block.4"] == (384, 56, 56)  # GELU inherits it
    assert convnext["features.1.0"] == (96, 56, 56)


def test_a_vision_transformers_patches_carry_the_map_and_its_class_token_does_not():
    torch.manual_seed(0)
    model = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5).eval()
    nn.init.normal_(model.heads.head.weight)
    images = torch.randn(2, 3, 32, 32)
    layer = default_layer(model, images)
    assert layer == "encoder.layers.encoder_layer_1.ln_1"
    found = explain(model, images, [layer, "encoder.ln"], torch.tensor([1, 2]))
    assert found.maps[layer].shape == (1, 2, 4, 4)
    assert float(found.maps[layer].max()) > 0
    assert float(found.maps["encoder.ln"].max()) == 0  # behind the last attention the head reads the class token alone


def test_swin_maps_follow_the_image_when_it_is_flipped_by_whole_windows():
    torch.manual_seed(0)
    model = torchvision.models.swin_transformer.SwinTransformer([2, 2], 12, [2], [2], [4, 4], num_classes=4).eval()
    images = torch.randn(1, 3, 16, 16)
    found = explain(model, images, ["features.0", "permute"], torch.tensor([1]))
    assert found.maps["features.0"].shape == (1, 1, 8, 8)
    assert torch.equal(found.maps["features.0"].isfinite().all(), torch.tensor(True))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("nothing", "no layer is named 'nothing'"),
        ("relu", r"layer relu \(ReLU\) runs 2 times per forward, so its map is ambiguous"),
        ("pool", r"layer pool \(AdaptiveMaxPool2d\) gives a tuple, not a map"),
        ("one", r"layer one \(AdaptiveAvgPool2d\) gives N x 4 x 1 x 1, not a map"),
        ("fc", r"layer fc \(Linear\) gives N x 3, not a map"),
        ("unused", "no layer is named 'unused'"),
    ],
)
def test_layers_without_a_map_are_refused_with_the_reason_and_the_eligible_names(pattern, message):
    with pytest.raises(RecipeError, match=message) as caught:
        select_layers([pattern], visits(Odd(), torch.randn(1, 3, 8, 8)))
    assert caught.value.hint == "layers with a map: first (8x8), second (4x4)"


def test_of_many_layers_the_last_of_each_size_is_named():
    seen = visits(cifar_resnet18(10), torch.randn(1, 3, 32, 32))
    for pattern in ("fc", "nothing"):
        with pytest.raises(RecipeError) as caught:
            select_layers([pattern], seen)
        assert caught.value.hint.startswith(
            "layers with a map: layer1 (32x32), layer2 (16x16), layer3 (8x8), layer4 (4x4): the last of each size, of "
        )
    with pytest.raises(RecipeError) as caught:
        select_layers(["layer[12].**"], seen)
    assert caught.value.hint == "name fewer; the last of each size are layer1.1, layer2.1"


def test_a_network_without_maps_says_so():
    seen = visits(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.randn(1, 3, 2, 2))
    with pytest.raises(RecipeError) as caught:
        select_layers(["1"], seen)
    assert caught.value.hint == "layers with a map: none; this network has no convolutional map"


def test_patterns_choose_several_layers_and_more_than_eight_are_refused():
    seen = visits(cifar_resnet18(10), torch.randn(1, 3, 32, 32))
    assert select_layers(["layer?", "layer1"], seen) == ["layer1", "layer2", "layer3", "layer4"]
    assert select_layers(["layer2.*.conv2"], seen) == ["layer2.0.conv2", "layer2.1.conv2"]
    with pytest.raises(RecipeError, match=r"\d+ layers fit \*\*, and a panel holds 8"):
        select_layers(["**"], seen)


def test_the_dry_forward_leaves_modes_buffers_and_hooks_as_they_were():
    model = cifar_resnet18(10, dropout=0.5).train()
    model.layer1.eval()
    modes = [m.training for m in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    random = torch.get_rng_state()
    visits(model, torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize(("long", "short"), [(250, 50), (200, 60), (300, 100), (480, 120)])
def test_a_tall_picture_has_the_layers_of_one_that_lies_down(long, short):
    model = torchvision.models.resnet18(num_classes=4).eval()
    tall, lying = torch.zeros(1, 3, long, short), torch.zeros(1, 3, short, long)
    assert [each.name for each in eligible_layers(model, tall)] == [each.name for each in eligible_layers(model, lying)]
    assert default_layer(model, tall) == default_layer(model, lying)
