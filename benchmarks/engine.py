"""What the engine costs per step over a loop written by hand: a tiny network, all default features on.

Both take the same prepared batches, the same optimizer and the same loss, so the difference is the engine alone:
meters, log interval, TensorBoard, callbacks, schedule, checks, the clock of the progress bar.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from registry.callbacks.tensorboard import TensorBoard
from registry.metrics.counting import Accuracy
from registry.models.small import SmallCNN
from registry.recording import RunInfo
from trainer.cli.console import Console
from trainer.data.batches import Batch
from trainer.engine.guard import Guard
from trainer.engine.loop import Limits, Loop, Parts
from trainer.engine.precision import Precision
from trainer.engine.processes import ONE, Processes
from trainer.engine.schedule import Schedule
from trainer.engine.step import Step
from trainer.run.recorder import MetricsFile, Recorder

STEPS = 400
SMALL_STEPS = 64


class Prepared:
    """Batches that are there already."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(self, _epoch: int, start: int = 0) -> Iterator[Batch]:
        return iter(self._batches[start:])


class NoKeeper:
    """Keeps nothing: checkpoints have a benchmark of their own."""

    def step_finished(self, loop: Loop) -> None: ...

    def epoch_finished(self, loop: Loop, is_best: bool) -> None: ...

    def interrupted(self, loop: Loop) -> None: ...

    def last_state(self) -> Mapping[str, object] | None:
        return None


def null_model(tensors: int) -> nn.Module:
    """A perceptron with `tensors` parameter tensors, tiny ones beyond the fourth."""
    layers: list[nn.Module] = [nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10)]
    for _ in range((tensors - 4) // 2):
        layers.insert(1, nn.Linear(16, 16))
    return nn.Sequential(*layers)


def variants(tensors: int) -> dict[str, Callable[[], int]]:
    """Return ours and the bare loop on the null model."""
    batches = _batches((32, 16), STEPS)
    return {
        "bare loop": _bare(null_model(tensors), batches),
        "ours": _ours(null_model(tensors), batches),
    }


def small_variants() -> dict[str, Callable[[], int]]:
    """Return ours and the bare loop on a network of about 7 million multiply-adds; both validate one batch an epoch."""
    batches = _batches((64, 3, 32, 32), SMALL_STEPS)
    return {
        "bare loop": _bare(SmallCNN(10, width=24), batches, validate=True),
        "ours": _ours(SmallCNN(10, width=24), batches),
    }


def _batches(shape: tuple[int, ...], steps: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for _ in range(steps):
        images = torch.randn(*shape, generator=generator)
        if images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        targets = torch.randint(0, 10, (shape[0],), generator=generator)
        made.append(Batch(images, targets, torch.arange(shape[0])))
    return made


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, fused=True)


def _bare(model: nn.Module, batches: list[Batch], *, validate: bool = False) -> Callable[[], int]:
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer, loss_of = _optimizer(model), nn.CrossEntropyLoss()

    def run() -> int:
        model.train()
        for batch in batches:
            optimizer.zero_grad(set_to_none=True)
            loss: Tensor = loss_of(model(batch.images), batch.targets)
            loss.backward()
            optimizer.step()
        if validate:
            model.eval()
            with torch.inference_mode():
                loss_of(model(batches[0].images), batches[0].targets).item()
        return len(batches)

    return run


def _ours(model: nn.Module, batches: Sequence[Batch], processes: Processes = ONE) -> Callable[[], int]:
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer, guard, precision = _optimizer(model), Guard(torch.device("cpu")), Precision()
    loss = nn.CrossEntropyLoss()
    folder = Path(tempfile.mkdtemp())
    console = Console(quiet=True)
    sinks = [MetricsFile(folder / "metrics.jsonl"), TensorBoard()] if processes.is_first else []
    recorder = Recorder(sinks, lambda _: None, console.pulse)
    recorder.open(RunInfo("bench", folder, 1, {}))
    train = Prepared(batches)
    carried = processes.carried(model, (), batches[0].images.shape[1:])  # type: ignore[arg-type]
    parts = Parts(
        model=model,
        forward=model,
        loss=loss,
        step=Step(carried, loss, optimizer, precision, [], None, guard, processes),
        guard=guard,
        schedule=Schedule(optimizer, None, "epoch", None),
        precision=precision,
        averaging=None,
        penalties=[],
        train=train,  # type: ignore[arg-type]
        val=Prepared(batches[:1]),  # type: ignore[arg-type]
        train_metrics={"accuracy": Accuracy()},
        val_metrics={"accuracy": Accuracy()},
        mixer=None,
        callbacks=[],
        recorder=recorder,
        keeper=NoKeeper(),
        interrupts=processes.interrupts(),
        processes=processes,
    )
    limits = Limits(1, 1, 50, None, "stop", "val/accuracy", "max")

    def run() -> int:
        Loop(parts, limits).run()
        return len(batches)

    return run
