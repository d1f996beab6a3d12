"""`verify RUN --replay N` and `grade FOLDER --against RECIPE`: what shows that a run was trained as it says."""

import csv
import json
import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_run import picture, put

from trainer.cli.main import main
from trainer.engine import checkpoint
from trainer.engine.chain import KEYS, Chain, Link, first_link, next_link, weights_digest
from trainer.engine.interrupts import Interrupted
from trainer.engine.weights import read_weights, to_safetensors
from trainer.experiment.trained import Trained
from trainer.recipe.load import load_recipe
from trainer.run.display import Display
from trainer.run.environment import made_on
from trainer.run.folder import RunFolder
from trainer.run.grading import Grade, Grader, with_twins
from trainer.run.proving import broken, prove
from trainer.run.replaying import Replay

RECIPE = """
version: 1
name: tiny
seed: 1
data:
  dataset: {type: Shapes, train_size: 96, val_size: 16, test_size: 16}
  batch_size: 32
  augment: [{type: HorizontalFlip, p: 0.5}]
model: {type: SmallCNN, width: 8, dropout: 0.1}
optimizer: {type: SGD, lr: $lr_finder.lr, momentum: 0.9}
scheduler: {type: CosineAnnealingLR, step: {each: step}}
lr_finder: {start: 1e-3, end: 10, steps: 60}
train: {epochs: 4, precision: fp32, mix: {type: MixUp}, checkpoint: {keep: 9}}
report: []
expect: {final val/loss: "<= 100"}
"""
AVERAGED = RECIPE.replace("epochs: 4", "epochs: 4, ema: {decay: 0.9}")
# Begun with the plain run's weights: frozen layers are folded, or what they make of the images is kept.
FOLDED = RECIPE.replace("mix: {type: MixUp}", "freeze: ['layer1', 'layer2'], start_from: PLAIN")
KEPT = FOLDED.replace("[{type: HorizontalFlip, p: 0.5}]", "[]")
# Ended by a callback on the way, and continued without it.
STOPPED = RECIPE.replace("report: []", "callbacks: [{type: EarlyStopping, patience: 0, min_delta: 100.0}]\nreport: []")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Trained runs by kind; the folder is entered."""
    folder = tmp_path_factory.mktemp("proof")
    runs = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        kinds = {"plain": RECIPE, "averaged": AVERAGED, "folded": FOLDED, "kept": KEPT, "stopped": STOPPED}
        for kind, text in kinds.items():
            name = "tiny" if kind == "plain" else kind
            text = text.replace("name: tiny", f"name: {name}").replace("PLAIN", str(runs.get("plain")))
            Path(f"{kind}.yaml").write_text(text, encoding="utf-8")
            assert main(["train", f"{kind}.yaml"]) == 0
            runs[kind] = next(Path(f"runs/{name}").glob("2*"))
        assert main(["resume", str(runs["stopped"]), "callbacks=[]"]) == 0
        yield folder, runs


@pytest.fixture
def run(made, tmp_path):
    """A copy of the plain run, to spoil."""
    return Path(shutil.copytree(made[1]["plain"], tmp_path / "tiny" / "20260131-120000"))


def outcomes(path: Path) -> dict[str, str]:
    return {check.name: check.outcome for check in prove(RunFolder.open(path))}


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def write_rows(path: Path, changed: list[dict]) -> None:
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in changed), encoding="utf-8")


def relink(path: Path, changed: list[dict]) -> dict[int, Link]:
    """Do what a forger does: write rows with links that follow from them."""
    before, links = first_link(checkpoint.read(path / "checkpoints/last.pt")["chain"]["origin"]), {}
    for row in changed:
        row["link"] = before = next_link(before, row["weights"], row)
        links[row["epoch"]] = Link(row["weights"], before)
    write_rows(path, changed)
    return links


# ------------------------------------------------------------------------------------------------------------ the chain
@pytest.mark.parametrize("kind", ["plain", "averaged"])
def test_the_files_of_a_run_agree(made, kind):
    assert outcomes(made[1][kind]) == dict.fromkeys(("chain", "recipe", "weights", "summary", "answers"), "holds")


def test_every_epoch_has_the_digest_of_other_weights_and_a_link_of_its_own(made):
    found = rows(made[1]["plain"])
    for key in KEYS:
        assert len({row[key] for row in found}) == 4


def change_a_number(path):
    found = rows(path)
    found[1]["val/accuracy"] = 0.99
    write_rows(path, found)


def leave_out_the_last_epoch(path):
    write_rows(path, rows(path)[:-1])


def leave_out_the_first_epoch(path):
    write_rows(path, rows(path)[1:])


def make_up_an_epoch(path):
    found = rows(path)
    more = {key: value for key, value in found[-1].items() if key not in KEYS}
    write_rows(path, [*found, {**more, "epoch": 5, "val/accuracy": 0.999}])


def link_a_changed_number_anew(path):
    found = rows(path)
    found[1]["val/accuracy"] = 0.99
    relink(path, found)


@pytest.mark.parametrize(
    "spoil",
    [
        change_a_number,
        leave_out_the_last_epoch,
        leave_out_the_first_epoch,
        make_up_an_epoch,
        link_a_changed_number_anew,
    ],
)
def test_a_row_that_was_changed_breaks_the_chain(run, spoil):
    spoil(run)
    assert outcomes(run)["chain"] == "broken"


def test_a_recipe_that_was_changed_afterwards_is_noticed_and_one_whose_place_has_changed_is_not(run):
    text = (run / "resolved.yaml").read_text(encoding="utf-8")
    (run / "resolved.yaml").write_text(text.replace("workers: auto", "workers: 1"), encoding="utf-8")
    assert outcomes(run)["recipe"] == "holds"
    (run / "resolved.yaml").write_text(text.replace("momentum: 0.9", "momentum: 0.8"), encoding="utf-8")
    assert outcomes(run)["recipe"] == "broken"


@pytest.mark.parametrize("name", ["last.pt", "best.pt", "epoch-2.pt"])
def test_weights_put_in_from_elsewhere_are_noticed_though_the_file_is_whole(run, name):
    file = run / "checkpoints" / name
    state = checkpoint.read(file)
    next(iter(state["model"].values())).add_(1e-6)
    checkpoint.write(file, state)
    (check,) = broken(prove(RunFolder.open(run)))
    assert check.name == "weights"
    assert name in check.text


def test_averaged_weights_put_in_from_elsewhere_are_noticed(made, tmp_path):
    run = Path(shutil.copytree(made[1]["averaged"], tmp_path / "averaged"))
    state = checkpoint.read(run / "checkpoints/best.pt")
    next(iter(state["model"].values())).add_(1e-6)
    checkpoint.write(run / "checkpoints/best.pt", state)
    assert outcomes(run)["weights"] == "broken"


def test_a_summary_that_claims_more_than_the_epochs_is_noticed(run):
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    summary["best"]["val/accuracy"] = 0.99
    (run / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    (check,) = broken(prove(RunFolder.open(run)))
    assert "best: val/accuracy" in check.text


def edit_json(path: Path, change) -> None:
    stored = json.loads(path.read_text(encoding="utf-8"))
    change(stored)
    path.write_text(json.dumps(stored), encoding="utf-8")


def edit_summary(path: Path, change) -> None:
    edit_json(path / "summary.json", change)


def test_a_summary_is_looked_at_in_a_run_that_says_it_was_interrupted_too(run):
    edit_summary(run, lambda summary: (summary.update(status="interrupted"), summary["best"].update({"val/loss": 0.1})))
    assert outcomes(run)["summary"] == "broken"


@pytest.mark.parametrize("value", [0.999, 1e300, "0.9"])
def test_a_test_accuracy_that_the_kept_answers_do_not_have_is_noticed(run, value):
    edit_summary(run, lambda summary: summary["test"]["best"].update(accuracy=value))
    assert outcomes(run)["answers"] == "broken"


def test_a_test_loss_that_was_changed_is_found_by_measuring_the_weights_again(run):
    assert Replay(RunFolder.open(run), (), Display()).measure().verdict == "equal"
    edit_summary(run, lambda summary: summary["test"]["best"].update(loss=0.001))
    measured = Replay(RunFolder.open(run), (), Display()).measure()
    assert (measured.verdict, measured.text.startswith("loss 0.001 in summary.json")) == ("other", True)


def test_a_run_whose_last_checkpoint_was_cleaned_away_can_still_show_its_chain(run):
    for name in ("last.pt", "epoch-1.pt", "epoch-2.pt", "epoch-3.pt"):
        (run / "checkpoints" / name).unlink()
    assert set(outcomes(run).values()) == {"holds"}
    change_a_number(run)
    assert outcomes(run)["chain"] == "broken"
    (run / "checkpoints/best.pt").unlink()
    assert outcomes(run) == {"checkpoint": "unknown", "summary": "broken", "answers": "holds"}


def test_numbers_are_held_against_the_other_files_where_checkpoints_are_gone(run):
    shutil.rmtree(run / "checkpoints")
    assert outcomes(run) == {"checkpoint": "unknown", "summary": "holds", "answers": "holds"}
    edit_summary(run, lambda summary: summary["best"].update({"val/accuracy": 0.99}))
    assert outcomes(run)["summary"] == "broken"


@pytest.mark.parametrize("damage", ["bytes", "others"])
def test_the_file_that_is_given_away_holds_the_best_weights(run, damage):
    path = run / "checkpoints/best.safetensors"
    if damage == "bytes":
        content = bytearray(path.read_bytes())
        content[-100] ^= 255
        path.write_bytes(bytes(content))
    else:
        state = checkpoint.read(run / "checkpoints/best.pt")
        others = {name: tensor + 1 for name, tensor in state["model"].items()}
        path.write_bytes(to_safetensors(others, state["class_names"], state.get("about")))
    (found,) = broken(prove(RunFolder.open(run)))
    assert found.name == "weights"
    assert "best.safetensors" in found.text


def test_a_run_without_a_chain_is_said_to_have_none(run):
    file = run / "checkpoints/last.pt"
    state = checkpoint.read(file)
    del state["chain"]
    checkpoint.write(file, state)
    write_rows(run, [{key: value for key, value in row.items() if key not in KEYS} for row in rows(run)])
    assert outcomes(run) == {"chain": "unknown"}


def test_a_run_that_was_stopped_and_resumed_has_the_weights_of_one_that_was_not(made, tmp_path, monkeypatch):
    folder, runs = made
    monkeypatch.chdir(tmp_path)
    shutil.copy(folder / "plain.yaml", "plain.yaml")
    assert main(["train", "plain.yaml", "train.max_minutes=1e-9"]) == 0
    (part,) = Path("runs/tiny").iterdir()
    assert main(["resume", str(part), "train.max_minutes=null"]) == 0
    assert [row["link"] for row in rows(part)] == [row["link"] for row in rows(folder / runs["plain"])]
    assert set(outcomes(part).values()) == {"holds"}


# ----------------------------------------------------------------------------------------------------------- the replay
def say_instead(path: Path, before: str, after: str) -> None:
    """Change the recipe of a run."""
    text = (path / "resolved.yaml").read_text(encoding="utf-8")
    assert text.count(before) == 1
    (path / "resolved.yaml").write_text(text.replace(before, after), encoding="utf-8")


def repeated(path: Path, epoch: int, *overrides: str):
    return Replay(RunFolder.open(path), overrides, Display()).repeat(epoch)


def test_without_best_weights_an_averaged_run_answers_with_the_average(made, tmp_path):
    run = Path(shutil.copytree(made[1]["averaged"], tmp_path / "averaged" / "20260131-120000"))
    for path in (run / "checkpoints").glob("best.*"):
        path.unlink()
    trained = Trained.read(run)
    assert (trained.which, trained.epoch) == ("final", 4)
    found = weights_digest({"model": dict(trained.weights), "buffers": dict(trained.buffers)})
    chain = Chain(checkpoint.read(run / "checkpoints" / "last.pt")["chain"])
    assert found == chain.links[4].weights, "those that were measured"
    begun_from = read_weights(run)
    assert all(torch.equal(begun_from.tensors[name], tensor) for name, tensor in trained.weights.items())


def test_lr_find_of_a_run_sweeps_as_the_run_did(made, capsys):
    assert main(["lr-find", str(made[1]["plain"])]) == 0
    said = capsys.readouterr().out
    assert "sweeping 0.001 to 10 in 60 steps" in said
    rate = json.loads((made[1]["plain"] / "lr_finder.json").read_text(encoding="utf-8"))["lr"]
    assert f"{rate:.6g} (" in said
    assert main(["lr-find", str(made[1]["plain"]), "lr_finder.steps=50"]) == 0
    assert "sweeping 0.001 to 10 in 50 steps" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["plain", "averaged", "folded", "kept", "stopped"])
def test_every_epoch_of_a_run_can_be_repeated_to_the_last_bit(made, kind):
    replay = Replay(RunFolder.open(made[1][kind]), (), Display())
    assert replay.epochs == [1, 2, 3, 4]
    assert [replay.repeat(epoch).verdict for epoch in replay.epochs] == ["equal"] * 4


def test_a_replay_leaves_the_run_as_it_is(run):
    before = {path: path.stat().st_mtime_ns for path in sorted(run.rglob("*"))}
    repeated(run, 2)
    assert {path: path.stat().st_mtime_ns for path in sorted(run.rglob("*"))} == before


def test_a_run_whose_every_file_was_made_to_agree_is_found_out_by_a_replay(run):
    found = rows(run)
    found[2]["val/accuracy"] = 0.99
    links = relink(run, found)
    for name in ("last.pt", "epoch-3.pt"):
        file = run / "checkpoints" / name
        state = checkpoint.read(file)
        chain = Chain(state["chain"])
        chain.links = {epoch: link for epoch, link in links.items() if epoch in chain.links}
        checkpoint.write(file, {**state, "chain": chain.state()})
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    summary["best"] = found[2]
    (run / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    assert outcomes(run)["chain"] == "holds"
    assert repeated(run, 3).verdict == "other"


def test_on_another_kind_of_machine_the_loss_must_lie_in_a_band(run):
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    (run / "environment.json").write_text(json.dumps({**environment, "cpu": "another"}), encoding="utf-8")
    assert repeated(run, 2).verdict == "equal", "another machine may give the same bits"
    say_instead(run, "precision: fp32", "precision: bf16")
    close = repeated(run, 2)
    assert close.verdict == "close"
    assert "cpu another ->" in close.text
    found = rows(run)
    found[1]["train/loss"] *= 1.1
    write_rows(run, found)
    assert repeated(run, 2).verdict == "other"


def test_on_the_same_kind_of_machine_no_bit_may_differ(run):
    say_instead(run, "p: 0.5", "p: 0.6")
    assert repeated(run, 2).verdict == "other"


def test_a_replay_takes_no_override_that_would_make_it_another_run(run, capsys):
    assert main(["verify", str(run), "--replay", "1", "data.batch_size=8"]) == 2
    assert "data.batch_size cannot be set for a replay" in capsys.readouterr().err
    assert repeated(run, 2, "data.workers=1").verdict == "equal"


def test_epochs_are_drawn_among_those_whose_beginning_was_kept(run):
    for name in ("epoch-1.pt", "epoch-2.pt"):
        (run / "checkpoints" / name).unlink()
    replay = Replay(RunFolder.open(run), (), Display())
    assert replay.draw(9) == [1, 4]
    assert replay.draw(1, seed=3) == replay.draw(1, seed=3)


def test_verify_says_what_it_finds_and_its_exit_code_tells(run, capsys):
    assert main(["verify", str(run), "--replay", "2", "--draw", "1"]) == 0
    said = capsys.readouterr().out
    assert said.count("equal, weights and numbers equal to the last bit") == 2
    change_a_number(run)
    assert main(["verify", str(run)]) == 8
    assert "the link of epoch 2 does not follow" in capsys.readouterr().out


# -------------------------------------------------------------------------------------------------------------- grading
@pytest.fixture
def hand_ins(made, tmp_path):
    """A folder of hand-ins: sound, changed, of another recipe, copied, with code of its own, and without a run."""
    folder, runs = made
    root = tmp_path / "hand-ins"
    for who in ("anna", "ben", "carl", "=dora", "emil"):
        shutil.copytree(folder / runs["plain"], root / who / "20260131-120000")
    (root / "fay").mkdir()
    change_a_number(root / "ben/20260131-120000")
    resolved = root / "carl/20260131-120000/resolved.yaml"
    resolved.write_text(resolved.read_text(encoding="utf-8").replace("momentum: 0.9", "momentum: 0.8"), "utf-8")
    plugin = tmp_path / "theirs.py"
    plugin.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n", encoding="utf-8")
    resolved = root / "emil/20260131-120000/resolved.yaml"
    resolved.write_text(resolved.read_text(encoding="utf-8") + f"plugins: [{plugin}]\n", encoding="utf-8")
    for who, before, after in (
        ("gus", f"extends: {tmp_path}/more.yaml\n", ""),
        ("hal", f"plugins: [{plugin}]\n", "plugins: []\n"),
    ):
        shutil.copytree(folder / runs["plain"], root / who / "20260131-120000")
        resolved = root / who / "20260131-120000/resolved.yaml"
        resolved.write_text(before + resolved.read_text(encoding="utf-8") + after, encoding="utf-8")
    (tmp_path / "more.yaml").write_text(f"version: 1\nplugins: [{plugin}]\n", encoding="utf-8")
    return folder / "plain.yaml", root


def graded(root: Path) -> dict[str, dict[str, str]]:
    with (root / "grades.csv").open(encoding="utf-8", newline="") as file:
        return {row["who"]: row for row in csv.DictReader(file)}


def test_hand_ins_are_held_against_the_recipe_a_line_each(hand_ins, capsys):
    given, root = hand_ins
    assert main(["grade", str(root), "--against", str(given)]) == 8
    found = graded(root)
    assert list(found) == ["'=dora", "anna", "ben", "carl", "emil", "fay", "gus", "hal"], (
        "no name is a spreadsheet's formula"
    )
    assert found["anna"]["recipe"] == "as given", "the rate that the finder found is what was asked for"
    assert found["anna"]["seed"] == "1"
    assert (found["anna"]["data"], found["anna"]["files"], found["anna"]["expected"]) == ("as given", "agree", "1 of 1")
    assert "the link of epoch 2 does not follow" in found["ben"]["remarks"]
    assert "optimizer.momentum is 0.8, given was 0.9" in found["carl"]["remarks"]
    assert "brings plug-ins" in found["emil"]["remarks"]
    assert not (root.parent / "ran").exists(), "no code of a hand-in is run"
    assert "brings plug-ins" in found["gus"]["remarks"], "also by another file, and where another key hides it"
    assert "brings plug-ins" in found["hal"]["remarks"]
    assert found["fay"]["remarks"].startswith("no run in it")
    assert "a copy of =dora (20260131-120000)" in found["anna"]["remarks"]
    page = (root / "grades.html").read_text(encoding="utf-8")
    assert "optimizer.momentum" in page
    assert "anna" in capsys.readouterr().out


def test_a_sound_hand_in_has_nothing_to_remark_and_its_epochs_are_repeated(hand_ins):
    given, root = hand_ins
    alone(root)
    assert main(["grade", str(root), "--against", str(given), "--replay", "2"]) == 0
    assert graded(root)["anna"]["replay"] == "4 equal", "the finder's rate, two epochs and the best weights"
    assert graded(root)["anna"]["verdict"] == "sound"


def alone(root: Path) -> Path:
    """Leave one sound hand-in; return its run."""
    for each in root.iterdir():
        if each.name != "anna":
            shutil.rmtree(each)
    return root / "anna/20260131-120000"


def made_up_rate(run: Path) -> None:
    edit_json(run / "lr_finder.json", lambda found: found.update(lr=0.05))
    resolved = run / "resolved.yaml"
    rate = re.compile(r"lr: \S+ ( *# \$lr_finder)")
    resolved.write_text(rate.sub(r"lr: 0.05 \1", resolved.read_text("utf-8")), "utf-8")


def another_best(run: Path) -> None:
    order = sorted(rows(run), key=lambda row: -row["val/accuracy"])
    edit_summary(run, lambda summary: summary.update(best={k: v for k, v in order[-1].items() if k not in KEYS}))


def said_to_have_stopped(run: Path) -> None:
    write_rows(run, rows(run)[:2])
    edit_summary(run, lambda summary: summary.update(stopped="enough", final=summary["best"]))


def no_answers(run: Path) -> None:
    (run / "predictions.npz").unlink()
    edit_summary(run, lambda summary: summary["test"]["best"].update(accuracy=0.999))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (made_up_rate, "optimizer.lr is 0.05, given was $lr_finder.lr"),
        (another_best, "by metrics.jsonl it is epoch"),
        (said_to_have_stopped, "only 2 of 4 epochs"),
        (no_answers, "answers: no answers were kept (predictions.npz)"),
    ],
)
def test_what_was_made_up_in_a_single_file_is_remarked(hand_ins, spoil, said):
    given, root = hand_ins
    spoil(alone(root))
    assert main(["grade", str(root), "--against", str(given)]) == 8
    assert said in graded(root)["anna"]["remarks"]


def rise(summary: dict) -> float:
    """Return the test accuracy and a point more."""
    return summary["test"]["best"]["accuracy"] + 0.01


def test_another_machine_is_no_excuse_for_another_accuracy(hand_ins):
    given, root = hand_ins
    run = alone(root)
    (run / "predictions.npz").unlink()
    edit_json(run / "environment.json", lambda there: there.update(cpu="another"))
    edit_summary(run, lambda summary: summary["test"]["best"].update(accuracy=rise(summary)))
    assert main(["grade", str(root), "--against", str(given), "--replay", "1"]) == 8
    assert "best weights again: accuracy" in graded(root)["anna"]["remarks"]


def test_a_time_that_was_changed_in_a_copy_hides_neither_that_nor_the_copy(hand_ins):
    given, root = hand_ins
    run = alone(root)
    shutil.copytree(run, root / "ben/20260131-120000")
    changed = rows(root / "ben/20260131-120000")
    changed[2]["seconds"] += 0.004
    write_rows(root / "ben/20260131-120000", changed)
    assert main(["grade", str(root), "--against", str(given)]) == 8
    found = graded(root)
    assert "another time for epoch 3" in found["ben"]["remarks"]
    assert "a copy of anna" in found["ben"]["remarks"]


def test_epochs_without_times_are_no_equal_times():
    grades = [Grade(who, Path(who), _end=("weights", (0.0, 0.0))) for who in ("anna", "ben")]
    assert [(grade.twins != (), grade.copies) for grade in with_twins(grades)] == [(True, ())] * 2


def test_a_signal_ends_grading_and_what_was_found_is_kept(hand_ins, monkeypatch, capsys):
    given, root = hand_ins
    run = alone(root)
    (root / "amy").mkdir()

    def signalled(self, epoch):
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(Replay, "repeat", signalled)
    assert main(["grade", str(root), "--against", str(given), "--replay", "1"]) == 128 + signal.SIGTERM
    assert "interrupted after 1 hand-in; what" in capsys.readouterr().out
    assert not (root / "grades.csv").exists()
    assert "amy" in (root / "grades.part.csv").read_text(encoding="utf-8")
    assert run.exists()


def test_every_folder_has_a_line_whatever_it_is_called(hand_ins):
    given, root = hand_ins
    alone(root)
    for name in ("grades.carl", ".dave", os.fsdecode(b"caf\xe9")):
        (root / name).mkdir()
    shutil.copytree(root / "anna", root / os.fsdecode(b"kl\xe4re"))
    (root / ".DS_Store").touch()
    for _ in range(2):  # what was written is no hand-in
        assert main(["grade", str(root), "--against", str(given)]) == 8
        assert len(graded(root)) == 5
    assert "a copy of" in (root / "grades.html").read_text(encoding="utf-8")


def test_the_place_of_a_table_is_no_difference(tmp_path):
    for who in ("teacher", "anna"):
        lines = ["image,label"]
        for name in ("blue", "red"):
            put(tmp_path / who / f"{name}.png", picture(name, 1))
            lines.append(f"{name}.png,{name}")
        (tmp_path / who / "labels.csv").write_text("\n".join(lines))
        text = RECIPE.replace(
            "{type: Shapes, train_size: 96, val_size: 16, test_size: 16}", "{type: Table, file: FILE}"
        )
        text = text.replace("FILE", str(tmp_path / who / "labels.csv")).replace(
            "batch_size: 32", "batch_size: 1\n  val: {fraction: 0.5}"
        )
        (tmp_path / who / "recipe.yaml").write_text(text)
    grader = Grader(tmp_path / "teacher/recipe.yaml", (), replays=0, seed=None, display=Display())
    theirs = load_recipe(tmp_path / "anna/recipe.yaml").usable()
    assert list(grader._differences(RunFolder(tmp_path / "anna"), theirs)) == []
    assert any(str(tmp_path / "teacher/labels.csv") in override for override in grader._overrides)


def test_more_epochs_than_were_asked_for_are_remarked(hand_ins, tmp_path):
    given, root = hand_ins
    run = alone(root)
    asked = given.read_text(encoding="utf-8").replace("epochs: 4", "epochs: 3")
    assert asked != given.read_text(encoding="utf-8")
    (given.parent / "shorter.yaml").write_text(asked, encoding="utf-8")
    resolved = run / "resolved.yaml"
    resolved.write_text(resolved.read_text(encoding="utf-8").replace("epochs: 4", "epochs: 3"), "utf-8")
    assert main(["grade", str(root), "--against", str(given.parent / "shorter.yaml")]) == 8
    assert "4 epochs where 3 are asked for" in graded(root)["anna"]["remarks"]


def test_a_resume_that_trains_nothing_makes_no_other_machine_of_what_was_trained(run, capsys):
    edit_json(run / "environment.json", lambda there: there.update(cpu="another", device="cuda:7 (a GPU)"))
    assert main(["resume", str(run), "description=hello"]) == 0
    there = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    assert [(each["cpu"], each["until_epoch"]) for each in there["earlier"]] == [("another", 4)]
    assert made_on(there, 4)["cpu"] == "another"
    assert json.loads((run / "summary.json").read_text(encoding="utf-8"))["device"] == "cuda:7 (a GPU)"
    assert main(["resume", str(run), "description=again"]) == 0
    assert len(json.loads((run / "environment.json").read_text(encoding="utf-8"))["earlier"]) == 1


def test_what_was_not_judged_stays_so_over_a_resume(made, tmp_path):
    """resolved.yaml, which a resume reads, does not tell any more what the command line had set."""
    assert main(["train", "plain.yaml", "name=shorter", "train.epochs=1"]) == 0
    (path,) = Path("runs/shorter").glob("2*")
    said = json.loads((path / "summary.json").read_text(encoding="utf-8"))["expect"]["not_judged"]
    assert "train.epochs set on the command line" in said
    assert main(["resume", str(path), "description=hello"]) == 0
    assert json.loads((path / "summary.json").read_text(encoding="utf-8"))["expect"]["not_judged"] == said


def test_fewer_replays_than_were_asked_for_are_remarked(hand_ins):
    given, root = hand_ins
    for path in (alone(root) / "checkpoints").glob("epoch-*.pt"):
        path.unlink()
    assert main(["grade", str(root), "--against", str(given), "--replay", "3"]) == 8
    assert "only 1 of 3 epochs could be repeated" in graded(root)["anna"]["remarks"]


def test_a_rate_that_the_finder_does_not_find_again_is_found_out(run):
    recipe = load_recipe(Path("plain.yaml")).usable()
    assert Replay(RunFolder.open(run), [], Display()).find(recipe).verdict == "equal"
    edit_json(run / "lr_finder.json", lambda found: found.update(lr=found["lr"] * 1.5))
    found = Replay(RunFolder.open(run), [], Display()).find(recipe)
    assert (found.verdict, "on a machine of the same kind" in found.text) == ("other", True)
    edit_json(run / "environment.json", lambda there: there.update(cpu="another"))
    assert Replay(RunFolder.open(run), [], Display()).find(recipe).verdict == "close"


def test_an_unfinished_training_is_remarked(hand_ins):
    given, root = hand_ins
    run = alone(root)
    edit_summary(run, lambda summary: summary.update(status="interrupted"))
    assert main(["grade", str(root), "--against", str(given)]) == 8
    assert graded(root)["anna"]["remarks"] == "not completed (interrupted), after 4 of 4 epochs"


@pytest.mark.parametrize(
    ("change", "odd"),
    [
        (lambda summary: summary["test"]["best"].update(accuracy="0.9"), "test"),
        (lambda summary: summary.update(seconds=["x"]), "seconds"),
    ],
)
def test_a_number_that_is_none_costs_nobody_else_the_grade(hand_ins, change, odd):
    given, root = hand_ins
    edit_summary(root / "ben/20260131-120000", change)
    assert main(["grade", str(root), "--against", str(given)]) == 8
    assert f"summary.json: {odd} is no number" in graded(root)["ben"]["remarks"]
    assert len(graded(root)) == 8


def test_a_hand_in_whose_last_checkpoint_was_cleaned_away_is_graded_like_any_other(hand_ins):
    given, root = hand_ins
    for path in (alone(root) / "checkpoints").glob("[le]*.pt"):
        path.unlink()
    assert main(["grade", str(root), "--against", str(given)]) == 0
    assert (graded(root)["anna"]["data"], graded(root)["anna"]["files"]) == ("as given", "agree")


def test_a_hand_in_that_left_its_chain_out_is_remarked(hand_ins):
    given, root = hand_ins
    run = alone(root)
    write_rows(run, [{key: value for key, value in row.items() if key not in KEYS} for row in rows(run)])
    for name in ("last.pt", "epoch-1.pt", "epoch-2.pt", "epoch-3.pt"):
        state = checkpoint.read(run / "checkpoints" / name)
        del state["chain"]
        checkpoint.write(run / "checkpoints" / name, state)
    assert main(["grade", str(root), "--against", str(given)]) == 8
    assert graded(root)["anna"]["remarks"].startswith("chain: there is none")


def test_data_that_cannot_be_compared_are_remarked(hand_ins):
    given, root = hand_ins
    alone(root)
    folder = given.with_name("folder.yaml")
    text = given.read_text(encoding="utf-8")
    start, end = text.index("{type: Shapes"), text.index("}", text.index("{type: Shapes")) + 1
    folder.write_text(f"{text[:start]}{{type: ImageFolder, root: nowhere}}{text[end:]}", encoding="utf-8")
    assert main(["grade", str(root), "--against", str(folder)]) == 8
    assert "its data were not compared" in graded(root)["anna"]["remarks"]


def test_a_report_left_out_is_no_other_recipe(hand_ins):
    given, root = hand_ins
    alone(root)
    less = given.with_name("less.yaml")
    less.write_text(given.read_text(encoding="utf-8").replace("report: []\n", ""), encoding="utf-8")
    assert main(["grade", str(root), "--against", str(less)]) == 0


def test_names_of_hand_ins_forge_no_line_and_a_second_run_is_told_from_the_first(hand_ins, capsys):
    given, root = hand_ins
    run = alone(root)
    shutil.copytree(run, root / "anna/20260201-120000")
    shutil.copytree(root / "anna", root / "x\nbob: nothing to remark")
    main(["grade", str(root), "--against", str(given)])
    assert not any(line.startswith("bob") for line in capsys.readouterr().out.splitlines())
    page = (root / "grades.html").read_text(encoding="utf-8")
    assert "anna, 20260131-120000" in page
    assert "anna, 20260201-120000" in page


def test_a_run_itself_is_no_folder_of_hand_ins(run, made, capsys):
    assert main(["grade", str(run), "--against", str(made[0] / "plain.yaml")]) == 6
    assert "is itself a run" in capsys.readouterr().err
    assert not (run / "grades.csv").exists()


def test_data_other_than_the_recipe_names_are_told(hand_ins):
    given, root = hand_ins
    other = given.with_name("other.yaml")
    other.write_text(given.read_text(encoding="utf-8").replace("train_size: 96", "train_size: 64"), encoding="utf-8")
    assert main(["grade", str(root), "--against", str(other)]) == 8
    assert graded(root)["anna"]["data"] == "others"
    assert "data.dataset.train_size is 96, given was 64" in graded(root)["anna"]["remarks"]


@pytest.mark.parametrize(
    "spoil", ["summary.json", "metrics.jsonl", "environment.json", "resolved.yaml", "lr_finder.json"]
)
def test_a_hand_in_that_is_damaged_costs_only_its_own_line(hand_ins, spoil):
    given, root = hand_ins
    (root / "ben/20260131-120000" / spoil).write_text('["nonsense"]', encoding="utf-8")
    assert main(["grade", str(root), "--against", str(given)]) == 8
    assert len(graded(root)) == 8


@pytest.mark.parametrize(("folder", "said"), [("nowhere", "is no folder"), ("empty", "nothing was handed in")])
def test_a_folder_without_hand_ins_is_refused(made, tmp_path, capsys, folder, said):
    (tmp_path / "empty").mkdir()
    assert main(["grade", str(tmp_path / folder), "--against", str(made[0] / "plain.yaml")]) == 6
    assert said in capsys.readouterr().err


def test_the_chain_holds_on_to_numbers_that_are_not_finite():
    chain = Chain()
    chain.begin(recipe="a")
    chain.add(1, "w", {"epoch": 1, "val/loss": float("nan")})
    kept = Chain(chain.state())
    assert replace(kept.links[1]) == chain.links[1]
    assert next_link(first_link({"recipe": "a"}), "w", {"epoch": 1, "val/loss": None}) == chain.links[1].link
