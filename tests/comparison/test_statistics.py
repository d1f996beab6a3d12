"""Statistics of comparisons: the values of statsmodels and SciPy, and the coverage that an interval promises.

The values stand here as statsmodels 0.15.0 gave them, so that nobody needs it.
"""

import numpy as np
import pytest

from registry.reports.scores import interval as wilson
from trainer.comparison.statistics import holm, mcnemar, of_mean, optimism, paired_bootstrap, welch


def exactly(value):
    return pytest.approx(value, rel=1e-12, abs=1e-12)


def answers(both: int, one: int, other: int, none: int) -> tuple[np.ndarray, np.ndarray]:
    """Return whether each of two answered rightly: both, only the one, only the other, none."""
    counts = [both, one, other, none]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [
        (9300, 10000, 0.924832325522095, 0.934837435879123),
        (187, 200, 0.891980920700931, 0.9616236453508471),
        (1, 3, 0.06149194472039626, 0.7923403991979523),
        (0, 20, 0.0, 0.1611251580528194),
        (20, 20, 0.8388748419471804, 1.0),
    ],
)
def test_the_interval_of_a_share_is_wilsons(hits, count, low, high):
    assert wilson(hits / count, count) == (exactly(low), exactly(high))


@pytest.mark.parametrize(
    ("one", "other", "p"),
    [(12, 5, 0.143463134765625), (1, 9, 0.021484375), (160, 152, 0.6919521472571655), (40, 40, 1.0), (0, 0, 1.0)],
)
def test_mcnemars_test_is_exact_and_counts_only_what_one_of_both_knows(one, other, p):
    for both, none in ((50, 30), (0, 0)):
        assert mcnemar(*answers(both, one, other, none)) == exactly(p)


@pytest.mark.parametrize(
    ("values", "corrected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.6, 0.2], [1.0, 1.0, 0.6]),
        ([0.03, 0.03, 1.0], [0.09, 0.09, 1.0]),
        ([0.02], [0.02]),
        ([], []),
    ],
)
def test_several_p_values_are_corrected_by_holm(values, corrected):
    assert holm(values) == exactly(corrected)


A, B = [0.931, 0.935, 0.929], [0.925, 0.921, 0.9275, 0.924]


def test_groups_of_seeds_are_compared_by_welch():
    found = welch(A, B)
    assert found.p == exactly(0.029396214521015172)
    assert (found.interval.low, found.interval.high) == (exactly(0.0011818609939603826), exactly(0.013401472339372788))
    assert welch([0.5, 0.5], [0.6, 0.6]) is None, "nothing varies, so nothing can be tested"


def test_the_interval_of_a_mean_over_seeds_is_students():
    for values, low, high in ((A, 0.9240775005994731, 0.9392558327338602), (B, 0.9200966608577781, 0.928653339142222)):
        found = of_mean(values)
        assert (found.low, found.high) == (exactly(low), exactly(high))


def test_values_that_are_the_same_up_to_rounding_give_their_mean_no_interval():
    assert of_mean([0.15, 0.15]) is None
    assert of_mean([0.9 - 0.5, 0.8 - 0.4, 0.7 - 0.3]) is None
    assert of_mean([0.15, 0.151]) is not None


def test_the_bootstrap_is_that_of_drawing_images():
    one, other = answers(700, 90, 50, 160)
    found = paired_bootstrap(one.astype(float), other.astype(float))
    difference, draw = one.astype(float) - other, np.random.default_rng(3)
    drawn = [difference[draw.integers(0, 1000, 1000)].mean() for _ in range(4000)]
    assert found.low == pytest.approx(np.quantile(drawn, 0.025), abs=0.003)
    assert found.high == pytest.approx(np.quantile(drawn, 0.975), abs=0.003)
    again = paired_bootstrap(one.astype(float), other.astype(float))
    assert again == found, "seeded"
    assert (
        len({paired_bootstrap(one.astype(float), other.astype(float), seed=seed, draws=200) for seed in range(9)}) > 1
    )


def test_the_bootstraps_interval_holds_the_truth_of_95_pairs_in_100():
    draw = np.random.default_rng(1)
    held = 0
    for seed in range(1000):
        hard, own = draw.random(1000), draw.random(1000)
        other = np.where(draw.random(1000) < 0.5, hard, own)  # half of the images are as hard for both
        right, less = (hard < 0.9).astype(float), (other < 0.88).astype(float)
        found = paired_bootstrap(right, less, seed=seed, draws=2000)
        held += found.holds(0.02)
    assert 0.94 <= held / 1000 <= 0.96


def test_the_best_of_several_looks_is_too_good_and_a_clear_winner_is_not():
    alike, clear = optimism([0.9] * 8, 1000), optimism([0.9] + [0.5] * 7, 1000)
    expected = 1.4236 * (0.9 * 0.1 / 1000) ** 0.5  # the mean of the greatest of eight normal numbers
    assert alike == pytest.approx(expected, rel=0.03)
    assert clear < 0.0002
    assert optimism([0.9] * 2, 1000) < alike
    assert optimism([0.9] * 8, 100_000) < 0.11 * alike
