"""The temperature: fitted on validation, never worse there, kept with the run and used where it is asked for."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

import trainer
from registry.contracts import Predictions
from registry.errors import CheckpointError, RecipeError
from trainer.cli.main import main
from trainer.recipe.load import load_recipe
from trainer.run.answering import NOT_SURE, Sureness
from trainer.stages.calibrate import calibrate, fit_temperature

RECIPE = """\
version: 1
name: sure
data: {dataset: {type: Shapes, image_size: 24, train_size: 160, val_size: 60, test_size: 50}, batch_size: 32}
model: {type: SmallCNN, width: 8}
optimizer: {type: SGD, lr: 0.05}
train: {epochs: 2, device: cpu, precision: fp32}
report: [Calibration]
callbacks: []
answers: {calibrated: true, abstain_below: 0.1001}
"""


def made(count: int, classes: int, seed: int, sharpness: float) -> Predictions:
    """Answers whose truth is drawn by the logits' own softmax, and whose logits are then multiplied."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 2, (count, classes))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    targets = (shares.cumsum(1) > draw.random((count, 1))).argmax(1)
    return Predictions(np.arange(count), targets, (sharpness * logits).astype(np.float32), 0.0, {})


# ----------------------------------------------------------------------------------------------------------- the number
@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_logits_that_were_multiplied_are_divided_again(sharpness):
    found = calibrate(made(20_000, 5, 0, sharpness), "val")
    assert found.temperature == pytest.approx(sharpness, rel=0.03)
    assert found.ece[1] < 0.02


def test_it_is_the_minimum_of_the_negative_log_likelihood():
    answers = made(500, 4, 1, 2.5)
    logits, targets = torch.from_numpy(answers.logits).double(), torch.from_numpy(answers.targets)
    found = fit_temperature(logits, targets)
    nll = [float(cross_entropy(logits / t, targets)) for t in (found * 0.999, found, found * 1.001)]
    assert nll[1] == min(nll)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.integers(2, 7), st.integers(0, 999), st.floats(0.01, 200))
def test_it_never_worsens_the_negative_log_likelihood(count, classes, seed, sharpness):
    draw = np.random.default_rng(seed)
    logits = (sharpness * draw.normal(0, 1, (count, classes))).astype(np.float32)
    answers = Predictions(np.arange(count), draw.integers(0, classes, count), logits, 0.0, {})
    found = calibrate(answers, "val")
    targets = torch.from_numpy(answers.targets)
    before, after = (
        float(cross_entropy(torch.from_numpy(logits).double() / t, targets)) for t in (1, found.temperature)
    )
    assert after <= before + 1e-12
    assert found.nll == pytest.approx((before, after))
    assert 0.01 <= found.temperature <= 100


def test_logits_in_several_parts_give_the_temperature_of_all(monkeypatch):
    answers = made(300, 4, 2, 2.0)
    whole = calibrate(answers, "val")
    monkeypatch.setattr("trainer.stages.calibrate._VALUES_AT_A_TIME", 100)
    assert calibrate(answers, "val").temperature == pytest.approx(whole.temperature, rel=1e-9)


def test_where_nothing_is_answered_wrong_it_stays_1_with_the_reason():
    found = calibrate(Predictions(np.arange(3), np.array([0, 1, 2]), 4 * np.eye(3, dtype=np.float32), 0.0, {}), "val")
    assert (found.temperature, found.wrong) == (1.0, 0)
    assert found.reason == "every answer on val is right, which tells nothing of how sure a wrong one may be"


def test_logits_that_are_not_finite_are_left_out():
    answers = made(200, 3, 3, 2.0)
    broken = replace(answers, logits=np.where(answers.indices[:, None] == 7, np.nan, answers.logits))
    found = calibrate(broken, "val")
    assert (found.images, math.isfinite(found.nll[1])) == (199, True)
    nothing = replace(answers, logits=np.full_like(answers.logits, np.inf))
    assert calibrate(nothing, "val").reason == "there are no finite logits to fit it on"


# -------------------------------------------------------------------------------------------------------------- the run
@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny run, its answers calibrated; the working directory is its folder."""
    before, folder = Path.cwd(), tmp_path_factory.mktemp("sure")
    os.chdir(folder)
    try:
        Path("sure.yaml").write_text(RECIPE)
        yield trainer.train("sure.yaml")
    finally:
        os.chdir(before)


def summary_of(run):
    return json.loads((run.folder.path / "summary.json").read_text())


def test_a_run_keeps_the_temperature_of_its_best_weights_fitted_on_validation(run):
    kept, summary = summary_of(run)["calibration"], summary_of(run)
    assert (kept["weights"], kept["epoch"], kept["split"]) == ("best", summary["best"]["epoch"], "val")
    assert kept["images"] == summary["images"]["val"]
    assert kept["nll"]["before"] == pytest.approx(summary["best"]["val/cross_entropy"], rel=1e-5)
    assert kept["nll"]["after"] < kept["nll"]["before"]
    assert kept["temperature"] != 1


def test_the_page_shows_calibration_before_and_after_and_what_being_sure_costs(run):
    facts, text = summary_of(run)["report"]["calibration"], (run.folder.path / "report.md").read_text()
    assert facts["temperature"] == summary_of(run)["calibration"]["temperature"]
    assert facts["nll"] == pytest.approx(summary_of(run)["test"]["best"]["cross_entropy"], rel=1e-5)
    assert facts["nll_calibrated"] != facts["nll"]
    assert "before and after the temperature" in text
    assert f"it answers **{100 * facts['coverage']:.2f} %**" in text
    assert (run.folder.path / "figures" / "calibration-calibrated.png").exists()


def test_predictions_are_told_by_the_temperature_where_that_is_asked_for(run):
    pictures = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)
    plain = trainer.load(run.folder.path, calibrated=False)
    calibrated = trainer.load(run.folder.path)
    by_hand = (plain.logits(pictures) / summary_of(run)["calibration"]["temperature"]).softmax(1)
    assert torch.equal(calibrated.probabilities(pictures), by_hand)
    assert torch.equal(plain.probabilities(pictures), plain.logits(pictures).softmax(1))
    assert [a[0][0] for a in plain.predict(pictures)] == [a[0][0] for a in calibrated.predict(pictures)]


def test_an_answer_that_is_not_likely_enough_is_not_sure(run, capsys):
    pictures = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)
    never = trainer.load(run.folder.path, abstain_below=1.0)
    always = trainer.load(run.folder.path, abstain_below=1e-6)
    assert never.answers(pictures) == [NOT_SURE] * 3
    assert always.answers(pictures) == [answers[0][0] for answers in always.predict(pictures)]
    (run.folder.path.parent / "a.png").write_bytes(_png(pictures[0]))
    path = str(run.folder.path.parent / "a.png")
    assert main(["predict", str(run.folder.path), path, "--abstain-below", "1"]) == 0
    assert capsys.readouterr().out.startswith(f"{path}: not sure (")


def test_at_the_threshold_itself_it_is_sure_and_of_no_number_it_never_is():
    assert [Sureness(abstain_below=0.5).is_sure(each) for each in (0.5, 0.4999, math.nan)] == [True, False, False]
    assert Sureness().is_sure(0.0)


def test_evaluate_tells_what_is_answered_and_how_well(run, capsys):
    assert main(["evaluate", str(run.folder.path)]) == 0
    told = capsys.readouterr().out
    facts = summary_of(run)["report"]["calibration"]
    assert f"calibrated/cross_entropy {facts['nll_calibrated']:.4f}" in told
    assert f"answered {facts['coverage']:.4f}, answered/accuracy {facts['accuracy_answered']:.4f}" in told


def test_a_temperature_of_other_weights_is_none_and_report_fits_it_anew(run):
    before = summary_of(run)
    stale = {**before, "calibration": {**before["calibration"], "epoch": 99, "temperature": 7.0}}
    (run.folder.path / "summary.json").write_text(json.dumps(stale))
    with pytest.raises(CheckpointError, match=r"has no temperature for the weights in best\.pt") as refused:
        trainer.load(run.folder.path)
    assert f"`report {run.folder.path}` fits it" in refused.value.hint
    assert trainer.load(run.folder.path, calibrated=False).sureness.temperature == 1
    assert main(["report", str(run.folder.path)]) == 0
    assert summary_of(run)["calibration"] == before["calibration"]


def test_the_command_line_says_which_thresholds_there_are(run, capsys):
    assert main(["predict", str(run.folder.path), "a.png", "--abstain-below", "2"]) == 2
    assert "--abstain-below takes a number above 0, up to 1" in capsys.readouterr().err


@pytest.mark.parametrize("value", [0, 1.5, -0.1, True, "much"])
def test_what_is_no_probability_is_refused_as_a_threshold(run, value):
    with pytest.raises(RecipeError, match="abstain_below is a probability"):
        trainer.load(run.folder.path, abstain_below=value)


def test_the_recipe_takes_a_probability_alone(tmp_path):
    (tmp_path / "a.yaml").write_text(RECIPE.replace("0.1001", "1.2"))
    (problem,) = load_recipe(tmp_path / "a.yaml").problems
    assert "answers.abstain_below: expected number > 0 and <= 1" in problem.text


def _png(image):
    import cv2

    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()
