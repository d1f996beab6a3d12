"""Weights & Biases, which the extra `wandb` installs: online, or offline to be sent later by `wandb sync`.

Its own files lie where it puts them, in ./wandb or $WANDB_DIR: there are links among them that lead elsewhere, which no
run folder may hold.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from registry.callbacks.trackers import Memory, artefacts, finite, require
from registry.catalogue.adoption import Change
from registry.recording import RunInfo, Sink


class WandB(Sink):
    """Records a run in Weights & Biases: the recipe's values, every epoch's numbers, the final ones, figures, report.

    Args:
        project: omitted: the recipe's name.
        entity: user or team; omitted: the one logged in.
        run_name: omitted: that of the run's folder.
        mode: `offline` writes into ./wandb (or WANDB_DIR), for `wandb sync`; `online` needs `wandb login` or
            WANDB_API_KEY.
        artefacts: send figures, report and recipe at the end.
    """

    change: ClassVar = Change(facts={"package": "wandb"})

    def __init__(
        self,
        project: str | None = None,
        entity: str | None = None,
        run_name: str | None = None,
        mode: Literal["online", "offline"] = "online",
        artefacts: bool = True,
    ) -> None:
        require("wandb", "WandB")
        self._project, self._entity, self._run_name = project, entity, run_name
        self._mode: Literal["online", "offline"] = mode
        self._artefacts = artefacts
        self._tracked: Any = None
        self._ended = False

    def open(self, run: RunInfo) -> None:
        """Begin a run in the tracker, or go on with that of the run that is resumed."""
        import wandb

        self._run, self._memory = run, Memory(run.folder, "wandb")
        if "id" not in self._memory.values:
            self._memory.keep(id=uuid.uuid4().hex[:12])
        self._tracked = wandb.init(
            project=self._project or run.name,
            entity=self._entity,
            name=self._run_name or run.folder.name,
            id=self._memory.values["id"],
            resume="allow",
            mode=self._mode,
            dir=os.environ.get("WANDB_DIR") or str(Path.cwd()),  # else that of the first run of this process
            config=dict(run.hparams),
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
            reinit="create_new",
        )
        self._tracked.define_metric("epoch")
        self._tracked.define_metric("*", step_metric="epoch")
        for row in run.history:  # whose epochs a sink that is new does not have
            self.epoch(int(row["epoch"]), row)

    def epoch(self, epoch: int, row: Mapping[str, float]) -> None:
        """Record an epoch's numbers, each over its epoch."""
        if self._memory.is_new(epoch):
            self._tracked.log({**finite(row), "epoch": epoch})
            self._memory.keep(epoch=epoch)

    def result(self, values: Mapping[str, float]) -> None:
        """Record the final numbers."""
        self._tracked.summary.update({f"result/{key}": value for key, value in finite(values).items()})
        self._ended = True

    def close(self) -> None:
        """Send what there is to look at, and say how the run ended."""
        if self._tracked is None:
            return
        if self._ended and self._artefacts:
            self._send()
        self._tracked.finish(exit_code=0 if self._ended else 1)

    def _send(self) -> None:
        import wandb

        sent = wandb.Artifact(f"run-{self._memory.values['id']}", type="run")
        for path in artefacts(self._run.folder):
            sent.add_file(str(path), name=str(path.relative_to(self._run.folder)))
        self._tracked.log_artifact(sent)
