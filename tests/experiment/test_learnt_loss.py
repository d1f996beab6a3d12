"""A loss with parameters of its own: they learn with the network, are kept, and are measured with."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import trainer
from trainer.cli.main import main
from trainer.engine import checkpoint
from trainer.experiment.experiment import Experiment
from trainer.run.loading import LoadedRun

PLUGIN = """\
import torch
from torch import nn
from registry import component

@component("loss")
class Tempered(nn.Module):
    '''Cross entropy of logits times a factor that is learnt.'''
    def __init__(self, learns: bool = True) -> None:
        super().__init__()
        self.log_factor = nn.Parameter(torch.zeros(()), requires_grad=learns)

    def forward(self, logits, targets):
        return nn.functional.cross_entropy(logits * self.log_factor.exp(), targets)
"""
DRIFTING = """

@component("loss")
class Drifting(nn.Module):
    '''Cross entropy of logits less a bias that follows them in training.'''
    def __init__(self, weight: list[float] | None = None, num_classes: int = 10) -> None:
        super().__init__()
        self.register_buffer("weight", None if weight is None else torch.tensor(weight, dtype=torch.float32))
        self.register_buffer("bias", torch.zeros(num_classes))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, logits, targets):
        if self.training:
            self.bias += 0.5 * (logits.detach().mean(dim=0) + 1 - self.bias) * torch.arange(10)
            self.steps += 1
        return nn.functional.cross_entropy(logits - self.bias, targets, self.weight)
"""
RECIPE = """\
version: 1
name: tempered
plugins: [./tempered.py]
data: {dataset: {type: Shapes, train_size: 40, val_size: 20, test_size: 20}, batch_size: 8}
model: {type: SmallCNN, width: 4}
loss: Tempered
optimizer: {type: SGD, lr: 0.2, momentum: 0.9, groups: [{match: ["@bias"], weight_decay: 0}]}
scheduler: {type: CosineAnnealingLR, T_max: 2}
train: {epochs: 2, device: cpu, precision: fp32}
report: []
callbacks: []
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("tempered.py").write_text(PLUGIN)
    Path("tempered.yaml").write_text(RECIPE)
    return Path("tempered.yaml")


def learnt(run: LoadedRun | Path, file: str = "best.pt") -> float:
    folder = run.folder.path if isinstance(run, LoadedRun) else run
    state = checkpoint.read(folder / "checkpoints" / file)
    part = state["loss"] if file == "best.pt" else state["modules"]["loss"]["state"]
    return float(part["log_factor"])


def experiment(recipe: Path, *overrides: str) -> Experiment:
    from trainer.experiment.checking import examined

    loaded = examined(recipe, overrides)
    assert loaded.catalogue is not None
    return Experiment.from_recipe(loaded.usable(), loaded.catalogue, log=lambda _: None)


def test_its_parameters_make_the_last_group_and_take_the_optimizers_own_step(recipe: Path) -> None:
    assert trainer.validate(recipe) == ()
    made = experiment(recipe, "optimizer.momentum=0")
    optimizer = made.optimizer()
    assert [len(group["params"]) for group in optimizer.param_groups][-1] == 1
    (group,) = optimizer.param_groups[-1]["params"]
    made.train_mode()
    batch = next(iter(made.batches("train").epoch(1)))
    with torch.random.fork_rng():
        wanted = made.loss(made.model(batch.images).float(), batch.targets)
    (gradient,) = torch.autograd.grad(wanted, [group])
    made.step(optimizer)([batch])
    assert float(group.detach()) == pytest.approx(-0.2 * float(gradient), rel=1e-4)
    assert abs(float(group.detach())) > 1e-6


def test_a_parameter_that_takes_no_gradient_is_left_as_it_is(recipe: Path) -> None:
    made = experiment(recipe, "loss={type: Tempered, learns: false}")
    assert len(made.optimizer().param_groups) == 2  # the network's


def test_the_run_says_that_they_learn_keeps_them_with_the_best_weights_and_measures_with_them(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer.train(recipe, "train.best={metric: val/loss, mode: min}")
    assert (
        "loss Tempered: log_factor learn with the network, in a parameter group of their own" in capsys.readouterr().out
    )
    assert abs(learnt(run)) > 1e-4
    assert "lr/group3" in run.history[0]
    assert main(["evaluate", str(run.folder.path)]) == 0
    assert measured_loss(capsys.readouterr().out) == pytest.approx(run.summary["best"]["val/loss"], abs=6e-5)
    plain = run.summary["best"]["val/cross_entropy"]  # what a fresh loss would have said
    assert math.fabs(plain - run.summary["best"]["val/loss"]) > 1e-4


def test_what_a_loss_moves_besides_is_kept_with_the_best_weights_and_measured_with(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("tempered.py").write_text(PLUGIN + DRIFTING)
    run = trainer.train(recipe, "loss=Drifting", "train.epochs=3", "train.best={metric: val/cross_entropy, mode: min}")
    folder = run.folder.path / "checkpoints"
    best, last = (checkpoint.read(folder / name)["loss_buffers"] for name in ("best.pt", "last.pt"))
    assert best.keys() == last.keys() == {"bias", "steps"}
    assert int(last["steps"]) == 15
    assert main(["evaluate", str(run.folder.path)]) == 0
    out = capsys.readouterr().out
    assert measured_loss(out) == pytest.approx(run.summary["best"]["val/loss"], abs=6e-5)
    assert math.fabs(run.summary["best"]["val/cross_entropy"] - run.summary["best"]["val/loss"]) > 1e-3
    weights = "loss.weight=[9, 1, 1, 1, 1, 1, 1, 1, 1, 1]"
    assert main(["evaluate", str(run.folder.path), weights]) == 0
    assert measured_loss(capsys.readouterr().out) != pytest.approx(run.summary["best"]["val/loss"], abs=1e-3)


def measured_loss(out: str) -> float:
    """Return the loss on validation images that `evaluate` has printed."""
    (line,) = [line for line in out.splitlines() if line.startswith("val ")]
    return float(line.split("loss ")[1].split(",")[0])


def test_a_resumed_run_learns_them_as_an_uninterrupted_one_does(recipe: Path) -> None:
    whole = trainer.train(recipe, runs="whole")
    half = trainer.train(recipe, "train.epochs=1", runs="half")
    assert main(["resume", str(half.folder.path), "train.epochs=2"]) == 0
    assert learnt(half, "last.pt") == learnt(whole, "last.pt") != 0
