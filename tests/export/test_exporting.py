"""`export RUN`: one file that answers as the run does, proved, with a card; or refused before anything is written."""

from __future__ import annotations

import copy
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_run import picture, put, train_small
from torch import nn

import trainer
from registry.datasets.decoding import WHITE, over_ground
from registry.errors import CheckpointError, DataError, ExportError
from registry.transforms.graph import scaled_levels
from trainer.cli.main import main
from trainer.data.resized import shrunk
from trainer.experiment.trained import Trained
from trainer.export import exporting
from trainer.export.about import About
from trainer.export.exported import ExportedFile, load_exported
from trainer.export.formats import PACKAGES, SUFFIX
from trainer.export.parting import where_they_part
from trainer.export.proof import held_together, name_of
from trainer.export.whole import Whole
from trainer.export.writing import written
from trainer.run.folder import RunFolder

HAS_ONNX = all(importlib.util.find_spec(name) for name in PACKAGES)
needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason="the extra `export` is not installed")
# One format in the default suite: the other takes a second tracing, and a process that imports torch.
other = [pytest.mark.slow] if HAS_ONNX else []
FORMATS = [pytest.param("onnx", marks=needs_onnx), pytest.param("torch", marks=other)]
FILES = {"onnx": "model.onnx", "torch": "model.pt2"}

RECIPE = """\
version: 1
name: shapes
data:
  dataset: {type: Shapes, image_size: 24, train_size: 200, val_size: 60, test_size: 70}
  batch_size: 32
  eval: [{type: SmallestMaxSize, max_size: 30}, {type: CenterCrop, height: 28, width: 26}]
  preprocess: [{type: Normalize, mean: $data.mean, std: $data.std}]
model: {type: SmallCNN, width: 4}
optimizer: {type: SGD, lr: 0.05}
train: {epochs: 2, device: cpu}
report: [Calibration]
callbacks: []
answers: {abstain_below: 0.3}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny run; the working directory is its folder."""
    before, folder = Path.cwd(), tmp_path_factory.mktemp("export")
    os.chdir(folder)
    try:
        Path("shapes.yaml").write_text(RECIPE)
        yield trainer.train("shapes.yaml").folder.path
    finally:
        os.chdir(before)


class Files(dict):
    """Exported files in use by format, made when first asked for; that of torch is calibrated."""

    def __init__(self, run: Path) -> None:
        super().__init__()
        self.folder, self._run = run / "export", run

    def __missing__(self, to):
        more = ["--calibrated"] if to == "torch" else []
        assert main(["export", str(self._run), "--to", to, *more]) == 0
        self[to] = load_exported(self.folder / FILES[to])
        return self[to]


@pytest.fixture(scope="module")
def files(run):
    return Files(run)


def pictures(count: int, height: int = 24, width: int = 24) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


# ------------------------------------------------------------------------------------------------------------- the file
@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("count", [1, 5])
def test_a_file_answers_as_its_run_whatever_the_number_of_pictures(run, files, to, count):
    loaded, file = trainer.load(run, "cpu", calibrated=to == "torch"), files[to]
    assert torch.allclose(file.probabilities(pictures(count)), loaded.probabilities(pictures(count)), atol=1e-5)
    assert file.class_names == loaded.class_names
    assert file.predict(pictures(1))[0][0][0] == loaded.predict(pictures(1))[0][0][0]
    assert file.answers(pictures(9)) == loaded.answers(pictures(9))


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("size", [(24, 40), (20, 24), (17, 19)], ids=str)
def test_pictures_of_another_size_are_answered_as_predict_answers_them(run, files, to, size):
    loaded = trainer.load(run, "cpu", calibrated=to == "torch")
    some = list(pictures(2, *size))
    assert torch.allclose(files[to].probabilities(some), loaded.probabilities(some), atol=1e-5)


@pytest.mark.parametrize("to", FORMATS)
def test_the_card_states_the_proof_and_the_file_says_what_it_is(run, files, to):
    card = files[to].path.with_name(f"{FILES[to]}.md").read_text()
    assert "**70 of 70 answers equal on test, largest difference of a probability " in card
    about = files[to].about
    assert about.json("measured")["images"] == 70
    assert about.abstain_below == 0.3
    assert about.json("calibration")["calibrated"] is (to == "torch")
    told = json.loads((run / "summary.json").read_text())["calibration"]["temperature"]
    assert about.json("calibration")["temperature"] == (told if to == "torch" else 1)
    assert about.texts["resolved"] == (run / "resolved.yaml").read_text()
    assert len(about.texts["recipe_sha256"]) == 64


@pytest.mark.parametrize("to", FORMATS)
def test_the_example_on_the_card_runs_in_a_process_without_this_program(run, files, to, tmp_path):
    turned, shown = Image.Exif(), np.dstack([pictures(1)[0], np.eye(24, dtype=np.uint8) * 255])
    turned[0x0112] = 6
    Image.fromarray(shown).save(tmp_path / "picture.png", exif=turned)
    code = files[to].path.with_name(f"{FILES[to]}.md").read_text().partition("```python\n")[2].partition("```")[0]
    (tmp_path / FILES[to]).write_bytes(files[to].path.read_bytes())
    script = f"{code}\nimport sys; assert not {{'trainer', 'registry'}} & set(sys.modules)"
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    expected = trainer.load(run, "cpu", calibrated=to == "torch").predict(tmp_path / "picture.png")[0][0]
    name, share = ended.stdout.rsplit(maxsplit=1)
    assert (name, float(share)) == (expected[0], pytest.approx(expected[1], abs=1e-5))


@pytest.mark.parametrize("to", FORMATS)
def test_evaluate_measures_a_file_like_its_run(run, files, to, capsys):
    assert main(["evaluate", str(files[to].path)]) == 0
    said = capsys.readouterr().out
    assert main(["evaluate", str(run), "train.precision=fp32", "train.device=cpu"]) == 0
    of_run = capsys.readouterr().out
    accuracies = [
        line.partition("accuracy ")[2][:6] for line in of_run.splitlines() if line.startswith(("val", "test"))
    ]
    for accuracy in accuracies:
        assert f"accuracy {accuracy}" in said
    assert "(60 images)" in said
    assert "(70 images)" in said


# -------------------------------------------------------------------------------------------------------------- refused
def test_a_file_that_answers_otherwise_is_not_called_exported(run, monkeypatch, tmp_path, capsys):
    def answered_in_half(file, part, answers, counted):
        return held_together(part, answers, np.flip(answers, 1), 0.0)

    monkeypatch.setattr(exporting, "prove", answered_in_half)
    monkeypatch.setattr(exporting, "where_they_part", lambda *_: "at network.stem")
    monkeypatch.setattr(exporting, "traced", lambda *_: None)
    monkeypatch.setattr(exporting, "written", lambda *_: b"a file")
    out = tmp_path / "wrong.pt2"
    assert main(["export", str(run), "--to", "torch", "--out", str(out)]) == ExportError.exit_code == 9
    said = capsys.readouterr().err
    assert "the file does not answer as the run does" in said
    assert "of Shapes test" in said
    assert "they part at network.stem" in said
    assert not out.exists()


@pytest.mark.parametrize("to", FORMATS)
def test_the_layer_is_named_at_which_a_file_and_its_network_part(tmp_path, to):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(16, 3)).eval()
    whole = Whole([scaled_levels()], network).eval()
    broken = copy.deepcopy(whole)
    with torch.no_grad():
        broken.network[2].weight.mul_(1.5)
    file = tmp_path / f"broken{SUFFIX[to]}"
    picture = torch.from_numpy(pictures(2, 6, 6))
    # The sizes are fixed here: what follows the convolutions takes one alone.
    program = torch.export.export(broken, (picture,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False)
    file.write_bytes(written(program, to, About.of({})))
    assert where_they_part(file, whole, picture[:1]).startswith("at network.2, by ")
    assert where_they_part(file, broken, picture[:1]) == "behind the last layer"


def test_a_transform_without_a_form_is_refused_before_anything_is_read(run, tmp_path, capsys, monkeypatch):
    resolved = run / "resolved.yaml"
    monkeypatch.setattr(exporting, "_experiment", lambda *_: pytest.fail("the data were read"))
    monkeypatch.setattr("trainer.experiment.trained._LEARNT_UNDER", ())
    text = resolved.read_text()
    try:
        resolved.write_text(text.replace("type: CenterCrop", "type: RandomCrop"))
        assert main(["export", str(run), "--to", "torch"]) == 2
    finally:
        resolved.write_text(text)
    said = capsys.readouterr().err
    assert "SmallestMaxSize: each picture has a size of its own after it" in said
    assert "put CenterCrop right behind SmallestMaxSize" in said


def test_what_an_export_does_not_take_is_said(run, capsys):
    assert main(["export", str(run), "model.width=8"]) == 2
    assert "model.width: an export is of the network as it was trained" in capsys.readouterr().err
    assert main(["export", str(run), "--to", "torch", "--int8"]) == 2
    assert main(["export", str(run), "--to", "torch", "--out", "a.onnx"]) == 2
    assert "a file of --to torch ends in .pt2" in capsys.readouterr().err


def test_that_no_temperature_could_be_fitted_is_said(run, monkeypatch, capsys):
    def refuse(*_):
        raise ExportError("far enough")

    kept = json.loads((run / "summary.json").read_text())
    told = {**kept, "calibration": {**kept["calibration"], "temperature": 1.0, "reason": "every answer is right"}}
    monkeypatch.setattr(RunFolder, "read_summary", lambda _: told)
    monkeypatch.setattr(exporting, "whole_of", refuse)
    line = "no temperature could be fitted: every answer is right; probabilities are the network's own"
    assert main(["export", str(run), "--to", "torch", "--calibrated"]) == 9
    assert line in "".join(capsys.readouterr())
    assert main(["export", str(run), "--to", "torch"]) == 9
    assert line not in "".join(capsys.readouterr())
    Image.fromarray(pictures(1)[0]).save("asked.png")
    assert main(["predict", str(run), "asked.png", "--calibrated"]) == 0
    assert line in capsys.readouterr().err


def test_the_extra_is_named_where_a_package_is_missing(run, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert main(["export", str(run)]) == 2
    assert 'install it: pip install "recipe-trainer[export]"' in capsys.readouterr().err


def test_what_is_no_exported_file_is_refused(tmp_path):
    (tmp_path / "a.pt2").write_bytes(b"no file of torch")
    with pytest.raises(CheckpointError, match="cannot be read as an exported file"):
        load_exported(tmp_path / "a.pt2")
    with pytest.raises(CheckpointError, match="there is no such file"):
        load_exported(tmp_path / "b.pt2")


class Canary:
    def __init__(self, at: Path) -> None:
        self.at = at

    def __reduce__(self):
        return Path.touch, (self.at,)


@pytest.mark.parametrize("to", [pytest.param("torch", marks=other)])
def test_a_pickle_in_a_file_of_torch_is_not_run(files, tmp_path, to, capsys):
    pickled, evil = io.BytesIO(), tmp_path / "evil.pt2"
    torch.save(Canary(tmp_path / "canary"), pickled)
    with zipfile.ZipFile(files[to].path) as sound, zipfile.ZipFile(evil, "w", zipfile.ZIP_STORED) as made:
        for name in sound.namelist():
            content = sound.read(name)
            if name.endswith("model_weights_config.json"):
                config = json.loads(content)
                config["config"][next(iter(config["config"]))]["use_pickle"] = True
                content = json.dumps(config).encode()
            made.writestr(name, pickled.getvalue() if name.endswith("data/weights/weight_0") else content)
    capsys.readouterr()
    assert main(["predict", str(evil), str(evil)]) == 6
    assert f"{evil}: a program of torch, which may run code with your rights" in capsys.readouterr().err
    assert not (tmp_path / "canary").exists()


def test_what_is_no_picture_is_refused_before_the_file_is_asked(files):
    with pytest.raises(DataError, match="no picture's"):
        files["onnx" if HAS_ONNX else "torch"].probabilities([np.zeros((0, 4, 3), np.uint8)])


# ---------------------------------------------------------------------------------------------------------------- int8
@needs_onnx
@pytest.mark.slow  # a quantisation
def test_whole_numbers_are_proved_with_what_they_cost(run, capsys, monkeypatch):
    monkeypatch.setattr(exporting, "MOST_LOST", 0.2)  # of a network that has hardly learnt
    assert main(["export", str(run), "--int8"]) == 0
    card = (run / "export" / "model-int8.onnx.md").read_text()
    assert "of 70 answers equal on test" in card
    assert "points of accuracy are lost by that" in card
    import onnx

    file = load_exported(run / "export" / "model-int8.onnx")
    kinds = {node.op_type for node in onnx.load(str(file.path)).graph.node}
    assert "QuantizeLinear" in kinds
    for level in (20, 120, 240):  # what makes a photo small is not quantised: a plain one stays what it is
        small, large = (np.full((1, *size, 3), level, np.uint8) for size in ((24, 24), (1500, 2000)))
        assert np.allclose(file.answer(large), file.answer(small), atol=1e-6)


def test_pictures_are_shrunk_before_a_file_is_asked_where_its_runs_were():
    pictures = {"channels": 3, "size": None, "white_level": None, "short_side": 30}
    about = About.of({"class_names": ["a", "b"], "pictures": pictures, "abstain_below": None})
    file = ExportedFile(Path("it.onnx"), lambda _: np.zeros((1, 2)), about)
    assert [image.shape for image in file.images([np.zeros((60, 80, 3), np.uint8)])] == [(30, 40, 3)]
    hidden = np.random.default_rng(0).integers(0, 256, (60, 80, 4), dtype=np.uint8)
    hidden[:, ::2, 3] = 0  # colours that nobody sees do not run into their neighbours
    seen = over_ground(hidden[..., :3], hidden[..., 3], WHITE)
    assert np.array_equal(file.images([hidden])[0], shrunk(seen, 30))


def test_an_accuracy_on_other_pictures_is_not_called_the_runs_own(tmp_path):
    folder = train_small(tmp_path)
    for name in ("blue", "red"):
        for index in range(4):
            put(tmp_path / "others" / name / f"{index:02}.png", picture(name, 100 + index))
    open_run = RunFolder.open(folder)
    _, own = exporting._experiment(Trained.read(folder), open_run, lambda _: None)
    assert own.name == "val"
    others = Trained.read(folder, [f"data.dataset.root={tmp_path / 'others'}"])
    _, part = exporting._experiment(others, open_run, lambda _: None)
    assert name_of(part) == "other data"


def test_a_file_that_could_not_be_proved_on_the_test_pictures_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    split = {index: "train" if index < 6 else "val" if index < 9 else "test" for index in range(12)}
    rows = [f"pets/{name}/{index:02}.png,{name},{split[index]}" for name in ("blue", "red") for index in split]
    Path("pets.csv").write_text("\n".join(["image,label,split", *rows]))
    folder = train_small(tmp_path, "data.dataset={type: Table, file: pets.csv, split: split}", "data.val=val")
    for name in ("blue", "red"):
        for index in (9, 10, 11):
            shutil.copy(f"pets/{name}/{index - 9:02}.png", f"pets/{name}/{index:02}.png")
    assert main(["export", str(folder), "--to", "torch"]) == 0
    assert "of which there is none here" in (folder / "export" / "model.pt2.md").read_text()
