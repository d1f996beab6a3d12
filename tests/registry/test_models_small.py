"""The quickstart's network: its size, its maps, and every argument's effect."""

from __future__ import annotations

import pytest
import torch

from registry.models.small import SmallCNN


def test_it_stays_small_and_keeps_a_map_of_eight_pixels() -> None:
    model = SmallCNN(10).eval()
    maps: list[torch.Size] = []
    model.layer3.register_forward_hook(lambda _m, _i, out: maps.append(out.shape))
    with torch.no_grad():
        assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert maps == [(2, 96, 8, 8)]
    assert 50_000 < sum(p.numel() for p in model.parameters()) < 100_000


@pytest.mark.parametrize(
    ("arguments", "key", "shape"),
    [
        ({"num_classes": 7}, "fc.weight", (7, 96)),
        ({"num_classes": 10, "in_channels": 1}, "layer1.0.weight", (32, 1, 3, 3)),
        ({"num_classes": 10, "width": 16}, "layer3.0.weight", (48, 24, 3, 3)),
    ],
)
def test_each_size_argument_changes_its_layer(arguments: dict[str, int], key: str, shape: tuple[int, ...]) -> None:
    assert SmallCNN(**arguments).state_dict()[key].shape == shape


def test_dropout_acts_in_training_only() -> None:
    model = SmallCNN(10, dropout=0.5)
    assert (model.dropout(torch.ones(10_000)) == 0).float().mean().item() == pytest.approx(0.5, abs=0.03)
    model.eval()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(images), model(images))
