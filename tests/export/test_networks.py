"""A network answers from its file as it does here: shipped recipes' by whole exports, torchvision's by their graphs."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import trainer
from registry.models import torchvision as models
from registry.models.small import SmallCNN
from registry.transforms.graph import scaled_levels
from registry.transforms.graph_resize import FitGraph
from trainer.export.about import About
from trainer.export.exporting import TOLERANCE, Request, export
from trainer.export.formats import PACKAGES, SUFFIX, Format
from trainer.export.standalone import opened
from trainer.export.whole import Whole
from trainer.export.writing import traced, written

HAS_ONNX = all(importlib.util.find_spec(name) for name in PACKAGES)
NEEDS = {"onnx": [pytest.mark.skipif(not HAS_ONNX, reason="the extra `export` is not installed")], "torch": []}
FORMATS = [pytest.param(to, marks=NEEDS[to]) for to in SUFFIX]
RECIPES = Path(__file__).parents[2] / "recipes"
TORCHVISION = {  # side of its pictures, in pixels
    "resnet18": 64,
    "vit_b_16": 224,
    "swin_t": 64,
    "convnext_tiny": 64,
    "efficientnet_b0": 64,
    "mobilenet_v3_small": 64,
    "densenet121": 64,
    "regnet_y_400mf": 64,
    "shufflenet_v2_x1_0": 64,
    "squeezenet1_1": 64,
    "googlenet": 64,
    "vgg11_bn": 64,
    "maxvit_t": 224,
}
SMALL = ("squeezenet1_1", "torch")  # in the default suite


def both(network: torch.nn.Module, side: int, to: Format, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of five pictures of another size than the graph was traced by, here and from the file."""
    whole = Whole([FitGraph(side, side), scaled_levels()], network.eval()).eval()
    draw = np.random.default_rng(0)
    example = torch.from_numpy(draw.integers(0, 256, (2, side + 3, side + 5, 3), dtype=np.uint8))
    file = folder / f"network{SUFFIX[to]}"
    file.write_bytes(written(traced(whole, example), to, About.of({})))
    pictures = draw.integers(0, 256, (5, side, side, 3), dtype=np.uint8)
    with torch.inference_mode():
        here = whole(torch.from_numpy(pictures)).numpy()
    return here, opened(file)[0](pictures)


def network_of(name: str) -> torch.nn.Module:
    """A network of torchvision whose answers differ from picture to picture: its head is large."""
    torch.manual_seed(0)
    network = models.build(name, num_classes=10)
    with torch.no_grad():
        list(network.parameters())[-2].mul_(20)
    return network


@pytest.mark.parametrize(
    ("name", "to"),
    [
        pytest.param(name, to, marks=[] if (name, to) == SMALL else [pytest.mark.slow, *NEEDS[to]])
        for name in TORCHVISION
        for to in SUFFIX
    ],
)
def test_a_network_of_torchvision_answers_from_its_file_as_it_does_here(name, to, tmp_path):
    here, there = both(network_of(name), TORCHVISION[name], to, tmp_path)
    assert np.abs(here - there).max() <= TOLERANCE
    assert (here.argmax(1) == there.argmax(1)).all()


@pytest.mark.slow
@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_several_sizes_reach_a_network_that_takes_them_as_they_are(channels, to, tmp_path):
    whole = Whole([scaled_levels()], SmallCNN(10, in_channels=channels, width=4).eval()).eval()
    draw = np.random.default_rng(0)
    example = torch.from_numpy(draw.integers(0, 256, (2, 35, 37, channels), dtype=np.uint8))
    file = tmp_path / f"network{SUFFIX[to]}"
    file.write_bytes(written(traced(whole, example), to, About.of({})))
    answer, _ = opened(file)
    for shape in ((1, 16, 24), (3, 40, 33)):
        pictures = draw.integers(0, 256, (*shape, channels), dtype=np.uint8)
        with torch.inference_mode():
            here = whole(torch.from_numpy(pictures)).numpy()
        assert np.abs(here - answer(pictures)).max() <= TOLERANCE


@pytest.mark.slow  # a training, an export and a process for each
@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("recipe", sorted(path.name for path in RECIPES.glob("*.yaml")))
def test_a_shipped_recipes_network_is_exported_with_its_own_preprocessing(recipe, to, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = "data.dataset={type: Shapes, train_size: 96, val_size: 40, test_size: 40}"
    more = ["model.weights=null"] if recipe == "transfer.yaml" else []
    small = ("data.batch_size=16", "report=[]", "callbacks=[]", "expect=null")
    run = trainer.train(RECIPES / recipe, data, *small, *more, fast=True).folder.path
    made = export(Request(run, (), to), lambda _: None, lambda _, __: lambda: None)
    assert (made.proof.equal, made.proof.images) == (made.proof.images, made.proof.images)
    assert made.proof.largest <= TOLERANCE
    assert made.file.is_relative_to(run)
    assert os.path.getsize(made.card) > 500  # noqa: PTH202
