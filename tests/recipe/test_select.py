"""Patterns against a model: parameters by name, by module and by kind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainer.recipe.patterns import select, unmatched


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.blocks = nn.Sequential(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)), nn.LayerNorm(4))
        self.table = nn.Embedding(5, 4)
        self.scale = nn.Parameter(torch.ones(1))
        self.head = nn.Linear(4, 10)


MODEL = Model()
ALL = [name for name, _ in MODEL.named_parameters()]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("stem.weight", ["stem.weight"]),
        ("stem", ["stem.weight", "stem.bias"]),
        ("blocks.0", ["blocks.0.0.weight", "blocks.0.0.bias", "blocks.0.1.weight", "blocks.0.1.bias"]),
        ("blocks.*.weight", ["blocks.1.weight"]),
        ("**.bias", ["stem.bias", "blocks.0.0.bias", "blocks.0.1.bias", "blocks.1.bias", "head.bias"]),
        ("s*", ["scale", "stem.weight", "stem.bias"]),
        ("*", ALL),
        ("@bias", ["stem.bias", "blocks.0.0.bias", "blocks.0.1.bias", "blocks.1.bias", "head.bias"]),
        ("@norm", ["blocks.0.1.weight", "blocks.0.1.bias", "blocks.1.weight", "blocks.1.bias"]),
        ("@embedding", ["table.weight"]),
        ("@head", ["head.weight", "head.bias"]),
        ("nothing", []),
        ("STEM", []),
        ("@nothing", []),
        ("ste", []),
    ],
)
def test_a_pattern_means_these_parameters(pattern: str, names: list[str]) -> None:
    assert select([pattern], MODEL) == [name for name in ALL if name in names]
    assert unmatched([pattern], MODEL) == ([] if names else [pattern])


def test_several_patterns_mean_what_any_of_them_means_in_the_models_order() -> None:
    assert select(["head", "stem"], MODEL) == ["stem.weight", "stem.bias", "head.weight", "head.bias"]


def test_a_compiled_model_is_matched_by_its_own_names() -> None:
    wrapped = nn.Module()
    wrapped._orig_mod = MODEL
    assert select(["stem"], wrapped) == ["_orig_mod.stem.weight", "_orig_mod.stem.bias"]


def test_attentions_biases_are_biases() -> None:
    attention = nn.MultiheadAttention(4, 2)
    assert select(["@bias"], attention) == ["in_proj_bias", "out_proj.bias"]
    ours = nn.Module()
    ours.q_bias, ours.v_bias, ours.relative_position_bias_table = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    assert select(["@bias"], ours) == ["q_bias", "v_bias"]


def test_a_model_without_weights_has_no_head() -> None:
    assert select(["@head"], nn.Sequential(nn.BatchNorm2d(3))) == []
