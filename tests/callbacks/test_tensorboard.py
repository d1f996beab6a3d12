"""TensorBoard's files as TensorBoard's own reader and server see them."""

import json
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.plugins.pr_curve import metadata as pr_curve

from registry.callbacks.tensorboard import MOST_PR_CURVES, TensorBoard
from registry.models.small import SmallCNN
from registry.recording import Curve, RunInfo
from trainer.cli.main import main
from trainer.run.recorder import Recorder

RECIPE = """
version: 1
name: tiny
seed: 3
data:
  dataset: {type: Shapes, train_size: 64, val_size: 48}
  batch_size: 16
  preprocess: [{type: Normalize, mean: $data.mean, std: $data.std}]
model: {type: SmallCNN, width: 8}
optimizer: {type: SGD, lr: 0.02}
regularizers: [{type: L1, strength: 1e-5}]
lr_finder: {start: 1e-3, end: 10, steps: 12}
train: {epochs: 2, precision: fp32, log_every: 2}
callbacks: [{type: TensorBoard, histograms: true, pr_curves: true}]
report: [ConfusionMatrix, Misclassified, {type: GradCAM, count: 2}]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Train a tiny run that writes everything there is; return its folder."""
    folder = tmp_path_factory.mktemp("board")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "tiny.yaml").write_text(RECIPE, encoding="utf-8")
        assert main(["train", "tiny.yaml"]) == 0
    (found,) = (folder / "runs" / "tiny").glob("2*")
    return found


def read(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(
        str(folder), size_guidance={"images": 0, "scalars": 0, "tensors": 0, "histograms": 0}
    )
    accumulator.Reload()
    return accumulator


def hparams_of(run: Path, kind: str) -> HParamsPluginData:
    """Return what a run tells the hparams dashboard: "experiment" or "session_start_info"."""
    (event,) = [
        value
        for path in (run / "tensorboard").glob("*tfevents*")
        for each in LegacyEventFileLoader(str(path)).Load()
        for value in each.summary.value
        if value.tag == f"_hparams_/{kind}"
    ]
    return HParamsPluginData.FromString(event.metadata.plugin_data.content)


def test_train_and_validation_share_their_tags_and_have_a_point_per_epoch(run):
    train, val = read(run / "tensorboard" / "train"), read(run / "tensorboard" / "val")
    for tag in ("loss", "accuracy"):
        assert [event.step for event in train.Scalars(tag)] == [1, 2]
        assert [event.step for event in val.Scalars(tag)] == [1, 2]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [event.value for event in val.Scalars("loss")] == pytest.approx([row["val/loss"] for row in rows])
    assert "lr" in train.Tags()["scalars"]


def test_pictures_of_the_report_are_there_as_pictures(run):
    tags = read(run / "tensorboard").Tags()["images"]
    assert {"confusion", "calibration", "gradcam/gallery", "gradcam/01", "misclassified/confidence"} <= set(tags)
    board = read(run / "tensorboard")
    (shown,) = board.Images("confusion")
    assert min(shown.width, shown.height) > 200


def test_every_weight_has_a_distribution_per_epoch(run):
    board = read(run / "tensorboard" / "train")
    tags = board.Tags()["histograms"]
    assert tags
    assert all(tag.startswith("weights/") for tag in tags)
    for tag in tags:
        events = board.Histograms(tag)
        assert [event.step for event in events] == [1, 2]
        assert all(event.histogram_value.num > 0 for event in events)


def test_every_gradient_of_an_epochs_first_batch_has_a_distribution(run):
    names = {f"gradients/{name}" for name, _ in SmallCNN(10, width=8).named_parameters()}
    board = read(run / "tensorboard")
    assert set(board.Tags()["histograms"]) == names
    steps_per_epoch = 4
    for name in names:
        assert [event.step for event in board.Histograms(name)] == [1, 1 + steps_per_epoch]


def test_every_class_has_a_precision_recall_curve(run):
    board = read(run / "tensorboard")
    tags = [tag for tag in board.Tags()["tensors"] if tag.startswith("pr/")]
    assert len(tags) == 10
    assert set(tags) == set(board.PluginTagToContent(pr_curve.PLUGIN_NAME))


def opened(folder: Path, **options: object) -> TensorBoard:
    board = TensorBoard(**options)
    board.open(RunInfo("made", folder, 1, {}))
    return board


def test_histograms_and_curves_are_written_on_request_alone(tmp_path):
    board = opened(tmp_path)
    board.histogram("weights/a", np.ones(3), step=1)
    board.predictions(np.eye(2), np.array([0, 1]), ["a", "b"])
    board.close()
    assert read(tmp_path / "tensorboard" / "train").Tags()["histograms"] == []
    assert read(tmp_path / "tensorboard").Tags()["tensors"] == []


def test_a_curve_says_what_the_predictions_say(tmp_path):
    board = opened(tmp_path, pr_curves=True)
    board.predictions(np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]]), np.array([0, 1, 0]), ["a", "b"])
    board.close()
    (event,) = read(tmp_path / "tensorboard").Tensors("pr/a")
    from tensorboard.util.tensor_util import make_ndarray

    precision, recall = make_ndarray(event.tensor_proto)[-2:]
    assert precision[63] == 1.0, "both images of the class, and no other, are above one half"
    assert recall[63] == 1.0


def test_a_thousand_classes_get_no_thousand_curves(tmp_path):
    board = opened(tmp_path, pr_curves=True)
    draw = np.random.default_rng(0)
    board.predictions(
        draw.dirichlet(np.ones(100), 50), draw.integers(0, 100, 50), [f"class {index}" for index in range(100)]
    )
    board.close()
    assert len(read(tmp_path / "tensorboard").Tags()["tensors"]) == MOST_PR_CURVES


def test_weights_that_left_the_finite_numbers_switch_nothing_off(tmp_path):
    lines = []
    recorder = Recorder([TensorBoard(histograms=True, pr_curves=True)], lines.append)
    recorder.open(RunInfo("made", tmp_path, 1, {}))
    recorder.histogram("weights/some", np.array([1.0, np.nan, np.inf]), step=1)
    recorder.histogram("weights/none", np.array([np.nan]), step=1)
    recorder.predictions(np.full((2, 2), np.nan), np.array([0, 1]), ["a", "b"])
    recorder.close()
    assert lines == []
    board = read(tmp_path / "tensorboard" / "train")
    assert board.Tags()["histograms"] == ["weights/some"]
    assert board.Histograms("weights/some")[0].histogram_value.num == 1


def test_a_resume_keeps_what_came_before_even_when_the_last_resume_was_cut_short_in_its_rewriting(tmp_path):
    board = opened(tmp_path)
    for epoch in (1, 2, 3):
        board.epoch(epoch, {"train/loss": float(epoch)})
    board.close()
    (events,) = (tmp_path / "tensorboard/train").glob("events*")
    (events.parent / f"{events.name}.tmp-123").write_bytes(b"half of it")
    board = TensorBoard()
    board.open(RunInfo("made", tmp_path, 3, {}, resumed_epoch=2, resumed_step=2))
    board.close()
    assert [(point.step, point.value) for point in read(events.parent).Scalars("loss")] == [(1, 1.0), (2, 2.0)]
    assert not list(events.parent.glob("*.tmp-*"))


@pytest.mark.parametrize("gone", ["train", "val"])
def test_epochs_that_one_line_lacks_are_written_from_the_history_to_that_line_alone(tmp_path, gone):
    rows = [{"epoch": n, "train/loss": float(n), "val/loss": float(-n), "lr": 0.1} for n in (1, 2, 3)]
    board = opened(tmp_path)
    for row in rows[::2]:
        board.epoch(row["epoch"], row)
    board.close()
    shutil.rmtree(tmp_path / "tensorboard" / gone)
    board = TensorBoard()
    board.open(RunInfo("made", tmp_path, 3, {}, resumed_epoch=3, resumed_step=3, history=rows))
    board.close()
    for line, sign in (("train", 1), ("val", -1)):
        points = sorted((point.step, point.value) for point in read(tmp_path / "tensorboard" / line).Scalars("loss"))
        assert points == [(1, sign * 1.0), (2, sign * 2.0), (3, sign * 3.0)]


def test_a_resume_keeps_the_readings_of_the_steps_done_and_drops_what_is_of_the_whole_run(tmp_path):
    board = opened(tmp_path, histograms=True)
    for step in (2, 4, 6):
        board.step(step, {"train/loss": float(step)})
        board.histogram("gradients/a", np.ones(3), step=step)
    board.curve("lr_finder/loss", Curve([0.1, 0.2], [2.0, 1.0], "learning rate", "loss"))
    board.image("confusion", np.zeros((4, 4, 3), np.uint8))
    board.result({"best/val_accuracy": 0.5})
    board.close()
    board = TensorBoard()
    board.open(RunInfo("made", tmp_path, 3, {}, resumed_epoch=1, resumed_step=4))
    board.step(6, {"train/loss": 7.0})
    board.close()
    found = read(tmp_path / "tensorboard")
    assert [(point.step, point.value) for point in found.Scalars("step/loss")] == [(2, 2.0), (4, 4.0), (6, 7.0)]
    assert [point.step for point in found.Histograms("gradients/a")] == [2, 4]
    assert (found.Tags()["scalars"], found.Tags()["images"]) == (["step/loss"], [])


def test_a_resume_keeps_what_callbacks_drew_in_the_epochs_that_are_done_and_the_table_of_the_trace(tmp_path):
    board = opened(tmp_path)
    for epoch in (1, 2, 3):
        board.image("mine/picture", np.full((4, 4, 3), epoch, np.uint8), step=epoch)
    board.image("confusion", np.zeros((4, 4, 3), np.uint8))
    board.text("profile", "| operation | calls |")
    board.text("model", "of the whole run")
    board.close()
    board = TensorBoard()
    board.open(RunInfo("made", tmp_path, 3, {}, resumed_epoch=2, resumed_step=8))
    board.close()
    found = read(tmp_path / "tensorboard")
    assert found.Tags()["images"] == ["mine/picture"]
    assert [each.step for each in found.Images("mine/picture")] == [1, 2]
    assert found.Tags()["tensors"] == ["profile/text_summary"]


def test_a_run_is_three_entries_with_as_many_results_as_the_best_weights_have(run):
    assert {path.name for path in (run / "tensorboard").iterdir() if path.is_dir()} == {"train", "val"}
    tags = read(run / "tensorboard").Tags()["scalars"]
    measured = ("loss", "cross_entropy", "accuracy")
    assert {tag for tag in tags if tag.startswith("result/")} == {
        "result/best/epoch",
        *(f"result/best/{part}_{name}" for part in ("val", "test") for name in measured),
    }


def test_hparams_know_weight_decay_that_the_recipe_leaves_out_and_nothing_that_is_only_watched(run):
    told = hparams_of(run, "session_start_info").session_start_info.hparams
    assert told["optimizer.weight_decay"].number_value == 0
    watched = ("report", "callbacks", "version", "train.checkpoint", "train.log_every", "data.workers")
    assert not [name for name in told if name.startswith(watched)]


def test_event_files_stay_in_order_when_the_clock_was_set_back(tmp_path, monkeypatch):
    """TensorBoard reads a folder's files by name and never goes back to an earlier one."""
    made = []
    for now, resumed in ((2_000_000_000.5, 0), (1_900_000_000.0, 1), (1_900_000_001.0, 2)):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        board = TensorBoard()
        board.open(RunInfo("made", tmp_path, 3, {}, resumed_epoch=resumed, resumed_step=resumed))
        board.epoch(resumed + 1, {"train/loss": float(resumed)})
        board.close()
        (new,) = {path.name for path in (tmp_path / "tensorboard/train").iterdir()} - set(made)
        made.append(new)
    assert made == sorted(made)
    assert [point.step for point in read(tmp_path / "tensorboard/train").Scalars("loss")] == [1, 2, 3]


def test_the_hyperparameters_hold_the_numbers_that_were_used_not_what_the_recipe_calls_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = RECIPE.replace("lr: 0.02", "lr: $lr_finder.lr").replace("report: [Conf", "report: []  # [Conf")
    Path("tiny.yaml").write_text(text.replace("histograms: true, pr_curves: true", "images: false"), encoding="utf-8")
    assert main(["train", "tiny.yaml", "--fast"]) == 0
    (run,) = Path("runs/tiny").iterdir()
    columns = [info.name for info in hparams_of(run, "experiment").experiment.hparam_infos]
    assert columns[:4] == ["lr_finder.lr", "optimizer.lr", "optimizer.weight_decay", "model.type"]
    told = hparams_of(run, "session_start_info").session_start_info.hparams
    found = json.loads((run / "lr_finder.json").read_text())["lr"]
    assert told["optimizer.lr"].number_value == told["lr_finder.lr"].number_value == found
    assert found == pytest.approx(0.1), "sqrt(1e-3 * 10), what --fast assumes"
    numbers = told["data.preprocess.0.mean"].string_value.strip("[]").split(", ")
    assert len(numbers) == 3
    assert all(0 < float(number) < 1 for number in numbers)
    assert not [key for key, value in told.items() if value.string_value.startswith("$")]


def test_tensorboards_own_server_answers_with_every_promised_tag(run):
    root = run.parents[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", str(root), "--port", "0", "--host", "127.0.0.1",
         "--load_fast", "false"],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        line = next(line for line in server.stderr if "http://" in line)
        base = "http://" + line.split("http://", 1)[1].split()[0].rstrip("/") + "/data/"

        def ask(path: str, **query: str) -> dict:
            address = base + path + ("?" + urllib.parse.urlencode(query) if query else "")
            with urllib.request.urlopen(address, timeout=20) as answer:
                return json.load(answer)

        name = f"tiny/{run.name}/tensorboard"
        deadline = time.monotonic() + 30
        while set(ask("plugin/scalars/tags")) != {name, f"{name}/train", f"{name}/val"}:
            assert time.monotonic() < deadline, ask("runs")
            time.sleep(0.2)
        scalars, images = ask("plugin/scalars/tags"), ask("plugin/images/tags")
        penalties = [tag for tag in scalars[f"{name}/train"] if tag.startswith("penalty/")]
        assert {"loss", "accuracy", "lr"} <= set(scalars[f"{name}/train"])
        assert penalties
        assert {"loss", "accuracy"} <= set(scalars[f"{name}/val"])
        assert "step/loss" in scalars[name]
        assert "lr_finder/loss" in scalars[name]
        assert {"gradcam/gallery", "gradcam/01", "confusion", "calibration"} <= set(images[name])
        assert len(ask("plugin/pr_curves/tags")[name]) == 10
        assert any(tag.startswith("weights/") for tag in ask("plugin/histograms/tags")[f"{name}/train"])
        points = ask("plugin/scalars/scalars", run=f"{name}/val", tag="loss")
        assert [point[1] for point in points] == [1, 2]
        request = urllib.request.Request(
            base + "plugin/hparams/session_groups",
            data=json.dumps(
                {"experimentName": "", "allowedStatuses": ["STATUS_SUCCESS", "STATUS_RUNNING", "STATUS_UNKNOWN"],
                 "colParams": [], "startIndex": 0, "sliceSize": 10}
            ).encode(),
            headers={"Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=20) as answer:
            (group,) = json.load(answer)["sessionGroups"]
        assert group["hparams"]["optimizer.type"] == "SGD"
        assert group["hparams"]["seed"] == 3
    finally:
        server.terminate()
        server.communicate(timeout=20)
