"""`card RUN`: what a run knows of its network, for the Hub and for people; and what docs/sharing.md shows."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from registry.datasets.decoding import Decoding, read_image
from registry.errors import CheckpointError
from trainer.cli.main import main
from trainer.data.resized import shrunk
from trainer.recipe.recipe import Resized
from trainer.run.card import Card, write_card
from trainer.run.folder import RunFolder

ROOT = Path(__file__).parents[2]
RECIPE = """version: 1
name: flowers
description: Two kinds of noise.
data:
  dataset: {type: ImageFolder, root: ROOT}
  augment: [{type: HorizontalFlip, p: 0.5}, {type: RandAugment, magnitude: 3}]
  preprocess: [{type: Normalize, mean: $data.mean, std: $data.std}]
model: {type: SmallCNN, width: 4}
optimizer: {type: SGD, lr: 0.05}
train: {epochs: 1, device: cpu, precision: fp32}
report: []
callbacks: []
expect: {"best val/accuracy": ">= 1.0"}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on 24 pictures that held out a test split; the folder that runs/ lies in."""
    folder = tmp_path_factory.mktemp("card")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        draw = np.random.default_rng(0)
        for split, count in (("train", 4), ("val", 2), ("test", 6)):
            for name in ("a|b", "<i>c"):
                Path("photos", split, name).mkdir(parents=True)
                for index in range(count):
                    pixels = draw.integers(0, 255, (24, 32, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(f"photos/{split}/{name}/{index}.png")
        Path("flowers.yaml").write_text(RECIPE.replace("ROOT", str(folder / "photos")))
        main(["train", "flowers.yaml"])
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A copy of the run; the folder entered."""
    shutil.copytree(made / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    (found,) = Path("runs/flowers").glob("2*")
    return RunFolder(found)


def parts(text: str) -> tuple[dict[str, Any], str]:
    """Return a card's metadata and its Markdown, as the Hub reads them."""
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


def edited(run: RunFolder, **changes: Any) -> str:
    run.write_json("summary.json", {**run.read_json("summary.json"), **changes})
    return Card.of(run).text()


def test_the_head_is_what_the_hub_indexes_models_by(run: RunFolder) -> None:
    tested = run.read_json("summary.json")["test"]["best"]["accuracy"]
    head, _ = parts(Card.of(run).text())
    assert head["pipeline_tag"] == "image-classification"
    assert head["library_name"] == "recipe-trainer"
    assert head["tags"] == ["image-classification", "pytorch", "SmallCNN"]
    assert head["metrics"] == ["accuracy"]
    (index,) = head["model-index"]
    assert index["name"] == "flowers"
    assert [each["dataset"]["split"] for each in index["results"]] == ["test", "val"]
    assert index["results"][0] == {
        "task": {"type": "image-classification"},
        "dataset": {"type": "imagefolder", "name": "ImageFolder", "split": "test"},
        "metrics": [{"type": "accuracy", "name": "Accuracy", "value": round(tested, 6)}],
    }


def test_a_data_set_of_the_hub_is_named_as_there(run: RunFolder) -> None:
    resolved = run.resolved.read_text()
    card = Card.of(run)
    recipe = card.trained.recipe
    data = replace(recipe.data, dataset=replace(recipe.data.dataset, type="CIFAR10"))
    known = replace(card, trained=replace(card.trained, recipe=replace(recipe, data=data)))
    assert known.metadata()["datasets"] == ["uoft-cs/cifar10"]
    assert "datasets" not in card.metadata()
    assert run.resolved.read_text() == resolved


def test_the_text_says_how_good_it_is_and_by_what(run: RunFolder) -> None:
    summary = run.read_json("summary.json")
    _, body = parts(Card.of(run).text())
    accuracy = summary["test"]["best"]["accuracy"]
    assert body.lstrip().startswith("# flowers\n\nTwo kinds of noise.\n")
    assert f"| test accuracy | **{100 * accuracy:.2f} %** held out, chose nothing; 95 % interval " in body
    assert ", 12 images |" in body
    assert "| metric | test, 12 images | val, 4 images |" in body
    assert re.search(r"\| a\\\|b \| 6 \| [\d.]+ % \|", body)  # recall by class
    assert "&lt;i&gt;c" in body
    assert "<i>c" not in body.replace("<code>", "")
    assert "SmallCNN** trained on **ImageFolder**, from random weights" in body
    assert "| Augmentation | HorizontalFlip (p 0.5), RandAugment (magnitude 3) |" in body
    assert re.search(r"\| Preprocessing \| Normalize \(mean \\\[0\.\d+, 0\.\d+, 0\.\d+\\\], std ", body)


def test_the_text_says_what_to_beware_of(run: RunFolder) -> None:
    missed = [{"text": "best val/accuracy: >= 1.0", "value": 0.5, "ok": False}]
    text = edited(run, status="interrupted", fast=True, expect={"not_judged": "", "lines": missed}, warnings=["Odd."])
    for said in ("a fast run", "is not complete (interrupted)", "which was not reached", "**Warning.** Odd."):
        assert said in text
    assert "Every picture is answered with one of the classes" in text
    assert "The test split was not measured: the numbers are of val" in edited(run, test={})
    assert "There is no held-out test" in edited(run, test={}, images={"train": 9, "val": 9})
    assert "chosen on the test split" in edited(run, test={}, selected_on="test")


def test_no_folder_of_the_machine_is_told(run: RunFolder, made: Path) -> None:
    text = Card.of(run).text()
    assert "root: '.../photos'" in text
    assert str(made) not in text
    assert str(Path.cwd()) not in text


def test_no_folder_of_weights_is_told(run: RunFolder) -> None:
    text = run.resolved.read_text().replace("width: 4", "width: 4  # pretended")
    pretended = yaml.safe_load(text)
    pretended["x-weights"] = ["local-dir:/home/me/secret/w", "~/secret/w.pth", "imagenet"]
    run.resolved.write_text(yaml.safe_dump(pretended))
    told = Card.of(run).text()
    assert "local-dir:.../w" in told
    assert ".../w.pth" in told
    assert "secret" not in told


def test_the_example_of_a_run_on_shrunk_pictures_says_that_larger_ones_are_to_be_shrunk(run: RunFolder) -> None:
    assert "shrunk" not in Card.of(run).text()
    card = Card.of(run)
    recipe = card.trained.recipe
    stored = replace(recipe, data=replace(recipe.data, store=Resized(side=28)))
    assert "shrunk to a short side of 28" in replace(card, trained=replace(card.trained, recipe=stored)).text()


def test_a_summary_that_lacks_most_makes_a_card(run: RunFolder) -> None:
    run.write_json("summary.json", {})
    (run.path / "environment.json").unlink()
    (run.path / "predictions.npz").unlink()
    (run.path / "metrics.jsonl").unlink()
    head, body = parts(Card.of(run).text())
    assert "model-index" not in head
    assert "No epoch was finished." in body
    for odd in ({"report": 3}, {"report": {"calibration": {"ece": "low"}}}, {"test": [1]}, {"images": {"test": None}}):
        assert edited(run, **odd).startswith("---")


def test_a_run_that_was_broken_off_tells_its_numbers_so_far(run: RunFolder) -> None:
    best = max(row["val/accuracy"] for row in run.read_history())
    run.write_json("summary.json", {"status": "interrupted"})
    text = Card.of(run).text()
    assert f"| val accuracy | **{100 * best:.2f} %** chose the best epoch, " in text
    assert "The test split was not measured" in text
    assert "No epoch was finished" not in text


def test_what_the_audit_found_and_classes_of_few_images_are_cautions(run: RunFolder) -> None:
    audit = {"leaked_test": 6.0, "test_accuracy_without_leaked": 0.25, "leaked_val": 0.0}
    text = edited(run, report={"audit": audit})
    assert "6 of the test pictures are like training pictures: without them its accuracy is **25.00 %**." in text
    assert "Fewer than 30 images of " in text


def test_the_command_writes_it_into_the_run_and_anew(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["card", "latest"]) == 0
    written = capsys.readouterr().out.splitlines()[-1]
    assert written == f"{run.path}/README.md written; choose a licence at its head before it is published"
    assert (run.path / "README.md").read_text() == Card.of(run).text()


def test_a_file_of_ones_own_is_never_overwritten(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    Path("README.md").write_text("mine")
    assert main(["card", "latest", "--out", "README.md"]) == 5
    assert "README.md: is there already\n  name another file, or remove it" in capsys.readouterr().err
    assert Path("README.md").read_text() == "mine"
    assert write_card(run, Path("MODEL.md")).read_text() == Card.of(run).text()


def test_a_run_without_weights_has_no_card(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(run.checkpoints)
    with pytest.raises(CheckpointError, match="this run has no checkpoint yet"):
        write_card(run)
    assert main(["card", "latest"]) == 6
    assert "this run has no checkpoint yet\n  train it, or resume it" in capsys.readouterr().err
    assert not (run.path / "README.md").exists()


# ------------------------------------------------------------------------------------------------------ the examples
def examples(language: str) -> list[str]:
    text = (ROOT / "docs" / "sharing.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.+?)```", text, re.DOTALL)


@pytest.fixture
def picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(3).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("picture.png")
    Image.fromarray(pixels[::-1]).save("other.png")
    return pixels


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """An exported file in small: how likely red, green and blue are by how much of each a picture has."""
    onnx = pytest.importorskip("onnx", reason="of the extra export")
    pytest.importorskip("onnxruntime", reason="of the extra export")
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Cast", ["pictures"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["numbers", "axes"], ["means"], keepdims=0),
        helper.make_node("Softmax", ["means"], ["probabilities"], axis=1),
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])
    pictures = helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["n", "h", "w", 3])
    answers = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph(nodes, "colours", [pictures], [answers], [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    told = {
        "class_names": ["red", "green", "blue"],
        "pictures": {"channels": 3},
        "abstain_below": 0.9,
        "recipe": "colours",
    }
    for name, value in told.items():
        model.metadata_props.add(key=name, value=value if isinstance(value, str) else json.dumps(value))
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_the_example_of_trainer_load_runs_as_it_stands(
    run: RunFolder, picture: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree("runs/flowers", "runs/quickstart")
    exec(compile(examples("python")[0], "sharing.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"(a\|b|<i>c): \d+\.\d %", lines[0])
    assert lines[-1] in ("a|b", "<i>c")
    assert Path("looked.png").stat().st_size > 1000


def test_the_example_of_onnx_runtime_runs_as_it_stands(
    network: Path, picture: np.ndarray, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(network.parent)
    Image.fromarray(np.full((9, 9, 3), (10, 250, 30), np.uint8)).save("picture.png")
    exec(compile(examples("python")[1], "sharing.md", "exec"), {})
    assert capsys.readouterr().out.startswith("green 1.0")


@pytest.mark.parametrize("kind", ["turned", "transparent"])
def test_the_example_of_onnx_runtime_reads_pictures_as_predict_does(
    network: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(network.parent)
    pixels = np.random.default_rng(4).integers(0, 256, (6, 9, 4), dtype=np.uint8)
    if kind == "turned":
        turned = Image.Exif()
        turned[0x0112] = 6
        Image.fromarray(pixels[..., :3]).save("picture.png", format="JPEG", exif=turned)
    else:
        Image.fromarray(pixels).save("picture.png")
    seen: dict[str, Any] = {}
    exec(compile(examples("python")[1], "sharing.md", "exec"), seen)
    expected = read_image("picture.png")
    assert seen["pixels"].shape == expected.shape == ((9, 6, 3) if kind == "turned" else (6, 9, 3))
    assert np.abs(seen["pixels"].astype(int) - expected).max() <= 1


def test_every_language_has_an_example_that_names_the_files_input_and_output() -> None:
    assert len(examples("python")) == 2
    for language in ("javascript", "cpp"):
        (code,) = examples(language)
        assert "pictures" in code
        assert "probabilities" in code
        assert "model.onnx" in code


# ------------------------------------------------------------------------------------------------------------- a Space
@pytest.fixture
def gradio(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Gradio as far as the page needs it to be made; what it was given."""
    given: list[Any] = []

    def interface(*arguments: Any, **options: Any) -> SimpleNamespace:
        given.append((arguments, options))
        return SimpleNamespace(launch=lambda: None)

    stand_in = SimpleNamespace(
        Interface=interface, **{name: lambda **_: None for name in ("Image", "Textbox", "Label")}
    )
    monkeypatch.setitem(sys.modules, "gradio", stand_in)
    return given


def test_the_page_of_a_space_answers_as_the_file_does(
    network: Path, gradio: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "space"]) == 0
    network.rename("space/model.onnx")
    page: dict[str, Any] = {"__file__": "space/app.py", "__name__": "app"}
    exec(compile(Path("space/app.py").read_text(), "app.py", "exec"), page)
    ((arguments, options),) = gradio
    assert arguments[0] is page["answer"]
    assert options["title"] == "colours"
    said, likely = page["answer"](Image.new("RGB", (8, 6), (250, 10, 10)))
    assert said == "red"
    assert likely["red"] == pytest.approx(1)
    said, likely = page["answer"](Image.new("RGBA", (8, 6), (250, 10, 10, 0)))  # transparent: white
    assert said == "not sure"
    assert likely["green"] == pytest.approx(1 / 3)
    assert page["answer"](None) == ("", {})
    turned = Image.new("RGB", (8, 6))
    turned.getexif()[0x0112] = 6
    assert page["pixels"](turned).shape[:3] == (1, 8, 6)


@pytest.mark.parametrize("kind", ["transparent", "grey of 16 bits", "large"])
def test_the_page_of_a_space_reads_pictures_as_the_file_says(
    network: Path, gradio: list[Any], kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import onnx

    monkeypatch.chdir(tmp_path)
    assert main(["new", "space"]) == 0
    model = onnx.load(network)
    (said,) = (one for one in model.metadata_props if one.key == "pictures")
    said.value = json.dumps({"channels": 3, "background": [0, 0, 0], "white_level": 4095, "short_side": 12})
    onnx.save(model, "space/model.onnx")
    page: dict[str, Any] = {"__file__": "space/app.py", "__name__": "app"}
    exec(compile(Path("space/app.py").read_text(), "app.py", "exec"), page)
    draw = np.random.default_rng(4)
    if kind == "transparent":
        Image.fromarray(draw.integers(0, 256, (9, 8, 4), dtype=np.uint8)).save("it.png")
    elif kind == "large":
        Image.fromarray(draw.integers(0, 256, (50, 31, 3), dtype=np.uint8)).save("it.png")
    else:
        Image.fromarray(draw.integers(0, 4096, (9, 8), dtype=np.uint16)).save("it.png")
    expected = shrunk(Decoding(white_level=4095, ground=(0, 0, 0)).read("it.png"), 12)
    found = page["pixels"](Image.open("it.png"))
    assert found.shape == (1, *expected.shape)
    assert np.abs(found[0].astype(int) - expected).max() <= 1


def test_a_space_is_written_whole_and_nothing_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "space", "pages/mine"]) == 0
    assert sorted(path.name for path in Path("pages/mine").iterdir()) == ["README.md", "app.py", "requirements.txt"]
    assert (
        "put the network beside it: python -m trainer export RUN --out pages/mine/model.onnx" in capsys.readouterr().out
    )
    head = yaml.safe_load(Path("pages/mine/README.md").read_text().split("---\n")[1])
    assert (head["sdk"], head["app_file"]) == ("gradio", "app.py")
    assert main(["new", "space", "pages/mine"]) == 2
    assert "pages/mine/app.py exists\n  name another folder" in capsys.readouterr().err
    Path("README.md").write_text("mine")
    assert main(["new", "space", "app.py"]) == 0
    assert "README.md is there already and left as it is" in capsys.readouterr().out
    assert Path("README.md").read_text() == "mine"
