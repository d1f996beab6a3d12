"""The command line: which command is meant, what it takes, and how a mistake is answered."""

import pytest

from registry.errors import RecipeError
from trainer.cli.commands import COMMAND_FUNCTIONS
from trainer.cli.main import COMMANDS, main, parse


def test_every_command_has_a_function():
    assert set(COMMANDS) == set(COMMAND_FUNCTIONS)


def test_overrides_words_and_flags_are_told_apart():
    options = parse("train", ["recipe.yaml", "optimizer.lr=0.1", "--fast", "name=a=b"])
    assert options.words == ("recipe.yaml",)
    assert options.overrides == ("optimizer.lr=0.1", "name=a=b")
    assert options.flags == {"fast": True}


def test_a_flag_takes_its_value_either_way():
    assert (
        parse("validate", ["a.yaml", "--format", "json"]).flags == parse("validate", ["a.yaml", "--format=json"]).flags
    )


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("train", ["a.yaml", "--fsat"], "train takes no option --fsat\n  did you mean --fast?"),
        ("train", ["a.yaml", "b.yaml"], "train takes RECIPE [key=value ...] [--fast], got 2 words: a.yaml b.yaml"),
        ("diff", ["a.yaml"], "diff takes A B, got 1 words: a.yaml"),
        ("validate", ["a.yaml", "--format"], "--format needs a value"),
    ],
)
def test_what_a_command_does_not_take_is_refused(command, words, message):
    with pytest.raises(RecipeError) as refused:
        parse(command, words)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("words", "code", "stderr"),
    [
        (["validat", "x"], 2, "'validat' is neither a command nor a recipe file\n  did you mean 'validate'?"),
        (["missing.yaml"], 2, "missing.yaml"),
        (["resume", "nowhere"], 6, "nowhere: does not exist"),
        (["predict", "nowhere", "a.png"], 6, "nowhere: does not exist"),
        (["describe", "SGDD"], 2, "SGD"),
        (["new", "cfar"], 2, "did you mean cifar?"),
    ],
)
def test_a_mistake_is_answered_on_stderr_without_a_traceback(words, code, stderr, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == code
    shown = capsys.readouterr().err
    assert stderr in shown
    assert "Traceback" not in shown


def test_help_names_every_command(capsys):
    assert main(["help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)
    assert main(["resume", "--help"]) == 0
    assert "python -m trainer resume RUN [key=value ...]" in capsys.readouterr().out


def test_a_bug_is_told_from_a_users_mistake(monkeypatch, capsys):
    def broken(_options):
        raise KeyError("x")

    monkeypatch.setitem(COMMAND_FUNCTIONS, "list", broken)
    assert main(["list"]) == 1
    assert "this is a bug of the program; --debug shows where" in capsys.readouterr().err


@pytest.mark.parametrize("template", ["cifar", "own_images", "transfer"])
def test_a_template_is_a_recipe_without_problems(template, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new", template]) == 0
    assert main(["validate", "--quick", f"{template}.yaml"]) == 0
    assert main(["new", template]) == 2, "a file is never overwritten"
    assert "exists" in capsys.readouterr().err
