"""Images of several sizes: whatever gives them one, or nothing, a run ends and every command that shows them works."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from survival_kit import command, only_run, plugin, recipe, summary_of, working_in

from registry.reports.pictures import read_png
from trainer.cli.main import main

BASE = """
version: 1
name: sizes
seed: 3
data:
  dataset: {type: ImageFolder, root: pets}
  val: {fraction: 0.25}
  batch_size: BATCH
  eval_batch_size: BATCH
  preprocess: [STEPS{type: Normalize, mean: 0.5, std: 0.25}]
model: {type: SmallCNN, width: 4}
optimizer: {type: SGD, lr: 0.05}
train: {epochs: 1, precision: fp32}
callbacks: []
report: [{type: GradCAM, count: 3}, Misclassified]
"""
WAYS = {"resize": ("6", "{type: Resize, height: 20, width: 24}, "), "one-by-one": ("1", "")}


def text(way: str) -> str:
    batch, steps = WAYS[way]
    return BASE.replace("BATCH", batch).replace("STEPS", steps)


@pytest.fixture(scope="module", params=list(WAYS))
def trained(request, tmp_path_factory) -> tuple[str, Path]:
    """A way, and a folder with the run that it gave."""
    folder = tmp_path_factory.mktemp(request.param)
    with working_in(folder):
        put_pets()
        assert main([recipe(text(request.param))]) == 0
    return request.param, folder


def put_pets() -> None:
    """Write two classes of twelve pictures, all of different sizes."""
    for label, name in enumerate(("cat", "dog")):
        Path("pets", name).mkdir(parents=True)
        for index in range(12):
            size = (20 + 2 * index + label, 40 - index, 3)
            pixels = np.random.default_rng([label, index]).integers(0, 256, size, dtype=np.uint8)
            cv2.imwrite(f"pets/{name}/{index:02}.png", pixels)


def test_the_run_is_completed_with_every_part_of_its_report(trained):
    _, folder = trained
    with working_in(folder):
        run = only_run("sizes")
        assert summary_of(run)["status"] == "completed"
        assert "could not be made" not in (run / "report.md").read_text()
        assert summary_of(run)["report"]["gradcam"]["explained"] == 3
        assert (run / "figures/augmentation.png").exists()


def test_maps_are_drawn_on_the_pictures_that_the_network_saw(trained, capsys):
    way, folder = trained
    with working_in(folder):
        run = only_run("sizes")
        for pictures in ([], ["pets/dog/11.png"]):
            ended = command(capsys, "explain", str(run), *pictures)
            assert ended.code == 0, ended.said
        assert not [page for page in run.glob("explain/*/*/report.md") if "could not be made" in page.read_text()]
        assert len(list(run.glob("explain/mistakes/*/gradcam/*-overlay.png"))) == 3
        (overlay,) = run.glob("explain/pictures/*/gradcam/confident/*-overlay.png")
        height, width = read_png(overlay).shape[:2]
    assert height / width == pytest.approx({"resize": 20 / 24, "one-by-one": 43 / 29}[way], abs=0.01)


def test_the_sheet_and_the_curve_are_drawn_without_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    put_pets()
    found = (0, 4)  # of noise there may be no rate to find
    for words, codes in (
        (["preview", recipe(text("resize"))], (0,)),
        (["lr-find", "tiny.yaml", "lr_finder.steps=20"], found),
    ):
        ended = command(capsys, *words)
        assert ended.code in codes, ended.said
    assert len(list(tmp_path.glob("runs/*/*/figures/*.png"))) == 2


# ------------------------------------------------------------------------------------------------------ what goes wrong
BREAKS = """
from registry import component
from registry.contracts import Callback

@component("callback")
class TakesTheImages(Callback):
    '''Removes the training images when the run has learnt from them.'''
    def epoch_finished(self, view):
        import pathlib
        for path in pathlib.Path("parts/train/cat").iterdir():
            path.write_bytes(b"")
"""


def test_images_that_went_away_cost_the_report_a_part_and_not_the_run_its_end(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    put_pets()
    shutil.copytree("pets", "parts/val")
    shutil.move("pets", "parts/train")
    plugin(BREAKS)
    written = text("resize").replace("callbacks: []", "plugins: [./faults.py]\ncallbacks: [TakesTheImages]")
    ended = command(capsys, recipe(written), "report=[]", "data.dataset.root=parts", "data.val=val")
    assert "report part AugmentationSheet failed: DataError: parts/train/cat/" in ended.out
    assert ended.code == 0, ended.said
    assert summary_of(only_run("sizes"))["status"] == "completed"


def test_explaining_fails_where_what_was_asked_for_is_not_on_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    put_pets()
    assert command(capsys, recipe(text("resize")), "report=[{type: GradCAM, target: cat, count: 2}]").code == 0
    resolved = only_run("sizes") / "resolved.yaml"
    resolved.write_text(resolved.read_text().replace("target: cat", "target: wolf"))
    ended = command(capsys, "explain", str(only_run("sizes")))
    assert ended.code == 9
    assert "report.html is not complete: report part GradCAM failed: RecipeError: no class is named 'wolf'" in ended.err
