"""Which runs words mean: run folders, folders of runs, patterns; what else lies among them is skipped with a note."""

from pathlib import Path

import pytest

from registry.errors import CheckpointError
from trainer.comparison.finding import find_runs
from trainer.run.folder import RunFolder


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two runs of one name, one of another, a sheet, a search and a page of a comparison; return the runs."""
    monkeypatch.chdir(tmp_path)
    root = Path("runs")
    made = [RunFolder.create(root, name, {"resolved.yaml": ""}, suffix=f"-s{n}").path for n, name in enumerate("aab")]
    RunFolder.create(root, "a", {}, suffix="-preview")
    RunFolder.create(root, "a", {}, suffix="-lr")
    RunFolder.create(root, "a", {}, suffix="-lr")
    RunFolder.create(root, "compare", {})
    Path("runs/index.html").write_text("", encoding="utf-8")
    return made


def kinds(skipped) -> list[str]:
    return sorted(text.partition(" is ")[2] for text in skipped)


AMONG = ["a search of the learning rate: skipped"] * 2 + ["an augmentation sheet: skipped"]


def test_a_folder_stands_for_the_runs_in_it(runs):
    found = find_runs(["runs/a"])
    assert found.runs == tuple(runs[:2])
    assert kinds(found.skipped) == AMONG


def test_the_folder_of_all_stands_for_every_run(runs):
    found = find_runs(["runs"])
    assert found.runs == tuple(runs)
    assert kinds(found.skipped) == [*AMONG, "the folder of comparisons: skipped"]


def test_a_pattern_of_the_shell_and_one_in_quotes_mean_the_same(runs):
    expanded = find_runs(sorted(map(str, Path("runs/a").iterdir())))
    assert find_runs(["runs/a/*"]) == expanded
    assert expanded.runs == tuple(runs[:2])
    assert kinds(find_runs(["runs/*"]).skipped) == sorted(
        [*AMONG, "a file: skipped", "the folder of comparisons: skipped"]
    )
    assert kinds(find_runs(["runs/compare/*"]).skipped) == ["a comparison: skipped"]


def test_a_run_that_is_named_twice_counts_once(runs):
    found = find_runs([str(runs[0]), "runs/a", str(runs[0].resolve())])
    assert found.runs == tuple(runs[:2])
    assert any("which counts once" in text for text in found.skipped)


@pytest.mark.parametrize("name", ["compare", "find-lr", "my-preview"])
def test_a_recipe_may_be_called_like_what_is_skipped(runs, name):
    run = RunFolder.create(Path("runs"), name, {"resolved.yaml": ""}).path
    assert find_runs([f"runs/{name}"]).runs == (run,)
    assert run in find_runs(["runs"]).runs


def test_an_empty_folder_is_said_to_hold_no_run(runs):
    Path("runs/empty").mkdir()
    assert find_runs(["runs/empty"]).skipped == ("runs/empty is no run and holds none: skipped",)


@pytest.mark.parametrize(("word", "what"), [("runs/c", "does not exist"), ("runs/c*/x", "matches nothing")])
def test_a_word_that_names_nothing_is_an_error(runs, word, what):
    with pytest.raises(CheckpointError, match=what):
        find_runs([word])
