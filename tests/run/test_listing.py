"""`runs`, the index page and `clean`: what is told of runs without loading them, and what of old ones can go."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile

import pytest

from registry import files
from trainer.cli.main import main
from trainer.run.folder import RunFolder
from trainer.run.index import page
from trainer.run.listing import Row, rows_below
from trainer.run.locking import is_held, lock
from trainer.run.naming import runs_below

RECIPE = """
version: 1
name: tiny
data: {dataset: {type: Shapes, train_size: 32, val_size: 16, test_size: 16}, batch_size: 16}
model: {type: SmallCNN, width: 4}
optimizer: {type: SGD, lr: 0.02}
train: {epochs: 2, precision: fp32}
callbacks: []
report: []
expect: {"best val/loss": "<= 100", "best val/accuracy": ">= 0"}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two runs of one recipe, by two seeds."""
    folder = tmp_path_factory.mktemp("listing")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed in (1, 2):
            (folder / "tiny.yaml").write_text(f"{RECIPE}seed: {seed}\n", encoding="utf-8")
            assert main(["tiny.yaml"]) == 0
    return folder


@pytest.fixture
def here(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return trained


def printed(capsys, *words):
    capsys.readouterr()
    assert main(list(words)) == 0
    return capsys.readouterr().out


def a_run(root, name, summary, history=()):
    """Make a run's folder without training."""
    folder = RunFolder.create(root, name, {"resolved.yaml": "version: 1\n"})
    folder.write_json("summary.json", summary)
    folder.write_text("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in history))
    return folder


def test_a_run_and_links_to_it_count_once_and_one_without_a_summary_is_there(tmp_path):
    whole = a_run(tmp_path, "tiny", {"status": "completed"}).path
    (tmp_path / "alike").symlink_to(tmp_path / "tiny", target_is_directory=True)
    (tmp_path / "tiny/again").symlink_to(whole, target_is_directory=True)
    assert [row.path for row in rows_below(tmp_path)] == [whole]
    assert list(runs_below(tmp_path)) == [whole]
    (whole / "summary.json").unlink()
    assert [(row.path, row.status) for row in rows_below(tmp_path)] == [(whole, "unreadable")]


def test_a_fast_run_is_called_so_and_is_no_record(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for share, fast in ((0.5, False), (0.9, True)):
        row = {"epoch": 1, "val/accuracy": share}
        summary = {"status": "completed", "metric": "val/accuracy", "best": row, "final": row, "fast": fast}
        a_run(tmp_path / "runs", "tiny", summary, [row])
    assert "completed (--fast)" in printed(capsys, "runs")
    rows = rows_below(tmp_path / "runs")
    assert "completed (--fast)" in (text := page(rows, tmp_path / "runs"))
    assert text.index("50.00") < text.index("90.00"), "the tile comes first"


def test_what_somebody_calls_a_run_is_no_formula_in_a_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    a_run(tmp_path / "runs", "=1+1", {"status": "@SUM(1)", "selected_on": "+A1"})
    (row,) = csv.DictReader(io.StringIO(printed(capsys, "runs", "--format", "csv")))
    assert [row[name][0] for name in ("run", "status", "selected_on")] == ["'"] * 3


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_table_fits_the_columns_there_are_and_names_what_it_leaves_out(here, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = printed(capsys, "runs").splitlines()
    assert max(map(len, lines)) <= columns
    titles, said = lines[0], " ".join(lines[3:])
    assert titles.startswith("run ")
    assert " best " in titles
    missing = [title for title in ("status", "seed", "size", "selected on", "expectations") if title not in titles]
    assert [title in said for title in missing] == [True] * len(missing)
    assert bool(missing) == (columns < 200)


def test_every_run_stands_in_the_table_with_what_it_reached(here, capsys):
    rows = json.loads(printed(capsys, "runs", "--format", "json"))
    assert [(row["seed"], row["status"], row["epochs"], row["selected_on"]) for row in rows] == [
        (2, "completed", 2, "val"),
        (1, "completed", 2, "val"),
    ]
    for row in rows:
        summary = json.loads((here / "runs" / row["run"] / "summary.json").read_text())
        assert (row["metric"], row["best"]) == ("val/accuracy", summary["best"]["val/accuracy"])
        assert (row["test"], row["expectations"]) == (summary["test"]["best"]["accuracy"], "2 of 2 reached")
        files = (path for path in (here / "runs" / row["run"]).rglob("*") if path.is_file())
        assert row["bytes"] == sum({path.stat().st_ino: path.stat().st_size for path in files}.values())
    assert "2 runs" in printed(capsys, "runs")


def test_a_pattern_and_conditions_choose(here, capsys):
    table = list(csv.DictReader(io.StringIO(printed(capsys, "runs", "tiny/*", "seed=1", "--format", "csv"))))
    assert [row["seed"] for row in table] == ["1"]
    assert printed(capsys, "runs", "status=failed") == "no run below runs fits\n"
    assert main(["runs", "colour=red"]) == 2
    assert main(["runs", "--sort", "colour"]) == 2
    assert capsys.readouterr().err.count("runs have no column 'colour'\n  there are run, status, best") == 2


def test_numbers_are_ordered_with_the_better_first(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, metric, value in (("a", "val/loss", 2.0), ("b", "val/loss", 1.0), ("c", "val/accuracy", 0.5)):
        a_run(tmp_path / "runs", name, {"status": "completed", "metric": metric, "best": {metric: value}})
    a_run(tmp_path / "runs", "d", {"status": "failed"})
    for name, value in (("e", 0.3), ("f", 0.2)):  # the run says what its name does not
        summary = {"status": "completed", "metric": "val/hamming_distance", "mode": "min"}
        a_run(tmp_path / "runs", name, {**summary, "best": {"val/hamming_distance": value}})
    rows = json.loads(printed(capsys, "runs", "--sort", "best", "--format", "json"))
    assert [row["run"][0] for row in rows] == ["c", "f", "e", "b", "a", "d"]


def test_a_run_whose_process_is_gone_is_killed_and_one_that_is_locked_runs(tmp_path):
    folder = a_run(tmp_path, "a", {"status": "running"}, [{"epoch": 1, "val/accuracy": 0.5, "seconds": 2.0}])
    assert [(row.status, row.final, row.seconds) for row in rows_below(tmp_path)] == [("killed", 0.5, 2.0)]
    with folder.locked():
        assert [row.status for row in rows_below(tmp_path)] == ["running"]


def test_a_damaged_run_is_listed_as_unreadable(tmp_path):
    a_run(tmp_path, "a", {}).write_text("summary.json", "{")
    assert [row.status for row in rows_below(tmp_path)] == ["unreadable"]


def test_what_is_no_text_or_no_number_in_a_run_stops_no_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = a_run(tmp_path / "runs", "a", {"status": "completed"}, [{"epoch": 1, "val/accuracy": 0.5}])
    with folder.metrics.open("ab") as file:
        file.write(b'\xff\xfe\x80\n{"epoch": "x"}\n{"epoch": 2, "val/accuracy": 0.75}\n')
    folder.write_text("summary.json", f'{{"status": "completed", "seconds": 1{"0" * 400}}}')
    (row,) = rows_below(tmp_path / "runs")
    assert (row.status, row.curve, row.seconds) == ("completed", (0.5, 0.75), None)
    assert "a/" in printed(capsys, "runs")
    folder.write_text("summary.json", "{}")
    (folder.path / "summary.json").write_bytes(b'{"status": "\xff"}')
    assert [row.status for row in rows_below(tmp_path / "runs")] == ["unreadable"]


def test_a_run_whose_lock_may_not_be_read_is_not_called_killed(tmp_path, monkeypatch):
    folder = a_run(tmp_path, "a", {"status": "running"})
    folder.lock_file.write_text("process 1 on another machine")

    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files, "opened", refused)  # root, who runs tests here and there, may read all
    assert is_held(folder.lock_file)


def test_whoever_only_asks_keeps_nobody_from_a_lock(tmp_path):
    path, asking = tmp_path / "lock", threading.Event()
    path.touch()

    def ask():
        while not asking.is_set():
            is_held(path)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        for _ in range(200):
            with lock(path):
                pass
            path.touch()
    finally:
        asking.set()
        asker.join()


def test_runs_loads_nothing_heavy(here):
    script = "from trainer.cli.main import main; main(['runs']); import sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=here, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_the_index_has_a_row_a_link_and_a_curve_for_each_run(here):
    page = (here / "runs" / "index.html").read_text()
    links = re.findall(r'<a href="(tiny/[^"]+)">', page)
    assert len(links) == 2
    assert all((here / "runs" / link).is_file() for link in links)
    assert page.count('class="sparkline"') == 2


def test_the_index_is_kept_current_by_a_resume(here):
    page = here / "runs" / "index.html"
    page.write_text(page.read_text().replace("sparkline", "old"))
    run = next((here / "runs" / "tiny").iterdir())
    assert main(["resume", str(run), "description=other words"]) == 0
    assert "sparkline" in page.read_text()


def test_a_page_that_is_somebodys_own_stays_as_it_is(here, tmp_path):
    run = shutil.copytree(next((here / "runs" / "tiny").iterdir()), tmp_path / "web" / "uni" / "myrun")
    (tmp_path / "web" / "index.html").write_text("<h1>my homepage</h1>")
    assert main(["resume", str(run), "description=words"]) == 0
    assert (tmp_path / "web" / "index.html").read_text() == "<h1>my homepage</h1>"


def test_a_page_of_ones_own_is_not_taken_by_a_new_run_either(tmp_path):
    from trainer.run import index

    a_run(tmp_path, "a", {"status": "completed"})
    (tmp_path / "index.html").write_text("<h1>mine</h1>")
    said = []
    index.refresh(tmp_path, said.append)
    assert (tmp_path / "index.html").read_text() == "<h1>mine</h1>"
    assert "stays as it is" in said[0]
    (tmp_path / "index.html").write_text("<title>Runs - index of runs</title>")  # an earlier version's
    index.refresh(tmp_path, pytest.fail)
    assert "generator" in (tmp_path / "index.html").read_text()


def test_an_accuracy_on_the_index_has_its_interval_over_the_images(tmp_path):
    from trainer.run.index import page

    rows = [
        Row("a/1", tmp_path / "a", "completed", "val/accuracy", best=0.9, test=0.88, images={"val": 200, "test": 1000}),
        Row("a/2", tmp_path / "b", "completed", "val/balanced_accuracy", best=0.9, images={"val": 200}),
        Row("a/3", tmp_path / "c", "completed", "val/accuracy", best=0.9),
    ]
    text = page(rows, tmp_path).replace("\u00a0", " ")
    assert ">90.00 % (85.1 to 93.4)<" in text
    assert ">88.00 % (85.8 to 89.9)<" in text
    assert len(re.findall(r"\(\d+\.\d to \d", text)) == 2
    assert 'data-order="0.9"' in text


def test_a_name_is_escaped_on_the_index(tmp_path):
    from trainer.run import index

    a_run(tmp_path, "<b>", {"status": "completed"})
    index.refresh(tmp_path, pytest.fail)
    page = (tmp_path / "index.html").read_text()
    assert "<b>/" not in page
    assert "&lt;b&gt;/" in page
    assert 'href="%3Cb%3E/' in page


def test_an_index_that_cannot_be_written_costs_one_line(tmp_path):
    from trainer.run import index

    a_run(tmp_path, "a", {"status": "completed"})
    (tmp_path / "index.html").symlink_to(tmp_path / "elsewhere")
    said = []
    index.refresh(tmp_path, said.append)
    assert len(said) == 1
    assert "index.html could not be written" in said[0]
    assert not (tmp_path / "elsewhere").exists()


# ---------------------------------------------------------------------------------------------------------------- clean
@pytest.fixture
def old(tmp_path, monkeypatch):
    """A completed run and an interrupted one, written to 20 days ago."""
    monkeypatch.chdir(tmp_path)
    folders = []
    for name, status in (("done", "completed"), ("half", "interrupted")):
        folder = a_run(tmp_path / "runs", name, {"status": status})
        for file in ("last.pt", "epoch-1.pt", "best.pt", "best.safetensors"):
            (folder.checkpoints / file).write_bytes(b"x" * 1_000_000)
        with zipfile.ZipFile(folder.checkpoints / "best.pt", "w") as file:
            file.writestr("weights", b"x")
        for path in (folder.path, folder.path / "summary.json"):
            os.utime(path, (time.time() - 20 * 86_400,) * 2)
        folders.append(folder)
    return folders


def left(folder):
    return sorted(path.name for path in folder.checkpoints.iterdir())


def test_clean_proposes_and_removes_nothing_without_yes(old, capsys):
    said = printed(capsys, "clean")
    assert re.search(r"2\.0 MB in 2 places; nothing was removed", said)
    assert len(left(old[0])) == 4


def test_clean_keeps_best_weights_and_runs_that_may_go_on(old, capsys):
    assert "2.0 MB removed" in printed(capsys, "clean", "--yes")
    assert left(old[0]) == ["best.pt", "best.safetensors"]
    assert len(left(old[1])) == 4


def test_clean_keeps_the_state_where_the_best_weights_are_of_no_use(old, capsys):
    (old[0].checkpoints / "best.pt").write_bytes(b"")
    assert "nothing to remove" in printed(capsys, "clean", "--yes")


def test_clean_keeps_the_state_of_a_run_that_only_ran_out_of_time(old, capsys):
    old[0].write_json("summary.json", {"status": "completed", "out_of_time": True})
    assert "nothing to remove" in printed(capsys, "clean", "--days", "0", "--yes")
    assert len(left(old[0])) == 4


def test_clean_passes_young_runs_and_those_at_work(old, capsys):
    assert "nothing to remove" in printed(capsys, "clean", "--days", "30", "--yes")
    with old[0].locked():
        assert "nothing to remove" in printed(capsys, "clean", "--days", "0", "--yes")
    assert len(left(old[0])) == 4


def test_a_word_is_part_of_a_runs_name_not_of_the_folder_that_holds_all(old, capsys):
    assert "nothing to remove" in printed(capsys, "clean", "run", "--yes")
    assert len(left(old[0])) == 4
    assert "2.0 MB in 2 places" in printed(capsys, "clean", "runs/done")


def test_a_run_without_best_weights_keeps_its_last(old, capsys):
    (old[0].checkpoints / "best.pt").unlink()
    assert "nothing to remove" in printed(capsys, "clean", "--yes")


@pytest.mark.parametrize("status", ["completed", "pruned", "interrupted"])
def test_a_run_whose_state_is_gone_is_not_begun_anew_by_a_resume(status, trained, tmp_path, monkeypatch, capsys):
    run = shutil.copytree(next((trained / "runs" / "tiny").iterdir()), tmp_path / "runs" / "tiny" / "a")
    monkeypatch.chdir(tmp_path)
    printed(capsys, "clean", "--days", "0", "--yes")
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "status": status}))
    before = (run / "metrics.jsonl").read_bytes()
    assert main(["resume", str(run), "train.epochs=4"]) == 6
    assert main(["resume", str(run), "train.epochs=4", "train.checkpoint.every=9"]) == 6, (
        "it is the run's own that counts"
    )
    assert "its last state is gone" in capsys.readouterr().err
    assert (run / "metrics.jsonl").read_bytes() == before
    assert main(["evaluate", str(run)]) == 0
