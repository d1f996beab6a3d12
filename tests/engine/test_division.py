"""A network divides where nothing that learns, draws or moves lies before; the head's answers are the network's own."""

import pytest
import torch
from torch import Tensor, nn

from trainer.engine.division import UndividedError, divide


class Network(nn.Module):
    """Stages as image classifiers have them: layers, a pool, a flattening that is no module, and a head."""

    def __init__(self, head: nn.Module | None = None, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(3, 4, 3), norm or nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.layer2 = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(inplace=True))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = head or nn.Linear(6, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.pool(self.layer2(self.layer1(images))).flatten(1))


def frozen(model: nn.Module, *parts: str) -> nn.Module:
    """Freeze parts of a network and put it into the mode in which it trains."""
    model.train()
    for name in parts:
        model.get_submodule(name).requires_grad_(False).eval()
    return model


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_features_are_what_the_head_is_given_and_from_them_it_gives_the_networks_answers(images):
    model = frozen(Network(), "layer1", "layer2")
    found = divide(model, images)
    features = found.features(model, images)
    assert found.head is model.fc
    assert torch.equal(features, model.pool(model.layer2(model.layer1(images))).flatten(1))
    assert torch.equal(found.head(features), model(images))


def test_what_is_left_to_chance_goes_with_the_head(images):
    head = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 6), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(6, 5))
    model = frozen(Network(head), "layer1", "layer2")
    model.fc[1].requires_grad_(False)
    found = divide(model, images)
    assert list(found.head) == list(head)
    torch.manual_seed(3)
    expected = model(images)
    torch.manual_seed(3)
    assert torch.equal(found.head(found.features(model, images)), expected)


def test_a_head_of_its_own_kind_is_taken_whole(images):
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 5)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.two(self.one(inputs).relu())

    model = frozen(Network(Head()), "layer1", "layer2")
    assert divide(model, images).head is model.fc


def test_where_the_last_layers_learn_those_before_are_passed_over(images):
    model = frozen(Network(), "layer1")
    found = divide(model, images)
    features = found.features(model, images)
    assert torch.equal(features, model.layer1(images))
    calls = []
    model.layer1[0].register_forward_hook(lambda *_: calls.append(1))
    answer = found.head(features)
    assert not calls
    answer.sum().backward()
    assert model.layer2[0].weight.grad is not None
    assert torch.equal(answer, model(images))
    assert calls == [1]


def test_a_module_that_is_used_again_by_what_learns_is_passed_over_in_its_first_calls_alone(images):
    class Shares(Network):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.Sigmoid()

        def forward(self, images: Tensor) -> Tensor:
            return self.fc(self.pool(self.act(self.layer2(self.act(self.layer1(images))))).flatten(1))

    model = frozen(Shares(), "layer1")
    found = divide(model, images)
    features = found.features(model, images)
    assert torch.equal(features, model.act(model.layer1(images)))
    assert torch.equal(found.head(features), model(images))


class Bypass(Network):
    """The head sees the images, too."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + images.mean()


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (frozen(Network(), "fc"), "its first layers learn, or leave something to chance"),
        (frozen(Network(norm=nn.Dropout(0.5)), "layer2").requires_grad_(False), "nothing in it learns"),
        (frozen(Bypass(), "layer1"), "its head needs more than what the frozen layers return"),
    ],
)
def test_a_network_that_does_not_divide_is_refused_with_the_reason(model, why, images):
    with pytest.raises(UndividedError, match=why):
        divide(model, images)


def test_what_is_changed_in_place_between_layers_is_not_passed_by(images):
    """As by dropout of torch.nn.functional, which in evaluation does nothing."""

    class Dropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.fc1, self.fc2 = nn.Linear(4, 64), nn.Linear(64, 5)

        def forward(self, images: Tensor) -> Tensor:
            x = self.fc1(self.trunk(images))
            x = nn.functional.dropout(x, 0.5, self.training, inplace=True)
            return self.fc2(x)

    model = frozen(Dropping(), "trunk")
    found = divide(model, images)
    features = found.features(model, images)
    torch.manual_seed(1)
    first = found.head(features)
    torch.manual_seed(1)
    assert torch.allclose(first, model(images), atol=1e-6)
    assert not torch.equal(found.head(features), found.head(features)), "it drops, as the network does"


def test_noise_in_a_frozen_layer_and_statistics_that_move_are_noticed(images):
    for norm in (nn.Dropout(0.5), nn.BatchNorm2d(4)):
        model = frozen(Network(norm=norm), "layer1", "layer2")
        model.layer1.train()
        found = divide(model, images)  # the first convolution alone
        assert torch.equal(found.features(model, images), model.layer1[0](images))


def test_a_layer_that_counts_over_the_batch_is_noticed(images):
    model = frozen(Network(norm=nn.BatchNorm2d(4, track_running_stats=False)), "layer1", "layer2")
    with pytest.raises(UndividedError, match="depends on the others of a batch"):
        divide(model, images)


def test_looking_leaves_the_network_and_all_chance_as_they_were(images):
    head = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 5))
    model = frozen(Network(head), "layer1")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    divide(model, images)
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(5)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.layer1] == [False] * 3
    assert model.training
