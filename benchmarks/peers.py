"""The same small network and data in other trainers, through their public interfaces and documented fast options.

Needs the `bench` extra; a peer that is not installed is left out.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import nn

from benchmarks.engine import _bare, _batches, _ours, null_model

STEPS = 200


def variants() -> dict[str, Callable[[], int]]:
    """Return the bare loop, ours, and each peer that is installed."""
    batches = _batches((32, 16), STEPS)
    pairs = [(batch.images, batch.targets) for batch in batches]
    found = {"bare loop": _bare(null_model(4), batches), "ours": _ours(null_model(4), batches)}
    if importlib.util.find_spec("ignite"):
        found["ignite"] = _ignite(pairs)
    if importlib.util.find_spec("lightning"):
        found["Lightning, nothing on"] = _lightning(pairs, logs=False)
        found["Lightning, loss logged"] = _lightning(pairs, logs=True)
    return found


def _ignite(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> Callable[[], int]:
    from ignite.engine import create_supervised_trainer

    model = null_model(4)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, fused=True)
    engine = create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss())

    def run() -> int:
        engine.run(pairs, max_epochs=1)
        return len(pairs)

    return run


class _Loader:
    """Prepared batches in a shape that Lightning does not take for several loaders."""

    def __init__(self, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return iter(self._pairs)


def _lightning(pairs: list[tuple[torch.Tensor, torch.Tensor]], *, logs: bool) -> Callable[[], int]:
    import lightning as L

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = null_model(4)

        def training_step(self, batch, _index):  # type: ignore[no-untyped-def]
            loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])
            if logs:
                self.log("loss", loss, on_step=True, on_epoch=True)
            return loss

        def configure_optimizers(self):  # type: ignore[no-untyped-def]
            return torch.optim.SGD(self.parameters(), lr=1e-3, momentum=0.9, fused=True)

    def run() -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options = {
                "max_epochs": 1,
                "accelerator": "cpu",
                "enable_progress_bar": False,
                "enable_model_summary": False,
            }
            if logs:
                trainer = L.Trainer(**options, enable_checkpointing=False, logger=False)
            else:
                trainer = L.Trainer(**options, barebones=True)
            trainer.fit(Module(), _Loader(pairs))
        return len(pairs)

    return run
