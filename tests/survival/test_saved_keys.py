"""Every value that is saved is needed: replaced by what it was at another moment, each in turn changes the result.

This is what keeps the comparison behind every promise of exact resume honest: a key that it would not miss is no
evidence. What cannot differ in this training is listed, with the reason.
"""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from shared_recipes import EVERYTHING

from trainer.engine import checkpoint, meters
from trainer.engine.interrupts import Interrupted, Interrupts
from trainer.engine.keeper import read_latest
from trainer.engine.progress import history_in
from trainer.experiment.experiment import build_callbacks
from trainer.recipe.recipe import Best
from trainer.run.recorder import Recorder
from trainer.stages.fit import fit

RECIPE = EVERYTHING.replace("{type: SmallCNN, dropout", "{type: SmallCNN, width: 4, dropout").replace(
    "{type: EarlyStopping,", "{type: EarlyStopping, min_delta: 50,"
)
BEST = Best("train/loss", "max")  # the first epoch, before the cut: later ones would be found again without the record
WHOLE = ("model", "optimizer", "schedule")  # replaced as one
OTHER = 3  # the last step of the first epoch, before it is closed: its batches have other sizes
CUT = 5  # in the middle of the second epoch, between two readings
TIMES = ("seconds", "epoch_seconds")  # wall times, which no comparison includes
SAME = {  # what has the same value at both moments
    "precision": "fp32 has no state",
    "meter.weights": "without class weights a batch counts with its size; with them: tests/engine/test_criterion.py",
    "rng.python": "nothing in a training draws from it",
    "rng.numpy": "nothing in a training draws from it",
    "rng.cuda": "there is none here, or nothing drew from it",
    "progress.group_lrs": "there is one parameter group",
    "chain.origin": "it says what the run builds on",
    "buffers": "the network has none that its state dict leaves out",
    "modules.loss": "cross entropy remembers nothing",
    "loss": "cross entropy learns nothing; a loss that does: tests/experiment/test_learnt_loss.py",
    "loss_buffers": "cross entropy moves nothing; a loss that does: tests/experiment/test_learnt_loss.py",
    "meter.apart": "no metric keeps elsewhere what it is given; one that does: tests/engine/test_criterion.py",
    "progress.stopped": "nothing has ended the training",
    "progress.out_of_time": "nothing has ended the training",
    "progress.skipped": "no loss was bad",
    "progress.skipped_in_a_row": "no loss was bad",
    "progress.restores": "no loss was bad",
    "callbacks.ParameterNorms-0": "it remembers nothing",
    "callbacks.TensorBoard-0": "it remembers nothing",
}
OVERWRITTEN = {  # what the next step writes before anything reads it
    "progress.lr": "the schedule's rate, taken anew by every step",
}
FACTS = ("format", "note")


class Cut(Recorder):
    def __init__(self, interrupts: Interrupts, after: int | None) -> None:
        super().__init__([], lambda _: None)
        self.pulse = lambda progress, _: setattr(interrupts, "signum", 2) if progress.step == after else None


def run(experiment, folder: Path, after: int | None, state=None) -> dict:
    interrupts = Interrupts()
    folder.mkdir(exist_ok=True)
    _, callbacks = build_callbacks(experiment.recipe, experiment.catalogue)
    with suppress(Interrupted):
        fit(experiment, callbacks, Cut(interrupts, after), interrupts, folder, {"note": ""}, state=state, log=print)
    return read_latest(folder, print)


def digests(state: dict) -> dict[str, str]:
    """Digest per part of a state, one level deep, wall times left out."""
    state["progress"]["history"] = history_in(state["progress"])
    for row in (*state["progress"]["history"], state["progress"]["best"] or {}):
        row.pop("seconds", None)
    found = {}
    for key, value in state.items():
        parts = value if isinstance(value, dict) and key not in WHOLE else {"": value}
        found |= {f"{key}.{name}".rstrip("."): checkpoint.digest({"value": part}) for name, part in parts.items()}
        if not parts:
            found[key] = ""
    return {key: digest for key, digest in found.items() if key.partition(".")[2] not in TIMES and key not in FACTS}


def replaced(state: dict, other: dict, key: str) -> dict:
    """Return `state` with one part taken from `other`."""
    section, _, name = key.partition(".")
    if not name:
        return {**state, section: other[section]}
    return {**state, section: {**state[section], name: other[section][name]}}


@pytest.fixture(scope="module", autouse=True, params=[0, meters.MOST_PENDING], ids=["at every reading", "at the end"])
def waiting(request) -> str:
    """When the metrics count; return what is then the same at both moments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meters, "MOST_PENDING", request.param)
        yield "meter.metrics" if request.param else "meter.summed"


@pytest.fixture(scope="module")
def states(tmp_path_factory, waiting) -> dict[str, dict]:
    """States of one training: at another step, at the cut, at the end; and the folder to work in."""
    from trainer.experiment.experiment import Experiment
    from trainer.recipe.load import load_recipe

    folder = tmp_path_factory.mktemp("keys")
    (folder / "recipe.yaml").write_text(RECIPE)
    loaded = load_recipe(str(folder / "recipe.yaml"), ())
    recipe = replace(loaded.recipe, train=replace(loaded.recipe.train, best=BEST))

    def experiment() -> Experiment:
        return Experiment.from_recipe(recipe, loaded.catalogue, log=lambda _: None)

    return {
        "other": run(experiment(), folder / "other", OTHER),
        "cut": run(experiment(), folder / "cut", CUT),
        "end": run(experiment(), folder / "end", None),
        "folder": folder,
        "experiment": experiment,
    }


def test_every_saved_part_is_missed_when_it_is_put_back(states, waiting):
    other, cut, end = (digests(checkpoint.snapshot(states[name])) for name in ("other", "cut", "end"))
    differing = {key for key in cut if cut[key] != other.get(key)}
    assert set(cut) - differing <= {*SAME, waiting}, "equal at both moments, so this test says nothing of them"
    unnoticed = set()
    for number, key in enumerate(sorted(differing)):
        state = replaced(checkpoint.snapshot(states["cut"]), states["other"], key)
        torch.rand(3)
        try:
            after = run(states["experiment"](), states["folder"] / f"run{number}", None, state=state)
        except Exception:  # a schedule that is ahead of the steps refuses to go on, ...: noticed, too
            continue
        if digests(after) == end:
            unnoticed.add(key)
    assert unnoticed == set(OVERWRITTEN)


def test_nothing_put_back_changes_nothing(states):
    state = checkpoint.snapshot(states["cut"])
    torch.rand(3)
    after = run(states["experiment"](), states["folder"] / "again", None, state=state)
    assert digests(after) == digests(checkpoint.snapshot(states["end"]))
