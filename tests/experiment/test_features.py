"""What frozen layers make of the images is computed once where it never changes, and training is the same with it."""

import pytest
import torch

from trainer.data import features as features_module
from trainer.data.features import FeatureBatches, KeptFeatures
from trainer.engine.interrupts import Interrupts
from trainer.experiment.experiment import Experiment
from trainer.recipe.load import load_recipe
from trainer.recipe.recipe import LRFinder
from trainer.run.recorder import Recorder
from trainer.stages.fit import fit
from trainer.stages.forecast import seconds_per_step
from trainer.stages.lr_finder import find_lr

RECIPE = """
version: 1
data:
  dataset: {type: Shapes, train_size: 48, val_size: 20, test_size: 16}
  batch_size: 16
  val: val
  augment: [{type: CenterCrop, height: 28, width: 28}]
  eval: [{type: CenterCrop, height: 28, width: 28}]
  preprocess: [{type: Normalize}]
model: {type: SmallCNN, width: 4, dropout: 0.2}
optimizer: {type: SGD, lr: 0.05, momentum: 0.9}
train: {epochs: 3, precision: fp32, freeze: ["layer*"], ema: {decay: 0.9}}
callbacks: []
report: []
"""


@pytest.fixture
def said_of(write_recipe):
    """Build the experiment of the recipe; return it with what it says."""

    def make(*overrides: str) -> tuple[Experiment, list[str]]:
        loaded, said = load_recipe(write_recipe(RECIPE), overrides), []
        return Experiment.from_recipe(loaded.recipe, loaded.catalogue, log=said.append), said

    return make


def trained(experiment, folder) -> tuple[dict, list]:
    folder.mkdir()
    result = fit(experiment, [], Recorder([], lambda _: None), Interrupts(), folder, {}, state=None, log=lambda _: None)
    return result.final["model"], [{**row, "seconds": 0} for row in result.progress.history]


def test_training_on_kept_features_is_training_on_the_images(said_of, tmp_path):
    weights, rows = trained(said_of()[0], tmp_path / "kept")
    others, expected = trained(said_of("train.cache_features=off")[0], tmp_path / "off")
    for name, value in weights.items():
        torch.testing.assert_close(value, others[name], rtol=1e-4, atol=1e-5, msg=name)
    for row, other in zip(rows, expected, strict=True):
        assert row == pytest.approx(other, rel=1e-4)


def test_frozen_layers_see_every_image_once_however_long_the_training(said_of, tmp_path):
    experiment, said = said_of()
    seen = []
    experiment.model.layer1.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    seconds_per_step(experiment)
    find_lr(experiment, LRFinder(start=1e-4, end=1e-2, steps=6))
    trained(experiment, tmp_path / "run")
    assert sum(number for number in seen if number > 4) == 48 + 20  # the rest tries where the network divides
    assert (
        "frozen layers: what they make of an image, 12 numbers, is computed once for 68 images and kept "
        "(train.cache_features: off does without)" in said
    )
    assert [line for line in said if line.startswith("frozen layers: done in ")]


def test_batches_are_those_of_the_images_with_features_in_their_place(said_of):
    experiment, _ = said_of("data.sampler=balanced")
    images, features = experiment.batches("train"), experiment.course.train
    assert isinstance(features, FeatureBatches)
    experiment.model.eval()
    for epoch, start in ((1, 0), (2, 1)):
        for one, other in zip(images.epoch(epoch, start), features.epoch(epoch, start), strict=True):
            assert torch.equal(one.targets, other.targets)
            assert torch.equal(one.indices, other.indices)
            pooled = experiment.model.pool(
                experiment.model.layer3(experiment.model.layer2(experiment.model.layer1(one.images)))
            )
            torch.testing.assert_close(other.images, pooled.flatten(1))


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("data.augment=[{type: HorizontalFlip}]", "augment changes images anew in every epoch: HorizontalFlip"),
        ("train.mix={type: MixUp, alpha: 0.3}", "train.mix changes images anew in every step"),
        ("train.freeze=['fc']", "its first layers learn, or leave something to chance"),
    ],
)
def test_where_features_would_change_they_are_not_kept_and_the_log_says_why(said_of, override, reason):
    experiment, said = said_of(override)
    assert experiment.course.train is experiment.batches("train")
    assert f"frozen layers: what they make of an image is computed in every step: {reason}" in said


def test_layers_that_are_passed_over_and_a_compiled_network_do_not_go_together(said_of, monkeypatch):
    """Of a network that a compiler has to read, none may answer by another function."""
    monkeypatch.setattr(torch, "compile", lambda model: model)  # what it would do is not looked at
    experiment, said = said_of("train.freeze=['layer1.**']", "train.compile=true")
    assert experiment.course.train is experiment.batches("train")
    assert any("train.compile takes no network whose first layers are passed over" in line for line in said)


@pytest.mark.parametrize("override", ["train.cache_features=off", "train.freeze=[]"])
def test_nothing_is_said_where_nobody_asked_for_it(said_of, override):
    experiment, said = said_of(override)
    assert experiment.course.train is experiment.batches("train")
    assert not [line for line in said if line.startswith("frozen layers:")]


def test_many_features_lie_in_a_file_that_leaves_nothing_behind(said_of, tmp_path, monkeypatch):
    monkeypatch.setattr(features_module, "IN_MEMORY", 0)
    part = said_of()[0].data.val
    kept = KeptFeatures.empty(part, (3,), torch.bfloat16, tmp_path / "features")
    kept.values.copy_(torch.arange(60).view(20, 3))
    assert kept.take(part.indices[[7, 2]]).tolist() == [[21, 22, 23], [6, 7, 8]]
    assert list((tmp_path / "features").iterdir()) == []
