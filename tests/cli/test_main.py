"""The command line: which command is meant, what it takes, and how a mistake is answered."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from registry.program import PROGRAM
from trainer.cli.main import importing, main, program

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "a.yaml", "--fsat"], "train takes no option --fsat\n  did you mean --fast?"),
        (["a.yaml", "--epochs", "3"], "it belongs to train.epochs; values of a recipe are given as key=value, without"),
        (["train", "a.yaml", "--batch-size=64"], "it belongs to data.batch_size; values of a recipe"),
        (["a.yaml", "--lr=0.1"], "train takes no option --lr\n  here it is optimizer.lr; values of a recipe"),
        (["a.yaml", "--nothing"], "it takes --fast, --processes, --max-restarts"),
        (["a.yaml", "b.yaml"], "train takes RECIPE [key=value ...], got 2 words: a.yaml b.yaml"),
        (["diff", "a.yaml"], "diff takes A B, got 1 word: a.yaml"),
        (["validate", "a.yaml", "--format"], "--format needs a value"),
        (["validate", "a.yaml", "--format", "xml"], "--format takes text or json"),
        (["predict", "run", "a.png", "--top", "many"], "--top takes a whole number of 1 or more"),
        (["predict", "run", "a.png", "--abstain-below", "90"], "--abstain-below takes a number above 0, up to 1\n"),
        (["export", "run", "--abstain-below", "0"], "--abstain-below takes a number above 0, up to 1\n"),
        (["serve", "run", "--abstain-below", "0"], "--abstain-below takes a number above 0, up to 1\n"),
        (["validat", "x"], "'validat' is neither a command nor a recipe file\n  did you mean 'validate'?"),
        (["check", "x"], "'check' is neither a command nor a recipe file\n  did you mean 'validate'?"),
        (["test", "x"], "did you mean 'evaluate'?"),
        (["missing.yaml"], "missing.yaml"),
        (["describe", "SGDD"], "SGD"),
        (["new", "cfar"], "did you mean cifar?"),
        (
            ["predict", "run", ""],
            "predict takes RUN|FILE IMAGE|FOLDER|TABLE..., got an empty word\n  a variable of the shell may not be",
        ),
        (["resume", "", "train.epochs=3"], "resume takes RUN [key=value ...], got an empty word"),
    ],
)
def test_a_mistake_is_answered_on_stderr_without_a_traceback(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


def test_a_word_of_other_programs_means_one_command_and_is_none_itself():
    said = [word for command in program.commands.values() for word in getattr(command, "elsewhere", ())]
    assert len(said) == len(set(said)) > 20
    assert not set(said) & set(program.commands)


@pytest.mark.parametrize("words", [["resume", "nowhere"], ["predict", "nowhere", "a.png"]])
def test_a_run_that_is_not_there_is_a_matter_of_checkpoints(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 6
    assert "nowhere: does not exist" in capsys.readouterr().err


def test_overrides_and_options_stand_in_any_order(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "cifar", "a.yaml"]) == 0
    shown = []
    for words in (["a.yaml", "name=a=b", "--origin"], ["--origin", "name=a=b", "a.yaml"]):
        capsys.readouterr()
        assert main(["show", *words]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert "name: a=b" in shown[0]


def test_an_option_takes_its_value_either_way(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("version: 1")
    assert main(["validate", "--quick", "--format=json", "a.yaml"]) == 2
    first = capsys.readouterr().out
    assert main(["validate", "a.yaml", "--format", "json", "--quick"]) == 2
    assert capsys.readouterr().out == first


def test_help_names_every_command_and_each_says_what_it_writes(capsys):
    for words in (["help"], ["--help"]):
        assert main(words) == 0
        shown = capsys.readouterr().out
        assert all(name in shown for name in program.commands)
        assert "..." not in shown.partition("Commands:")[2], "what a command does is said whole"
    for name, command in program.commands.items():
        for words in ([name, "--help"], ["help", name]):
            assert main(words) == 0
            shown = capsys.readouterr().out
            assert f"python -m trainer {name}" in shown
            assert "Writes:" in shown
        assert len(command.examples) == 2
        assert all(example.split()[0] == name or name == "train" for example in command.examples)
        assert max(map(len, shown.splitlines())) <= 80


def test_nothing_at_all_is_answered_with_help_and_a_failure(capsys):
    assert main([]) == 2
    assert "Commands:" in capsys.readouterr().out


def test_the_version_is_the_packages(capsys):
    from importlib.metadata import version

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{PROGRAM} {version(PROGRAM)}\n"


def test_a_bug_is_told_from_a_users_mistake(monkeypatch, capsys):
    def broken(**_):
        raise KeyError("x")

    monkeypatch.setattr(program.commands["list"], "callback", broken)
    assert main(["list"]) == 1
    assert "this is a bug of the program; --debug shows where" in capsys.readouterr().err
    with pytest.raises(KeyError):
        main(["list", "--debug"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_given_a_script_that_completes(shell, capsys):
    assert main(["completion", shell]) == 0
    assert "_RECIPE_TRAINER_COMPLETE" in capsys.readouterr().out


def test_another_shell_is_named_with_those_that_there_are(capsys):
    assert main(["completion", "tcsh"]) == 2
    assert "there is no completion for tcsh\n  the shells are bash, zsh, fish" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["list", "--help", "--version"])
def test_who_has_closed_the_output_is_answered_by_the_exit_code(command):
    done = subprocess.run(["bash", "-c", f"{sys.executable} -m trainer {command} >&-"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has such a device")
def test_an_output_without_room_is_said(tmp_path):
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m trainer list > /dev/full"], capture_output=True, text=True
    )
    assert done.returncode == 5
    assert done.stderr == "error: what is to be shown cannot be written: no space is left on its device\n"


def test_commands_and_options_are_completed(monkeypatch, capsys):
    monkeypatch.setenv("_RECIPE_TRAINER_COMPLETE", "bash_complete")
    for typed, number, wanted in [("recipe-trainer val", 1, "validate"), ("recipe-trainer train --f", 2, "--fast")]:
        monkeypatch.setenv("COMP_WORDS", typed)
        monkeypatch.setenv("COMP_CWORD", str(number))
        main([])
        assert wanted in capsys.readouterr().out


def test_a_closed_pipe_ends_a_listing_quietly(tmp_path):
    command = f"{sys.executable} -m trainer list | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_run_is_told_the_command_line_as_it_was_typed(monkeypatch, tmp_path):
    given = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trainer.run.beginning.start", lambda order, *_: given.append(order.command) or Ended())
    for called, name in (("/bin/recipe-trainer", ["recipe-trainer"]), ("/x/__main__.py", ["python", "-m", "trainer"])):
        monkeypatch.setattr(sys, "argv", [called])
        words = [str(ROOT / "recipes/quickstart.yaml"), "--debug", "train.epochs=3", "--fast"]
        assert main(words) == 0
        assert given.pop() == (*name, *words)


@pytest.mark.skipif(os.name == "nt", reason="sends a signal, as only POSIX does")
def test_who_presses_ctrl_c_while_torch_is_imported_is_answered_at_once():
    text = """
import contextlib, os, signal, time
from trainer.cli.inputs import importing
with importing(), contextlib.suppress(BaseException):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(30)
print("went on")
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "interrupted")


@pytest.mark.skipif(os.name == "nt", reason="limits the size of files, as only POSIX does")
def test_a_disk_that_is_full_is_no_bug_of_the_program(tmp_path):
    (tmp_path / "tiny.yaml").write_text(
        "version: 1\ndata: {dataset: {type: Shapes, train_size: 32, val_size: 16}}\nmodel: SmallCNN\n"
        "optimizer: {type: SGD, lr: 0.1}\ntrain: {epochs: 1}\n"
    )
    command = f"ulimit -f 1; {sys.executable} -m trainer preview tiny.yaml"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, "bug" in done.stderr) == (5, False), done.stderr
    assert "cannot be written (File too large)" in done.stderr


def test_a_place_for_no_run_is_refused_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("a file")
    for command in ("lr-find", "audit", "preview"):
        assert main([command, str(ROOT / "recipes/quickstart.yaml")]) == 5
        said = capsys.readouterr()
        assert "a run folder cannot be made here" in said.err
        assert "images" not in said.out


def test_a_rate_that_is_not_found_is_no_success(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = [
        "data.dataset={type: Shapes, train_size: 64, val_size: 16}",
        "lr_finder.steps=20",
        "lr_finder.start=1e-6",
        "lr_finder.end=1e-5",
    ]
    assert main(["lr-find", str(ROOT / "recipes/quickstart.yaml"), *small]) == 4
    assert "taken" in capsys.readouterr().out


class Ended:
    exit_code = 0


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_that_torch_is_imported_until_it_is(monkeypatch):
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.delitem(sys.modules, "torch")
    with importing():
        assert shown.getvalue() == "importing torch ..."
    assert re.fullmatch(r"importing torch \.\.\.\r +\r", shown.getvalue())


def test_in_a_pipe_a_run_has_a_line_for_it_and_answers_have_none(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "torch")
    with importing(told=True):
        assert capsys.readouterr() == ("importing torch ...\n", "")
    with importing():
        assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("RANK", "1")  # another process of the same run has said it
    with importing(told=True):
        assert capsys.readouterr() == ("", "")


def test_nothing_is_said_once_torch_is_there(capsys):
    import torch  # noqa: F401

    with importing(told=True):
        assert capsys.readouterr() == ("", "")
