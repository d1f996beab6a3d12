"""Deletion, insertion and shuffled weights: numbers worked out by hand, and a network that looks where it says."""

import pytest
import torch
from torch import nn

from registry.reports.faithfulness import faithfulness, pixel_curves, rank_correlations, shuffled_copy

IMAGE = torch.tensor([[[[0.4, 0.3], [0.2, 0.1]]]])


def total(images):
    return images.sum(dim=(1, 2, 3))


def test_deletion_and_insertion_of_an_image_worked_out_by_hand():
    found = pixel_curves(total, IMAGE, IMAGE[:, 0], steps=2)
    assert torch.allclose(found.deletion, torch.tensor([1.0, 0.3, 0.0]), atol=1e-6)
    assert torch.allclose(found.insertion, torch.tensor([0.0, 0.7, 1.0]), atol=1e-6)
    assert found.deletion_area == pytest.approx(0.4, abs=1e-6)
    assert found.insertion_area == pytest.approx(0.6, abs=1e-6)


def test_a_map_that_is_wrong_has_the_areas_exchanged():
    found = pixel_curves(total, IMAGE, -IMAGE[:, 0], steps=2)
    assert (found.deletion_area, found.insertion_area) == (pytest.approx(0.6, abs=1e-6), pytest.approx(0.4, abs=1e-6))


def test_equal_heat_goes_in_reading_order_and_each_image_has_its_own():
    images = torch.cat([IMAGE, IMAGE.flip(3)])
    found = pixel_curves(lambda x: x[:, 0, 0, 0], images, torch.zeros(2, 2, 2), steps=4)
    assert torch.allclose(found.deletion, torch.tensor([0.35, 0, 0, 0, 0]))


@pytest.mark.parametrize(
    ("second", "expected"),
    [([[1.0, 2.0], [3.0, 9.0]], [1.0]), ([[9.0, 3.0], [2.0, 1.0]], [-1.0]), ([[0.0, 0.0], [0.0, 0.0]], [])],
)
def test_rank_correlation_knows_order_alone(second, expected):
    first = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    assert rank_correlations(first, torch.tensor([second])).tolist() == pytest.approx(expected)


def test_equal_values_share_their_rank():
    found = rank_correlations(torch.tensor([[[1.0, 1.0, 2.0]]]), torch.tensor([[[1.0, 2.0, 3.0]]]))
    assert found.tolist() == pytest.approx([0.8660254])


class Seeker(nn.Module):
    """Answers class 1 by how bright the brightest places are: what it looks at is known."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.head = nn.Linear(4, 2, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([1.0, 0.5, -1.0, -0.2])[:, None, None, None].expand(4, 1, 3, 3) / 9)
            self.head.weight.copy_(torch.tensor([[0.0, 0.0, 0.0, 0.0], [40.0, 20.0, -1.0, 0.0]]))

    def forward(self, x):
        return self.head(self.conv(x).relu().mean(dim=(2, 3))) - torch.tensor([0.0, 2.0])


def test_a_network_that_looks_at_the_spot_needs_the_spot_and_is_left_alone():
    images = torch.zeros(6, 1, 12, 12)
    for i in range(6):
        images[i, 0, i : i + 4, 2 : i + 6] = 1.0
    model = Seeker().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    found = faithfulness(model, [(images, torch.ones(6, dtype=torch.int64))], "conv", "GradCAM")
    assert found.by_heat.deletion_area < found.by_chance.deletion_area - 0.1
    assert found.by_heat.insertion_area > found.by_chance.insertion_area + 0.1
    assert set(found.facts()) >= {"deletion", "insertion", "deletion_chance", "insertion_chance"}
    assert model.training
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_shuffling_keeps_values_and_moves_them():
    model = nn.Conv2d(3, 8, 3)
    other = shuffled_copy(model)
    assert not torch.equal(other.weight, model.weight)
    assert torch.equal(other.weight.flatten().sort().values, model.weight.flatten().sort().values)
    assert torch.equal(other.bias, model.bias)
