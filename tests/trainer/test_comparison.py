"""`compare RUN...`: seeds give mean and deviation, settings that differ are named."""

import re
import statistics
from pathlib import Path

import pytest

from trainer.cli import main
from trainer.run_folder import RunFolder

RECIPE = """
version: 1
name: tiny
seed: 1
data: {dataset: {type: Shapes, train_size: 32, val_size: 16}, batch_size: 16}
model: {type: SmallCNN, width: 4}
optimizer: {type: SGD, lr: 0.02}
train: {epochs: 2, precision: fp32}
report: []
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Train by two seeds and by another learning rate; return the folder and the runs in it, in this order."""
    folder = tmp_path_factory.mktemp("compare")
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "tiny.yaml").write_text(RECIPE, encoding="utf-8")
        for override in ("seed=1", "seed=2", "optimizer.lr=0.05"):
            assert main(["train", "tiny.yaml", override]) == 0
            found += [str(run) for run in (folder / "runs" / "tiny").glob("2*") if str(run) not in found]
    return folder, found


@pytest.fixture
def compared(runs, capsys, monkeypatch):
    """Compare runs by their number; return what was said and the page."""

    def act(*numbers):
        folder, found = runs
        monkeypatch.chdir(folder)
        monkeypatch.setenv("COLUMNS", "80")
        capsys.readouterr()
        assert main(["compare", *(found[number] for number in numbers)]) == 0
        said = capsys.readouterr().out
        page = folder / said.split("report ")[-1].strip()
        return said, page.read_text(encoding="utf-8")

    return act


def test_two_seeds_give_mean_and_deviation(runs, compared):
    said, page = compared(0, 1)
    values = [RunFolder.open(run).read_json("summary.json")["best"]["val/loss"] for run in map(Path, runs[1][:2])]
    expected = f"{statistics.mean(values):.4f} +- {statistics.stdev(values):.4f} over 2 seeds"
    assert expected in said
    assert expected in page
    assert "seed: 1 | 2" in said


def test_a_setting_that_differs_is_named_and_is_no_other_seed(compared):
    said, page = compared(0, 2)
    assert "optimizer.lr: 0.02 | 0.05" in said
    assert "+-" not in said
    assert "optimizer.lr" in page
    assert "0.05" in page


def test_curves_of_all_runs_lie_over_each_other(runs, compared):
    _, page = compared(0, 1, 2)
    charts = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(charts) >= 4
    assert all(run.rsplit("/", 1)[1] in page for run in runs[1])


def test_the_numbers_of_all_runs_stand_side_by_side_on_eighty_columns(runs, compared):
    said, _ = compared(0, 1, 2)
    best = [f"{RunFolder.open(Path(run)).read_json('summary.json')['best']['val/loss']:.4f}" for run in runs[1]]
    assert re.search(rf"^best/val_loss +{' [|] '.join(best)}$", said, re.MULTILINE)
    long = [line for line in said.splitlines() if len(line) > 80 and "report" not in line]
    assert not long
