"""The library's door: validate, train and load from a script or notebook, and what it costs to open."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import registry
import trainer
from registry.errors import DataError, RecipeError

RECIPE = """\
version: 1
name: door
data: {dataset: {type: Shapes, train_size: 40, val_size: 20, test_size: 20}, batch_size: 8}
model: {type: SmallCNN, width: 4}
optimizer: {type: SGD, lr: 0.05}
train: {epochs: 3, device: cpu}
report: [Curves]
callbacks: []
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path("door.yaml")
    path.write_text(RECIPE)
    return path


def test_what_stands_in_the_door_is_a_list() -> None:
    assert trainer.__all__ == ["load", "train", "validate"]
    assert all(callable(getattr(trainer, name)) for name in trainer.__all__)


def test_a_recipe_is_validated_with_overrides_and_nothing_is_written(recipe: Path) -> None:
    assert trainer.validate(recipe) == ()
    (problem,) = trainer.validate(recipe, "model.widht=3")
    assert (problem.rule, problem.severity) == ("R021", "error")
    (problem,) = trainer.validate(recipe, "train.freeze=[nothing]")  # only what is built shows it
    assert problem.rule == "R070"
    assert [path.name for path in Path().iterdir()] == ["door.yaml"]


def test_a_recipe_is_trained_and_the_run_loaded(recipe: Path) -> None:
    result = trainer.train(recipe, "train.epochs=1", runs="somewhere")
    assert (result.exit_code, result.summary["status"], result.summary["epochs"]) == (0, "completed", 1)
    assert result.folder.path.parent == Path("somewhere/door")
    assert len(trainer.load(result.folder.path).class_names) == 10


def test_a_loaded_run_takes_one_picture_several_or_none(recipe: Path) -> None:
    run = trainer.load(trainer.train(recipe, "train.epochs=1").folder.path)
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    cv2.imwrite("flat0.png", pixels[..., ::-1])
    (expected,) = run.predict(["flat0.png"])
    for one in ("flat0.png", Path("flat0.png"), pixels, (Path("flat0.png"),)):
        assert run.predict(one) == [expected]
    assert len(run.predict(np.stack([pixels, pixels]))) == 2
    assert run.predict([]) == []
    channels, height, width = run.input_shape
    assert run.logits([]).shape == (0, 10)
    assert run.preprocess([]).shape == (0, channels, height, width)
    assert run.shown([]) == []
    with pytest.raises(DataError, match=r"^nowhere\.png cannot be read"):
        run.predict("nowhere.png")


def test_a_recipe_with_problems_is_refused_with_all_of_them(recipe: Path) -> None:
    with pytest.raises(RecipeError, match=r"(?s)widht.*momentun.*2 problems, nothing was run"):
        trainer.train(recipe, "model.widht=3", "optimizer.momentun=1")
    assert not Path("runs").exists()


def test_a_fast_run_is_marked_as_one(recipe: Path) -> None:
    assert trainer.train(recipe, fast=True).summary["fast"] is True


def test_the_door_for_components_names_what_there_is() -> None:
    assert set(registry.__all__) == set(dir(registry))
    for name in registry.__all__:
        assert getattr(registry, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'componet'"):
        registry.componet  # noqa: B018


def test_plugins_written_for_the_former_places_are_found(recipe: Path) -> None:
    Path("mine.py").write_text(
        "from typing import Annotated\n"
        "from torch import nn\n"
        "from registry.catalog import component\n"
        "from registry.contracts import Callback\n"
        "from registry.errors import RecipeError\n"
        "from registry.markers import Bounds\n\n"
        '@component("model")\n'
        "class Old(nn.Module):\n"
        "    def __init__(self, num_classes: int, width: Annotated[int, Bounds(min=1)] = 4) -> None:\n"
        "        super().__init__()\n"
        "        self.stack = nn.Sequential(nn.Flatten(), nn.Linear(3072, width), nn.Linear(width, num_classes))\n\n"
        "    def forward(self, images):\n"
        "        return self.stack(images)\n"
    )
    assert trainer.validate(recipe, "plugins=[./mine.py]", "model=Old") == ()
    (problem,) = trainer.validate(recipe, "plugins=[./mine.py]", "model={type: Old, width: 0}")
    assert problem.rule == "R017"


def test_what_the_data_show_to_be_doubtful_is_said_and_stands_on_the_page_with_the_way_out(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, count in (("healthy", 46), ("sick", 4)):
        for index in range(count):
            Path("scans", name).mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng([index, count]).integers(0, 255, (12, 12, 3), dtype=np.uint8)
            cv2.imwrite(f"scans/{name}/{index}.png", pixels)
    scans = ("data.dataset={type: ImageFolder, root: scans}", "data.val={fraction: 0.25}", "train.epochs=1")
    run = trainer.train(recipe, *scans)
    said = (
        "hardly counts in val/accuracy: always answering 'healthy' is right for 92 % (BalancedAccuracy and F1 let every"
    )
    assert f"warning: train.best: 'sick' has 3 of 38 training images, so it {said}" in capsys.readouterr().out
    page = (run.folder.path / "report.md").read_text().replace("\\", "")  # which Markdown puts before a `_`
    assert "'sick' has 3 of 38 training images" in page
    assert "metrics: [Accuracy, BalancedAccuracy], best: {metric: val/balanced_accuracy}" in page
    balanced = ("train.metrics=[Accuracy, BalancedAccuracy]", "train.best.metric=val/balanced_accuracy")
    chosen = trainer.train(recipe, *scans, *balanced)
    assert "hardly counts" not in capsys.readouterr().out
    assert set(chosen.summary["best"]) >= {"val/accuracy", "val/balanced_accuracy"}


@pytest.mark.parametrize("ask", [trainer.load, trainer.validate, trainer.train])
@pytest.mark.parametrize("path", [None, 3, "", b"door.yaml", ["door.yaml"]])
def test_what_is_no_path_is_refused(ask: Callable[[object], object], path: object) -> None:
    with pytest.raises(RecipeError, match="is named by a path, got "):
        ask(path)


@pytest.mark.parametrize("ask", [trainer.validate, trainer.train])
@pytest.mark.parametrize("override", [3, None, ["train.epochs=1"], {"train.epochs": 1}])
def test_an_override_that_is_no_text_is_refused(recipe: Path, ask: Callable[..., object], override: object) -> None:
    with pytest.raises(RecipeError, match=f"an override is a text, got {re.escape(repr(override))}"):
        ask(recipe, override)
    assert not Path("runs").exists()


def test_a_folder_of_runs_that_is_no_path_is_refused(recipe: Path) -> None:
    with pytest.raises(RecipeError, match="the folder of runs is named by a path, got None"):
        trainer.train(recipe, runs=None)
