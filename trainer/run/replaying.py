"""Replaying epochs of a finished run: the one thing that cannot be made up.

An epoch is trained again from the checkpoint at whose end it began (the first from the seed), and its weights are held
against the chain: equal to the last bit on the same kind of machine, within a band on another, because sums are taken
in another order there. The run's folder is only read.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from registry.catalogue.catalog import catalogue
from registry.errors import CheckpointError, RecipeError
from registry.reports.scores import is_share_of_images
from trainer.data.fingerprint import hold_against
from trainer.engine import checkpoint
from trainer.engine.chain import CLOCK, Chain, plain
from trainer.engine.interrupts import Interrupts
from trainer.engine.keeper import BEST, LAST, epoch_files
from trainer.engine.loop import Loop
from trainer.experiment.experiment import Experiment, build_callbacks
from trainer.experiment.trained import Trained
from trainer.recipe.afterwards import FREE_AT_RESUME, free, patterns
from trainer.recipe.fast import was_fast
from trainer.recipe.load import load_recipe
from trainer.recipe.problems import render
from trainer.recipe.recipe import Recipe
from trainer.run.display import Display
from trainer.run.environment import describe_environment, made_on
from trainer.run.folder import RunFolder
from trainer.run.recorder import Recorder
from trainer.stages.evaluate import evaluate_weights
from trainer.stages.fit import assemble
from trainer.stages.lr_finder import find_lr, required_lr

# Share by which the mean training loss of a replay on another machine may differ; measured: docs/grading.md.
LOSS_BAND = 0.05
# Share of the images by which an accuracy may differ that another machine measures on the same weights.
SHARE_BAND = 0.005
MEASURED = "best weights"  # of what was measured again, no epoch
FINDER_BAND = 2.0  # factor by which the rate may differ that another machine finds
SAME_BITS = 1e-6  # share by which numbers may differ that were measured in batches of another size
SAME_MACHINE = ("packages", "cpu", "threads", "device", "precision")  # of environment.json, for equal bits


@dataclass(frozen=True)
class Replayed:
    """An epoch that was trained again, or weights that were measured again.

    Attributes:
        what: "epoch 3", "best weights", "LR finder".
        verdict: "equal" to the last bit, "close" within the band, "other".
        text: what was found, a phrase.
    """

    what: str
    verdict: Literal["equal", "close", "other"]
    text: str


class Replay:
    """Repeats epochs of one run.

    Args:
        folder: of the run.
        overrides: `key=value` of what may differ here, the place of the data above all.
        display: shows what happens.

    Raises:
        CheckpointError: the run has no chain, or its last checkpoint is not whole.
        RecipeError: its recipe does not fit this version, or an override would make it another run.
    """

    def __init__(self, folder: RunFolder, overrides: Sequence[str], display: Display) -> None:
        for key in (override.partition("=")[0] for override in overrides):
            if free(key, FREE_AT_RESUME) is None:
                raise RecipeError(
                    f"{key} cannot be set for a replay: it repeats what the run has done",
                    f"what may be set: {patterns(FREE_AT_RESUME)}",
                )
        self._folder, self._display = folder, display
        loaded = load_recipe(folder.resolved, overrides)
        if loaded.recipe is None:
            raise RecipeError(f"{folder.path}: its recipe cannot be used\n{render(loaded.problems)}")
        self._recipe: Recipe = replace(loaded.recipe, fast=was_fast(folder.resolved))
        self._names = catalogue(self._recipe.plugins)
        last = checkpoint.read(folder.checkpoints / LAST)
        self._chain = Chain(last.get("chain"))
        if not self._chain.links:
            raise CheckpointError(
                f"{folder.path}: has no chain to hold a replay against",
                "it was made by an earlier version, or has not finished an epoch",
            )
        self._rows = {int(row["epoch"]): row for row in folder.read_metrics()}
        self._files = {0: None} | {int(path.stem.split("-")[1]): path for path in epoch_files(folder.checkpoints)}
        self._last = last

    @property
    def epochs(self) -> list[int]:
        """Epochs that can be repeated: the first, and those whose beginning was kept."""
        return sorted(begin + 1 for begin in self._files if begin + 1 in self._chain.links)

    def draw(self, count: int, seed: int | None = None) -> list[int]:
        """Draw epochs at random.

        Args:
            count: how many; all there are where it is more.
            seed: to draw the same again; None for others each time.
        """
        drawn = random.Random(seed).sample(self.epochs, min(count, len(self.epochs)))
        return sorted(drawn)

    def repeat(self, epoch: int) -> Replayed:
        """Train one epoch again.

        Raises:
            UserError: the data are not there or others, or a checkpoint is not whole.
        """
        path = self._files[epoch - 1]
        state = None if path is None else checkpoint.read(path)
        there = made_on(self._folder.read_json("environment.json"), epoch)
        with Interrupts().listening() as interrupts, _threads(there.get("threads")):
            loop, other = self._loop(state, epoch, interrupts, there)
            if state is not None and loop.weights_digest() != self._chain.links[epoch - 1].weights:
                return Replayed(
                    f"epoch {epoch}", "other", f"its checkpoint does not hold the weights of epoch {epoch - 1}"
                )
            with self._display.bar():
                loop.run()
        return self._judged(loop, epoch, other)

    def find(self, given: Recipe) -> Replayed:
        """Let the LR finder of the recipe that was given search again, by the run's seed.

        Raises:
            UserError: the data are not there.
        """
        assert given.lr_finder is not None
        there = made_on(self._folder.read_json("environment.json"), 1)
        with Interrupts().listening() as interrupts, _threads(there.get("threads")):
            recipe = replace(given, seed=self._recipe.seed)
            experiment = Experiment.from_recipe(recipe, self._names, log=lambda _: None)
            other = self._elsewhere(experiment, there)
            found = find_lr(experiment, given.lr_finder, interrupts=interrupts).lr
        finding = self._folder.read_finding()
        said = None if finding is None else finding.lr
        if said == found:
            return Replayed("LR finder", "equal", f"finds {found:.4g} again" if found else "finds no rate again")
        text = f"{said} in the run, {found} here"
        close = bool(other and said and found) and 1 / FINDER_BAND <= (said or 1) / (found or 1) <= FINDER_BAND
        machine = f"; another machine: {'; '.join(other)}" if other else ", on a machine of the same kind"
        return Replayed("LR finder", "close" if close else "other", f"{text}{machine}")

    def measure(self) -> Replayed:
        """Measure the best weights again, on the split that the run reports.

        Raises:
            UserError: the data are not there or others, or there are no best weights.
        """
        file = self._folder.checkpoints / BEST
        state, summary = checkpoint.read(file), self._folder.read_json("summary.json")
        there = made_on(self._folder.read_json("environment.json"), max(self._rows, default=0))
        with Interrupts().listening() as interrupts, _threads(there.get("threads")):
            experiment, other = self._experiment(Trained.of(file, self._recipe, state), there)
            tested = bool(summary.get("test")) and experiment.data.test is not None
            got = evaluate_weights(experiment, "test" if tested else "val", state, between=interrupts.check).values
        best = summary.get("best") or {}
        said = (summary["test"].get("best") or {}) if tested else {key: best.get(f"val/{key}") for key in got}
        known = {key: value for key, value in got.items() if math.isfinite(value) or said.get(key) is not None}
        off = {key: _share_off(said.get(key), value) for key, value in known.items() if said.get(key) != value}
        worst = max(off, key=lambda key: off[key], default="")
        if not worst or off[worst] < SAME_BITS:
            return Replayed(MEASURED, "equal", f"{len(got)} numbers are those of summary.json")
        text = f"{worst} {said.get(worst)} in summary.json, {got[worst]:.6g} here"
        close = bool(other) and all(_is_close(key, said.get(key), got[key]) for key in off)
        machine = f"; another machine: {'; '.join(other)}" if other else ""
        return Replayed(MEASURED, "close" if close else "other", f"{text}{machine}")

    def _loop(
        self, state: Mapping[str, Any] | None, epoch: int, interrupts: Interrupts, there: Mapping[str, Any]
    ) -> tuple[Loop, list[str]]:
        """Return a loop that stands before the epoch, and what is other than on the run's machine."""
        _, callbacks = build_callbacks(self._recipe, self._names)
        trained = None if state is None else Trained.of(self._folder.checkpoints / LAST, self._recipe, state)
        experiment, other = self._experiment(trained, there)
        recorder = Recorder([], self._display.line, pulse=self._display.pulse)
        chain = Chain({"origin": self._chain.origin, "links": "{}"})
        loop = assemble(experiment, callbacks, recorder, interrupts, Keepless(), chain, epochs=epoch)
        if state is not None:
            loop.load(state, ask_again=True)  # what once stopped the run has not kept it from this epoch
        self._display.plan(
            epochs=epoch,
            steps_per_epoch=experiment.steps_per_epoch,
            images_per_step=experiment.images_per_step,
        )
        return loop, other

    def _experiment(self, trained: Trained | None, there: Mapping[str, Any]) -> tuple[Experiment, list[str]]:
        """Return the run's experiment on its own data, and what is other than on the run's machine."""
        experiment = Experiment.from_recipe(self._recipe, self._names, log=lambda _: None, trained=trained)
        if trained is not None:  # before anything is made of it, such as what frozen layers make of the images
            trained.load_into(experiment.model)
        if (finding := self._folder.read_finding()) is not None:
            experiment.facts.define("lr_finder.lr", lambda: required_lr(finding))
        other = self._elsewhere(experiment, there)
        data = {**self._last["data"], **self._chain.origin["data"]}
        hold_against({"class_names": self._last["class_names"], "data": data}, experiment.data, {}, self._display.line)
        return experiment, other

    def _elsewhere(self, experiment: Experiment, there: Mapping[str, Any]) -> list[str]:
        """Return what is other here than on the machine that the run was made on."""
        here = describe_environment(experiment.device, experiment.describe_precision(), ())
        other = [
            f"{key} {there.get(key)} -> {here.get(key)}" for key in SAME_MACHINE if there.get(key) != here.get(key)
        ]
        if "processes" in there:
            other.append(f"{there['processes']['count']} processes -> 1")
        return other

    def _judged(self, loop: Loop, epoch: int, other: Sequence[str]) -> Replayed:
        """Hold what a replay has given against the run's own epoch."""
        wanted, got = self._rows[epoch], plain(epoch, loop.progress.history[-1])
        differing = [key for key, value in got.items() if key not in CLOCK and wanted.get(key) != value]
        if loop.parts.chain.links[epoch].weights == self._chain.links[epoch].weights and not differing:
            return Replayed(f"epoch {epoch}", "equal", "weights and numbers equal to the last bit")
        off = _share_off(wanted.get("train/loss"), got.get("train/loss"))
        text = f"train/loss {wanted.get('train/loss'):.4f} in the run, {got.get('train/loss'):.4f} here ({off:.2%} off)"
        if not other:
            return Replayed(f"epoch {epoch}", "other", f"{text}, on a machine of the same kind")
        close = off <= LOSS_BAND
        return Replayed(f"epoch {epoch}", "close" if close else "other", f"{text}; another machine: {'; '.join(other)}")


class Keepless:
    """Keeps nothing of a training."""

    def step_finished(self, loop: Loop) -> None:
        """Save nothing."""

    def epoch_finished(self, loop: Loop, is_best: bool) -> None:
        """Save nothing."""

    def interrupted(self, loop: Loop) -> None:
        """Save nothing."""

    def last_state(self) -> None:
        """Return nothing."""

    def holds_any(self) -> bool:
        """There is nothing."""
        return False


@contextmanager
def _threads(count: object) -> Iterator[None]:
    """Use as many threads as the run had, where this machine has the cores: sums depend on it."""
    before = torch.get_num_threads()
    if isinstance(count, int) and 0 < count <= (os.cpu_count() or 1):
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _is_close(key: str, wanted: float | None, got: float) -> bool:
    """Whether another machine may have measured a number of the same weights."""
    if is_share_of_images(key.removeprefix("tta/")):
        return wanted is not None and abs(got - wanted) <= SHARE_BAND
    return _share_off(wanted, got) <= LOSS_BAND


def _share_off(wanted: float | None, got: float | None) -> float:
    """Return how far a number lies from the one that was wanted, as a share of it; infinite where either is missing."""
    return math.inf if not wanted or got is None else abs(got - wanted) / abs(wanted)
