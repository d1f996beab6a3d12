"""`report RUN`: the page of a run that is over, written again from its folder."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from trainer.cli.main import main
from trainer.run import reporting

RECIPE = """
version: 1
name: tiny
seed: 1
data: {dataset: {type: ImageFolder, root: pets}, val: {fraction: 0.5}, batch_size: 8}
model: {type: SmallCNN, width: 4}
optimizer: {type: SGD, lr: $lr_finder.lr}
scheduler: {type: ReduceLROnPlateau, factor: 0.1, patience: 0, step: {monitor: val/loss}}
lr_finder: {start: 1e-3, end: 1, steps: 8}
train: {epochs: 3, precision: fp32}
report: [Curves, ConfusionMatrix, Misclassified, {type: GradCAM, count: 2}]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run under --fast on a folder of pictures."""
    folder = tmp_path_factory.mktemp("again")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        draw = np.random.default_rng(0)
        for name in ("cat", "dog"):
            Path("pets", name).mkdir(parents=True)
            for index in range(24):
                cv2.imwrite(f"pets/{name}/{index:02}.png", draw.integers(0, 255, (32, 32, 3), dtype=np.uint8))
        Path("tiny.yaml").write_text(RECIPE, encoding="utf-8")
        assert main(["train", "tiny.yaml", "--fast"]) == 0
    return folder


@pytest.fixture
def run(made, tmp_path, monkeypatch):
    """A copy of the run and its data; the folder entered."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    (found,) = Path("runs/tiny").iterdir()
    return found


def test_the_page_and_its_pictures_come_back_as_they_were(run):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.suffix in (".png", ".html", ".md")}
    assert len(before) > 12
    for path in before:
        path.unlink()
    assert main(["report", str(run)]) == 0
    assert [str(path) for path, data in before.items() if path.read_bytes() != data] == []


def test_the_page_of_a_fast_run_on_files_says_what_it_is_and_names_them(run):
    text = (run / "report.md").read_text(encoding="utf-8")
    assert "> **A fast run** (<code>--fast</code>)" in text
    assert "<code>--fast</code> uses 16 images of each part at most." in text
    assert "python -m trainer train tiny.yaml --fast" in text
    assert "in <code>pets</code>: **32** images of 2 classes; RGB, 32 x 32 px." in text
    assert "| **all** | **16** | **16** |" in text
    mistake = next(line for line in text.splitlines() if "taken for" in line and "for the truth" in line)
    assert any(f"<code>{name}/" in mistake for name in ("cat", "dog"))


def test_only_the_report_changes_in_the_summary(run):
    before = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    files = {path: path.stat().st_mtime_ns for path in (run / "checkpoints").iterdir()}
    assert main(["report", str(run)]) == 0
    assert json.loads((run / "summary.json").read_text(encoding="utf-8")) == before
    assert {path: path.stat().st_mtime_ns for path in (run / "checkpoints").iterdir()} == files


def test_a_run_that_was_interrupted_has_a_page_of_what_it_reached(run):
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    left = {key: summary[key] for key in ("fast",)} | {"status": "interrupted"}
    (run / "summary.json").write_text(json.dumps(left), encoding="utf-8")
    (run / "report.html").unlink()
    assert main(["report", str(run)]) == 0
    assert "Best accuracy" in (run / "report.html").read_text(encoding="utf-8")
    assert json.loads((run / "summary.json").read_text(encoding="utf-8"))["status"] == "interrupted"


def test_data_that_lie_elsewhere_are_found_where_they_are_said_to_be(run, capsys):
    Path("pets").rename("moved")
    assert main(["report", str(run)]) == 3
    assert main(["report", str(run), "data.dataset.root=moved"]) == 0
    capsys.readouterr()


def test_other_data_are_refused_and_nothing_is_touched(run, capsys):
    cv2.imwrite("pets/cat/00.png", np.zeros((32, 32, 3), np.uint8))
    for each in sorted(Path("pets/dog").iterdir())[:20]:
        each.unlink()
    before = (run / "report.html").read_bytes()
    assert main(["report", str(run)]) == 3
    assert "images are not those that the run was trained on" in capsys.readouterr().err
    assert (run / "report.html").read_bytes() == before


def test_without_a_browser_the_page_is_written_and_the_way_to_a_pdf_said(run, monkeypatch, capsys):
    monkeypatch.setattr(reporting, "BROWSERS", ())
    (run / "report.html").unlink()
    assert main(["report", str(run), "--pdf"]) == 9
    said = capsys.readouterr().err
    assert "no PDF is made: there is no Chromium, Chrome or Edge here" in said
    assert f"open {run / 'report.html'}, print it, and save it as PDF" in said
    assert (run / "report.html").is_file()
