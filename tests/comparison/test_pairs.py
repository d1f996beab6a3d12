"""What a distance is worth: the same images, in one order, in numbers and in a sentence."""

from dataclasses import replace

import numpy as np
import pytest
from made_runs import run

from trainer.comparison.cautions import cautions
from trainer.comparison.pairs import MCNEMAR, WELCH, pairs_of
from trainer.comparison.rows import compared, interval, interval_text
from trainer.comparison.runs import Images
from trainer.comparison.statistics import mcnemar, of_mean
from trainer.run.predictions import Answers

LR = "optimizer.lr"


def answers(right, *, keys=None, split="test", keyed_by="pixels") -> Answers:
    """Answers to images of one class, of which some are right."""
    right = np.asarray(right, bool)
    keys = np.arange(len(right)) if keys is None else np.asarray(keys)
    targets = np.zeros(len(right), np.int64)
    return Answers(split, keyed_by, ("cat", "dog"), keys.astype(np.int64), targets, np.where(right, 0, 1))


def known(both: int, only: int, none: int, *, shift: int = 0) -> np.ndarray:
    """Return what one of two knows: `both` images, and `only` others behind `shift`."""
    right = np.zeros(both + none, bool)
    right[:both] = True
    right[both + shift : both + shift + only] = True
    return right


def made(one: Answers | None, other: Answers | None, **more):
    runs = [run("a", 0.9, {LR: 0.1}, answers=one, **more), run("b", 0.8, {LR: 0.2}, answers=other, **more)]
    return compared(runs)


def test_the_sentence_says_which_is_better_by_how_much_and_on_how_many_images_they_differ():
    (pair,) = pairs_of(made(answers(known(700, 60, 300)), answers(known(700, 20, 300, shift=100))))
    assert (pair.images, pair.apart, pair.test) == (1000, 80, MCNEMAR)
    assert pair.difference == pytest.approx(0.04)
    assert pair.interval.low > 0
    assert pair.corrected == pair.p
    said = pair.sentence()
    assert said.startswith("lr 0.1 is better than lr 0.2 by 4.00 points of test accuracy (95 % interval 2.")
    assert "; of 1,000 images they differ on 80 (McNemar's exact test: p " in said


def test_what_the_images_cannot_show_is_no_difference():
    (pair,) = pairs_of(made(answers(known(700, 12, 300)), answers(known(700, 10, 300, shift=100))))
    assert not pair.shows
    assert pair.sentence().startswith("No difference between lr 0.1 and lr 0.2 that 1,000 test images can show: +0.20")
    (turned,) = pairs_of(made(answers(known(700, 10, 300)), answers(known(700, 12, 300, shift=100))))
    assert ": -0.20 points of test accuracy (95 % interval -1.10 to +0.70)" in turned.sentence()


def test_the_first_by_validation_may_be_the_worse_on_test():
    (pair,) = pairs_of(made(answers(known(700, 0, 300)), answers(known(700, 60, 300))))
    assert pair.sentence().startswith("lr 0.1 is worse than lr 0.2 by 6.00 points of test accuracy (95 % interval 4.")


def test_images_are_matched_by_their_keys_in_whatever_order_they_were_answered():
    right = known(5, 3, 10)
    order = np.random.default_rng(0).permutation(len(right))
    (pair,) = pairs_of(made(answers(right), answers(right[order], keys=order)))
    assert (pair.apart, pair.difference) == (0, 0.0)
    assert pair.p == 1.0
    assert pair.sentence() == "lr 0.1 and lr 0.2 answer the same images rightly, of 15 test images"


@pytest.mark.parametrize(
    "other",
    [
        None,
        answers(known(5, 0, 5), keys=range(1, 11)),
        answers(known(5, 0, 5), split="val"),
        answers(known(5, 0, 5), keyed_by="places"),
        answers(known(5, 0, 6)),
    ],
)
def test_answers_to_other_images_are_not_held_against_each_other(other):
    assert pairs_of(made(answers(known(5, 0, 5)), other)) == []


def test_more_than_two_rows_are_corrected_by_holm():
    runs = [
        run(str(n), 0.9 - n / 100, {LR: n}, answers=answers(known(700, 40 - 10 * n, 300, shift=70 * n)))
        for n in range(4)
    ]
    pairs = pairs_of(compared(runs))
    assert len(pairs) == 3
    assert all(pair.corrected >= pair.p for pair in pairs)
    assert max(pair.corrected / pair.p for pair in pairs) == pytest.approx(3)
    assert any("corrected for several comparisons" in pair.sentence() for pair in pairs)


def test_rows_over_seeds_are_compared_by_welch_over_the_seeds():
    runs = [
        run(f"{lr}{seed}", share, {LR: lr}, seed=seed, answers=answers(np.arange(1000) < 1000 * share))
        for lr, shares in ((0.1, (0.603, 0.606, 0.609)), (0.2, (0.503, 0.506, 0.509)))
        for seed, share in enumerate(shares)
    ]
    (pair,) = pairs_of(compared(runs))
    assert (pair.test, pair.apart) == (f"{WELCH} over seeds", None)
    assert pair.difference == pytest.approx(0.1)
    assert pair.p < 0.001
    assert pair.sentence().startswith("lr 0.1 is better than lr 0.2 by 10.00 points")


def test_few_seeds_that_spread_show_no_difference_whatever_the_images_say():
    shares = {("0.1", 1): 900, ("0.1", 2): 700, ("0.2", 1): 760, ("0.2", 2): 740}
    runs = [
        run(f"{lr}{seed}", float(count) / 1000, {LR: float(lr)}, seed=seed, answers=answers(np.arange(1000) < count))
        for (lr, seed), count in shares.items()
    ]
    (pair,) = pairs_of(compared(runs))
    assert pair.interval.low > 0
    assert pair.sentence().startswith(
        "No difference between lr 0.1 and lr 0.2 that 2 and 2 seeds can show: +5.00 points"
    )


@pytest.mark.parametrize(
    "shares",
    [{"0.1": [940], "0.2": [945, 900, 840]}, {"0.1": [930, 930], "0.2": [900, 900]}],
    ids=["one against three", "two alike against two"],
)
def test_where_no_test_over_the_seeds_is_possible_nothing_is_better(shares):
    runs = [
        run(
            f"{lr}{seed}",
            count / 1000 + seed / 10_000,
            {LR: float(lr)},
            seed=seed,
            answers=answers(np.roll(np.arange(1000) < count, seed)),
        )
        for lr, counts in shares.items()
        for seed, count in enumerate(counts)
    ]
    (pair,) = pairs_of(compared(runs))
    assert pair.interval.low > 0
    assert not pair.shows
    assert pair.sentence().startswith("No difference between lr 0.1 and lr 0.2 that")
    assert "no test over them" in pair.sentence()


# --------------------------------------------------------------------------------------------------------------- folds
FOLDS = {"data.val.folds": 5}
EVERY = 200  # pictures a fold is measured on


def folds(name: str, lr: float, right, *, seed: int = 1, only=range(5), split: str = "val"):
    """Return a run per fold, of which `right` holds what each answers of its own pictures, or all of the same ones."""
    return [
        run(
            f"{name}{fold}s{seed}",
            float(right[fold].mean()),
            {**FOLDS, "data.val.fold": fold, LR: lr, "seed": seed},
            seed=seed,
            images=images_of(fold),
            answers=answers(right[fold], keys=np.arange(EVERY) + EVERY * fold * (split == "val"), split=split),
        )
        for fold in only
    ]


def images_of(fold: int) -> Images:
    """Return what a checkpoint of a fold tells: parts of its own, of one split."""
    prints = {
        "train": {"used": f"t{fold}", "pixels": f"t{fold}"},
        "val": {"used": f"v{fold}", "pixels": f"v{fold}"},
        "whole": {"used": "w", "pixels": "w"},
    }
    return Images(("cat", "dog"), (400 - fold, 400 + fold), prints)


def drawn(share: float, seed: int) -> np.ndarray:
    """Return what each fold answers rightly, bool (5, EVERY)."""
    return np.random.default_rng(seed).random((5, EVERY)) < share


def test_folds_of_one_recipe_are_one_row_and_their_pictures_are_all_pictures():
    one, two = drawn(0.8, 0), drawn(0.7, 1)
    comparison = compared([*folds("a", 0.1, one), *folds("b", 0.2, two)])
    assert [(row.name, row.many, row.delta is None) for row in comparison.rows] == [
        ("lr 0.1", "5 folds", True),
        ("lr 0.2", "5 folds", False),
    ]
    assert [each.key for each in comparison.differences] == [LR]
    (pair,) = pairs_of(comparison)
    assert (pair.images, pair.split, pair.runs, pair.test) == (5 * EVERY, "val", (1, 1), MCNEMAR)
    assert pair.difference == pytest.approx(one.mean() - two.mean())
    assert pair.p == pytest.approx(mcnemar(one.ravel(), two.ravel()))
    assert comparison.rows[0].numbers["best/val_accuracy"].deviation == pytest.approx(one.mean(axis=1).std(ddof=1))


def test_folds_that_were_run_by_several_seeds_are_tested_over_the_seeds():
    runs = [
        each
        for name, lr, share in (("a", 0.1, 0.8), ("b", 0.2, 0.7))
        for seed in (1, 2, 3)
        for each in folds(name, lr, drawn(share, int(10 * lr) + 10 * seed), seed=seed)
    ]
    comparison = compared(runs)
    assert [row.many for row in comparison.rows] == ["15 runs (3 seeds, 5 folds)"] * 2
    (pair,) = pairs_of(comparison)
    assert (pair.images, pair.runs, pair.test) == (5 * EVERY, (3, 3), f"{WELCH} over seeds")
    number, best = "best/val_accuracy", comparison.rows[0]
    by_fold = [np.mean([each.numbers[number] for each in runs]) for runs in best.by_fold.values()]
    assert interval(best, number).low == pytest.approx(of_mean(by_fold).low), "each fold counts once"


def test_folds_that_were_measured_on_one_held_out_split_are_tested_over_the_folds():
    one, two = drawn(0.8, 0), drawn(0.7, 1)
    (pair,) = pairs_of(compared([*folds("a", 0.1, one, split="test"), *folds("b", 0.2, two, split="test")]))
    assert (pair.images, pair.runs, pair.test) == (EVERY, (5, 5), f"{WELCH} over folds")


def test_rows_of_other_folds_have_no_distance_and_what_a_row_lacks_is_said():
    one, two = drawn(0.8, 0), drawn(0.7, 1)
    comparison = compared([*folds("a", 0.1, one), *folds("b", 0.2, two, only=(0, 1, 3))])
    assert [row.delta for row in comparison.rows] == [None, None]
    assert pairs_of(comparison) == []
    said = cautions(comparison)
    assert "#2 (lr 0.2) has no finished run of fold 2, 4: its means lack it" in said
    assert any(text.startswith("Folds share most of the pictures they learn from") for text in said)


def test_a_seed_that_did_not_run_on_every_fold_is_said_and_no_test_is_made():
    one, two = drawn(0.8, 0), drawn(0.7, 1)
    comparison = compared([*folds("a", 0.1, one), *folds("a", 0.1, one, seed=2, only=(0, 1)), *folds("b", 0.2, two)])
    assert pairs_of(comparison) == []
    assert any("#1 (lr 0.1) was not run by the same seeds on every fold" in text for text in cautions(comparison))


def test_folds_of_other_pictures_are_no_folds_of_one_row():
    others = [
        replace(each, images=replace(each.images, prints={**each.images.prints, "whole": {"used": "x", "pixels": "x"}}))
        for each in folds("b", 0.1, drawn(0.7, 1), only=(3, 4))
    ]
    comparison = compared([*folds("a", 0.1, drawn(0.8, 0), only=(0, 1, 2)), *others])
    assert sorted(len(row.runs) for row in comparison.rows) == [2, 3]


def test_the_same_fold_again_counts_once():
    comparison = compared([*folds("a", 0.1, drawn(0.8, 0)), *folds("b", 0.1, drawn(0.7, 1), only=(2,))])
    assert sorted(row.title for row in comparison.rows) == ["tiny", "tiny (seed 1, fold 2 again)"]
    assert "tiny/b2s1 has seed and fold of tiny/a2s1: no second run" in cautions(comparison)


def test_the_best_of_several_looks_counts_the_pictures_of_all_folds():
    def reached(each, images):
        share = {0.1: 0.80, 0.2: 0.79}[each.settings[LR]]
        return replace(each, summary={**each.summary, "images": {"val": images}, "best": {"val/accuracy": share}})

    all_right = np.full((5, EVERY), True)
    single = [reached(run(name, 0.0, {LR: lr}), 5 * EVERY) for name, lr in (("a", 0.1), ("b", 0.2))]
    parts = [reached(each, EVERY) for name, lr in (("a", 0.1), ("b", 0.2)) for each in folds(name, lr, all_right)]
    one, several = ([text for text in cautions(compared(runs)) if "looks at" in text] for runs in (single, parts))
    assert one == several
    assert "The best of 2 looks at 1,000 val images" in one[0]


# -------------------------------------------------------------------------------------------------- intervals, optimism
def test_an_accuracy_of_one_run_has_wilsons_interval_and_a_mean_over_seeds_students():
    images = {"images": {"val": 200}}
    single, *_ = compared([run("a", 0.9, {LR: 0.1}, summary=images), run("b", 0.8, {LR: 0.2}, summary=images)]).rows
    assert interval_text("best/val_accuracy", interval(single, "best/val_accuracy")) == "85.1 to 93.4 %"
    assert interval(single, "best/val_loss") is None, "it is no share of images"
    (row,) = compared([run("a", 0.9, summary=images), run("b", 0.92, seed=2, summary=images)]).rows
    found = interval(row, "best/val_accuracy")
    assert (found.low, found.high) == (pytest.approx(0.91 - 12.7062 * 0.01, abs=1e-5), 1.0)


def test_seeds_that_reached_the_same_have_no_interval_of_no_width():
    summaries = [{"images": {"val": 200}, "seconds": seconds} for seconds in (8, 9)]
    runs = [run(str(seed), 0.15, seed=seed, summary=summary) for seed, summary in enumerate(summaries)]
    (row,) = compared(runs).rows
    assert len(row.runs) == 2
    assert interval(row, "best/val_accuracy") is None


def test_seeds_that_answer_alike_on_every_image_have_no_interval_of_no_width():
    by_seed = {1: answers(np.arange(100) < 60), 2: answers(np.arange(100) >= 40)}
    runs = [
        run(f"{lr}{seed}", 0.6, {LR: lr}, seed=seed, summary={"seconds": seed}, answers=right)
        for lr in (0.1, 0.2)
        for seed, right in by_seed.items()
    ]
    (pair,) = pairs_of(compared(runs))
    assert pair.sentence() == "lr 0.1 and lr 0.2 answer each of 100 test images rightly equally often"


def test_where_no_predictions_were_kept_it_is_said_that_no_distance_can_be_judged():
    assert any("No run has kept its predictions" in text for text in cautions(made(None, None)))
    both = answers(known(5, 0, 5))
    assert any(text.startswith("#2 (lr 0.2): without kept predictions") for text in cautions(made(both, None)))
    assert not any("predictions" in text for text in cautions(made(both, both)))


def test_the_best_of_many_looks_is_warned_of_with_what_it_is_expected_to_be_too_high_by():
    images = {"images": {"val": 200, "test": 200}, "test": {"best": {"accuracy": 0.88}}}
    runs = [run(str(n), 0.9, {LR: n / 10}, summary=images) for n in range(1, 9)]
    (text,) = [text for text in cautions(compared(runs)) if "looks" in text]
    assert "The best of 8 looks at 200 val images" in text
    assert "too high by up to 2.9" in text
    assert "report its test accuracy" in text
    (text, other) = [text for text in cautions(compared(runs, "test/accuracy")) if "looks" in text]
    assert "looks at 200 test images" in other
    clear = [run(str(n), 0.99 - 0.2 * n, {LR: n / 10}, summary=images) for n in range(4)]
    assert not any("looks" in text for text in cautions(compared(clear)))
