"""Names that are no text (an old zip's), letters that a terminal lacks: shown with escapes, and nothing is lost."""

import io
import json
import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from survival_kit import TINY, command, only_run, recipe, summary_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from registry.printing import harmless, one_line, printable
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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x1b[31mred\x7f", "\\x1b[31mred\\x7f"),
        ("\x9b2J", "\\x9b2J"),
        ("a\u2028b\u202ec", "a\\u2028b\\u202ec"),
        (CAFE, SHOWN),
        ("caf\N{LATIN SMALL LETTER E WITH ACUTE} \N{FACE WITH TEARS OF JOY}",) * 2,
    ],
)
def test_a_name_is_shown_on_one_line_without_what_a_terminal_obeys(text, shown):
    assert one_line(text) == shown
    assert harmless(f"{text}\nnext") == harmless(text) + "\nnext"


def test_names_that_a_terminal_would_obey_are_shown_escaped_everywhere(capsys, monkeypatch):
    evil, seen = "te\na\x1b[2J", "te\\na\\x1b[2J"
    Path("pets/tea").rename(f"pets/{evil}")
    ended = command(capsys, of_pets("[PerClass, ConfusionMatrix]"), "data.val={fraction: 0.5}")
    assert ended.code == 0, ended.said
    run = only_run()
    log = (run / "log.txt").read_text(encoding="utf-8")
    for text in (ended.out, log):
        assert f"2 classes: {SHOWN}, {seen} from pets" in text
    picture = f"pets/{evil}/0.png"
    predicted = command(capsys, "predict", str(run), picture)
    assert predicted.out.startswith(f"pets/{seen}/0.png: ")
    assert predicted.out.count("\n") == 1, "a line per picture"
    assert f"{seen} " in predicted.out.partition(": ")[2]
    compared = command(capsys, "compare", str(run), str(run))
    for name in ("report.html", "report.md"):
        assert "\x1b" not in (run / name).read_text(encoding="utf-8")
    Path(f"pets/{evil}/b\nad.png").write_bytes(b"junk")
    broken = command(capsys, of_pets())
    assert broken.code == 3
    assert f"error: pets/{seen}/b\\nad.png is damaged" in broken.err
    skipped = command(capsys, of_pets(), "data.on_bad_image=skip", "data.val={fraction: 0.5}")
    assert f"left out: pets/{seen}/b\\nad.png is damaged" in skipped.out
    missing = command(capsys, "predict", str(run), "no\x1b[31m\nsuch.png")
    assert missing.err.startswith("error: no\\x1b[31m\\nsuch.png cannot be read")
    for text in (ended.said, log, predicted.said, compared.said, broken.said, skipped.said, missing.said):
        assert "\x1b" not in text


def test_a_class_that_is_composed_of_other_characters_in_another_split_is_explained(capsys):
    shutil.rmtree("pets")
    filled(Path("pets/train"), "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "tea")
    filled(Path("pets/val"), "cafe\N{COMBINING ACUTE ACCENT}", "tea")
    ended = command(capsys, of_pets())
    assert ended.code == 3
    assert (
        r"'caf\xe9' and 'cafe\u0301' look the same, but are composed of other Unicode characters: "
        "give both the same name" in ended.err
    )


def test_a_folder_of_such_a_name_may_be_named_on_the_command_line_and_is_there_at_a_resume(capsys):
    Path("pets").rename(CAFE)
    ended = command(capsys, of_pets(), f"data.dataset.root={CAFE}", f"description=of {CAFE}")
    assert ended.code == 0, ended.said
    run = only_run()
    assert 'root: "caf\\U000f00e9"' in (run / "resolved.yaml").read_text(encoding="utf-8")
    assert SHOWN in (run / "report.html").read_text(encoding="utf-8")
    assert command(capsys, "resume", str(run), "train.epochs=2").code == 0
    assert summary_of(run)["epochs"] == 2
