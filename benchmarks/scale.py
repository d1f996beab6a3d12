"""`python -m benchmarks.scale [NET ...]`: what processes cost one another, on the CPU.

One process of two threads against two processes of one thread, on the quickstart's net and on ResNet18; the loop of two
processes against DistributedDataParallel written by hand and, where it is installed, Lightning's; and the share of a
step that is spent waiting for gradients: that of the loop by hand, with and without their exchange. What two processes
do is timed in turn in the same two, so that neighbours disturb all alike. Batches are made before; the loops validate
one batch after their steps, which Lightning's steps are counted without.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.engine import _batches, _optimizer, _ours
from registry.models.cifar_resnet import cifar_resnet18
from registry.models.small import SmallCNN
from trainer.data.batches import Batch, SharedBatch
from trainer.engine.processes import ONE, Processes

NETS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {  # net, images of a batch, steps
    "SmallCNN": (lambda: SmallCNN(10), 128, 24),
    "ResNet18": (lambda: cifar_resnet18(num_classes=10), 16, 8),
}
ROUNDS = 5


def main() -> int:
    """Start the processes and print what they measured."""
    if "RANK" in os.environ:
        from trainer.run.joining import joined

        with joined() as processes:
            return _measured(processes)
    for count in (1, 2):
        print(f"{count} process{'es' if count > 1 else ''} x {2 // count} thread{'s' if count < 2 else ''}", flush=True)
        words = [sys.executable, "-m", "benchmarks.scale", *sys.argv[1:]]
        environment = {**os.environ, "OMP_NUM_THREADS": str(2 // count), "WORLD_SIZE": str(count)}
        if count == 1:
            _measured(ONE)
            continue
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517", "LOCAL_WORLD_SIZE": str(count)}
        ranks = [{**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
        started = [subprocess.Popen(words, env=each) for each in ranks]
        if sum(process.wait() for process in started):
            return 1
    return 0


def _measured(processes: Processes) -> int:
    torch.set_num_threads(2 // processes.count)
    for name, (net, size, steps) in NETS.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        batches = _shares(_batches((size, 3, 32, 32), steps), processes)
        variants = _variants(net, batches, processes)
        seconds: dict[str, list[float]] = {each: [] for each in variants}
        for number in range(ROUNDS + 1):  # the first warms up
            for each, run in variants.items():
                processes.totals(0)  # together
                started = time.perf_counter()
                counted = run()
                if number:
                    seconds[each].append((counted or time.perf_counter() - started) / steps)
        if processes.is_first:
            _print(name, size, seconds)
    return 0


def _shares(batches: Sequence[Batch], processes: Processes) -> list[Batch]:
    """Return what this process has of each batch."""
    if processes.sharing is None:
        return list(batches)
    share = processes.sharing.of(len(batches[0].targets))
    own = slice(share.start, share.start + share.images)
    return [SharedBatch.of(Batch(*(column[own] for column in batch)), share) for batch in batches]


def _variants(
    net: Callable[[], nn.Module], batches: Sequence[Batch], processes: Processes
) -> dict[str, Callable[[], float | None]]:
    """Return what is timed: calls that take the steps, and return their seconds where the call is more than they."""
    loop = _ours(net(), batches, processes)
    found: dict[str, Callable[[], float | None]] = {"ours": lambda: loop() and None}
    if processes.count > 1:
        found["DDP by hand"] = _by_hand(net(), batches)
        found["DDP by hand, nothing exchanged"] = _by_hand(net(), batches, exchanged=False)
        if importlib.util.find_spec("lightning"):
            found["Lightning"] = _lightning(net(), batches, processes.count)
    return found


def _by_hand(model: nn.Module, batches: Sequence[Batch], *, exchanged: bool = True) -> Callable[[], None]:
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    wrapped, loss_of = DistributedDataParallel(model), nn.CrossEntropyLoss()
    wrapped.broadcast_buffers = exchanged
    optimizer = _optimizer(model)

    def run() -> None:
        model.train()
        for batch in batches:
            optimizer.zero_grad(set_to_none=True)
            with contextlib.nullcontext() if exchanged else wrapped.no_sync():
                loss: Tensor = loss_of(wrapped(batch.images), batch.targets)
                loss.backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            loss_of(model(batches[0].images), batches[0].targets).item()

    return run


def _lightning(model: nn.Module, batches: Sequence[Batch], count: int) -> Callable[[], float]:
    import lightning as L

    class Module(L.LightningModule):  # type: ignore[misc]
        """The same step, as Lightning has it."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

        def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
            return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return _optimizer(self.model)

        def on_train_batch_end(self, *_: object) -> None:
            ends.append(time.perf_counter())

    class Loader:
        """Batches that are shared out already, and one before them: the first step pays for what `fit` prepares."""

        def __len__(self) -> int:
            return 1 + len(batches)

        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            return iter([(batch.images, batch.targets) for batch in (batches[0], *batches)])

    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=count,
        strategy="ddp",
        **off,
    )
    module, loader, epochs, ends = Module(), Loader(), 0, list[float]()

    def run() -> float:
        nonlocal epochs
        epochs += 1
        trainer.fit_loop.max_epochs = epochs
        ends.clear()
        trainer.fit(module, loader)
        return ends[-1] - ends[0]

    return run


def _print(name: str, size: int, seconds: dict[str, list[float]]) -> None:
    medians = {each: statistics.median(values) for each, values in seconds.items()}
    for each, median in medians.items():
        low, _, high = statistics.quantiles(seconds[each], n=4)
        spread = (high - low) / 2 / median
        print(
            f"  {name:<9} {each:<31} {size / median:>8,.0f} images/s  {1e3 * median:>8.1f} ms a step  +- {spread:.0%}"
        )
    hand = medians.get("DDP by hand")
    if hand is not None:
        waiting = 1 - medians["DDP by hand, nothing exchanged"] / hand
        print(
            f"  {name:<9} ours / by hand {medians['ours'] / hand:.3f} (goal: 1.03); waiting for gradients {waiting:.0%}"
        )


if __name__ == "__main__":
    sys.exit(main())
