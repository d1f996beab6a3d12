"""What goes wrong while a network learns: losses that are not finite, memory, batches and heads that do not fit."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from survival_kit import TINY, command, metric_lines, only_run, plugin, recipe, summary_of

from trainer.engine import checkpoint

FAULTS = """
import torch
from torch import nn
from registry.contracts import Callback, Section
from registry import component
from registry.metrics.counting import Accuracy

@component("loss")
class BadAt(nn.Module):
    '''Cross entropy that turns bad at some calls in training.

    Args:
        calls: which, from 1.
        value: what it becomes.
        validation: turn bad in validation instead.
    '''
    def __init__(self, calls: list[int], value: str = "nan", validation: bool = False) -> None:
        super().__init__()
        self.calls, self.value, self.validation, self.count = calls, value, validation, 0
    def forward(self, logits, targets):
        loss = nn.functional.cross_entropy(logits, targets)
        if torch.is_inference_mode_enabled() == self.validation:
            self.count += 1
            if self.count in self.calls:
                return loss * float(self.value)
        return loss

@component("model")
class Hungry(nn.Module):
    '''A network that runs out of memory.

    Args:
        num_classes: classes.
        at: forward pass at which it does.
        kind: how the allocator says so.
    '''
    def __init__(self, num_classes: int, at: int = 6, kind: str = "device") -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)
        self.at, self.kind, self.count = at, kind, 0
    def forward(self, images):
        self.count += 1
        if self.count == self.at:
            if self.kind == "device":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
            if self.kind == "python":
                raise MemoryError
            torch.empty(1 << 60)
        return self.head(images.mean((2, 3)))

@component("model")
class Normed(nn.Module):
    '''A network that normalises over the batch alone.

    Args:
        num_classes: classes.
    '''
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.head = nn.Linear(3, num_classes)
    def forward(self, images):
        return self.head(self.norm(images.mean((2, 3))))

@component("model")
class Fixed(nn.Module):
    '''A network with a head of its own.

    Args:
        num_outputs: of the head.
    '''
    def __init__(self, num_outputs: int = 7) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_outputs)
    def forward(self, images):
        return self.head(images.mean((2, 3)))

@component("metric")
class Never(Accuracy):
    '''A metric that no data makes finite.'''
    def compute(self):
        return torch.tensor(float("nan"))

@component("callback")
class Raises(Callback):
    '''Raises after an epoch.

    Args:
        after: epoch.
    '''
    def __init__(self, after: int = 1) -> None:
        self.after = after
    def epoch_finished(self, view):
        if view.epoch == self.after:
            raise RuntimeError("a plug-in's own mistake")

@component("report")
class Fails:
    '''A part that cannot be made.'''
    def render(self, evidence):
        raise RuntimeError("no picture today")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    plugin(FAULTS)
    return tmp_path


def tiny(**changes: str) -> str:
    """Write TINY with top-level lines replaced or added, and the plug-in."""
    lines = [line for line in TINY.strip().splitlines() if line.partition(":")[0] not in changes]
    added = [f"{key}: {value}" for key, value in {"plugins": "[./faults.py]", **changes}.items()]
    return recipe("\n".join([*lines, *added]) + "\n")


def train(epochs: int = 2, **more: str) -> str:
    return "{" + ", ".join([f"epochs: {epochs}", "precision: fp32", *(f"{k}: {v}" for k, v in more.items())]) + "}"


# --------------------------------------------------------------------------------------------------- losses not finite
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_loss_that_is_not_finite_ends_with_exit_4_naming_where(capsys, value):
    # three steps of the forecast come first, so call 9 is step 6, in epoch 2
    ended = command(capsys, tiny(loss=f"{{type: BadAt, calls: [9], value: '{value}'}}", train=train(epochs=3)))
    assert ended.code == 4
    assert "error: the loss is not finite (epoch 2, step 6, learning rate 0.02)" in ended.err
    assert "lower optimizer.lr, or set train.clip_norm" in ended.err
    run = only_run()
    assert summary_of(run)["status"] == "failed"
    assert "epoch 2, step 6" in summary_of(run)["error"]
    state = checkpoint.read(run / "checkpoints" / "last.pt")
    assert state["progress"]["epoch"] == 1
    assert all(weight.isfinite().all() for weight in state["model"].values())


def test_skip_leaves_the_step_out_and_counts_it(capsys):
    ended = command(capsys, tiny(loss="{type: BadAt, calls: [9, 10]}", train=train(on_nan="skip")))
    assert ended.code == 0
    assert "loss not finite at epoch 2, step 6, learning rate 0.02: step skipped" in ended.out
    assert summary_of(only_run())["skipped_steps"] == 2
    assert "NaN" not in "".join(metric_lines(only_run()))


def test_more_than_ten_bad_steps_in_a_row_end_a_skipping_run(capsys):
    calls = list(range(9, 30))
    ended = command(capsys, tiny(loss=f"{{type: BadAt, calls: {calls}}}", train=train(epochs=9, on_nan="skip")))
    assert ended.code == 4
    assert "the loss is not finite (epoch 4, step 16," in ended.err
    assert ", and the 10 steps before it were skipped" in ended.err
    assert "train.on_nan: skip" not in ended.err, "which is what it has"


def test_restore_takes_the_last_checkpoint_and_goes_on(capsys):
    ended = command(capsys, tiny(loss="{type: BadAt, calls: [9]}", train=train(epochs=3, on_nan="restore")))
    assert ended.code == 0
    assert (
        "loss not finite at epoch 2, step 6, learning rate 0.02: weights of the last checkpoint restored" in ended.out
    )
    assert len(metric_lines(only_run())) == 3


def test_restore_without_a_checkpoint_stops(capsys):
    ended = command(capsys, tiny(loss="{type: BadAt, calls: [5]}", train=train(on_nan="restore")))
    assert ended.code == 4
    assert "epoch 1, step 2" in ended.err
    assert "there is no checkpoint yet to go on from" in ended.err
    assert "is kept" not in ended.err


@pytest.mark.parametrize(
    ("calls", "said"), [([5], "there is no checkpoint yet to go on from"), ([9], "the last good checkpoint is kept")]
)
def test_a_checkpoint_is_said_to_be_kept_only_where_there_is_one(capsys, calls, said):
    ended = command(capsys, tiny(loss=f"{{type: BadAt, calls: {calls}}}", train=train(epochs=3)))
    assert ended.code == 4
    assert said in ended.err


def test_restore_gives_up_after_three_times(capsys):
    calls = list(range(9, 60))
    ended = command(capsys, tiny(loss=f"{{type: BadAt, calls: {calls}}}", train=train(epochs=9, on_nan="restore")))
    assert ended.code == 4
    assert ended.out.count("weights of the last checkpoint restored") == 3
    assert ", after 3 checkpoints had been restored" in ended.err


def test_where_steps_are_not_skipped_that_is_a_way_out(capsys):
    ended = command(capsys, tiny(loss="{type: BadAt, calls: [9]}", train=train(epochs=3)))
    assert "train.on_nan: skip leaves such steps out; the last good checkpoint is kept" in ended.err
    assert "skipped" not in ended.err


def test_an_epoch_that_measured_nothing_is_one_without_improvement_to_a_plateau(capsys):
    plateau = "{type: ReduceLROnPlateau, patience: 0, step: {monitor: train/loss}}"
    text = tiny(loss="{type: BadAt, calls: [9, 10, 11, 12]}", scheduler=plateau, train=train(epochs=3, on_nan="skip"))
    assert command(capsys, text).code == 0
    assert summary_of(only_run())["epochs"] == 3


def test_a_validation_loss_that_is_not_finite_stops(capsys):
    ended = command(capsys, tiny(loss="{type: BadAt, calls: [2], validation: true}", train=train(epochs=3)))
    assert ended.code == 4
    assert "the validation loss is nan in epoch 2 (step 8, learning rate 0.02)" in ended.err
    assert checkpoint.read(only_run() / "checkpoints/last.pt")["progress"]["epoch"] == 1


@pytest.mark.parametrize("bad", [1, 2, 3])
def test_an_epoch_without_a_finite_number_is_never_the_best(capsys, bad):
    loss = f"{{type: BadAt, calls: [{bad}], validation: true}}"
    best = "{metric: val/loss, mode: min}"
    ended = command(capsys, tiny(loss=loss, train=train(epochs=3, on_nan="skip", best=best)))
    assert ended.code == 0
    assert summary_of(only_run())["best"]["epoch"] not in (None, bad)
    assert '"val/loss": null' in metric_lines(only_run())[bad - 1]


def test_a_run_without_one_finite_validation_loss_is_no_success_and_can_be_resumed(capsys):
    loss = "{type: BadAt, calls: [1, 2], validation: true}"
    ended = command(capsys, tiny(loss=loss, train=train(epochs=2, on_nan="skip")))
    assert ended.code == 4
    assert "the validation loss is not finite in all 2 epochs: there are no best weights" in ended.err
    summary = summary_of(only_run())
    assert (summary["status"], "best" in summary, "test" in summary) == ("failed", False, False)
    assert checkpoint.read(only_run() / "checkpoints/last.pt")["progress"]["epoch"] == 2
    assert command(capsys, "resume", str(only_run()), "train.epochs=5").code == 0, "in epochs 3 and 4 it is bad again"
    assert summary_of(only_run())["best"]["epoch"] == 5


def test_a_metric_that_is_finite_in_no_epoch_leaves_no_best_weights_to_report(capsys):
    ended = command(capsys, tiny(train=train(metrics="[Never]", best="{metric: val/never, mode: max}")))
    assert ended.code == 0
    assert "no epoch has both a finite validation loss and a finite val/never: there are no best weights" in ended.out
    assert (summary_of(only_run())["best"], "best" in summary_of(only_run()).get("test", {})) == (None, False)
    assert "this page speaks of the final ones" in (only_run() / "report.md").read_text()


def test_best_weights_that_are_lost_or_of_another_epoch_are_named(capsys):
    loss, best = "{type: BadAt, calls: [2], validation: true}", "{metric: val/loss, mode: min}"
    assert command(capsys, tiny(loss=loss, train=train(on_nan="skip", best=best))).code == 0
    run = only_run()
    (run / "summary.json").write_text('{"status": "running"}')  # killed while it wrote the report
    path = run / "checkpoints" / "best.pt"
    state = checkpoint.read(path)
    checkpoint.write(path, {**state, "row": {**state["row"], "epoch": 2}})
    ended = command(capsys, "resume", str(run))
    assert ended.code == 6
    assert "best.pt: holds the weights of epoch 2, but the best was epoch 1" in ended.err
    path.unlink()
    ended = command(capsys, "resume", str(run))
    assert ended.code == 6
    assert "best.pt: there is no such checkpoint" in ended.err


# --------------------------------------------------------------------------------------------------------------- memory
@pytest.mark.parametrize("kind", ["device", "python", "cpu"])
def test_running_out_of_memory_in_training_ends_with_exit_7_and_advice(capsys, kind):
    ended = command(capsys, tiny(model=f"{{type: Hungry, kind: {kind}}}"))
    assert ended.code == 7
    assert "out of memory" in ended.err
    assert "data.batch_size 8" in ended.err
    assert "halve data.batch_size and double train.accumulate: the steps stay the same" in ended.err
    assert summary_of(only_run())["status"] == "failed"
    assert "out of memory" in summary_of(only_run())["error"]


def test_running_out_of_memory_in_the_first_trial_steps_ends_with_exit_7(capsys):
    ended = command(capsys, tiny(model="{type: Hungry, at: 2}"))
    assert ended.code == 7
    assert "data.batch_size 8" in ended.err


def test_running_out_of_memory_in_the_evaluation_names_its_batch_size(capsys):
    ended = command(capsys, tiny(model="{type: Hungry, at: 14}", train=train(epochs=2)))
    assert ended.code == 7
    assert "data.eval_batch_size 512" in ended.err


# ------------------------------------------------------------------------------------------------ batches, heads, parts
def test_a_batch_of_one_with_batchnorm_is_explained(capsys):
    data = "{dataset: {type: Shapes, train_size: 33, val_size: 16}, batch_size: 8}"
    ended = command(capsys, tiny(data=data, model="Normed"))
    assert ended.code == 3
    assert "a batch of one image reached a layer that normalises over the batch" in ended.err
    assert "data.drop_last: true leaves an incomplete batch out" in ended.err
    assert command(capsys, "tiny.yaml", "data.drop_last=true").code == 0


def test_fewer_images_than_a_batch_with_drop_last_are_refused_before_training(capsys):
    data = "{dataset: {type: Shapes, train_size: 20, val_size: 16}, batch_size: 64, drop_last: true}"
    ended = command(capsys, tiny(data=data))
    assert ended.code == 2
    assert "data.drop_last leaves nothing: 20 images" in ended.err
    assert not Path("runs").exists()


def test_fewer_images_than_a_batch_are_one_batch(capsys):
    data = "{dataset: {type: Shapes, train_size: 20, val_size: 16}, batch_size: 64}"
    assert command(capsys, tiny(data=data)).code == 0


def test_a_validation_share_of_nothing_is_refused_as_soon_as_the_number_of_images_is_known(capsys):
    data = "{dataset: {type: Shapes, train_size: 20, val_size: 16}, val: {fraction: 0.001}, batch_size: 8}"
    ended = command(capsys, tiny(data=data))
    assert (ended.code, "a share of 0.001 of 20 training" in ended.err) == (2, True)
    for number in range(20):
        folder = Path(f"pictures/{'cats' if number % 2 else 'dogs'}")
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{number}.png"), np.full((16, 16, 3), number, np.uint8))
    data = "{dataset: {type: ImageFolder, root: pictures}, val: {fraction: 0.001}, batch_size: 8}"
    ended = command(capsys, tiny(data=data))
    assert ended.code == 3
    assert "a validation share of 0.001 of 20 training images leaves 0 to validate on" in ended.err


def test_a_head_of_another_size_than_the_classes_is_refused_before_a_run_folder_is_made(capsys):
    ended = command(capsys, tiny(model="Fixed"))
    assert ended.code == 2
    assert "7" in ended.err
    assert "10" in ended.err
    assert not Path("runs").exists()


def test_an_empty_dataset_is_refused(capsys):
    ended = command(capsys, tiny(data="{dataset: {type: Shapes, train_size: 0}, batch_size: 8}"))
    assert ended.code in (2, 3)
    assert "train_size" in ended.err


# --------------------------------------------------------------------------------------------- other people's mistakes
def test_a_callback_that_raises_ends_with_exit_1_and_keeps_the_checkpoint(capsys):
    ended = command(capsys, tiny(callbacks="[{type: Raises, after: 2}]", train=train(epochs=3)))
    assert ended.code == 1
    assert "RuntimeError: a plug-in's own mistake" in ended.err
    assert "Traceback" not in ended.said
    assert summary_of(only_run())["error"] == "RuntimeError: a plug-in's own mistake"
    assert checkpoint.read(only_run() / "checkpoints/last.pt")["progress"]["epoch"] == 1


def test_a_report_part_that_fails_does_not_fail_the_run(capsys):
    ended = command(capsys, tiny(report="[Fails]"))
    assert ended.code == 0
    assert "report part Fails failed: RuntimeError: no picture today" in ended.out
    assert "This part could not be made." in (only_run() / "report.html").read_text(encoding="utf-8")


def test_a_monitored_metric_that_does_not_exist_is_refused_before_training(capsys):
    ended = command(capsys, tiny(train=train(best="{metric: val/acuracy}")))
    assert ended.code == 2
    assert "val/accuracy" in ended.err
    assert not Path("runs").exists()
