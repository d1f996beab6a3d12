"""What a run says and refuses of its data before it trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from registry.errors import DataError
from trainer.data import batches
from trainer.experiment.experiment import Experiment
from trainer.recipe.load import load_recipe

RECIPE = """\
version: 1
data:
  dataset: {type: ImageFolder, root: photos}
  batch_size: 8
  preprocess: [{type: Normalize, mean: $data.mean, std: $data.std}]
model: SmallCNN
optimizer: {type: SGD, lr: 0.1}
train: {epochs: 1, device: cpu}
"""


@pytest.fixture
def _photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve pictures of two classes in photos/, without any blue."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("cat", "dog"):
        Path("photos", name).mkdir(parents=True)
        for number in range(6):
            pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            pixels[..., 0] = 7  # BGR
            cv2.imwrite(f"photos/{name}/{number}.png", pixels)


def built(log: list[str], *overrides: str) -> Experiment:
    Path("recipe.yaml").write_text(RECIPE)
    loaded = load_recipe("recipe.yaml", overrides)
    assert loaded.recipe is not None, loaded.problems
    assert loaded.catalogue is not None
    return Experiment.from_recipe(loaded.recipe, loaded.catalogue, log=log.append)


@pytest.mark.usefixtures("_photos")
def test_a_channel_that_is_the_same_everywhere_is_refused_at_the_reference() -> None:
    log: list[str] = []
    with pytest.raises(DataError) as met:
        built(log)
    assert met.value.message == ("recipe.yaml:5:57: $data.std is 0 in channel 3: all training pixels are alike there")
    assert "std: [0.25, 0.25, 0.25]" in met.value.hint
    assert "2 classes: cat, dog from photos (11 training, 1 validation images)" in log


@pytest.mark.usefixtures("_photos")
def test_a_constant_channel_disturbs_nobody_who_does_not_divide_by_it() -> None:
    assert built([], "data.preprocess.0.std=[0.2, 0.2, 0.2]").data.std[2] < 1e-6


def test_data_without_a_folder_are_named_by_their_dataset(experiment_of: Callable[..., Any]) -> None:
    text = RECIPE.replace(
        "{type: ImageFolder, root: photos}", "{type: Shapes, train_size: 20, val_size: 10, test_size: 5}"
    )
    log: list[str] = []
    loaded_from = experiment_of(text)
    log.append(loaded_from.data.describe("Shapes"))
    assert log[0].startswith("10 classes: bar, corner, crescent, ")
    assert log[0].endswith("from Shapes (20 training, 10 validation, 5 test images)")
    assert not any("makes float" in line for line in loaded_from.transform_lines())
    assert any("makes float" in line for line in experiment_of(text, ["data.preprocess=[]"]).transform_lines())


@pytest.mark.usefixtures("_photos")
def test_what_a_model_prepares_on_is_the_drawn_images_and_gathered_a_batch_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    experiment = built([], "seed=3", "data.eval_batch_size=4", "data.preprocess=null")
    part, asked = experiment.data.train, []
    expected = part.store.gather(part.indices[torch.randperm(11, generator=torch.Generator().manual_seed(3))])
    gather = part.store.gather
    monkeypatch.setattr(part.store, "gather", lambda indices: asked.append(len(indices)) or gather(indices))
    monkeypatch.setattr(part.store, "resident", lambda device: None)
    monkeypatch.setattr(batches, "CPU_CHUNK", 4)
    shown = experiment._sample_for_prepare()
    assert torch.equal(shown, expected.permute(0, 3, 1, 2).float() * (1 / 255))
    assert asked == [4, 4, 3]
