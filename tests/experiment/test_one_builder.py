"""What validates is what runs: a trial with the truth about the data builds what the run builds, part by part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trainer.experiment.experiment import Experiment
from trainer.experiment.groups import ParameterGroups
from trainer.experiment.known import known_from
from trainer.experiment.passage import Passage
from trainer.experiment.trial import Trial
from trainer.recipe.checks.draft import Draft
from trainer.recipe.fast import fast_recipe
from trainer.recipe.load import load_recipe
from trainer.recipe.problems import Collector, Sources, render

RECIPES = sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml"))
SHAPES = "{type: Shapes, train_size: 96, val_size: 40, test_size: 40}"
GREY = "{type: ToGray, num_output_channels: 1, p: 1}"
BY_DEVICE = ("params", "fused")  # in a group: what a trial has stand-ins for, and what the device decides
ODD = [  # settings in which a trial and a run once differed
    ("optimizer.groups=[{match: ['@head'], lr: $lr_finder.lr}]", "lr_finder={}"),
    ("optimizer.groups=[{match: ['@head'], lr_scale: 10}]", "scheduler={type: OneCycleLR, max_lr: 0.1}"),
    ("optimizer.groups=[{match: ['@bias'], lr_scale: 0.1}]", "scheduler={type: CosineAnnealingLR, eta_min: 0.001}"),
    ("scheduler={type: SequentialLR, milestones: [1], schedulers: [LinearLR, PolynomialLR]}",),
    ("scheduler={type: StepLR, step_size: 1, warmup: {epochs: 1}}",),
    ("train.freeze=['@norm']", "regularizers=[{type: L2, strength: 1e-4, exclude: ['@bias']}]"),
    ("data.eval=[{type: Resize, height: 24, width: 40}]", "data.augment=[{type: Resize, height: 24, width: 40}]"),
    (f"data.augment=[{GREY}]", f"data.eval=[{GREY}]"),
    ("loss={type: CrossEntropyLoss, weight: {ring: 2}}",),
    ("train.accumulate=3", "data.drop_last=true", "scheduler=OneCycleLR", "scheduler.max_lr=0.2"),
]


def built(experiment: Experiment) -> dict[str, Any]:
    """What a run builds."""
    optimizer = experiment.optimizer()
    return {
        "shape": experiment.input_shape,
        "image size": experiment.facts["data.image_size"],
        "steps per epoch": experiment.steps_per_epoch,
        **_parts(experiment, experiment.model, experiment.groups, optimizer, experiment.schedule(optimizer)),
    }


def tried(experiment: Experiment) -> dict[str, Any]:
    """What a trial builds when it is told the truth about the data."""
    known = known_from(experiment.data)
    draft = Draft(experiment.recipe, experiment.catalogue, Collector(Sources()))
    trial = Trial(draft, known)
    shape = Passage(draft, known, trial.make).shapes(trial.parts.take_size).evaluation
    trial.parts.facts |= {name: experiment.facts[name] for name in ("data.mean", "data.std")}
    if "lr_finder.lr" in experiment.facts:
        trial.parts.facts["lr_finder.lr"] = experiment.facts["lr_finder.lr"]
    with torch.device("meta"):
        model = trial.parts.new_model(shape)
    trial.parts.freeze(model)
    groups = ParameterGroups.of(experiment.recipe.optimizer, model)
    parameters = {name: nn.Parameter(torch.zeros(1).expand(p.shape)) for name, p in model.named_parameters()}
    optimizer = trial.parts.new_optimizer(groups, parameters)
    assert draft.problems.wrong == set()
    return {
        "shape": shape,
        "image size": trial.parts.facts["data.image_size"],
        "steps per epoch": trial.parts.steps_per_epoch,
        **_parts(trial.parts, model, groups, optimizer, trial.parts.new_schedule(optimizer, groups)),
    }


def _parts(assembly: Any, model: nn.Module, groups: ParameterGroups, optimizer: Any, schedule: Any) -> dict[str, Any]:
    recipe = assembly.recipe
    penalties = [assembly.new_penalty(spec, model) for spec in recipe.regularizers]
    plain = [{k: v for k, v in group.items() if k not in BY_DEVICE} for group in optimizer.param_groups]
    state = {k: v for k, v in schedule.state().items() if k != "_last_lr"}
    if "lead" in state:
        lead = state["lead"]["group"]
        state["lead"] = {**state["lead"], "group": {k: v for k, v in lead.items() if k not in BY_DEVICE}}
    return {
        "parameters": {name: tuple(p.shape) for name, p in model.named_parameters() if p.requires_grad},
        "groups": [group.names for group in groups.groups],
        "group arguments": plain,
        "schedule": state,
        "penalties": [(one.name, [tuple(p.shape) for p in one.parameters]) for one in penalties],
        "metrics": {spec.key: vars(assembly.new_metric(spec)) for spec in recipe.train.metrics},
    }


def experiment_of(path: Path, *overrides: str) -> Experiment:
    loaded = load_recipe(path, overrides)
    assert loaded.recipe is not None, render(loaded.problems)
    assert loaded.catalogue is not None
    experiment = Experiment.from_recipe(fast_recipe(loaded.recipe), loaded.catalogue, log=lambda _: None)
    experiment.facts.define("lr_finder.lr", lambda: 0.0123)
    return experiment


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_a_shipped_recipe_is_tried_as_it_is_run(path: Path) -> None:
    loaded = load_recipe(path)
    assert loaded.recipe is not None
    data = loaded.recipe.data
    overrides = [f"data.dataset={SHAPES}", "data.batch_size=16"]
    overrides += [] if data.val is None or not isinstance(data.val, str) else ["data.val=val"]
    overrides += ["model.weights=null"] if loaded.recipe.model.arguments.get("weights") else []
    experiment = experiment_of(path, *overrides)
    assert tried(experiment) == built(experiment)


@pytest.mark.parametrize("overrides", ODD, ids=[each[0][:60] for each in ODD])
def test_where_they_once_differed_they_build_the_same(overrides: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"version: 1\ndata: {{dataset: {SHAPES}, val: val, batch_size: 16}}\nmodel: {{type: cifar_resnet18}}\n"
        "optimizer: {type: SGD, lr: 0.1, momentum: 0.9}\ntrain: {epochs: 2}\n"
    )
    experiment = experiment_of(path, *overrides)
    assert tried(experiment) == built(experiment)
