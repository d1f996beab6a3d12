"""No recipe, checkpoint or name runs code or writes outside its folder; each case has a canary that must stay away."""

import os
import pickle
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from survival_kit import TINY, command, only_run, plugin, recipe, summary_of

MARK = "<script>alert(1)</script>"


class Canary:
    def __reduce__(self):
        return (os.mkdir, ("canary",))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    yield tmp_path
    assert not list(tmp_path.rglob("canary*"))


@pytest.mark.parametrize(
    "line",
    [
        "x-note: !!python/object/apply:os.mkdir [canary]",
        "x-note: !!python/name:os.system",
        "x-note: !!python/object/new:pathlib.Path [canary]",
        "loss: {type: 'os:mkdir', path: canary}",
        "loss: {type: 'subprocess:Popen', args: [mkdir, canary]}",
        "loss: builtins.eval",
        "plugins: [../../canary.py]",
        "plugins: [no_such_package]",
        "extends: /etc/passwd",
        "extends: https://example.org/recipe.yaml",
    ],
)
def test_a_recipe_runs_no_code_of_its_own(capsys, line):
    ended = command(capsys, recipe(TINY + line + "\n"))
    assert ended.code == 2
    assert "tiny.yaml" in ended.err
    assert "Traceback" not in ended.err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "line",
    [
        "callbacks: [{type: CSV, file: ../canary.csv}]",
        "callbacks: [{type: CSV, file: /tmp/canary.csv}]",
    ],
)
def test_no_component_writes_outside_the_run_folder(capsys, line):
    ended = command(capsys, recipe(TINY.replace("callbacks: []", line)))
    assert ended.code == 2
    assert "plain file name" in ended.err


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_weights_to_start_from_run_no_code(capsys, kind):
    if kind == "pickle":
        Path("weights.pt").write_bytes(pickle.dumps(Canary()))
    else:
        torch.save({"format": 1, "digest": "", "model": Canary()}, "weights.pt")
    ended = command(capsys, recipe(), "train.start_from=weights.pt")
    assert ended.code == 6
    assert "weights.pt: cannot be read as a checkpoint" in ended.err


@pytest.mark.parametrize("words", [("evaluate",), ("explain",), ("predict", "picture.png")])
def test_a_run_from_elsewhere_runs_no_code(capsys, words):
    cv2.imwrite("picture.png", np.zeros((32, 32, 3), np.uint8))
    assert command(capsys, recipe()).code == 0
    run = only_run()
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(pickle.dumps(Canary()))
    ended = command(capsys, words[0], str(run), *words[1:])
    assert ended.code == 6
    assert "cannot be read as a checkpoint" in ended.err


def test_every_name_on_the_page_is_escaped(capsys):
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in (MARK.replace("/", "\u2215"), "a & b"):
            for index in range(6):
                path = Path("pets", split, name, f"{MARK.replace('/', '')}{index}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), generator.integers(0, 255, (16, 16, 3), dtype=np.uint8))
    text = TINY.replace(
        "{type: Shapes, train_size: 32, val_size: 16, test_size: 16}", "{type: ImageFolder, root: pets}"
    )
    text = text.replace(
        "report: []", "report: [ConfusionMatrix, Misclassified, {type: GradCAM, layers: [layer3], count: 4}]"
    )
    ended = command(capsys, recipe(f"{text}description: '{MARK}'\n# {MARK}\n"))
    assert ended.code == 0
    page = (only_run() / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    markdown = (only_run() / "report.md").read_text(encoding="utf-8")
    assert "<script>alert" not in re.sub(r"(?s)```.*?```", "", markdown)  # in a code block it is text
    assert all(path.resolve().is_relative_to(only_run().resolve()) for path in only_run().rglob("*"))


def test_the_log_says_which_plug_ins_were_imported(capsys):
    plugin(
        "from torch import nn\nfrom registry import component\n\n"
        "@component('loss')\nclass Mine(nn.CrossEntropyLoss):\n    '''Cross entropy.'''\n"
        "    def __init__(self) -> None:\n        super().__init__()\n"
    )
    ended = command(capsys, recipe(TINY + "plugins: [./faults.py]\nloss: Mine\n"))
    assert ended.code == 0
    assert summary_of(only_run())["status"] == "completed"
    log = (only_run() / "log.txt").read_text(encoding="utf-8")
    assert f"plug-in {Path('faults.py').resolve()}: its code runs with your rights" in log
