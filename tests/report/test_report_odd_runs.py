"""Runs at the edge: each gets a sensible page, and no part fails."""

from dataclasses import replace

import numpy as np
import pytest
from made_evidence import SmallNet, history, made_evidence
from torch import nn

from registry.contracts import Predictions
from registry.reports.augmentation import AugmentationSheet
from registry.reports.classes import ConfusionMatrix
from registry.reports.curves import Curves, LRFinderCurve
from registry.reports.gradcam import GradCAM
from registry.reports.mistakes import Misclassified
from trainer.report.page import write_report

EVERY = (Curves(), LRFinderCurve(), ConfusionMatrix(), Misclassified(count=3), GradCAM(count=2), AugmentationSheet())


def page(evidence):
    result = write_report(evidence, EVERY, log=lambda words: pytest.fail(words))
    assert result.failed == ()
    assert result.html.stat().st_size < 8_000_000
    return result.html.read_text() + result.markdown.read_text()


def test_one_class(tmp_path):
    text = page(made_evidence(tmp_path, classes=1, right=1.0))
    assert "no mistake" in text


def test_a_thousand_classes(tmp_path):
    text = page(made_evidence(tmp_path, classes=1000, count=300))
    assert "the 40 of 1,000 classes with the lowest F1" in text


def test_maps_of_one_pixel(tmp_path):
    flat = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1), nn.Flatten()).eval()
    assert "no layer with a map of more than one cell" in page(made_evidence(tmp_path, model=flat))


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_four_channel_images(tmp_path, channels):
    page(made_evidence(tmp_path, channels=channels))


def test_a_run_that_ended_before_its_first_epoch(tmp_path):
    text = page(made_evidence(tmp_path, epochs=0))
    assert "ended before its first epoch" in text
    assert "No epoch was finished, so there is no curve." in text


def test_one_epoch(tmp_path):
    page(made_evidence(tmp_path, epochs=1))


def test_no_lr_finder(tmp_path):
    text = page(made_evidence(tmp_path, finding=None))
    assert "given by the recipe" in text
    assert "its learning rate was given by hand" in text


def test_no_misclassified_image(tmp_path):
    assert "The model made no mistake on the 60 images of val." in page(made_evidence(tmp_path, right=1.0))


def test_no_right_answer(tmp_path):
    page(made_evidence(tmp_path, right=0.0))


def test_one_image(tmp_path):
    page(made_evidence(tmp_path, count=1))


def test_losses_and_logits_that_are_not_finite(tmp_path):
    evidence = made_evidence(tmp_path)
    rows = history(3)
    rows[1]["train/loss"] = float("nan")
    rows[2]["val/loss"] = float("inf")
    logits = evidence.predictions.logits.copy()
    logits[3] = np.nan
    broken = Predictions(
        evidence.predictions.indices, evidence.predictions.targets, logits, float("nan"), {"accuracy": 0.5}
    )
    page(replace(evidence, history=rows, best=rows[0], predictions=broken))


def test_a_sweep_that_ended_at_once(tmp_path):
    evidence = made_evidence(tmp_path)
    short = replace(
        evidence.finding, lrs=(1e-5,), losses=(2.3,), smoothed=(2.3,), lr=None, loss=None, status="inconclusive",
        picks=dict.fromkeys(evidence.finding.picks), reason="too few points", stopped="non-finite",
    )  # fmt: skip
    assert "too few points" in page(replace(evidence, finding=short))
    empty = replace(short, lrs=(), losses=(), smoothed=())
    assert "too few points" in page(replace(evidence, finding=empty))


def test_a_recipe_without_accuracy(tmp_path):
    rows = [{k: v for k, v in row.items() if "accuracy" not in k} for row in history(3)]
    resolved = {"train": {"best": {"metric": "val/loss", "mode": "min"}}}
    text = page(made_evidence(tmp_path, history=rows, best=rows[2], resolved=resolved))
    assert "Best loss" in text


def test_an_empty_environment_and_recipe(tmp_path):
    page(made_evidence(tmp_path, environment={}, resolved={}, recipe="", description=""))


def test_no_training_images(tmp_path):
    text = page(made_evidence(tmp_path, train_samples=np.zeros((0, 8, 8, 3), np.uint8)))
    assert "There are no training images to show." in text


def test_images_of_several_sizes_in_oblong_shape(tmp_path):
    evidence = made_evidence(tmp_path)
    evidence.images.stored = np.ascontiguousarray(evidence.images.stored[:, :12])
    evidence.images.object_masks = None
    page(evidence)


def test_very_long_and_equal_class_names(tmp_path):
    names = ("a very long name " * 20, "same", "same", "x" * 300)
    page(made_evidence(tmp_path, class_names=names, model=SmallNet(4).eval()))
