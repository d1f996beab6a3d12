"""What an LR sweep's curve says, on curves whose answer is known."""

import numpy as np
import pytest

from trainer.stages import lr_picks

LRS = lr_picks.learning_rates(1e-5, 10, 121, "exponential")
LOG = np.log10(LRS)


def test_the_rates_are_exact_and_hit_both_ends():
    np.testing.assert_allclose(lr_picks.learning_rates(1e-5, 1e-1, 5, "exponential"), [1e-5, 1e-4, 1e-3, 1e-2, 1e-1])
    np.testing.assert_allclose(lr_picks.learning_rates(0.1, 0.5, 5, "linear"), [0.1, 0.2, 0.3, 0.4, 0.5])


def test_the_minimum_of_a_v_is_its_tip():
    losses = np.abs(LOG + 2)
    assert lr_picks.minimum(LRS, losses) == pytest.approx(1e-2)
    assert lr_picks.minimum_over_10(LRS, losses) == pytest.approx(1e-3)


def test_the_steepest_point_of_a_logistic_is_its_centre():
    losses = 2.3 / (1 + np.exp(3 * (LOG + 3)))
    assert lr_picks.steepest(LRS, losses) == pytest.approx(1e-3, rel=0.15)


def test_the_valley_lies_on_the_descent():
    losses = np.where(LOG < -4, 2.3, np.where(LOG < -1, 2.3 - 0.5 * (LOG + 4), 0.8 + 5 * (LOG + 1)))
    assert 10**-3.5 < lr_picks.valley(LRS, losses) < 10**-1.5


def test_the_smooth_does_not_move_a_symmetric_dip():
    losses = 2.0 - np.exp(-((LOG + 2) ** 2))
    smoothed = lr_picks.smooth(losses, 5.0)
    assert np.argmin(smoothed) == np.argmin(losses)


def test_the_smooth_keeps_a_constant_to_its_edges():
    np.testing.assert_allclose(lr_picks.smooth([2.0] * 30, 4.0), 2.0)


def test_a_constant_factor_moves_no_pick():
    losses = 2.3 / (1 + np.exp(3 * (LOG + 3))) + np.where(LOG > -0.5, 4 * (LOG + 0.5), 0)
    for rule in lr_picks.PICKS.values():
        assert rule(LRS, losses) == rule(LRS, 7 * losses)


def noisy(losses: np.ndarray, scale: float = 0.05) -> list[float]:
    return list(losses + np.random.default_rng(0).normal(0, scale, len(losses)))


@pytest.mark.parametrize(
    ("losses", "stopped", "word"),
    [
        (noisy(np.full(121, 2.3)), "end", "noise"),
        (noisy(2.3 + np.maximum(LOG + 5, 0)), "diverged", "only rises"),
        (noisy(2.3 - 0.3 * (LOG + 5)), "end", "still falls"),
        (noisy(np.full(12, 2.0)), "non-finite", "only 12 of 121"),
    ],
)
def test_a_curve_without_an_answer_is_inconclusive_and_says_what_to_try(losses, stopped, word):
    reason = lr_picks.why_inconclusive(losses, lr_picks.smooth(losses, 4.8), 121, stopped, 4.8)
    assert word in reason
    assert "lr_finder" in reason


@pytest.mark.parametrize(("points", "uncounted", "stopped"), [(5, 14, "end"), (0, 20, "end"), (6, 8, "diverged")])
def test_a_sweep_of_which_most_steps_count_nothing_says_so_and_not_that_the_loss_went_away(points, uncounted, stopped):
    losses = [2.0] * points
    reason = lr_picks.why_inconclusive(losses, lr_picks.smooth(losses, 0.8), 20, stopped, 0.8, uncounted)
    assert reason == (
        f"in {uncounted} of 20 steps no image counts, by its class's weight or as ignored, which leaves only {points} "
        "points; raise data.batch_size or train.accumulate, or take more lr_finder.steps"
    )


def test_a_descent_and_a_blow_up_are_an_answer():
    losses = noisy(np.where(LOG < -1, 2.3 - 0.4 * np.maximum(LOG + 4, 0), 1.1 + 3 * (LOG + 1)))
    assert lr_picks.why_inconclusive(losses, lr_picks.smooth(losses, 4.8), 121, "end", 4.8) == ""


def test_one_early_spike_is_no_descent():
    losses = noisy(np.full(121, 2.3), 0.02)
    losses[3] = 6.0
    assert "noise" in lr_picks.why_inconclusive(losses, lr_picks.smooth(losses, 4.8), 121, "end", 4.8)


NOISES = {  # of deviation 1
    "normal": lambda random, count: random.normal(size=count),
    "uniform": lambda random, count: random.uniform(-1, 1, count) * 3**0.5,
    "skewed": lambda random, count: (random.lognormal(0, 0.5, count) - np.exp(0.125)) / 0.604,
}


def answered(curve, count: int, curves: int) -> float:
    """Return the share of curves, `curve(random, count)`, that have an answer."""
    random, sigma = np.random.default_rng(count), 0.04 * count
    reasons = []
    for _ in range(curves):
        losses = list(curve(random, count))
        reasons.append(lr_picks.why_inconclusive(losses, lr_picks.smooth(losses, sigma), count, "end", sigma))
    return reasons.count("") / curves


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("count", [30, 60, 100, 391])
def test_less_than_one_in_a_hundred_flat_curves_has_an_answer(count, noise):
    assert answered(lambda random, n: 2.3 + 0.1 * NOISES[noise](random, n), count, 500) < 0.01


@pytest.mark.parametrize(("count", "deviations"), [(30, 5), (60, 4), (100, 3), (391, 2)])
def test_a_descent_of_a_few_deviations_of_noise_is_seen(count, deviations):
    """Flat, down, and the blow-up: 2.3 to 2.3 - `deviations` * 0.1."""

    def curve(random, n):
        place = np.linspace(0, 1, n)
        fallen = 0.1 * deviations * np.clip((place - 0.4) / 0.35, 0, 1)
        return 2.3 - fallen + 20 * np.maximum(place - 0.85, 0) + 0.1 * random.normal(size=n)

    assert answered(curve, count, 200) > 0.95
