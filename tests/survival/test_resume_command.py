"""`resume`: what it continues, what it refuses, and that nobody can tell afterwards."""

import os
import pickle
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from shared_recipes import EVERYTHING
from survival_kit import (
    TINY,
    command,
    metric_lines,
    only_run,
    pictures,
    plugin,
    points,
    recipe,
    state_digests,
    summary_of,
)

from registry.errors import RecipeError, StorageError
from trainer.cli import main
from trainer.engine import checkpoint
from trainer.recipe.load import load_recipe
from trainer.resuming import FREE_AT_RESUME, refuse_other_length
from trainer.run_folder import RunFolder

STOPS = """
import os, signal
from registry.contracts import Callback
from registry.recording import Sink
from registry.plugins import component

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
WHOLE = EVERYTHING.replace("name: everything", "name: tiny\nplugins: [./faults.py]")
WHOLE = WHOLE.replace("{type: SmallCNN, dropout", "{type: SmallCNN, width: 4, dropout").replace(
    "log_every: 2", "log_every: 1"
)
WHOLE = WHOLE.replace(
    "report: [Curves]", "lr_finder: {start: 1e-3, end: 1, steps: 12}\nreport: [Curves, Misclassified]"
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    plugin(STOPS)
    return tmp_path


@contextmanager
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
        key: value for key, value in state_digests(first).items() if key.endswith((" recipe", " callbacks"))
    }
    assert metric_lines(first) == metric_lines(second)
    assert pictures(first).keys() == pictures(second).keys()
    assert [name for name, data in pictures(first).items() if pictures(second)[name] != data] == []


# ------------------------------------------------------------------------------------------- nobody can tell afterwards
@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    """A run that nothing happened to, in a folder of its own."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    with working_in(folder):
        plugin(STOPS)
        assert main([recipe(WHOLE)]) == 0
        return only_run().resolve()


def test_a_resumed_run_leaves_the_same_files_as_an_uninterrupted_one(capsys, uninterrupted):
    assert len(points(uninterrupted)["steps step/loss"]) == 9
    for at in (2, 6, 9):  # in the middle of the first epoch, at the end of the second, after the last step
        run = stopped(capsys, WHOLE, at)
        assert summary_of(run)["status"] == "interrupted"
        callbacks = re.search(r"callbacks: (.*)", WHOLE)[1]
        ended = command(capsys, "resume", str(run), f"callbacks={callbacks}")
        assert ended.code == 0
        assert "LR finder: " not in ended.out.replace("LR finder: 0", "") or (run / "lr_finder.json").exists()
        same(uninterrupted, run)
        assert points(run) == points(uninterrupted)  # each step once, none lost
        assert summary_of(run)["status"] == "completed"
        shutil.rmtree(run)


def test_a_resume_of_a_resume_is_exact(capsys, uninterrupted):
    run = stopped(capsys, WHOLE, 2)
    assert (
        command(capsys, "resume", str(run), "callbacks=[TensorBoard, ParameterNorms, {type: StopsAt, at: 5}]").code
        == 130
    )
    assert (
        command(
            capsys, "resume", str(run), "callbacks=[TensorBoard, ParameterNorms, {type: StopsAfter, epoch: 2}]"
        ).code
        == 143
    )
    assert command(capsys, "resume", str(run), "callbacks=[TensorBoard, ParameterNorms]").code == 0
    same(uninterrupted, run)
    assert points(run) == points(uninterrupted)


def test_more_epochs_equal_a_run_that_had_them_from_the_start(capsys):
    text = TINY + "scheduler: {type: StepLR, step_size: 1, gamma: 0.5}\n"
    assert command(capsys, recipe(text), "train.epochs=4").code == 0
    whole = moved("whole")
    assert command(capsys, recipe(text)).code == 0
    assert command(capsys, "resume", str(only_run()), "train.epochs=4").code == 0
    same(whole, only_run())
    assert summary_of(only_run())["epochs"] == 4


def test_the_learning_rate_is_not_searched_again(capsys):
    run = stopped(capsys, TINY + "lr_finder: {start: 1e-3, end: 1, steps: 12}\n")
    before = (run / "lr_finder.json").read_bytes()
    ended = command(capsys, "resume", str(run), "callbacks=[]")
    assert ended.code == 0
    assert "LR finder 12 steps, then" not in ended.out
    assert (run / "lr_finder.json").read_bytes() == before


def test_a_run_stopped_before_its_first_checkpoint_starts_again_in_its_folder(capsys, uninterrupted):
    run = stopped(capsys, WHOLE, 2)
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    callbacks = re.search(r"callbacks: (.*)", WHOLE)[1]
    ended = command(capsys, "resume", str(run), f"callbacks={callbacks}")
    assert ended.code == 0
    assert f"resuming {run} from the start: it has no checkpoint" in ended.out
    same(uninterrupted, run)
    assert points(run) == points(uninterrupted)


# ------------------------------------------------------------------------------------------------------- completed runs
@pytest.fixture
def completed(capsys) -> Path:
    assert command(capsys, recipe()).code == 0
    return only_run()


def test_a_completed_run_is_left_alone(capsys, completed):
    before = {path: path.read_bytes() for path in completed.rglob("*") if path.is_file()}
    ended = command(capsys, "resume", str(completed))
    assert ended.code == 0
    assert ended.out == f"{completed} is complete: nothing to do\n"
    assert {path: path.read_bytes() for path in completed.rglob("*") if path.is_file()} == before


def test_fewer_epochs_than_done_leave_a_completed_run_alone(capsys, completed):
    assert "nothing to do" in command(capsys, "resume", str(completed), "train.epochs=1").out


def test_more_time_continues_a_run_that_ran_out_of_it(capsys):
    assert command(capsys, recipe(), "train.epochs=3", "train.max_minutes=1e-9").code == 0
    run = only_run()
    assert summary_of(run)["stopped"] == "train.max_minutes: 1e-09 reached"
    assert "nothing to do" in command(capsys, "resume", str(run)).out
    assert command(capsys, "resume", str(run), "train.max_minutes=50").code == 0
    assert (summary_of(run)["epochs"], summary_of(run)["stopped"]) == (3, "")


# -------------------------------------------------------------------------------------------------------------- refused
REFUSED = [
    "data.batch_size=4",
    "optimizer.lr=0.5",
    "seed=4",
    "model.width=8",
    "train.precision=bf16",
    "train.accumulate=2",
    "train.ema={decay: 0.9}",
    "data.augment=[HorizontalFlip]",
    "data.dataset.train_size=64",
    "lr_finder.steps=40",
    "train={epochs: 9}",
    "name=other",
]


def test_a_change_of_what_the_run_was_made_with_is_refused_and_nothing_is_touched(capsys, completed):
    before = {path: path.read_bytes() for path in completed.rglob("*") if path.is_file()}
    for override in REFUSED:
        ended = command(capsys, "resume", str(completed), override)
        assert ended.code == 2
        key = override.partition("=")[0]
        assert f"error: {key} cannot change at resume: the run so far was made with another value" in ended.err
        assert "What may change: train.epochs, " in ended.err
    assert {path: path.read_bytes() for path in completed.rglob("*") if path.is_file()} == before


def test_other_epochs_under_a_schedule_planned_on_them_are_refused_with_the_reason(capsys):
    assert command(capsys, recipe(TINY + "scheduler: {type: OneCycleLR, max_lr: 0.1}\n")).code == 0
    ended = command(capsys, "resume", str(only_run()), "train.epochs=5")
    assert ended.code == 2
    assert "train.epochs cannot change at resume: OneCycleLR was planned on the length of the run" in ended.err
    assert "start a new run, with train.start_from" in ended.err
    assert "nothing to do" in command(capsys, "resume", str(only_run()), "train.epochs=2").out  # as they were


@pytest.mark.parametrize(
    ("scheduler", "planned"),
    [
        ("{type: CosineAnnealingLR}", True),
        ("{type: CosineAnnealingLR, T_max: 5}", False),
        ("{type: OneCycleLR, max_lr: 0.1, epochs: 2, steps_per_epoch: 4}", False),
        ("{type: CyclicLR, base_lr: 0.01, max_lr: 0.1, step_size_up: $run.total_steps}", True),
        ("{type: CyclicLR, base_lr: 0.01, max_lr: 0.1, step_size_up: 4}", False),
        ("{type: SequentialLR, milestones: [1], schedulers: [{type: ConstantLR}, {type: CosineAnnealingLR}]}", True),
        ("{type: SequentialLR, milestones: [1], schedulers: [{type: ConstantLR}, {type: LinearLR}]}", False),
        ("{type: PolynomialLR, total_iters: 2}", False),
        ("{type: StepLR, step_size: 1}", False),
        ("{type: ReduceLROnPlateau}", False),
    ],
)
def test_what_counts_as_planned_on_the_length_of_the_run(scheduler, planned):
    loaded = load_recipe(recipe(TINY + f"scheduler: {scheduler}\n"), ())
    assert loaded.recipe is not None, loaded.problems
    if planned:
        with pytest.raises(RecipeError, match="was planned on the length of the run"):
            refuse_other_length(loaded.recipe, loaded.catalogue)
    else:
        refuse_other_length(loaded.recipe, loaded.catalogue)


def test_a_wrong_value_of_a_free_key_is_a_recipe_error(capsys, completed):
    ended = command(capsys, "resume", str(completed), "train.epochs=many")
    assert ended.code == 2
    assert "cannot be resumed" in ended.err


@pytest.mark.parametrize("path", ["runs/tiny/20000101-000000", ".", "stops.yaml"])
def test_what_is_no_run_ends_with_exit_6(capsys, path):
    ended = command(capsys, "resume", path)
    assert ended.code == 6
    assert path in ended.err


def test_every_key_that_may_change_does_change_at_resume(capsys):
    values = {
        "train.epochs": "3",
        "train.max_minutes": "90",
        "train.checkpoint.**": "train.checkpoint.keep=2",
        "train.device": "cpu",
        "train.tta": "flip",
        "data.workers": "0",
        "data.eval_batch_size": "4",
        "callbacks.**": "callbacks=[CSV]",
        "report.**": "report=[ConfusionMatrix]",
        "description": "other words",
        "expect.**": "expect={best val/accuracy: '>= 0'}",
    }
    assert set(values) == {free.pattern for free in FREE_AT_RESUME} - {"data.dataset.root"}  # tested with a folder
    run = stopped(capsys)
    overrides = [value if "=" in value else f"{pattern}={value}" for pattern, value in values.items()]
    ended = command(capsys, "resume", str(run), *overrides)
    assert ended.code == 0, ended.said
    assert (run / "metrics.csv").exists()
    assert (summary_of(run)["epochs"], summary_of(run)["expect"]["lines"][0]["ok"]) == (3, True)
    assert "tta/accuracy" in summary_of(run)["test"]["best"]
    assert (run / "figures" / "confusion.png").exists()


# -------------------------------------------------------------------------------------------------- damaged checkpoints
def test_a_damaged_checkpoint_falls_back_and_the_end_is_the_same(capsys):
    assert command(capsys, recipe(), "train.epochs=3").code == 0
    whole = moved("whole")
    run = stopped(capsys, TINY, 10, "train.epochs=3")
    data = (run / "checkpoints/last.pt").read_bytes()
    (run / "checkpoints/last.pt").write_bytes(data[: len(data) // 2])
    ended = command(capsys, "resume", str(run), "callbacks=[]")
    assert ended.code == 0
    assert "last.pt: cannot be read as a checkpoint" in ended.out
    assert "falling back to epoch-2.pt" in ended.out
    same(whole, run)


def test_a_checkpoint_of_another_format_falls_back(capsys, monkeypatch):
    run = stopped(capsys, TINY, 6)
    state = checkpoint.read(run / "checkpoints/last.pt")
    state.pop("format")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", 99)
        checkpoint.write(run / "checkpoints/last.pt", state)
    ended = command(capsys, "resume", str(run), "callbacks=[]")
    assert ended.code == 0
    assert (
        f"has checkpoint format 99; this version reads format {checkpoint.FORMAT}; falling back to epoch-1.pt"
        in ended.out
    )


def test_a_malicious_checkpoint_is_passed_over_and_runs_no_code(capsys):
    class Canary:
        def __reduce__(self):
            return (os.mkdir, ("canary",))

    run = stopped(capsys, TINY, 6)
    for name in ("last.pt", "epoch-1.pt"):
        (run / "checkpoints" / name).write_bytes(pickle.dumps(Canary()))
    ended = command(capsys, "resume", str(run), "callbacks=[]")
    assert ended.code == 6
    assert "no checkpoint of this run is whole" in ended.err
    assert not Path("canary").exists()


# -------------------------------------------------------------------------------------------------------- one at a time
def test_a_run_that_another_process_works_on_is_refused(capsys):
    run = stopped(capsys)
    child = os.fork()
    if child == 0:
        with RunFolder.open(run).locked():
            Path("locked").touch()
            while not Path("let go").exists():
                time.sleep(0.01)
        os._exit(0)
    while not Path("locked").exists():
        time.sleep(0.01)
    ended = command(capsys, "resume", str(run), "callbacks=[]")
    Path("let go").touch()
    os.waitpid(child, 0)
    assert ended.code == 5
    assert f"{run}: process {child} on " in ended.err
    assert "is working on this run" in ended.err
    assert summary_of(run)["status"] == "interrupted"
    assert command(capsys, "resume", str(run), "callbacks=[]").code == 0


def test_the_lock_of_a_process_that_is_gone_holds_nobody(capsys):
    run = stopped(capsys)
    (run / "lock").write_text(f"process {os.getppid()} on somewhere")  # alive, but not holding it
    assert command(capsys, "resume", str(run), "callbacks=[]").code == 0
    assert not (run / "lock").exists()


def test_of_many_that_want_a_lock_one_has_it_at_a_time(tmp_path):
    run = RunFolder.create(tmp_path, "x", {"resolved.yaml": ""})
    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            held = 0
            for _ in range(200):
                try:
                    with run.locked():
                        (tmp_path / "inside").mkdir()  # fails where somebody else is inside
                        (tmp_path / "inside").rmdir()
                        held += 1
                except StorageError:
                    continue
                except FileExistsError:
                    os._exit(1)
            os._exit(0 if held else 2)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children].count(1) == 0


# ------------------------------------------------------------------------------------------------- the same data, tools
@pytest.fixture
def pictures_folder() -> Path:
    import cv2

    generator = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3)):
        for name in ("cat", "dog"):
            for index in range(count):
                path = Path("pets", split, name, f"{index}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), generator.integers(0, 255, (16, 16, 3), dtype=np.uint8))
    return Path("pets")


PETS = TINY.replace("{type: Shapes, train_size: 32, val_size: 16, test_size: 16}", "{type: ImageFolder, root: pets}")
PETS = PETS.replace("batch_size: 8", "batch_size: 4")


def test_the_same_images_in_another_place_are_the_same_data(capsys, pictures_folder):
    run = stopped(capsys, PETS)
    pictures_folder.rename("elsewhere")
    assert command(capsys, "resume", str(run), "callbacks=[]").code == 3
    assert command(capsys, "resume", str(run), "callbacks=[]", "data.dataset.root=elsewhere").code == 0


def test_other_images_are_noticed(capsys, pictures_folder):
    run = stopped(capsys, PETS)
    shutil.copy(pictures_folder / "train/cat/0.png", pictures_folder / "train/cat/new.png")
    ended = command(capsys, "resume", str(run), "callbacks=[]")
    assert ended.code == 3
    assert "the train images are not those that the run was trained on" in ended.err
    (pictures_folder / "train/cat/new.png").unlink()
    assert command(capsys, "resume", str(run), "callbacks=[]").code == 0


def test_other_classes_are_noticed_by_name(capsys, pictures_folder):
    run = stopped(capsys, PETS)
    for split in ("train", "val"):
        (pictures_folder / split / "cat").rename(pictures_folder / split / "elk")
    ended = command(capsys, "resume", str(run), "callbacks=[]")
    assert ended.code == 3
    assert "the data have the classes dog, elk" in ended.err
    assert "the run was trained on cat, dog" in ended.err


def test_another_version_of_torch_is_warned_of(capsys, monkeypatch):
    run = stopped(capsys)
    monkeypatch.setattr("trainer.environment.version", lambda package: "99.1" if package == "torch" else "1")
    ended = command(capsys, "resume", str(run), "callbacks=[]")
    assert ended.code == 0
    assert re.search(r"warning: torch \S+ -> 99\.1 since the checkpoint", ended.out)
