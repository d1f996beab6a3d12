"""A training of a handful of numbers, for tests of the loop: batches given one by one, everything kept in memory."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from trainer.data.batches import Batch
from trainer.engine import checkpoint
from trainer.engine.averaging import Averaging
from trainer.engine.guard import Guard
from trainer.engine.interrupts import Interrupts
from trainer.engine.loop import Limits, Loop, Parts
from trainer.engine.precision import Precision
from trainer.engine.schedule import Schedule
from trainer.engine.step import Step
from trainer.run.recorder import Recorder

CPU = torch.device("cpu")


class Given:
    """The same batches in every epoch."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(self, _epoch: int, start: int = 0):
        return iter(self._batches[start:])


class Memory:
    """Keeps each epoch's state, and others when asked to."""

    def __init__(self, every: int = 10**9) -> None:
        self.saved: list[Mapping] = []
        self._every = every

    def step_finished(self, loop: Loop) -> None:
        if loop.progress.step % self._every == 0:
            self._save(loop)

    def epoch_finished(self, loop: Loop, is_best: bool) -> None:
        self._save(loop)

    def interrupted(self, loop: Loop) -> None:
        self._save(loop)

    def last_state(self) -> Mapping | None:
        return self.saved[-1] if self.saved else None

    def holds_any(self) -> bool:
        return bool(self.saved)

    def _save(self, loop: Loop) -> None:
        self.saved.append(checkpoint.snapshot(loop.state()))


class Normed(nn.Module):
    """A kernel, a BatchNorm and a head without bias, so that every optimizer takes it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(4, 6, bias=False)
        self.norm = nn.BatchNorm1d(6, affine=False)
        self.head = nn.Linear(6, 3, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(torch.relu(self.norm(self.first(inputs))))


def batch(seed: int, spoil: float | None = None) -> Batch:
    """Eight samples of four numbers; `spoil` replaces one of them, as a damaged picture would."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(8, 4, generator=generator)
    if spoil is not None:
        images[3, 2] = spoil
    return Batch(images, torch.randint(0, 3, (8,), generator=generator), torch.arange(8))


def training(
    batches: Sequence[Batch],
    optimizer_of: Callable[[nn.Module], torch.optim.Optimizer],
    *,
    on_nan: str = "stop",
    free: bool = True,
    model: nn.Module | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    epochs: int = 1,
    log_every: int = 50,
    clip_norm: float | None = None,
    keeper: Memory | None = None,
    modules: Mapping[str, nn.Module] | None = None,
    sinks: Sequence = (),
    interrupts: Interrupts | None = None,
) -> tuple[Loop, list[str]]:
    """Return a loop, not run yet, and the lines that it will log."""
    model = Normed() if model is None else model
    loss = nn.CrossEntropyLoss() if loss is None else loss
    optimizer, precision, said, modules = optimizer_of(model), Precision(), [], dict(modules or {})
    guard = Guard(CPU, on_nan, [model, *modules.values()], free=free)
    parts = Parts(
        model=model,
        forward=model,
        loss=loss,
        step=Step(model, loss, optimizer, precision, [], clip_norm, guard),
        guard=guard,
        schedule=Schedule(optimizer, None, "epoch", None),
        precision=precision,
        averaging=Averaging(model, 0.9, 1, "ema"),
        penalties=[],
        train=Given(batches),
        val=Given([batch(99)]),
        train_metrics={},
        val_metrics={},
        mixer=None,
        callbacks=[],
        recorder=Recorder(sinks, said.append),
        keeper=Memory() if keeper is None else keeper,
        interrupts=Interrupts() if interrupts is None else interrupts,
        modules=modules,
    )
    return Loop(parts, Limits(epochs, 1, log_every, None, on_nan, "val/loss", "min")), said
