"""The top of the page and the data: how sure each number is, what to beware of, which images there were."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from made_evidence import MadeImages, history, made_evidence, with_data

from registry.contracts import Figure, Gallery, Paragraph, Table
from registry.reports import scores
from registry.reports.gradcam import GradCAM
from registry.reports.mistakes import Misclassified
from trainer.recipe.load import load_recipe
from trainer.recipe.resolve import default_settings, resolved_yaml
from trainer.report.answer import answer_of
from trainer.report.frame import data_section, environment_section, recipe_section


@pytest.mark.parametrize(
    ("share", "count", "low", "high"),
    [(0.9, 60, 0.7985, 0.9534), (1.0, 10, 0.7225, 1.0), (0.0, 10, 0.0, 0.2775), (0.5, 10_000, 0.4902, 0.5098)],
)
def test_the_interval_of_an_accuracy_is_wilsons(share, count, low, high):
    """Against the formula's values as tables have them."""
    assert scores.interval(share, count) == pytest.approx((low, high), abs=1e-4)


def test_every_accuracy_of_the_answer_has_its_interval_and_the_images_it_is_of(tmp_path):
    tiles = {tile.label: tile for tile in answer_of(with_data(made_evidence(tmp_path), val=(40,) * 4)).tiles}
    assert tiles["Best accuracy"].interval == "95 % interval 76.7 to 88.2 %, 160 images"
    assert tiles["Final accuracy"].interval.endswith("160 images")
    assert tiles["Learning rate"].interval == ""


def learning_rate(evidence) -> tuple[str, str]:
    (tile,) = [tile for tile in answer_of(evidence).tiles if tile.label == "Learning rate"]
    return tile.value, tile.note


def test_the_learning_rate_of_the_answer_is_the_one_that_was_used(tmp_path):
    evidence = made_evidence(tmp_path)
    assert learning_rate(evidence) == ("0.015", "found by the rule minimum_over_10")
    given = {**evidence.resolved, "optimizer": {"type": "SGD", "lr": 0.1}}
    said = "given by the recipe; the rate found, 0.015, was not taken"
    assert learning_rate(replace(evidence, resolved=given)) == ("0.1", said)
    cycle = {**given, "scheduler": {"type": "OneCycleLR", "max_lr": 0.015}}
    found = ("up to 0.015", "found by the rule minimum_over_10, for the schedule")
    assert learning_rate(replace(evidence, resolved=cycle)) == found
    assumed = replace(evidence, resolved=cycle, finding=replace(evidence.finding, status="assumed"))
    assert learning_rate(assumed)[1].startswith("assumed by the rule")
    for scheduler in ({"type": "StepLR", "gamma": 0.015}, {"type": "CosineAnnealingLR", "eta_min": 0.015}):
        no_rate = {**given, "scheduler": scheduler}
        assert learning_rate(replace(evidence, resolved=no_rate)) == ("0.1", said), "equal to it, and no rate"
    rows = [{**row, "lr": rate} for row, rate in zip(evidence.history, (0.2, 0.49, 0.4, 0.3, 0.1, 0.02), strict=True)]
    cycle = replace(evidence, resolved=given, history=rows, finding=None)
    assert learning_rate(cycle) == ("up to 0.49", "by epoch, as the schedule sets it; 0.1 given by the recipe")


def test_the_answer_shows_the_curve_that_chose_and_the_three_most_confused_pairs(tmp_path):
    figure, pairs = answer_of(made_evidence(tmp_path)).blocks
    assert isinstance(figure, Figure)
    assert figure.caption == "Accuracy by epoch"
    assert (tmp_path / figure.path).is_file()
    assert isinstance(pairs, Table)
    assert pairs.caption == "Most confused on val"
    assert len(pairs.rows) == 3


def test_where_another_metric_chose_the_accuracy_of_that_epoch_stands_beside_it_with_its_interval(tmp_path):
    rows = [{**row, "val/balanced_accuracy": row["val/accuracy"] - 0.1} for row in history(6)]
    resolved = {"train": {"best": {"metric": "val/balanced_accuracy", "mode": "max"}}}
    evidence = made_evidence(tmp_path, history=rows, best=rows[4], resolved=resolved)
    answer = answer_of(with_data(evidence, val=(40,) * 4))
    tiles = {tile.label: (tile.value, tile.interval) for tile in answer.tiles}
    assert tiles["Best balanced accuracy"] == ("73.24 %", "")
    assert tiles["Accuracy there"] == ("83.24 %", "95 % interval 76.7 to 88.2 %, 160 images")
    assert answer.blocks[0].caption == "Balanced accuracy by epoch"


def differing(evidence):
    (table,) = [
        block for block in recipe_section(evidence).blocks if getattr(block, "caption", "").startswith("What di")
    ]
    return dict(table.rows)


def test_what_was_switched_off_differs_from_the_defaults(tmp_path):
    defaults = {
        "callbacks": ["TensorBoard"],
        "report": ["Curves", "GradCAM"],
        "train": {"epochs": 10, "ema": {"decay": 0.9}},
    }
    resolved = {"callbacks": [], "report": [{"type": "Curves"}], "train": {"epochs": 10, "ema": None}}
    said = differing(replace(made_evidence(tmp_path), resolved=resolved, defaults=defaults))
    assert said == {"callbacks": "none", "report": "[Curves]"}


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml")), ids=lambda path: path.stem
)
def test_of_a_shipped_recipe_nothing_is_called_switched_off_that_is_not(path, tmp_path):
    recipe = load_recipe(path).usable()
    resolved = yaml.safe_load(resolved_yaml(recipe))
    evidence = replace(made_evidence(tmp_path), resolved=resolved, defaults=default_settings())
    off = [key for key, value in differing(evidence).items() if value == "none"]
    assert off == [key for key in ("callbacks", "report") if not getattr(recipe, key)]


def cautions(evidence):
    return answer_of(evidence).warnings


def test_a_run_that_holds_nothing_out_says_so(tmp_path):
    (said,) = cautions(with_data(made_evidence(tmp_path), val=(40,) * 4))
    assert said.startswith("There is no held-out test")


def test_a_run_with_a_test_split_and_enough_images_has_no_caution(tmp_path):
    evidence = with_data(made_evidence(tmp_path, split="test"), val=(40,) * 4)
    parts = (*evidence.data.parts, replace(evidence.data.parts[1], name="test"))
    assert cautions(replace(evidence, data=replace(evidence.data, parts=parts))) == ()


def test_classes_of_fewer_than_30_images_are_named_with_their_number(tmp_path):
    _, absent, said = cautions(with_data(made_evidence(tmp_path), val=(29, 30, 7, 0)))
    assert absent == "No image of class 3 on val: no number on this page tells how well they are known."
    assert said.startswith("Fewer than 30 images of class 2 (7), class 0 (29) on val")


def held_out(tmp_path, metrics, test=(15,) * 4, right=0.0):
    """Return evidence of a run chosen by AUROC, whose page is of a test split of `test` images per class."""
    rows = [{**row, "val/auroc": 0.9} for row in history(6)]
    resolved = {"train": {"best": {"metric": "val/auroc", "mode": "max"}}}
    made = made_evidence(tmp_path, history=rows, best=rows[4], resolved=resolved, split="test", right=right)
    made = with_data(replace(made, predictions=replace(made.predictions, metrics=metrics)), val=(40,) * 4)
    parts = (*made.data.parts, replace(made.data.parts[1], name="test", counts=test))
    return replace(made, data=replace(made.data, parts=parts))


def test_where_another_metric_chose_the_accuracy_of_the_test_split_stands_beside_it_with_its_interval(tmp_path):
    answer = answer_of(held_out(tmp_path, {"auroc": 0.1667}))
    first, second = answer.tiles[:2]
    assert (first.label, first.value) == ("test AUROC", "0.1667")
    assert (second.label, second.value, second.interval) == (
        *("test accuracy", "0.00 %", "95 % interval 0.0 to 6.0 %, 60 images"),
    )
    there = next(tile for tile in answer.tiles if tile.label == "Accuracy there")
    assert there.note == "of epoch 5, on val"
    assert "the best weights reach **0.1667**, with an accuracy of **0.00 %**." in answer.verdict
    assert answer.blocks[0].caption == "AUROC by epoch"
    assert "Best AUROC" in [tile.label for tile in answer.tiles]


def test_a_metric_without_a_value_says_why_and_classes_without_images_are_named(tmp_path):
    answer = answer_of(held_out(tmp_path, {"auroc": float("nan")}, test=(60, 0, 0, 0)))
    assert answer.tiles[0].value == "undefined"
    assert answer.tiles[0].note == "all images of test are of class 0"
    assert answer.warnings == (
        "AUROC has no value on test: all images of test are of class 0.",
        "No image of class 1, class 2, class 3 on test: no number on this page tells how well they are known.",
    )
    assert "nan" not in answer.verdict


def test_a_metric_that_no_epoch_has_says_why(tmp_path):
    rows = [{**row, "val/auroc": float("nan")} for row in history(3)]
    made = made_evidence(tmp_path, history=rows, best=None)
    assert "AUROC has no value on val: all images of val are of class 2." in cautions(
        with_data(made, val=(0, 0, 60, 0))
    )


def test_missed_expectations_are_cautions_where_they_count(tmp_path):
    lines = [
        {"text": "best val/accuracy: >= 0.95", "value": 0.8324, "ok": False},
        {"text": "final val/loss: <= 9", "value": 0.6, "ok": True},
    ]
    for why, expected in (
        ("", ("The recipe expects best val/accuracy: >= 0.95; measured was 0.8324.",)),
        ("train.epochs is overridden", ()),
    ):
        summary = {"expect": {"not_judged": why, "lines": lines}}
        assert cautions(made_evidence(tmp_path, summary=summary)) == expected


def test_a_fast_run_has_a_banner_and_other_runs_have_none(tmp_path):
    fast = answer_of(made_evidence(tmp_path, summary={"fast": True}))
    assert fast.banner.startswith("**A fast run** (`--fast`)")
    assert fast.warnings[0].startswith("This was a fast run (`--fast`)")
    assert answer_of(made_evidence(tmp_path)).banner == ""


def test_a_run_that_is_not_complete_says_above_all_how_far_it_came_and_that_it_may_go_on(tmp_path):
    resolved = {"train": {"epochs": 400, "best": {"metric": "val/accuracy", "mode": "max"}}}
    made = made_evidence(tmp_path, resolved=resolved, summary={"status": "interrupted"})
    answer = answer_of(made)
    assert answer.banner.startswith("**A run that is not complete**: interrupted after 6 of 400 epochs.")
    assert answer.warnings[0].startswith(
        "The run was interrupted after 6 of 400 epochs: every number is of the training"
    )
    assert f"resume {tmp_path}` continues it." in answer.warnings[0]
    assert "for 6 of 400 epochs so far. The run is not complete: interrupted" in answer.verdict
    assert "epoch 5 of 400, chosen on val" in [tile.note for tile in answer.tiles]
    killed = answer_of(replace(made, summary={"status": "running"}))
    assert "broken off after 6 of 400 epochs" in killed.banner
    stopped_early = answer_of(replace(made, summary={"status": "completed"}))
    assert stopped_early.banner == ""
    assert "epoch 5 of 6, chosen on val" in [tile.note for tile in stopped_early.tiles]


def test_images_that_were_left_out_are_a_caution_and_named_below_data(tmp_path):
    evidence = with_data(made_evidence(tmp_path), val=(40,) * 4, left_out=("cat/broken*.jpg", "cat/empty.png"))
    assert cautions(evidence)[-1] == "2 files could not be read and were left out; see Data."
    warning = next(b for b in data_section(evidence).blocks if isinstance(b, Paragraph) and b.tone == "warning")
    assert warning.text == "2 files could not be read and were left out: `cat/broken\\*.jpg`, `cat/empty.png`."


# ----------------------------------------------------------------------------------------------------------------- data
def test_the_data_are_counted_by_class_and_part_and_one_of_each_class_is_shown(tmp_path):
    evidence = with_data(made_evidence(tmp_path), place="/data/pets", val=(15, 15, 15, 3))
    section = data_section(evidence)
    about = section.blocks[0]
    assert about.text.startswith(
        "**Shapes** in `/data/pets`: **208** images of 4 classes; RGB, 24 x 24 px. Validation: "
    )
    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    assert table.headers == ("class", "train", "val")
    assert table.rows[3] == ("class 3", "40", "3")
    assert table.rows[-1] == ("**all**", "**160**", "**48**")
    (samples,) = [block for block in section.blocks if isinstance(block, Gallery)]
    assert [figure.caption for figure in samples.figures] == [f"**class {i}**" for i in range(4)]
    assert section.facts == {"train": 160, "val": 48}


def test_of_many_classes_those_with_the_fewest_images_are_counted(tmp_path):
    evidence = with_data(made_evidence(tmp_path, classes=50, count=60))
    (table,) = [block for block in data_section(evidence).blocks if isinstance(block, Table)]
    assert len(table.rows) == 41
    assert table.caption.endswith("the 40 of 50 classes with the fewest training images")


def test_a_mistake_is_named_by_its_file_with_both_probabilities_and_its_index(tmp_path):
    evidence = made_evidence(tmp_path)
    files = [f"class/IMG_{number}.jpg" for number in range(60)]
    named = replace(evidence, images=MadeImages(evidence.images.stored, names=files))
    (gallery, *_) = [b for b in Misclassified(count=3).render(named).blocks if isinstance(b, Gallery)]
    for figure in gallery.figures:
        index = int(figure.caption.rsplit("#", 1)[1])
        assert f", `class/IMG_{index - 1000}.jpg`, #" in figure.caption
        assert " sure, " in figure.caption
        assert " for the truth, " in figure.caption
        assert figure.alt.startswith(f"class/IMG_{index - 1000}.jpg: truth ")


def test_a_strip_is_named_by_its_file_as_the_file_is_written(tmp_path):
    evidence = made_evidence(tmp_path)
    files = [f"class/img_{number}.jpg" for number in range(60)]
    named = replace(evidence, images=MadeImages(evidence.images.stored, names=files))
    for images, begins in ((named, r"class/img_\d+\.jpg, image 10\d\d: "), (evidence, r"Image 10\d\d of val: ")):
        strip = next(block for block in GradCAM(count=1).render(images).blocks if isinstance(block, Figure))
        assert re.match(begins, strip.caption)


# --------------------------------------------------------------------------------------------------- recipe, repeating
def test_the_recipe_begins_with_what_differs_from_the_defaults(tmp_path):
    defaults = {"seed": 1, "loss": "CrossEntropyLoss", "data": {"batch_size": 64}, "train": {"device": "auto"}}
    resolved = {
        "seed": 1,
        "loss": {"type": "CrossEntropyLoss"},
        "data": {"batch_size": 64, "workers": 2},
        "train": {"device": "cpu", "epochs": 3},
    }
    section = recipe_section(made_evidence(tmp_path, defaults=defaults, resolved=resolved))
    table = section.blocks[0]
    assert table.rows == (("data.workers", "2"), ("train.device", "cpu"), ("train.epochs", "3"))
    assert section.blocks[-1].fold == "always"
    assert ("loss", "CrossEntropyLoss") in section.blocks[-1].blocks[0].rows


def test_the_command_that_started_the_run_is_said_as_it_was_typed(tmp_path):
    command = ["python", "-m", "trainer", "my recipe.yaml", "--fast", "data.augment=[]"]
    section = environment_section(made_evidence(tmp_path, environment={"command": command}, summary={"fast": True}))
    assert section.blocks[1].text == "python -m trainer 'my recipe.yaml' --fast 'data.augment=[]'"
    assert section.blocks[3].text.splitlines()[0].endswith("/resolved.yaml --fast")
