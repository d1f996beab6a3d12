"""Runs as people name them: `latest`, a folder in place of a recipe, and what a run recorded held against it."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from datetime import datetime, timezone
from pathlib import Path

import click
import pytest

import trainer
from registry.errors import CheckpointError
from trainer.cli.main import main, program
from trainer.run.naming import located, newest_of_each

RECIPE = """\
version: 1
name: tiny
data: {dataset: {type: Shapes, train_size: 24, val_size: 16, test_size: 16}, batch_size: 8}
model: {type: SmallCNN, width: 4, dropout: 0.1}
optimizer: {type: SGD, lr: 0.02}
train: {epochs: 1, precision: fp32, device: cpu}
callbacks: []
report: []
expect: {best val/loss: "<= 99"}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(RECIPE)
    here = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["tiny.yaml"]) == 0
    finally:
        os.chdir(here)
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run; the working directory."""
    shutil.copytree(trained, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    (folder,) = Path("runs/tiny").iterdir()
    return folder


def made(*names: str) -> None:
    """Make run folders, one after the other, that hold nothing but what makes them runs."""
    for index, name in enumerate(names):
        folder = Path("runs", name)
        folder.mkdir(parents=True)
        (folder / "resolved.yaml").write_text("")
        (folder / "recipe.yaml").write_text("")
        os.utime(folder / "recipe.yaml", (index, index))


def usage(command: click.Command) -> str:
    """Return what a command's help says of its words."""
    return next(str(one.metavar) for one in command.params if isinstance(one, click.Argument))


# --------------------------------------------------------------------------------------------------------------- latest
def test_latest_is_the_run_that_began_last_of_all_or_of_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made("a/20260131-120000", "b/20260130-120000", "a/20260131-120000-2", "a/20260129-120000")
    Path("runs/a/20270101-000000-preview").mkdir()  # no run
    assert located(Path("latest")) == Path("runs/a/20260131-120000-2")
    assert located(Path("runs/latest")) == Path("runs/a/20260131-120000-2")
    assert located(Path("runs/b/latest")) == Path("runs/b/20260130-120000")
    Path("runs/a/latest").mkdir()
    assert located(Path("runs/b/latest/export/model.onnx")) == Path("runs/b/20260130-120000/export/model.onnx")
    assert located(Path("runs/a/latest")) == Path("runs/a/latest"), "a folder that has the name is meant itself"


def test_of_the_hour_that_comes_twice_the_later_run_is_the_newest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        made("a/20261025-025900", "a/20261025-020500")  # summer time, then winter time
        for name, hour in (("025900", 0), ("020500", 1)):
            began = datetime(2026, 10, 25, hour, int(name[2:4]), tzinfo=timezone.utc).timestamp()
            os.utime(f"runs/a/20261025-{name}/recipe.yaml", (began + 1, began + 1))
        assert located(Path("latest")) == Path("runs/a/20261025-020500")
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()


@pytest.mark.parametrize("stamp", ["00010101-000000", "99991231-235959", "99999999-999999"])
def test_a_folder_called_by_a_time_that_no_computer_knows_stops_nothing(stamp, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made("a/20260131-120000", f"a/{stamp}")
    os.utime("runs/a/20260131-120000/recipe.yaml", (2e9, 2e9))
    assert located(Path("latest")).parent == Path("runs/a")


def test_the_newest_of_all_is_no_network_that_only_looked_for_wrong_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made("a/20260131-120000", "a-labels/0123abcd-fold-1")
    os.utime("runs/a-labels/0123abcd-fold-1/recipe.yaml", (2e9, 2e9))
    assert located(Path("latest")) == Path("runs/a/20260131-120000")
    assert located(Path("runs/a-labels/latest")) == Path("runs/a-labels/0123abcd-fold-1")


def test_without_a_run_latest_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"^runs/x/latest: there is no run in runs/x"):
        located(Path("runs/x/latest"))


def test_latest_behind_a_pattern_is_the_newest_of_each_name_where_several_runs_are_taken(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made("a/20260131-120000", "a/20260129-120000", "b/20260130-120000")
    Path("runs/compare/20260201-120000").mkdir(parents=True)  # no run
    newest = [Path("runs/a/20260131-120000"), Path("runs/b/20260130-120000")]
    assert newest_of_each(Path("runs/*/latest")) == newest
    assert newest_of_each(tmp_path / "runs" / "[b]" / "latest") == [tmp_path / newest[1]]
    made("a[1]/20260131-120000")
    assert located(Path("runs/a[1]/latest")) == Path("runs/a[1]/20260131-120000"), "a folder that is called so"
    main(["compare", "runs/[ab]/latest"])
    assert f"runs/[ab]/latest is {newest[0]}, {newest[1]}\n" in capsys.readouterr().err
    assert main(["compare", "runs/c*/latest"]) == 6
    assert "runs/c*/latest: there is no run in runs/c*\n" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["runs/*/latest", "runs/a/*"])
def test_a_pattern_where_one_run_is_wanted_is_said_to_be_one(word, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made("a/20260131-120000", "b/20260130-120000")
    assert main(["report", word]) == 6
    assert f"{word}: a pattern may name several runs, and one is wanted" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name, command in program.commands.items() if "RUN" in usage(command)])
def test_every_command_whose_help_names_a_run_knows_latest(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pictures = ["a.png"] if "IMAGE" in usage(program.commands[name]) else []
    assert main([name, "latest", *pictures]) == 6
    assert "latest: there is no run in runs" in capsys.readouterr().err


def test_every_command_that_takes_a_run_takes_latest_and_says_which_it_is(run, capsys):
    shutil.copy(next(Path().rglob("recipe.yaml")), "no_picture.png")
    for words, code in (
        (["evaluate", "latest"], 0),
        (["resume", "runs/tiny/latest"], 0),
        (["predict", "latest", "missing.png"], 3),
        (["explain", "runs/latest", "missing.png"], 3),
        (["show", "latest"], 0),
        (["validate", "latest", "--quick"], 0),
        (["verify", "latest"], 0),
        (["diff", "latest", "tiny.yaml"], 0),
        (["compare", "latest"], 2),  # of two, and this is one
    ):
        assert main(words) == code, words
        named = next(word for word in words if word.endswith("latest"))
        assert f"{named} is {run}\n" in capsys.readouterr().err
    assert trainer.load("latest").folder.path == run


def test_a_run_says_before_it_writes_its_report(run):
    lines = [line.partition(" ")[2] for line in (run / "log.txt").read_text().splitlines()]
    assert lines.index("writing the report ...") < next(
        i for i, line in enumerate(lines) if line.startswith("report: ")
    )


def test_a_folder_of_runs_is_answered_with_its_newest(run, capsys):
    assert main(["evaluate", "runs/tiny"]) == 6
    assert "it holds runs: runs/tiny/latest is the newest of them" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------- a run in place of a recipe
def test_a_run_stands_for_the_recipe_that_it_was_made_by(run, capsys):
    assert main(["show", str(run), "train.epochs=7"]) == 0
    assert re.search(r"^  epochs: 7\b", capsys.readouterr().out, re.MULTILINE)
    assert main(["validate", str(run), "--quick"]) == 0
    assert capsys.readouterr().out == f"{run}/resolved.yaml: no problems (text only)\n"


def test_train_asks_what_is_meant_by_a_run(run, capsys):
    assert main(["train", str(run)]) == 2
    said = capsys.readouterr().err
    assert f"`resume {run}` continues it; `train {run}/resolved.yaml` makes another like it" in said


def test_verify_judges_a_run_by_what_it_recorded_and_trains_nothing(run, capsys):
    before = sorted(Path("runs").rglob("*"))
    assert main(["verify", str(run)]) == 0
    assert "expected best val/loss: <= 99: got " in capsys.readouterr().out
    assert main(["verify", str(run), "expect={best val/loss: '<= 0.001', final val/loss: '>= 0'}"]) == 8
    *_, missed, reached = capsys.readouterr().out.splitlines()
    assert (missed.endswith("(MISSED)"), reached.endswith("(reached)")) == (True, True)
    assert sorted(Path("runs").rglob("*")) == before


def test_verify_looks_at_every_word_before_it_trains(run, capsys):
    before = sorted(Path("runs/tiny").iterdir())
    assert main(["verify", "tiny.yaml", "runs/tiny"]) == 2
    assert "runs/tiny is neither a recipe nor a run\n  it holds runs: runs/tiny/latest" in capsys.readouterr().err
    assert sorted(Path("runs/tiny").iterdir()) == before


def test_verify_takes_nothing_anew_of_a_run_but_what_is_expected(run, capsys):
    assert main(["verify", str(run), "train.epochs=3"]) == 2
    assert "train.epochs=3: of a run that has ended, only what is expected" in capsys.readouterr().err
    summary = run / "summary.json"
    summary.write_text(json.dumps({**json.loads(summary.read_text()), "status": "interrupted"}))
    assert main(["verify", str(run)]) == 6
    assert "cannot be judged: it is interrupted, not completed" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------- evaluate
def recorded(said: str) -> str:
    (line,) = (line for line in said.splitlines() if line.startswith("recorded"))
    return line.removeprefix("recorded").strip()


def test_evaluate_says_that_its_numbers_are_those_that_were_recorded(run, capsys):
    assert main(["evaluate", str(run)]) == 0
    assert recorded(capsys.readouterr().out) == "val: the same numbers; test: the same numbers"


def test_evaluate_says_what_was_recorded_where_that_was_something_else(run, capsys):
    path = run / "summary.json"
    summary = json.loads(path.read_text())
    summary["test"]["best"]["accuracy"] = 0.9876
    path.write_text(json.dumps(summary))
    assert main(["evaluate", str(run)]) == 0
    loss = summary["test"]["best"]["loss"]
    said = recorded(capsys.readouterr().out)
    assert said.startswith(f"val: the same numbers; test: other numbers, loss {loss:.4f}, ")
    assert said.endswith(", accuracy 0.9876")


def test_numbers_of_other_images_are_not_held_against_those_recorded(run, capsys):
    assert main(["evaluate", str(run), "data.dataset.test_size=12"]) == 0
    assert recorded(capsys.readouterr().out) == "val: the same numbers; test: numbers of other images"
    (run / "summary.json").unlink()
    assert main(["evaluate", str(run)]) == 0
    assert recorded(capsys.readouterr().out) == "val: nothing; test: nothing"


@pytest.mark.parametrize("override", ["model.dropout=0.5", "model={type: SmallCNN, width: 4, dropout: 0.3}"])
def test_an_override_of_the_model_with_which_it_answers_the_same_is_refused(run, override, capsys):
    assert main(["evaluate", str(run), override]) == 2
    key = override.partition("=")[0]
    assert f"{key} would change nothing: the network that was trained answers the same" in capsys.readouterr().err


def test_a_network_that_the_weights_do_not_fit_is_a_matter_of_checkpoints(run, capsys):
    assert main(["evaluate", str(run), "model.width=8"]) == 6
    assert "its weights do not fit model SmallCNN" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------- preview
def test_preview_builds_no_network(tmp_path, monkeypatch, capsys):
    import registry.models.small

    def built(*_, **__):
        raise AssertionError("a network was built")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry.models.small.SmallCNN, "__init__", built)
    Path("tiny.yaml").write_text(RECIPE)
    assert main(["preview", "tiny.yaml", "data.augment=[HorizontalFlip]"]) == 0
    assert len(list(Path("runs/tiny").glob("*-preview/figures/augmentation.png"))) == 1
    assert (
        main(["preview", "tiny.yaml", "data.augment=[{type: RandomCrop, height: 99, width: 99}]"]) == 2
    )  # checked still
