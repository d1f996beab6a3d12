"""The saver killed, or failing, at every one of its calls: the old or the new checkpoint is whole, and nothing else."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from registry import files
from registry.errors import CheckpointError, StorageError
from trainer.engine import checkpoint, keeper
from trainer.engine.keeper import CheckpointKeeper, best_weights, put_best_back, read_latest, require_best
from trainer.engine.progress import Progress

CALLS = ("open", "write", "fsync", "link", "replace", "unlink")


class StandingLoop:
    """As much of a loop as a keeper asks for, at the end of an epoch; every epoch's weights differ."""

    def __init__(self, epoch: int, batch: int = 0, best: int | None = None) -> None:
        row = {"epoch": best if best is not None else epoch}
        self.progress = Progress(epoch=epoch, batch=batch, step=10 * epoch + batch, best=row)

    def state(self):
        return {**self.evaluated_weights(), "progress": self.progress.state()}

    def evaluated_weights(self):
        return {"model": {"weight": torch.full((5, 5), float(self.progress.epoch))}}


def keeper_in(folder: Path, log: Callable[[str], None] = lambda _: None, **changes) -> CheckpointKeeper:
    settings = {"every": 1, "epochs": 100, "minutes": None, "steps": None, "keep": 1, "log": log}
    return CheckpointKeeper(folder, {"class_names": ["a"]}, **{**settings, **changes})


def saved(folder: Path, epochs: int, **changes) -> CheckpointKeeper:
    kept = keeper_in(folder, **changes)
    for epoch in range(1, epochs + 1):
        kept.epoch_finished(StandingLoop(epoch), is_best=True)
        kept.wait()
    return kept


def epoch_in(folder: Path, name: str = "last.pt") -> int:
    return checkpoint.read(folder / name)["progress"]["epoch"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ------------------------------------------------------------------------------------------- every call of the saver
class Trap:
    """Acts at the n-th input or output call of a save, and counts them."""

    def __init__(self, act: Callable[[], None], at: int | None) -> None:
        self.calls: list[str] = []
        self._act, self._at = act, at

    def passes(self, name: str) -> None:
        self.calls.append(name)
        if len(self.calls) == self._at:
            self._act()

    def set_up(self, monkeypatch) -> None:
        for name in CALLS:
            monkeypatch.setattr(os, name, self._watched(name, getattr(os, name)))

    def _watched(self, name: str, real: Callable):
        def call(*arguments, **keywords):
            self.passes(name)
            return real(*arguments, **keywords)

        def write(file: int, data) -> int:
            self.passes("first half")
            half = real(file, data[: len(data) // 2])
            self.passes("second half")
            return half + real(file, data[half:])

        return write if name == "write" else call


def save_second_epoch(folder: Path, trap: Trap, monkeypatch, log: Callable[[str], None] = print) -> CheckpointKeeper:
    kept = keeper_in(folder, log, whole_epoch_in_last=1)
    with monkeypatch.context() as patch:
        trap.set_up(patch)
        kept.epoch_finished(StandingLoop(2), is_best=True)
        kept.wait()
    return kept


def points(tmp_path: Path, monkeypatch) -> list[str]:
    folder = tmp_path / "counted"
    folder.mkdir()
    saved(folder, 1)
    trap = Trap(lambda: None, None)
    save_second_epoch(folder, trap, monkeypatch)
    return trap.calls


def test_a_process_that_dies_at_any_call_of_the_saver_leaves_the_old_or_the_new_checkpoint(tmp_path, monkeypatch):
    calls = points(tmp_path, monkeypatch)
    assert len(calls) > 20
    written = [at for at, call in enumerate(calls) if call == "second half"]
    assert all("fsync" in calls[at : at + calls[at:].index("replace")] for at in written), "flushed, then renamed"
    found = []
    for at in range(1, len(calls) + 1):
        folder = tmp_path / f"dies{at}"
        folder.mkdir()
        saved(folder, 1)
        child = os.fork()
        if child == 0:
            save_second_epoch(folder, Trap(lambda: os._exit(99), at), monkeypatch)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 99
        complaints: list[str] = []
        state = read_latest(folder, complaints.append)
        assert complaints == []  # a torn file never has a name that is looked for
        epoch = state["progress"]["epoch"]
        found.append(epoch)
        put_best_back(folder, state["progress"], below=folder)
        assert best_in(folder) == epoch  # best weights that the state speaks of are there
        files.remove_temporaries(folder, below=folder)
        assert not [name for name in names(folder) if files.TEMPORARY in name]
        assert set(names(folder)) <= {"best.pt", "best.safetensors", "last.pt", "epoch-1.pt"}
    assert found == sorted(found)
    assert set(found) == {1, 2}


def test_a_full_disk_at_any_call_of_the_saver_keeps_the_checkpoint_before_and_the_next_save_succeeds(
    tmp_path, monkeypatch
):
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    calls = points(tmp_path, monkeypatch)
    for at, call in enumerate(calls, start=1):
        folder = tmp_path / f"full{at}"
        folder.mkdir()
        saved(folder, 1)
        warnings: list[str] = []
        kept = save_second_epoch(folder, Trap(full, at), monkeypatch, warnings.append)
        assert not [name for name in names(folder) if files.TEMPORARY in name], call
        assert epoch_in(folder) in (1, 2)
        if epoch_in(folder) == 1:
            expected = "warning: a checkpoint could not be written (No space left on device); the one before is kept"
            assert warnings == [expected], call
        kept.epoch_finished(StandingLoop(3, best=2), is_best=False)
        kept.wait()
        assert epoch_in(folder) == 3
        assert best_weights(folder, 2)["model"]["weight"][0, 0] == 2, call  # also where their own save had failed


# ------------------------------------------------------------------------------------------------------------- failures
def failing(monkeypatch, error: BaseException) -> None:
    def write(*_, **__):
        raise error

    monkeypatch.setattr(files, "write", write)


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_training_goes_on_until_three_saves_in_a_row_have_failed(tmp_path, monkeypatch):
    warnings: list[str] = []
    kept = saved(tmp_path, 1, log=warnings.append)
    failing(monkeypatch, FULL)
    for epoch in (2, 3):
        kept.epoch_finished(StandingLoop(epoch), is_best=False)
        kept.wait()
    assert len(warnings) == 2
    kept.epoch_finished(StandingLoop(4), is_best=False)
    with pytest.raises(StorageError, match=r"3 checkpoints in a row could not be written \(No space left") as caught:
        kept.wait()
    assert caught.value.exit_code == 5
    assert epoch_in(tmp_path) == 1


def test_a_save_that_succeeds_forgives_those_that_failed(tmp_path, monkeypatch):
    kept = saved(tmp_path, 1)
    for epoch in range(2, 10):
        with monkeypatch.context() as patch:
            if epoch % 3:
                failing(patch, FULL)
            kept.epoch_finished(StandingLoop(epoch), is_best=False)
            kept.wait()
    assert epoch_in(tmp_path) == 9


def test_the_last_save_of_a_training_is_tried_again(tmp_path, monkeypatch):
    kept, failures = keeper_in(tmp_path, epochs=1), [FULL]
    real = files.write

    def once(*arguments, **keywords):
        if failures:
            raise failures.pop()
        real(*arguments, **keywords)

    monkeypatch.setattr(files, "write", once)
    kept.epoch_finished(StandingLoop(1), is_best=True)
    assert epoch_in(tmp_path) == 1
    assert best_weights(tmp_path, 1)["model"]["weight"][0, 0] == 1


def test_a_training_whose_last_save_fails_twice_ends_with_exit_5(tmp_path, monkeypatch):
    kept = keeper_in(tmp_path, epochs=1)
    failing(monkeypatch, FULL)
    with pytest.raises(StorageError, match="could not be written"):
        kept.epoch_finished(StandingLoop(1), is_best=True)


def test_an_error_that_is_not_the_disks_reaches_the_main_thread(tmp_path, monkeypatch):
    kept = saved(tmp_path, 1)
    failing(monkeypatch, MemoryError("no memory to serialise in"))
    kept.epoch_finished(StandingLoop(2), is_best=False)
    with pytest.raises(MemoryError):
        kept.wait()


def test_where_hard_links_are_unknown_the_checkpoint_before_is_copied(tmp_path, monkeypatch):
    def unknown(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", unknown)
    saved(tmp_path, 3)
    assert (epoch_in(tmp_path), epoch_in(tmp_path, "epoch-2.pt")) == (3, 2)


# ------------------------------------------------------------------------------------------------- rotation, fallback
@pytest.mark.parametrize(("keep", "left"), [(0, []), (1, [11]), (3, [9, 10, 11])])
def test_keep_says_how_many_earlier_checkpoints_stay(tmp_path, keep, left):
    saved(tmp_path, 12, keep=keep)
    expected = {"last.pt", "best.pt", "best.safetensors", *(f"epoch-{epoch}.pt" for epoch in left)}
    assert set(names(tmp_path)) == expected
    assert [epoch_in(tmp_path, f"epoch-{epoch}.pt") for epoch in left] == left  # by number: 9 before 10


def best_in(folder: Path, name: str = "best.pt") -> int:
    return checkpoint.read(folder / name)["row"]["epoch"]


def test_the_best_weights_of_the_last_state_stay_until_a_state_speaks_of_newer_ones(tmp_path):
    """What a killed run goes on from may come to other numbers, where arithmetic does not repeat."""
    kept = keeper_in(tmp_path, every=3)
    for epoch in (1, 2, 3, 4, 5):  # the state is of epoch 3, and both epochs after it were better
        kept.epoch_finished(StandingLoop(epoch), is_best=True)
        kept.wait()
    assert (epoch_in(tmp_path), best_in(tmp_path), best_in(tmp_path, "best-before.pt")) == (3, 5, 3)
    progress = checkpoint.read(tmp_path / "last.pt")["progress"]
    require_best(tmp_path, progress, 4)  # epoch 5 will not even come again
    put_best_back(tmp_path, progress, below=tmp_path)
    assert names(tmp_path) == ["best.pt", "best.safetensors", "last.pt"]
    assert best_in(tmp_path) == 3
    assert load_file(tmp_path / "best.safetensors")["weight"].eq(3).all()
    kept = keeper_in(tmp_path, whole_epoch_in_last=3)
    kept.epoch_finished(StandingLoop(4), is_best=True)
    kept.wait()
    assert names(tmp_path) == ["best.pt", "best.safetensors", "epoch-3.pt", "last.pt"]


def test_a_second_name_that_is_there_already_leaves_nothing_behind(tmp_path):
    saved(tmp_path, 2)
    (tmp_path / "epoch-2.pt").hardlink_to(tmp_path / "last.pt")  # as a process killed right after it leaves it
    kept = keeper_in(tmp_path, whole_epoch_in_last=2)
    kept.epoch_finished(StandingLoop(3), is_best=False)
    kept.wait()
    assert names(tmp_path) == ["best.pt", "best.safetensors", "epoch-2.pt", "last.pt"]
    assert (epoch_in(tmp_path), epoch_in(tmp_path, "epoch-2.pt")) == (3, 2)


def test_saves_in_the_middle_of_an_epoch_do_not_push_out_the_last_whole_epoch(tmp_path):
    kept = saved(tmp_path, 2, steps=1)
    for batch in (1, 2, 3):
        kept.step_finished(StandingLoop(2, batch=batch))
    kept.wait()
    assert checkpoint.read(tmp_path / "last.pt")["progress"]["batch"] == 3
    assert epoch_in(tmp_path, "epoch-2.pt") == 2
    kept.epoch_finished(StandingLoop(3), is_best=False)
    kept.wait()
    assert names(tmp_path) == ["best.pt", "best.safetensors", "epoch-2.pt", "last.pt"]


def test_every_says_which_epochs_are_saved_and_the_last_always_is(tmp_path):
    kept = keeper_in(tmp_path, every=4, epochs=6)
    seen = []
    for epoch in range(1, 7):
        kept.epoch_finished(StandingLoop(epoch), is_best=False)
        kept.wait()
        seen.append(epoch_in(tmp_path) if (tmp_path / "last.pt").exists() else None)
    assert seen == [None, None, None, 4, 4, 6]


def test_minutes_save_by_a_clock_that_cannot_be_set_back(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(keeper, "time", SimpleNamespace(monotonic=lambda: now[0]))
    kept = keeper_in(tmp_path, minutes=2.0)
    saves = []
    for step in range(1, 7):
        now[0] += 50
        kept.step_finished(StandingLoop(1, batch=step))
        kept.wait()
        saves.append(checkpoint.read(tmp_path / "last.pt")["progress"]["batch"] if names(tmp_path) else None)
    assert saves == [None, None, 3, 3, 3, 6]


def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_is_put_aside(tmp_path):
    saved(tmp_path, 3)
    data = bytearray((tmp_path / "last.pt").read_bytes())
    (tmp_path / "last.pt").write_bytes(data[: len(data) // 2])
    said: list[str] = []
    assert read_latest(tmp_path, said.append)["progress"]["epoch"] == 2
    assert len(said) == 1
    assert "last.pt: cannot be read as a checkpoint" in said[0]
    assert said[0].endswith("falling back to epoch-2.pt")
    assert "last.pt.unreadable" in names(tmp_path)
    assert "last.pt" not in names(tmp_path)


def test_after_a_fallback_the_whole_checkpoint_is_not_replaced_by_the_damaged_one(tmp_path):
    saved(tmp_path, 3)
    (tmp_path / "last.pt").write_bytes(b"damaged")
    state = read_latest(tmp_path, print)
    kept = keeper_in(tmp_path, whole_epoch_in_last=state["progress"]["epoch"])
    kept.epoch_finished(StandingLoop(3), is_best=False)
    kept.wait()
    assert (epoch_in(tmp_path), epoch_in(tmp_path, "epoch-2.pt")) == (3, 2)


def test_without_a_whole_checkpoint_the_answer_is_exit_6_also_the_second_time(tmp_path):
    saved(tmp_path, 3)
    for name in ("last.pt", "epoch-2.pt"):
        (tmp_path / name).write_bytes(b"damaged")
    for _ in range(2):
        with pytest.raises(CheckpointError, match="no checkpoint of this run is whole") as caught:
            read_latest(tmp_path, print)
        assert caught.value.exit_code == 6
        assert "last.pt" in caught.value.message
        assert "epoch-2.pt" in caught.value.message


def test_a_folder_without_checkpoints_has_none(tmp_path):
    assert read_latest(tmp_path, print) is None
    assert read_latest(tmp_path / "missing", print) is None


def test_a_folder_of_leftovers_has_none(tmp_path):
    (tmp_path / "last.pt.tmp-123").write_bytes(b"half")
    (tmp_path / "epoch-.pt").write_bytes(b"")
    assert read_latest(tmp_path, print) is None


def test_the_newest_is_chosen_by_number_not_by_time_or_name(tmp_path):
    saved(tmp_path, 12, keep=5)
    (tmp_path / "last.pt").unlink()
    os.utime(tmp_path / "epoch-8.pt")  # the youngest file, and the last by name
    assert read_latest(tmp_path, print)["progress"]["epoch"] == 11


def test_best_weights_of_another_epoch_are_refused(tmp_path):
    saved(tmp_path, 3)
    with pytest.raises(CheckpointError, match="holds the weights of epoch 3, but the best was epoch 1"):
        best_weights(tmp_path, 1)


def test_steps_save_at_every_so_many(tmp_path):
    kept = keeper_in(tmp_path, steps=3)
    saves = []
    for step in range(1, 8):
        kept.step_finished(StandingLoop(0, batch=step))  # whose step is that of its batch
        kept.wait()
        saves.append(checkpoint.read(tmp_path / "last.pt")["progress"]["step"] if names(tmp_path) else None)
    assert saves == [None, None, 3, 3, 3, 6, 6]
