"""What looks on leaves no trace: the trained state is the same with and without it, whatever the number of workers."""

import io
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from survival_kit import TINY, command, metric_lines, only_run, pictures, points, recipe, state_digests, working_in

from trainer.cli.main import main
from trainer.data.readers import Readers

AUGMENTED = TINY.replace(
    "batch_size: 8}",
    "batch_size: 8, augment: [{type: HorizontalFlip, p: 0.5}, {type: Blur, p: 0.5}]}",
).replace("width: 4", "width: 4, dropout: 0.3")
REPORT = "report: [Curves, ConfusionMatrix, Misclassified, {type: GradCAM, layers: [layer3], count: 4}]"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trained(capsys, text: str, *overrides: str) -> Path:
    """Run and return what it left, out of the way of the next."""
    ended = command(capsys, recipe(text), *overrides)
    assert ended.code == 0, ended.said
    number = len(list(Path().glob("done-*")))
    return Path(shutil.move(only_run(), f"done-{number}"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> dict[str, str]:
    """What a run learns that nobody looks at."""
    with working_in(tmp_path_factory.mktemp("plain")):
        assert main([recipe(AUGMENTED)]) == 0
        return learnt(only_run())


def learnt(run: Path) -> dict[str, str]:
    """Return the digests of everything that was trained or drawn, without the recipe and the callbacks' own states."""
    others = (" recipe", " about", " callbacks")  # `about` has the recipe's digest
    return {key: value for key, value in state_digests(run).items() if not key.endswith(others)}


@pytest.mark.parametrize(
    "overrides",
    [
        ("lr_finder={start: 1e-4, end: 1, steps: 20}",),
        ("lr_finder={start: 1e-4, end: 1, steps: 20, loss: val}",),
        ("callbacks=[TensorBoard]",),
        ("callbacks=[ModelSummary, CSV, {type: EarlyStopping, patience: 50}]",),
        ("report=[Curves, Misclassified, {type: GradCAM, layers: [layer3], count: 4}]",),
        ("train.tta=flip",),
        ("train.checkpoint={steps: 1, keep: 3}",),
        ("data.eval_batch_size=512",),
    ],
    ids=["LR finder", "LR finder on val", "TensorBoard", "callbacks", "GradCAM", "tta", "checkpoints", "one val batch"],
)
def test_looking_on_leaves_the_trained_state_as_it_was(capsys, plain, overrides):
    assert learnt(trained(capsys, AUGMENTED, *overrides)) == plain


@pytest.mark.parametrize("override", ["train.log_every=1", "callbacks=[ParameterNorms]"])
def test_measuring_more_changes_the_rows_alone(capsys, plain, override):
    other = learnt(trained(capsys, AUGMENTED, override))
    sums = (
        "last.pt meter",
        "last.pt progress",
        "best.pt row",
    )  # with every step read, means are summed in other groups
    assert {key: other[key] for key in other if key not in sums} == {
        key: plain[key] for key in plain if key not in sums
    }


def test_the_progress_bar_leaves_the_trained_state_as_it_was(capsys, plain, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr("trainer.cli.console.REDRAW_SECONDS", 0.0)
    other = trained(capsys, AUGMENTED)
    assert "images/s" in terminal.getvalue()
    assert learnt(other) == plain


def test_two_runs_of_one_recipe_leave_the_same_numbers_curves_and_pictures(capsys):
    text = AUGMENTED.replace("report: []", REPORT).replace("callbacks: []", "callbacks: [TensorBoard]")
    first = trained(capsys, text)
    torch.rand(5)  # another history of the process
    second = trained(capsys, text)
    assert state_digests(first) == state_digests(second)
    assert metric_lines(first) == metric_lines(second)
    assert pictures(first) == pictures(second)
    assert len(pictures(first)) > 6
    without_time = {tag: pairs for tag, pairs in points(first).items() if "seconds" not in tag}
    assert without_time == {tag: pairs for tag, pairs in points(second).items() if "seconds" not in tag}


def test_another_seed_is_another_run(capsys, plain):
    other = learnt(trained(capsys, AUGMENTED, "seed=4"))
    assert other["last.pt model"] != plain["last.pt model"]
    assert other["last.pt progress"] != plain["last.pt progress"]


@pytest.fixture
def pictures_of_many_sizes() -> None:
    generator = np.random.default_rng(0)
    for split, count in (("train", 10), ("val", 4)):
        for name in ("cat", "dog"):
            for index in range(count):
                path = Path("pets", split, name, f"{index}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                height, width = generator.integers(20, 40, 2)
                cv2.imwrite(str(path), generator.integers(0, 255, (height, width, 3), dtype=np.uint8))


@pytest.mark.usefixtures("pictures_of_many_sizes")
def test_the_number_of_workers_changes_nothing(capsys, monkeypatch):
    started, begin = [], Readers.__init__

    def counted(self, source, workers, *rest):
        started.append(workers)
        begin(self, source, workers, *rest)

    monkeypatch.setattr(Readers, "__init__", counted)
    crop = "augment: [{type: RandomResizedCrop, size: [16, 16]}, {type: HorizontalFlip, p: 0.5}], "
    text = TINY.replace(
        "{dataset: {type: Shapes, train_size: 32, val_size: 16, test_size: 16}, batch_size: 8}",
        f"{{dataset: {{type: ImageFolder, root: pets}}, {crop}"
        "eval: [{type: Resize, height: 16, width: 16}], batch_size: 4}",
    )
    runs = [trained(capsys, text, f"data.workers={workers}") for workers in (0, 2, 3)]
    assert set(started) == {2, 3}
    assert len({tuple(sorted(learnt(run).items())) for run in runs}) == 1
    assert len({tuple(metric_lines(run)) for run in runs}) == 1
