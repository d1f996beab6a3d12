"""What checkpoints cost: the state of a CIFAR ResNet-18 with momentum and averaged weights, saved once per S10 epoch.

Two questions. What share of an epoch is a save, to the last byte on the disk, though it runs beside the training?
And for how long does the step wait: no longer than it takes to copy the state? Owns what is run;
`python -m benchmarks checkpoint` times it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.harness import Benchmark, Ratio
from benchmarks.step import BATCH
from benchmarks.step import variants as steps
from registry.models.cifar_resnet import cifar_resnet18
from trainer.engine import checkpoint, rng
from trainer.engine.averaging import Averaging
from trainer.engine.keeper import CheckpointKeeper
from trainer.engine.progress import Progress

STEPS_PER_EPOCH = -(-50_000 // BATCH)


class StandingLoop:
    """As much of a loop as a keeper asks for: a trained ResNet-18 at the end of an epoch."""

    def __init__(self) -> None:
        model = cifar_resnet18(10).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True)
        nn.functional.cross_entropy(model(torch.randn(2, 3, 32, 32)), torch.tensor([0, 1])).backward()
        optimizer.step()
        self._model, self._optimizer, self._averaging = model, optimizer, Averaging(model, 0.99, 1, "ema")
        self.progress = Progress(epoch=0, best={"epoch": 1.0})

    def state(self) -> dict[str, Any]:
        return {
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "averaging": self._averaging.state(),
            "progress": self.progress.state(),
            "rng": rng.capture(),
        }

    def evaluated_weights(self) -> Mapping[str, Any]:
        with self._averaging.applied():
            return {"model": {name: tensor.clone() for name, tensor in self._model.state_dict().items()}}


def _keeper(folder: Path) -> CheckpointKeeper:
    return CheckpointKeeper(folder, {"recipe": ""}, every=1, epochs=10**9, minutes=None, steps=None, keep=1, log=print)


def whole_save() -> dict[str, Callable[[], int]]:
    """Return a save of last.pt, best.pt and best.safetensors until they are on the disk, and an S10 step."""
    loop, folder = StandingLoop(), Path(tempfile.mkdtemp())
    keeper = _keeper(folder)

    def save() -> int:
        loop.progress.epoch += 1
        keeper.epoch_finished(loop, is_best=True)  # type: ignore[arg-type]
        keeper.wait()
        return STEPS_PER_EPOCH  # one save in so many steps

    def plain() -> int:
        loop.progress.epoch += 1
        keeper.epoch_finished(loop, is_best=False)  # type: ignore[arg-type]
        keeper.wait()
        return STEPS_PER_EPOCH

    return {"save with new best weights": save, "save": plain, "S10 step": steps()["ours"]}


def blocked_step() -> dict[str, Callable[[], int]]:
    """Return what the training waits for at a save, and the copy of the same state alone."""
    loop, folder = StandingLoop(), Path(tempfile.mkdtemp())
    waiting = [_keeper(folder)]

    def blocked() -> int:
        loop.progress.epoch += 1
        waiting.append(_keeper(folder))  # its writer is still at work when this returns
        waiting[-1].epoch_finished(loop, is_best=False)  # type: ignore[arg-type]
        return 1

    def settle() -> int:
        for keeper in waiting:
            keeper.wait()
        waiting.clear()
        shutil.rmtree(folder)
        folder.mkdir()
        return 1

    def copy() -> int:
        checkpoint.snapshot(loop.state())
        return 1

    return {"until training goes on": blocked, "(the writer ends)": settle, "the copy of the state": copy}


def benchmarks() -> list[Benchmark]:
    """Return both questions, for the suite."""
    share = "times the cost"
    return [
        Benchmark(
            "checkpoint: share of an S10 epoch",
            whole_save,
            "step",
            (
                Ratio("a save per epoch / the epoch's steps", "save", "S10 step", share, 0.02, at_most=True),
                Ratio("with new best weights", "save with new best weights", "S10 step", share, 0.02, at_most=True),
            ),
            threads=2,
            clock="wall",
        ),
        Benchmark(
            "checkpoint: the step waits",
            blocked_step,
            "save",
            (
                Ratio("waiting / copying", "until training goes on", "the copy of the state", share, 1.2, at_most=True),
                Ratio("waiting", "until training goes on", "", "seconds"),
            ),
            threads=2,
            clock="wall",
            rounds=11,
        ),
    ]
