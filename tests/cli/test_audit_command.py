"""`audit`: what it writes and says, of a recipe and of a run; and the same findings on the run's own report."""

import json
import re
import sys
from pathlib import Path

import pytest

from trainer.cli.main import main
from trainer.run import predictions as predictions_file
from trainer.stages.audit import audit_of

sys.path.insert(0, str(Path(__file__).parent.parent / "audit"))
from made_pictures import NAMES, planted, scenes, write

RECIPE = """
version: 1
name: own
seed: 3
data:
  dataset: {type: ImageFolder, root: pictures}
  batch_size: 16
  augment: [{type: Resize, height: 24, width: 24}]
  eval: [{type: Resize, height: 24, width: 24}]
model: {type: SmallCNN, width: 8}
optimizer: {type: SGD, lr: 0.02}
train: {epochs: 1, precision: fp32}
callbacks: []
report: []
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with planted leaks and a broken picture, audited before and after a tiny run."""
    folder = tmp_path_factory.mktemp("audit")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        planted(folder / "pictures", train=40, test=10)
        broken = folder / "pictures" / "train" / NAMES[0] / "broken.png"
        broken.write_bytes(b"no picture")
        (folder / "own.yaml").write_text(RECIPE, encoding="utf-8")
        assert main(["audit", "own.yaml"]) == 0
        assert main(["train", "own.yaml", "data.on_bad_image=skip"]) == 0
    return folder


def test_a_recipe_is_audited_without_training_and_a_broken_picture_stops_nothing(place):
    (audit,) = place.glob("runs/own/*-audit")
    page = (audit / "report.html").read_text(encoding="utf-8")
    assert "9 of the 19 test pictures" in page
    lines = (audit / "audit.csv").read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith("leak,") for line in lines) == 9
    assert any(line.startswith(f"broken,train/{NAMES[0]}/broken.png,") for line in lines)
    assert not list(audit.glob("checkpoints/*"))


def test_the_report_of_a_run_on_ones_own_pictures_has_the_same_findings(place):
    run = next(path.parent for path in place.glob("runs/own/*/summary.json"))
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    facts = summary["report"]["audit"]
    assert (facts["leaked_test"] + facts["leaked_val"], facts["broken"]) in {(9, 1), (8, 1)}, (
        "one may be like validation"
    )
    assert facts["test_accuracy"] == pytest.approx(summary["test"]["best"]["accuracy"])
    text = (run / "report.md").read_text(encoding="utf-8")
    assert "test pictures are like training pictures: without them the accuracy is" in text
    assert "leak," in (run / "audit.csv").read_text(encoding="utf-8")


def test_of_a_run_the_accuracy_is_given_with_and_without_leaks(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    run = next(path.parent for path in place.glob("runs/own/*/summary.json"))
    facts = json.loads((run / "summary.json").read_text(encoding="utf-8"))["report"]["audit"]
    assert main(["audit", str(run)]) == 0
    said = capsys.readouterr().out
    with_them, without = facts["test_accuracy"], facts["test_accuracy_without_leaked"]
    assert f"test accuracy     {100 * with_them:.2f} % with them, {100 * without:.2f} % without" in said


def test_a_run_whose_pictures_are_others_now_is_audited_without_its_accuracy(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    run = next(path.parent for path in place.glob("runs/own/*/summary.json"))
    write(place / "pictures" / "test" / NAMES[9] / "new.png", scenes(1, seed=8)[0])
    assert main(["audit", str(run)]) == 0
    said = capsys.readouterr().out
    assert "are not those that" in said
    assert "test accuracy" not in said


def test_a_run_whose_pictures_were_told_by_their_files_is_audited_with_its_accuracy(tmp_path, monkeypatch, capsys):
    """As JPEGs of several sizes are, which nobody decodes before training."""
    monkeypatch.chdir(tmp_path)
    for place, image in enumerate(scenes(24, side=40)):
        write(tmp_path / "pictures" / NAMES[place % 2] / f"{place:02}.jpg", image[: 30 + place % 7])
    for copy in range(8):  # some of them are validated on, others learnt from
        write(tmp_path / "pictures" / NAMES[0] / f"copy-{copy}.jpg", scenes(1, side=40)[0])
    held_out = RECIPE.replace("name: own", "name: told").replace("data:", "data:\n  val: {fraction: 0.5}", 1)
    (tmp_path / "told.yaml").write_text(held_out, encoding="utf-8")
    assert main(["train", "told.yaml"]) == 0
    run = next(path.parent for path in tmp_path.glob("runs/told/*/summary.json"))
    assert predictions_file.read(run).keyed_by == predictions_file.CONTENTS
    capsys.readouterr()
    assert main(["audit", str(run)]) == 0
    said = capsys.readouterr().out
    assert "are not those that" not in said
    assert re.search(r"val accuracy +\d", said)


def test_a_run_on_data_that_are_no_files_and_a_fast_one_have_no_audit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shapes = RECIPE.replace("{type: ImageFolder, root: pictures}", "{type: Shapes, train_size: 20, val_size: 10}")
    (tmp_path / "shapes.yaml").write_text(shapes, encoding="utf-8")
    assert main(["train", "shapes.yaml", "data.dataset.test_size=10"]) == 0
    (summary,) = tmp_path.glob("runs/own/*/summary.json")
    assert "audit" not in json.loads(summary.read_text(encoding="utf-8"))["report"]


def test_a_folder_of_which_half_cannot_be_read_is_audited_and_every_broken_file_is_listed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, image in enumerate(scenes(20)):
        write(tmp_path / "pictures" / "ab"[number % 2] / f"{number:02d}.png", image)
        if number % 4 > 1:
            (tmp_path / "pictures" / "ab"[number % 2] / f"{number:02d}.png").write_bytes(b"no picture")
    (tmp_path / "own.yaml").write_text(RECIPE, encoding="utf-8")
    assert main(["audit", "own.yaml"]) == 0
    (listed,) = tmp_path.glob("runs/own/*-audit/audit.csv")
    assert listed.read_text(encoding="utf-8").count("\nbroken,") == 10
    assert main(["train", "own.yaml", "data.on_bad_image=skip"]) == 3, "a run is not made of the other half"


def test_a_split_of_which_nothing_can_be_read_is_a_finding_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, image in enumerate(scenes(12)):
        part = "test" if number > 9 else "train"
        write(tmp_path / "pictures" / part / "ab"[number % 2] / f"{number:02d}.png", image)
    for path in Path("pictures/test").rglob("*.png"):
        path.write_bytes(b"no picture")
    (tmp_path / "own.yaml").write_text(RECIPE, encoding="utf-8")
    assert main(["audit", "own.yaml"]) == 0
    (listed,) = tmp_path.glob("runs/own/*-audit/audit.csv")
    assert listed.read_text(encoding="utf-8").count("\nbroken,test/") == 2


def test_groups_that_a_table_has_on_both_sides_are_found(tmp_path, experiment_of):
    rows = ["path,label,split,patient"]
    for number, image in enumerate(scenes(12)):
        write(tmp_path / f"{number}.png", image)
        rows.append(f"{number}.png,{'ab'[number % 2]},{'test' if number > 8 else 'train'},p{number % 7}")
    (tmp_path / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    table = f"{{type: Table, file: {tmp_path}/labels.csv, image: path, target: label, split: split, group: patient}}"
    experiment = experiment_of(RECIPE.replace("{type: ImageFolder, root: pictures}", table))
    found = audit_of(experiment)
    in_test = {each.group for each in found.shared if dict(each.counts).get("test")}
    assert found.grouped
    assert in_test == {"p2", "p3", "p4"}
