"""Photos that are shrunk, or decoded smaller: predict and evaluate see what training saw, to the pixel."""

from pathlib import Path

import cv2
import numpy as np
import pytest

import trainer
from trainer.cli.main import main
from trainer.run.predictions import read

RECIPE = """
version: 1
name: photos
data:
  dataset: {type: ImageFolder, root: photos}
  val: {fraction: 0.5}
  batch_size: 4
  augment: [{type: RandomResizedCrop, size: [32, 32]}]
  eval: [{type: SmallestMaxSize, max_size: 40}, {type: CenterCrop, height: 32, width: 32}]
  preprocess: [{type: Normalize, mean: $data.mean, std: $data.std}]
model: {type: SmallCNN, width: 4}
optimizer: {type: SGD, lr: 0.05}
train: {epochs: 1, precision: fp32}
callbacks: []
report: []
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for index in range(8):
        path = folder / "photos" / "ab"[index % 2] / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(index).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        photo = cv2.resize(coarse, (800 + 10 * index, 600), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(path), np.rot90(photo) if index % 3 == 0 else photo)
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


@pytest.mark.parametrize("words", [["data.store={side: 48}"], ["data.decode=reduced"]])
def test_predict_and_evaluate_see_the_pictures_as_the_run_saw_them(photos, monkeypatch, words, capsys):
    monkeypatch.chdir(photos)
    monkeypatch.setenv("XDG_CACHE_HOME", str(photos / "cache"))
    assert main(["recipe.yaml", *words]) == 0
    run = trainer.load(max(Path("runs/photos").glob("2*")))
    kept = read(run.folder.path)
    files = sorted(map(str, Path("photos").rglob("*.jpg")))
    full = trainer.load(run.folder.path)
    object.__setattr__(full.pipeline, "reduces", False)
    object.__setattr__(full.recipe.data, "store", None)
    assert (run.preprocess(files) - full.preprocess(files)).abs().max() > 0.01
    apart = [np.abs(each.logits(files).numpy()[None] - kept.logits[:, None]).max(axis=2) for each in (run, full)]
    mine, others = (distances.min(axis=1).max() for distances in apart)  # to the answer that is nearest
    assert mine < 1.5e-4  # what float16 rounds away
    assert others > mine
    capsys.readouterr()
    assert main(["evaluate", str(run.folder.path)]) == 0
    said = capsys.readouterr().out
    assert f"{run.summary['final']['val/loss']:.4f}" in said
