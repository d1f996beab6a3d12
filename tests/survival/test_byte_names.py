"""Names that are no text (an old zip's), letters that a terminal lacks: shown with escapes, and nothing is lost."""

import io
import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from survival_kit import TINY, command, only_run, recipe, summary_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from registry.printing import printable
from trainer.engine import checkpoint

CAFE = os.fsdecode(b"caf\xe9")  # Latin-1
SHOWN = "caf\\xe9"


def filled(root: Path, *classes: str, images: int = 8) -> None:
    draw = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for index in range(images):
            content = cv2.imencode(".png", draw.integers(0, 255, (16, 16, 3), dtype=np.uint8))[1].tobytes()
            (root / name / f"{index}.png").write_bytes(content)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    try:
        filled(tmp_path / "pets", CAFE, "tea")
    except OSError:
        pytest.skip("this file system knows no such names")
    return tmp_path


def of_pets(report: str = "[]", callbacks: str = "[]") -> str:
    text = TINY.replace(
        "{type: Shapes, train_size: 32, val_size: 16, test_size: 16}", "{type: ImageFolder, root: pets}"
    )
    text = text.replace("callbacks: []", f"callbacks: {callbacks}")
    return recipe(text.replace("report: []", f"report: {report}").replace("epochs: 2", "epochs: 1"))


def test_a_class_whose_name_is_no_text_goes_through_everything(capsys):
    report = (
        "[ConfusionMatrix, PerClass, Misclassified, AugmentationSheet, {type: GradCAM, layers: [layer3], count: 2}]"
    )
    ended = command(capsys, of_pets(report, "[{type: TensorBoard, pr_curves: true}, CSV]"), "data.val={fraction: 0.5}")
    assert ended.code == 0, ended.said
    assert "switched off" not in ended.said
    run = only_run()
    for name in ("report.html", "report.md"):
        text = (run / name).read_text(encoding="utf-8")
        assert "could not be made" not in text
        assert SHOWN in text.replace("\\\\", "\\")
    assert "report_error" not in summary_of(run)
    assert checkpoint.read(run / "checkpoints/best.pt")["class_names"] == [CAFE, "tea"], "names open folders again"
    board = EventAccumulator(str(run / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    assert f"pr/{SHOWN}" in board.Tags()["tensors"]
    assert command(capsys, "evaluate", str(run)).code == 0
    ended = command(capsys, "explain", str(run), f"pets/{CAFE}/0.png")
    assert ended.code == 0, ended.said
    (page,) = run.glob("explain/pictures/*/report.md")
    assert SHOWN in page.read_text(encoding="utf-8").replace("\\\\", "\\")


def test_a_broken_picture_of_such_a_name_is_named_and_ends_as_any_other(capsys):
    Path("pets", "tea", os.fsdecode(b"bad\xff.png")).write_bytes(b"junk")
    ended = command(capsys, of_pets())
    assert ended.code == 3
    assert "pets/tea/bad\\xff.png is damaged" in ended.err


def test_it_is_left_out_by_name_in_the_log(capsys):
    Path("pets", "tea", os.fsdecode(b"bad\xff.png")).write_bytes(b"junk")
    ended = command(capsys, of_pets(), "data.on_bad_image=skip")
    assert ended.code == 0
    assert "pets/tea/bad\\xff.png" in (only_run() / "log.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_predict_answers_on_every_terminal(capsys, monkeypatch, encoding):
    assert command(capsys, of_pets()).code == 0
    picture = f"pets/{CAFE}/0.png"
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)  # strict, as PYTHONIOENCODING has it
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        from trainer.cli.main import main

        assert main(["predict", str(only_run()), picture]) == 0
    said = stream.buffer.getvalue().decode(encoding)
    assert said.startswith(f"pets/{SHOWN}/0.png: ")
    assert f"{SHOWN} " in said.partition(": ")[2]


def test_problems_for_programs_are_json_on_every_terminal(capsys, monkeypatch):
    name = os.fsdecode(b"r\xe9sum\xe9.yaml")
    Path(name).write_text(TINY + "wh\N{LATIN SMALL LETTER A WITH GRAVE}t: 1\n", encoding="utf-8")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        from trainer.cli.main import main

        assert main(["validate", name, "--quick", "--format", "json"]) == 2
    (problem,) = json.loads(stream.buffer.getvalue())
    assert problem["path"] == "wh\N{LATIN SMALL LETTER A WITH GRAVE}t"
    assert os.fsencode(problem["file"]) == b"r\xe9sum\xe9.yaml", "a program can open it"


@pytest.mark.parametrize(
    ("text", "shown"),
    [(CAFE, SHOWN), ("caf\N{LATIN SMALL LETTER E WITH ACUTE}",) * 2, ("\ud800", "\\ud800"), ("back\\slash",) * 2],
)
def test_only_what_is_no_character_is_escaped(text, shown):
    assert printable(text) == shown


def test_a_folder_of_such_a_name_may_be_named_on_the_command_line_and_is_there_at_a_resume(capsys):
    Path("pets").rename(CAFE)
    ended = command(capsys, of_pets(), f"data.dataset.root={CAFE}", f"description=of {CAFE}")
    assert ended.code == 0, ended.said
    run = only_run()
    assert 'root: "caf\\U000f00e9"' in (run / "resolved.yaml").read_text(encoding="utf-8")
    assert SHOWN in (run / "report.html").read_text(encoding="utf-8")
    assert command(capsys, "resume", str(run), "train.epochs=2").code == 0
    assert summary_of(run)["epochs"] == 2
