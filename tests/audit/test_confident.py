"""Confident learning: the formulas by hand, and planted wrong labels found by out-of-sample probabilities."""

import numpy as np
import pytest

from trainer.audit.confident import confident_joint, doubts_about


def test_a_picture_counts_for_the_likeliest_class_that_is_as_likely_as_it_usually_is():
    """Three of each class; class 0 usually has 0.8, class 1 usually 0.62."""
    of_first = np.array([0.9, 0.9, 0.6, 0.2, 0.6, 0.35])
    given = np.array([0, 0, 0, 1, 1, 1])
    probabilities = np.stack([of_first, 1 - of_first], axis=1)
    assert of_first[:3].mean() == pytest.approx(0.8)
    assert (1 - of_first[3:]).mean() == pytest.approx(0.6167, abs=1e-4)
    assert confident_joint(probabilities, given).tolist() == [[2, 0], [0, 2]], "the third is sure of neither"


def test_a_class_without_pictures_is_confidently_nobodys():
    probabilities = np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    assert confident_joint(probabilities, np.array([0, 0, 1]))[:, 2].tolist() == [0, 0, 0]


def test_planted_labels_are_doubted_the_surest_first():
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 5, 1000)
    logits = draw.normal(0, 1, (1000, 5))
    logits[np.arange(1000), truth] += 5
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    given = truth.copy()
    planted = draw.permutation(1000)[:50]
    given[planted] = (given[planted] + draw.integers(1, 5, 50)) % 5
    doubts = doubts_about(shares, given)
    found = {doubt.at for doubt in doubts}
    assert len(found & set(planted.tolist())) >= 47
    assert len(found - set(planted.tolist())) <= 3
    assert all(truth[doubt.at] == doubt.suggested for doubt in doubts[:40])
    assert [doubt.margin for doubt in doubts] == sorted((doubt.margin for doubt in doubts), reverse=True)
    assert all(doubt.given == given[doubt.at] != doubt.suggested for doubt in doubts)
    odd = np.insert(shares, 0, np.nan, axis=0)
    beside = doubts_about(odd, np.insert(given, 0, 0))
    assert [doubt.at - 1 for doubt in beside] == [doubt.at for doubt in doubts], "what is no number tells nothing"


def test_nothing_is_doubted_where_the_network_agrees_with_every_label():
    truth = np.arange(30) % 3
    shares = np.full((30, 3), 0.1)
    shares[np.arange(30), truth] = 0.8
    assert doubts_about(shares, truth) == []


def test_where_two_classes_cannot_be_told_apart_neither_is_doubted_at_large():
    """Each half of two twins gets 0.5: at the threshold of both, and no likelier in the other."""
    shares = np.zeros((200, 3))
    shares[:, :2] = 0.5
    given = np.arange(200) % 2
    assert doubts_about(shares, given) == []
