"""MLflow, which the extra of that name installs: a run in its store or on its server for each run of ours."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from registry.callbacks.trackers import Memory, artefacts, finite, require
from registry.catalogue.adoption import Change
from registry.recording import RunInfo, Sink

_LONGEST = 6000  # letters of a parameter's value, as MLflow takes it
_AT_ONCE = 100  # parameters in one request
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}  # a server that is away


class MLflow(Sink):
    """Records a run in MLflow: the recipe's values, every epoch's numbers, the final ones, figures and the report.

    Args:
        tracking_uri: a folder, a database such as sqlite:///mlflow.db, or a server; omitted: as the environment
            (MLFLOW_TRACKING_URI) says, else MLflow's own default.
        experiment: its name there; omitted: the recipe's.
        run_name: omitted: that of the run's folder.
        artefacts: send figures, report and recipe at the end.
    """

    change: ClassVar = Change(facts={"package": "mlflow"})

    def __init__(
        self,
        tracking_uri: str | None = None,
        experiment: str | None = None,
        run_name: str | None = None,
        artefacts: bool = True,
    ) -> None:
        require("mlflow", "MLflow")
        self._uri, self._experiment, self._run_name = tracking_uri, experiment, run_name
        self._artefacts = artefacts
        self._client: Any = None
        self._ended = False

    def open(self, run: RunInfo) -> None:
        """Begin a run in the tracker, or go on with that of the run that is resumed."""
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self._run, self._memory = run, Memory(run.folder, "mlflow")
        self._client = MlflowClient(self._uri or self._memory.values.get("tracking_uri"))
        known = self._memory.values.get("run_id")
        if known is None:
            created = self._client.create_run(self._experiment_id(), run_name=self._run_name or run.folder.name)
            known = created.info.run_id
            self._memory.keep(run_id=known, tracking_uri=self._uri)
        else:
            self._client.update_run(known, status="RUNNING")
        self._id: str = known
        self._tell_config()
        for row in run.history:  # whose epochs a sink that is new does not have
            self.epoch(int(row["epoch"]), row)

    def _experiment_id(self) -> str:
        name = self._experiment or self._run.name
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        with contextlib.suppress(Exception):  # another run has made it meanwhile
            return str(self._client.create_experiment(name))
        return str(self._client.get_experiment_by_name(name).experiment_id)

    def _tell_config(self) -> None:
        """Record the recipe's values; one that a resume has changed becomes a tag, since parameters never change."""
        from mlflow.entities import Param, RunTag

        held = self._client.get_run(self._id).data.params
        wanted = {key: str(value)[:_LONGEST] for key, value in self._run.hparams.items()}
        new = [Param(key, value) for key, value in wanted.items() if key not in held]
        for begin in range(0, len(new), _AT_ONCE):
            self._client.log_batch(self._id, params=new[begin : begin + _AT_ONCE])
        tags = [RunTag(f"resumed.{key}", each) for key, each in wanted.items() if held.get(key, each) != each]
        self._client.log_batch(self._id, tags=[*tags, RunTag("folder", str(self._run.folder.absolute()))])

    def epoch(self, epoch: int, row: Mapping[str, float]) -> None:
        """Record an epoch's numbers, each at its epoch."""
        if self._memory.is_new(epoch):
            self._log({key: value for key, value in row.items() if key != "epoch"}, epoch)
            self._memory.keep(epoch=epoch)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._client.log_batch(
            self._id, metrics=[Metric(key, value, now, step) for key, value in finite(values).items()]
        )

    def result(self, values: Mapping[str, float]) -> None:
        """Record the final numbers."""
        self._log({f"result/{key}": value for key, value in values.items()}, 0)
        self._ended = True

    def close(self) -> None:
        """Send what there is to look at, and say how the run ended."""
        if self._client is None:
            return
        if self._ended and self._artefacts:
            for path in artefacts(self._run.folder):
                below = path.parent.relative_to(self._run.folder)
                self._client.log_artifact(self._id, str(path), None if below.name == "" else str(below))
        self._client.set_terminated(self._id, "FINISHED" if self._ended else "KILLED")
