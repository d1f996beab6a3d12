"""SIGKILL at random moments, and resume until the run is done: nobody can tell the result from an uninterrupted one.

The moments are drawn with a fixed seed: in an optimizer step, at an input or output call (checkpoints, logs, pictures,
the page), or after a time on the clock, which may fall anywhere. `pytest -m slow -k kills -s` shows the tally.
"""

import contextlib
import random
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from shared_recipes import EVERYTHING
from survival_kit import Process, metric_lines, pictures, points, recipe, state_digests, summary_of, zygote

from registry.files import TEMPORARY

CRASHING = (
    EVERYTHING.replace("name: everything", "name: tiny")
    .replace("{type: SmallCNN, dropout", "{type: SmallCNN, width: 8, dropout")
    .replace("dropout: 0.3", "dropout: 0.1")
    .replace("checkpoint: {keep: 1}", "checkpoint: {keep: 1, steps: 2}")
    .replace("lr: 0.02", "lr: $lr_finder.lr")
    .replace(
        "report: [Curves]",
        "lr_finder: {start: 1e-4, end: 30, steps: 80}\n"
        "report: [Misclassified, {type: GradCAM, layers: [layer3], select: misclassified, count: 2}]",
    )
)
TIMES = ("seconds", "report", "lr_finder")  # in summary.json; the learning rate itself is compared by lr_finder.json
PATIENCE = 60  # attempts without a single kill before the test gives up


@dataclass
class Tally:
    """What happened."""

    kills: int = 0
    runs: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)
    leftovers: int = 0
    without_a_folder: int = 0

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} at a {kind}" for kind, count in sorted(self.by_kind.items()))
        return (
            f"{self.kills} kills survived in {self.runs} runs ({kinds}); after {self.leftovers} of them a half-written "
            f"file lay there, {self.without_a_folder} came before there was a run"
        )


def left_by(folder: Path) -> dict[str, object]:
    """Return everything that must be equal."""
    summary = {key: value for key, value in summary_of(folder).items() if key not in TIMES}
    for name in ("best", "final"):
        summary[name] = {key: value for key, value in summary[name].items() if key != "seconds"}
    finding = (folder / "lr_finder.json").read_text(encoding="utf-8")
    return {
        "state": state_digests(folder),
        "metrics": metric_lines(folder),
        "points": {tag: pairs for tag, pairs in points(folder).items() if "seconds" not in tag},
        "pictures": pictures(folder),
        "summary": summary,
        "finding": [line for line in finding.splitlines() if '"seconds"' not in line],
        "resolved": yaml.safe_load((folder / "resolved.yaml").read_text(encoding="utf-8")),
    }


def start(cwd: Path, die: tuple[str, int] | None = None) -> Process:
    """Begin the run, or continue it where there is one."""
    found = [path for path in cwd.glob("runs/tiny/*") if not path.name.startswith(".")]
    assert len(found) <= 1
    return zygote().start(cwd, ["resume", str(found[0].relative_to(cwd))] if found else ["tiny.yaml"], die=die)


@dataclass
class Uninterrupted:
    """What a run leaves that nothing happened to, and how long its parts are."""

    left: dict[str, object]
    seconds: float


@pytest.fixture
def uninterrupted(tmp_path, monkeypatch) -> Uninterrupted:
    monkeypatch.chdir(tmp_path)
    recipe(CRASHING)
    started = time.monotonic()
    process = start(tmp_path)
    assert process.wait() == 0, process.said
    seconds = time.monotonic() - started
    left = left_by(next(tmp_path.glob("runs/tiny/2*")))
    shutil.rmtree("runs")
    return Uninterrupted(left, seconds)


def moment(generator: random.Random) -> tuple[str, int | float]:
    """Draw when to kill: a kind, and a number or a share of the run's time."""
    kind = generator.choice(("call", "call", "step", "time"))
    if kind == "call":
        return kind, generator.randrange(1, 200)
    if kind == "step":
        return kind, generator.randrange(1, 60)  # the forecast and the LR finder take steps, too
    return kind, generator.random()


def survive(cwd: Path, kills: int, seed: int, whole: Uninterrupted) -> Tally:
    """Kill and resume until `kills` have been survived; every run must end like `whole`."""
    generator, tally, in_vain = random.Random(seed), Tally(), 0
    while tally.kills < kills:
        kind, when = moment(generator)
        process = start(cwd, (kind, int(when)) if kind != "time" else None)
        if kind == "time":
            time.sleep(when * whole.seconds)
            process.send(signal.SIGKILL)
        status = process.wait()
        assert status in (0, -signal.SIGKILL), process.said
        if status == 0:
            finish(cwd, whole, tally)
            in_vain += 1
            assert in_vain < PATIENCE
            continue
        in_vain = 0
        tally.kills += 1
        tally.by_kind[kind] = tally.by_kind.get(kind, 0) + 1
        tally.leftovers += any(TEMPORARY in path.name for path in cwd.glob("runs/tiny/*/**/*"))
        tally.without_a_folder += not list(cwd.glob("runs/tiny/2*"))
    process = start(cwd)
    assert process.wait() == 0, process.said
    finish(cwd, whole, tally)
    return tally


def finish(cwd: Path, whole: Uninterrupted, tally: Tally) -> None:
    """Compare the run with the uninterrupted one, and make room for another."""
    (folder,) = cwd.glob("runs/tiny/2*")
    left = left_by(folder)
    for key, value in whole.left.items():
        assert left[key] == value, f"{key} differ after {tally}"
    assert not [path for path in folder.rglob("*") if TEMPORARY in path.name]
    shutil.rmtree(cwd / "runs")
    with contextlib.suppress(OSError):
        for log in cwd.glob("process-*.log"):
            log.unlink()
    tally.runs += 1


def test_five_kills_at_random_moments_change_nothing(tmp_path, uninterrupted, capsys):
    tally = survive(tmp_path, 5, seed=5, whole=uninterrupted)
    with capsys.disabled():
        print(f"\n{tally}")
    assert tally.kills == 5


@pytest.mark.slow  # minutes: about as many runs as kills
def test_fifty_kills_at_random_moments_change_nothing(tmp_path, uninterrupted, capsys):
    tally = survive(tmp_path, 50, seed=50, whole=uninterrupted)
    with capsys.disabled():
        print(f"\n{tally}")
    assert tally.kills == 50
    assert set(tally.by_kind) == {"call", "step", "time"}
