"""What `serve` refuses before it listens, or while it begins, with the exit code and the way out."""

from __future__ import annotations

import importlib.util
import shutil
import socket
from pathlib import Path

import pytest
from small_run import train_small

from trainer.cli.main import main

PLUGIN = """
from torch import nn
from registry import component


@component("model")
class Flat(nn.Sequential):
    \"\"\"One layer.

    Args:
        num_classes: classes to tell apart.
    \"\"\"

    def __init__(self, num_classes: int) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, num_classes))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose network is a plug-in's."""
    folder = tmp_path_factory.mktemp("plugged")
    (folder / "flat.py").write_text(PLUGIN)
    return train_small(folder, f"plugins=[{folder / 'flat.py'}]", "model={type: Flat}", "train.epochs=1")


def test_without_the_extra_it_says_what_to_install(run, capsys, monkeypatch):
    whole = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == "uvicorn" else whole(name))
    assert main(["serve", str(run)]) == 2
    said = capsys.readouterr().err
    assert "serve needs uvicorn" in said
    assert 'install it: pip install "recipe-trainer[serve]"' in said


needs_the_extra = pytest.mark.skipif(
    importlib.util.find_spec("uvicorn") is None, reason="the extra `serve` is not installed"
)


@needs_the_extra
def test_a_run_whose_plug_in_is_gone_is_refused_by_its_name(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "copy")
    plugin = run.parents[2] / "flat.py"
    kept = plugin.rename(tmp_path / "flat.py")
    try:
        assert main(["serve", str(tmp_path / "copy"), "--port", "0"]) == 2
        assert str(plugin) in capsys.readouterr().err
        assert main(["predict", str(tmp_path / "copy"), str(run.parents[2] / "pets")]) == 2
    finally:
        kept.rename(plugin)


@needs_the_extra
def test_a_run_without_weights_is_refused(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "copy")
    for name in ("best.pt", "last.pt"):
        (tmp_path / "copy/checkpoints" / name).unlink(missing_ok=True)
    assert main(["serve", str(tmp_path / "copy"), "--port", "0"]) == 6
    assert "this run has no checkpoint yet" in capsys.readouterr().err


@needs_the_extra
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--address", "203.0.113.7", "--port", "0"], "203.0.113.7, port 0: nothing can listen there"),
        (["--port", "99999"], "--port takes a whole number"),
        (["--queue", "0"], "--queue takes a whole number of 1 or more"),
        (["--max-megapixels", "500"], "--max-megapixels takes a whole number"),
    ],
)
def test_an_address_or_a_bound_that_cannot_be_is_refused(run, capsys, words, message):
    assert main(["serve", str(run), *words]) == 2
    assert message in capsys.readouterr().err


@needs_the_extra
def test_a_port_that_is_taken_is_refused_with_the_way_out(run, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", str(run), "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert f"127.0.0.1, port {port}: nothing can listen there (Address already in use)" in said
    assert "--port 0 takes any port that is free" in said


@needs_the_extra
def test_a_token_that_could_be_guessed_is_refused(run, capsys, monkeypatch):
    monkeypatch.setenv("RECIPE_TRAINER_TOKEN", "secret")
    assert main(["serve", str(run), "--address", "0.0.0.0", "--port", "0"]) == 2
    assert "RECIPE_TRAINER_TOKEN is no good token" in capsys.readouterr().err


@needs_the_extra
def test_what_is_no_run_is_said_before_anything_listens(tmp_path, capsys):
    assert main(["serve", str(tmp_path)]) == 6
    assert "is not a run folder" in capsys.readouterr().err
