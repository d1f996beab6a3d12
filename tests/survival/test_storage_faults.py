"""Disks that are full, read-only or gone, and files of a run that are damaged: what is promised, and the exit code."""

import json
import os
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
import survival_kit
from survival_kit import TINY, Ended, metric_lines, only_run, pictures, plugin, points, recipe, summary_of

from trainer.engine import checkpoint

FAULTS = """
import os, resource, shutil, threading
from pathlib import Path
from registry.contracts import Callback, Section
from registry.recording import Sink
from registry import component

@component("callback")
class Vanishes(Callback):
    '''Removes the run folder after an epoch.

    Args:
        after: epoch.
    '''
    def __init__(self, after: int = 1) -> None:
        self.after = after
    def epoch_finished(self, view):
        if view.epoch == self.after:
            shutil.rmtree("runs")

@component("callback")
class Fills(Callback):
    '''Lets no file grow beyond a size between two epochs.

    Args:
        first: epoch from whose start on the disk is full.
        last: epoch at whose end it has room again.
    '''
    def __init__(self, first: int = 1, last: int = 1000) -> None:
        self.first, self.last = first, last
    def epoch_started(self, view):
        for thread in threading.enumerate():
            if thread.name == "checkpoint":
                thread.join()
        if view.epoch == self.first:
            resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, resource.RLIM_INFINITY))
        if view.epoch == self.last + 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

@component("callback")
class Blocks(Sink):
    '''Puts a file where TensorBoard's folder was.'''
    def open(self, run):
        shutil.rmtree(run.folder / "tensorboard")
        (run.folder / "tensorboard").write_text("in the way")

@component("callback")
class TakesMetrics(Callback):
    '''Makes metrics.jsonl unwritable during the first epoch.'''
    def epoch_started(self, view):
        (path,) = Path("runs", "tiny").glob("*/metrics.jsonl")
        if view.epoch == 1:
            path.rename(path.with_name("aside")); path.mkdir()
        elif path.is_dir():
            path.rmdir(); path.with_name("aside").rename(path)

@component("report")
class FillsAtTheEnd:
    '''Leaves no room for the page.'''
    def render(self, evidence):
        if not Path("mended").exists():
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        return Section("room", (), "room")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    plugin(FAULTS)
    return tmp_path


def command(capsys: pytest.CaptureFixture, *words: str) -> Ended:
    """Run the command line and let files grow again at once: the test run's own output may be a long file, too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        return survival_kit.command(capsys, *words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def with_fault(callbacks: str, epochs: int = 2, report: str = "[]") -> str:
    text = TINY.replace("callbacks: []", f"callbacks: {callbacks}\nplugins: [./faults.py]")
    return recipe(text.replace("epochs: 2", f"epochs: {epochs}").replace("report: []", f"report: {report}"))


@contextmanager
def unwritable(path: Path):
    """Make a folder that nobody may write into, root included."""
    if os.geteuid() != 0:
        path.mkdir(mode=0o555)
        yield
        path.chmod(0o755)
    elif Path("/sys/kernel").is_dir():
        path.symlink_to("/sys/kernel")  # where root, too, makes no folders
        yield
    else:
        pytest.skip("root may write everywhere here")


# ---------------------------------------------------------------------------------------------- before anything is done
def test_read_only_runs_end_with_exit_5_before_any_data_are_read(capsys):
    with unwritable(Path("runs")):
        ended = command(capsys, recipe())
    assert ended.code == 5
    assert "error: runs/tiny: a run folder cannot be made here (" in ended.err
    assert "make the place writable, or start in another folder" in ended.err
    assert "10 classes: " not in ended.out
    Path("elsewhere").mkdir()
    with survival_kit.working_in(Path("elsewhere")):
        assert "10 classes: " in command(capsys, recipe()).out, "else its silence above means nothing"


@pytest.mark.parametrize("where", ["runs", "runs/tiny"])
def test_a_file_where_a_folder_belongs_ends_with_exit_5(capsys, where):
    Path(where).parent.mkdir(exist_ok=True)
    Path(where).write_text("in the way")
    ended = command(capsys, recipe())
    assert ended.code == 5
    assert "a run folder cannot be made here" in ended.err
    assert Path(where).read_text() == "in the way"


def test_a_run_folder_that_cannot_be_made_leaves_nothing_behind(capsys, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *_, **__: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
    ended = command(capsys, recipe())
    assert (ended.code, list(Path("runs/tiny").iterdir())) == (5, [])


# ------------------------------------------------------------------------------------------------------ while it trains
def test_a_run_folder_that_vanishes_ends_with_exit_5_and_says_what_could_not_be_written(capsys):
    ended = command(capsys, with_fault("[Vanishes]"))
    assert ended.code == 5
    assert "warning: a checkpoint could not be written (No such file or directory)" in ended.out
    assert "checkpoints in a row could not be written (No such file or directory)" in ended.err
    assert "Traceback" not in ended.said


def test_a_full_disk_is_borne_until_three_saves_have_failed(capsys):
    ended = command(capsys, with_fault("[Fills]", epochs=9))
    assert ended.code == 5
    assert ended.out.count("warning: a checkpoint could not be written (File too large); the one before is kept") == 2
    assert "3 checkpoints in a row could not be written (File too large)" in ended.err
    assert "make room or mend the permissions, then resume: the last whole checkpoint is kept" in ended.err
    run = only_run()
    assert summary_of(run)["status"] == "failed"
    assert [json.loads(line)["epoch"] for line in metric_lines(run)] == [1, 2, 3, 4]
    assert list((run / "checkpoints").iterdir()) == []


def test_a_disk_that_is_full_for_two_epochs_costs_two_warnings(capsys):
    ended = command(capsys, with_fault("[{type: Fills, first: 2, last: 3}]", epochs=6))
    assert ended.code == 0
    assert ended.out.count("warning: a checkpoint could not be written") == 2
    run = only_run()
    assert checkpoint.read(run / "checkpoints/last.pt")["progress"]["epoch"] == 6
    best = summary_of(run)["best"]["epoch"]
    assert checkpoint.read(run / "checkpoints/best.pt")["row"]["epoch"] == best


def test_after_a_full_disk_the_run_resumes_from_the_last_whole_checkpoint(capsys):
    name = with_fault("[{type: Fills, first: 3}]", epochs=8)
    assert command(capsys, name).code == 5
    ended = command(capsys, "resume", str(only_run()), "callbacks=[]")
    assert ended.code == 0
    assert "after epoch 2, step 8" in ended.out
    assert len(metric_lines(only_run())) == 8


def test_metrics_that_could_not_be_written_are_written_later(capsys):
    ended = command(capsys, with_fault("[TakesMetrics]", epochs=3))
    assert ended.code == 0
    assert ended.out.count("warning: runs/tiny/") == 1
    assert "metrics.jsonl cannot be written (Is a directory); trying again later" in ended.out
    assert [json.loads(line)["epoch"] for line in metric_lines(only_run())] == [1, 2, 3]


def test_an_unwritable_tensorboard_costs_one_warning(capsys):
    ended = command(capsys, with_fault("[Blocks, TensorBoard]"))
    assert ended.code == 0
    assert ended.out.count("warning: TensorBoard is switched off (") == 1
    assert summary_of(only_run())["status"] == "completed"
    assert (only_run() / "report.html").exists()


def test_a_disk_that_is_full_for_the_report_ends_with_exit_5_and_a_resume_writes_it(capsys):
    name = with_fault("[]", report="[FillsAtTheEnd]")
    ended = command(capsys, name)
    assert ended.code == 5
    assert "cannot be written (File too large)" in ended.err
    run = only_run()
    assert not (run / "report.html").exists()
    Path("mended").touch()
    assert command(capsys, "resume", str(run)).code == 0
    assert summary_of(run)["status"] == "completed"
    assert (run / "report.html").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_small_file_system_fills_up(capsys, folder):
    Path("runs").mkdir()
    if os.system(f"mount -t tmpfs -o size=400k tmpfs {folder}/runs 2>/dev/null") != 0:
        pytest.skip("mounting is not allowed here")
    try:
        ended = command(capsys, recipe(TINY.replace("width: 4", "width: 16").replace("epochs: 2", "epochs: 9")))
        assert ended.code == 5
        assert "No space left on device" in ended.said
        assert "Traceback" not in ended.said
    finally:
        os.system(f"umount {folder}/runs")


# --------------------------------------------------------------------------------------------- pieces of a run, damaged
@pytest.fixture
def stopped(capsys) -> Path:
    """A run with an LR finder that was stopped after its first epoch."""
    plugin(FAULTS.replace("shutil.rmtree", "raise KeyboardInterrupt; shutil.rmtree"))
    name = with_fault("[Vanishes, TensorBoard]")
    recipe(Path(name).read_text() + "lr_finder: {start: 1e-4, end: 5, steps: 24}\n")
    assert command(capsys, name, "train.checkpoint.steps=1").code == 130
    return only_run()


RESUME_WITHOUT_FAULT = ("callbacks=[TensorBoard]",)


@pytest.mark.parametrize("name", ["summary.json", "lr_finder.json"])
def test_a_damaged_small_file_is_named_and_may_be_removed(capsys, stopped, name):
    (stopped / name).write_text('{"status": "run')
    ended = command(capsys, "resume", str(stopped), *RESUME_WITHOUT_FAULT)
    assert ended.code == 6
    assert f"{name}: is damaged (" in ended.err
    assert "remove it: a resume writes it anew" in ended.err
    (stopped / name).unlink()
    assert command(capsys, "resume", str(stopped), *RESUME_WITHOUT_FAULT).code == 0
    assert summary_of(stopped)["status"] == "completed"


def test_a_run_without_its_resolved_recipe_is_no_run(capsys, stopped):
    (stopped / "resolved.yaml").unlink()
    ended = command(capsys, "resume", str(stopped))
    assert ended.code == 6
    assert "is not a run folder (it has no resolved.yaml)" in ended.err


def test_lost_metrics_figures_and_event_files_are_no_obstacle(capsys, stopped):
    (stopped / "metrics.jsonl").unlink()
    for name in ("figures", "tensorboard", "gradcam"):
        shutil.rmtree(stopped / name)
    assert command(capsys, "resume", str(stopped), *RESUME_WITHOUT_FAULT).code == 0
    assert [json.loads(line)["epoch"] for line in metric_lines(stopped)] == [1, 2]
    assert pictures(stopped)
    assert points(stopped)


def test_what_a_killed_process_left_half_written_is_removed(capsys, stopped):
    strays = [stopped / "summary.json.tmp-123", stopped / "checkpoints" / "last.pt.tmp-123"]
    for stray in strays:
        stray.write_bytes(b"half")
    assert command(capsys, "resume", str(stopped), *RESUME_WITHOUT_FAULT).code == 0
    assert not [stray for stray in strays if stray.exists()]


def test_half_a_line_of_metrics_does_not_stay(capsys, stopped):
    with (stopped / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "val/lo')
    assert command(capsys, "resume", str(stopped), *RESUME_WITHOUT_FAULT).code == 0
    assert [json.loads(line)["epoch"] for line in metric_lines(stopped)] == [1, 2]


def test_a_run_folder_that_became_read_only_ends_a_resume_with_exit_5(capsys, stopped, monkeypatch):
    real = os.open

    def refusing(path, flags, *rest, **keywords):
        if str(path).endswith("lock"):
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *rest, **keywords)

    monkeypatch.setattr(os, "open", refusing)
    ended = command(capsys, "resume", str(stopped))
    assert ended.code == 5
    assert "cannot be written (Permission denied)" in ended.err
