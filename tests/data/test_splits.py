"""Splits: which images serve for what, and what follows from the training part."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from registry.contracts import DataFacts
from registry.datasets.folder import ImageFolder
from registry.datasets.shapes import Shapes
from registry.datasets.source import MissingSplit, PackedSource
from registry.errors import DataError
from trainer.data import splits
from trainer.data.fingerprint import fingerprint, same
from trainer.data.splits import by_class, draw_share, open_data
from trainer.recipe.recipe import Data, Fraction


def section(**values):
    return Data(dataset=None, **values)


def source(targets, names=("a", "b", "c"), name="made", seed=0, channels=3):
    targets = np.array(targets, dtype=np.int64)
    images = np.random.default_rng(seed).integers(0, 256, (len(targets), 5, 4, channels), dtype=np.uint8)
    return PackedSource(name, images, targets, names)


def loaded(sources, log=None, facts=None, seed=1, **values):
    """Open made splits; a split that is None is declared and missing."""

    def open_split(name):
        if sources.get(name) is None:
            raise MissingSplit(f"no split {name}")
        return sources[name]

    facts = facts or DataFacts(splits=dict.fromkeys(sources))
    log = log if log is not None else []
    return open_data(section(**values), open_split, facts, seed=seed, log=log.append)


def test_a_column_that_takes_the_place_of_the_datasets_own_groups_is_warned_of():
    grouped = source(TRAIN)
    grouped.group, grouped.column = "patient", lambda name: [f"{name} {number // 2}" for number in range(100)]
    for column, warned in (("scan", True), ("patient", False), ("", False)):
        said = []
        loaded({"train": grouped}, said, val=Fraction(fraction=0.2, group=column or None))
        assert any("'scan' takes the place of the dataset's own, 'patient'" in line for line in said) is warned


TRAIN = [0] * 60 + [1] * 30 + [2] * 10


# -------------------------------------------------------------------------------------------------------------- rules
def test_a_test_split_without_labels_does_not_keep_a_network_from_learning(tmp_path):
    for number in range(8):
        path = tmp_path / "train" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((5, 4, 3), number, np.uint8)).save(path)
    (tmp_path / "test").mkdir()
    Image.fromarray(np.zeros((5, 4, 3), np.uint8)).save(tmp_path / "test" / "0.png")
    said = []
    facts = DataFacts(splits={"train": None, "test": None})
    open_split = partial(ImageFolder, str(tmp_path), download=False)
    data = open_data(section(), lambda name: open_split(split=name), facts, seed=1, log=said.append)
    assert (len(data.train) + len(data.val), data.test) == (8, None)
    assert f"warning: ImageFolder has no split 'test': {tmp_path / 'test'} has no class folders" in "".join(said)


def test_without_val_the_val_split_is_taken():
    data = loaded({"train": source(TRAIN), "val": source([0, 1, 2]), "test": source([2, 2])})
    assert [(part.name, part.dataset_split, len(part)) for part in (data.train, data.val, data.test)] == [
        ("train", "train", 100),
        ("val", "val", 3),
        ("test", "test", 2),
    ]
    assert data.selected_on == "val"


@pytest.mark.parametrize("splits", [{"train": source(TRAIN)}, {"train": source(TRAIN), "val": None, "test": None}])
def test_without_a_val_split_a_tenth_of_train_is_taken_and_the_log_says_so(splits):
    log = []
    data = loaded(splits, log)
    assert (len(data.train), len(data.val), data.test) == (90, 10, None)
    assert data.val.dataset_split == "train"
    assert data.train.store is data.val.store
    assert sorted([*data.train.indices.tolist(), *data.val.indices.tolist()]) == list(range(100))
    assert log == ["validation: 10 of 100 training images (0.1, seed 0)"]


def test_val_test_leaves_no_test_part_and_says_what_selects():
    data = loaded({"train": source(TRAIN), "test": source([0, 1])}, val="test")
    assert (len(data.train), len(data.val), data.test) == (100, 2, None)
    assert data.selected_on == "test"


def test_a_share_keeps_the_test_split_and_passes_the_val_split_over():
    data = loaded(
        {"train": source(TRAIN), "val": source([0]), "test": source([1])}, val=Fraction(0.2, seed=3, stratify=False)
    )
    assert (len(data.train), len(data.val), len(data.test)) == (80, 20, 1)


class HeldOut(PackedSource):
    """A training split that knows how many images its dataset holds out itself."""

    def count_of(self, split):
        return {"val": 1200}.get(split, 0)


@pytest.mark.parametrize(
    ("val", "said"), [(Fraction(0.2), 1), (Fraction(folds=2, fold=0), 1), ("test", 1), ("val", 0), (None, 0)]
)
def test_images_that_the_reader_holds_out_and_nobody_uses_are_a_warning(val, said):
    log, made = [], source([0, 1] * 10)
    train = HeldOut("made", made.packed(), made.targets, made.class_names)
    loaded({"train": train, "val": source([0]), "test": source([1])}, log, val=val)
    assert [line for line in log if line.startswith("warning: ")] == [
        "warning: 1,200 images are in the dataset's own split val and not used, since data.val says otherwise; "
        "without data.val they choose the best epoch"
    ] * said


def test_channels_size_and_names_are_those_of_the_images():
    data = loaded({"train": source(TRAIN, channels=1)})
    assert (data.channels, data.image_size, data.class_names, data.num_classes) == (1, (5, 4), ("a", "b", "c"), 3)


# -------------------------------------------------------------------------------------------------------------- shares
def test_a_stratified_share_is_exact_in_total_and_by_class():
    for counts in ([60, 30, 10], [7, 5, 3], [100, 1, 1], [13] * 7):
        targets = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        for fraction in (0.1, 0.25, 1 / 3, 0.5):
            chosen = draw_share(targets, Fraction(fraction))
            wanted = round(len(targets) * fraction)
            assert chosen.sum() == wanted
            for label, count in enumerate(counts):
                assert abs(int(chosen[targets == label].sum()) - count * wanted / len(targets)) < 1


def test_a_class_of_one_image_stays_in_training_and_is_said_to_be_missing_in_validation():
    names = tuple("abcdefghijk")
    log = []
    data = loaded({"train": source([0] * 101 + list(range(1, 11)), names=names)}, log, val=Fraction(0.1))
    assert data.train.targets.unique().tolist() == list(range(11))
    assert len(data.val) == 11
    assert log[-1] == "val has no image of b, c, d, e, f, g, h, i, j, k"


def test_a_share_follows_from_its_seed():
    targets = torch.arange(500) % 5
    for stratify in (True, False):
        first, again, other = (draw_share(targets, Fraction(0.2, seed, stratify)) for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_every_image_has_the_same_chance_of_being_held_out():
    targets = torch.arange(40) % 2
    counts = sum(draw_share(targets, Fraction(0.25, seed)).long() for seed in range(2000))
    assert counts.min() > 400
    assert counts.max() < 600


def test_a_stratified_share_and_a_limit_are_the_draws_of_each_class_over_its_images_in_order():
    """The same images as ever: a validation part that moved would have been learnt from before."""
    targets = torch.randint(0, 7, (300,), generator=torch.Generator().manual_seed(3))
    targets[targets == 4] = 5  # a class without images
    share = Fraction(0.2, seed=11)
    generator = torch.Generator().manual_seed(splits._seed("share", 11))
    chosen = torch.zeros(300, dtype=torch.bool)
    for label, count in enumerate(splits._apportion(torch.bincount(targets), 60).tolist()):
        members = torch.nonzero(targets == label).flatten()
        chosen[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    assert torch.equal(draw_share(targets, share), chosen)

    made = source(targets.tolist(), names=tuple("abcdefg"))
    limited = loaded({"train": made, "val": made}, limit=70, seed=5).train
    generator = torch.Generator().manual_seed(splits._seed("limit", 5))
    kept = []
    for label, count in enumerate(torch.bincount(limited.targets, minlength=7).tolist()):
        members = torch.nonzero(targets == label).flatten()
        kept.append(members[torch.randperm(len(members), generator=generator)[:count]])
    assert torch.equal(limited.indices, torch.cat(kept).sort().values)


def test_classes_are_told_apart_in_one_pass(monkeypatch):
    monkeypatch.setattr(torch, "nonzero", lambda *_: pytest.fail("one scan per class"))
    made = by_class(torch.tensor([2, 0, 2, 5, 0]))
    assert [members.tolist() for members in made] == [[1, 4], [], [0, 2], [], [], [3]]
    draw_share(torch.arange(400) % 100, Fraction(0.25))


def test_a_share_that_leaves_nothing_is_refused_with_the_numbers():
    with pytest.raises(DataError, match=r"share of 0\.1 of 3 training images leaves 0 to validate on and 3 to learn"):
        loaded({"train": source([0, 1, 2])})
    with pytest.raises(DataError, match="leaves 3 to validate on and 0 to learn from"):
        loaded({"train": source([0, 1, 2])}, val=Fraction(0.99))


# -------------------------------------------------------------------------------------------------------------- limit
def test_a_limit_is_drawn_evenly_over_the_classes():
    data = loaded({"train": source(TRAIN), "val": source(TRAIN), "test": source(TRAIN)}, limit=45)
    assert torch.bincount(data.train.targets).tolist() == [18, 17, 10]
    assert torch.bincount(data.val.targets).tolist() == [18, 17, 10]
    assert len(data.test) == 100
    assert data.train.indices.tolist() == sorted(set(data.train.indices.tolist()))


def test_a_limit_below_the_number_of_classes_is_kept():
    assert len(loaded({"train": source(TRAIN), "val": source(TRAIN)}, limit=2).train) == 2


def test_a_limit_follows_from_the_seed_and_larger_than_the_data_changes_nothing():
    splits = {"train": source(TRAIN), "val": source(TRAIN)}
    first, again, other = (loaded(splits, limit=20, seed=seed).train.indices for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(loaded(splits, limit=1000).train) == 100


# ---------------------------------------------------------------------------------------------------- mean, deviation
@pytest.mark.parametrize("channels", [1, 3])
def test_mean_and_deviation_are_per_pixel_over_the_training_part_alone(channels):
    data = loaded({"train": source(TRAIN, channels=channels), "test": source([0] * 50, seed=9, channels=channels)})
    pixels = data.train.store.images[data.train.indices].double().div(255).reshape(-1, channels)
    assert data.mean == pytest.approx(pixels.mean(0).tolist(), abs=1e-9)
    assert data.std == pytest.approx(pixels.std(0, unbiased=False).tolist(), abs=1e-9)


def test_the_deviation_of_one_colour_is_zero():
    flat = PackedSource("flat", np.full((20, 3, 3, 3), 7, np.uint8), np.zeros(20), ("a",))
    assert loaded({"train": flat}).std == pytest.approx((0, 0, 0), abs=1e-9)


# --------------------------------------------------------------------------------------------------------------- errors
def test_a_split_that_is_not_declared_is_refused_with_those_that_are():
    with pytest.raises(DataError, match=r"data\.val names the split 'dev'; the dataset has train, test"):
        loaded({"train": source(TRAIN), "test": source([0])}, val="dev")


def test_a_dataset_that_declares_nothing_answers_for_itself():
    facts = DataFacts(splits={})
    assert len(loaded({"train": source(TRAIN), "extra": source([0, 1])}, facts=facts, val="extra").val) == 2
    with pytest.raises(MissingSplit):
        loaded({"train": source(TRAIN)}, facts=facts, val="extra")
    assert len(loaded({"train": source(TRAIN)}, facts=facts).val) == 10


def test_a_declared_split_that_is_missing_is_an_error_only_when_it_is_asked_for():
    splits = {"train": source(TRAIN), "val": None, "test": None}
    with pytest.raises(MissingSplit):
        loaded(splits, val="val")
    assert loaded(splits).test is None


def test_the_training_split_cannot_choose_the_best_epoch():
    with pytest.raises(DataError, match="on the images it learnt from"):
        loaded({"train": source(TRAIN)}, val="train")


@pytest.mark.parametrize("empty", ["train", "val", "test"])
def test_a_split_of_size_zero_is_named(empty):
    splits = {"train": source(TRAIN), "val": source(TRAIN), "test": source(TRAIN), empty: source([])}
    with pytest.raises(DataError, match=f"split '{empty}' of the dataset has 0 images"):
        loaded(splits)


def test_another_number_of_classes_than_declared_is_refused_with_both():
    facts = DataFacts(splits={"train": None}, class_names=("a", "b"))
    with pytest.raises(DataError, match="declares 2 classes, but split 'train' has 3"):
        loaded({"train": source(TRAIN)}, facts=facts)


def test_a_label_beyond_the_class_names_is_refused():
    with pytest.raises(DataError, match=r"has class indices 0\.\.3, but 3 class names"):
        loaded({"train": source([0, 1, 3])})
    with pytest.raises(DataError, match=r"has class indices -1\.\.1"):
        loaded({"train": source([0, 1, -1])})


def test_classes_are_compared_by_name_between_splits():
    splits = {"train": source(TRAIN), "val": source([0, 1], names=("a", "b", "d"))}
    with pytest.raises(DataError, match="their names differ: only in train: c; only there: d"):
        loaded(splits)
    splits["val"] = source([0, 1], names=("b", "a", "c"))
    with pytest.raises(DataError, match="their order differs"):
        loaded(splits)


def test_classes_that_val_or_test_lacks_are_named():
    log = []
    loaded({"train": source(TRAIN), "val": source([0, 0]), "test": source([2, 0])}, log)
    assert log == ["val has no image of b, c", "test has no image of b"]


def test_a_share_of_train_that_lacks_a_class_names_it():
    log = []
    loaded({"train": source([0] * 60 + [1] * 2)}, log, val=Fraction(0.1))
    assert log[-1] == "val has no image of b, c"


def test_one_class_can_be_opened_to_be_measured():
    data = loaded({"train": source([0] * 20, names=("only",))})
    assert (len(data.train), len(data.val), data.num_classes) == (18, 2, 1)


def test_classes_place_and_sizes_stand_in_one_line():
    splits = {"train": source(TRAIN), "val": source([0, 1]), "test": source([2])}
    line = loaded(splits).describe("photos")
    assert line == "3 classes: a, b, c from photos (100 training, 2 validation, 1 test images)"
    many = source(TRAIN, names=[f"k{number}" for number in range(1200)])
    assert loaded({"train": many}).describe("data").startswith("1,200 classes: k0, k1, ")
    assert "k11, ... from data (90 training, 10 validation images)" in loaded({"train": many}).describe("data")


def test_what_a_source_remarks_stands_in_the_log():
    class Remarking(PackedSource):
        def remarks(self):
            return ["3 files are no images"]

    images = source(TRAIN)
    log = []
    loaded({"train": Remarking("made", images.packed(), images.targets, images.class_names)}, log)
    assert log[0] == "3 files are no images"


def test_shapes_open_with_their_own_splits_and_masks():
    def open_split(name):
        return Shapes(train_size=50, val_size=20, test_size=10, split=name, download=False)

    data = open_data(section(), open_split, Shapes.facts, seed=1, log=print)
    assert (len(data.train), len(data.val), len(data.test)) == (50, 20, 10)
    assert np.array_equal(data.val.store.masks([3, 4]), open_split("val").masks([3, 4]))
    assert loaded({"train": source(TRAIN)}).train.store.masks([1]) is None


def test_classes_of_one_name_are_refused():
    with pytest.raises(DataError, match="split 'train' has more than one class called 'a'"):
        loaded({"train": source(TRAIN, names=("a", "b", "a"))})


# ------------------------------------------------------------------------------------------------------- fingerprints
def test_folds_of_one_split_have_the_same_whole_and_another_part_each():
    prints = [fingerprint(loaded({"train": source(TRAIN)}, val=Fraction(folds=4, fold=fold))) for fold in range(4)]
    assert len({str(each["whole"]) for each in prints}) == 1
    assert len({str(each["val"]) for each in prints}) == len({str(each["train"]) for each in prints}) == 4
    others = fingerprint(loaded({"train": source(TRAIN, seed=1)}, val=Fraction(folds=4, fold=0)))
    assert others["whole"]["used"] == prints[0]["whole"]["used"], "as many of each class"
    assert others["whole"]["pixels"] != prints[0]["whole"]["pixels"]


def test_a_print_in_its_first_form_is_of_places_and_labels():
    """Runs that began before pixels were taken note of go on."""
    parts = {"train": source(TRAIN)}
    now = fingerprint(loaded(parts, val=Fraction(folds=4, fold=0)))["train"]
    other = fingerprint(loaded(parts, val=Fraction(folds=4, fold=1)))["train"]
    assert same(now["used"], now)
    assert not same(other["used"], now)


def test_where_validation_is_a_split_of_its_own_there_is_no_whole():
    assert fingerprint(loaded({"train": source(TRAIN), "val": source([0, 1, 2])})).keys() == {"train", "val"}
