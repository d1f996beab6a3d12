"""Signals, in real processes: the step ends, the state is saved, the line that resumes is printed and works."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from survival_kit import ROOT, TINY, metric_lines, only_run, plugin, recipe, state_digests, summary_of, zygote

from trainer.engine import checkpoint
from trainer.engine.interrupts import Interrupted, Interrupts

SLOW = """
import time
import torch
from torch import nn
from registry.contracts import Callback, Section
from registry import component

@component("model")
class Slow(nn.Module):
    '''A network that takes its time.

    Args:
        num_classes: classes.
        seconds: per training batch.
        eval_seconds: per batch without gradients.
    '''
    def __init__(self, num_classes: int, seconds: float = 0.0, eval_seconds: float = 0.0) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)
        self.drop = nn.Dropout(0.5)
        self.seconds, self.eval_seconds = seconds, eval_seconds
    def forward(self, images):
        if self.training:
            time.sleep(self.seconds)
        elif torch.is_inference_mode_enabled() and self.eval_seconds:
            print("validating", flush=True)
            time.sleep(self.eval_seconds)
        return self.head(self.drop(images.mean((2, 3))))

@component("report")
class Waits:
    '''A part that takes very long, once.'''
    def render(self, evidence):
        import pathlib
        if not pathlib.Path("waited").exists():
            pathlib.Path("waited").touch()
            print("drawing", flush=True)
            time.sleep(60)
        return Section("waits", (), "waits")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    plugin(SLOW)
    return tmp_path


def slow(**arguments: float) -> str:
    words = "".join(f", {key}: {value}" for key, value in arguments.items())
    return TINY.replace("{type: SmallCNN, width: 4}", f"{{type: Slow{words}}}\nplugins: [./faults.py]")


def resumed(said: str, folder: Path) -> None:
    """Run the line that was printed."""
    line = re.search(r"to continue: python -m trainer (resume \S+)", said)[1]
    process = zygote().start(folder, line.split())
    assert process.wait() == 0, process.said


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=["INT", "TERM", "HUP"]
)
def test_a_signal_ends_the_step_saves_and_prints_the_line_that_resumes(folder, signum, code):
    process = zygote().start(folder, [recipe(slow(seconds=0.2))])
    process.wait_for("epoch 1/2")
    process.send(signum)
    assert process.wait() == code
    run = only_run()
    assert summary_of(run)["status"] == "interrupted"
    assert f"interrupted by {signal.Signals(signum).name}; to continue: python -m trainer resume {run}" in process.said
    assert "Traceback" not in process.said
    assert 4 <= checkpoint.read(run / "checkpoints/last.pt")["progress"]["step"] < 8
    resumed(process.said, folder)
    assert summary_of(run)["status"] == "completed"
    assert len(metric_lines(run)) == 2


def test_a_second_sigint_stops_at_once_and_leaves_the_checkpoint_before(folder):
    text = slow(seconds=0.0, eval_seconds=60).replace("epochs: 2", "epochs: 2, checkpoint: {steps: 2}")
    process = zygote().start(folder, [recipe(text)])
    process.wait_for("validating")  # the first validation, which no step ends soon
    run = only_run()
    process.send(signal.SIGINT)
    time.sleep(0.3)
    process.send(signal.SIGINT)
    assert process.wait() == 130
    assert checkpoint.read(run / "checkpoints/last.pt")["progress"]["step"] == 4
    resume = zygote().start(folder, ["resume", str(run)])
    resume.wait_for(f"resuming {run} after epoch 0, step 4")
    resume.send(signal.SIGKILL)
    assert resume.wait() == -signal.SIGKILL


def test_a_signal_in_validation_is_answered_between_two_batches(folder):
    text = slow(eval_seconds=0.2).replace("batch_size: 8}", "batch_size: 8, eval_batch_size: 2}")
    process = zygote().start(folder, [recipe(text)])
    process.wait_for("validating")
    process.send(signal.SIGTERM)
    assert process.wait() == 143
    assert checkpoint.read(only_run() / "checkpoints/last.pt")["progress"]["batch"] == 4
    resumed(process.said, folder)
    assert len(metric_lines(only_run())) == 2


def test_a_signal_in_the_report_stops_it_and_a_resume_writes_it(folder):
    process = zygote().start(folder, [recipe(slow().replace("report: []", "report: [Waits]"))])
    process.wait_for("drawing")
    before = state_digests(only_run())
    process.send(signal.SIGTERM)
    assert process.wait() == 143
    assert summary_of(only_run())["status"] == "interrupted"
    resumed(process.said, folder)
    assert summary_of(only_run())["status"] == "completed"
    assert (only_run() / "report.html").exists()
    assert state_digests(only_run()) == before


def test_a_signal_in_the_search_for_a_learning_rate_stops_it(folder):
    text = slow(seconds=0.1) + "lr_finder: {start: 1e-3, end: 1, steps: 500}\n"
    process = zygote().start(folder, [recipe(text)])
    process.wait_for("LR finder 500 steps, then")
    time.sleep(0.3)
    process.send(signal.SIGINT)
    assert process.wait() == 130
    assert summary_of(only_run())["status"] == "interrupted"
    assert not (only_run() / "lr_finder.json").exists()


def test_a_run_that_was_started_to_ignore_hangups_ignores_them(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts().listening() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            interrupts.check()
            assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_given_back_and_a_signal_during_quick_work_acts_at_once():
    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    finished = []

    def work(interrupts: Interrupts) -> None:
        with interrupts.at_once():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
            finished.append(True)

    with Interrupts().listening() as interrupts, pytest.raises(Interrupted) as caught:
        work(interrupts)
    assert not finished
    assert caught.value.exit_code == 143
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == before


# ------------------------------------------------------------------------------------------------ a hostile environment
def test_a_run_outlives_its_closed_output_and_needs_neither_home_nor_locale(folder):
    """One real start of the interpreter: no HOME to write to, LANG=C, an ASCII stdout that nobody reads any more."""
    (folder / "home").write_text("a file where a folder is expected")
    keep = {key: value for key, value in os.environ.items() if key in ("PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV")}
    environment = {
        **keep,
        "HOME": str(folder / "home"),
        "LANG": "C",
        "LC_ALL": "C",
        "PYTHONIOENCODING": "ascii",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    name = recipe(TINY.replace("name: tiny", "name: F\u00fcchse").replace("callbacks: []", "callbacks: [TensorBoard]"))
    text = Path(name).read_text(encoding="utf-8").replace("report: []", "report: [Curves, ConfusionMatrix]")
    Path(name).write_text(text, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=folder,
    )
    first = process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 0, errors
    assert first.startswith((b"importing torch", b"run folder runs/F"))
    assert "Traceback" not in errors
    run = only_run("F\u00fcchse")
    assert summary_of(run)["status"] == "completed"
    assert (run / "report.html").exists()
    assert "epoch 2/2" in (run / "log.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("out", [">&-", "> /dev/full", ">&- 2>&-"])
def test_a_run_needs_no_output_at_all(folder, out):
    keep = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(["bash", "-c", f"{sys.executable} -m trainer {recipe(TINY)} {out}"], cwd=folder, env=keep)
    assert done.returncode == 0
    assert summary_of(only_run())["status"] == "completed"
