"""What is frozen stays as it was: norm layers keep their statistics, unless the recipe says otherwise."""

from pathlib import Path

import pytest
import torch
from torch import nn

from trainer.engine.interrupts import Interrupts
from trainer.engine.training_mode import frozen_statistics
from trainer.experiment.experiment import Experiment
from trainer.recipe.load import load_recipe
from trainer.recipe.recipe import LRFinder
from trainer.run.recorder import Recorder
from trainer.stages.fit import fit
from trainer.stages.lr_finder import find_lr

RECIPE = """
version: 1
data: {dataset: {type: Shapes, train_size: 48, val_size: 16, test_size: 16}, batch_size: 16, val: val}
model: {type: SmallCNN, width: 4}
optimizer: {type: SGD, lr: 0.05}
train: {epochs: 1, precision: fp32, freeze: ["layer*"]}
callbacks: []
report: []
"""


def statistics(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.named_buffers() if name.startswith("layer")}


def trained(experiment, folder: Path) -> None:
    recorder = Recorder([], lambda _: None)
    fit(experiment, [], recorder, Interrupts(), folder, {}, state=None, log=lambda _: None)


def test_training_leaves_the_statistics_of_frozen_layers_as_they_were(experiment_of, tmp_path):
    experiment = experiment_of(RECIPE)
    before = statistics(experiment.model)
    assert before
    trained(experiment, tmp_path)
    assert all(map(torch.equal, before.values(), statistics(experiment.model).values()))


def test_a_frozen_network_gives_the_same_features_in_training_as_in_evaluation(experiment_of):
    experiment = experiment_of(RECIPE, ["train.freeze=['layer*']"])
    experiment.train_mode()
    for module in experiment.still:
        assert isinstance(module, nn.BatchNorm2d)
        assert not module.training
    assert experiment.model.training


def test_update_lets_them_follow_the_training_images(experiment_of, tmp_path):
    experiment = experiment_of(RECIPE, ["train.frozen_statistics=update"])
    before = statistics(experiment.model)
    trained(experiment, tmp_path)
    assert not any(map(torch.equal, before.values(), statistics(experiment.model).values()))


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ([], "their statistics stay as they are (train.frozen_statistics: update lets them move)"),
        (["train.frozen_statistics=update"], "their statistics move all the same (train.frozen_statistics: update)"),
        (["train.freeze=[]"], None),
        (["train.freeze=['**.weight']"], None),
    ],
)
def test_the_log_says_which_it_is(write_recipe, overrides, line):
    loaded, said = load_recipe(write_recipe(RECIPE), overrides), []
    experiment = Experiment.from_recipe(loaded.recipe, loaded.catalogue, log=said.append)
    count = len(frozen_statistics(experiment.model))
    assert [one for one in said if "norm layers" in one] == ([f"frozen norm layers: {count}; {line}"] if line else [])


def test_the_lr_finder_sees_the_frozen_layers_as_training_will(experiment_of):
    experiment = experiment_of(RECIPE, ["train.cache_features=off"])
    assert experiment.course  # what a step calls is tried out before
    modes = []
    experiment.still[0].register_forward_hook(lambda module, *_: modes.append(module.training))
    find_lr(experiment, LRFinder(start=1e-4, end=1e-2, steps=3))
    assert modes == [False] * 3


def test_what_counts_is_the_layers_own_parameters_and_where_it_has_none_those_around_it():
    class Network(nn.Sequential):
        pass

    model = Network(
        nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False)),  # frozen as a whole
        nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False)),  # learns
        nn.BatchNorm1d(2),  # frozen
        nn.BatchNorm1d(2),  # its bias learns
        nn.LayerNorm(2),  # frozen, and without statistics
        nn.Sequential(nn.Conv1d(2, 2, 1), nn.InstanceNorm1d(2, track_running_stats=True)),  # frozen
    )
    for frozen in (model[0], model[2], model[4], model[5]):
        frozen.requires_grad_(False)
    model[3].weight.requires_grad_(False)
    assert frozen_statistics(model) == [model[0][1], model[2], model[5][1]]


def test_statistics_alone_of_another_layer_are_kept_too():
    class Whitening(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2), requires_grad=False)
            self.register_buffer("running_covariance", torch.eye(2))

    model = nn.Sequential(Whitening(), nn.Linear(2, 2))
    assert frozen_statistics(model) == [model[0]]
