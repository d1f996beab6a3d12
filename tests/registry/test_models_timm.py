"""Models of timm: built for the recipe's images and classes, with as many heads as they have."""

from __future__ import annotations

import pytest
import torch

from registry.models.timm import build
from trainer.recipe.patterns import select

timm = pytest.importorskip("timm", reason="timm is an extra: pip install 'recipe-trainer[timm]'")


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("vit_tiny_patch16_224", 64),
        ("swin_tiny_patch4_window7_224", 64),
        ("cait_xxs24_224", (64, 32)),
        ("mixer_s32_224", 64),
        ("resnet18", 64),
        ("convnext_atto", 64),
        ("mobilevit_xxs", 64),
    ],
)
def test_a_model_takes_images_of_the_recipes_size(name: str, size: int | tuple[int, int]) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    with torch.device("meta"):
        model = build(name, num_classes=5, in_channels=1, image_size=size).eval()
        assert model(torch.empty(2, 1, height, width)).shape == (2, 5)


def test_the_engine_says_the_size_where_the_recipe_does_not(experiment_of) -> None:
    recipe = """
version: 1
data:
  dataset: {type: Shapes, train_size: 40, val_size: 20, test_size: 20}
  preprocess: [{type: Normalize, mean: [0.5, 0.5, 0.5], std: [0.2, 0.2, 0.2]}]
model: {type: "timm:deit_tiny_distilled_patch16_224"}
optimizer: {type: SGD, lr: 0.1}
train: {epochs: 1, device: cpu, precision: fp32, freeze: ["blocks.**"]}
"""
    experiment = experiment_of(recipe)
    assert experiment.model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert experiment.model.pos_embed.shape == (1, 2 + 2 * 2, 192)


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("deit_tiny_distilled_patch16_224", ["head.weight", "head.bias", "head_dist.weight", "head_dist.bias"]),
        ("crossvit_tiny_240", ["head.0.weight", "head.0.bias", "head.1.weight", "head.1.bias"]),
        ("volo_d1_224", ["aux_head.weight", "aux_head.bias", "head.weight", "head.bias"]),
        ("resnet18", ["fc.weight", "fc.bias"]),
        ("swin_tiny_patch4_window7_224", ["head.fc.weight", "head.fc.bias"]),
    ],
)
def test_the_head_of_a_model_is_all_that_makes_logits(name: str, heads: list[str]) -> None:
    with torch.device("meta"):
        assert select(["@head"], build(name, num_classes=5)) == heads
