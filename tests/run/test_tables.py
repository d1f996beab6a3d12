"""Runs on a table: equal to the archive's bit for bit, once per fold, and loaded as the pictures were read."""

from __future__ import annotations

import csv
import hashlib
import pickle
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import trainer
from registry.datasets.cifar import CIFAR10
from registry.datasets.decoding import Decoding
from trainer.cli.main import main
from trainer.comparison.rows import compared
from trainer.comparison.runs import read_run
from trainer.data.fitting import Fitting
from trainer.recipe.load import load_recipe
from trainer.recipe.recipe import Recipe
from trainer.run.beginning import repeated
from trainer.run.loading import decoding_of

RECIPE = """\
version: 1
name: {name}
data:
  dataset: {dataset}
  val: {{fraction: 0.2}}
  batch_size: 50
  augment: [{{type: HorizontalFlip, p: 0.5}}, {{type: Rotate, limit: 15, p: 0.5}}]
  preprocess: [{{type: Normalize, mean: $data.mean, std: $data.std}}]
model: {{type: SmallCNN, width: 4}}
optimizer: {{type: SGD, lr: 0.05, momentum: 0.9}}
train: {{epochs: {epochs}, device: cpu}}
report: []
callbacks: []
"""
ARCHIVE = "{type: CIFAR10, root: archive}"
TABLE = "{type: Table, file: labels.csv, image: path, target: label, split: split}"


def write_table(root: str = "archive") -> None:
    """Write what the archive at `root` holds as PNG files and a table, in the archive's order."""
    Path("pngs").mkdir()
    with Path("labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label", "split", "photographer"))
        for split in ("train", "test"):
            source = CIFAR10(root, split=split, download=False)
            for index, (image, target) in enumerate(zip(source.packed(), source.targets.tolist(), strict=True)):
                path = f"pngs/{split}-{index:05}.png"
                cv2.imwrite(path, np.ascontiguousarray(image[..., ::-1]))
                rows.writerow((path, source.class_names[target], split, f"p{index // 9}"))


@pytest.fixture
def small_archive(tmp_path: Path, cifar_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the first pictures of the real CIFAR-10 into an archive of its own, archive/, and into a table."""
    monkeypatch.chdir(tmp_path)
    folder, real = Path("archive/cifar-10-batches-py"), cifar_root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    shutil.copy(real / "batches.meta", folder)
    files: dict[str, dict[str, str]] = {"train": {}, "test": {}}
    for split, name, count in (("train", "data_batch_1", 300), ("test", "test_batch", 60)):
        whole = pickle.loads((real / name).read_bytes(), encoding="bytes")
        part = pickle.dumps({key: whole[key][:count] for key in (b"data", b"labels")}, protocol=2)
        (folder / name).write_bytes(part)
        files[split][name] = hashlib.md5(part).hexdigest()
    monkeypatch.setattr(CIFAR10, "files", files)
    write_table()


def equal_runs(datasets: Sequence[str], epochs: int) -> Path:
    """Train on each, hold the runs against one another to the last bit, and return the last one's folder."""
    runs = []
    for number, dataset in enumerate(datasets):
        Path("recipe.yaml").write_text(RECIPE.format(name=f"run{number}", dataset=dataset, epochs=epochs))
        runs.append(trainer.train("recipe.yaml"))
    first, other = runs
    measured = [[{key: row[key] for key in row if key != "seconds"} for row in run.history] for run in runs]
    assert measured[0] == measured[1]
    assert first.class_names == other.class_names
    assert first.summary["test"] == other.summary["test"]
    ours, theirs = (load_file(run.folder.path / "checkpoints/best.safetensors") for run in runs)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    return other.folder.path


@pytest.mark.usefixtures("small_archive")
def test_cifar10_as_png_files_and_a_table_trains_as_the_archive_does_to_the_last_bit() -> None:
    run = equal_runs((ARCHIVE, TABLE), epochs=2)
    Path("labels.csv").rename("moved.csv")
    assert main(["resume", str(run), "train.epochs=3"]) == 3
    assert main(["resume", str(run), "train.epochs=3", "data.dataset.file=moved.csv"]) == 0, "the same images elsewhere"


@pytest.mark.slow  # writes 60,000 files and trains two epochs on 50,000 pictures
def test_all_of_cifar10_as_png_files_and_a_table_trains_as_the_archive_does(
    tmp_path: Path, cifar_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(str(cifar_root))
    equal_runs((ARCHIVE.replace("archive", str(cifar_root)), TABLE), epochs=1)


@pytest.mark.usefixtures("small_archive")
def test_every_fold_is_a_run_and_the_numbers_have_mean_and_deviation(capsys: pytest.CaptureFixture[str]) -> None:
    grouped = TABLE.replace("}", ", group: photographer}")
    Path("recipe.yaml").write_text(RECIPE.format(name="folded", dataset=grouped, epochs=1))
    expected = "expect={final val/loss: '<= 100'}"
    last = trainer.train(
        "recipe.yaml", "data.val={fraction: null, folds: 3, group: photographer}", "data.limit=60", expected
    )
    folders = sorted(Path("runs/folded").glob("*-f?"), key=lambda folder: folder.name[-1])
    assert [folder.name[-3:] for folder in folders] == ["-f0", "-f1", "-f2"]
    assert last.folder.path.name == folders[-1].name
    said = capsys.readouterr()
    assert "over 3 folds" in said.out + said.err
    assert (last.exit_code, len(last.verdicts)) == (0, 1)
    divided = (
        "7 of 34 groups of 'photographer' lie in more than one split, as 'p0' in train (line 2) and test (line 302)"
    )
    assert any(divided in warning for warning in last.summary["warnings"]), last.summary["warnings"]
    resolved = [load_recipe(folder / "resolved.yaml").usable().data.val for folder in folders]
    assert [(val.folds, val.fold, val.group) for val in resolved] == [
        (3, number, "photographer") for number in range(3)
    ]
    (row,) = compared([read_run(folder) for folder in folders]).rows
    assert (row.many, list(row.by_fold)) == ("3 folds", [0, 1, 2])


def test_pictures_are_predicted_as_the_run_read_its_own(write_recipe: Callable[[str], Path]) -> None:
    arguments = "{type: Table, file: labels.csv, channels: 1, bits: 12, background: [0, 50, 100]}"
    assert decoding_of(recipe(write_recipe, "test", f"data.dataset={arguments}")) == Decoding(4095, 1, (0, 50, 100))
    assert decoding_of(recipe(write_recipe, "test")) == Decoding()
    clear = np.zeros((2, 2, 4), dtype=np.uint8)
    assert Fitting(3, None, (0, 50, 100)).apply(clear)[0, 0].tolist() == [0, 50, 100]


def recipe(write_recipe: Callable[[str], Path], val: str, *overrides: str) -> Recipe:
    text = RECIPE.format(name="many", dataset="Shapes", epochs=1).replace("{fraction: 0.2}", val)
    return load_recipe(write_recipe(text), overrides).usable()


def test_seeds_and_folds_are_runs_each_with_a_folder_of_its_own(write_recipe: Callable[[str], Path]) -> None:
    both = repeated(recipe(write_recipe, "{folds: 2}", "seeds=[3, 4]"))
    assert [single.suffix for single in both] == ["-s3-f0", "-s3-f1", "-s4-f0", "-s4-f1"]
    assert both[1].said == "seed 3, fold 1"
    assert [(single.recipe.seed, single.recipe.seeds, single.recipe.data.val.fold) for single in both] == [
        *((3, None, 0), (3, None, 1), (4, None, 0), (4, None, 1)),
    ]
    (one,) = repeated(recipe(write_recipe, "{folds: 2, fold: 1}"))
    assert (one.suffix, one.recipe.data.val.fold) == ("", 1)
    plain = recipe(write_recipe, "{fraction: 0.1}")
    assert [single.recipe for single in repeated(plain)] == [replace(plain)]
