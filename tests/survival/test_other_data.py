"""`evaluate`, `explain` and `predict` with other pictures than the run began with: what was trained decides."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors
import torch
import torchvision
import yaml
from survival_kit import Ended, command, only_run, recipe, working_in

import trainer
from registry.datasets.decoding import read_image
from registry.errors import CheckpointError, DataError
from registry.models.small import SmallCNN
from trainer.cli.main import main
from trainer.data.content import digest_of
from trainer.engine import checkpoint
from trainer.experiment.experiment import Experiment
from trainer.experiment.trained import Trained
from trainer.run.folder import RunFolder

COLOURS = {"blue": (220, 60, 60), "green": (60, 220, 60), "red": (60, 60, 220), "zinc": (120, 120, 120)}  # BGR
SIDE = 12

FLAT = """
version: 1
name: tiny
seed: 3
data:
  dataset: {type: ImageFolder, root: pets}
  val: {fraction: 0.25}
  batch_size: 6
  preprocess: [{type: Normalize, mean: $data.mean, std: $data.std}]
model: {type: SmallCNN, width: 4}
loss: {type: CrossEntropyLoss, weight: balanced}
optimizer: {type: SGD, lr: 0.05, momentum: 0.9}
train: {epochs: 3, precision: fp32}
callbacks: []
report: []
"""


def put(folder, name: str, count: int, start: int = 0, light: float = 1.0, side: int = SIDE) -> None:
    """Write pictures of a class: its colour, with noise of its own on every one."""
    Path(folder, name).mkdir(parents=True, exist_ok=True)
    for index in range(start, start + count):
        noise = np.random.default_rng([index, len(name)]).integers(-50, 50, (side, side, 3))
        pixels = (np.clip(np.array(COLOURS[name]) + noise, 0, 255) * light).astype(np.uint8)
        cv2.imwrite(str(Path(folder, name, f"{index:03}.bmp")), pixels)


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory) -> Path:
    """A run on a flat folder of three classes, 12, 16 and 20 pictures."""
    folder = tmp_path_factory.mktemp("trained")
    with working_in(folder):
        for count, name in zip((12, 16, 20), ("blue", "green", "red"), strict=True):
            put("pets", name, count)
        assert main([recipe(FLAT)]) == 0
    return folder


@pytest.fixture
def run(trained_once, tmp_path, monkeypatch) -> Path:
    """A copy of the run, beside the pictures it was trained on; the working directory."""
    shutil.copytree(trained_once, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return only_run()


def row(ended: Ended, part: str) -> tuple[float, float, int]:
    """Return loss, accuracy and images of a printed row."""
    assert ended.code == 0, ended.said
    found = re.search(rf"^{part} +loss ([\d.]+), .*accuracy ([\d.]+) \((\d+) images\)$", ended.out, re.MULTILINE)
    assert found is not None, ended.said
    return float(found[1]), float(found[2]), int(found[3])


def predicted(run: Path, folder: str, pattern: str = "*.bmp") -> float:
    """Return the share of the pictures below a folder that `predict` names by their class folder."""
    paths = sorted(Path(folder).rglob(pattern))
    answers = trainer.load(run).predict(paths, top=1)
    return float(np.mean([answer[0][0] == path.parent.name for answer, path in zip(answers, paths, strict=True)]))


# ----------------------------------------------------------------------------------------------------------- statistics
def test_darker_pictures_are_normalised_as_the_training_pictures_were(capsys, run):
    for name in ("blue", "green", "red"):
        put("dim", name, 8, 100, light=0.25)
    loss, accuracy, count = row(command(capsys, "evaluate", str(run), "data.dataset.root=dim"), "val")
    assert count == 24
    assert accuracy == pytest.approx(predicted(run, "dim"), abs=1e-4)
    logits = trainer.load(run).logits(sorted(Path("dim").rglob("*.bmp")))
    targets = torch.arange(3).repeat_interleave(8)
    weights = 36 / (3 * torch.tensor([9.0, 12.0, 15.0]))  # of the training part, not of what is measured
    assert loss == pytest.approx(float(torch.nn.functional.cross_entropy(logits, targets, weights)), abs=1e-3)


def test_the_experiment_of_a_finished_run_knows_only_what_the_training_measured(run):
    put("dim", "red", 3, 100, light=0.25)
    stored = checkpoint.read(run / "checkpoints/best.pt")
    trained = Trained.read(RunFolder.open(run).path, ["data.dataset.root=dim"])
    experiment, _ = Experiment.of_trained(trained, log=lambda _: None)
    assert experiment.facts["data.mean"] == stored["facts"]["data.mean"]
    assert list(experiment.class_counts) == stored["class_counts"] == [9, 12, 15]
    with pytest.raises(CheckpointError, match=r"\$run\.total_steps was not kept"):
        _ = experiment.facts["run.total_steps"]


def test_larger_pictures_are_made_to_fit_as_predict_does(capsys, run):
    for name in ("blue", "red"):
        put("large", name, 5, 100, side=2 * SIDE)
    ended = command(capsys, "evaluate", str(run), "data.dataset.root=large")
    assert row(ended, "val")[1:] == (pytest.approx(predicted(run, "large"), abs=1e-4), 10)
    assert "(RGB, 24 x 24) are made to fit those that the network was trained on (RGB, 12 x 12)" in ended.out


# -------------------------------------------------------------------------------------------------------------- classes
def test_fewer_classes_are_matched_by_name(capsys, run):
    for name in ("green", "red"):
        put("fewer", name, 6, 100)
    ended = command(capsys, "evaluate", str(run), "data.dataset.root=fewer")
    assert row(ended, "val")[1:] == (pytest.approx(predicted(run, "fewer"), abs=1e-4), 12)
    assert predicted(run, "fewer") > 0.5
    assert "split 'train' has no image of blue" in ended.out


@pytest.mark.parametrize("names", [["green", "zinc"], ["green", "red", "zinc"], ["blue", "green", "red", "zinc"]])
def test_unknown_classes_are_named_whatever_their_number(capsys, run, names):
    for name in names:
        put("unknown", name, 3, 100)
    ended = command(capsys, "evaluate", str(run), "data.dataset.root=unknown")
    assert ended.code == 3
    assert "has classes that the network was not trained on: zinc; it knows blue, green, red" in ended.err


def test_classes_are_matched_with_the_networks_and_not_with_a_training_split_beside_them(capsys, run):
    for part, names in (("train", ["red"]), ("val", ["blue", "red"])):
        for name in names:
            put(f"new/{part}", name, 3, 100)
    ended = command(capsys, "evaluate", str(run), "data.dataset.root=new")
    assert row(ended, "val")[2] == 6
    assert "split 'val' has no image of green" in ended.out


def test_explain_names_a_class_that_was_added(capsys, run):
    put("pets", "zinc", 3)
    ended = command(capsys, "explain", str(run))
    assert ended.code == 3
    assert "not trained on: zinc" in ended.err


def test_a_folder_with_a_test_split_alone_is_measured(capsys, run):
    put("alone/test", "red", 4, 100)
    assert row(command(capsys, "evaluate", str(run), "data.dataset.root=alone"), "test")[2] == 4


# ------------------------------------------------------------------------------------------ which pictures are measured
def test_the_runs_own_part_gives_the_numbers_of_its_best_epoch(capsys, run):
    best = json.loads((run / "summary.json").read_text())["best"]
    loss, accuracy, count = row(command(capsys, "evaluate", str(run)), "val")
    assert (loss, accuracy) == (
        pytest.approx(best["val/loss"], abs=1e-4),
        pytest.approx(best["val/accuracy"], abs=1e-4),
    )
    assert count == 12


@pytest.fixture
def split_run(tmp_path, monkeypatch, capsys, request) -> Path:
    """A run on a folder of three splits, whose `data.val` is the parameter; the working directory."""
    monkeypatch.chdir(tmp_path)
    for split, start, count in (("train", 0, 16), ("val", 100, 5), ("test", 200, 3)):
        for name in ("blue", "green", "red"):
            put(f"pets/{split}", name, count, start)
    assert command(capsys, recipe(FLAT), f"data.val={request.param}", "data.limit=36").code == 0
    return only_run()


@pytest.mark.parametrize("split_run", ["{fraction: 0.25}"], indirect=True)
def test_the_share_that_a_run_chose_on_is_its_val_and_the_split_of_that_name_another_row(capsys, split_run):
    best = json.loads((split_run / "summary.json").read_text())["best"]
    ended = command(capsys, "evaluate", str(split_run))
    assert row(ended, "val") == (
        pytest.approx(best["val/loss"], abs=1e-4),
        pytest.approx(best["val/accuracy"], abs=1e-4),
        12,
    )
    assert row(ended, "split val")[2] == 15
    assert row(ended, "test")[2] == 9
    assert not re.search("^train ", ended.out, re.MULTILINE)
    put("pets/train", "red", 4, 300)
    ended = command(capsys, "evaluate", str(split_run))
    assert row(ended, "val")[2] == 48 + 4 - 36  # the share cannot be drawn again: all that was not learnt from
    assert "16 of the 52 images of split 'train', which no longer has the share that the run chose on" in ended.out
    assert row(ended, "split val")[2] == 15


@pytest.mark.parametrize("split_run", ["test"], indirect=True)
def test_a_split_that_the_run_never_used_is_a_row_of_its_own(capsys, split_run):
    best = json.loads((split_run / "summary.json").read_text())["best"]
    ended = command(capsys, "evaluate", str(split_run))
    assert row(ended, "val")[1:] == (pytest.approx(best["val/accuracy"], abs=1e-4), 9)
    assert row(ended, "split val")[2] == 15
    assert command(capsys, "explain", str(split_run)).code == 0
    (page,) = split_run.glob("explain/mistakes/*/report.md")
    assert "split val" not in page.read_text()


def test_pictures_that_were_learnt_from_do_not_slip_into_validation(capsys, run):
    put("pets", "red", 10, 100)
    put("pets", "blue", 5, 100)
    ended = command(capsys, "evaluate", str(run))
    assert row(ended, "val")[2] == 12 + 15
    assert "36 of the 63 val images are left out: the network has learnt from them" in ended.out


def test_pictures_that_were_learnt_from_are_found_in_another_folder_under_another_name(capsys, run):
    put("new/val", "green", 4, 100)
    own = checkpoint.read(run / "checkpoints/best.pt")["learnt"]
    learnt = [path for path in sorted(Path("pets/green").iterdir()) if digest_of(read_image(str(path))) in own.tolist()]
    shutil.copy(learnt[0], "new/val/green/unlike.bmp")
    ended = command(capsys, "evaluate", str(run), "data.dataset.root=new")
    assert row(ended, "val")[2] == 4
    assert "1 of the 5 val images are left out: the network has learnt from them" in ended.out


def test_nothing_but_pictures_that_were_learnt_from_is_an_error(run):
    shutil.move("pets", "all")
    stored = checkpoint.read(run / "checkpoints/best.pt")
    for path in sorted(Path("all").rglob("*.bmp")):
        if digest_of(read_image(str(path))) in stored["learnt"].tolist():
            Path("pets", path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, Path("pets", path.parent.name))
    with pytest.raises(DataError, match="the network has learnt from all of them"):
        Experiment.of_trained(Trained.read(RunFolder.open(run).path), log=lambda _: None)


def test_explain_of_a_flat_folder_shows_its_own_validation_part(capsys, run):
    ended = command(capsys, "explain", str(run))
    assert ended.code == 0, ended.said
    assert list(run.glob("explain/mistakes/*/report.html"))


def test_a_training_split_with_classes_of_its_own_is_left_out_where_there_are_others(capsys, run):
    for split, names in (("train", ("red", "zinc")), ("val", ("red",)), ("test", ("blue", "red"))):
        for name in names:
            put(f"more/{split}", name, 4, start=100)
    ended = command(capsys, "evaluate", str(run), "data.dataset.root=more")
    assert row(ended, "val")[2] == 4
    assert row(ended, "test")[2] == 8
    said = "split 'train' is left out: split 'train' has classes that the network was not trained on: zinc"
    assert said in ended.out
    shutil.rmtree("more/val")
    shutil.rmtree("more/test")
    ended = command(capsys, "evaluate", str(run), "data.dataset.root=more")  # nothing else to measure on
    assert (ended.code, "has classes that the network was not trained on: zinc" in ended.err) == (3, True)


# ----------------------------------------------------------------------------------------------------------- overrides
@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["optimizer.lr=3"], "optimizer.lr would change nothing"),
        (["seed=3"], "seed would change nothing"),
        (["train.epochs=99", "train.tta=flip"], "train.epochs would change nothing"),
        (["train.start_from=nowhere"], "train.start_from would change nothing"),
        (["data.val={fraction: 0.5}", "data.limit=5"], "data.val, data.limit would change nothing"),
        (["train={epochs: 9, tta: flip}"], "train.epochs would change nothing"),
        (["report=[Curves]"], "report would change nothing"),
    ],
)
def test_an_override_that_an_evaluation_does_not_read_is_refused_with_those_that_matter(capsys, run, overrides, named):
    ended = command(capsys, "evaluate", str(run), *overrides)
    assert ended.code == 2
    assert named in ended.err
    assert "What matters: data.dataset.**, " in ended.err


def test_an_override_of_a_key_that_is_none_is_answered_with_the_nearest(capsys, run):
    ended = command(capsys, "evaluate", str(run), "train.epohcs=3")
    assert (ended.code, "did you mean 'epochs'" in ended.err) == (2, True)


@pytest.mark.parametrize(
    "override", ["train.tta=flip", "train={tta: flip}", "data.eval_batch_size=3", "loss.label_smoothing=0.1"]
)
def test_an_override_that_an_evaluation_reads_is_taken(capsys, run, override):
    assert command(capsys, "evaluate", str(run), override).code == 0


def test_other_metrics_can_be_measured_without_the_one_that_chose_the_best_epoch(capsys, run):
    ended = command(capsys, "evaluate", str(run), "train.metrics=[{type: TopKAccuracy, k: 2}]")
    assert ended.code == 0, ended.said
    assert re.search(r"^val +loss [\d.]+, .*top_k_accuracy [\d.]+ \(\d+ images\)$", ended.out, re.MULTILINE), ended.out


# ------------------------------------------------------------------------------------------------------ deep pictures
def test_predict_reads_deep_pictures_by_the_white_level_that_the_run_was_trained_with(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, level in (("dark", 400), ("light", 3600)):
        Path("deep", name).mkdir(parents=True)
        for index in range(12):
            noise = np.random.default_rng([index, level]).integers(-300, 300, (SIDE, SIDE))
            cv2.imwrite(f"deep/{name}/{index:02}.png", (level + noise).astype(np.uint16))
    written = FLAT.replace("root: pets}", "root: deep, white_level: 4095}")
    assert command(capsys, recipe(written)).code == 0
    run = trainer.load(only_run())
    image = run.images(["deep/light/00.png"])[0]
    twelve = cv2.imread("deep/light/00.png", cv2.IMREAD_UNCHANGED)
    assert np.array_equal(image[..., 0], np.rint(np.clip(twelve / 4095, 0, 1) * 255).astype(np.uint8))
    ended = command(capsys, "evaluate", str(only_run()))
    assert row(ended, "val")[1] == 1
    assert predicted(only_run(), "deep", "*.png") == 1


# -------------------------------------------------------------------------------------------------- from best.pt alone
def test_a_run_that_began_with_other_weights_needs_them_no_more(capsys, run):
    shutil.copy(run / "checkpoints/best.safetensors", "first.safetensors")
    assert command(capsys, recipe(FLAT, "again.yaml"), "name=again", "train.start_from=first.safetensors").code == 0
    Path("first.safetensors").unlink()
    again = only_run("again")
    assert command(capsys, "evaluate", str(again)).code == 0
    assert command(capsys, "predict", str(again), "pets/red/000.bmp").code == 0
    assert command(capsys, "explain", str(again)).code == 0
    assert command(capsys, "resume", str(again), "train.epochs=4").code == 0


def test_a_run_that_began_with_another_programs_state_dict_says_what_it_took(capsys, run):
    theirs = torch.load(run / "checkpoints/best.pt", weights_only=True)["model"]
    torch.save({"epoch": 9, "state_dict": {f"module.{name}": each for name, each in theirs.items()}}, "theirs.pth")
    ended = command(capsys, recipe(FLAT, "again.yaml"), "name=again", "train.start_from=theirs.pth")
    assert ended.code == 0
    assert (
        f"weights from theirs.pth: all {len(theirs)} tensors, without 'module.' before their names; the head is kept"
        in ended.out
    )


@pytest.fixture
def pretrained(tmp_path, monkeypatch, capsys) -> Path:
    """A run that began with torchvision's weights, moved to where neither they nor its pictures are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    name = torchvision.models.get_model_weights("squeezenet1_1").DEFAULT.url.rpartition("/")[2]
    Path("torch/hub/checkpoints").mkdir(parents=True)
    torch.save(torchvision.models.squeezenet1_1().state_dict(), f"torch/hub/checkpoints/{name}")
    for name in ("blue", "red"):
        put("pets", name, 8, side=40)
    written = FLAT.replace("{type: SmallCNN, width: 4}", "{type: squeezenet1_1, weights: DEFAULT}")
    ended = command(capsys, recipe(written), "train.epochs=1")
    assert ended.code == 0, ended.said
    shutil.move(only_run(), "elsewhere")
    shutil.move("pets", "other")
    shutil.rmtree("torch")
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: pytest.fail("fetched"))
    return Path("elsewhere")


def test_a_run_on_pretrained_weights_is_used_on_a_machine_that_has_none_and_no_network(capsys, pretrained):
    root = "data.dataset.root=other"
    for words in (["evaluate", root], ["predict", "other/red/000.bmp"], ["explain", "other/red/000.bmp"]):
        ended = command(capsys, words[0], str(pretrained), *words[1:])
        assert ended.code == 0, ended.said
    before = json.loads((pretrained / "summary.json").read_text())["best"]
    assert row(command(capsys, "evaluate", str(pretrained), root), "val")[0] == pytest.approx(
        before["val/loss"], abs=1e-4
    )
    assert len(trainer.load(pretrained).class_names) == 2


def test_best_safetensors_alone_tells_another_program_what_its_network_was_learnt_for(run):
    stored = checkpoint.read(run / "checkpoints/best.pt")
    with safetensors.safe_open(run / "checkpoints/best.safetensors", "pt") as file:
        told = file.metadata()
    assert json.loads(told["class_names"]) == ["blue", "green", "red"]
    assert json.loads(told["input"]) == {"channels": 3, "height": SIDE, "width": SIDE}
    assert json.loads(told["model"]) == {"type": "SmallCNN", "width": 4}
    assert json.loads(told["normalisation"]) == {
        "mean": stored["facts"]["data.mean"],
        "std": stored["facts"]["data.std"],
        "max_pixel_value": 255.0,
    }
    assert told["recipe"] == "tiny"
    says = json.dumps(yaml.safe_load((run / "resolved.yaml").read_text()), sort_keys=True)
    assert told["recipe_sha256"] == hashlib.sha256(says.encode()).hexdigest()


def test_another_program_gets_the_same_answers_from_best_safetensors_alone(run):
    with safetensors.safe_open(run / "checkpoints/best.safetensors", "pt") as file:
        told, weights = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    norm = {name: torch.tensor(value) for name, value in json.loads(told["normalisation"]).items()}
    pixels = torch.from_numpy(read_image("pets/red/000.bmp")).float()
    inputs = ((pixels / norm["max_pixel_value"] - norm["mean"]) / norm["std"]).permute(2, 0, 1)[None]
    model = SmallCNN(num_classes=len(json.loads(told["class_names"])), width=json.loads(told["model"])["width"]).eval()
    model.load_state_dict(weights)
    with torch.inference_mode():
        assert torch.allclose(model(inputs), trainer.load(run).logits("pets/red/000.bmp"), atol=1e-5)


def test_a_resolved_recipe_that_says_another_network_is_refused(capsys, run):
    path = run / "resolved.yaml"
    path.write_text(path.read_text().replace("width: 4", "width: 6"))
    for words in (["evaluate", str(run)], ["predict", str(run), "pets/red/000.bmp"], ["explain", str(run)]):
        ended = command(capsys, *words)
        assert ended.code == 6
        assert "resolved.yaml: model is not what the network was trained with" in ended.err
    ended = command(capsys, "evaluate", str(run), "model.width=8")
    assert ended.code == 6


def test_an_override_that_an_evaluation_reads_changes_what_it_measures(capsys, run):
    def told(*words: str) -> str:
        ended = command(capsys, "evaluate", str(run), *words)
        assert ended.code == 0, ended.said
        return next(line for line in ended.out.splitlines() if line.startswith("val "))

    plain = told()
    assert told() == plain, "else a difference would mean nothing"
    assert "tta/accuracy" not in plain
    assert "tta/accuracy" in told("train.tta=flip")
    assert "tta/accuracy" in told("train={tta: flip}")
    assert told("loss.label_smoothing=0.1") != plain
    experiment, _ = Experiment.of_trained(Trained.read(run, ["data.eval_batch_size=5"]), log=lambda _: None)
    assert [len(batch.targets) for batch in experiment.batches("val").epoch(0)] == [5, 5, 2]
