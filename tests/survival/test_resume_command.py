"""`resume`: what it continues, what it refuses, and that nobody can tell afterwards."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from shared_recipes import EVERYTHING
from survival_kit import (
    STOPS,
    TINY,
    command,
    metric_lines,
    moved,
    only_run,
    plugin,
    points,
    recipe,
    same,
    stopped,
    summary_of,
    working_in,
)

from registry.errors import RecipeError
from trainer.cli.main import main
from trainer.engine import checkpoint
from trainer.recipe.load import load_recipe
from trainer.run.resuming import FREE_AT_RESUME, refuse_other_length

WHOLE = EVERYTHING.replace("name: everything", "name: tiny\nplugins: [./faults.py]")
WHOLE = WHOLE.replace("{type: SmallCNN, dropout", "{type: SmallCNN, width: 4, dropout").replace(
    "log_every: 2", "log_every: 1"
)
WHOLE = WHOLE.replace(
    "report: [Curves]", "lr_finder: {start: 1e-3, end: 1, steps: 12}\nreport: [Curves, Misclassified]"
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    plugin(STOPS)
    return tmp_path


# ------------------------------------------------------------------------------------------- nobody can tell afterwards
@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    """A run that nothing happened to, in a folder of its own."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    with working_in(folder):
        plugin(STOPS)
        assert main([recipe(WHOLE)]) == 0
        return only_run().resolve()


def test_a_resumed_run_leaves_the_same_files_as_an_uninterrupted_one(capsys, uninterrupted):
    assert len(points(uninterrupted)["tensorboard step/loss"]) == 9
    for at in (2, 6, 9):  # in the middle of the first epoch, at the end of the second, after the last step
        run = stopped(capsys, WHOLE, at)
        assert summary_of(run)["status"] == "interrupted"
        callbacks = re.search(r"callbacks: (.*)", WHOLE)[1]
        ended = command(capsys, "resume", str(run), f"callbacks={callbacks}")
        assert ended.code == 0
        same(uninterrupted, run)
        assert points(run) == points(uninterrupted)  # each step once, none lost
        assert summary_of(run)["status"] == "completed"
        shutil.rmtree(run)


def test_the_command_that_continues_a_run_can_be_pasted(capsys):
    stops = TINY.replace("name: tiny", "name: my run").replace("callbacks: []", "callbacks: [{type: StopsAt, at: 2}]")
    ended = command(capsys, recipe(f"{stops}plugins: [./faults.py]\n"))
    line = next(line for line in ended.said.splitlines() if "to continue: " in line)
    words = shlex.split(line.partition("to continue: ")[2])
    assert Path(words[words.index("resume") + 1]) == only_run("my run")


def test_a_resume_of_a_resume_is_exact(capsys, uninterrupted):
    run = stopped(capsys, WHOLE, 2)
    assert (
        command(capsys, "resume", str(run), "callbacks=[TensorBoard, ParameterNorms, {type: StopsAt, at: 5}]").code
        == 130
    )
    assert (
        command(
            capsys, "resume", str(run), "callbacks=[TensorBoard, ParameterNorms, {type: StopsAfter, epoch: 2}]"
        ).code
        == 143
    )
    assert command(capsys, "resume", str(run), "callbacks=[TensorBoard, ParameterNorms]").code == 0
    same(uninterrupted, run)
    assert points(run) == points(uninterrupted)


def test_fewer_epochs_than_were_begun_let_the_epoch_that_was_begun_come_to_its_end(capsys):
    assert command(capsys, recipe(TINY), "train.epochs=2").code == 0
    whole = moved("whole")
    run = stopped(capsys, TINY, 6)  # of 4 steps an epoch
    ended = command(capsys, "resume", str(run), "train.epochs=1", "callbacks=[]")
    assert ended.code == 0
    assert "train.epochs is 1 now" not in ended.out, "one epoch is finished, and as many are asked for"
    assert metric_lines(run) == metric_lines(whole)
    assert (summary_of(run)["epochs"], summary_of(run)["test"]) == (2, summary_of(whole)["test"])


ASKS = """
from registry.contracts import Callback, Stop

@component("callback")
class AsksAt(Callback):
    '''Asks for the end of the training within an epoch.

    Args:
        at: optimizer step.
    '''
    def __init__(self, at: int = 6) -> None:
        self.at = at
    def step_finished(self, view):
        return Stop("enough") if view.step == self.at else None
"""


def test_a_run_asked_to_stop_and_interrupted_in_the_same_epoch_brings_it_to_its_end(capsys):
    plugin(STOPS + ASKS)
    asks = TINY.replace("log_every: 2", "log_every: 1") + "plugins: [./faults.py]\n"
    asks = asks.replace("callbacks: []", "callbacks: [AsksAt]")
    assert command(capsys, recipe(asks), "train.epochs=4").code == 0
    whole = moved("whole")
    assert (summary_of(whole)["epochs"], summary_of(whole)["stopped"]) == (2, "enough")
    run = stopped(capsys, asks, 7, "train.epochs=4")
    assert command(capsys, "resume", str(run)).code == 0
    assert metric_lines(run) == metric_lines(whole)
    assert summary_of(run)["test"] == summary_of(whole)["test"]


def test_more_epochs_equal_a_run_that_had_them_from_the_start(capsys):
    text = TINY + "scheduler: {type: StepLR, step_size: 1, gamma: 0.5}\n"
    assert command(capsys, recipe(text), "train.epochs=4").code == 0
    whole = moved("whole")
    assert command(capsys, recipe(text)).code == 0
    assert command(capsys, "resume", str(only_run()), "train.epochs=4").code == 0
    same(whole, only_run())
    assert summary_of(only_run())["epochs"] == 4


def test_the_learning_rate_is_not_searched_again(capsys):
    run = stopped(capsys, TINY + "lr_finder: {start: 1e-3, end: 1, steps: 12}\n")
    before = (run / "lr_finder.json").read_bytes()
    ended = command(capsys, "resume", str(run), "callbacks=[]")
    assert ended.code == 0
    assert "LR finder 12 steps, then" not in ended.out
    assert (run / "lr_finder.json").read_bytes() == before


def test_a_run_stopped_before_its_first_checkpoint_starts_again_in_its_folder(capsys, uninterrupted):
    run = stopped(capsys, WHOLE, 2)
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    callbacks = re.search(r"callbacks: (.*)", WHOLE)[1]
    ended = command(capsys, "resume", str(run), f"callbacks={callbacks}")
    assert ended.code == 0
    assert f"resuming {run} from the start: it has no checkpoint" in ended.out
    same(uninterrupted, run)
    assert points(run) == points(uninterrupted)


# ------------------------------------------------------------------------------------------------------- completed runs
@pytest.fixture
def completed(capsys) -> Path:
    assert command(capsys, recipe()).code == 0
    return only_run()


def test_tensorboard_is_named_only_where_it_has_something_to_show(capsys, completed):
    assert "TensorBoard" not in command(capsys, "resume", str(completed), "description=again").out
    assert "tensorboard --logdir" not in (completed / "report.md").read_text(encoding="utf-8")
    ended = command(capsys, "resume", str(completed), "callbacks=[TensorBoard]", "train.epochs=3")
    assert "TensorBoard          tensorboard --logdir runs" in ended.out
    assert "tensorboard --logdir" in (completed / "report.md").read_text(encoding="utf-8")


def test_a_completed_run_is_left_alone(capsys, completed):
    before = {path: path.read_bytes() for path in completed.rglob("*") if path.is_file()}
    ended = command(capsys, "resume", str(completed))
    assert ended.code == 0
    assert ended.out == f"{completed} is complete: nothing to do\n"
    assert {path: path.read_bytes() for path in completed.rglob("*") if path.is_file()} == before


def test_fewer_epochs_than_done_leave_a_completed_run_alone(capsys, completed):
    assert "nothing to do" in command(capsys, "resume", str(completed), "train.epochs=1").out


def test_more_time_continues_a_run_that_ran_out_of_it(capsys):
    assert command(capsys, recipe(), "train.epochs=3", "train.max_minutes=1e-9").code == 0
    run = only_run()
    assert summary_of(run)["stopped"] == "train.max_minutes: 1e-09 reached"
    assert "nothing to do" in command(capsys, "resume", str(run)).out
    assert command(capsys, "resume", str(run), "train.max_minutes=50").code == 0
    assert (summary_of(run)["epochs"], summary_of(run)["stopped"]) == (3, "")


STEADY = TINY.replace("callbacks: []", "callbacks: [{type: EarlyStopping, monitor: lr, mode: max, patience: 0}]")
PATIENT = "callbacks=[{type: EarlyStopping, monitor: lr, mode: max, patience: 1}]"


def test_more_patience_continues_a_run_that_was_stopped_early(capsys):
    assert command(capsys, recipe(STEADY), "train.epochs=5", PATIENT).code == 0
    whole = moved("whole")
    assert (summary_of(whole)["epochs"], summary_of(whole)["stopped"][:13]) == (3, "EarlyStopping")
    assert command(capsys, recipe(STEADY), "train.epochs=5").code == 0
    run = only_run()
    assert summary_of(run)["epochs"] == 2
    assert "nothing to do" in command(capsys, "resume", str(run)).out
    assert command(capsys, "resume", str(run), PATIENT).code == 0
    same(whole, run)
    assert summary_of(run)["stopped"] == summary_of(whole)["stopped"]


def test_a_run_that_was_stopped_early_goes_on_to_its_end_without_what_stopped_it(capsys):
    assert command(capsys, recipe(STEADY), "train.epochs=4").code == 0
    assert command(capsys, "resume", str(only_run()), "callbacks=[]").code == 0
    assert (summary_of(only_run())["epochs"], summary_of(only_run())["stopped"]) == (4, "")


def test_the_same_patience_among_other_callbacks_keeps_a_run_stopped(capsys):
    assert command(capsys, recipe(STEADY), "train.epochs=4").code == 0
    before = metric_lines(only_run())
    callbacks = re.search(r"callbacks: (.*)", STEADY)[1].replace("[{", "[CSV, {")
    assert command(capsys, "resume", str(only_run()), f"callbacks={callbacks}").code == 0
    assert metric_lines(only_run()) == before
    assert summary_of(only_run())["stopped"].startswith("EarlyStopping: lr has not improved for 1 epoch")


def test_more_epochs_for_a_run_that_was_stopped_early_are_refused_with_the_way_out(capsys):
    assert command(capsys, recipe(STEADY), "train.epochs=4").code == 0
    ended = command(capsys, "resume", str(only_run()), "train.epochs=9")
    assert ended.code == 2
    assert "train.epochs would change nothing: the run was ended after epoch 2 (EarlyStopping: lr has" in ended.err
    assert "callbacks=[...]" in ended.err


def test_a_completed_run_is_evaluated_and_reported_anew_with_what_was_asked_for(capsys, completed):
    before = metric_lines(completed)
    words = ["report=[ConfusionMatrix]", "train.tta=flip", "expect={best val/accuracy: '>= 0'}"]
    assert command(capsys, "resume", str(completed), *words).code == 0
    assert (completed / "figures/confusion.png").exists()
    assert "tta/accuracy" in summary_of(completed)["test"]["best"]
    assert summary_of(completed)["expect"]["lines"][0]["ok"]
    assert metric_lines(completed) == before


def test_another_report_takes_no_verdict_away(capsys):
    assert command(capsys, recipe(TINY + 'expect: {best val/accuracy: ">= 0.99"}\n')).code == 8
    assert command(capsys, "resume", str(only_run()), "report=[ConfusionMatrix]", "description=again").code == 8
    assert summary_of(only_run())["expect"]["not_judged"] == ""


def test_a_sink_that_is_new_has_the_epochs_before_it_too(capsys, completed):
    words = ["train.epochs=3", "callbacks=[{type: CSV, delimiter: ';'}, TensorBoard, ModelSummary]"]
    ended = command(capsys, "resume", str(completed), *words)
    assert ended.code == 0
    rows = (completed / "metrics.csv").read_text(encoding="utf-8").splitlines()
    assert [row.partition(";")[0] for row in rows] == ["epoch", "1", "2", "3"]
    assert [step for step, _ in points(completed)["train lr"]] == [1, 2, 3]
    assert "| (whole) | " in (completed / "log.txt").read_text(encoding="utf-8")
    assert re.search(r"\n1 of 3 epochs left x \d+ steps", ended.out), "the forecast is of what is left"


def test_the_page_of_a_run_that_may_go_on_says_so_and_leaves_the_test_split_alone(capsys, completed):
    summary = summary_of(completed)
    assert "held out, chose nothing" in (completed / "report.html").read_text(encoding="utf-8")
    (completed / "summary.json").write_text(json.dumps({**summary, "status": "interrupted"}), encoding="utf-8")
    assert command(capsys, "report", str(completed)).code == 0
    page = (completed / "report.html").read_text(encoding="utf-8")
    assert "interrupted after" in page
    assert "The held-out test was not looked at" in page
    assert "held out, chose nothing" not in page


def test_overrides_that_change_nothing_are_named(capsys, completed):
    ended = command(capsys, "resume", str(completed), "train.checkpoint.keep=3", "train.epochs=1")
    assert ended.code == 0
    assert "nothing to do, and train.epochs and train.checkpoint would change nothing" in ended.out


# -------------------------------------------------------------------------------------------------------------- refused
REFUSED = [
    "data.batch_size=4",
    "optimizer.lr=0.5",
    "seed=4",
    "model.width=8",
    "train.precision=bf16",
    "train.accumulate=2",
    "train.ema={decay: 0.9}",
    "data.augment=[HorizontalFlip]",
    "data.dataset.train_size=64",
    "lr_finder.steps=40",
    "train={epochs: 9}",
    "name=other",
]


def test_a_change_of_what_the_run_was_made_with_is_refused_and_nothing_is_touched(capsys, completed):
    before = {path: path.read_bytes() for path in completed.rglob("*") if path.is_file()}
    for override in REFUSED:
        ended = command(capsys, "resume", str(completed), override)
        assert ended.code == 2
        key = override.partition("=")[0]
        assert f"error: {key} cannot change at resume: the run so far was made with another value" in ended.err
        assert "What may change: train.epochs, " in ended.err
    assert {path: path.read_bytes() for path in completed.rglob("*") if path.is_file()} == before


def test_a_value_that_the_run_has_already_is_no_change(capsys, completed):
    assert command(capsys, "resume", str(completed), "seed=3").code == 0
    ended = command(capsys, "resume", str(completed), "seed=3", "model.width=4", "train.epochs=3")
    assert ended.code == 0, ended.said
    assert summary_of(completed)["epochs"] == 3
    ended = command(capsys, "resume", str(completed), "seed=3", "train.epochs=many")
    assert "train.epochs" in ended.err
    assert "another value" not in ended.err


@pytest.mark.parametrize(
    ("override", "rule"), [("bogus=1", "R010"), ("train.epoch=3", "R011"), ("model.foo=1", "R021")]
)
def test_a_key_that_does_not_exist_is_not_said_to_have_had_another_value(capsys, completed, override, rule):
    ended = command(capsys, "resume", str(completed), override)
    assert ended.code == 2
    assert rule in ended.err
    assert override.partition("=")[0].rpartition(".")[2] in ended.err
    assert "another value" not in ended.err


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (("type: SmallCNN", "type: resnet18"), "model.type"),
        (("width: 4", "width: 6"), "model.width"),
        (("momentum: 0.9", "momentum: 0.8"), "optimizer.momentum"),
        (("seed: 3", "seed: 4"), "seed"),
        (("batch_size: 8", "batch_size: 4"), "data.batch_size"),
    ],
)
def test_a_resolved_recipe_edited_into_another_is_refused_before_anything_is_touched(capsys, completed, edit, named):
    path = completed / "resolved.yaml"
    text = path.read_text(encoding="utf-8")
    if named == "model.type":
        text = re.sub(r"(?m)^ +(width|dropout): .*\n", "", text)
    assert edit[0] in text
    path.write_text(text.replace(*edit), encoding="utf-8")
    before = {path: path.read_bytes() for path in completed.rglob("*") if path.is_file()}
    ended = command(capsys, "resume", str(completed), "train.epochs=4")
    assert ended.code == 6, ended.said
    assert f"resolved.yaml: not what the run was made with: {named}" in ended.err
    assert "bring resolved.yaml back as it was" in ended.err
    assert {path: path.read_bytes() for path in completed.rglob("*") if path.is_file()} == before


def test_what_may_change_at_resume_may_be_edited_in_the_resolved_recipe_too(capsys, completed):
    path = completed / "resolved.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("epochs: 2", "epochs: 3"), encoding="utf-8")
    assert command(capsys, "resume", str(completed)).code == 0
    assert summary_of(completed)["epochs"] == 3


def test_weights_that_do_not_fit_the_network_are_refused_before_anything_is_touched(capsys, completed):
    path = completed / "checkpoints/last.pt"  # as where the code of a plug-in was changed
    state = checkpoint.read(path)
    name, weight = next((name, each) for name, each in state["model"].items() if each.dim() == 4)
    checkpoint.write(path, {**state, "model": {**state["model"], name: weight[:-1]}})
    before = {path: path.read_bytes() for path in completed.rglob("*") if path.is_file()}
    ended = command(capsys, "resume", str(completed), "train.epochs=3")
    assert ended.code == 6, ended.said
    assert "last.pt: its weights do not fit model SmallCNN" in ended.err
    assert {path: path.read_bytes() for path in completed.rglob("*") if path.is_file()} == before


def test_other_epochs_under_a_schedule_planned_on_them_are_refused_with_the_reason(capsys):
    assert command(capsys, recipe(TINY + "scheduler: {type: OneCycleLR, max_lr: 0.1}\n")).code == 0
    ended = command(capsys, "resume", str(only_run()), "train.epochs=5")
    assert ended.code == 2
    assert "train.epochs cannot change at resume: OneCycleLR was planned on the length of the run" in ended.err
    assert "start a new run, with train.start_from" in ended.err
    assert "nothing to do" in command(capsys, "resume", str(only_run()), "train.epochs=2").out  # as they were


def test_other_epochs_under_a_schedule_that_refers_to_them_are_refused_as_well(capsys):
    text = TINY + "scheduler: {type: CosineAnnealingLR, T_max: $train.epochs}\n"
    assert command(capsys, recipe(text)).code == 0
    ended = command(capsys, "resume", str(only_run()), "train.epochs=5")
    assert ended.code == 2
    assert "CosineAnnealingLR was planned on the length of the run" in ended.err


@pytest.mark.parametrize(
    ("scheduler", "planned"),
    [
        ("{type: CosineAnnealingLR}", True),
        ("{type: CosineAnnealingLR, T_max: 5}", False),
        ("{type: CosineAnnealingLR, T_max: $train.epochs}", True),
        ("{type: OneCycleLR, max_lr: 0.1, epochs: 2, steps_per_epoch: 4}", False),
        ("{type: CyclicLR, base_lr: 0.01, max_lr: 0.1, step_size_up: $run.total_steps}", True),
        ("{type: CyclicLR, base_lr: 0.01, max_lr: 0.1, step_size_up: 4}", False),
        ("{type: SequentialLR, milestones: [1], schedulers: [{type: ConstantLR}, {type: CosineAnnealingLR}]}", True),
        ("{type: SequentialLR, milestones: [1], schedulers: [{type: ConstantLR}, {type: LinearLR}]}", False),
        ("{type: PolynomialLR, total_iters: 2}", False),
        ("{type: StepLR, step_size: 1}", False),
        ("{type: ReduceLROnPlateau}", False),
    ],
)
def test_what_counts_as_planned_on_the_length_of_the_run(scheduler, planned):
    loaded = load_recipe(recipe(TINY + f"scheduler: {scheduler}\n"), ())
    assert loaded.recipe is not None, loaded.problems
    if planned:
        with pytest.raises(RecipeError, match="was planned on the length of the run"):
            refuse_other_length(loaded.recipe, loaded.catalogue)
    else:
        refuse_other_length(loaded.recipe, loaded.catalogue)


def test_a_wrong_value_of_a_free_key_is_a_recipe_error(capsys, completed):
    ended = command(capsys, "resume", str(completed), "train.epochs=many")
    assert ended.code == 2
    assert "cannot be resumed" in ended.err


@pytest.mark.parametrize("path", ["runs/tiny/20000101-000000", ".", "stops.yaml"])
def test_what_is_no_run_ends_with_exit_6(capsys, path):
    ended = command(capsys, "resume", path)
    assert ended.code == 6
    assert path in ended.err


def test_every_key_that_may_change_does_change_at_resume(capsys):
    values = {
        "train.epochs": "3",
        "train.max_minutes": "90",
        "train.checkpoint.**": "train.checkpoint.keep=2",
        "train.device": "cpu",
        "train.tta": "flip",
        "data.workers": "0",
        "data.eval_batch_size": "4",
        "data.on_bad_image": "skip",
        "callbacks.**": "callbacks=[CSV]",
        "report.**": "report=[ConfusionMatrix]",
        "answers.**": "answers={calibrated: true, abstain_below: 0.9}",
        "description": "other words",
        "expect.**": "expect={best val/accuracy: '>= 0'}",
    }
    assert set(values) == {free.pattern for free in FREE_AT_RESUME} - {
        "data.dataset.root",
        "data.dataset.file",
    }  # with a folder
    run = stopped(capsys)
    overrides = [value if "=" in value else f"{pattern}={value}" for pattern, value in values.items()]
    ended = command(capsys, "resume", str(run), *overrides)
    assert ended.code == 0, ended.said
    assert (run / "metrics.csv").exists()
    assert (summary_of(run)["epochs"], summary_of(run)["expect"]["lines"][0]["ok"]) == (3, True)
    assert "tta/accuracy" in summary_of(run)["test"]["best"]
    assert (run / "figures" / "confusion.png").exists()
    assert "coverage" in summary_of(run)["report"]["calibration"]
