"""A sweep is run: each trial a run folder, told to Optuna once, taken up where it stood, whoever works on it."""

import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from small_run import picture, put

pytest.importorskip("optuna", reason="optuna is an extra: pip install 'recipe-trainer[search]'")

import optuna

from registry.errors import DivergedError
from trainer.cli.main import main
from trainer.engine import checkpoint
from trainer.engine.interrupts import Interrupted
from trainer.recipe.load import load_recipe
from trainer.recipe.resolve import flat
from trainer.run.display import Display
from trainer.search import trial as trial_module
from trainer.search.reading import load_sweep
from trainer.search.worker import Worker

ROOT = Path(__file__).parents[2]
HALVING = "pruner: {type: SuccessiveHalvingPruner, min_resource: 1, reduction_factor: 2}"
TIMES = ("seconds", "epoch_seconds")


def worker(path, said=None):
    loaded = load_sweep(path, built=False)
    say = (lambda _: None) if said is None else said.append
    return Worker(loaded.usable(), loaded.recipe, Path("runs"), Display, say, ("sweep", path))


def swept(path, said=None):
    """Run a sweep in this process; return its trials."""
    made = worker(path, said)
    made.work()
    return made.trials()


def state_of(run):
    """Return what a run has learnt and measured, without its times."""
    state = checkpoint.read(run / "checkpoints" / "last.pt")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    weights = {name: tensor.tolist() for name, tensor in state["model"].items()}
    return weights, [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def test_each_trial_is_an_ordinary_run_and_the_best_a_recipe(written, here, capsys):
    path = written()
    assert main(["sweep", path]) == 0
    printed = capsys.readouterr().out
    folders = sorted((here / "runs" / "mine").glob("trial-*"))
    assert [folder.name for folder in folders] == ["trial-0000", "trial-0001", "trial-0002"]
    reached = {}
    for folder in folders:
        summary = json.loads((folder / "summary.json").read_text())
        assert (summary["status"], summary["epochs"], "test" in summary) == (
            "completed",
            4,
            folder.name in printed_best(here),
        )
        assert (folder / "report.html").exists() is False
        reached[folder.name] = summary["final"]["val/loss"]
    best = min(reached, key=reached.get)
    assert printed.startswith("trial 0/3  val/loss ")
    made = load_recipe("runs/mine/best.yaml")
    assert made.problems == ()
    mine, theirs = flat(made.recipe), flat(load_recipe(f"runs/mine/{best}/resolved.yaml").recipe)
    assert {key for key in theirs if mine.get(key) != theirs[key]} <= {"name"}


def printed_best(here):
    """Return the name of the one run that was tested."""
    tested = [
        path.parent.name
        for path in (here / "runs" / "mine").glob("trial-*/summary.json")
        if "test" in json.loads(path.read_text())
    ]
    assert len(tested) == 1
    return tested


def test_trials_are_counted_in_all_however_often_the_command_is_given(written):
    path = written()
    assert len(swept(path)) == 3
    assert len(swept(path)) == 3
    assert len(swept(written("trials: 4"))) == 4


def test_another_search_under_the_same_name_is_refused(written, capsys):
    swept(written())
    assert (
        main(["sweep", written("search:\n  optimizer.momentum: {type: FloatDistribution, low: 0.1, high: 0.9}")]) == 2
    )
    assert "recipe and set, search differ" in capsys.readouterr().err


def test_runs_of_other_values_are_not_taken_for_a_trials_own(written, here, capsys):
    """As where the store was removed, or another one is named, and the folders are still there."""
    swept(written("storage: 'sqlite:///first.db'"))
    higher = "search:\n  optimizer.lr: {type: FloatDistribution, low: 1e-5, high: 1e-4}"
    assert main(["sweep", written(higher, "storage: 'sqlite:///second.db'")]) == 5
    assert re.search(r"trial-0000 holds a run of other values: optimizer.lr \S+, not \S+", capsys.readouterr().err)
    assert main(["sweep", written("storage: 'sqlite:///third.db'")]) == 0, "the same values are the same run"


def test_a_trial_on_other_images_is_refused(written, here, capsys):
    folder_of = "data: {dataset: {type: ImageFolder, root: pictures}, val: {fraction: 0.5}, batch_size: 4}"
    (here / "tiny.yaml").write_text(re.sub("data: .*", folder_of, (here / "tiny.yaml").read_text()))
    for number in range(8):
        put(here / "pictures" / "ab"[number % 2] / f"{number}.png", picture("red", number, 32, 32))
    swept(written("trials: 1"))
    put(here / "pictures/a/0.png", picture("red", 99, 32, 32))
    assert main(["sweep", written("trials: 2")]) == 3
    assert "images of trial 1 are not those of trial 0" in capsys.readouterr().err
    by_size = "search:\n  data.batch_size: {type: CategoricalDistribution, choices: [2, 4]}"
    swept(written("sweep: other", by_size, "sampler: {type: GridSampler}", "trials: 1"))
    put(here / "pictures/a/0.png", picture("red", 98, 32, 32))
    assert main(["sweep", written("sweep: other", by_size, "sampler: {type: GridSampler}", "trials: 2")]) == 3
    assert "images of trial 1 are not those of trial 0" in capsys.readouterr().err


def test_of_several_goals_the_first_tells_what_makes_a_trial_a_good_one(written):
    """What decides among the good ones, not what makes the bad ones bad."""
    search = "search:\n" + "".join(
        f"  optimizer.{name}: {{type: FloatDistribution, low: 0.01, high: 0.99}}\n" for name in ("lr", "momentum")
    )
    goals = "objective:\n  - {metric: val/accuracy, at: final}\n  - {metric: val/loss, at: final}"
    study = worker(written(search.rstrip(), goals))._study
    draw, uniform = random.Random(0), optuna.distributions.FloatDistribution(0.01, 0.99)
    for _ in range(200):
        lr, momentum = (draw.uniform(0.01, 0.99) for _ in range(2))
        good = lr > 0.5
        value = 0.5 + lr / 2 if good else momentum / 2
        study._study.add_trial(
            optuna.trial.create_trial(
                params={"optimizer.lr": lr, "optimizer.momentum": momentum},
                distributions={"optimizer.lr": uniform, "optimizer.momentum": uniform},
                values=[value, 0.0],
            )
        )
    assert next(iter(study.importances())) == "optimizer.lr"


def test_seeds_give_mean_and_each_a_run(written, here):
    trials = swept(written("seeds: [1, 2]", "trials: 2"))
    for trial in trials:
        runs = [here / "runs" / "mine" / f"trial-{trial.number:04d}-s{seed}" for seed in (1, 2)]
        values = [json.loads((run / "summary.json").read_text())["final"]["val/loss"] for run in runs]
        assert trial.values == (math.fsum(values) / 2,)
        assert dict(trial.by_seed) == {"1": [values[0]], "2": [values[1]]}


def test_halving_pauses_trials_and_continues_the_better_ones_exactly(written, here):
    """Those that were paused and went on end as runs that were never paused."""
    said = []
    trials = swept(written(HALVING, "trials: 6"), said)
    assert {trial.state for trial in trials} == {"complete", "pruned"}
    went_on = {int(found[1]) for line in said if (found := re.match(r"trial (\d+): goes on after epoch", line))}
    assert went_on
    for trial in trials:
        run = here / "runs" / "mine" / f"trial-{trial.number:04d}"
        status = json.loads((run / "summary.json").read_text())["status"]
        epochs = len((run / "metrics.jsonl").read_text().splitlines())
        assert (status, epochs == 4) == (("completed", True) if trial.state == "complete" else ("pruned", False))
        if trial.number in went_on and trial.state == "complete":
            name = f"plain{trial.number}"
            assert main([str(run / "resolved.yaml"), f"name={name}"]) == 0
            assert state_of(run) == state_of(next((here / "runs" / name).iterdir()))


def test_other_pruners_end_a_trial(written, here):
    trials = swept(written("pruner: {type: ThresholdPruner, upper: 1.0e-3}", "trials: 2"))
    assert [trial.state for trial in trials] == ["pruned", "pruned"]
    assert all(
        len((here / "runs/mine" / f"trial-000{n}" / "metrics.jsonl").read_text().splitlines()) == 1 for n in (0, 1)
    )


def test_a_paused_trial_is_pruned_to_the_sampler_and_running_to_everybody_else(written):
    made = worker(written(HALVING))
    study = made._study
    trial = study.ask()
    study.report(trial, 1, 0.5)
    study.pause(trial, 1)
    assert study.again(trial.number).state == "paused"
    assert [each.state.name for each in study._study.get_trials()] == ["PRUNED"]
    assert [each.state.name for each in study._storage.inner.get_all_trials(study._id)] == ["RUNNING"]


def test_a_promoted_trial_is_among_the_better_ones_of_all_that_have_come(written):
    study = worker(written(HALVING, "trials: 9"))._study
    trials = []
    for value in (3.0, 2.0, 4.0):  # the first goes on: it has nobody beside it
        trial = study.ask()
        study.report(trial, 1, value)
        sent_away = study.should_stop(trial)
        if sent_away:
            study.pause(trial, 1)
        trials.append((trial, sent_away))
    assert [away for _, away in trials] == [False, False, True]
    assert not study.promoted(trials[2][0]), "of three one half is one"
    for value in (5.0, 6.0, 7.0):
        trial = study.ask()
        study.report(trial, 1, value)
        assert study.should_stop(trial)
        study.pause(trial, 1)
    assert study.promoted(study.again(2)), "of six it is the third"
    assert not study.promoted(study.again(3))


class _Stops(Display):
    """Asks for an interruption at the end of an epoch."""

    def __init__(self, at):
        self._at = at

    def epoch(self, epoch, row):
        if epoch == self._at:
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_trial_is_taken_up_by_the_same_command_to_the_same_end(written, here):
    path = written("trials: 2")
    loaded = load_sweep(path, built=False)
    stopped = Worker(loaded.usable(), loaded.recipe, Path("runs"), lambda: _Stops(2), lambda _: None, ())
    with pytest.raises(Interrupted):
        stopped.work()
    assert [trial.state for trial in stopped.trials()] == ["running"]
    said = []
    trials = swept(path, said)
    assert [trial.state for trial in trials] == ["complete", "complete"]
    assert said[0] == "trial 0: taken up where it was left"
    shutil.move("runs", "interrupted")
    assert [trial.values for trial in swept(path)] == [trial.values for trial in trials]
    assert state_of(here / "interrupted/mine/trial-0000") == state_of(here / "runs/mine/trial-0000")


def test_a_trial_that_a_killed_worker_has_only_begun_to_draw_is_completed(written):
    path = written("trials: 1")
    worker(path)._study._study.ask()  # killed before it said where and what
    trials = swept(path)
    assert [(trial.state, trial.number) for trial in trials] == [("complete", 0)]


def test_a_trial_that_somebody_works_on_is_left_to_him(written):
    made = worker(written("trials: 2"))
    trial = made._study.ask()
    with made._folder.working(f"trial-{trial.number:04d}") as mine:
        assert mine
        with ExitStack() as held:
            other = made._next(held)
        assert other.number == 1


def test_a_trial_that_fails_is_told_and_the_others_go_on(written, here):
    (here / "tiny.yaml").write_text((here / "tiny.yaml").read_text().replace("lr: 0.02", "lr: 0.02, momentum: 0.9"))
    search = "search:\n  optimizer.lr: {type: CategoricalDistribution, choices: [1.0e+38, 0.02]}"
    trials = swept(written(search, "sampler: GridSampler", "trials: 5"))
    assert sorted(trial.state for trial in trials) == ["complete", "failed"], "the grid has two points"
    failed = next(trial for trial in trials if trial.state == "failed")
    assert "not finite" in failed.error
    page = (here / "runs/mine/report.html").read_text()
    assert "1 of 2 trials failed" in page


def test_where_every_trial_fails_the_sweep_stops(written, capsys):
    search = "search:\n  optimizer.lr: {type: FloatDistribution, low: 1.0e+37, high: 1.0e+38}"
    assert main(["sweep", written(search, "trials: 30")]) == 4
    assert "no trial was completed, 5 trials failed, the last one so: " in capsys.readouterr().err


def test_a_sweep_of_a_few_trials_that_all_fail_has_not_succeeded(written, capsys):
    search = "search:\n  optimizer.lr: {type: FloatDistribution, low: 1.0e+37, high: 1.0e+38}"
    assert main(["sweep", written(search, "trials: 1")]) == 4
    assert "no trial was completed, 1 trial failed" in capsys.readouterr().err


def test_the_best_few_are_run_again_by_fresh_seeds(written, here):
    said = []
    swept(written("confirm: {best: 2, seeds: 2}", "seeds: [1]", "trials: 3"), said)
    again = sorted(path.name for path in (here / "runs/mine").glob("confirm-*"))
    assert len(again) == 4
    assert {name.rpartition("-")[2] for name in again} == {"s2", "s3"}
    assert re.search(r"winner|No difference that 2 seeds can show", said[-1])


def test_a_trial_is_not_held_against_itself(written, here):
    search = "search:\n  optimizer.lr: {type: CategoricalDistribution, choices: [1.0e-9, 0.05]}"
    trials = swept(written(search, "confirm: {best: 3, seeds: 2}", "trials: 6"))
    assert len({trial.texts for trial in trials}) == 2 < len(trials)
    first = {trial.texts: trial.number for trial in reversed(trials)}
    again = {path.name.rpartition("-s")[0] for path in (here / "runs/mine").glob("confirm-*")}
    assert again == {f"confirm-{number:04d}" for number in first.values()}


def test_a_sampler_of_every_point_ends_with_the_last_one(written):
    search = "search:\n  optimizer.lr: {type: CategoricalDistribution, choices: [0.01, 0.05]}"
    assert len(swept(written(search, "sampler: BruteForceSampler", "trials: 6"))) == 2


def test_a_sweep_goes_on_where_its_output_goes_away(written, here):
    command = [sys.executable, "-m", "trainer", "sweep", written("trials: 4")]
    keep = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=keep)
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.stderr.close()
    assert (process.wait(), errors) == (0, "")
    assert len(list((here / "runs/mine").glob("trial-*"))) == 4


def test_without_a_winner_the_test_split_is_not_touched(written, here):
    """Trials whose recipes differ and whose numbers do not have no winner."""
    search = "search:\n  train.log_every: {type: CategoricalDistribution, choices: [1, 2]}"
    swept(written(search, "sampler: GridSampler", "confirm: {best: 2, seeds: 2}", "trials: 2"))
    assert "No winner is named, and the test split is untouched" in (here / "runs/mine/report.html").read_text()
    assert not any("test" in json.loads(path.read_text()) for path in (here / "runs/mine").glob("*/summary.json"))


def test_where_no_run_by_a_fresh_seed_comes_to_its_end_nothing_wins(written, here, monkeypatch):
    whole = trial_module.run

    def diverges(bench, kind, *rest):
        if kind == "confirm":
            raise DivergedError("the loss is not finite")
        return whole(bench, kind, *rest)

    monkeypatch.setattr("trainer.search.ending.run", diverges)
    swept(written("confirm: {best: 2, seeds: 2}", "trials: 2"))
    page = (here / "runs/mine/report.html").read_text()
    assert "It was run again by fresh seeds, but no such run came to an end: it wins nothing." in page
    assert not any("test" in json.loads(path.read_text()) for path in (here / "runs/mine").glob("*/summary.json"))


def test_the_winners_report_is_written_where_it_is_asked_for(written, here):
    swept(written("report: best", "trials: 2"))
    assert len(list((here / "runs/mine").glob("trial-*/report.html"))) == 1


def test_minutes_end_the_beginning_of_trials(written):
    path = written("minutes: 1000", without=("trials",))
    made = worker(path)
    made._study.keep("began", time.time() - 60_000.1)
    made.work()
    assert made.trials() == []


def test_the_page_links_every_trial_and_holds_the_recipe(written, here):
    swept(written("selects_on_test: true", "objective: {metric: test/loss, at: final}"))
    page = (here / "runs/mine/report.html").read_text()
    assert re.findall(r'<a href="(trial-\d+/)">', page) == ["trial-0000/", "trial-0001/", "trial-0002/"]
    assert "extends: ../../tiny.yaml" in page
    assert "its number is the best of 3 looks" in page
    for title in ("History", "What matters", "Parallel coordinates", "Trials", "Time"):
        assert f">{title}</h2>" in page
    assert yaml.safe_load((here / "runs/mine/best.yaml").read_text())["extends"] == "../../tiny.yaml"


@pytest.mark.parametrize(
    "storage",
    ["sqlite:///trials.db", pytest.param("journal:trials.log", marks=pytest.mark.slow)],  # starts three processes
)
def test_two_workers_share_the_trials_and_double_none(written, here, storage):
    path = written(f"storage: {storage}", "trials: 8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-m", "trainer", "sweep", path, "--workers", "2"]
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    trials = worker(path).trials()
    assert [(trial.number, trial.state) for trial in trials] == [(number, "complete") for number in range(8)]
    told = re.findall(r"^\[(\d+)\] trial (\d+)/8 ", done.stdout, re.MULTILINE)
    assert sorted(int(number) for _, number in told) == list(range(8))
    assert (here / "runs/mine/report.html").exists()


def test_cores_and_gpus_are_divided_among_workers(written, monkeypatch):
    from trainer.cli import sweeping

    recipe = load_sweep(written(), built=False).recipe
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    shares = [sweeping.share(number, 2, recipe) for number in range(2)]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in shares] == ["4,7", "5"]
    assert [each["OMP_NUM_THREADS"] for each in shares] == ["3", "3"]


def test_a_password_is_not_shown():
    from trainer.search.study import without_password

    assert without_password("postgresql://me:secret@host/db") == "postgresql://me@host/db"
    assert without_password("sqlite:///a.db") == "sqlite:///a.db"
