"""A run from somebody else may hold links: nothing is written through one, whatever file or folder it stands for.

The subjects are found, not listed: a run that writes everything there is is walked, and each of its files and folders
in turn becomes a link to something outside.
"""

import hashlib
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from survival_kit import command, recipe, summary_of, working_in

from registry import files
from registry.catalogue.catalog import catalogue

EVERYTHING = """
version: 1
name: tiny
seed: 3
data: {dataset: {type: Shapes, train_size: 32, val_size: 16, test_size: 16}, batch_size: 8, augment: [HorizontalFlip]}
model: {type: SmallCNN, width: 4}
optimizer: {type: SGD, lr: 0.02}
lr_finder: {start: 1e-3, end: 1, steps: 12}
train: {epochs: 2, precision: fp32, log_every: 2, checkpoint: {keep: 2}}
callbacks: [{type: TensorBoard, histograms: true, pr_curves: true}, CSV, Profiler]
report:
  [Curves, LRFinderCurve, ConfusionMatrix, PerClass, Calibration, Misclassified, AugmentationSheet,
  {type: GradCAM, count: 2}]
"""
MORE = ("train.epochs=3", "callbacks=[{type: TensorBoard, histograms: true}, CSV, Profiler]")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with a finished run that holds everything a run can, two pages of explanations too."""
    from trainer.cli.main import main

    folder = tmp_path_factory.mktemp("links")
    with working_in(folder):
        cv2.imwrite("picture.png", np.zeros((32, 32, 3), np.uint8))
        assert main([recipe(EVERYTHING)]) == 0
        (run,) = Path("runs/tiny").iterdir()
        assert main(["explain", str(run), "picture.png"]) == 0
        run.rename("run")
    return folder


def subjects(run: Path) -> list[str]:
    """Every file and folder of a run, but one of a kind: of ten pictures in a folder, one."""
    kinds: dict[Path, str] = {}
    for path in sorted(run.rglob("*")):
        kinds.setdefault(path.with_name("*.png") if path.suffix == ".png" else path, str(path.relative_to(run)))
    return list(kinds.values())


def listing(folder: Path) -> dict[str, str]:
    """Names and contents of all that lies in a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def test_everything_that_can_be_asked_for_was_written(finished):
    """Else this file would prove less than it says."""
    found = set(subjects(finished / "run"))
    for name in (
        "log.txt", "summary.json", "environment.json", "metrics.jsonl", "metrics.csv", "lr_finder.json", "recipe.yaml",
        "resolved.yaml", "report.html", "report.md", "checkpoints/last.pt", "checkpoints/best.safetensors", "figures",
        "gradcam", "tensorboard/val", "profile/trace.json.gz", "explain/pictures",
    ):  # fmt: skip
        assert name in found, name
    assert len(found) > 25
    parts = {name for name in catalogue().names("report") if f"{name}" not in EVERYTHING}
    assert parts == set(), "a new part of the report belongs into this recipe"
    sinks = {name for name in catalogue().names("callback") if name not in EVERYTHING}
    no_file, elsewhere = {"EarlyStopping", "ModelSummary", "ParameterNorms"}, {"MLflow", "WandB"}
    assert sinks == no_file | elsewhere, "these write no file of their own, or none below the run"


def with_links(original: Path, place: Path, *names: str) -> Path:
    """Copy a run and put links to things in `place`/outside where it has `names`; return the copy."""
    run = place / "run"
    shutil.copytree(original, run)
    (place / "outside").mkdir()
    for number, name in enumerate(names):
        kept = place / "outside" / f"kept{number}"
        if (run / name).exists():
            (run / name).rename(kept)
        else:
            kept.write_text("somebody's own")
        (run / name).symlink_to(kept)
    return run


@pytest.mark.parametrize("words", [("resume", *MORE), ("explain", "picture.png"), ("explain",)], ids=" ".join)
def test_no_file_and_no_folder_of_a_run_is_written_through_a_link(capsys, finished, tmp_path, words):
    for number, name in enumerate([*subjects(finished / "run"), "lock"]):
        place = tmp_path / str(number)
        run = with_links(finished / "run", place, name)
        outside, inside = listing(place / "outside"), listing(run)
        with working_in(finished):
            ended = command(capsys, words[0], str(run), *words[1:])
        assert listing(place / "outside") == outside, name
        assert ended.code in (5, 6), (name, ended.said)
        assert f"{name}: is a link to {place}/outside/kept0" in ended.err, (name, ended.said)
        assert listing(run) == inside, f"{name}: what is refused touches nothing"
        shutil.rmtree(place)


# What a run cannot do without ends it; all else is left out with a line, and the run goes on.
NEEDED = ("lock", "log.txt", "summary.json", "environment.json", "resolved.yaml", "checkpoints")
FOLDERS = ("figures", "gradcam", "tensorboard", "profile")


@pytest.mark.parametrize("which", [*NEEDED, "folders", "files"])
def test_without_the_look_beforehand_each_writer_refuses_by_itself(capsys, finished, tmp_path, monkeypatch, which):
    """A link may appear while a run goes on, so no writer relies on the look through the run at its beginning."""
    monkeypatch.setattr(files, "refuse_links", lambda _: None)
    found = [name for name in subjects(finished / "run") if (finished / "run" / name).is_file()]
    soft = [name for name in found if name not in NEEDED and not name.startswith(("checkpoints/", "explain/"))]
    names = {"folders": FOLDERS, "files": soft}.get(which, (which,))
    run = with_links(finished / "run", tmp_path, *names)
    outside = listing(tmp_path / "outside")
    with working_in(finished):
        ended = command(capsys, "resume", str(run), *MORE)
    assert listing(tmp_path / "outside") == outside
    assert "is a link to" in ended.said
    if which in NEEDED:
        assert ended.code == 5, ended.said


@pytest.mark.parametrize("name", ["explain", "explain/pictures"])
def test_a_page_of_explanations_is_not_made_through_a_link_either(capsys, finished, tmp_path, monkeypatch, name):
    monkeypatch.setattr(files, "refuse_links", lambda _: None)
    run = with_links(finished / "run", tmp_path, name)
    outside = listing(tmp_path / "outside")
    with working_in(finished):
        ended = command(capsys, "explain", str(run), "picture.png")
    assert listing(tmp_path / "outside") == outside
    assert ended.code == 5, ended.said


@pytest.mark.parametrize("words", [("evaluate",), ("predict", "picture.png")], ids=" ".join)
def test_what_only_looks_writes_through_no_link(capsys, finished, tmp_path, words):
    for number, name in enumerate(("log.txt", "lock", "summary.json", "figures", "tensorboard", "checkpoints")):
        place = tmp_path / str(number)
        run = with_links(finished / "run", place, name)
        outside = listing(place / "outside")
        with working_in(finished):
            command(capsys, words[0], str(run), *words[1:])
        assert listing(place / "outside") == outside, name
        shutil.rmtree(place)


def test_a_link_inside_a_run_to_something_inside_it_is_the_users_own_affair(capsys, finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run)
    (run / "the-best").symlink_to("checkpoints/best.pt")
    with working_in(finished):
        assert command(capsys, "resume", str(run), *MORE).code == 0
    assert summary_of(run)["epochs"] == 3
    assert (run / "the-best").is_symlink()
