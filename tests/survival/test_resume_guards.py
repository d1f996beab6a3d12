"""What `resume` looks at before it goes on: whole checkpoints, the lock of the run, the same data and tools."""

import json
import os
import pickle
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from survival_kit import (
    STOPS,
    TINY,
    command,
    moved,
    plugin,
    recipe,
    same,
    stopped,
    summary_of,
)

from registry.errors import StorageError
from trainer.engine import checkpoint
from trainer.run.folder import RunFolder


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    plugin(STOPS)
    return tmp_path


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
    codes = {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children}
    assert 0 in codes, "nobody ever had it"
    assert codes <= {0, 2}


# ------------------------------------------------------------------------------------------------- the same data, tools
@pytest.fixture
def pictures_folder() -> Path:
    import cv2

    generator = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3), ("test", 3)):
        for name in ("cat", "dog"):
            for index in range(count):
                path = Path("pets", split, name, f"{index}.bmp")
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), generator.integers(0, 255, (16, 16, 3), dtype=np.uint8))
    return Path("pets")


PETS = TINY.replace("{type: Shapes, train_size: 32, val_size: 16, test_size: 16}", "{type: ImageFolder, root: pets}")
PETS = PETS.replace("batch_size: 8", "batch_size: 4")
RESIZE = "[{type: Resize, height: 16, width: 16}]"
SIZED = PETS.replace("batch_size: 4", f"batch_size: 4, augment: {RESIZE}, eval: {RESIZE}, workers: 0")


def test_the_same_images_in_another_place_are_the_same_data(capsys, pictures_folder):
    run = stopped(capsys, PETS)
    pictures_folder.rename("elsewhere")
    assert command(capsys, "resume", str(run), "callbacks=[]").code == 3
    assert command(capsys, "resume", str(run), "callbacks=[]", "data.dataset.root=elsewhere").code == 0


@pytest.mark.parametrize("split", ["train", "val"])
def test_images_replaced_by_others_of_the_same_size_and_time_are_noticed(capsys, pictures_folder, split):
    run = stopped(capsys, PETS)
    path = pictures_folder / split / "dog/1.bmp"
    before, facts = path.read_bytes(), path.stat()
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))  # one pixel, one bit
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    ended = command(capsys, "resume", str(run), "callbacks=[]")
    assert ended.code == 3
    assert f"the {split} images are not those that the run was trained on" in ended.err
    path.write_bytes(before)
    assert command(capsys, "resume", str(run), "callbacks=[]").code == 0


def test_images_of_several_sizes_are_compared_too(capsys, pictures_folder):
    import cv2

    cv2.imwrite(str(pictures_folder / "train/dog/9.bmp"), np.zeros((20, 20, 3), np.uint8))
    run = stopped(capsys, SIZED)
    cv2.imwrite(str(pictures_folder / "train/dog/9.bmp"), np.ones((20, 20, 3), np.uint8))
    ended = command(capsys, "resume", str(run), "callbacks=[]")
    assert ended.code == 3
    assert "the train images are not those that the run was trained on" in ended.err


def test_files_that_hold_the_same_pixels_are_the_same_data(capsys, pictures_folder):
    import cv2

    run = stopped(capsys, PETS)
    for path in list(pictures_folder.rglob("*.bmp")):
        cv2.imwrite(str(path.with_suffix(".png")), cv2.imread(str(path)))
        path.unlink()
    assert command(capsys, "resume", str(run), "callbacks=[]").code == 0


def test_other_test_images_are_said_and_measured(capsys, pictures_folder):
    run = stopped(capsys, PETS)
    for path in (pictures_folder / "test").rglob("0.bmp"):
        path.unlink()
    ended = command(capsys, "resume", str(run), "callbacks=[]")
    assert ended.code == 0
    assert "warning: the test images are not those that the run began with" in ended.out
    assert "from pets (16 training, 6 validation, 4 test images)" in ended.out


def test_a_finished_training_is_completed_without_a_test_image_that_broke(capsys, pictures_folder):
    for index in range(3, 9):
        for name in ("cat", "dog"):
            shutil.copy(pictures_folder / f"train/{name}/{index - 3}.bmp", pictures_folder / f"test/{name}/{index}.bmp")
    assert command(capsys, recipe(PETS)).code == 0
    (run,) = Path("runs/tiny").iterdir()
    before = summary_of(run)
    (run / "summary.json").write_text(json.dumps({**before, "status": "failed"}))
    (pictures_folder / "test/dog/1.bmp").write_bytes(b"")
    assert command(capsys, "resume", str(run)).code == 3
    ended = command(capsys, "resume", str(run), "data.on_bad_image=skip")
    assert ended.code == 0, ended.said
    assert "left out: pets/test/dog/1.bmp is empty" in ended.out
    assert summary_of(run)["status"] == "completed"
    assert summary_of(run)["best"] == before["best"]


def test_other_images_are_noticed(capsys, pictures_folder):
    run = stopped(capsys, PETS)
    shutil.copy(pictures_folder / "train/cat/0.bmp", pictures_folder / "train/cat/new.bmp")
    ended = command(capsys, "resume", str(run), "callbacks=[]")
    assert ended.code == 3
    assert "the train images are not those that the run was trained on" in ended.err
    (pictures_folder / "train/cat/new.bmp").unlink()
    assert command(capsys, "resume", str(run), "callbacks=[]").code == 0


def test_other_classes_are_noticed_by_name(capsys, pictures_folder):
    run = stopped(capsys, PETS)
    for split in ("train", "val", "test"):
        (pictures_folder / split / "cat").rename(pictures_folder / split / "elk")
    ended = command(capsys, "resume", str(run), "callbacks=[]")
    assert ended.code == 3
    assert "the data have the classes dog, elk" in ended.err
    assert "the run was trained on cat, dog" in ended.err


def everything(run: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in run.rglob("*")}


def remove_data(run: Path) -> None:
    shutil.move("pets", "gone")


def add_an_image(run: Path) -> None:
    shutil.copy("pets/train/cat/0.bmp", "pets/train/cat/new.bmp")


def rename_a_class(run: Path) -> None:
    for split in ("train", "val", "test"):
        Path("pets", split, "cat").rename(Path("pets", split, "elk"))


def damage_an_image(run: Path) -> None:
    Path("pets/train/cat/0.bmp").write_bytes(b"nothing")


def damage_all_checkpoints(run: Path) -> None:
    for path in (run / "checkpoints").glob("*.pt"):
        path.write_bytes(b"nothing")


def best_to_be_kept(run: Path) -> None:
    """Have the state say that an earlier epoch was the best, as it is in most trainings."""
    for name in ("last.pt", "best.pt"):
        path = run / "checkpoints" / name
        state = checkpoint.read(path)
        row = {**(state["row"] if name == "best.pt" else state["progress"]["best"]), "epoch": 1}
        checkpoint.write(path, {**state, "row": row} if name == "best.pt" else _with_best(state, row))


def _with_best(state: dict, row: dict) -> dict:
    return {**state, "progress": {**state["progress"], "best": row}}


def remove_the_best_weights(run: Path) -> None:
    best_to_be_kept(run)
    (run / "checkpoints/best.pt").unlink()


def damage_the_best_weights(run: Path) -> None:
    best_to_be_kept(run)
    path = run / "checkpoints/best.pt"
    path.write_bytes(path.read_bytes()[:-100])


def take_the_best_weights_of_no_later_epoch(run: Path) -> None:
    best_to_be_kept(run)
    path = run / "checkpoints/best.pt"
    state = checkpoint.read(path)
    checkpoint.write(path, {**state, "row": {**state["row"], "epoch": 0}})


def damage_the_last_checkpoint_and_remove_data(run: Path) -> None:
    (run / "checkpoints/last.pt").write_bytes(b"nothing")
    (run / "checkpoints/last.pt.tmp-1").write_bytes(b"half")
    remove_data(run)


def another_process_works_on_it(run: Path) -> None:
    lock = RunFolder.open(run).locked()
    lock.__enter__()
    HELD.append(lock)


HELD: list = []  # locks


@pytest.mark.parametrize("completed", [False, True], ids=["interrupted", "completed"])
@pytest.mark.parametrize(
    ("happens", "code"),
    [
        (remove_data, 3),
        (add_an_image, 3),
        (rename_a_class, 3),
        (damage_an_image, 3),
        (damage_all_checkpoints, 6),
        (remove_the_best_weights, 6),
        (damage_the_best_weights, 6),
        (take_the_best_weights_of_no_later_epoch, 6),
        (damage_the_last_checkpoint_and_remove_data, 3),
        (another_process_works_on_it, 5),
    ],
)
def test_a_refused_resume_touches_nothing(capsys, pictures_folder, completed, happens, code):
    if completed:
        assert command(capsys, recipe(PETS)).code == 0
        (run,) = Path("runs/tiny").iterdir()
    else:
        run = stopped(capsys, PETS)
    happens(run)
    before = everything(run)
    ended = command(capsys, "resume", str(run), "train.epochs=3", "callbacks=[]")
    after = everything(run)
    while HELD:
        HELD.pop().__exit__(None, None, None)
    assert ended.code == code, ended.said
    assert after == before


def test_lost_best_weights_are_refused_with_the_way_out_that_works(capsys):
    assert command(capsys, recipe()).code == 0
    (run,) = Path("runs/tiny").iterdir()
    held = (run / "checkpoints/best.pt").read_bytes()
    (run / "checkpoints/best.pt").unlink()
    for _ in range(2):
        ended = command(capsys, "resume", str(run), "train.epochs=3")
        assert ended.code == 6
        assert f"{run}/checkpoints/best.pt: there is no such checkpoint; it held the best weights so far" in ended.err
        assert "epoch 3/3" not in ended.out
        assert summary_of(run)["status"] == "completed"
    start = re.search(r"train\.start_from: (\S+)", ended.err)[1]
    assert command(capsys, "tiny.yaml", "name=again", f"train.start_from={start}").code == 0
    (run / "checkpoints/best.pt").write_bytes(held)
    assert command(capsys, "resume", str(run), "train.epochs=3").code == 0


def test_a_new_run_that_is_refused_leaves_no_folder(capsys):
    ended = command(capsys, recipe(PETS))
    assert ended.code == 3
    assert "there is no folder pets" in ended.err
    assert not Path("runs").exists()


def test_the_log_of_a_resumed_run_begins_with_what_came_before_it_was_accepted(capsys):
    run = stopped(capsys)
    assert command(capsys, "resume", str(run), "callbacks=[]").code == 0
    log = (run / "log.txt").read_text().split("interrupted by")[1]
    assert log.index(f"resuming {run} after epoch") < log.index("device cpu") < log.index("epoch 2/2")


def test_another_version_of_torch_is_warned_of(capsys, monkeypatch):
    run = stopped(capsys)
    monkeypatch.setattr("trainer.run.environment.version", lambda package: "99.1" if package == "torch" else "1")
    ended = command(capsys, "resume", str(run), "callbacks=[]")
    assert ended.code == 0
    assert re.search(r"warning: torch \S+ -> 99\.1 since the checkpoint", ended.out)
