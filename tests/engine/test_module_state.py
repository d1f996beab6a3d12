"""State of plug-ins: whatever is a module is saved, resumed, and given back by the LR finder; the rest is refused."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from registry.contracts import Callback
from registry.errors import CheckpointError
from trainer.engine import checkpoint
from trainer.engine.interrupts import Interrupted, Interrupts
from trainer.engine.keeper import best_weights, read_latest
from trainer.engine.modules import load_network
from trainer.engine.progress import history_in
from trainer.experiment.experiment import Experiment
from trainer.recipe.load import load_recipe
from trainer.recipe.recipe import LRFinder
from trainer.run.recorder import Recorder
from trainer.stages.evaluate import evaluate_weights
from trainer.stages.fit import fit
from trainer.stages.lr_finder import find_lr

PLUGIN = """
import torch
from torch import nn
from registry.contracts import Callback
from registry.mixes import Mixer
from registry import component

class Remembers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("fleeting", torch.zeros(()), persistent=False)

    def move(self, value):
        self.seen += value.detach()
        self.fleeting = 0.5 * self.fleeting + value.detach()  # another tensor every time
        return self.seen + self.fleeting

@component("loss")
class Scaled(Remembers):
    '''Cross entropy that grows with what it has seen.'''
    def forward(self, logits, targets):
        loss = nn.functional.cross_entropy(logits, targets)
        return loss * (1 + 0.1 * self.move(loss)) if self.training else loss

@component("mix")
class Drifting(Mixer, nn.Module):
    '''Adds what it has seen to the images.

    Args:
        num_classes: classes.
    '''
    def __init__(self, num_classes: int) -> None:
        nn.Module.__init__(self)
        Mixer.__init__(self, 1.0, 1.0, num_classes)
        self.register_buffer("seen", torch.zeros(()))
    def __call__(self, images, targets, generator):
        self.seen += 0.1
        return images + self.seen, nn.functional.one_hot(targets, self.num_classes).float()
    def mix(self, images, others, share, place):
        return images, 1.0

@component("regularizer")
class Growing(nn.Module):
    '''A pull that grows at every step.'''
    include = None
    exclude = None
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("strength", torch.tensor(1e-3))
    @torch.no_grad()
    def add_gradients(self, parameters):
        self.strength += 1e-3
        for p in parameters:
            p.grad += self.strength * p
    def value(self, parameters):
        return self.strength

@component("model")
class Adapting(Remembers):
    '''A network that subtracts what it has seen.

    Args:
        num_classes: classes.
    '''
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)
    def forward(self, images):
        x = images.mean((2, 3))
        if self.training:
            self.move(0.1 * x.mean())
        return self.head(x - self.fleeting)

@component("callback")
class Watches(Callback, Remembers):
    '''Measures what it has seen.'''
    def measure(self, view):
        return {"watched": float(self.move(torch.ones(())))}
"""
RECIPE = """
version: 1
seed: 2
plugins: [./plugin.py]
data:
  dataset: {type: Shapes, train_size: 40, val_size: 16, test_size: 16}
  batch_size: 8
  val: val
  preprocess: [{type: Normalize, mean: $data.mean, std: $data.std}]
model: Adapting
loss: Scaled
regularizers: [Growing]
optimizer: {type: SGD, lr: 0.1, momentum: 0.9}
train: {epochs: 3, precision: fp32, mix: Drifting, ema: {decay: 0.5}}
callbacks: [Watches]
report: []
"""
CUT = 7  # in the middle of the second epoch
NEEDED = ("buffers", *(f"modules.{role}" for role in ("loss", "mix", "regularizer growing", "callback Watches-0")))


@pytest.fixture
def experiment(tmp_path):
    (tmp_path / "plugin.py").write_text(PLUGIN)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    loaded = load_recipe(str(tmp_path / "recipe.yaml"), ())
    return lambda: Experiment.from_recipe(loaded.recipe, loaded.catalogue, log=lambda _: None)


def run(experiment, folder: Path, cut: int | None = None, state=None) -> dict:
    from trainer.experiment.experiment import build_callbacks

    folder.mkdir(exist_ok=True)
    interrupts = Interrupts()
    recorder = Recorder(
        [], print, lambda progress, _: setattr(interrupts, "signum", 2) if progress.step == cut else None
    )
    _, callbacks = build_callbacks(experiment.recipe, experiment.catalogue)
    with suppress(Interrupted):
        fit(experiment, callbacks, recorder, interrupts, folder, {}, state=state, log=print)
    return read_latest(folder, print)


def digest(state: dict) -> str:
    state = checkpoint.snapshot(state)
    state["progress"]["history"] = history_in(state["progress"])
    for row in (*state["progress"]["history"], state["progress"]["best"]):
        row.pop("seconds")
    for key in ("seconds", "epoch_seconds"):
        state["progress"].pop(key)
    return checkpoint.digest(state)


def test_a_resumed_run_equals_the_uninterrupted_one_with_state_in_every_kind_of_component(experiment, tmp_path):
    whole = digest(run(experiment(), tmp_path / "whole"))
    state = run(experiment(), tmp_path / "cut", CUT)
    assert digest(run(experiment(), tmp_path / "cut", state=state)) == whole
    for key in NEEDED:
        section, _, role = key.partition(".")
        less = {**state, section: {name: one for name, one in state[section].items() if role and name != role}}
        assert digest(run(experiment(), tmp_path / f"without {key}", state=less)) != whole, f"{key} is not needed"


def test_the_best_weights_come_with_the_buffers_they_were_measured_with(experiment, tmp_path):
    state = run(experiment(), tmp_path / "run")
    best = best_weights(tmp_path / "run", state["progress"]["best"]["epoch"])
    anew = experiment()
    assert evaluate_weights(anew, "val", best).values["accuracy"] == state["progress"]["best"]["val/accuracy"]
    assert anew.model.fleeting.item() == best["buffers"]["fleeting"].item() != 0


def test_the_lr_finder_gives_back_what_every_module_has_seen(experiment):
    one = experiment()
    find_lr(one, LRFinder(start=1e-4, end=1e-1, steps=6))
    assert [float(tensor) for module in (one.model, one.loss, one.mix) for tensor in module.buffers()] == [0.0] * 5
    assert one.penalties[0].regularizer.strength.item() == pytest.approx(1e-3)


def test_a_loss_is_in_evaluation_mode_while_a_part_is_evaluated(experiment):
    one = experiment()
    evaluate_weights(one, "val")
    assert float(one.loss.seen) == 0.0
    assert one.loss.training


def test_an_older_checkpoint_without_such_buffers_still_loads(experiment):
    one = experiment()
    load_network(one.model, {"model": one.model.state_dict()})
    assert one.model.fleeting.item() == 0.0


class Collects(Callback):
    """Remembers what a checkpoint could not give back."""

    def __init__(self, value: object, after: int = 0) -> None:
        self._value, self._after, self._epochs = value, after, 0

    def epoch_finished(self, view) -> None:
        self._epochs += 1

    def state(self):
        return {"kept": [self._value] if self._epochs >= self._after else []}


@pytest.mark.parametrize(
    ("value", "kind"), [(np.float64(0.5), "numpy.float64"), (Path("x"), "Path"), (nn.Linear(1, 1), "")]
)
def test_a_state_that_cannot_be_saved_is_refused_by_name_before_training(experiment, tmp_path, value, kind):
    one = experiment()
    before = checkpoint.digest(one.model.state_dict())
    with pytest.raises(CheckpointError, match=rf"callbacks\.Collects-0\.kept\.0 of the training's state is a .*{kind}"):
        fit(one, [Collects(value)], Recorder([], print), Interrupts(), tmp_path, {}, state=None, log=print)
    assert checkpoint.digest(one.model.state_dict()) == before


def test_a_state_that_cannot_be_saved_later_leaves_the_checkpoint_before(experiment, tmp_path):
    one, later = experiment(), [Collects(np.float64(1), 2)]
    with pytest.raises(CheckpointError, match=r"numpy\.float64"):
        fit(one, later, Recorder([], print), Interrupts(), tmp_path, {}, state=None, log=print)
    assert read_latest(tmp_path, print)["progress"]["epoch"] == 1


def test_a_module_whose_own_extra_state_cannot_be_saved_is_named_by_its_role(experiment, tmp_path):
    class Odd(nn.CrossEntropyLoss):
        def get_extra_state(self):
            return object()

        def set_extra_state(self, state):
            pass

    one = experiment()
    one.loss = Odd()
    with pytest.raises(CheckpointError, match=r"modules\.loss\.state\._extra_state"):
        fit(one, [], Recorder([], print), Interrupts(), tmp_path, {}, state=None, log=print)
