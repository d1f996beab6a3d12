"""`compare RUN...`: a row per run or per configuration over its seeds, the best first, on the terminal and a page."""

import csv
import io
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


def values(runs, *numbers: int, number: str = "val/accuracy") -> list[float]:
    """What runs reached at their best epochs."""
    return [RunFolder.open(Path(runs[1][n])).read_json("summary.json")["best"][number] for n in numbers]


def over_two(found: list[float]) -> str:
    """Mean and deviation of accuracies as the table has them."""
    return f"{100 * statistics.mean(found):.2f} +- {100 * statistics.stdev(found):.2f} %"


def on_page(text: str) -> str:
    return text.replace("+-", "±").replace(" %", "\u00a0%")


def row_of(said: str, name: str) -> str:
    """The line of the table whose name this is."""
    (line,) = re.findall(rf"^\d+  {re.escape(name)}  .*$", said, re.MULTILINE)
    return line


def test_two_seeds_are_one_row_with_mean_and_deviation(runs, compared):
    said, page = compared(0, 1)
    expected = over_two(values(runs, 0, 1))
    assert "2 runs in 1 row" in said
    assert re.search(rf"1, 2  {re.escape(expected)}", row_of(said, "tiny"))
    assert on_page(expected) in page


def test_a_setting_that_differs_is_a_column_names_the_rows_and_is_no_other_seed(compared):
    said, page = compared(0, 2)
    assert row_of(said, "lr 0.02")
    assert row_of(said, "lr 0.05")
    assert re.search(r"^#  .*\blr\b", said, re.MULTILINE)
    assert "+-" not in said
    assert "optimizer.lr" in page


def test_the_best_row_stands_first_and_the_others_have_their_distance(runs, compared):
    said, _ = compared(0, 2)
    reached = dict(zip(("lr 0.02", "lr 0.05"), values(runs, 0, 2), strict=True))
    first, second = sorted(reached, key=reached.get, reverse=True)
    assert row_of(said, first).startswith("1  ")
    assert f"{100 * (reached[second] - reached[first]):+.2f}" in row_of(said, second)


def test_the_rows_are_sorted_by_what_is_asked_for(runs, compared, capsys):
    compared(0, 2)
    orders = {}
    for sort in ("lr", "-lr", "optimizer.lr", "val/loss", "time"):
        assert main(["compare", runs[1][2], runs[1][0], "--sort", sort, "--format", "csv"]) == 0
        orders[sort] = [row["name"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))]
    assert orders["lr"] == orders["optimizer.lr"] == orders["-lr"][::-1] == ["lr 0.02", "lr 0.05"]
    losses = dict(zip(("lr 0.02", "lr 0.05"), values(runs, 0, 2, number="val/loss"), strict=True))
    assert orders["val/loss"] == sorted(losses, key=losses.get)
    assert main(["compare", runs[1][2], runs[1][0], "--sort", "val/los"]) == 2
    assert "did you mean 'val loss'" in capsys.readouterr().err


def test_every_curve_has_a_colour_of_its_own_and_its_name_at_its_end(runs, compared):
    _, page = compared(0, 2, 4)
    charts = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(charts) == 4
    for chart in charts:
        lines = re.findall(r'<path class="line[^"]*"[^>]*stroke="([^"]+)"', chart)
        assert len(set(lines)) == len(lines) == 3
        assert all(f"#{rank} " in chart for rank in (1, 2, 3))


def test_every_run_is_named_with_the_row_it_counts_in_and_leads_to_its_report(runs, compared):
    said, page = compared(0, 1, 2)
    for number in (0, 1, 2):
        assert re.search(rf"^\d  {re.escape(runs[1][number])}", said, re.MULTILINE)
        assert f"../../tiny/{Path(runs[1][number]).name}/report.html" in page


@pytest.mark.parametrize("columns", [80, 200])
def test_no_line_is_wider_than_the_terminal_but_for_a_path(runs, compared, capsys, monkeypatch, columns):
    compared(0, 1, 2, 3)
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["compare", *(runs[1][number] for number in (0, 1, 2, 3))]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if len(line) > columns and "runs/" not in line] == []


def test_every_group_of_seeds_is_a_row_with_its_name_and_its_own_numbers(runs, compared):
    said, page = compared(0, 1, 2, 3)
    for name, numbers in (("lr 0.02", (0, 1)), ("lr 0.05", (2, 3))):
        expected = over_two(values(runs, *numbers))
        row = row_of(said, name)
        assert f"1, 2  {expected}" in row
        assert on_page(expected) in page
        for seed, number in enumerate(numbers, start=1):
            alone = f"{100 * values(runs, number)[0]:.2f} %"
            assert f"{row[0]}  {runs[1][number]}  seed {seed}  {alone}" in said


def copied(runs, name: str) -> int:
    """Copy the first run and return the copy's number."""
    copy = Path(runs[1][0]).with_name(name)
    if not copy.exists():
        shutil.copytree(runs[1][0], copy)
    runs[1].append(str(copy))
    return len(runs[1]) - 1


def test_a_copied_run_is_identical_and_no_second_seed(runs, compared):
    said, page = compared(0, copied(runs, "copied"))
    runs[1].pop()
    assert row_of(said, "tiny (copy)")
    told = f"tiny/copied is identical to tiny/{Path(runs[1][0]).name}: a copy"
    assert told in " ".join(said.split())
    assert told in page
    assert "+-" not in said
    assert "±" not in page


def test_two_runs_in_folders_of_one_name_are_told_apart_by_their_paths(runs, compared):
    target = runs[0] / "elsewhere" / "tiny" / Path(runs[1][2]).name
    if not target.exists():
        shutil.copytree(runs[1][2], target)
    runs[1].append(str(target))
    said, _ = compared(0, 2, len(runs[1]) - 1)
    runs[1].pop()
    assert str(target) in said
    assert runs[1][2] in said


def test_the_same_seed_again_is_no_second_seed(runs, compared):
    said, _ = compared(0, 4)
    first, again = (Path(runs[1][number]).name for number in (0, 4))
    assert row_of(said, "tiny (seed 1 again)")
    assert f"tiny/{again} has the seed of tiny/{first}: no second seed" in " ".join(said.split())
    assert "+-" not in said
    said, _ = compared(0, 4, 1)
    assert f"1, 2  {over_two(values(runs, 0, 1))}" in said, "two of the three count"
    assert "seed 1 again" in said


def test_a_folder_of_runs_means_its_runs_and_what_is_none_is_skipped_with_a_note(runs, compared, capsys):
    compared(0, 1)
    sheet = RunFolder.create(Path("runs"), "tiny", {}, suffix="-preview").path
    named = [run for run in runs[1] if Path(run).exists()]
    for words in (["runs"], ["runs/tiny/*"]):
        assert main(["compare", *words]) == 0
        said = capsys.readouterr().out
        assert all(Path(run).name in said for run in named)
        assert f"note: {sheet} is an augmentation sheet: skipped" in said
    assert main(["compare", str(sheet), runs[1][0]]) == 2
    said = capsys.readouterr().err
    assert "a comparison takes two runs or more; there is 1" in said
    assert "is an augmentation sheet" in said
    shutil.rmtree(sheet)


def test_a_word_that_names_nothing_is_an_error_and_a_damaged_run_is_left_out(runs, capsys, monkeypatch):
    monkeypatch.chdir(runs[0])
    assert main(["compare", "runs/tiny", "runs/tinny"]) == 6
    assert "runs/tinny: does not exist" in capsys.readouterr().err
    broken = Path(shutil.copytree(runs[1][0], Path(runs[1][0]).with_name("broken")))
    (broken / "summary.json").write_text("{", encoding="utf-8")
    assert main(["compare", "runs/tiny"]) == 0
    assert re.search(r"note: .*broken/summary.json: is damaged .*: left out", capsys.readouterr().out)
    shutil.rmtree(broken)


def test_a_fast_run_is_marked_and_stands_behind_the_others(runs, compared, capsys, monkeypatch):
    monkeypatch.chdir(runs[0])
    before = set(Path("runs/tiny").iterdir())
    assert main(["train", "tiny.yaml", "--fast"]) == 0
    (fast,) = set(Path("runs/tiny").iterdir()) - before
    runs[1].append(str(fast.resolve()))
    said, page = compared(len(runs[1]) - 1, 0, 2)
    runs[1].pop()
    shutil.rmtree(fast)
    assert re.search(r"^3  lr 0.02 \(--fast\)", said, re.MULTILINE)
    assert "ran with --fast" in said
    assert "(--fast)" in page
    assert "+-" not in said


def test_csv_json_and_markdown_hold_the_same_numbers_and_write_no_page(runs, compared, capsys):
    compared(0, 1, 2)
    pages = set(Path("runs/compare").iterdir())
    said = {}
    for form in ("csv", "json", "markdown"):
        assert main(["compare", *(runs[1][number] for number in (0, 1, 2)), "--format", form]) == 0
        said[form] = capsys.readouterr().out
    assert set(Path("runs/compare").iterdir()) == pages
    found = {name: statistics.mean(values(runs, *numbers)) for name, numbers in NAMED.items()}
    rows = list(csv.DictReader(io.StringIO(said["csv"])))
    assert {row["name"]: float(row["best/val_accuracy"]) for row in rows} == found
    assert {row["name"]: row["optimizer.lr"] for row in rows} == {"lr 0.02": "0.02", "lr 0.05": "0.05"}
    held = json.loads(said["json"])
    assert {row["name"]: row["numbers"]["best/val_accuracy"]["mean"] for row in held["rows"]} == found
    assert {row["name"]: row["settings"]["optimizer.lr"] for row in held["rows"]} == {"lr 0.02": 0.02, "lr 0.05": 0.05}
    assert [len(row["runs"]) for row in held["rows"]] == [2 if row["name"] == "lr 0.02" else 1 for row in held["rows"]]
    for name, mean in found.items():
        assert re.search(rf"\| {name} .*\b{100 * mean:.2f}", said["markdown"])


NAMED = {"lr 0.02": (0, 1), "lr 0.05": (2,)}


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
    assert "L1 (strength 1e-5, include [layer1.**, **.weight])" in page


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
    assert row_of(said, "end 1 (--fast)")
    assert row_of(said, "end 9 (--fast)")
    assert re.search(r"^\d  end 1 .* 1, 2 ", said, re.MULTILINE), "found is found, whatever the number"
    page = Path(said.split("report ")[-1].strip()).read_text(encoding="utf-8")
    assert "lr_finder.end" in page
    assert "optimizer.lr" not in page
    assert f"{statistics.mean(lrs[:2]):.4g}" in page
    assert f"{lrs[2]:.4g}" in page


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
    assert row_of(said, "data A")
    assert row_of(said, "data B")
    told = " ".join(said.split())
    assert "A has 16 to learn from, 2 classes (cat, dog); B has 16 to learn from, 2 classes (elk, fox)" in told
    assert "other images to be measured on" in told

    said = said_of(capsys, first, alike)
    assert "+-" in said, "the same images in another place"
    assert "The data are others" not in said

    (tmp_path / "one/data/train/dog/7.png").unlink()
    fewer = trained(tmp_path / "one", monkeypatch, "seed=2")
    said = said_of(capsys, first, fewer)
    assert "+-" not in said, "pictures were deleted between two seeds"
    assert "A has 16 to learn from" in " ".join(said.split())
    assert "B has 15 to learn from" in " ".join(said.split())

    picture = tmp_path / "copy/data/val/cat/0.png"
    cv2.imwrite(str(picture), np.zeros((16, 16, 3), np.uint8))
    changed = trained(tmp_path / "copy", monkeypatch, "seed=4")
    said = said_of(capsys, alike, changed)
    assert "+-" not in said, "a picture that is measured on is another"
    assert "The data are others" in said


def test_the_letters_of_the_warning_are_those_of_the_table(tmp_path, capsys, monkeypatch):
    for name, classes in (("one", ("cat", "dog")), ("other", ("elk", "fox")), ("third", ("ant", "bee"))):
        pictures(tmp_path / name / "data", *classes)
    fast = trained(tmp_path / "one", monkeypatch, "--fast")
    others = [trained(tmp_path / name, monkeypatch) for name in ("other", "third")]
    said = said_of(capsys, fast, *others)
    warned = " ".join(said.split())
    for classes in ("elk, fox", "ant, bee"):
        (letter,) = re.findall(rf"\b([A-Z]) has 16 to learn from, 2 classes \({classes}\)", warned)
        assert row_of(said, f"data {letter}")
    assert f"{letter} has" in warned
    assert "cat, dog" not in warned


def test_a_share_that_the_seed_draws_from_the_same_images_is_no_difference(tmp_path, capsys, monkeypatch):
    pictures(tmp_path / "data", "cat", "dog")
    runs = [trained(tmp_path, monkeypatch, f"seed={seed}", "data.limit=8") for seed in (1, 2)]
    said = said_of(capsys, *runs)
    assert "+-" in said
    assert "The data are others" not in said


def test_a_run_whose_images_nothing_tells_counts_in_no_mean_and_is_named(runs, compared):
    copies = [Path(shutil.copytree(run, Path(run).with_name(f"bare{n}"))) for n, run in enumerate(runs[1][:2])]
    for copy in copies:
        shutil.rmtree(copy / "checkpoints")
    runs[1].extend(map(str, copies))
    said, page = compared(len(runs[1]) - 2, len(runs[1]) - 1)
    for copy in copies:
        runs[1].pop()
        shutil.rmtree(copy)
        assert f"tiny/{copy.name} has no whole checkpoint: which images it saw cannot be told" in " ".join(said.split())
    assert "+-" not in said
    assert "cannot be told" in page


def test_a_run_is_named_by_one_word_from_its_own_folder(runs, capsys, monkeypatch):
    monkeypatch.chdir(runs[0] / "runs" / "tiny")
    first, second = (Path(run).name for run in runs[1][:2])
    said = said_of(capsys, Path(first), Path(second))
    assert re.search(rf"^1  {first}  seed 1", said, re.MULTILINE)
    monkeypatch.chdir(first)
    assert "1, 2" in row_of(said_of(capsys, Path(), Path("..", second)), "tiny")


def test_a_run_is_named_by_latest_too(runs, compared, capsys):
    compared(0, 1)
    assert main(["compare", "latest", runs[1][0], "--format", "json"]) == 0
    folders = {Path(run["folder"]).name for row in json.loads(capsys.readouterr().out)["rows"] for run in row["runs"]}
    assert len(folders) == 2
    assert Path(runs[1][0]).name in folders
