"""Models of timm: built for the recipe's images and classes, with as many heads as they have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from registry.errors import DataError
from registry.models import pretrained
from registry.models.timm import build
from trainer.experiment.checking import check_built
from trainer.recipe.load import load_recipe
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


# --------------------------------------------------------------------------------------------------- files and folders
RECIPE = """version: 1
data: {dataset: Shapes}
model: {type: "timm:TYPE", ARGUMENTS}
optimizer: {type: SGD, lr: 0.1}
train: {epochs: 1}
"""


def said(tmp_path: Path, type_: str, arguments: str) -> list[str]:
    """Return what is said of a recipe before its run."""
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace("TYPE", type_).replace("ARGUMENTS", arguments))
    loaded = load_recipe(path)
    if loaded.recipe is None or loaded.catalogue is None:
        return [str(each).partition("recipe.yaml:")[2] for each in loaded.problems]
    return [str(each).partition("recipe.yaml:")[2] for each in check_built(loaded.recipe, loaded.catalogue)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights as the hub has them, below the working directory: resnet10t, of 1,000 classes."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(1)
    Path("net").mkdir()
    safetensors.torch.save_file(timm.create_model("resnet10t").state_dict(), "net/model.safetensors")
    Path("net/config.json").write_text(json.dumps({"architecture": "resnet10t", "num_classes": 1000}))
    return Path("net")


@pytest.mark.parametrize("weights", ["net", "./net/model.safetensors", "local-dir:net"])
def test_weights_come_from_a_folder_as_the_hub_has_it(folder: Path, weights: str) -> None:
    theirs = safetensors.torch.load_file("net/model.safetensors")
    with pretrained.listening() as lines:
        model = build("resnet10t", num_classes=3, weights=weights)
    kept = model.state_dict()
    assert [name for name in kept if not name.startswith("fc.") and not torch.equal(kept[name], theirs[name])] == []
    assert kept["fc.weight"].shape == (3, 512)
    count = len(kept)
    taken = f"{count - 2} of {count} tensors; the last layer starts anew (fc.weight, fc.bias)"
    assert lines == [f"weights from net/model.safetensors: {taken}"]


def test_weights_of_colour_images_are_fitted_to_grey_ones_as_timm_does_it(folder: Path) -> None:
    theirs = safetensors.torch.load_file("net/model.safetensors")["conv1.0.weight"]
    wrapped = safetensors.torch.load_file("net/model.safetensors")
    torch.save({f"module.{name}": tensor for name, tensor in wrapped.items()}, "wrapped.pth")
    for weights in ("net", "wrapped.pth"):
        model = build("resnet10t", num_classes=3, in_channels=1, weights=weights)
        torch.testing.assert_close(model.state_dict()["conv1.0.weight"], theirs.sum(1, keepdim=True))


@pytest.mark.parametrize("before", ["", "module."])
def test_places_of_patches_are_fitted_to_the_images_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    monkeypatch.chdir(tmp_path)
    theirs = build("vit_tiny_patch16_224", num_classes=7, image_size=224).state_dict()
    torch.save({"state_dict": {f"{before}{name}": tensor for name, tensor in theirs.items()}}, "vit.pth")
    model = build("vit_tiny_patch16_224", num_classes=3, image_size=64, weights="vit.pth")
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_a_recipe_names_file_and_tag_and_a_trained_network_needs_neither(folder: Path, tmp_path: Path) -> None:
    assert said(tmp_path, "resnet10t.c3_in1k", "weights: net") == []
    with pretrained.architecture_only():
        assert build("resnet10t.c3_in1k", num_classes=3, weights="gone").num_classes == 3


def test_what_cannot_be_taken_is_refused_before_the_run_with_its_place(folder: Path, tmp_path: Path) -> None:
    (line,) = said(tmp_path, "resnet14t", "weights: net")
    expected = "model.weights: net: config.json says that these are the weights of resnet10t, not resnet14t"
    assert line == f"3:42: {expected} (write type: timm:resnet10t) [R205]"
    (folder / "config.json").unlink()
    (line,) = said(tmp_path, "resnet14t", "weights: net")
    assert "net/model.safetensors: these are the weights of another network (" in line
    (folder / "model.safetensors").unlink()
    (line,) = said(tmp_path, "resnet10t", "weights: net")
    assert "net: there is no model.safetensors and no pytorch_model.bin (name the file itself) [R205]" in line
    (line,) = said(tmp_path, "resnet10t", "weights: nowhere.pth")
    assert "nowhere.pth: there is no such file" in line


def test_both_ways_to_weights_are_one_too_many(folder: Path, tmp_path: Path) -> None:
    (line,) = said(tmp_path, "resnet10t", "pretrained: true, weights: net")
    assert line.endswith(
        "model timm:resnet10t: pretrained and weights both say where the weights come from (keep one of them) [R071]"
    )


def test_a_folder_in_the_place_of_a_name_is_answered_with_both(folder: Path, tmp_path: Path) -> None:
    (line,) = said(tmp_path, "local-dir:net", "drop_rate: 0.1")
    assert line == (
        "3:15: timm:local-dir:net says where weights are, not which network takes them "
        '(write {type: "timm:resnet10t", weights: "net"}) [R028]'
    )


def test_without_a_network_the_address_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    def nobody(url: str) -> None:
        raise OSError(url)

    monkeypatch.setattr("registry.models.timm.reach", nobody)
    with pytest.raises(DataError) as caught:
        build("resnet10t.c3_in1k", num_classes=3, pretrained=True)
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint.startswith(
        f"fetch {constants.ENDPOINT}/timm/resnet10t.c3_in1k/resolve/main/model.safetensors and write weights: "
    )
    assert constants.HF_HUB_OFFLINE is False
