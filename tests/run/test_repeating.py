"""What a run says of how to repeat it, and of which images it speaks."""

import json
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

from registry.printing import literal
from trainer.cli.main import main
from trainer.report.inline import pieces

RECIPE = """
version: 1
name: tiny
seed: 1
data: {dataset: {type: ImageFolder, root: pets}, val: {fraction: 0.5}, batch_size: 8}
model: {type: SmallCNN, width: 4}
optimizer: {type: SGD, lr: 0.02}
train: {epochs: 9, precision: fp32}
report: [Misclassified, {type: GradCAM, count: 2}]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run under --fast whose validation part is cut off the training split; its folder, entered."""
    folder = tmp_path_factory.mktemp("repeat")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        draw = np.random.default_rng(0)
        for name in ("cat", "dog"):
            Path("pets", name).mkdir(parents=True)
            for index in range(24):
                cv2.imwrite(f"pets/{name}/{index:02}.png", draw.integers(0, 255, (32, 32, 3), dtype=np.uint8))
        Path("tiny.yaml").write_text(RECIPE, encoding="utf-8")
        assert main(["train", "tiny.yaml", "--fast", "seed=4", "data.augment=[{type: HorizontalFlip, p: 0.25}]"]) == 0
        (found,) = Path("runs/tiny").iterdir()
        yield found


def rows(run: Path) -> list[dict[str, float]]:
    """Return the epochs' rows without their times."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in found]


def test_the_command_that_repeats_a_run_repeats_it(run):
    text = (run / "report.md").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("python -m trainer runs/") and "resolved" in line)
    words = shlex.split(line)[3:]
    assert words == [f"{run}/resolved.yaml", "--fast"]
    assert main(words) == 0
    first, second = sorted(Path("runs/tiny").iterdir())
    assert rows(first) == rows(second), "seed and augmentation of the overrides, two batches of each part"


def test_every_command_of_a_fast_run_takes_the_images_that_it_took(run, capsys):
    assert main(["verify", str(run), "--replay", "2"]) == 0
    assert main(["evaluate", str(run)]) == 0
    said = capsys.readouterr().out
    assert "(16 images)" in said
    assert "other images" not in said
    assert main(["audit", str(run)]) == 0
    assert "32 images compared" in " ".join(capsys.readouterr().out.split())
    assert main(["lr-find", str(run), "lr_finder.steps=6"]) in (0, 4)
    assert "(16 training, 16 validation images)" in capsys.readouterr().out


def test_resolved_yaml_of_a_fast_run_tells_its_limit(run):
    text = (run / "resolved.yaml").read_text(encoding="utf-8")
    assert "to repeat that run give --fast again" in text.splitlines()[1]
    (line,) = [line for line in text.splitlines() if line.strip().startswith("limit:")]
    assert "--fast takes 16 images of each part at most" in line


def test_a_picture_number_counts_in_the_split_it_was_taken_from(run):
    text = (run / "report.md").read_text(encoding="utf-8")
    assert text.count("is the index in the dataset's train, which val was cut from.") >= 2
    assert "is the index in val" not in text


@pytest.mark.parametrize(
    "text",
    ["layer1.**", "**.bias and **.weight", "a*b", "`code`", "back\\slash \\* \\\\", "caf\\xe9", "plain", "***", "\\"],
)
def test_literal_text_is_shown_as_it_is_also_in_bold(text):
    assert "".join(words for _, words in pieces(literal(text))) == text
    assert {kind for kind, _ in pieces(literal(text))} == {"text"}
    assert pieces(f"a **{literal(text)}** b") == [("text", "a "), ("bold", text), ("text", " b")]
