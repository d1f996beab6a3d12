"""Numbers of a summary.json: one that is not defined, or is none at all, is missing for whoever reads the run."""

import json
import math

import pytest

from registry.errors import CheckpointError
from trainer.recipe.checks.expect import judge
from trainer.recipe.load import load_recipe
from trainer.run import glance
from trainer.run.folder import RunFolder
from trainer.run.listing import row_of
from trainer.run.summary import sound
from trainer.run.verdicts import numbers, over_seeds

RECIPE = """
version: 1
name: tiny
data: {dataset: {type: Shapes, train_size: 32, val_size: 16, test_size: 16}, batch_size: 16}
model: {type: SmallCNN, width: 4}
optimizer: {type: SGD, lr: 0.02}
train: {epochs: 2}
expect: {"best val/accuracy": ">= 0", "best test/accuracy": ">= 0"}
"""
WHOLE = {
    "status": "completed",
    "metric": "val/accuracy",
    "best": {"epoch": 2, "val/accuracy": 0.75, "val/loss": 0.5},
    "final": {"epoch": 2, "val/accuracy": 0.75, "val/loss": 0.5},
    "test": {"best": {"accuracy": 0.5, "auroc": 0.625}},
    "lr_finder": {"lr": 0.25, "status": "found"},
    "images": {"val": 16, "test": 16},
    "expect": {"not_judged": "", "lines": [{"text": "best val/accuracy: >= 0", "value": 0.75, "ok": True}]},
    "seconds": 8.5,
    "epochs": 2,
    "seed": 7,
}
OTHER = [("best", "val/accuracy", 1.5), ("final", "val/accuracy", -0.1)]
NONSENSE = (None, "0.9", "", [], [0.9], {"best": "x"}, {"lines": None}, {"lines": [3]}, math.nan, math.inf, True, -1)


@pytest.fixture
def folder(tmp_path):
    """A run's folder without a training."""
    return RunFolder.create(tmp_path, "tiny", {"resolved.yaml": RECIPE})


def test_a_summary_as_a_run_writes_it_is_taken_whole():
    assert sound(WHOLE) == WHOLE


def test_a_test_metric_that_is_not_defined_is_missing_among_the_numbers():
    summary = {**WHOLE, "test": {"best": {"accuracy": 0.5, "auroc": None}}}
    assert numbers(summary)["best/test_accuracy"] == 0.5
    assert "best/test_auroc" not in numbers(summary)


def test_a_mean_over_seeds_says_how_many_of_them_have_the_number():
    summaries = [{"test": {"best": {"auroc": value}}} for value in (None, 0.5, 0.75)]
    assert over_seeds(summaries) == {"best/test_auroc": "0.6250 +- 0.1768 over 2 of 3 seeds"}
    assert over_seeds(summaries[:2]) == {"best/test_auroc": "0.5000 over 1 of 2 seeds"}, "one value does not spread"


@pytest.mark.parametrize(
    "place",
    [(key,) for key in WHOLE]
    + [("best", "val/accuracy"), ("best", "epoch"), ("final", "val/accuracy"), ("test", "best")]
    + [("test", "best", "accuracy"), ("lr_finder", "lr"), ("images", "val"), ("expect", "lines")],
    ids=".".join,
)
def test_nonsense_in_a_summary_stops_nobody_who_reads_it(folder, place):
    recipe = load_recipe(folder.resolved).usable()
    for nonsense in NONSENSE:
        edited = json.loads(json.dumps(WHOLE))
        inner = edited
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = nonsense
        (folder.path / "summary.json").write_text(json.dumps(edited), encoding="utf-8")
        row = row_of(folder)
        assert all(value is None or math.isfinite(value) for value in (row.best, row.final, row.test, row.seconds))
        assert all(math.isfinite(value) for value in numbers(edited).values())
        assert len(judge(recipe.expect, [], folder.read_summary())) == 2
        assert glance.line(recipe, folder.path, edited).startswith("run tiny: ")


def test_a_row_of_metrics_without_a_number_of_its_epoch_is_no_row(folder):
    rows = [{"epoch": 1, "seconds": None, "val/accuracy": [0.5]}, {"epoch": None}, {"epoch": "two"}]
    folder.write_text("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert folder.read_history() == [{"epoch": 1, "seconds": None}]


@pytest.mark.parametrize("stored", [{"lrs": None}, {"lrs": [], "losses": [], "smoothed": [], "more": 1}])
def test_a_damaged_result_of_the_lr_finder_is_named(folder, stored):
    folder.write_json("lr_finder.json", stored)
    with pytest.raises(CheckpointError, match=r"lr_finder\.json: is damaged"):
        folder.read_finding()


@pytest.mark.parametrize(("section", "key", "value"), OTHER)
def test_an_accuracy_that_is_no_share_is_missing(section, key, value):
    assert key not in sound({**WHOLE, section: {**WHOLE[section], key: value}})[section]
