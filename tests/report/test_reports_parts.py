"""Each report part on evidence whose answer is known."""

import json
import math
import re
from dataclasses import replace
from html import unescape

import cv2
import numpy as np
import pytest
import torch
from made_evidence import MadeImages, Recording, SmallNet, finding, history, made_evidence, spots

from registry.contracts import Figure, Gallery, Paragraph, Predictions, Table
from registry.errors import RecipeError
from registry.models.cifar_resnet import cifar_resnet18
from registry.reports.augmentation import AugmentationSheet
from registry.reports.calibration import Calibration
from registry.reports.classes import ConfusionMatrix, PerClass
from registry.reports.curves import Curves, LRFinderCurve, drops_of
from registry.reports.faithfulness import Faithfulness, PixelCurves
from registry.reports.gradcam import GradCAM, _trust_words
from registry.reports.mistakes import Misclassified


def of(section, kind):
    return [block for block in section.blocks if isinstance(block, kind)]


def texts(section):
    return " ".join(block.text for block in of(section, Paragraph))


@pytest.fixture
def evidence(tmp_path):
    return made_evidence(tmp_path)


def test_curves_show_train_and_validation_in_one_figure_with_best_epoch_and_drops(evidence):
    section = Curves().render(evidence)
    figures = {figure.path: figure for figure in of(section, Figure)}
    assert list(figures) == ["figures/loss.png", "figures/accuracy.png", "figures/lr.png"]
    accuracy = figures["figures/accuracy.png"]
    for words in (">train<", ">val<", "best: epoch 5", "lr 0.0015"):
        assert words in accuracy.svg
    assert "train from 44.0 % to 90.6 %" in accuracy.alt
    assert section.facts == {"epochs": 6, "lr_drops": 1}
    assert all((evidence.folder / path).stat().st_size > 1000 for path in figures)


@pytest.mark.parametrize(
    ("lrs", "drops"),
    [
        ([1, 1, 0.5, 0.5, 0.05], [(3, 0.5), (5, 0.05)]),
        ([1, 0.1], []),  # a step, or a cosine of two epochs
        ([1, 0.1, 0.1], [(2, 0.1)]),
        ([0.9, 0.4, 0.03], []),  # a cosine of three
        ([1, 1, 0.6, 0.6], []),
        ([1, 0.9, 0.6, 0.2, 0.01], []),  # a cosine
        ([1, 1, 0], []),
    ],
)
def test_a_drop_is_a_fall_to_half_or_less_from_a_rate_that_stood_still(lrs, drops):
    assert drops_of([{"epoch": e, "lr": lr} for e, lr in enumerate(lrs, start=1)]) == drops


def test_the_first_epochs_steps_tell_whether_its_rate_stood_still():
    rows = [{"epoch": 1, "lr": 1.0}, {"epoch": 2, "lr": 0.1}]
    assert drops_of(rows, [1.0, 1.0, 0.1, 0.1]) == [(2, 0.1)]
    assert drops_of(rows, [1.0, 0.9, 0.5, 0.1]) == []


def rate_chart(evidence, lrs, rates=()):
    """Return the title, the vertical axis's ticks and the values of the learning rate's chart."""
    rows = [{"epoch": float(e), "lr": lr, "val/loss": 1.0} for e, lr in enumerate(lrs, start=1)]
    figures = of(Curves().render(replace(evidence, history=rows, best=None, rates=rates)), Figure)
    (figure,) = [each for each in figures if each.path == "figures/lr.png"]
    ticks = re.findall(r'class="tick"[^>]*text-anchor="end">([^<]+)<', figure.svg.split("</svg>")[0])
    return figure.caption, ticks, json.loads(unescape(re.search(r'data-chart="([^"]*)"', figure.svg)[1]))


def test_a_rate_that_glides_to_nothing_is_drawn_step_by_step_on_a_plain_axis(evidence):
    rates = [0.05 * (1 + math.cos(math.pi * step / 40)) for step in range(1, 41)]
    title, ticks, data = rate_chart(evidence, rates[9::10], rates)
    assert title == "Learning rate by step"
    assert ticks == ["0.00", "0.02", "0.04", "0.06", "0.08", "0.10"]
    assert len(data["rows"]) == 40
    assert data["rows"][-1] == ["epoch: 4", "lr: 0"]


def test_a_rate_that_falls_through_decades_by_steps_has_an_axis_of_decades(evidence):
    title, ticks, _ = rate_chart(evidence, [0.1, 0.1, 0.01, 0.01, 0.001])
    assert title == "Learning rate by epoch"
    assert {"0.1", "0.01", "0.001"} <= set(ticks)


def test_curves_of_a_training_that_left_the_finite_numbers_are_drawn(evidence):
    rows = history(4)
    rows[2]["val/loss"] = rows[3]["val/loss"] = float("nan")
    assert len(of(Curves().render(replace(evidence, history=rows)), Figure)) == 3


def test_the_lr_finder_shows_every_pick_and_the_number_taken(evidence):
    section = LRFinderCurve().render(evidence)
    (figure,) = of(section, Figure)
    for label in ("minimum 0.15", "steepest 0.003", "valley 0.01", "minimum / 10 0.015 (taken)"):
        assert label in figure.svg
    assert "**0.015**" in texts(section)
    (table,) = of(section, Table)
    assert table.rows[3] == ("minimum / 10", "0.015", "taken")
    assert section.facts == {"lr": 0.015}


def test_a_rate_that_the_run_did_not_take_is_not_called_taken(evidence):
    given = {**evidence.resolved, "optimizer": {"type": "SGD", "lr": 0.3}}
    section = LRFinderCurve().render(replace(evidence, resolved=given))
    assert of(section, Table)[0].rows[3] == ("minimum / 10", "0.015", "asked for, not taken")
    assert "(taken)" not in of(section, Figure)[0].svg
    cycle = {**given, "scheduler": {"type": "SequentialLR", "schedulers": [{"type": "OneCycleLR", "max_lr": 0.015}]}}
    assert of(LRFinderCurve().render(replace(evidence, resolved=cycle)), Table)[0].rows[3][2] == "taken"


def test_an_inconclusive_sweep_gives_a_warning_and_no_number(evidence):
    section = LRFinderCurve().render(replace(evidence, finding=finding("inconclusive")))
    assert of(section, Table)[0].rows[3][2] == "asked for, not taken"
    (verdict,) = of(section, Paragraph)
    assert verdict.tone == "warning"
    assert "no descent: widen start and end" in verdict.text
    assert section.facts == {}


def test_an_assumed_learning_rate_is_marked_as_such(evidence):
    (verdict,) = of(LRFinderCurve().render(replace(evidence, finding=finding("assumed"))), Paragraph)
    assert verdict.tone == "warning"
    assert verdict.text.startswith("Assumed, not found")


def test_curves_say_what_smoothing_weights_and_mixing_do_to_the_numbers(evidence):
    assert len(of(Curves().render(evidence), Paragraph)) == 1
    loss = {"type": "CrossEntropyLoss", "label_smoothing": 0.1, "weight": "balanced"}
    train = {**evidence.resolved["train"], "mix": {"type": "MixUp", "alpha": 0.2}}
    changed = replace(evidence, resolved={**evidence.resolved, "loss": loss, "train": train})
    _, own, mixed = (paragraph.text for paragraph in of(Curves().render(changed), Paragraph))
    assert "its targets are smoothed" in own
    assert "by the weights of their classes" in own
    assert "`val/cross_entropy` beside it is plain" in own
    assert "MixUp mixes training images" in mixed
    assert "train/accuracy counts only the first of the two classes" in mixed
    never = replace(changed, resolved={**changed.resolved, "train": {**train, "mix": {"type": "MixUp", "p": 0}}})
    assert not any("mixes" in paragraph.text for paragraph in of(Curves().render(never), Paragraph))


def confused(folder):
    """Return evidence of three classes: b is taken for c 3 times, a for b once, all else right."""
    truth = np.array([0] * 5 + [1] * 5 + [2] * 5)
    said = truth.copy()
    said[[0]], said[[5, 6, 7]] = 1, 2
    logits = np.eye(3, dtype=np.float32)[said] * 5
    predictions = Predictions(np.arange(15) + 100, truth, logits, 0.1, {"accuracy": 11 / 15})
    return made_evidence(folder, classes=3, count=15, class_names=("a", "b", "c"), predictions=predictions)


def test_the_worst_confusions_are_named_with_their_share_of_the_true_class(tmp_path):
    section = ConfusionMatrix(pairs=1).render(confused(tmp_path))
    (table,) = of(section, Table)
    assert table.rows == (("b", "c", "3", "60.0 %"),)
    assert len(of(ConfusionMatrix().render(confused(tmp_path)), Table)[0].rows) == 2
    assert section.facts == {"mistakes": 4}
    assert "b taken for c: 3" in of(section, Figure)[0].svg


def test_scores_per_class_have_a_row_each_and_a_mean(tmp_path):
    section = PerClass().render(confused(tmp_path))
    (table,) = of(section, Table)
    assert table.rows[0] == ("a", "100.0 %", "80.0 %", "88.9 %", "5")
    assert table.rows[1] == ("b", "66.7 %", "40.0 %", "50.0 %", "5")
    assert table.rows[3][0] == "mean over classes"
    assert section.facts["macro_f1"] == pytest.approx((8 / 9 + 1 / 2 + 10 / 13) / 3)
    assert (
        of(section, Paragraph)[0].text == "Means are over the 3 classes that have images here, each counting the same."
    )


def test_calibration_says_how_far_confidence_is_from_accuracy(tmp_path):
    section = Calibration(bins=10).render(confused(tmp_path))
    sure = float(np.exp(5) / (np.exp(5) + 2))
    assert section.facts["ece"] == pytest.approx(sure - 11 / 15)
    assert "overconfident" in texts(section)
    assert "in 10 bins" in texts(section)


def test_calibration_and_accuracy_are_of_the_answers_that_are_numbers(tmp_path):
    evidence = confused(tmp_path)
    logits = evidence.predictions.logits.copy()
    whole = Calibration(bins=10).render(evidence)
    logits = np.concatenate([logits, np.full_like(logits, np.nan)])
    twice = replace(
        evidence.predictions, logits=logits, targets=np.tile(evidence.predictions.targets, 2), indices=np.arange(30)
    )
    section = Calibration(bins=10).render(replace(evidence, predictions=twice))
    assert (
        of(section, Paragraph)[0].text == of(whole, Paragraph)[0].text + " 15 answers that are no numbers are left out."
    )


def test_no_share_reaches_0_or_100_per_cent_by_rounding(tmp_path):
    evidence = made_evidence(tmp_path)
    logits = np.zeros((30_000, 4))
    logits[:, 0] = 20.0
    targets = np.zeros(30_000, dtype=np.int64)
    targets[0] = 1
    nearly = replace(evidence.predictions, logits=logits, targets=targets, indices=np.arange(30_000))
    evidence = replace(evidence, predictions=nearly, resolved={"answers": {"abstain_below": 0.5}})
    section = Calibration().render(evidence)
    assert "at an accuracy of > 99.99 %" in texts(section)
    assert "of which **> 99.99 %** are right" in texts(section)
    costs = of(section, Table)[-1]
    assert all(row[3] == "> 99.99 %" for row in costs.rows)


def test_bars_of_any_number_of_bins_have_a_width(tmp_path):
    svg = of(Calibration(bins=1000).render(confused(tmp_path)), Figure)[0].svg
    assert 'width="-' not in svg


def test_mistakes_are_ranked_by_confidence_and_carry_index_truth_prediction_and_confidence(tmp_path):
    evidence = made_evidence(tmp_path)
    section = Misclassified(count=4).render(evidence)
    galleries = of(section, Gallery)
    assert [len(gallery.figures) for gallery in galleries] in ([4, 4], [4])
    assert section.facts == {"mistakes": 19, "images": 60}
    again = Misclassified(count=4).render(made_evidence(tmp_path / "again"))
    assert [f.caption for f in of(again, Gallery)[0].figures] == [f.caption for f in galleries[0].figures]
    shares = [float(f.caption.split(", ")[1].split(" ")[0]) for f in galleries[0].figures]
    assert shares == sorted(shares, reverse=True)
    first = galleries[0].figures[0]
    index = int(first.caption.rsplit("#", 1)[1])
    picture = cv2.imread(str(evidence.folder / first.path))[:, :, ::-1]
    stored = evidence.images.stored[index - 1000]
    assert np.abs(cv2.resize(picture, (24, 24), interpolation=cv2.INTER_AREA).astype(int) - stored).mean() < 8
    assert "misclassified/confidence" in evidence.recorder.images


def test_a_model_without_mistakes_says_so(tmp_path):
    section = Misclassified().render(made_evidence(tmp_path, right=1.0))
    assert texts(section) == "The model made no mistake on the 60 images of val."
    assert not of(section, Gallery)


def test_the_augmentation_sheet_shows_each_image_before_and_after_its_draws(evidence):
    asked = []

    def augmented(draw):
        asked.append(draw)
        return evidence.augmented(draw)

    section = AugmentationSheet(images=3, draws=5).render(replace(evidence, augmented=augmented))
    assert asked == [0, 1, 2, 3, 4]
    (figure,) = of(section, Figure)
    assert "3 training images" in figure.alt
    more = AugmentationSheet(images=3, draws=8).render(evidence)
    assert of(more, Figure)[0].width > figure.width


# ------------------------------------------------------------------------------------------------------------- GradCAM
def test_gradcam_gives_a_gallery_and_a_strip_per_image_for_predicted_and_true_class(evidence):
    section = GradCAM(layers=["stem", "middle", "last"], count=3).render(evidence)
    (gallery,), strips = of(section, Gallery), of(section, Figure)
    assert len(gallery.figures) == len(strips) == 3
    assert "(predicted)" in strips[0].caption
    assert "(true)" in strips[0].caption
    assert strips[0].alt.startswith("GradCAM maps at stem, middle, last for class ")
    names = sorted(path.name for path in (evidence.folder / "gradcam").rglob("*"))
    assert len(names) == 7
    assert "gallery.png" in names
    assert set(evidence.recorder.images) == {"gradcam/gallery", "gradcam/01", "gradcam/02", "gradcam/03"}
    assert section.facts["explained"] == 3


def test_the_default_layer_of_the_gallery_has_at_least_8_px_and_strips_show_one_layer_per_size(evidence):
    section = GradCAM(count=1).render(evidence)
    assert of(section, Gallery)[0].caption.startswith("Evidence for the predicted class at middle;")
    assert "`stem` 24x24, `middle` 12x12, `last` 6x6" in texts(section)


def test_too_few_mistakes_are_filled_up_with_the_least_confident_right_answers(tmp_path):
    evidence = made_evidence(tmp_path)
    section = GradCAM(count=25).render(evidence)
    assert "The 19 most confident of 19 mistakes on val, filled up with the 6 least confident right answers." in texts(
        section
    )
    assert len(of(section, Figure)) == 25


def test_without_a_mistake_gradcam_says_so_and_explains_right_answers(tmp_path):
    section = GradCAM(count=2).render(made_evidence(tmp_path, right=1.0))
    assert "no mistake" in texts(section)
    assert "(predicted, and true)" in of(section, Figure)[0].caption


@pytest.mark.parametrize("select", ["misclassified", "correct", "confident", "uncertain"])
def test_each_selection_takes_what_it_says(tmp_path, select):
    evidence = made_evidence(tmp_path)
    section = GradCAM(select=select, count=5).render(evidence)
    found = [int(f.caption.rsplit("#", 1)[1]) - 1000 for f in of(section, Gallery)[0].figures]
    shares = torch.softmax(torch.tensor(evidence.predictions.logits).double(), 1).numpy()
    sure, wrong = shares.max(1), shares.argmax(1) != evidence.predictions.targets
    order = {
        "misclassified": [i for i in np.argsort(-sure, kind="stable") if wrong[i]],
        "correct": [i for i in np.argsort(-sure, kind="stable") if not wrong[i]],
        "confident": list(np.argsort(-sure, kind="stable")),
        "uncertain": list(np.argsort(sure, kind="stable")),
    }
    assert found == order[select][:5]


def test_a_class_by_its_name_is_explained_beside_prediction_and_truth(evidence):
    section = GradCAM(count=1, target="class 2").render(evidence)
    assert of(section, Gallery)[0].caption.startswith("Evidence for class 2 at")
    assert "evidence for **class 2**" in of(section, Figure)[0].caption


def test_a_class_that_does_not_exist_is_refused_with_those_that_do(evidence):
    with pytest.raises(
        RecipeError, match="no class is named 'dog'\n  target: predicted, true, or one of class 0, class 1"
    ):
        GradCAM(target="dog").render(evidence)


def test_a_layer_that_does_not_exist_is_refused(evidence):
    with pytest.raises(RecipeError, match="no layer is named 'layer4'"):
        GradCAM(layers=["layer4"]).render(evidence)


def overlay_bytes(folder, **arguments):
    evidence = made_evidence(folder)
    GradCAM(count=1, **arguments).render(evidence)
    return next((evidence.folder / "gradcam").rglob("*-overlay.png")).read_bytes()


@pytest.mark.parametrize(
    "arguments",
    [{"method": "EigenCAM"}, {"method": "LayerCAM"}, {"alpha": 0.2}, {"colormap": "inferno"}, {"target": "true"}],
)
def test_every_argument_changes_the_picture(tmp_path, arguments):
    assert overlay_bytes(tmp_path / "a") != overlay_bytes(tmp_path / "b", **arguments)
    assert overlay_bytes(tmp_path / "c") == overlay_bytes(tmp_path / "d")


def test_maps_of_no_class_are_drawn_once_and_claim_none(tmp_path):
    section = GradCAM(count=1, method="EigenCAM").render(made_evidence(tmp_path))
    (gallery,) = of(section, Gallery)
    assert gallery.caption.startswith("What is there above all, for no class, at")
    strip = of(section, Figure)[0]
    assert strip.caption.endswith("the maps are of no class in particular.")
    assert "vidence" not in f"{strip.caption} {strip.alt} {gallery.caption} {gallery.figures[0].alt}"


def test_coarse_layers_are_called_coarse(tmp_path):
    section = GradCAM(layers=["last"], count=1).render(made_evidence(tmp_path, size=16))
    assert "Too coarse to read as a place: `last` (4x4)." in texts(section)


def test_a_panel_of_eight_layers_leaves_room_for_the_gallerys(tmp_path):
    model = cifar_resnet18(4).eval()
    layers = ["conv1", "bn1", "relu", "layer1.0", "layer1.1", "layer1", "layer2.0", "layer2"]
    section = GradCAM(layers=layers, count=1).render(made_evidence(tmp_path, size=32, model=model, count=4))
    assert of(section, Gallery)[0].caption.startswith("Evidence for the predicted class at layer3;")


def test_a_network_without_maps_says_so(evidence):
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(24 * 24 * 3, 4)).eval()
    section = GradCAM().render(replace(evidence, model=flat))
    assert "no layer with a map" in texts(section)


def test_pictures_of_ones_own_have_no_truth_and_claim_none(tmp_path):
    evidence = made_evidence(tmp_path)
    unknown = replace(evidence.predictions, targets=np.full(60, -1))
    section = GradCAM(select="confident", count=2).render(replace(evidence, predictions=unknown))
    strip = of(section, Figure)[0]
    assert "(predicted)" in strip.caption
    assert "true" not in strip.caption
    assert "taken for" not in of(section, Gallery)[0].figures[0].caption
    assert not any("-t-" in path.name for path in (evidence.folder / "gradcam").rglob("*"))


def trained_on_spots():
    """Return a small network that tells bright discs from none, its images, masks and logits."""
    torch.manual_seed(1)
    images, masks = spots(160, 24)
    plain = np.random.default_rng(3).integers(0, 90, images.shape, dtype=np.uint8)
    stored = np.concatenate([images, plain])
    targets = np.array([1] * 160 + [0] * 160)
    source = MadeImages(stored, np.concatenate([masks, np.zeros_like(masks)]))
    model, x, y = SmallNet(2), source.prepared(range(320)), torch.tensor(targets)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(25):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        logits = model.eval()(x).numpy()
    return model, source, Predictions(np.arange(320), targets, logits, 0.0, {"accuracy": 1.0})


def test_heat_of_a_trained_network_lies_on_the_object_and_that_of_a_random_one_does_not(tmp_path):
    model, images, predictions = trained_on_spots()
    evidence = made_evidence(tmp_path, classes=2, model=model, images=images, predictions=predictions)
    trained = GradCAM(count=1).render(evidence).facts
    torch.manual_seed(5)
    random = GradCAM(count=1).render(replace(evidence, model=SmallNet(2).eval())).facts
    assert trained["heat_ratio"] > 3
    assert trained["heat_ratio"] > 2 * random.get("heat_ratio", 0)
    assert trained["pointing_game"] > 0.9


def areas(deletion, insertion):
    """Return curves whose areas these are."""
    return PixelCurves(torch.full((3,), deletion), torch.full((3,), insertion))


@pytest.mark.parametrize(
    ("heat", "says_nothing"), [((0.31, 0.36), True), ((0.1, 0.33), False), ((0.30, 0.6), False), ((0.9, 0.1), True)]
)
def test_maps_that_do_no_better_than_chance_are_said_to_tell_nothing(heat, says_nothing):
    words = _trust_words(Faithfulness(16, areas(*heat), areas(0.31, 0.33), None), "layer3")
    assert ("Neither is better than chance" in words) == says_nothing


def test_parts_leave_the_model_as_they_found_it(tmp_path):
    evidence = made_evidence(tmp_path, recorder=Recording())
    before = {key: value.clone() for key, value in evidence.model.state_dict().items()}
    evidence.model.train()
    state = torch.get_rng_state()
    GradCAM(count=2).render(evidence)
    assert evidence.model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in evidence.model.state_dict().items())
    assert all(parameter.grad is None for parameter in evidence.model.parameters())
