"""What differences are worth: exact numbers, and no winner by luck."""

import math

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("optuna", reason="optuna is an extra: pip install 'recipe-trainer[search]'")

from trainer.search.study import Trial
from trainer.search.sweep import Goal
from trainer.search.verdict import Candidate, best_first, front, judged

ACCURACY, LOSS = Goal("val/accuracy", "best", "max"), Goal("val/loss", "final", "min")


def trial(number, *values, state="complete"):
    return Trial(number, number, state, values, (), {}, {}, 0.0, "", "")


def test_the_interval_of_a_lead_is_that_of_students_paired_test():
    one, other = np.random.default_rng(0).normal(size=(2, 6))
    first, second = (Candidate(n, dict(enumerate(each.tolist()))) for n, each in enumerate((one + 5, other)))
    lead = judged([first, second], ACCURACY).leads[0]
    expected = stats.ttest_rel(one + 5, other).confidence_interval(0.95)
    assert (lead.low, lead.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert lead.mean == pytest.approx((one + 5 - other).mean(), abs=1e-12)


def test_one_shared_seed_tells_nothing():
    verdict = judged([Candidate(0, {1: 0.9, 2: 0.9}), Candidate(1, {1: 0.5})], ACCURACY)
    assert (verdict.leads[0].low, verdict.leads[0].high, verdict.winner) == (-math.inf, math.inf, None)


def test_a_trial_that_fails_by_a_fresh_seed_stands_behind_those_that_do_not_and_wins_nothing():
    failing = Candidate(3, {1: 0.97, 2: 0.969}, failed=(3,))
    steady = Candidate(5, {1: 0.96, 2: 0.9592, 3: 0.961})
    verdict = judged([failing, steady], ACCURACY)
    assert verdict.leader.number == 5
    assert "Trial 3 came to no end by seed 3: it stands behind those that did." in verdict.text(ACCURACY)
    alone = judged([failing, Candidate(5, {3: 0.9}, failed=(1, 2))], ACCURACY)
    assert alone.winner is None
    assert "what no seed that both have can tell" in alone.text(ACCURACY)
    assert "nan" not in alone.text(ACCURACY)
    assert "by seeds 1, 2" in alone.text(ACCURACY)


def test_a_winner_is_named_where_the_interval_excludes_zero():
    better = Candidate(4, {1: 0.91, 2: 0.92, 3: 0.93})
    worse = Candidate(2, {1: 0.81, 2: 0.821, 3: 0.829})
    verdict = judged([worse, better], ACCURACY)
    assert verdict.winner == 4
    assert verdict.text(ACCURACY).startswith(
        "Trial 4 is the winner: val/accuracy 92.00 % on average over 3 fresh seeds"
    )
    assert "ahead of trial 2 by 10.00 points (95 % interval " in verdict.text(ACCURACY)


def test_no_winner_is_named_where_luck_may_explain_the_lead():
    verdict = judged([Candidate(0, {1: 0.90, 2: 0.92}), Candidate(1, {1: 0.91, 2: 0.90})], ACCURACY)
    assert (verdict.winner, verdict.leader.number) == (None, 0)
    assert verdict.text(ACCURACY).startswith("No difference that 2 seeds can show between trial 0 and trial 1")


def test_a_lead_that_is_the_same_by_each_seed_has_no_interval_and_names_no_winner():
    verdict = judged([Candidate(0, {1: 0.9, 2: 0.8}), Candidate(1, {1: 0.5, 2: 0.4})], ACCURACY)
    assert (verdict.leads[0].low, verdict.winner) == (-math.inf, None)
    assert verdict.text(ACCURACY).endswith("ahead of trial 1 by 40.00 points (no interval: by each seed the same).")


def test_less_is_better_where_the_metric_says_so():
    assert judged([Candidate(0, {1: 2.0, 2: 2.1}), Candidate(1, {1: 1.0, 2: 1.1})], LOSS).leader.number == 1


def test_with_more_candidates_each_interval_is_wider():
    first = Candidate(0, {1: 0.9, 2: 0.91, 3: 0.92})
    others = [Candidate(number, {1: 0.8, 2: 0.83, 3: 0.82}) for number in (1, 2)]
    alone, together = judged([first, others[0]], ACCURACY), judged([first, *others], ACCURACY)
    assert together.leads[0].low < alone.leads[0].low


def test_of_equal_candidates_a_winner_is_seldom_named():
    draw, named = np.random.default_rng(1), 0
    for _ in range(400):
        candidates = [Candidate(n, dict(enumerate(draw.normal(0.9, 0.01, 3).tolist()))) for n in range(3)]
        named += judged(candidates, ACCURACY).winner is not None
    assert named / 400 < 0.05


def test_ties_go_to_the_earlier_trial_and_only_complete_ones_count():
    trials = [trial(0, 0.5), trial(1, 0.7), trial(2, 0.7), trial(3, 0.9, state="pruned")]
    assert [each.number for each in best_first(trials, [ACCURACY])] == [1, 2, 0]


def test_the_front_holds_what_no_other_beats():
    goals = [ACCURACY, Goal("parameters", "best", "min")]
    trials = [trial(0, 0.9, 100.0), trial(1, 0.8, 10.0), trial(2, 0.8, 20.0), trial(3, 0.7, 10.0)]
    assert [each.number for each in front(trials, goals)] == [0, 1]
