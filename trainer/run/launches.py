"""Launches: which run a launcher has begun, so that processes it starts anew continue that one and begin no second.

torch's elastic agent starts all processes anew when one is gone, and Slurm a job that made room for another. Both count
their starts. A run keeps who launched it in launch.json; a later start of the same launch looks for it there. The
agent's own id is not enough: with a static rendezvous it is `none` in every launch. So the agents count, too, told by
machine, process and the moment it was started.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from registry import files
from trainer.engine.processes import Processes

FILE = "launch.json"


@dataclass(frozen=True)
class Launch:
    """One start of a launch.

    Attributes:
        id: of the elastic run, or of the job.
        job: of Slurm, which outlives its agents; "" without.
        requeued: how often Slurm has started the job anew.
        restarted: how often its agents have started all anew; each counts for itself, so it grows by one or more.
        agents: those that start the processes, one per machine.
        asked: digest of the recipe as it was given: one job may run several of a name.
    """

    id: str
    job: str
    requeued: int
    restarted: int
    agents: tuple[str, ...]
    asked: str = ""

    @classmethod
    def of(cls, processes: Processes, environment: Mapping[str, str] = os.environ, *, asked: str = "") -> Launch | None:
        """Return the launch that these processes are part of; None where nobody would start them anew."""
        elastic, job = environment.get("TORCHELASTIC_RUN_ID", ""), environment.get("SLURM_JOB_ID", "")
        if not elastic and not job:
            return None
        agents = dict(processes.every((_agent(), int(environment.get("TORCHELASTIC_RESTART_COUNT", "0")))))
        requeued = int(environment.get("SLURM_RESTART_COUNT", "0"))  # which Slurm sets once it has started a job anew
        return cls(elastic or job, job, requeued, sum(agents.values()), tuple(sorted(agents)), asked)

    def text(self) -> str:
        """Return the content of launch.json."""
        return json.dumps(asdict(self), indent=2) + "\n"

    def began(self, folder: Path) -> bool:
        """Whether an earlier start of this launch began the run in `folder`, or continued it last."""
        try:
            said: dict[str, Any] = json.loads(files.read_text(folder / FILE))
            other = Launch(**{**said, "agents": tuple(said["agents"])})
        except (OSError, ValueError, KeyError, TypeError):
            return False
        if other.asked and other.asked != self.asked:
            return False
        if self.job and self.job == other.job and self.requeued > other.requeued:
            return True
        same = self.id == other.id and self.requeued == other.requeued and {*self.agents} & {*other.agents}
        return bool(same) and self.restarted > other.restarted


def begun(runs: Path, suffix: str, launch: Launch | None) -> Path | None:
    """Return the folder of the run that an earlier start of a launch began; None where there is none.

    Args:
        runs: of the recipe's name.
        suffix: of the folder: of one of several seeds.
        launch: this start.
    """
    if launch is None or launch.requeued + launch.restarted == 0 or not runs.is_dir():
        return None
    mine = [each for each in runs.iterdir() if _is_run(each, suffix) and launch.began(each)]
    return max(mine, key=lambda folder: folder.stat().st_mtime, default=None)


def _is_run(folder: Path, suffix: str) -> bool:
    """Whether a folder's name is of a run with this suffix; a number may follow."""
    return re.fullmatch(rf"\d{{8}}-\d{{6}}{re.escape(suffix)}(-\d+)?", folder.name) is not None


def _agent() -> str:
    """Return what tells the process that started this one from any other, of any machine and time."""
    parent = os.getppid()
    try:
        fields = Path(f"/proc/{parent}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        started = fields[19]  # in clock ticks after the machine's start: proc(5), field 22
    except (OSError, IndexError):
        started = ""
    return f"{socket.gethostname()} {parent} {started}".strip()
