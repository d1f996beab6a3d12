"""Where the time of a training goes: a trace of some steps, to be opened in a browser."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from registry import files
from registry.catalogue.adoption import Change
from registry.catalogue.markers import Bounds
from registry.contracts import Callback, Plain, View
from registry.recording import RunInfo, Sink

if TYPE_CHECKING:
    from torch.profiler import profile

LONGEST_TABLE = 15  # operations in the table


class Profiler(Sink, Callback):
    """Traces the steps between two readings with torch.profiler, once, early in the run.

    Writes <run>/profile/trace.json.gz, which chrome://tracing and ui.perfetto.dev open, and shows the operations that
    took longest in the log and in TensorBoard. The steps it traces are slower than others, and a trace of many steps is
    large: `train.log_every` says how many lie between two readings.

    Args:
        skip: readings to let pass first: the first steps allocate and compile.
    """

    change: ClassVar = Change(facts={"owns": ""})

    def __init__(self, skip: Annotated[int, Bounds(min=1)] = 1) -> None:
        self._skip = skip
        self._readings = 0
        self._profile: profile | None = None

    def state(self) -> dict[str, Plain]:
        """Return how many readings have passed; a trace that has begun is begun anew."""
        return {"readings": self._skip - 1 if self._profile is not None else self._readings}

    def load(self, state: Mapping[str, Plain]) -> None:
        """Continue from `state`."""
        self._readings = state["readings"]

    def open(self, run: RunInfo) -> None:
        """Note where the trace goes."""
        self._run = run.folder

    def step_finished(self, view: View) -> None:
        """Begin, or end and write, as the readings pass."""
        self._readings += 1
        if self._readings == self._skip:
            self._begin()
        elif self._profile is not None:
            self._end(view)

    def run_finished(self, view: View) -> None:
        """End a trace that the run was too short for."""
        if self._profile is not None:
            self._end(view)

    def _begin(self) -> None:
        import torch
        from torch.profiler import ProfilerActivity, profile

        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
        self._profile = profile(activities=activities, acc_events=True)
        self._profile.start()

    def _end(self, view: View) -> None:
        traced, self._profile = self._profile, None
        assert traced is not None
        traced.stop()
        path = self._run / "profile" / "trace.json.gz"
        try:
            with tempfile.TemporaryDirectory() as elsewhere:  # torch opens the file itself, and follows links
                written = Path(elsewhere) / path.name
                traced.export_chrome_trace(str(written))
                files.write(path, written.read_bytes(), below=self._run, lasting=False)
        except OSError as error:
            view.recorder.text("log", f"warning: no trace: {path} cannot be written ({error.strerror or error})")
            return
        operations = sorted(traced.key_averages(), key=lambda each: -_own_time(each))[:LONGEST_TABLE]
        rows = ["| operation | calls | own time |", "|---|---:|---:|"]
        rows += [f"| {each.key} | {each.count:,} | {_own_time(each) / 1000:.1f} ms |" for each in operations]
        view.recorder.text("profile", "\n".join(rows))
        view.recorder.text("log", f"profile of the steps up to {view.step}: {path} (open it at ui.perfetto.dev)")


def _own_time(operation: object) -> float:
    """Microseconds spent in the operation itself: on the GPU where it ran there, on the CPU otherwise."""
    return float(getattr(operation, "self_device_time_total", 0.0) or getattr(operation, "self_cpu_time_total", 0.0))
