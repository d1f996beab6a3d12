"""The model's table: multiply-accumulates against torchvision's published numbers, and against sums by hand."""

from dataclasses import replace

import pytest
import torch
import torchvision
from made_evidence import SmallNet, made_evidence
from torch import nn

from trainer.report.macs import count_macs
from trainer.report.model_summary import model_section


@pytest.mark.parametrize(
    "name", ["resnet18", "vgg11", "densenet121", "mobilenet_v3_small", "convnext_tiny", "swin_t", "vit_b_16"]
)
def test_macs_equal_those_torchvision_publishes(name):
    published = torchvision.models.get_model_weights(name).DEFAULT.meta["_ops"]
    with torch.device("meta"):
        model, images = getattr(torchvision.models, name)(), torch.empty(1, 3, 224, 224)
        found = count_macs(model, images)[""] / 1e9
    assert found == pytest.approx(published, rel=0.01)


def test_macs_by_module_are_those_worked_out_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, groups=1), nn.Flatten(), nn.Linear(8 * 16, 5))
    counts = count_macs(model, torch.randn(4, 3, 4, 4))
    assert counts == {"": 8 * 16 * 27 + 640, "0": 8 * 16 * 27, "1": 0, "2": 640}


def test_macs_of_recurrent_layers_are_counted():
    lstm = nn.LSTM(16, 32, batch_first=True)
    assert count_macs(lstm, torch.randn(2, 10, 16))[""] == 10 * 4 * 32 * (16 + 32)


def test_counting_leaves_modes_hooks_and_random_state_alone():
    model = SmallNet(3).train()
    state = torch.get_rng_state()
    count_macs(model, torch.zeros(1, 3, 8, 8))
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_table_lists_layers_with_outputs_and_adds_up(tmp_path):
    section = model_section(made_evidence(tmp_path))
    table = section.blocks[1]
    rows = {row[0]: row for row in table.rows}
    assert rows["middle"] == ("middle", "Sequential", "16x12x12", "1,168", "0.17")
    assert rows["middle.2"][3:] == ("", "")
    assert rows["whole model"][3] == f"{sum(p.numel() for p in SmallNet(4).parameters()):,}"
    assert section.facts["macs"] == 8 * 24 * 24 * 27 + 16 * 144 * 72 + 16 * 36 * 144 + 64


def test_a_run_without_images_still_says_how_large_the_model_is(tmp_path):
    class NoImages:
        def prepared(self, positions):
            raise IndexError("no images")

    section = model_section(replace(made_evidence(tmp_path), images=NoImages()))
    assert "1,234 trained parameters" in section.blocks[0].text
