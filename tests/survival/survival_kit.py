"""What the survival tests share: a tiny recipe, the command line in this process and in others, what a run left."""

import atexit
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import yaml

from trainer.engine import checkpoint
from trainer.engine.chain import Chain
from trainer.engine.progress import history_in

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

TINY = """
version: 1
name: tiny
seed: 3
data: {dataset: {type: Shapes, train_size: 32, val_size: 16, test_size: 16}, batch_size: 8}
model: {type: SmallCNN, width: 4}
optimizer: {type: SGD, lr: 0.02, momentum: 0.9}
train: {epochs: 2, precision: fp32, log_every: 2}
callbacks: []
report: []
"""


STOPS = """
import os, signal
from registry.contracts import Callback
from registry.recording import Sink
from registry import component

@component("callback")
class StopsAt(Sink):
    '''Asks for an interruption, as Ctrl-C does, at a reading of a log interval.

    Args:
        at: optimizer step.
    '''
    def __init__(self, at: int = 3) -> None:
        self.at = at
    def step(self, step, values):
        if step == self.at:
            os.kill(os.getpid(), signal.SIGINT)

@component("callback")
class StopsAfter(Callback):
    '''Asks for an interruption after an epoch, before its state is saved.

    Args:
        epoch: which.
    '''
    def __init__(self, epoch: int = 1) -> None:
        self.epoch = epoch
    def epoch_finished(self, view):
        if view.epoch == self.epoch:
            os.kill(os.getpid(), signal.SIGTERM)
"""


# ------------------------------------------------------------------------------------------------------ in this process
@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err


def command(capsys: pytest.CaptureFixture, *words: str) -> Ended:
    """Run the command line in this process."""
    from trainer.cli.main import main

    capsys.readouterr()
    code = main(list(words))
    captured = capsys.readouterr()
    return Ended(code, captured.out, captured.err)


def recipe(text: str = TINY, name: str = "tiny.yaml") -> str:
    """Write a recipe into the working directory and return its name."""
    Path(name).write_text(text, encoding="utf-8")
    return name


def plugin(code: str) -> None:
    """Write faults.py beside the recipe, for `plugins: [./faults.py]`."""
    Path("faults.py").write_text(code, encoding="utf-8")


def only_run(name: str = "tiny") -> Path:
    """Return the one run folder there is."""
    (folder,) = [path for path in Path("runs", name).iterdir() if not path.name.startswith(".")]
    return folder


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def moved(name: str) -> Path:
    """Move the one run aside, so that another may follow, and return where it is."""
    Path("aside").mkdir(exist_ok=True)
    return Path(shutil.move(only_run(), Path("aside", name)))


def stopped(capsys, text: str = TINY, at: int = 6, *overrides: str) -> Path:
    """Return a run that was interrupted at a step."""
    text = text.replace("callbacks: [", f"callbacks: [{{type: StopsAt, at: {at}}}, ").replace(", ]", "]")
    if "plugins:" not in text:
        text += "plugins: [./faults.py]\n"
    text = text.replace("log_every: 2", "log_every: 1")
    ended = command(capsys, recipe(text, "stops.yaml"), *overrides)
    assert ended.code == 130, ended.said
    return only_run()


def same(first: Path, second: Path) -> None:
    """Assert that two runs left the same."""
    assert state_digests(first) == state_digests(second) | {
        key: value for key, value in state_digests(first).items() if key.endswith((" recipe", " callbacks", " about"))
    }
    assert metric_lines(first) == metric_lines(second)
    assert pictures(first).keys() == pictures(second).keys()
    assert [name for name, data in pictures(first).items() if pictures(second)[name] != data] == []


# --------------------------------------------------------------------------------------------------- in other processes
@dataclass
class Process:
    """A command line that runs in a process of its own."""

    pid: int
    log: Path
    _wait: Callable[[int], int]
    status: int | None = None

    def send(self, signum: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signum)

    def wait(self) -> int:
        """Return the exit code, or minus the signal that ended it."""
        if self.status is None:
            self.status = self._wait(self.pid)
        return self.status

    def wait_for(self, text: str, seconds: float = 120.0) -> None:
        """Wait until `text` is in what the process has printed."""
        end = time.monotonic() + seconds
        while text not in self.said:
            assert time.monotonic() < end, f"{text!r} never came:\n{self.said}"
            time.sleep(0.01)

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""


class Zygote:
    """Forks processes that have imported everything (survival_zygote.py)."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "survival_zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._count = 0
        atexit.register(self._end)

    def start(
        self,
        cwd: Path,
        words: Sequence[str],
        *,
        die: tuple[str, int] | None = None,
        env: dict[str, str] | None = None,
    ) -> Process:
        self._count += 1
        log = cwd / f"process-{self._count}.log"
        request = {"words": list(words), "cwd": str(cwd), "log": str(log), "env": env or {}}
        if die is not None:
            request["die"] = list(die)
        return Process(self._ask(request)["pid"], log, lambda pid: self._ask({"wait": pid})["status"])

    def _ask(self, request: dict) -> dict:
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def _end(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@cache
def zygote() -> Zygote:
    """Return the one zygote of this test session."""
    return Zygote()


# ------------------------------------------------------------------------------------------------------ what a run left
def state_digests(folder: Path) -> dict[str, str]:
    """Return a digest per key of last.pt and best.pt; left out are wall times and the resolved recipe's comments.

    Of the chain its weights are taken: its links hold on to the recipe, which names what stops a run.
    """
    digests = {}
    for name in ("last.pt", "best.pt"):
        state = checkpoint.read(folder / "checkpoints" / name)
        state["recipe"] = yaml.safe_load(state["recipe"])
        if "chain" in state:
            state["chain"] = [link.weights for link in Chain(state["chain"]).links.values()]
        if "progress" in state:
            progress = state["progress"]
            progress["history"] = history_in(progress)
            for row in (*progress["history"], progress["best"]):
                row.pop("seconds")
            for key in ("seconds", "epoch_seconds"):
                progress.pop(key)
        else:
            state["row"].pop("seconds")
        digests |= {f"{name} {key}": checkpoint.digest({"value": value}) for key, value in state.items()}
    return digests


def metric_lines(folder: Path) -> list[str]:
    """Return the lines of metrics.jsonl as written, seconds and links cut out."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [re.sub(r'"seconds": [^,]+, |, "link": "\w+"', "", line) for line in lines]


def points(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return every scalar in the event files by "writer tag", as (step, value) in the order of the steps."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted((folder / "tensorboard").rglob("*tfevents*")):
        writer = path.parent.name
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(f"{writer} {value.tag}", []).append((event.step, value.simple_value))
    found.pop("train seconds", None)
    return {tag: sorted(pairs) for tag, pairs in found.items()}


def pictures(folder: Path) -> dict[str, bytes]:
    """Return the report's pictures by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for part in ("figures", "gradcam")
        for path in sorted((folder / part).rglob("*.png"))
    }
