"""Whole runs on a pretended GPU: nothing meets across devices, the numbers are the CPU's, and no step waits."""

import os
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pretended_gpu import pretended_gpu
from shared_recipes import EVERYTHING
from test_exact_resume import run, whole_state

from registry.errors import RecipeError
from trainer.cli.console import Console
from trainer.engine import precision, rng
from trainer.engine.device import choose_device, tune_backends
from trainer.engine.interrupts import Interrupted
from trainer.engine.keeper import read_latest
from trainer.engine.progress import history_in
from trainer.recipe.load import load_recipe
from trainer.run.beginning import start
from trainer.run.conduct import Order

BATCHED = """
version: 1
name: batched
seed: 3
data:
  dataset: {type: Shapes, train_size: 48, val_size: 10, test_size: 10}
  batch_size: 16
  sampler: balanced
  augment:
    - AlternatingFlip
    - {type: RandomCrop, height: 32, width: 32, pad_if_needed: true}
    - {type: HueSaturationValue, p: 0.5}
    - {type: Rotate, limit: 15, p: 0.5}
  preprocess: [{type: Normalize, mean: $data.mean, std: $data.std}]
model: {type: SpeedNet, widths: [16, 16, 16]}
loss: {type: CrossEntropyLoss, label_smoothing: 0.1, weight: [1, 1, 2, 1, 1, 1, 1, 3, 1, 1]}
regularizers: [{type: L2Norm, strength: 1e-4}]
optimizer: {type: AdamW, lr: 1e-4}
scheduler: {type: ReduceLROnPlateau, patience: 0}
train:
  epochs: 2
  precision: fp32
  metrics: [Accuracy, {type: TopKAccuracy, k: 3}]
  ema: {decay: 0.8, every: 2, mode: lookahead}
  mix: {type: CutMix, alpha: 1.0}
  tta: flip_translate
  log_every: 2
report: [ConfusionMatrix, Misclassified]
"""
GENTLE = EVERYTHING.replace("{type: OneCycleLR, max_lr: 0.1}", "{type: CosineAnnealingLR}")
RECIPES = {
    "everything": EVERYTHING.replace("[Curves]", "[{type: GradCAM, count: 2}]") + "lr_finder: {steps: 12}\n",
    "batched": BATCHED,
    "unfused": GENTLE.replace("SGD, lr: 0.02, momentum: 0.9, nesterov: true", "RMSprop, lr: 1e-4"),
    "muon": GENTLE.replace("SGD, lr: 0.02, momentum: 0.9, nesterov: true", "MuonConv, lr: 1e-3"),
}


def outcome(text: str, folder: Path) -> tuple[dict, str]:
    """Run a recipe to its end; return its summary and its report in words."""
    folder.mkdir()
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    loaded = load_recipe(folder / "recipe.yaml", ())
    assert loaded.recipe is not None, loaded.problems
    done = start(Order(loaded.recipe, (), "", ()), folder / "runs", Console())
    return dict(done.summary), (done.folder.path / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_from_data_to_report_gives_on_a_gpu_what_it_gives_on_the_cpu(name, tmp_path):
    expected, _ = outcome(RECIPES[name].replace("train:\n", "train:\n  device: cpu\n"), tmp_path / "cpu")
    with pretended_gpu():
        found, report = outcome(RECIPES[name].replace("train:\n", "train:\n  device: cuda\n"), tmp_path / "gpu")
    assert "failed" not in report
    for quantity in ("train/loss", "val/loss", "lr"):
        assert found["final"][quantity] == pytest.approx(expected["final"][quantity], rel=0.01), quantity
    assert found["test"]["best"]["loss"] == pytest.approx(expected["test"]["best"]["loss"], rel=0.01)


@pytest.mark.parametrize("text", [EVERYTHING, BATCHED], ids=["everything", "batched"])
def test_a_run_that_was_cut_on_a_gpu_ends_there_as_the_whole_one_does(text, experiment_of, tmp_path):
    text = text.replace("train:\n", "train:\n  device: cuda\n")
    with pretended_gpu():
        run(experiment_of(text), tmp_path / "whole", None)
        with pytest.raises(Interrupted):
            run(experiment_of(text), tmp_path / "cut", 5)  # in the middle of the second epoch
        run(experiment_of(text), tmp_path / "cut", None, state=read_latest(tmp_path / "cut", print))
        assert whole_state(tmp_path / "cut") == whole_state(tmp_path / "whole")


@pytest.mark.parametrize(("before", "after"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_run_continues_on_the_other_device(before, after, experiment_of, tmp_path):
    on = {device: EVERYTHING.replace("train:\n", f"train:\n  device: {device}\n") for device in (before, after)}
    with pretended_gpu():
        with pytest.raises(Interrupted):
            run(experiment_of(on[before]), tmp_path / "cut", 5)
        state = read_latest(tmp_path / "cut", print)
        done = run(experiment_of(on[after]), tmp_path / "cut", None, state=state)
    assert done.progress.epoch == 3
    assert done.progress.history[0] == history_in(state["progress"])[0], "the first epoch was trained again"


# ------------------------------------------------------------------------------------------------------------- waiting
def pictures(root: Path, sizes: list[tuple[int, int]]) -> Path:
    """Write a folder of 24 pictures per split in two classes, of these sizes in turn."""
    values = np.random.default_rng(0)
    for split in ("train", "val"):
        for number in range(24):
            path = root / split / f"class{number % 2}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), values.integers(0, 256, (*sizes[number % len(sizes)], 3), dtype=np.uint8))
    return root


FOLDER = """
version: 1
name: folder
data:
  dataset: {{type: ImageFolder, root: {root}}}
  batch_size: 4
  workers: 0
  augment: [{augment}]
  eval: [{{type: Resize, height: 16, width: 16}}]
  preprocess: [{{type: Normalize, mean: [0.5, 0.5, 0.5], std: [0.2, 0.2, 0.2]}}]
model: SmallCNN
optimizer: {{type: SGD, lr: 0.01, momentum: 0.9}}
regularizers: [{{type: L2, strength: 1e-4}}]
train:
  epochs: 1
  device: cuda
  precision: fp32
  clip_norm: 1.0
  ema: {{decay: 0.9}}
  mix: {{type: MixUp, alpha: 0.3}}
"""
RESIZED = "{type: RandomResizedCrop, size: [16, 16]}, {type: HorizontalFlip, p: 0.5}"


@pytest.mark.parametrize(
    ("augment", "sizes"),
    [
        (RESIZED, [(20, 20)]),
        (f"{{type: Blur, p: 1.0}}, {RESIZED}", [(20, 20)]),
        (RESIZED, [(20, 20), (24, 30)]),
    ],
    ids=["resident", "one by one", "read when asked for"],
)
def test_no_step_waits_for_the_gpu_and_no_image_comes_back_from_it(augment, sizes, experiment_of, tmp_path):
    text = FOLDER.format(root=pictures(tmp_path / "pictures", sizes), augment=augment)
    with pretended_gpu() as gpu:
        experiment = experiment_of(text)
        step, batches = experiment.step(experiment.optimizer()), experiment.batches("train").epoch(1)
        step([next(batches)], experiment.mixer(1, 0))  # the first makes what all need
        gpu.waits.clear()
        gpu.moved = 0
        for number, batch in enumerate(batches, start=1):
            assert batch.images.device.type == batch.targets.device.type == batch.indices.device.type == "cuda"
            step([batch], experiment.mixer(1, number))
        assert number == 5
        assert gpu.waits == []
        assert gpu.moved == 0


# ------------------------------------------------------------------------------------------------- devices and formats
def test_auto_is_a_cuda_gpu_or_the_cpu_and_never_mps(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")


@pytest.mark.parametrize("name", ["mps", "mps:0"])
def test_mps_is_refused_with_its_reason(name):
    with pytest.raises(RecipeError, match="mps has no float64, which the keyed draws"):
        choose_device(name)


@pytest.mark.parametrize(("before", "after"), [(None, ":4096:8"), (":0:0", ":4096:8"), (":16:8", ":16:8")])
def test_deterministic_training_gives_cublas_the_workspace_it_then_needs(before, after, monkeypatch):
    if before is None:
        monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    else:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", before)
    try:
        tune_backends(torch.device("cpu"), deterministic=True)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == after
    finally:
        tune_backends(torch.device("cpu"), deterministic=False)


def test_random_states_of_gpus_that_are_gone_are_left_out(monkeypatch):
    restored = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [torch.tensor([n]) for n in (5, 6, 7)])

    def put(state, device):
        if device >= 1:
            raise IndexError(device)
        restored[device] = state.tolist()

    monkeypatch.setattr(torch.cuda, "set_rng_state", put)
    state = rng.capture()
    expected = random.random()
    rng.restore(state)
    assert restored == {0: [5]}
    assert random.random() == expected


def test_a_checkpoint_of_one_number_format_continues_in_another():
    half, bf16, full = precision.FP16(torch.device("cpu")), precision.BF16(torch.device("cpu")), precision.Precision()
    scale = half.state()["scale"]
    for other in (bf16, full):
        half.load(other.state())
        other.load(half.state())
    assert half.state()["scale"] == scale
    kept = {**half.state(), "scale": 8.0}
    half.load(kept)
    assert half.state()["scale"] == 8.0
