"""`explain RUN PICTURE...`: a page for a user's own pictures, of which nobody knows the truth."""

import json

import cv2
import numpy as np
import pytest

from trainer.cli.main import main

RECIPE = """
version: 1
name: tiny
seed: 3
data: {dataset: {type: Shapes, train_size: 64, val_size: 32}, batch_size: 16}
model: {type: SmallCNN, width: 8}
optimizer: {type: SGD, lr: 0.02}
train: {epochs: 1, precision: fp32}
report: []
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Train a tiny run, explain two pictures of other sizes through the command line; return the page's folder."""
    folder = tmp_path_factory.mktemp("explain")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "tiny.yaml").write_text(RECIPE, encoding="utf-8")
        assert main(["train", "tiny.yaml"]) == 0
        (run,) = (folder / "runs" / "tiny").glob("2*")
        draw = np.random.default_rng(0)
        cv2.imwrite("picture.png", draw.integers(0, 255, (48, 40, 3), dtype=np.uint8))
        cv2.imwrite("grey.png", draw.integers(0, 255, (20, 20), dtype=np.uint8))
        assert main(["explain", str(run), "picture.png", "grey.png"]) == 0
        assert main(["explain", str(run)]) == 0
        (found,) = (run / "explain" / "pictures").glob("2*")
    return found


def test_a_page_of_the_mistakes_says_nothing_of_a_training(page):
    (found,) = (page.parents[1] / "mistakes").glob("2*")
    text = (found / "report.md").read_text(encoding="utf-8")
    assert "A trained model looks at images; nothing was trained for this page." in text
    assert "no epoch was finished" not in text
    assert "## Epochs" not in text
    assert (found / "gradcam").exists()


def test_the_page_of_own_pictures_claims_no_truth(page):
    text = (page / "report.md").read_text(encoding="utf-8")
    assert (page / "report.html").stat().st_size > 10_000
    assert "picture.png" in text
    assert "truth is not known" in text
    for claim in ("mistake", "misclassified", "taken for", "the true class", "→", "correctly", "accuracy"):
        assert claim not in text, claim


def test_every_picture_has_a_map_and_the_answer_with_its_confidence(page):
    text = (page / "report.md").read_text(encoding="utf-8")
    assert len(list((page / "gradcam").rglob("gallery.png"))) == 1
    assert text.count("% sure") == 2


def test_explaining_leaves_the_runs_own_numbers_alone(page):
    summary = json.loads((page.parents[2] / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "completed"
    assert "gradcam" not in summary.get("report", {})
