"""The profiler's trace: whole steps, opened by anything that reads Chrome's format, and shown beside the curves."""

import gzip
import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from registry.callbacks.profiler import Profiler
from trainer.cli.main import main

RECIPE = """
version: 1
name: traced
data: {dataset: {type: Shapes, train_size: 64, val_size: 8, test_size: 8}, batch_size: 8}
model: {type: SmallCNN, width: 4}
optimizer: {type: SGD, lr: 0.02}
train: {epochs: 1, precision: fp32, log_every: 2}
callbacks: [TensorBoard, Profiler]
report: []
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    def conduct(*overrides: str) -> Path:
        monkeypatch.chdir(tmp_path)
        Path("recipe.yaml").write_text(RECIPE, encoding="utf-8")
        assert main(["recipe.yaml", *overrides]) == 0
        (folder,) = tmp_path.glob("runs/traced/*")
        return folder

    return conduct


def events(folder: Path) -> list[dict]:
    with gzip.open(folder / "profile/trace.json.gz", "rt", encoding="utf-8") as file:
        return json.load(file)["traceEvents"]


def test_the_trace_holds_the_steps_between_two_readings(run, capsys):
    folder = run()
    steps = [each for each in events(folder) if str(each.get("name", "")).startswith("Optimizer.step#SGD")]
    assert len(steps) == 2, "log_every"
    assert any(each.get("name") == "aten::convolution" for each in events(folder))
    assert "profile/trace.json.gz (open it at ui.perfetto.dev)" in capsys.readouterr().out


def test_the_dashboards_show_what_took_longest(run):
    board = EventAccumulator(str(run() / "tensorboard"))
    board.Reload()
    (shown,) = board.Tensors("profile/text_summary")
    assert "| operation | calls | own time |" in shown.tensor_proto.string_val[0].decode()


def test_a_resume_traces_once_and_begins_a_trace_anew_that_was_cut_off():
    before, during, after = Profiler(skip=2), Profiler(skip=2), Profiler(skip=2)
    during.load({"readings": 1})
    during.step_finished(None)
    cut_off = during.state()
    during._profile.stop()
    after.load({"readings": 3})
    assert [each.state() for each in (before, after)] == [{"readings": 0}, {"readings": 3}]
    assert cut_off == {"readings": 1}, "the next reading begins it"
    after.step_finished(None)
    assert after._profile is None


def test_a_run_too_short_for_its_trace_writes_what_it_has(run):
    folder = run("train.log_every=8")
    assert events(folder)


def test_a_trace_that_cannot_be_written_costs_a_line_and_no_training(run, capsys, monkeypatch):
    from torch.profiler import profile

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(profile, "export_chrome_trace", full)
    folder = run()
    assert "warning: no trace: " in capsys.readouterr().out
    assert json.loads((folder / "summary.json").read_text())["status"] == "completed"
