"""Class-activation maps against exact numbers, an independent implementation, and the identities they must keep."""

import copy

import pytest
import torch
import torch.nn.functional as F
import torchvision
from captum.attr import LayerGradCam
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from registry.errors import RecipeError
from registry.models.cifar_resnet import cifar_resnet18
from registry.reports.cam import explain, upsampled
from registry.reports.cam_methods import METHODS, eigen_cam


class Worked(nn.Module):
    """A network small enough to be worked out by hand: two 3x3 filters of ones, a ReLU, a linear layer, a ReLU."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.relu = nn.ReLU(inplace=inplace)
        self.fc = nn.Linear(8, 4, bias=False)
        self.last = nn.ReLU()
        with torch.no_grad():
            self.conv.weight.fill_(1)
            self.conv.bias.copy_(torch.tensor([-50.0, -75.0]))
            self.fc.weight.copy_(torch.tensor([1.0] * 5 + [-1.0] * 3).expand(4, 8))

    def forward(self, x):
        return self.last(self.fc(self.relu(self.conv(x)).flatten(1)))


class Pooled(nn.Module):
    """Convolutions, global average pooling, a linear head: where GradCAM of the last convolution is CAM."""

    def __init__(self, kernel: int = 3, inplace: bool = True, classes: int = 5) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.first = nn.Conv2d(3, 6, kernel, padding=kernel // 2)
        self.act = nn.ReLU(inplace=inplace)
        self.last = nn.Conv2d(6, 8, kernel, padding=kernel // 2)
        self.fc = nn.Linear(8, classes)

    def forward(self, x):
        return self.fc(self.last(self.act(self.first(x))).mean(dim=(2, 3)))


IMAGE = torch.arange(16.0).reshape(1, 1, 4, 4)


def raw(model, images, layer, targets, method="GradCAM"):
    return explain(model, images, [layer], torch.as_tensor(targets), method).maps[layer][0]


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(
    ("layer", "expected"),
    [("conv", [[11.25, 13.5], [20.25, 22.5]]), ("relu", [[0.0, 4.0], [28.0, 32.5]])],
)
def test_maps_of_a_network_worked_out_by_hand_are_exact(layer, expected, inplace):
    assert torch.equal(raw(Worked(inplace), IMAGE, layer, [0])[0], torch.tensor(expected))


def by_hand(model, images, module, targets):
    """GradCAM written anew: a hook that keeps a copy, one gradient, the formula."""
    kept = {}

    def hook(_module, _inputs, output):
        kept["output"], kept["values"] = output, output.detach().clone()
        return output.clone()

    handle = module.register_forward_hook(hook)
    logits = model(images.clone().requires_grad_(True))
    handle.remove()
    score = logits[torch.arange(len(images)), targets].sum()
    gradient = torch.autograd.grad(score, kept["output"])[0]
    return F.relu((gradient.mean((2, 3), keepdim=True) * kept["values"]).sum(1))


def settled(model, images):
    """Return `model` in evaluation mode with statistics that fit it, so that its activations are not degenerate."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(images)
    return model.eval()


ARCHITECTURES = {
    "cifar_resnet18": (cifar_resnet18, ["layer1", "layer2.0.bn1", "layer3", "layer4.1.conv2"], 32),
    "densenet121": (torchvision.models.densenet121, ["features.denseblock2", "features.norm5"], 64),
    "mobilenet_v3_small": (torchvision.models.mobilenet_v3_small, ["features.3", "features.8.block.1.0"], 64),
    "vgg_like": (lambda num_classes: Pooled(classes=num_classes), ["first", "last"], 24),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_raw_maps_equal_captum_and_an_implementation_of_our_own_test_on_every_layer(name):
    build, layers, side = ARCHITECTURES[name]
    torch.manual_seed(3)
    images = torch.randn(3, 3, side, side)
    model = settled(build(num_classes=10), torch.randn(8, 3, side, side))
    targets = torch.tensor([0, 3, 2])
    found = explain(model, images, layers, targets)
    for layer in layers:
        ours = found.maps[layer][0]
        module = model.get_submodule(layer)
        captum = LayerGradCam(model, module).attribute(images, targets, relu_attributions=True)[:, 0].detach()
        scale = ours.amax().clamp_min(1e-12)
        assert float((ours - captum).abs().amax() / scale) < 1e-4
        assert float((ours - by_hand(model, images, module, targets)).abs().amax() / scale) < 1e-4
        assert float(scale) > 1e-8


def test_a_layer_before_an_in_place_relu_is_explained_as_if_the_relu_were_not_in_place():
    images, targets = torch.randn(2, 3, 12, 12), [1, 4]
    assert torch.equal(
        raw(Pooled(inplace=True), images, "first", targets), raw(Pooled(inplace=False), images, "first", targets)
    )


def test_with_global_average_pooling_the_map_is_the_class_weights_over_the_area():
    model, images, targets = Pooled(), torch.randn(4, 3, 10, 14), torch.tensor([0, 1, 2, 3])
    activations = model.last(model.act(model.first(images)))
    expected = torch.einsum("nk,nkhw->nhw", model.fc.weight[targets], activations).relu() / (10 * 14)
    assert torch.allclose(raw(model, images, "last", targets), expected, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 50), st.floats(-20, 20))
def test_scaling_logits_scales_the_map_and_a_constant_changes_nothing(seed, factor, shift):
    model = Pooled()
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    before = raw(model, images, "first", [0, 1])
    with torch.no_grad():
        model.fc.weight *= factor
        model.fc.bias += shift
    after = raw(model, images, "first", [0, 1])
    assert torch.allclose(after, factor * before, rtol=1e-4, atol=1e-6)
    assert torch.allclose(upsampled(after, (8, 8)), upsampled(before, (8, 8)), atol=1e-4)


def test_permuting_channels_and_the_head_with_them_changes_nothing():
    model, images = Pooled(), torch.randn(2, 3, 9, 9)
    before = raw(model, images, "last", [2, 3])
    order = torch.randperm(8)
    with torch.no_grad():
        model.last.weight.copy_(model.last.weight[order])
        model.last.bias.copy_(model.last.bias[order])
        model.fc.weight.copy_(model.fc.weight[:, order])
    assert torch.allclose(raw(model, images, "last", [2, 3]), before, atol=1e-6)


def test_a_network_of_1x1_convolutions_is_equivariant_to_flips_and_shifts():
    model, images = Pooled(kernel=1), torch.randn(2, 3, 8, 8)
    before = raw(model, images, "last", [0, 1])
    assert torch.allclose(raw(model, images.flip(3), "last", [0, 1]), before.flip(2), atol=1e-6)
    assert torch.allclose(
        raw(model, images.roll((2, 3), (2, 3)), "last", [0, 1]), before.roll((2, 3), (1, 2)), atol=1e-6
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_gives_what_its_images_give_alone(method):
    # In float64: by float32's rounding a unit may lie on another side of its ReLU alone than in a batch.
    model = settled(cifar_resnet18(10), torch.randn(8, 3, 32, 32)).double()
    images, targets = torch.randn(5, 3, 32, 32).double(), torch.arange(5)
    together = explain(model, images, ["layer2", "layer4"], targets, method).maps
    for layer, maps in together.items():
        alone = torch.cat([raw(model, images[i : i + 1], layer, targets[i : i + 1], method) for i in range(5)])
        assert float((maps[0] - alone).abs().amax() / alone.amax()) < 1e-6


def test_several_targets_per_image_are_what_each_gives_alone():
    model, images = Pooled(), torch.randn(3, 3, 8, 8)
    rows = torch.tensor([[0, 1, 2], [4, 4, 0]])
    found = explain(model, images, ["first", "last"], rows)
    assert torch.equal(found.targets, rows)
    for layer in ("first", "last"):
        assert found.maps[layer].shape == (2, 3, 8, 8)
        for row in range(2):
            assert torch.equal(found.maps[layer][row], raw(model, images, layer, rows[row]))


def test_layers_come_in_execution_order_whatever_the_order_asked_for():
    found = explain(Pooled(), torch.randn(1, 3, 8, 8), ["last", "first"], torch.tensor([0]))
    assert list(found.maps) == ["first", "last"]


@pytest.mark.parametrize("method", METHODS)
def test_maps_are_never_negative_and_finite_for_a_constant_image(method):
    maps = raw(Pooled(), torch.zeros(2, 3, 8, 8), "first", [0, 1], method)
    assert torch.isfinite(maps).all()
    assert (maps >= 0).all()


def test_evidence_that_is_negative_everywhere_gives_a_map_of_zeros_that_stays_zero():
    model = Pooled()
    with torch.no_grad():
        model.last.weight.abs_()
        model.last.bias.fill_(1)
        model.fc.weight.fill_(-1)
    maps = raw(model, torch.rand(1, 3, 8, 8), "last", [0])
    assert float(maps.max()) == 0
    assert torch.equal(upsampled(maps, (16, 16)), torch.zeros(1, 16, 16))


def test_a_map_of_an_oblong_image_has_its_proportions_and_reaches_one():
    maps = upsampled(raw(Pooled(), torch.randn(1, 3, 12, 20), "last", [1]), (36, 60))
    assert maps.shape == (1, 36, 60)
    assert float(maps.max()) == 1
    assert float(maps.min()) >= 0


def test_the_upsampling_is_bilinear_between_cell_centres():
    expected = F.interpolate(
        torch.tensor([[[[0.0, 1.0], [2.0, 4.0]]]]), size=(6, 6), mode="bilinear", align_corners=False
    )
    assert torch.allclose(upsampled(torch.tensor([[0.0, 1.0], [2.0, 4.0]]), (6, 6)), expected[0, 0] / expected.max())


def snapshot(model):
    gradients = {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()]
    return (
        copy.deepcopy(model.state_dict()),
        [m.training for m in model.modules()],
        gradients,
        hooks,
        torch.get_rng_state(),
    )


def assert_untouched(model, before):
    state, modes, gradients, hooks, random = snapshot(model)
    assert all(torch.equal(state[key], before[0][key]) for key in before[0])
    assert modes == before[1]
    assert hooks == before[3]
    assert torch.equal(random, before[4])
    for name, gradient in gradients.items():
        expected = before[2][name]
        assert (gradient is None) == (expected is None)
        assert gradient is None or torch.equal(gradient, expected)


def test_modes_gradients_buffers_hooks_and_random_state_are_left_untouched():
    model = cifar_resnet18(10, dropout=0.3).train()
    model.layer2.eval()  # a mixed state must come back as it was
    model(torch.randn(4, 3, 32, 32)).sum().backward()
    images = torch.randn(3, 3, 32, 32)
    kept, before = images.clone(), snapshot(model)
    explain(model, images, ["layer1", "layer3"], torch.tensor([[0, 1, 2], [3, 4, 5]]))
    assert_untouched(model, before)
    assert torch.equal(images, kept)


def test_everything_is_left_untouched_when_the_forward_raises():
    class Failing(Pooled):
        def forward(self, x):
            if torch.is_grad_enabled():  # not in the dry forward
                super().forward(x)
                raise RuntimeError("in the middle")
            return super().forward(x)

    model, images = Failing().train(), torch.randn(2, 3, 8, 8)
    before = snapshot(model)
    with pytest.raises(RuntimeError, match="in the middle"):
        explain(model, images, ["first"], torch.tensor([0, 1]))
    assert_untouched(model, before)


def test_random_layers_that_ignore_evaluation_mode_leave_the_random_state_alone():
    class Noisy(Pooled):
        def forward(self, x):
            return super().forward(F.dropout(x, 0.5, training=True))

    model, images = Noisy(), torch.randn(2, 3, 8, 8)
    state = torch.get_rng_state()
    explain(model, images, ["first"], torch.tensor([0, 1]))
    assert torch.equal(torch.get_rng_state(), state)


def test_frozen_parameters_and_callers_without_gradients_get_the_same_map():
    model, images = Pooled(), torch.randn(2, 3, 8, 8)
    expected = raw(model, images, "first", [0, 1])
    model.requires_grad_(False)
    assert torch.equal(raw(model, images, "first", [0, 1]), expected)
    with torch.no_grad():
        assert torch.equal(raw(model, images, "first", [0, 1]), expected)
    with torch.inference_mode():
        assert torch.equal(raw(model, images * 1, "first", [0, 1]), expected)


def test_a_network_that_begins_in_place_keeps_the_callers_images():
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    images = torch.randn(2, 3, 6, 6)
    kept = images.clone()
    explain(model, images, ["1"], torch.tensor([0, 1]))
    assert torch.equal(images, kept)


def test_wrapped_networks_answer_to_their_inner_names():
    class Wrapper(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.module = inner

        def forward(self, x):
            return self.module(x)

    images = torch.randn(1, 3, 8, 8)
    assert torch.equal(raw(Wrapper(Pooled()), images, "last", [0]), raw(Pooled(), images, "last", [0]))


@pytest.mark.parametrize(
    ("targets", "message"),
    [([0], "1 targets for 2 images"), ([0, 5], "target 5 of a network with 5 classes"), ([0, -1], "target -1 ")],
)
def test_targets_that_do_not_fit_are_refused(targets, message):
    with pytest.raises(ValueError, match=message):
        explain(Pooled(), torch.randn(2, 3, 8, 8), ["first"], torch.tensor(targets))


def test_an_unknown_method_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'ScoreCAM'; there are GradCAM, GradCAMPlusPlus, LayerCAM, EigenCAM"):
        explain(Pooled(), torch.randn(1, 3, 8, 8), ["first"], torch.tensor([0]), "ScoreCAM")


def test_a_layer_that_does_not_exist_is_refused_with_the_names_that_do():
    with pytest.raises(RecipeError, match=r"no layer is named 'layer9'\n.*last \(8x8\): the last of each size, of 3"):
        explain(Pooled(), torch.randn(1, 3, 8, 8), ["layer9"], torch.tensor([0]))


def test_grad_cam_plus_plus_follows_its_formula_and_layer_cam_weighs_each_place():
    generator = torch.Generator().manual_seed(1)
    a, g = torch.rand(2, 3, 4, 4, generator=generator), torch.randn(2, 3, 4, 4, generator=generator)
    for n in range(2):
        plus, layer = torch.zeros(4, 4), torch.zeros(4, 4)
        for k in range(3):
            total = a[n, k].sum()
            share = g[n, k] ** 2 / (2 * g[n, k] ** 2 + total * g[n, k] ** 3)
            plus += (share * g[n, k].clamp_min(0)).sum() * a[n, k]
            layer += g[n, k].clamp_min(0) * a[n, k]
        assert torch.allclose(METHODS["GradCAMPlusPlus"](a, g)[n], plus.clamp_min(0), rtol=1e-4)
        assert torch.allclose(METHODS["LayerCAM"](a, g)[n], layer.clamp_min(0), rtol=1e-5)


def test_eigen_cam_of_one_pattern_in_many_channels_is_that_pattern():
    pattern, strengths = torch.rand(5, 6), torch.tensor([0.5, 2.0, 1.0])
    activations = (strengths[:, None, None] * pattern)[None]
    found = eigen_cam(activations, torch.zeros_like(activations))[0]
    assert torch.allclose(found, pattern * strengths.norm(), rtol=1e-5)


def test_a_random_head_gives_another_map_than_the_trained_one():
    """The sanity check of Adebayo et al. 2018: a map that does not depend on the weights explains nothing."""
    model, images = Pooled(), torch.randn(3, 3, 12, 12)
    before = upsampled(raw(model, images, "last", [0, 1, 2]), (12, 12))
    torch.manual_seed(99)
    model.fc.reset_parameters()
    after = upsampled(raw(model, images, "last", [0, 1, 2]), (12, 12))
    assert float(torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1]) < 0.9
