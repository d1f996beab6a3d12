"""How a run on several processes ends before its time: one reason, one voice, one exit code, and nothing hangs."""

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes_kit import apart, folder_in, free_port, last_of, place, run, start
from survival_kit import ROOT, Process, metric_lines, state_digests, zygote

LONG = ["train.epochs=3000", "train.checkpoint.steps=5", "model.dropout=0.3"]


def end(processes: list[Process]) -> list[int]:
    return [process.wait() for process in processes]


def digests(folder: Path) -> dict[str, str]:
    """Digests of every part of the checkpoints but the recipe's text, which remembers what was overridden when."""
    return {key: value for key, value in state_digests(folder).items() if not key.endswith((" recipe", " about"))}


def assert_said_by(speaker: int, text: str, processes: list[Process]) -> None:
    """Assert that one process has said why, and that the others are silent."""
    assert text in processes[speaker].said, processes[speaker].said
    for number, process in enumerate(processes):
        assert number == speaker or not any(word in process.said for word in ("error:", "Traceback")), process.said


# ------------------------------------------------------------------------------------------------------------- signals
def test_a_signal_to_any_process_stops_all_at_one_step_and_the_run_goes_on_from_there(tmp_path):
    """Dropout draws in each process for itself, so all their random states must come back."""
    cut, whole = place(tmp_path / "cut"), place(tmp_path / "whole")
    processes = start(cut, ["recipe.yaml", *LONG], 3)
    processes[0].wait_for("epoch    3/3000")
    processes[2].send(signal.SIGTERM)
    assert end(processes) == [143, 143, 143]
    folder = folder_in(cut)
    resume = f"resume {folder.relative_to(cut)} --processes 3"
    assert_said_by(0, f"interrupted by SIGTERM; to continue: python -m trainer {resume}", processes)
    assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"

    state = last_of(cut)
    draws = [state["rng"], *(each["rng"] for each in state["processes"]["others"])]
    assert len({each["torch"].numpy().tobytes() for each in draws}) == 3

    epochs = f"train.epochs={state['progress']['epoch'] + 2}"
    run(cut, ["resume", str(folder), epochs], 3)
    run(whole, ["recipe.yaml", *LONG, epochs], 3)
    assert digests(folder) == digests(folder_in(whole))
    assert metric_lines(folder) == metric_lines(folder_in(whole))


def test_a_run_goes_on_with_another_number_of_processes_and_says_what_differs(tmp_path):
    """In the middle of an epoch, with metrics half gathered by each."""
    words = ["recipe.yaml", "train.checkpoint.steps=1"]
    cut, whole = place(tmp_path / "cut"), place(tmp_path / "whole")
    end(start(cut, words, 3, die=(1, "step", 16)))  # three steps look ahead
    state = last_of(cut)
    assert 0 < state["progress"]["batch"] < 8
    (alone,) = run(cut, ["resume", str(folder_in(cut))], 1)
    assert "the checkpoint is of 3 processes, this is 1: the same images in the same steps" in alone.said
    run(whole, words, 1)
    assert apart(last_of(cut)["model"], last_of(whole)["model"]) < 1e-5
    rows = [json.loads((folder_in(each) / "metrics.jsonl").read_text().splitlines()[-1]) for each in (cut, whole)]
    assert rows[0]["train/accuracy"] == rows[1]["train/accuracy"]
    assert rows[0]["val/accuracy"] == rows[1]["val/accuracy"]


# -------------------------------------------------------------------------------------------------------------- errors
def test_an_error_in_one_process_ends_all_with_its_words_and_its_code(tmp_path):
    cwd = place(tmp_path / "run")
    processes = start(cwd, ["recipe.yaml", "data.dataset={type: Missing, train_size: 20, image_size: 24}"], 3)
    assert end(processes) == [3, 3, 3]
    assert "process 1 on" in processes[1].said
    assert_said_by(1, "there are no pictures on this disk", processes)
    assert not (cwd / "runs").exists()  # nothing was run


def test_an_error_that_all_have_is_said_once(tmp_path):
    processes = start(place(tmp_path / "run"), ["recipe.yaml", "optimizer.lrr=3"], 3)
    assert end(processes) == [2, 2, 2]
    assert_said_by(0, "takes no argument 'lrr'", processes)


def test_processes_with_different_recipes_are_refused_by_number(tmp_path):
    words = ["recipe.yaml"]
    processes = start(place(tmp_path / "run"), words, 3, others=[*words, "optimizer.lr=0.2"])
    assert end(processes) == [2, 2, 2]
    assert_said_by(0, "process 2 (on ", processes)
    assert "is not like process 0" in processes[0].said
    assert "the recipe: " in processes[0].said


def test_processes_with_different_images_are_refused_by_number(tmp_path):
    cwd = place(tmp_path / "run")
    processes = start(cwd, ["recipe.yaml", "data.dataset={type: Differs, train_size: 20, image_size: 24}"], 3)
    assert end(processes) == [3, 3, 3]
    assert_said_by(0, "process 1 (on ", processes)
    assert "train images (pixels): " in processes[0].said
    assert not (cwd / "runs").exists()


def test_norms_of_the_whole_batch_are_refused_without_a_gpu(tmp_path):
    processes = start(place(tmp_path / "run"), ["recipe.yaml", "train.sync_norm=true"], 2)
    assert end(processes) == [2, 2]
    assert_said_by(0, "command line:1:17: train.sync_norm is of torch's SyncBatchNorm, which works on GPUs", processes)


def test_a_batch_that_leaves_a_process_without_an_image_is_refused_before_anything_runs(tmp_path):
    cwd = place(tmp_path / "run")
    processes = start(cwd, ["recipe.yaml", "data.batch_size=2"], 3)
    assert end(processes) == [2, 2, 2]
    assert_said_by(0, "data.batch_size 2 is less than one image for each of 3 processes", processes)
    assert not (cwd / "runs").exists()


def test_a_device_for_all_processes_is_refused_with_its_place(tmp_path):
    processes = start(place(tmp_path / "run"), ["recipe.yaml", "train.device=cuda:1"], 2)
    assert end(processes) == [2, 2]
    assert_said_by(0, "command line:1:14: train.device is cuda:1, and the 2 processes cannot all use", processes)


def test_a_killed_process_ends_the_others_and_the_run_says_how_to_go_on(tmp_path):
    cwd = place(tmp_path / "run")
    processes = start(cwd, ["recipe.yaml", *LONG], 3, die=(1, "step", 30))
    assert end(processes) == [137, -signal.SIGKILL, 137]
    assert_said_by(0, "another process of this run is gone without a word: killed, perhaps for memory; to", processes)
    assert json.loads((folder_in(cwd) / "summary.json").read_text())["status"] == "interrupted"


# ---------------------------------------------------------------------------------------------------------- rendezvous
def found(cwd: Path, rank: int, port: int, seconds: str = "2") -> Process:
    about = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return zygote().start(cwd, ["recipe.yaml"], env={**about, "TRAINER_RENDEZVOUS_SECONDS": seconds})


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_nobody_comes_to_ends_in_the_time_that_was_asked_for(tmp_path, rank):
    started = time.monotonic()
    process = found(place(tmp_path / "run"), rank, free_port())
    assert process.wait() == 2
    assert time.monotonic() - started >= 2
    assert f"process {rank} of 2 did not find the others at 127.0.0.1:" in process.said
    assert "within 2 s" in process.said


def test_a_port_that_another_program_has_is_named(tmp_path):
    """The first process cannot listen there; the second is answered by nobody, for torch as long as it likes."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        first, second = (found(place(tmp_path / str(rank)), rank, port) for rank in (0, 1))
        assert [first.wait(), second.wait()] == [2, 2]
    assert f"127.0.0.1:{port}: another program has that port" in first.said
    assert "what listens there does not answer" in second.said


def test_machines_that_do_not_come_are_waited_for_as_long_as_was_asked(tmp_path):
    words = ["recipe.yaml", "--processes", "1", "--machines", "2", "--wait", "3"]
    place_of_meeting = f"127.0.0.1:{free_port()}"
    alone = zygote().start(place(tmp_path / "run"), [*words, "--rendezvous", place_of_meeting])
    assert alone.wait() == 2
    assert f"not all 2 machines came to {place_of_meeting} within 3 s" in alone.said


# ------------------------------------------------------------------------------------------------------------ launchers
@pytest.mark.slow  # two agents and their processes import torch, twice
def test_two_agents_are_as_one_and_start_again_in_the_same_folder_when_a_process_is_killed(tmp_path):
    """Two machines on the loopback address, one process each; the second is killed, both are started anew."""
    apart_, whole = place(tmp_path / "apart"), place(tmp_path / "whole")
    net = ["recipe.yaml", "model={type: DiesOnce}", "train.checkpoint.steps=3"]
    launching = ["--processes", "1", "--machines", "2", "--max-restarts", "1", "--rendezvous"]
    words = [sys.executable, "-m", "trainer", *net, *launching, f"127.0.0.1:{free_port()}"]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    agents = [
        subprocess.Popen(
            words, cwd=apart_, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _ in range(2)
    ]
    said = [agent.communicate()[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], said
    folder = folder_in(apart_)
    assert (apart_ / "died").exists()
    log = (folder / "log.txt").read_text()
    assert "2 processes on 2 machines by gloo" in log
    assert "were started anew" in log
    (whole / "died").touch()
    run(whole, net, 2)
    assert digests(folder) == digests(folder_in(whole))
