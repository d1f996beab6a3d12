"""The loop of a label review: planted wrong labels are named by folds and by a run, decided in a list, corrected."""

import csv
import io
import json

import cv2
import numpy as np
import pytest

from trainer.cli.main import main

NAMES = ("blue", "green", "red")
RECIPE = """
version: 1
name: colours
seed: 3
data:
  dataset: {type: ImageFolder, root: pictures}
  val: {fraction: 0.3}
  batch_size: 16
  preprocess: [{type: Normalize, mean: $data.mean, std: $data.std}]
model: {type: SmallCNN, width: 8}
optimizer: {type: AdamW, lr: 0.01}
train: {epochs: 4, precision: fp32}
callbacks: []
report: []
"""
PLANTED = {"blue/05.png": "red", "green/27.png": "blue", "red/49.png": "green", "blue/71.png": "red"}
DECIDED = """path,given,suggested,decision
blue/05.png,blue,red,yes
green/27.png,green,blue,YES
red/49.png,red,green,drop
blue/71.png,blue,red,no
red/02.png,red,blue,
"""


def lines_of(path):
    """Read a list."""
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Noise in three colours, four of 90 under another one: audited with --labels, corrected by the list, trained."""
    folder, draw = tmp_path_factory.mktemp("labels"), np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for number in range(90):
            image = draw.integers(0, 120, (24, 24, 3), dtype=np.uint8)
            image[..., number % 3] += 100
            shown = NAMES[(number % 3 + (number in (5, 27, 49, 71))) % 3]
            (folder / "pictures" / shown).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(f"pictures/{shown}/{number:02d}.png", image)
        (folder / "colours.yaml").write_text(RECIPE, encoding="utf-8")
        assert main(["audit", "colours.yaml", "--labels", "--folds", "2"]) == 0
        (folder / "fixes.csv").write_text(DECIDED, encoding="utf-8")
        assert main(["train", "colours.yaml", "data.fixes=fixes.csv"]) == 0
    return folder


def test_planted_labels_are_named_with_the_right_class_and_no_others(place):
    (found,) = place.glob("runs/colours/*-audit/fixes.csv")
    rows = lines_of(found)
    named = {row["path"]: row["suggested"] for row in rows}
    assert named.items() <= PLANTED.items()
    assert len(named) >= 3
    assert {row["decision"] for row in rows} == {""}
    assert all(row["given"] == row["path"].partition("/")[0] for row in rows)
    page = (found.parent / "report.html").read_text(encoding="utf-8")
    assert ">Probably mislabelled</h2>" in page


def test_each_fold_is_a_run_that_is_kept_and_not_trained_again(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    before = {path: path.stat().st_mtime_ns for path in place.glob("runs/colours-labels/*/metrics.jsonl")}
    assert len(before) == 2
    assert main(["audit", "colours.yaml", "--labels", "--folds", "2"]) == 0
    assert capsys.readouterr().out.count("it is complete") == 2
    assert {path: path.stat().st_mtime_ns for path in place.glob("runs/colours-labels/*/metrics.jsonl")} == before


def test_the_list_corrects_a_run_which_counts_it_in_its_log_and_on_its_page(place):
    (summary,) = place.glob("runs/colours/*/summary.json")
    log = (summary.parent / "log.txt").read_text(encoding="utf-8")
    assert "fixes.csv: 2 labels changed, 1 picture left out in split 'train'" in log
    assert sum(json.loads(summary.read_text(encoding="utf-8"))["images"].values()) == 89
    page = (summary.parent / "report.md").read_text(encoding="utf-8")
    assert "2 labels changed, 1 picture left out, 1 label kept as given, 1 line not decided." in page
    assert "fixes: fixes.csv" in (summary.parent / "resolved.yaml").read_text(encoding="utf-8")


def test_other_pictures_of_the_same_names_keep_their_labels_when_they_are_measured(
    place, monkeypatch, tmp_path, capsys
):
    (summary,) = place.glob("runs/colours/*/summary.json")
    for path in DECIDED.splitlines()[1:]:
        name = path.partition(",")[0]
        (tmp_path / "new" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(
            str(tmp_path / "new" / name), np.random.default_rng(7).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        )
    monkeypatch.chdir(place)
    assert main(["evaluate", str(summary.parent), f"data.dataset.root={tmp_path / 'new'}"]) == 0
    said = capsys.readouterr().out
    assert "data.fixes (fixes.csv) is about the run's own pictures, which these are not" in said
    assert "labels changed" not in said
    assert main(["evaluate", str(summary.parent)]) == 0
    assert "2 labels changed, 1 picture left out" in capsys.readouterr().out
    words = [f"data.dataset.root={tmp_path / 'new'}", "data.fixes=fixes.csv"]  # said for these
    assert main(["evaluate", str(summary.parent), *words]) == 0
    assert "2 labels changed, 1 picture left out" in capsys.readouterr().out


def test_a_run_reviews_its_own_validation_part(place):
    """Of the four planted two are corrected and one is left out; the last lies in validation, or is learnt from."""
    (summary,) = place.glob("runs/colours/*/summary.json")
    facts = json.loads(summary.read_text(encoding="utf-8"))["report"]["audit"]
    listed = summary.parent / "fixes.csv"
    paths = [row["path"] for row in lines_of(listed)] if listed.exists() else []
    assert facts["probably_mislabelled"] == len(paths)
    assert set(paths) <= {"blue/71.png"}


def test_a_decision_about_a_picture_that_is_gone_is_told(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    (place / "gone.csv").write_text("path,given,suggested,decision\nred/999.png,red,blue,yes\n", encoding="utf-8")
    assert main(["audit", "colours.yaml", "data.fixes=gone.csv"]) == 0
    assert (
        "warning: 1 decision of gone.csv names no picture of these data: red/999.png (gone.csv:2)"
        in capsys.readouterr().out
    )


def test_a_decision_that_no_longer_fits_ends_the_run_with_its_line(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    (place / "stale.csv").write_text("path,given,suggested,decision\nblue/05.png,green,red,yes\n", encoding="utf-8")
    assert main(["train", "colours.yaml", "data.fixes=stale.csv"]) == 3
    assert "stale.csv:2: blue/05.png was 'green' when the list was made, and is 'blue' now" in capsys.readouterr().err


def test_a_list_corrects_the_rows_of_a_table_too(tmp_path, experiment_of):
    for number in range(8):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((24, 24, 3), 30 * number, np.uint8))
    rows = [f"{number}.png,{'ab'[number % 2]},{'val' if number > 5 else 'train'}" for number in range(8)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,split", *rows]), encoding="utf-8")
    decided = ["path,given,suggested,decision", "1.png,b,a,yes", "6.png,a,b,yes", "3.png,b,a,drop"]
    (tmp_path / "fixes.csv").write_text("\n".join(decided), encoding="utf-8")
    table = f"{{type: Table, file: {tmp_path}/labels.csv, image: path, target: label, split: split}}"
    text = RECIPE.replace("{type: ImageFolder, root: pictures}", table).replace("  val: {fraction: 0.3}\n", "")
    data = experiment_of(text, [f"data.fixes={tmp_path}/fixes.csv"]).data
    assert data.train.targets.tolist() == [0, 0, 0, 0, 1]
    assert data.val.targets.tolist() == [1, 1]
    assert data.fixes.endswith("2 labels changed, 1 picture left out.")
