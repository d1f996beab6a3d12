"""Frozen norm layers fold into the frozen convolutions before them, for training steps alone."""

import copy

import pytest
import torch
from torch import Tensor, nn

from trainer.engine.folding import folded


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.layer2 = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        self.fc = nn.Linear(6, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.layer2(self.layer1(images)).mean((2, 3)))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model() -> Network:
    torch.manual_seed(2)
    made = Network().train()
    for layer in (made.layer1, made.layer2):
        layer[1].running_mean.normal_()
        layer[1].running_var.uniform_(0.5, 2)
        nn.init.normal_(layer[1].weight)
    made.layer1.requires_grad_(False)
    made.layer1[1].eval()
    return made


def test_a_step_computes_the_same_without_the_norm_layer_and_the_network_stays_what_it_is(model, images):
    before = copy.deepcopy(model.state_dict())
    made = folded(model, [model.layer1[1]], images)
    calls = []
    model.layer1[1].register_forward_hook(lambda _, given, answer: calls.append(given[0] is answer))
    answer = made(images)
    assert calls == [True]  # it passed on what it was given
    torch.testing.assert_close(answer, copy.deepcopy(model)(images), rtol=1e-4, atol=1e-5)
    answer.sum().backward()
    assert model.layer2[0].weight.grad is not None
    assert model.layer1[0].weight.grad is None
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before if name.startswith("layer1"))
    assert model.training
    assert not hasattr(model.layer1[0], "forward") or "forward" not in vars(model.layer1[0])


@pytest.mark.parametrize("what", ["its convolution learns", "its statistics move", "nothing is frozen"])
def test_nothing_is_folded_that_may_change(model, images, what):
    still = [model.layer1[1]]
    if what == "its convolution learns":
        model.layer1[0].requires_grad_(True)
    else:
        still = []
    assert folded(model, still, images) is model


def test_trying_leaves_statistics_and_chance_as_they_were(model, images):
    before = model.layer2[1].running_mean.clone()
    torch.manual_seed(5)
    folded(model, [model.layer1[1]], images)
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(5)))
    assert torch.equal(model.layer2[1].running_mean, before)
