"""Workers that are killed, on a file and on a real PostgreSQL: no trial is lost, none is doubled, all end the same."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="optuna is an extra: pip install 'recipe-trainer[search]'")

from trainer.engine import checkpoint
from trainer.run.display import Display
from trainer.search.reading import load_sweep
from trainer.search.worker import Worker

ROOT = Path(__file__).parents[2]
TIMES = ("seconds", "epoch_seconds")
pytestmark = pytest.mark.slow  # many processes, each of which imports torch


def environment():
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def started(path, here, log):
    """Start a worker with a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "trainer", "sweep", path],
        cwd=here,
        env=environment(),
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def states(here):
    """Return what each trial's run has learnt and measured, without its times, by name."""
    found = {}
    for run in sorted((here / "runs" / "mine").glob("trial-*")):
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        weights = checkpoint.read(run / "checkpoints" / "last.pt")["model"]
        kept = [{key: value for key, value in row.items() if key not in TIMES} for row in rows]
        found[run.name] = ({name: tensor.tolist() for name, tensor in weights.items()}, kept)
    return found


def trials_of(path):
    loaded = load_sweep(path, built=False)
    return Worker(loaded.usable(), loaded.recipe, Path("runs"), Display, lambda _: None, ()).trials()


def told(lines):
    """Return the numbers of the trials whose end was told, each as often as it was."""
    return sorted(int(found[1]) for line in lines if (found := re.match(r"trial (\d+)/", line)))


def at_a_trial(here, workers):
    """Wait until a worker has a run's lock; return its number, None once all have ended."""
    while any(worker.poll() is None for worker in workers):
        for file in (here / "runs" / "mine").glob("trial-*/lock"):
            with contextlib.suppress(OSError):
                said = file.read_text()
                for number, worker in enumerate(workers):
                    if said.startswith(f"process {worker.pid} "):
                        return number
        time.sleep(0.05)
    return None


def completed(path, here, count, kills, seed):
    """Run two workers, kill one of them `kills` times at random moments and start another; return their lines."""
    draw = random.Random(seed)
    with (here / "workers.log").open("w") as log:
        workers = [started(path, here, log) for _ in range(2)]
        try:
            for _ in range(kills):
                number = at_a_trial(here, workers)
                if number is None:
                    break
                time.sleep(draw.uniform(0.0, 1.0))
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(workers[number].pid, signal.SIGKILL)
                workers[number].wait()
                workers[number] = started(path, here, log)
            assert [worker.wait() for worker in workers] == [0, 0], (here / "workers.log").read_text()
        finally:
            for worker in workers:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(worker.pid, signal.SIGKILL)
    trials = trials_of(path)
    assert [(trial.number, trial.state) for trial in trials] == [(number, "complete") for number in range(count)]
    return (here / "workers.log").read_text().splitlines()


def test_killed_at_random_moments_every_trial_ends_as_if_nobody_had_been(written, here):
    path = written("trials: 12", "set: {train.epochs: 30, train.checkpoint: {every: 3}}")
    lines = completed(path, here, 12, kills=10, seed=0)
    assert any("taken up where it was left" in line for line in lines)
    killed = states(here)
    shutil.rmtree("runs")
    with (here / "alone.log").open("w") as log:
        assert started(path, here, log).wait() == 0
    assert states(here) == killed


def test_two_workers_on_a_file_lose_and_double_no_trial(written, here):
    path = written("trials: 40")
    told = [
        found[1] for line in completed(path, here, 40, kills=0, seed=1) if (found := re.match(r"trial (\d+)/40", line))
    ]
    assert sorted(map(int, told)) == list(range(40))


# ----------------------------------------------------------------------------------------------------------- PostgreSQL
@pytest.fixture(scope="module")
def postgres():
    """A real server for the length of these tests; its address."""
    pytest.importorskip("psycopg2", reason="PostgreSQL's driver: pip install psycopg2-binary")
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin")), Path(shutil.which("initdb") or "/nowhere/x").parent]
    place = next((each for each in places if (each / "initdb").exists() and (each / "pg_ctl").exists()), None)
    if place is None:
        pytest.skip("no PostgreSQL: apt install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # another user reads no folder of pytest's
    become = []
    if os.getuid() == 0:  # as whom PostgreSQL does not run
        shutil.chown(folder, "postgres")
        become = ["runuser", "-u", "postgres", "--"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder}"
    subprocess.run([*become, place / "initdb", "-D", data, "-U", "me", "-A", "trust"], check=True, capture_output=True)
    start = [place / "pg_ctl", "-D", data, "-o", options, "-l", folder / "log", "-w", "start"]
    subprocess.run([*become, *start], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield f"postgresql+psycopg2://me@127.0.0.1:{port}/postgres"
    subprocess.run([*become, place / "pg_ctl", "-D", data, "-m", "immediate", "stop"], check=True, capture_output=True)
    shutil.rmtree(folder)


def test_two_workers_on_postgresql_lose_and_double_no_trial(written, here, postgres):
    path = written("trials: 40", f"storage: {postgres}", "sweep: mine")
    lines = told(completed(path, here, 40, kills=10, seed=2))
    assert len(set(lines)) == len(lines) >= 30, "whoever is killed between an end and its line leaves that out"
