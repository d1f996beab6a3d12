"""Which unlabelled pictures would teach most: by the margin, and by gradients that are new."""

import numpy as np
import pytest

from trainer.run.ranking import diverse, uncertain


def as_probabilities(rows: list[list[float]]) -> np.ndarray:
    return np.array(rows, np.float32)


def test_the_least_margin_between_the_two_likeliest_comes_first_and_ties_keep_their_order():
    found = uncertain(as_probabilities([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.45, 0.45, 0.1], [0.2, 0.5, 0.3]]))
    assert found.order.tolist() == [2, 0, 3, 1]
    assert found.measure == "margin"
    assert found.values == pytest.approx([0.2, 0.7, 0.0, 0.2], abs=1e-6)


def test_of_one_class_nothing_is_more_uncertain_than_the_rest():
    assert uncertain(np.ones((3, 1), np.float32)).order.tolist() == [0, 1, 2]


def by_definition(probabilities: np.ndarray, features: np.ndarray) -> tuple[list[int], list[float]]:
    """Farthest first over the last layer's gradients, written out: a matrix (C, d) per picture."""
    errors = probabilities.astype(np.float64)
    errors[np.arange(len(errors)), probabilities.argmax(1)] -= 1
    gradients = np.einsum("nc,nd->ncd", errors, features.astype(np.float64)).reshape(len(errors), -1)
    taken, seen, distances = [], [np.zeros(gradients.shape[1])], {}
    while len(taken) < len(gradients):
        left = {i: min(np.linalg.norm(g - s) for s in seen) for i, g in enumerate(gradients) if i not in taken}
        best = max(left, key=lambda i: left[i])
        distances[best] = left[best]
        taken.append(best)
        seen.append(gradients[best])
    return taken, [distances[i] for i in range(len(taken))]


def test_diverse_is_farthest_first_over_the_last_layers_gradients():
    random = np.random.default_rng(0)
    logits, features = random.normal(size=(40, 5)) * 2, random.normal(size=(40, 7)).astype(np.float32)
    probabilities = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    found, (order, distances) = diverse(probabilities, features), by_definition(probabilities, features)
    assert found.order.tolist() == order
    assert found.measure == "distance"
    assert found.values == pytest.approx(distances, rel=1e-3)


def test_uncertain_may_name_one_thing_ten_times_where_diverse_names_one_of_each():
    things = np.eye(3, dtype=np.float32)
    features = np.repeat(things, 10, axis=0)
    sureness = np.repeat([0.51, 0.55, 0.6], 10).astype(np.float32)  # each thing ten times, the first least sure
    probabilities = np.stack([sureness, 1 - sureness], axis=1)
    assert {place // 10 for place in uncertain(probabilities).order[:3]} == {0}
    assert {place // 10 for place in diverse(probabilities, features).order[:3]} == {0, 1, 2}


def test_what_the_network_is_sure_of_and_what_it_has_seen_come_last():
    probabilities = as_probabilities([[1.0, 0.0], [0.6, 0.4], [0.6, 0.4], [0.4, 0.6]])
    features = np.array([[9, 9], [1, 0], [1, 0], [1, 0]], np.float32)
    found = diverse(probabilities, features)
    assert found.order.tolist()[:2] == [1, 3], "the second has the gradient of the first turned round"
    assert found.values[[0, 2]].tolist() == [0, 0], "nothing is learnt from the first, nor from the other's twin"


def test_beyond_those_held_against_all_others_the_farther_come_first():
    probabilities = np.tile(as_probabilities([[0.6, 0.4]]), (6, 1))
    features = np.array([[8], [1], [7], [4], [3], [6]], np.float32)
    found = diverse(probabilities, features, chosen=2)
    assert found.order.tolist()[:3] == [0, 3, 5], "8 is farthest from 0, 4 from both, and of the others 6 from 4 and 8"
    assert sorted(found.order.tolist()) == list(range(6))


def test_no_picture_is_no_ranking():
    nothing = np.zeros((0, 3), np.float32)
    assert uncertain(nothing).order.tolist() == diverse(nothing, nothing).order.tolist() == []
