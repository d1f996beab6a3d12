"""predictions.npz: the answers to the reported split, whole, small and readable without pickle."""

import io
import json

import numpy as np
import pytest

from registry.contracts import Predictions
from registry.errors import CheckpointError
from trainer.cli.main import main
from trainer.run.predictions import FILE, PIXELS, Kept, kept_of, read, read_answers, write

RECIPE = """
version: 1
name: tiny
data: {dataset: {type: Shapes, train_size: 32, val_size: 16}, batch_size: 16}
model: {type: SmallCNN, width: 4}
optimizer: {type: SGD, lr: 0.02}
train: {epochs: 1, precision: fp32}
callbacks: []
report: []
"""


class Stand:
    """A part of the data, as far as it is asked here."""

    def __init__(self, digests) -> None:
        self.store = self
        self.digests, self.contents = digests, None


def predictions(logits) -> Predictions:
    logits = np.asarray(logits, np.float32)
    return Predictions(np.array([3, 1, 0]), np.array([0, 1, 1]), logits, 0.0, {})


LOGITS = [[70000.0, -1e9], [1.0, 1.0001], [np.nan, 2.0]]


def test_keys_are_the_pixels_digests_and_else_the_places():
    digests = np.array([10, 11, 12, 13])
    assert kept_of(predictions(LOGITS), Stand(digests), "test", ("a", "b")).keys.tolist() == [13, 11, 10]
    kept = kept_of(predictions(LOGITS), Stand(None), "test", ("a", "b"))
    assert (kept.keyed_by, kept.keys.tolist()) == ("places", [3, 1, 0])


def test_an_answer_is_that_of_the_logits_before_they_were_rounded():
    kept = kept_of(predictions([*LOGITS[:2], [0.0, 1.0]]), Stand(None), "test", ("a", "b"))
    assert kept.logits.dtype == np.float16
    assert kept.logits[1, 0] == kept.logits[1, 1]
    assert kept.answers.tolist() == [0, 1, 1]
    assert kept.right.tolist() == [True, True, True]
    assert np.isfinite(kept.logits).all(), "what float16 cannot hold is at its end"


def test_what_is_written_is_read_again(tmp_path):
    kept = kept_of(predictions([*LOGITS[:2], [0.0, 1.0]]), Stand(None), "val", ("a\\udce9", "b"))
    write(kept, tmp_path)
    found = read(tmp_path)
    assert isinstance(found, Kept)
    for name in ("keys", "targets", "answers", "logits"):
        assert np.array_equal(getattr(found, name), getattr(kept, name))
    assert (found.split, found.keyed_by, found.class_names) == ("val", "places", ("a\\udce9", "b"))
    assert np.array_equal(read_answers(tmp_path).answers, kept.answers)
    assert read(tmp_path / "none") is None


def test_a_damaged_file_is_named_and_runs_no_code(tmp_path):
    content = io.BytesIO()
    np.savez(content, split=np.array([object()], dtype=object))
    for held in (b"", b"junk", content.getvalue()):
        (tmp_path / FILE).write_bytes(held)
        with pytest.raises(CheckpointError, match=r"predictions\.npz: cannot be read"):
            read_answers(tmp_path)


def test_a_run_keeps_its_answers_to_the_split_that_it_reports(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(RECIPE, encoding="utf-8")
    assert main(["tiny.yaml"]) == 0
    (run,) = tmp_path.glob("runs/tiny/2*")
    kept = read(run)
    assert (kept.split, kept.keyed_by, kept.logits.shape) == ("test", PIXELS, (2000, 10))
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert kept.right.mean() == pytest.approx(summary["test"]["best"]["accuracy"], abs=1e-6)
    assert summary["images"] == {"train": 32, "val": 16, "test": 2000}
    assert len(set(kept.keys.tolist())) > 1900
    assert (run / FILE).stat().st_size < 2000 * (2 * 10 + 26) + 4000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("answers", np.array([0])),
        ("answers", np.array([0, -1, 1])),
        ("answers", np.array([0, 1, 2])),
        ("targets", np.array(["a", "b", "a"])),
        ("targets", np.array([[0, 1, 1]])),
    ],
)
def test_answers_that_can_be_none_are_a_damaged_file(tmp_path, name, value):
    write(kept_of(predictions([*LOGITS[:2], [0.0, 1.0]]), Stand(None), "test", ("a", "b")), tmp_path)
    with np.load(tmp_path / "predictions.npz") as held:
        content = dict(held)
    np.savez(tmp_path / "predictions.npz", **{**content, name: value})
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_answers(tmp_path)
