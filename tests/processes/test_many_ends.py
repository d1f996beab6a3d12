"""Twenty kills and ten signals at random moments leave what an uninterrupted run of as many processes leaves."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes_kit import folder_in, place, run, start
from survival_kit import ROOT, metric_lines, state_digests

KILLS, SIGNALS = 20, 10
LONG = ["recipe.yaml", "train.epochs=300", "train.checkpoint.steps=7", "model.dropout=0.3"]


def digests(folder: Path) -> dict[str, str]:
    return {key: value for key, value in state_digests(folder).items() if not key.endswith((" recipe", " about"))}


def assert_same(one: Path, other: Path) -> None:
    assert digests(folder_in(one)) == digests(folder_in(other))
    assert metric_lines(folder_in(one)) == metric_lines(folder_in(other))


def workers_of(agent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{agent}/task/{agent}/children").read_text().split()]


def epochs_in(cwd: Path) -> int:
    return sum(path.read_text().count("\n") for path in cwd.glob("runs/*/*/metrics.jsonl"))


@pytest.mark.slow  # twenty starts of two processes that import torch
def test_twenty_kills_of_random_processes_change_nothing(tmp_path):
    """Each time the agent starts all anew, and they go on in the same folder."""
    cut, whole, draw = place(tmp_path / "cut"), place(tmp_path / "whole"), random.Random(0)
    words = [sys.executable, "-m", "trainer", *LONG, "--processes", "2", "--max-restarts", str(KILLS)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    agent = subprocess.Popen(words, cwd=cut, env=environment)
    done = killed = 0
    while agent.poll() is None:
        if killed < KILLS and epochs_in(cut) > done and (workers := workers_of(agent.pid)):
            time.sleep(draw.random())
            os.kill(draw.choice(workers), signal.SIGKILL)
            killed, done = killed + 1, epochs_in(cut)
            time.sleep(1.0)  # until all are gone: a second kill of the same start would be one restart
        time.sleep(0.02)
    assert (agent.returncode, killed) == (0, KILLS)
    run(whole, LONG, 2)
    assert_same(cut, whole)


@pytest.mark.slow  # ten starts, and a run long enough to be cut as often
def test_ten_signals_at_random_moments_change_nothing_after_a_resume(tmp_path):
    cut, whole, draw = place(tmp_path / "cut"), place(tmp_path / "whole"), random.Random(1)
    words = LONG
    for _ in range(SIGNALS):
        done = epochs_in(cut)
        processes = start(cut, words, 2)
        while epochs_in(cut) <= done:
            time.sleep(0.01)
        time.sleep(draw.random() / 2)
        draw.choice(processes).send(signal.SIGTERM)
        assert [process.wait() for process in processes] == [143, 143]
        words = ["resume", str(folder_in(cut))]
    run(cut, words, 2)
    run(whole, LONG, 2)
    assert_same(cut, whole)


@pytest.mark.slow  # an agent and two processes that import torch, twice
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_launcher_stops_the_run_and_is_its_exit_code(tmp_path, signum, code):
    cwd = place(tmp_path / "run")
    words = [sys.executable, "-m", "trainer", "recipe.yaml", "train.epochs=30000", "--processes", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (cwd / "said.txt").open("w") as said:
        agent = subprocess.Popen(words, cwd=cwd, env=environment, stdout=said, stderr=subprocess.STDOUT)
    while epochs_in(cwd) < 2:
        time.sleep(0.05)
    agent.send_signal(signum)
    assert agent.wait() == code
    last = (cwd / "said.txt").read_text().splitlines()[-1]
    resume = f"python -m trainer resume {folder_in(cwd).relative_to(cwd)} --processes 2"
    assert last == f"interrupted by {signum.name}; to continue: {resume}"
