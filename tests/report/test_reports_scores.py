"""Numbers from predictions, against sums by hand and the definitions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.contracts import Predictions
from registry.reports import scores
from registry.reports.heat import heat_score


def predictions(logits, targets):
    logits = np.asarray(logits, dtype=np.float32)
    return Predictions(np.arange(len(logits)), np.asarray(targets), logits, 0.0, {})


def test_probabilities_and_losses_are_torchs():
    logits, targets = np.random.default_rng(0).normal(0, 30, (50, 7)).astype(np.float32), np.arange(50) % 7
    answers = scores.read(predictions(logits, targets))
    expected = F.softmax(torch.tensor(logits, dtype=torch.float64), 1).numpy()
    assert np.allclose(scores.probabilities(logits), expected, atol=1e-12)
    assert np.allclose(answers.confidence, expected.max(1))
    assert np.allclose(answers.truth_probability, expected[np.arange(50), targets])
    losses = F.cross_entropy(torch.tensor(logits, dtype=torch.float64), torch.tensor(targets), reduction="none")
    assert np.allclose(answers.loss, losses.numpy(), atol=1e-5)


def test_rankings_are_by_number_and_then_by_position():
    logits = [[4, 0], [0, 3], [3, 0], [0, 3], [9, 0], [0, 1]]
    answers = scores.read(predictions(logits, [0, 0, 1, 0, 0, 1]))
    assert scores.most_confident_mistakes(answers, 9).tolist() == [1, 2, 3]
    assert scores.greatest_losses(answers, 2).tolist() == [1, 2]
    assert scores.least_confident_correct(answers, 2).tolist() == [5, 0]
    assert scores.most_confident_correct(answers, 2).tolist() == [4, 0]


def test_an_unknown_truth_is_never_a_mistake():
    answers = scores.read(predictions([[1, 0], [0, 1]], [-1, 0]))
    assert answers.wrong.tolist() == [False, True]
    assert np.isnan(answers.loss[0])
    assert np.isnan(answers.truth_probability[0])


def test_scores_per_class_follow_the_confusion_and_say_nan_where_there_is_no_meaning():
    counts = np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
    found = scores.class_scores(counts)
    assert found.precision[:2].tolist() == [3 / 5, 4 / 5]
    assert found.recall[:2].tolist() == [3 / 4, 4 / 6]
    assert found.f1[:2] == pytest.approx([6 / 9, 8 / 11])
    assert np.isnan([found.precision[2], found.recall[2], found.f1[2]]).all()
    assert found.support.tolist() == [4, 6, 0]


def test_the_confusion_matrix_has_truth_in_rows():
    answers = scores.read(predictions([[1, 0], [1, 0], [0, 1]], [0, 1, 1]))
    assert scores.confusion(answers, 2).tolist() == [[1, 0], [1, 1]]


def test_calibration_error_is_the_mean_gap_weighted_by_answers():
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    wrong = np.array([False, False, False, True, True, True])
    answers = scores.Answers(np.zeros(6, int), wrong.astype(int), confidence, confidence, confidence)
    found = scores.reliability(answers, 10)
    assert found.ece == pytest.approx((4 * abs(0.75 - 0.95) + 2 * 0.55) / 6)
    assert found.counts.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 4]
    assert np.isnan(found.accuracy[0])


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 20), st.integers(0, 999))
def test_calibration_error_is_a_share_and_bins_hold_every_answer(count, classes, bins, seed):
    draw = np.random.default_rng(seed)
    answers = scores.read(predictions(draw.normal(0, 5, (count, classes)), draw.integers(0, classes, count)))
    found = scores.reliability(answers, bins)
    assert 0 <= found.ece <= 1
    assert found.counts.sum() == count


def test_heat_is_held_against_a_uniform_map():
    masks = np.zeros((3, 4, 4), dtype=bool)
    masks[:, :2, :2] = True  # a quarter
    heat = np.zeros((3, 4, 4))
    heat[0] = 1  # uniform
    heat[1, :2, :2] = 1  # all on the object
    found = heat_score(heat, masks)
    assert found is not None
    assert found.ratio == pytest.approx((1 + 4) / 2)
    assert found.pointing == 1.0  # the first of equals lies on the object
    assert (found.images, found.silent) == (2, 1)


def test_masks_that_are_empty_or_everything_judge_nothing():
    assert heat_score(np.ones((2, 3, 3)), np.stack([np.ones((3, 3), bool), np.zeros((3, 3), bool)])) is None


def test_means_leave_classes_without_images_out_and_count_unpredicted_ones_as_zero():
    """Of four classes b is never predicted, and c has no image but is predicted once."""
    counts = np.array([[3, 0, 1, 0], [2, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 4]])
    mean = scores.mean_scores(scores.class_scores(counts))
    assert (mean.classes, mean.unpredicted) == (3, 1)
    assert mean.precision == pytest.approx((3 / 5 + 0 + 1) / 3)
    assert mean.recall == pytest.approx((3 / 4 + 0 + 1) / 3)
    assert mean.f1 == pytest.approx((6 / 9 + 0 + 1) / 3)
    assert np.isnan(scores.mean_scores(scores.class_scores(np.zeros((2, 2), dtype=int))).f1)
