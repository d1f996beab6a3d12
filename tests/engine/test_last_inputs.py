"""The features by which pictures are told apart: what a network's last layer is given."""

import pytest
import torch
import torchvision
from torch import nn

from trainer.engine.last_inputs import last_inputs


def features_of(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with last_inputs(model) as given, torch.inference_mode():
        model(images)
        model(images[:1])
    assert [len(each) for each in given] == [len(images), 1]
    return given[0]


NETWORKS = {  # the first has a linear head, the second a convolution of one cell, the third tokens
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=5), 512),
    "squeezenet1_1": (lambda: torchvision.models.squeezenet1_1(num_classes=5), 512),
    "vit": (lambda: torchvision.models.VisionTransformer(64, 16, 1, 2, 16, 16, num_classes=5), 16),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_they_are_what_the_head_is_given_whatever_the_network(name):
    make, wide = NETWORKS[name]
    assert features_of(make().eval(), torch.rand(2, 3, 64, 64)).shape == (2, wide)


def test_the_head_makes_the_logits_of_them():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 3), nn.Softplus())
    images = torch.rand(5, 3, 2, 2)
    assert torch.allclose(model[4](model[3](features_of(model, images))), model(images))


def test_the_hooks_are_gone_after_the_block_and_after_an_error():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    with pytest.raises(RuntimeError), last_inputs(model):
        model(torch.rand(2, 9))
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
