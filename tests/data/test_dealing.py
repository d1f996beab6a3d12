"""Dealing images to sides: groups stay whole, no side is empty, and shares come near to what was asked for."""

import numpy as np
import pytest

from registry.contracts import DataFacts
from registry.datasets.source import PackedSource
from registry.errors import DataError
from trainer.data.dealing import deal, deal_groups
from trainer.data.splits import open_data
from trainer.recipe.recipe import Data, Fraction


def random_table(generator):
    """Return the classes and the groups of a made-up table, its groups numbered without gaps."""
    images = int(generator.integers(2, 40))
    classes = generator.integers(0, generator.integers(1, 5), images)
    groups = np.unique(generator.integers(0, generator.integers(1, 12), images), return_inverse=True)[1]
    return classes, groups.reshape(-1)


def test_no_group_is_on_two_sides_and_no_side_is_empty_in_10000_random_tables():
    generator = np.random.default_rng(0)
    dealt = 0
    for number in range(10_000):
        classes, groups = random_table(generator)
        sides = 2 if number % 2 else int(generator.integers(2, 6))
        if groups.max() + 1 < sides:
            continue
        share = float(generator.uniform(0.05, 0.95))
        shares = (share, 1 - share) if sides == 2 else (1 / sides,) * sides
        side = deal_groups(classes, groups, shares, np.random.default_rng(number))
        first = np.full(groups.max() + 1, -1)
        first[groups] = side
        assert np.array_equal(first[groups], side), (classes, groups)
        assert len(np.unique(side)) == sides, (classes, groups)
        dealt += 1
    assert dealt > 8_000


def test_shares_and_classes_of_groups_come_near_to_what_was_asked_for():
    for seed in range(20):
        generator = np.random.default_rng(seed)
        groups = np.repeat(np.arange(200), generator.integers(1, 12, 200))
        classes = np.repeat(generator.integers(0, 3, 200), np.bincount(groups))  # a patient is ill or well
        chosen = deal_groups(classes, groups, (0.2, 0.8), generator) == 0
        assert abs(chosen.mean() - 0.2) < 0.01
        for label in range(3):
            assert abs(chosen[classes == label].mean() - 0.2) < 0.03
        folds = np.bincount(deal_groups(classes, groups, (0.2,) * 5, generator))
        assert folds.max() - folds.min() <= 0.02 * len(groups)


def test_a_class_that_is_one_group_is_learnt_from():
    for seed in range(50):
        generator = np.random.default_rng(seed)
        groups = np.concatenate([np.repeat(np.arange(20), 5), np.full(5, 20)])
        classes = (groups == 20).astype(np.int64)
        assert (deal_groups(classes, groups, (0.2, 0.8), generator)[classes == 1] == 1).all()


def test_another_seed_draws_other_groups_and_the_same_the_same():
    groups, classes = np.arange(100) // 4, np.zeros(100, dtype=np.int64)
    first, again, other = (deal_groups(classes, groups, (0.2, 0.8), np.random.default_rng(s)) for s in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("counts", [[60, 30, 10], [7, 5, 3], [100, 1, 1], [13] * 7])
def test_folds_of_images_differ_by_one_at_most_in_all_and_in_each_class(counts):
    classes = np.repeat(np.arange(len(counts)), counts)
    for sides in (2, 3, 5):
        fold = deal(classes, sides, np.random.default_rng(1))
        assert np.ptp(np.bincount(fold, minlength=sides)) <= 1
        for label in range(len(counts)):
            assert np.ptp(np.bincount(fold[classes == label], minlength=sides)) <= 1


# ---------------------------------------------------------------------------------------------------------- of a recipe
class Grouped(PackedSource):
    """A split in memory with a column beside it."""

    def __init__(self, targets, column, group=""):
        targets = np.array(targets, dtype=np.int64)
        super().__init__("made", np.zeros((len(targets), 2, 2, 3), dtype=np.uint8), targets, ("a", "b"))
        self._column, self.group = column, group

    def column(self, name):
        if name != "who":
            raise DataError(f"there is no column {name!r}")
        return self._column


def loaded(source, val):
    log = []
    data = open_data(
        Data(dataset=None, val=val), lambda _: source, DataFacts(splits={"train": None}), seed=1, log=log.append
    )
    return data, log


WHO = [f"p{number // 5}" for number in range(40)]
TARGETS = [number // 5 % 2 for number in range(40)]


def test_a_datasets_own_group_holds_for_every_share_and_the_recipes_goes_before_it():
    default, log = loaded(Grouped(TARGETS, WHO, group="who"), None)
    assert {WHO[index] for index in default.val.indices} & {WHO[index] for index in default.train.indices} == set()
    assert log[0] == "validation: 5 of 40 training images (0.1, whole groups of who, seed 0)"
    with pytest.raises(DataError, match="there is no column 'what'"):
        loaded(Grouped(TARGETS, WHO, group="who"), Fraction(0.1, group="what"))


def test_images_of_no_group_stand_for_themselves():
    data, _ = loaded(Grouped(TARGETS, [""] * 40), Fraction(0.25, group="who"))
    assert len(data.val) == 10


def test_folds_of_groups_cover_every_image_once_and_divide_none():
    source, seen = Grouped(TARGETS, WHO), []
    for fold in range(4):
        data, _ = loaded(source, Fraction(folds=4, fold=fold, group="who"))
        held = data.val.indices.tolist()
        assert {WHO[index] for index in held} & {WHO[index] for index in data.train.indices} == set()
        assert sorted(TARGETS[index] for index in held) == [0] * 5 + [1] * 5
        seen += held
    assert sorted(seen) == list(range(40))


def test_groups_that_cannot_be_divided_are_refused_with_their_number():
    with pytest.raises(
        DataError, match=r"data\.val: a share of whole groups cannot be had: all training images are of"
    ):
        loaded(Grouped(TARGETS, ["p1"] * 40), Fraction(0.25, group="who"))
    with pytest.raises(
        DataError, match=r"data\.val\.folds: 10 folds of whole groups cannot be had: there are 8 groups"
    ):
        loaded(Grouped(TARGETS, WHO), Fraction(folds=10, fold=0, group="who"))


def test_a_dataset_without_columns_has_no_groups():
    made = PackedSource("made", np.zeros((40, 2, 2, 3), dtype=np.uint8), np.array(TARGETS), ("a", "b"))
    with pytest.raises(
        DataError, match=r"data\.val\.group: the dataset has no column 'who': its images stand in no table"
    ):
        loaded(made, Fraction(0.25, group="who"))
