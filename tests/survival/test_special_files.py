"""Pipes, devices, sockets and folders in the place of files: whatever a recipe or a command names is not waited for."""

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from survival_kit import TINY, command, recipe, working_in


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with a finished run."""
    from trainer.cli.main import main

    folder = tmp_path_factory.mktemp("special")
    with working_in(folder):
        cv2.imwrite("picture.png", np.zeros((32, 32, 3), np.uint8))
        assert main([recipe()]) == 0
        (run,) = Path("runs/tiny").iterdir()
        run.rename("run")
    return folder


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Iterator[Path]:
    """Work in an empty folder, and end a test that waits."""
    monkeypatch.chdir(tmp_path)
    signal.alarm(60)
    yield tmp_path
    signal.alarm(0)


def put(path: Path, kind: str) -> str:
    """Put something that is no file at `path`; return what a message calls it."""
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as unix, working_in(path.parent):
            unix.bind(path.name)
    return f"a {kind}"


KINDS = ("pipe", "device", "socket", "folder")
NAMED = {  # what is named -> file, line of the recipe, exit code
    "extends": ("base.yaml", "extends: base.yaml\n", 2),
    "plugins": ("ops.py", "plugins: [./ops.py]\n", 2),
    "start_from": ("w.pt", "x-start: 1\n", 2),
    "start_from safetensors": ("w.safetensors", "x-start: 1\n", 2),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", NAMED)
@pytest.mark.parametrize("words", [("validate",), ()], ids=["validate", "train"])
def test_no_file_that_is_named_is_waited_for(capsys, what, kind, words):
    file, line, code = NAMED[what]
    if (what, kind) == ("plugins", "device"):
        pytest.skip("a link to a plug-in stands for the file it names, and only root makes devices")
    said = put(Path(file), kind)
    text = TINY + line
    if what.startswith("start_from"):
        if kind == "folder":
            pytest.skip("a run folder may be named")
        text = TINY.replace("train: {", f"train: {{start_from: {file}, ")
    ended = command(capsys, *words, recipe(text))
    assert ended.code == code, ended.said
    assert f"is {said}" in ended.err
    assert file in ended.err
    assert not Path("runs").exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("words", [("validate",), ("show",), ()], ids=["validate", "show", "train"])
def test_a_recipe_that_is_no_file_is_not_waited_for(capsys, kind, words):
    said = put(Path("recipe.yaml"), kind)
    ended = command(capsys, *words, "recipe.yaml")
    assert (ended.code, f"is {said}" in ended.err) == (2, True), ended.err


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("word", ["predict", "explain"])
def test_a_picture_that_is_no_file_is_not_waited_for(capsys, finished, kind, word):
    said = put(Path("picture.png"), kind)
    ended = command(capsys, word, str(finished / "run"), str(finished / "picture.png"), "picture.png")
    assert (ended.code, ended.out) == (3, ""), ended.said
    told = f"cannot be read: it is {said}, not a file"
    if (word, kind) == ("predict", "folder"):  # whose pictures are meant
        told = "holds no picture"
    assert f"picture.png {told}" in ended.err


@pytest.mark.parametrize("kind", ["pipe", "socket"])
@pytest.mark.parametrize(
    ("name", "words", "code"),
    [
        ("resolved.yaml", ("resume",), 2),
        ("summary.json", ("resume",), 6),
        ("log.txt", ("resume", "train.epochs=3"), 5),
        ("lock", ("resume", "train.epochs=3"), 5),
        ("checkpoints/last.pt", ("resume", "train.epochs=3"), 0),  # falls back to the one before
        ("checkpoints/best.pt", ("evaluate",), 6),
        ("checkpoints/best.pt", ("predict", "picture.png"), 6),
        ("metrics.jsonl", ("compare", "run"), 6),
        ("summary.json", ("compare", "run"), 6),
    ],
)
def test_no_file_of_a_run_is_waited_for(capsys, finished, name, words, code, kind):
    shutil.copytree(finished / "run", "run")
    shutil.copy(finished / "picture.png", "picture.png")
    put(Path("run", name), kind)
    ended = command(capsys, words[0], "run", *words[1:])
    assert ended.code == code, ended.said
    assert "Traceback" not in ended.said
