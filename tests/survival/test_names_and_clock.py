"""Run folders: names that are refused or kept, runs of the same second, clocks that go backwards."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest
from survival_kit import TINY, command, only_run, points, recipe, summary_of

from registry.errors import StorageError
from trainer.run import folder as run_folder
from trainer.run.folder import RunFolder


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory two levels deep, so that escapes would be seen."""
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    return tmp_path


def clock_at(monkeypatch, *moment: int) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(*moment)

    monkeypatch.setattr(run_folder, "datetime", Clock)


def named(name: str) -> str:
    return recipe(TINY.replace("name: tiny", f"name: {name}").replace("epochs: 2", "epochs: 1"))


# ---------------------------------------------------------------------------------------------------------------- names
@pytest.mark.parametrize(
    "name",
    [
        "'../../x'",
        "'/tmp/x'",
        "'a/b'",
        "''",
        "'.'",
        "'..'",
        '"a\\nb"',
        '"a\\0b"',
        "'a\\b'",
        "'.hidden'",
        "'-v'",
        "'\U0001f98a'",
        "true",
        "17",
    ],
)
def test_a_name_that_could_leave_its_folder_is_refused(capsys, folder, name):
    before = sorted(folder.rglob("*"))
    ended = command(capsys, named(name))
    assert ended.code == 2, ended.said
    assert "name" in ended.err
    assert "Traceback" not in ended.err
    assert [path for path in sorted(folder.rglob("*")) if path not in before and path.name != "tiny.yaml"] == []


@pytest.mark.parametrize("name", ["F\u00fcchse", "\u72d0\u72f8", "a b", "run.2"])
def test_a_name_beyond_ascii_or_with_a_space_is_kept_as_it_is(capsys, name):
    assert command(capsys, named(f"'{name}'")).code == 0
    run = only_run(name)
    assert summary_of(run)["status"] == "completed"
    assert command(capsys, "resume", str(run)).code == 0
    assert name in (run / "report.html").read_text(encoding="utf-8")


def test_a_very_long_name_is_refused_with_the_limit_or_kept(capsys):
    ended = command(capsys, named("x" * 300))
    assert ended.code in (2, 5)
    assert "Traceback" not in ended.err
    assert not any(Path().rglob("resolved.yaml"))


def test_a_recipe_in_a_folder_with_spaces_and_umlauts_runs(capsys):
    Path("mein Ordner \u00e4").mkdir()
    assert command(capsys, recipe(name="mein Ordner \u00e4/tiny.yaml"), "train.epochs=1").code == 0


# ---------------------------------------------------------------------------------------------------------------- clock
def test_two_runs_of_the_same_second_get_two_folders(capsys, monkeypatch):
    clock_at(monkeypatch, 2026, 1, 31, 12, 0, 0)
    for _ in range(3):
        assert command(capsys, recipe(), "train.epochs=1").code == 0
    found = sorted(path.name for path in Path("runs/tiny").iterdir())
    assert found == ["20260131-120000", "20260131-120000-2", "20260131-120000-3"]
    assert all(summary_of(Path("runs/tiny", name))["status"] == "completed" for name in found)


def test_many_runs_that_start_together_never_share_a_folder(monkeypatch):
    clock_at(monkeypatch, 2026, 1, 31, 12, 0, 0)
    numbers = iter(range(1000))
    monkeypatch.setattr(run_folder.os, "getpid", lambda: next(numbers))  # as many processes
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: RunFolder.create(Path("runs"), "x", {"resolved.yaml": "a: 1"}), range(24)))
    assert len({each.path for each in made}) == 24
    assert all((each.path / "resolved.yaml").exists() for each in made)


def test_a_clock_set_back_between_start_and_resume_changes_nothing(capsys, monkeypatch):
    clock_at(monkeypatch, 2026, 1, 31, 12, 0, 0)
    name = recipe(TINY.replace("callbacks: []", "callbacks: [TensorBoard]"))
    assert command(capsys, name).code == 0
    clock_at(monkeypatch, 1999, 1, 1, 0, 0, 0)
    monkeypatch.setattr("time.time", lambda: 915148800.0)
    assert command(capsys, "resume", "runs/tiny/20260131-120000", "train.epochs=4").code == 0
    assert only_run().name == "20260131-120000"
    assert [step for step, _ in points(only_run())["val loss"]] == [1, 2, 3, 4]


# --------------------------------------------------------------------------------------------------------------- folder
def test_a_run_folder_appears_whole(monkeypatch):
    seen = []
    real = os.replace

    def replace(source, target, *, src_dir_fd, dst_dir_fd):
        descriptor = os.open(source, os.O_RDONLY, dir_fd=src_dir_fd)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            seen.append(sorted(os.listdir(descriptor)))  # noqa: PTH208  (of a descriptor)
        os.close(descriptor)
        return real(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "replace", replace)
    RunFolder.create(Path("runs"), "x", {"recipe.yaml": "a", "resolved.yaml": "b"})
    assert seen == [["checkpoints", "figures", "gradcam", "recipe.yaml", "resolved.yaml", "tensorboard"]]


def test_a_small_file_is_replaced_whole_or_not_at_all(monkeypatch):
    run = RunFolder.create(Path("runs"), "x", {})
    run.write_json("summary.json", {"status": "running", "value": float("nan")})
    assert run.read_json("summary.json") == {"status": "running", "value": None}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_folder.os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        run.write_json("summary.json", {"status": "completed"})
    assert run.read_json("summary.json")["status"] == "running"
    assert [path.name for path in run.path.glob("summary*")] == ["summary.json"]
