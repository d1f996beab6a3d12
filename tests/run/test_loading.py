"""A run in a notebook: what it takes as a picture, what it shows of itself and of where it looked."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import trainer
from registry.datasets.decoding import Decoding
from registry.errors import DataError, RecipeError
from registry.printing import metric_text
from trainer.run import glance
from trainer.run.answering import share
from trainer.run.loading import LoadedRun
from trainer.run.pictures import Reader

FLAT = """\
version: 1
name: sizes
data:
  dataset: {type: ImageFolder, root: pets}
  val: {fraction: 0.25}
  batch_size: 1
  eval_batch_size: 1
  preprocess: [{type: Normalize, mean: 0.5, std: 0.25}]
model: {type: SmallCNN, width: 4}
optimizer: {type: SGD, lr: 0.05}
train: {epochs: 2, device: cpu, precision: fp32}
report: []
callbacks: []
expect: {"best val/accuracy": ">= 0.0"}
"""


def pixels(height: int, width: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def put(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image[..., ::-1])
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedRun]:
    """A run on pictures of many sizes, none of which is made another; the working directory is its folder."""
    before, folder = Path.cwd(), tmp_path_factory.mktemp("notebook")
    os.chdir(folder)
    try:
        for label, name in enumerate(("cat", "dog")):
            for index in range(8):
                put(Path("pets", name, f"{index}.png"), pixels(16 + index, 24 + 2 * label, 10 * label + index))
        Path("sizes.yaml").write_text(FLAT)
        yield trainer.train("sizes.yaml", "train.epochs=2")
    finally:
        os.chdir(before)


# ------------------------------------------------------------------------------------------------------------- pictures
def test_a_path_a_pil_image_and_an_array_are_the_same_picture(run: LoadedRun) -> None:
    image = pixels(20, 30)
    path = put(Path("a.png"), image)
    (expected,) = run.predict(path)
    assert [name for name, _ in expected] == sorted(("cat", "dog"), key=lambda name: -dict(expected)[name])
    for one in ("a.png", Image.open(path), Image.fromarray(image), image):
        assert run.predict(one) == [expected]
        assert np.array_equal(run.images(one)[0], image)


def test_pictures_of_different_sizes_are_answered_at_once_as_each_alone(run: LoadedRun) -> None:
    each = [pixels(20, 30, 1), pixels(33, 17, 2), pixels(33, 17, 3), pixels(20, 30, 4)]
    several = [put(Path("b.png"), each[0]), Image.fromarray(each[1]), *each[2:]]
    alone = torch.cat([run.logits(one) for one in each])
    assert torch.allclose(run.logits(several), alone, atol=1e-6)
    assert torch.allclose(run.logits(one for one in several), alone, atol=1e-6)
    assert [len(run.predict(some)) for some in (several, tuple(several), np.stack(each[1:3]), [])] == [4, 4, 2, 0]


def test_pictures_pass_through_the_network_in_parts_of_bounded_size(
    run: LoadedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = [pixels(20, 30, seed) for seed in range(7)]
    whole = run.logits(each)
    monkeypatch.setattr("trainer.run.loading.PIXELS_AT_ONCE", 3 * 20 * 30)
    assert [len(inputs) for inputs in run._batches(each)] == [3, 3, 1]
    assert torch.allclose(run.logits(each), whole, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_a_pil_image_of_any_kind_becomes_what_its_file_becomes(run: LoadedRun, mode: str) -> None:
    image = Image.fromarray(pixels(20, 30))
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(pixels(20, 30, 5)[..., 0]))
    deep = Image.fromarray(pixels(20, 30)[..., 0].astype(np.uint16) * 257)
    image = deep if mode == "I;16" else image.convert(mode)
    name = "kind.tif" if mode == "CMYK" else "kind.png"
    image.save(name)
    (as_file,), (in_memory,) = run.images(name), run.images(image)
    assert np.abs(as_file.astype(int) - in_memory.astype(int)).max() <= (2 if mode in ("CMYK", "RGBA", "LA") else 0)


def test_a_pil_image_is_turned_as_its_camera_says(run: LoadedRun) -> None:
    image, exif = Image.fromarray(pixels(20, 30)), Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image.save("turned.png", exif=exif)
    assert run.images(Image.open("turned.png"))[0].shape == (30, 20, 3)
    assert np.array_equal(run.images(Image.open("turned.png"))[0], run.images("turned.png")[0])


def test_deep_colours_that_pil_would_cut_are_read_from_their_file_or_refused(tmp_path: Path) -> None:
    reader = Reader(Decoding(4095))
    for name in ("deep.png", "deep.tif"):
        path = str(tmp_path / name)
        cv2.imwrite(path, np.random.default_rng(0).integers(0, 4096, (8, 8, 3), dtype=np.uint16))
        with (
            Image.open(path) as one,
            Image.open(path) as other,
            Image.open(io.BytesIO(Path(path).read_bytes())) as third,
        ):
            assert np.array_equal(reader.read(one, 0), reader.read(path, 0))
            assert Reader(Decoding()).read(other, 0).max() < 16, "where white is 65535, the upper 8 are meant"
            with pytest.raises(DataError, match="of its 16 bits PIL keeps the upper 8, and white is lower here"):
                reader.read(third, 0)


def broken() -> Image.Image:
    """Return an image whose file ends before its pixels do."""
    whole = io.BytesIO()
    Image.fromarray(pixels(64, 64)).save(whole, "PNG")
    return Image.open(io.BytesIO(whole.getvalue()[:2000]))


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (pixels(20, 30) / 255, "picture 1: its values are float64, not uint8\n  .*np.rint.255"),
        (pixels(20, 30).transpose(2, 0, 1), r"picture 1: its shape is \(3, 20, 30\), which is no picture's"),
        (np.zeros((0, 4, 3), np.uint8), r"picture 1: its shape is \(0, 4, 3\)"),
        (torch.zeros(3, 8, 8), "picture 1 is of the type Tensor\n  .*what is prepared already goes to run.model"),
        (7, "picture 1 is of the type int\n  pictures are paths, PIL images, or uint8 arrays"),
        (Image.fromarray(np.zeros((4, 4), np.float32)), "picture 1: its values have 32 bits"),
        ("nowhere.png", r"nowhere\.png cannot be read: No such file"),
        ("pets", "pets is no plain file"),
    ],
)
def test_what_is_no_picture_is_named_by_its_place_with_what_would_be_one(
    run: LoadedRun, picture: object, said: str
) -> None:
    with pytest.raises(DataError, match=f"^{said}"):
        run.predict([pixels(20, 30), picture])  # type: ignore[list-item]
    with pytest.raises(DataError, match=said.replace("picture 1", "picture 0")):
        run.predict(picture)  # type: ignore[arg-type]


def test_an_image_that_cannot_be_read_to_its_end_is_named(run: LoadedRun) -> None:
    with pytest.raises(DataError, match=r"^picture 0 cannot be read: "):
        run.predict(broken())


def test_classes_that_are_equally_likely_stand_in_their_order(run: LoadedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    even = torch.full((1, len(run.class_names)), 1 / len(run.class_names))
    monkeypatch.setattr(type(run), "probabilities", lambda *_: even)
    assert [name for name, _ in run.predict(pixels(20, 30), top=99)[0]] == list(run.class_names)


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), np.int64(1), 1])
def test_a_number_of_numpys_is_a_probability(number: float) -> None:
    assert share(number) == float(number)


@pytest.mark.parametrize("top", [0, -1, 2.5, True, "3", None])
def test_a_number_of_classes_that_cannot_be_named_is_refused(run: LoadedRun, top: object) -> None:
    with pytest.raises(RecipeError, match="top is how many classes are named, got"):
        run.predict(pixels(20, 30), top=top)
    assert len(run.predict(pixels(20, 30), top=np.int64(9))[0]) == 2


# ------------------------------------------------------------------------------------------------- where it looked
def test_one_layer_may_be_named_alone(run: LoadedRun) -> None:
    name = run.explain(pixels(20, 30)).axes[1].get_title(loc="left").split()[0]
    alone, listed = (run.explain(pixels(20, 30), layers=each) for each in (name, [name]))
    assert [axes.get_title(loc="left") for axes in alone.axes] == [axes.get_title(loc="left") for axes in listed.axes]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"pictures": []}, "there is no picture to explain"),
        ({"layers": []}, r"layers are names or patterns of layers, got \[\]"),
        ({"layers": 3}, "layers are names or patterns of layers, got 3"),
        ({"layers": [None]}, r"layers are names or patterns of layers, got \[None\]"),
        ({"method": "ScoreCAM"}, "no method is named 'ScoreCAM'"),
        ({"target": 1}, "no class is named 1"),
    ],
)
def test_what_cannot_be_explained_is_refused(run: LoadedRun, words: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        run.explain(**{"pictures": pixels(20, 30), **words})


def test_explain_returns_a_figure_with_a_row_per_picture_that_is_shown_once(run: LoadedRun) -> None:
    from matplotlib import pyplot
    from matplotlib.figure import Figure

    figure = run.explain([put(Path("a.png"), pixels(20, 30)), pixels(33, 17)])
    assert isinstance(figure, Figure)
    assert pyplot.get_fignums() == []
    axes = figure.axes
    columns = len(axes) // 2
    assert columns > 1
    assert [axes[0].get_title(loc="left"), axes[columns].get_title(loc="left")] == ["a.png", "picture 1"]
    (answer,) = run.predict("a.png", top=1)
    assert axes[0].get_xlabel() == f"{answer[0][0]} {100 * answer[0][1]:.1f} %"
    assert axes[1].get_title(loc="left").split()[0] in dict(run.model.named_modules())
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    assert len(drawn.getvalue()) > 10_000


def test_explain_takes_a_class_and_layers_and_leaves_the_network_as_it_was(run: LoadedRun) -> None:
    before = run.logits(pixels(20, 30))
    figure = run.explain(pixels(20, 30), target="dog", layers=["*"], method="LayerCAM")
    assert figure.axes[0].get_xlabel().startswith("dog ")
    assert not run.model.training
    assert not any(module._forward_hooks for module in run.model.modules())
    assert torch.equal(run.logits(pixels(20, 30)), before)
    with pytest.raises(RecipeError, match="no class is named 'fox'\n  the classes are cat, dog"):
        run.explain(pixels(20, 30), target="fox")
    with pytest.raises(RecipeError, match="'stem9'"):
        run.explain(pixels(20, 30), layers=["stem9"])


# ---------------------------------------------------------------------------------------------- what it shows of itself
def test_training_returns_the_run_with_its_history_and_verdicts(run: LoadedRun) -> None:
    assert isinstance(run, LoadedRun)
    assert [row["epoch"] for row in run.history] == [1, 2]
    assert all(set(row) == set(run.history[0]) for row in run.history)  # as pandas wants them
    assert all(type(value) in (int, float) for row in run.history for value in row.values())
    assert run.summary["status"] == "completed"
    assert ([verdict.ok for verdict in run.verdicts], run.exit_code) == ([True], 0)
    again = trainer.load(run.folder.path)
    assert again.history == run.history
    assert torch.equal(again.logits("pets/cat/0.png"), run.logits("pets/cat/0.png"))


@pytest.mark.usefixtures("run")
def test_a_missed_expectation_is_told_by_the_run_that_training_returns() -> None:
    Path("missed.yaml").write_text(FLAT.replace('"best val/accuracy": ">= 0.0"', '"best val/loss": "<= 1e-9"'))
    missed = trainer.train("missed.yaml")
    assert ([verdict.ok for verdict in missed.verdicts], missed.exit_code) == ([False], 8)


def test_a_run_says_in_one_line_and_in_a_small_card_what_it_reached(run: LoadedRun) -> None:
    best = run.summary["best"]
    reached = f"best val/accuracy {metric_text('val/accuracy', best['val/accuracy'])} in epoch {best['epoch']:g} of 2"
    assert repr(run) == f"run sizes: {reached} ({run.folder.path})"
    card = run._repr_html_()
    assert reached in card
    assert "<b>sizes</b>" in card
    assert card.count("<polyline") == 1
    assert len(card) < 1500
    assert "SmallCNN" in card


def test_the_card_of_a_long_run_stays_small_and_a_name_cannot_leave_it(run: LoadedRun) -> None:
    history = [{"epoch": epoch, "val/accuracy": epoch / 1000} for epoch in range(1, 1001)]
    card = glance.card(run.recipe, Path("runs/<script>x\x1b[2J"), run.summary, history)
    assert len(card) < 2000
    points = card.partition('points="')[2].partition('"')[0].split()
    assert len(points) <= glance._POINTS + 1
    assert (points[0], points[-1]) == ("0,54", "240,2")
    assert "<script>" not in card
    assert "\x1b" not in card


def test_a_run_that_was_cut_short_or_has_not_ended_says_so(run: LoadedRun) -> None:
    assert "--fast: cut short" in glance.line(run.recipe, Path("x"), {**run.summary, "fast": True})
    assert glance.line(run.recipe, Path("x"), {}) == "run sizes: not finished (x)"
    assert glance.line(run.recipe, Path("x"), {"status": "interrupted"}) == "run sizes: interrupted (x)"
    held_out = {**run.summary, "test": {"best": {"accuracy": 0.75}}}
    assert glance.line(run.recipe, Path("x"), held_out).startswith("run sizes: test accuracy 75.00 %; best val/")
