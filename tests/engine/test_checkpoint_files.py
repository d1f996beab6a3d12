"""Checkpoint files: read back bit for bit, or refused with the reason; never silently wrong, never running code."""

import pickle
import random
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

from registry.errors import CheckpointError
from trainer.engine import checkpoint

STATE = {
    "model": {"weight": torch.linspace(-1, 1, 600).reshape(20, 30), "bias": torch.tensor([0.5, float("nan")])},
    "half": torch.arange(7, dtype=torch.bfloat16),
    "empty": torch.zeros(0, 3),
    "scalar": torch.tensor(3, dtype=torch.int64),
    "progress": {"epoch": 2, "best": None, "history": [{"epoch": 1, "val/loss": float("inf")}, {"epoch": 2}]},
    "name": "\N{GREEK SMALL LETTER ALPHA}",
}


class Canary:
    """What a malicious file holds: reading it with plain pickle would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "last.pt"
    checkpoint.write(path, STATE)
    return path


def test_what_is_read_is_what_was_written(file):
    state = checkpoint.read(file)
    assert state.pop("format") == checkpoint.FORMAT
    assert checkpoint.digest(state) == checkpoint.digest(STATE)
    assert state["half"].dtype is torch.bfloat16
    assert state["model"]["bias"].isnan().tolist() == [False, True]


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["model"]["weight"][3, 4].add_(1e-7),
        lambda s: s.update(half=s["half"].float()),
        lambda s: s.update(empty=torch.zeros(3, 0)),
        lambda s: s["progress"].update(epoch=2.0),
        lambda s: s["progress"].update(epoch=True),
        lambda s: s["progress"]["history"].pop(),
        lambda s: s["model"].update(other=s["model"].pop("bias")),
    ],
    ids=["value", "type", "shape", "float for int", "bool for int", "length", "name"],
)
def test_the_digest_sees_any_change(change):
    state = checkpoint.snapshot(STATE)
    assert checkpoint.digest(state) == checkpoint.digest(STATE)
    change(state)
    assert checkpoint.digest(state) != checkpoint.digest(STATE)


def test_no_flipped_bit_is_read_as_something_else(file):
    whole, generator, refused = file.read_bytes(), random.Random(7), 0
    expected = checkpoint.digest(STATE)
    for _ in range(150):
        place = generator.randrange(8 * len(whole))
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        file.write_bytes(damaged)
        try:
            state = checkpoint.read(file)
        except CheckpointError:
            refused += 1
            continue
        state.pop("format")
        assert checkpoint.digest(state) == expected, f"bit {place}"  # it fell on padding
    assert refused > 20


def test_a_flipped_bit_in_a_weight_is_named_as_damage(file):
    data = bytearray(file.read_bytes())
    place = data.find(STATE["model"]["weight"].numpy().tobytes())
    assert place > 0
    data[place + 100] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"does not match its digest; the file was damaged or changed"):
        checkpoint.read(file)


def test_a_hole_of_zeros_is_noticed(file):
    data = bytearray(file.read_bytes())
    place = data.find(STATE["model"]["weight"].numpy().tobytes())
    data[place + 64 : place + 640] = bytes(576)
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match="digest"):
        checkpoint.read(file)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_refused(file, share):
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        checkpoint.read(file)


def test_a_swapped_leaf_is_noticed(file):
    other = file.with_name("other.pt")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(other, "w") as new:
        names = [name for name in old.namelist() if "/data/" in name]
        for name in old.namelist():
            new.writestr(name, old.read(names[0])[::-1] if name == names[0] else old.read(name))
    with pytest.raises(CheckpointError, match="digest"):
        checkpoint.read(other)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<!DOCTYPE html><html><body>Please log in</body></html>", "cannot be read as a checkpoint"),
        (safetensors.torch.save({"weight": torch.zeros(3)}), "cannot be read as a checkpoint"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "cannot be read as a checkpoint"),
        (b"hello, these are no weights", r"cannot be read as a checkpoint \(it is damaged, or no file of torch"),
        (b"", r"cannot be read as a checkpoint \(it is damaged, or no file of torch"),
    ],
    ids=["HTML page", "safetensors", "picture", "text", "empty"],
)
def test_another_kind_of_file_is_refused(tmp_path, content, reason):
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=reason) as caught:
        checkpoint.read(path)
    assert str(path) in caught.value.message
    assert caught.value.exit_code == 6


def test_a_torch_file_of_somebody_elses_is_refused(tmp_path):
    torch.save({"state_dict": {"weight": torch.zeros(3)}}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="is not a checkpoint of this program"):
        checkpoint.read(tmp_path / "last.pt")


def test_another_format_is_refused_with_both_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 99)
    checkpoint.write(tmp_path / "last.pt", STATE)
    monkeypatch.undo()
    with pytest.raises(
        CheckpointError, match=f"has checkpoint format 99; this version reads format {checkpoint.FORMAT}"
    ):
        checkpoint.read(tmp_path / "last.pt")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="there is no such checkpoint"):
        checkpoint.read(tmp_path / "last.pt")


def malicious(path: Path, canary: Path, kind: str) -> None:
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Canary(canary)))
    elif kind == "torch":
        torch.save({"format": 1, "digest": "", "model": Canary(canary)}, path)
    elif kind == "legacy torch":
        torch.save({"format": 1, "digest": Canary(canary)}, path, _use_new_zipfile_serialization=False)
    else:  # a genuine checkpoint whose pickle was replaced
        checkpoint.write(path.with_name("genuine.pt"), STATE)
        with zipfile.ZipFile(path.with_name("genuine.pt")) as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                new.writestr(name, pickle.dumps(Canary(canary)) if name.endswith("data.pkl") else old.read(name))


@pytest.mark.parametrize("kind", ["pickle", "torch", "legacy torch", "genuine with another pickle"])
def test_a_malicious_checkpoint_runs_no_code(tmp_path, kind):
    canary, path = tmp_path / "canary", tmp_path / "last.pt"
    malicious(path, canary, kind)
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        checkpoint.read(path)
    assert not canary.exists()


def test_the_canary_would_sing(tmp_path):
    pickle.loads(pickle.dumps(Canary(tmp_path / "canary")))  # so that its silence above means something
    assert (tmp_path / "canary").exists()


def test_a_module_in_a_checkpoint_is_refused(tmp_path):
    torch.save({"format": 1, "digest": "", "model": torch.nn.Linear(2, 2)}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        checkpoint.read(tmp_path / "last.pt")


def test_running_out_of_memory_says_nothing_about_the_file(file, monkeypatch):
    def short(*_, **__):
        raise MemoryError

    monkeypatch.setattr(torch, "load", short)
    with pytest.raises(MemoryError):
        checkpoint.read(file)
