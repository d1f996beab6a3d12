"""`compare RUN...`: seeds give mean and deviation, settings that differ are named."""

import json
import re
import shutil
import statistics
from pathlib import Path

import cv2
import numpy as np
import pytest

from trainer.cli.main import main
from trainer.run.folder import RunFolder

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
    """Train by two seeds, by both at another learning rate, and by the first again; return the folder and the runs."""
    folder = tmp_path_factory.mktemp("compare")
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "tiny.yaml").write_text(RECIPE, encoding="utf-8")
        for overrides in (["seed=1"], ["seed=2"], ["optimizer.lr=0.05"], ["optimizer.lr=0.05", "seed=2"], ["seed=1"]):
            assert main(["train", "tiny.yaml", *overrides]) == 0
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
    assert all(run.rsplit("/", 1)[1] in page for run in runs[1][:3])


def test_the_numbers_of_all_runs_stand_side_by_side_on_eighty_columns(runs, compared):
    said, _ = compared(0, 1, 2)
    best = [f"{RunFolder.open(Path(run)).read_json('summary.json')['best']['val/loss']:.4f}" for run in runs[1][:3]]
    assert re.search(rf"^best/val_loss +{' [|] '.join(best)}$", said, re.MULTILINE)
    long = [line for line in said.splitlines() if len(line) > 80 and "report" not in line and "(seed 2)" not in line]
    assert not long


def best_losses(runs, *numbers: int) -> list[float]:
    return [RunFolder.open(Path(runs[1][n])).read_json("summary.json")["best"]["val/loss"] for n in numbers]


def test_every_group_of_seeds_is_printed_with_its_name_and_its_own_numbers(runs, compared):
    said, page = compared(0, 1, 2, 3)
    for name, numbers in (("tiny, optimizer.lr 0.02", (0, 1)), ("tiny, optimizer.lr 0.05", (2, 3))):
        values = best_losses(runs, *numbers)
        expected = f"{statistics.mean(values):.4f} +- {statistics.stdev(values):.4f} over 2 seeds"
        after = said.partition(f"{name}, one experiment over 2 seeds: ")[2]
        members = [Path(runs[1][number]).name for number in numbers]
        assert all(f"tiny/{member} (seed {seed})" in after for seed, member in enumerate(members, start=1))
        table = after.splitlines()[1:]
        assert re.search(rf"^best/val_loss +{re.escape(expected)}$", "\n".join(table), re.MULTILINE)
        assert expected in page
        assert f"{name}: mean and standard deviation" in page


def test_a_copied_run_is_identical_and_no_second_seed(runs, compared):
    copy = Path(runs[1][0]).with_name("copied")
    if not copy.exists():
        shutil.copytree(runs[1][0], copy)
    runs[1].append(str(copy))
    said, page = compared(0, len(runs[1]) - 1)
    runs[1].pop()
    assert f"tiny/copied is identical to tiny/{Path(runs[1][0]).name}" in said
    assert "identical to" in page
    assert "+-" not in said
    assert "+-" not in page


def test_two_runs_of_one_name_are_told_apart_by_their_paths(runs, compared):
    copy = Path("elsewhere", "tiny", Path(runs[1][0]).name)
    target = runs[0] / copy
    if not target.exists():
        shutil.copytree(runs[1][0], target)
    runs[1].append(str(target))
    said, _ = compared(0, len(runs[1]) - 1)
    runs[1].pop()
    assert f"{target} is identical to {runs[1][0]}" in said


def test_the_same_seed_again_is_no_second_seed(runs, compared):
    said, _ = compared(0, 4)
    first, again = (Path(runs[1][number]).name for number in (0, 4))
    assert f"tiny/{again} has the seed of tiny/{first}: no second seed" in said
    assert "+-" not in said
    said, _ = compared(0, 4, 1)
    assert "over 2 seeds" in said, "two of the three count"
    assert "over 3 seeds" not in said


def test_patterns_on_the_page_are_shown_as_they_are(runs, compared):
    name = Path(runs[1][0]).parent / "patterned"
    shutil.copytree(runs[1][0], name)
    resolved = name / "resolved.yaml"
    text = resolved.read_text(encoding="utf-8")
    regularizers = "regularizers: [{type: L1, strength: 1e-5, include: ['layer1.**', '**.weight']}]\n"
    resolved.write_text(re.sub(r"(?m)^regularizers:.*\n", "", text) + regularizers, encoding="utf-8")
    runs[1].append(str(name))
    _, page = compared(0, len(runs[1]) - 1)
    runs[1].pop()
    shutil.rmtree(name)
    assert "[&#39;layer1.**&#39;, &#39;**.weight&#39;]" in page


def test_what_the_learning_rate_was_searched_with_is_compared_and_what_was_found_is_no_setting(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    text = RECIPE.replace("lr: 0.02", "lr: $lr_finder.lr")
    Path("a.yaml").write_text(text + "lr_finder: {start: 1e-3, end: 1}\n", encoding="utf-8")
    for overrides in (["seed=1"], ["seed=2"], ["seed=2", "lr_finder.end=9"]):
        assert main(["train", "a.yaml", "--fast", *overrides]) == 0
    found = sorted(map(str, Path("runs/tiny").glob("2*")))
    lrs = [json.loads((Path(run) / "lr_finder.json").read_text())["lr"] for run in found]
    capsys.readouterr()
    assert main(["compare", *found]) == 0
    said = capsys.readouterr().out
    assert "lr_finder.end: 1 | 1 | 9" in said
    assert "optimizer.lr" not in said, "found is found, whatever the number"
    assert "over 2 seeds" in said
    page = Path(said.split("report ")[-1].strip()).read_text(encoding="utf-8")
    assert "lr_finder.end" in page
    assert all(f"{lr:.4g}" in page for lr in lrs)


# ---------------------------------------------------------------------------------------------------------------- data
PETS = RECIPE.replace("{type: Shapes, train_size: 32, val_size: 16}", "{type: ImageFolder, root: data}")


def pictures(root: Path, *classes: str, count: int = 8) -> None:
    draw = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                picture = draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)
                cv2.imwrite(str(root / split / name / f"{index}.png"), picture)


def trained(where: Path, monkeypatch, *overrides: str) -> Path:
    """Train what `where`/data holds, from `where`, and return the new run."""
    monkeypatch.chdir(where)
    before = set(where.glob("runs/tiny/2*"))
    (where / "pets.yaml").write_text(PETS, encoding="utf-8")
    assert main(["train", "pets.yaml", "train.epochs=1", *overrides]) == 0
    (run,) = set(where.glob("runs/tiny/2*")) - before
    return run


def said_of(capsys, *runs: Path) -> str:
    capsys.readouterr()
    assert main(["compare", *map(str, runs)]) == 0
    return capsys.readouterr().out


def test_seeds_are_averaged_only_over_the_same_images(tmp_path, capsys, monkeypatch):
    for name, classes in (("one", ("cat", "dog")), ("other", ("elk", "fox")), ("copy", ("cat", "dog"))):
        pictures(tmp_path / name / "data", *classes)
    first = trained(tmp_path / "one", monkeypatch, "seed=1")
    elsewhere = trained(tmp_path / "other", monkeypatch, "seed=2")
    alike = trained(tmp_path / "copy", monkeypatch, "seed=3")

    said = said_of(capsys, first, elsewhere)
    assert "+-" not in said, "root: data held other classes"
    images = re.search(r"^  images: (.*)$", said, re.MULTILINE)[1].split(" | ")
    assert [text.rpartition(" (")[0] for text in images] == [
        "16 to learn from, classes cat, dog",
        "16 to learn from, classes elk, fox",
    ]

    said = said_of(capsys, first, alike)
    assert "over 2 seeds" in said, "the same images in another place"
    assert "images: " not in said

    (tmp_path / "one/data/train/dog/7.png").unlink()
    fewer = trained(tmp_path / "one", monkeypatch, "seed=2")
    said = said_of(capsys, first, fewer)
    assert "+-" not in said, "pictures were deleted between two seeds"
    assert re.search(r"images: 16 to learn from, .* \| 15 to learn from, ", said)

    picture = tmp_path / "copy/data/val/cat/0.png"
    cv2.imwrite(str(picture), np.zeros((16, 16, 3), np.uint8))
    changed = trained(tmp_path / "copy", monkeypatch, "seed=4")
    said = said_of(capsys, alike, changed)
    assert "+-" not in said, "a picture that is measured on is another"
    assert "  images: " in said


def test_a_share_that_the_seed_draws_from_the_same_images_is_no_difference(tmp_path, capsys, monkeypatch):
    pictures(tmp_path / "data", "cat", "dog")
    runs = [trained(tmp_path, monkeypatch, f"seed={seed}", "data.limit=8") for seed in (1, 2)]
    said = said_of(capsys, *runs)
    assert "over 2 seeds" in said
    assert "images: " not in said


def test_a_run_whose_images_nothing_tells_counts_in_no_mean_and_is_named(runs, compared):
    copies = [Path(shutil.copytree(run, Path(run).with_name(f"bare{n}"))) for n, run in enumerate(runs[1][:2])]
    for copy in copies:
        shutil.rmtree(copy / "checkpoints")
    runs[1].extend(map(str, copies))
    said, page = compared(len(runs[1]) - 2, len(runs[1]) - 1)
    for copy in copies:
        runs[1].pop()
        shutil.rmtree(copy)
        assert f"tiny/{copy.name} has no whole checkpoint: which images it saw cannot be told" in said
    assert "+-" not in said
    assert "cannot be told" in page


def test_a_run_named_by_one_word_from_its_own_folder_has_its_whole_name(runs, capsys, monkeypatch):
    monkeypatch.chdir(runs[0] / "runs" / "tiny")
    first, second = (Path(run).name for run in runs[1][:2])
    said = said_of(capsys, Path(first), Path(second))
    assert f"tiny/{first}: completed" in said
    assert f"tiny/{first} (seed 1), tiny/{second} (seed 2)" in said
    monkeypatch.chdir(first)
    assert f"tiny/{first}: completed" in said_of(capsys, Path(), Path("..", second))
