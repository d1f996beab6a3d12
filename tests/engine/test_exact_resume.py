"""A resumed training equals the uninterrupted one, bit for bit, from any step."""

import random
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from shared_recipes import EVERYTHING

from registry.contracts import Callback, View
from trainer.data.features import FeatureBatches
from trainer.engine import checkpoint
from trainer.engine.interrupts import Interrupted, Interrupts
from trainer.engine.keeper import read_latest
from trainer.engine.loop import named_callbacks
from trainer.engine.progress import history_in
from trainer.experiment.experiment import build_callbacks
from trainer.run.recorder import Recorder
from trainer.stages.fit import FitResult, fit

STEPS = 9  # 92 images, 6 micro-batches and 3 steps an epoch, 3 epochs


class Cut(Recorder):
    """Raises a signal's request after a given step, and otherwise records nothing."""

    def __init__(self, interrupts: Interrupts, after: int | None) -> None:
        super().__init__([], lambda _: None)
        self._interrupts, self._after = interrupts, after
        self.pulse = self._pulse

    def _pulse(self, progress, meter) -> None:
        if progress.step == self._after:
            self._interrupts.signum = 2


def run(experiment, folder: Path, cut: int | None, state=None) -> FitResult:
    interrupts = Interrupts()
    folder.mkdir(exist_ok=True)
    _, callbacks = build_callbacks(experiment.recipe, experiment.catalogue)
    return fit(
        experiment, callbacks, Cut(interrupts, cut), interrupts, folder, {"note": "x"}, state=state, log=lambda _: None
    )


def whole_state(folder: Path) -> dict[str, str]:
    """Digest per key of the last checkpoint, wall times left out."""
    state = read_latest(folder, print)
    state["progress"]["history"] = history_in(state["progress"])
    for row in (*state["progress"]["history"], state["progress"]["best"]):
        row.pop("seconds")
    for key in ("seconds", "epoch_seconds"):
        state["progress"].pop(key)
    return {key: checkpoint.digest({"value": value}) for key, value in state.items()}


@pytest.fixture
def uninterrupted(experiment_of, tmp_path) -> dict[str, str]:
    run(experiment_of(EVERYTHING), tmp_path / "whole", None)
    return whole_state(tmp_path / "whole")


def test_a_run_cut_at_any_step_ends_in_the_same_state(experiment_of, tmp_path, uninterrupted):
    for step in range(1, STEPS + 1):
        folder = tmp_path / f"cut{step}"
        with pytest.raises(Interrupted):
            run(experiment_of(EVERYTHING), folder, step)
        torch.rand(7)  # another process would not have the same random state
        run(experiment_of(EVERYTHING), folder, None, state=read_latest(folder, print))
        assert whole_state(folder) == uninterrupted, f"cut after step {step}"


@pytest.mark.parametrize(
    "key", ["model", "optimizer", "schedule", "averaging", "rng", "meter", "callbacks", "progress"]
)
def test_the_oracle_notices_every_saved_key(experiment_of, tmp_path, uninterrupted, key):
    folder = tmp_path / "cut"
    with pytest.raises(Interrupted):
        run(experiment_of(EVERYTHING), folder, 5)  # in the middle of the second epoch
    state = read_latest(folder, print)
    fresh_folder = tmp_path / "fresh"
    with pytest.raises(Interrupted):
        run(experiment_of(EVERYTHING), fresh_folder, 1)
    state[key] = read_latest(fresh_folder, print)[key]
    with suppress(ValueError):  # a schedule that is ahead of the steps may refuse to go on: noticed, too
        run(experiment_of(EVERYTHING), folder, None, state=state)
    assert whole_state(folder) != uninterrupted


class Draws(Callback):
    """Measures with numbers drawn from everywhere."""

    def measure(self, view: View) -> dict[str, float]:
        return {"drawn": float(torch.randperm(8)[0]) + random.random() + np.random.random()}


def test_what_a_callback_draws_to_measure_leaves_the_training_as_it_was(experiment_of, tmp_path, uninterrupted):
    experiment = experiment_of(EVERYTHING)
    _, callbacks = build_callbacks(experiment.recipe, experiment.catalogue)
    place = tmp_path / "drawn"
    place.mkdir()
    fit(
        experiment,
        [*callbacks, Draws()],
        Cut(Interrupts(), None),
        Interrupts(),
        place,
        {},
        state=None,
        log=lambda _: None,
    )
    drawn = whole_state(place)
    for key in ("model", "optimizer", "averaging", "rng"):
        assert drawn[key] == uninterrupted[key], key


def test_a_view_tells_callbacks_where_training_stands(experiment_of, tmp_path):
    seen = []

    class Watch(Callback):
        def epoch_finished(self, view: View) -> None:
            seen.append((view.epoch, view.step, view.row["epoch"]))

    experiment = experiment_of(EVERYTHING, ["train.epochs=2", "scheduler=null"])
    folder = tmp_path / "view"
    folder.mkdir()
    fit(experiment, [Watch()], Cut(Interrupts(), None), Interrupts(), folder, {}, state=None, log=lambda _: None)
    assert seen == [(1, 3, 1), (2, 6, 2)]


FROZEN = ["train.freeze=['layer*']", "data.augment=[]", "train.mix=null"]


def test_a_run_on_kept_features_cut_at_any_step_ends_in_the_same_state(experiment_of, tmp_path):
    """They are computed anew by the resumed run: in the dataset's order, so that no batch is another."""
    run(experiment_of(EVERYTHING, FROZEN), tmp_path / "whole", None)
    for step in (1, 4):
        folder = tmp_path / f"cut{step}"
        with pytest.raises(Interrupted):
            run(experiment_of(EVERYTHING, FROZEN), folder, step)
        resumed = experiment_of(EVERYTHING, FROZEN)
        run(resumed, folder, None, state=read_latest(folder, print))
        assert isinstance(resumed.course.train, FeatureBatches)
        assert whole_state(folder) == whole_state(tmp_path / "whole")


class Counts(Callback):
    def __init__(self, called: str, seen: int = 0) -> None:
        self.called, self.seen = called, seen


def test_a_callback_is_found_by_what_the_recipe_calls_it_and_else_by_its_number():
    both = [Counts(""), Counts("slow"), Counts("quick"), Counts("")]
    assert [key for key, _ in named_callbacks(both)] == ["Counts-0", "Counts slow", "Counts quick", "Counts-3"]
    assert [key for key, _ in named_callbacks(both[2:])] == ["Counts quick", "Counts-1"]
    assert [key for key, _ in named_callbacks(both, by_name=False)] == [f"Counts-{number}" for number in range(4)]
