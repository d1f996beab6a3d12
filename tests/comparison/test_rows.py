"""Runs as rows: which are one configuration, how rows are named by what differs, in which order they stand."""

from dataclasses import replace

import pytest
from made_runs import IMAGES, run

from registry.errors import RecipeError
from trainer.comparison.cautions import cautions
from trainer.comparison.differences import shown
from trainer.comparison.page import _tiles
from trainer.comparison.rows import compared, delta_text, number_title, said

LR, WD = "optimizer.lr", "optimizer.weight_decay"


def names(runs, **options) -> list[str]:
    return [row.title for row in compared(runs, **options).rows]


# --------------------------------------------------------------------------------------------------------------- names
def test_rows_are_named_by_what_differs_the_best_first():
    runs = [run("a", 0.8, {LR: 0.1}), run("b", 0.9, {LR: 0.1, WD: 5e-4}), run("c", 0.7, {LR: 0.02})]
    assert names(runs) == ["lr 0.1, wd 5e-4", "lr 0.1", "lr 0.02"]


def test_a_parameter_written_at_its_default_is_no_difference():
    made = compared([run("a", 0.8, {WD: 0.0}), run("b", 0.9, seed=2)])
    assert made.differences == ()
    assert [row.seeds for row in made.rows] == [(1, 2)]


def test_the_one_that_leaves_a_setting_out_is_named_by_its_default_where_nothing_else_differs():
    assert names([run("a", 0.9), run("b", 0.8, {WD: 5e-4})]) == ["wd 0", "wd 5e-4"]


def test_a_component_is_named_by_its_type_and_one_that_is_missing_as_such():
    runs = [run("a", 0.9, {"scheduler.type": "StepLR"}), run("b", 0.8), run("c", 0.7, {"scheduler.type": "CyclicLR"})]
    assert names(runs) == ["StepLR", "no scheduler", "CyclicLR"]


def test_a_list_whose_items_are_others_is_one_difference():
    flips = {"data.augment.0.type": "HorizontalFlip", "data.augment.0.p": 0.5}
    rotated = {**flips, "data.augment.1.type": "Rotate", "data.augment.1.limit": 15}
    made = compared([run("a", 0.9, rotated), run("b", 0.8, flips), run("c", 0.7)])
    (difference,) = made.differences
    assert difference.texts == ("HorizontalFlip (p 0.5) + Rotate (limit 15)", "HorizontalFlip (p 0.5)", "none")


def test_an_argument_of_an_item_is_named_with_its_item():
    base = {"data.augment.0.type": "Rotate"}
    runs = [run("a", 0.9, {**base, "data.augment.0.p": 0.5}), run("b", 0.8, {**base, "data.augment.0.p": 1.0})]
    assert names(runs) == ["Rotate p 0.5", "Rotate p 1"]


def test_labels_that_would_be_alike_have_the_word_before_them():
    runs = [run("a", 0.9, {LR: 0.1, "scheduler.lr": 1}), run("b", 0.8, {LR: 0.2, "scheduler.lr": 1})]
    runs.append(run("c", 0.7, {LR: 0.1, "scheduler.lr": 2}))
    assert names(runs) == ["optimizer lr 0.1, scheduler lr 1", "optimizer lr 0.2, scheduler lr 1",
                           "optimizer lr 0.1, scheduler lr 2"]  # fmt: skip


def test_a_setting_that_only_follows_another_is_in_no_name():
    runs = [run(str(lr), lr, {LR: lr, "scheduler.max_lr": lr}) for lr in (0.1, 0.2)]
    assert names(runs) == ["lr 0.2", "lr 0.1"]


def test_recipes_of_many_differences_are_named_by_their_names_and_as_much_more_as_they_need():
    other = {f"model.{word}": value for value, word in enumerate(("width", "depth", "heads", "blocks"))}
    runs = [run("a", 0.9, {LR: 0.1}), run("b", 0.8, {LR: 0.2}), run("c", 0.7, other, recipe="big")]
    assert names(runs) == ["tiny, lr 0.1", "tiny, lr 0.2", "big"]


def test_what_sets_recipes_apart_is_in_no_name_of_their_rows():
    settings = {f"model.{word}": value for value, word in enumerate(("width", "depth", "heads", "blocks"))}
    runs = [run("c", 0.9, settings, recipe="big"), run("a", 0.8, {LR: 0.1})]
    assert names(runs) == ["big", "tiny"]


def test_an_lr_finder_that_others_lack_is_one_difference():
    asked = {"lr_finder.start": 1e-5, "lr_finder.end": 1.0, LR: "$lr_finder.lr"}
    made = compared([run("a", 0.9, asked), run("b", 0.8, {LR: 0.1})])
    assert [(each.key, each.texts) for each in made.differences] == [
        (LR, ("found", "0.1")),
        ("lr_finder", ("yes", "no")),
    ]


def test_where_the_images_lie_and_what_is_reported_is_no_difference():
    beside = {"data.dataset.root": "/a", "report.0.type": "Curves", "train.log_every": 5, "train.checkpoint.keep": 3}
    assert compared([run("a", 0.8, beside), run("b", 0.9, seed=2)]).differences == ()


@pytest.mark.parametrize(
    ("value", "text"),
    [(5e-4, "5e-4"), (1e-5, "1e-5"), (0.001, "0.001"), (0.1, "0.1"), (1.0, "1"), (128, "128"), (True, "true"),
     (None, "none"), ([1, 2.5], "[1, 2.5]"), ("$lr_finder.lr", "found"), (2e7, "2e7"), (0.0, "0")],
)  # fmt: skip
def test_values_are_as_short_as_people_write_them(value, text):
    assert shown(value) == text


# --------------------------------------------------------------------------------------------------------------- groups
def test_a_network_of_another_plug_in_is_another_experiment():
    small, big = ({"plugins": [f"nets/{name}.py"]} for name in ("net_small", "net_big"))
    made = compared([run("a", 0.7, small), run("b", 0.9, big, seed=2)])
    assert len(made.rows) == 2
    assert [each.key for each in made.differences] == ["plugins"]


def test_runs_that_differ_in_their_seed_alone_are_one_row():
    (row,) = compared([run("a", 0.8, seed=1), run("b", 0.9, seed=2)]).rows
    number = row.numbers["best/val_accuracy"]
    assert (number.mean, number.count) == (pytest.approx(0.85), 2)
    assert number.deviation == pytest.approx(0.0707107, abs=1e-6)
    assert said("best/val_accuracy", number) == "85.00 +- 7.07 %"


def test_a_copy_counts_once_and_the_same_seed_again_is_no_second_one():
    first = run("a", 0.8)
    made = compared(
        [first, replace(first, folder=first.folder.with_name("copy")), run("b", 0.7), run("c", 0.9, seed=2)]
    )
    assert sorted((row.title, row.seeds) for row in made.rows) == [
        ("tiny", (1, 2)),
        ("tiny (copy)", (1,)),
        ("tiny (seed 1 again)", (1,)),
    ]
    assert any("tiny/copy is identical to tiny/a" in text for text in cautions(made))
    assert any("tiny/b has the seed of tiny/a" in text for text in cautions(made))


def test_runs_on_other_images_are_not_averaged_and_have_no_distance():
    others = replace(IMAGES, prints={**IMAGES.prints, "val": {"used": "v", "pixels": "w"}})
    made = compared([run("a", 0.8), run("b", 0.9, seed=2, images=others)])
    assert [(row.name, row.seeds) for row in made.rows] == [("data B", (2,)), ("data A", (1,))]
    assert [row.delta for row in made.rows] == [None, None]
    assert any("other images to be measured on" in text for text in cautions(made))


def test_files_of_equal_sizes_are_other_images_where_their_contents_are():
    def of(contents):
        prints = {part: {"used": "u", "contents": contents, "bytes": "b"} for part in ("train", "val")}
        return replace(IMAGES, prints=prints)

    made = compared([run("a", 0.8, images=of("x")), run("b", 0.9, seed=2, images=of("y"))])
    assert [row.seeds for row in made.rows] == [(2,), (1,)]
    made = compared([run("a", 0.8, images=of("x")), run("b", 0.9, seed=2, images=of("x"))])
    assert [row.seeds for row in made.rows] == [(1, 2)]


def test_a_run_whose_images_nothing_tells_counts_in_no_mean():
    made = compared([run("a", 0.8), run("b", 0.9, seed=2, images=None), run("c", 0.7, seed=3)])
    assert sorted(row.seeds for row in made.rows) == [(1, 3), (2,)]
    assert any("tiny/b has no whole checkpoint" in text for text in cautions(made))


def test_a_run_that_goes_on_shows_its_best_so_far_and_counts_in_no_mean():
    rows = tuple({"epoch": n, "val/accuracy": a} for n, a in ((1, 0.5), (2, 0.95), (3, None)))
    going = replace(run("b", 0, seed=2), summary={"status": "running"}, history=rows)
    made = compared([run("a", 0.8), going])
    assert [row.title for row in made.rows] == ["tiny (running after 3 of 8 epochs)", "tiny"]
    assert made.rows[0].numbers["best/val_accuracy"].mean == 0.95


# --------------------------------------------------------------------------------------------------------------- order
@pytest.mark.parametrize("status", ["running", "interrupted", "killed", "failed"])
def test_what_a_run_had_reached_before_it_was_taken_up_again_is_not_what_it_reaches(status):
    """Older runs kept the numbers of their last end in summary.json while they went on."""
    rows = tuple({"epoch": n, "val/accuracy": a} for n, a in ((1, 0.5), (2, 0.95)))
    goes_on = replace(run("a", 0.5, summary={"status": status}), history=rows)
    made = compared([goes_on, run("b", 0.7, seed=2)])
    assert [(row.seeds, row.numbers["best/val_accuracy"].mean) for row in made.rows] == [((1,), 0.95), ((2,), 0.7)]


@pytest.mark.parametrize("turned", [False, True])
def test_a_run_that_does_not_measure_the_number_does_not_turn_the_ranking_round(turned):
    def by_hinge(name, value):
        told = {"metric": ("val/hinge", "min"), "directions": {"val_hinge": "min"}}
        return run(name, 0.5, {"optimizer.lr": value}, summary={"best": {"epoch": 8, "val/hinge": value}}, **told)

    runs = [by_hinge("a", 1.5), by_hinge("b", 1.2), run("c", 0.9, {"optimizer.lr": 9})]
    made = compared(list(reversed(runs)) if turned else runs)
    assert (made.better, made.best.runs[0].folder.name) == ("min", "b")


def test_runs_that_were_measured_on_as_many_images_may_be_compared_and_others_not():
    """With `data.limit` the seed chooses the images, and no digest tells."""
    unknown = replace(IMAGES, prints={})
    for count, delta in ((600, None), (1500, pytest.approx(-0.1))):
        runs = [
            run("a", 0.9, {"optimizer.lr": 1}, images=unknown, summary={"images": {"train": 9, "val": 1500}}),
            run("b", 0.8, {"optimizer.lr": 2}, images=unknown, summary={"images": {"train": 8, "val": count}}),
        ]
        assert compared(runs).rows[1].delta == delta


def test_runs_on_a_share_of_pictures_from_two_places_are_no_runs_of_one_experiment():
    """Nothing tells of a share which pictures it was: where they lie is all that is known."""
    unknown, root = replace(IMAGES, prints={}), "data.dataset.root"
    here, there = ({root: place, "data.limit": 8} for place in ("pets", "birds"))
    made = compared([run("a", 0.8, here, images=unknown), run("b", 0.9, there, seed=2, images=unknown)])
    assert [row.seeds for row in made.rows] == [(2,), (1,)]
    assert [row.delta for row in made.rows] == [None, None]
    made = compared([run("a", 0.8, here, images=unknown), run("b", 0.9, here, seed=2, images=unknown)])
    assert [row.seeds for row in made.rows] == [(1, 2)]
    told = [run("a", 0.8, {root: "pets"}), run("b", 0.9, {root: "copy/of/pets"}, seed=2)]
    assert [row.seeds for row in compared(told).rows] == [(1, 2)], "where the images tell themselves no place counts"


def test_a_copy_took_no_time_of_its_own():
    first = run("a", 0.8, summary={"seconds": 60.0})
    other = run("b", 0.7, {"optimizer.lr": 9}, summary={"seconds": 30.0})
    made = compared([first, replace(first, folder=first.folder.with_name("copy")), other])
    tile = next(tile for tile in _tiles(made) if tile.label == "Training time")
    assert (tile.value, tile.note) == ("1 min 30 s", "of 2 runs together")


def test_a_metric_that_is_better_when_smaller_ranks_from_below():
    runs = [run(str(a), a, {LR: a}, metric=("val/loss", "min")) for a in (0.5, 0.9, 0.7)]
    made = compared(runs)
    assert (made.number, made.better) == ("best/val_loss", "min")
    assert [row.name for row in made.rows] == ["lr 0.9", "lr 0.7", "lr 0.5"]
    assert [delta_text(made.number, row.delta) for row in made.rows] == ["", "+0.2000", "+0.4000"]


def test_differences_between_accuracies_are_in_points():
    made = compared([run("a", 0.8, {LR: 0.1}), run("b", 0.85, {LR: 0.2})])
    assert [delta_text(made.number, row.delta) for row in made.rows] == ["", "-5.00"]


def test_a_fast_run_is_marked_and_stands_behind_whole_ones_whatever_it_reached():
    fast = run("f", 0.99, {"train.epochs": 2}, summary={"fast": True})
    made = compared([fast, run("a", 0.8, {LR: 0.1}), run("b", 0.7, {LR: 0.2})])
    assert made.rows[-1].title.endswith("(--fast)")
    assert made.rows[-1].delta is None
    assert "train.epochs" not in {each.key for each in made.differences}, "--fast cut it"
    assert any("ran with --fast" in text for text in cautions(made))


def test_rows_are_sorted_by_a_number_a_setting_or_the_name_and_keep_their_ranks():
    runs = [run("a", 0.8, {LR: 0.1}), run("b", 0.9, {LR: 0.3}), run("c", 0.7, {LR: 0.02})]
    assert names(runs, sort="lr") == ["lr 0.02", "lr 0.1", "lr 0.3"]
    assert names(runs, sort="-optimizer.lr") == ["lr 0.3", "lr 0.1", "lr 0.02"]
    assert names(runs, sort="val/loss") == names(runs, sort="best/val_loss") == ["lr 0.3", "lr 0.1", "lr 0.02"]
    assert [row.rank for row in compared(runs, sort="name").rows] == [3, 2, 1]
    with pytest.raises(RecipeError, match="nothing of that name to sort by"):
        compared(runs, sort="momentum")


def test_numbers_are_titled_in_words():
    titles = [number_title(key) for key in ("best/val_accuracy", "final/test_loss", "best/epoch", "seconds")]
    assert titles == ["val accuracy", "final test loss", "best epoch", "time"]


@pytest.mark.parametrize(
    ("key", "title"),
    [
        ("best/val_accuracy", "val accuracy"),
        ("best/val_balanced_accuracy", "val balanced accuracy"),
        ("final/test_auroc", "final test AUROC"),
        ("best/val_f1_micro", "val F1 micro"),
    ],
)
def test_a_number_is_titled_as_people_write_its_metric(key, title):
    assert number_title(key) == title
