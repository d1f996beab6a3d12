"""Tiers two and three: what only shows when the recipe is built, and when the data are known."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.experiment.checking import check_built, check_data
from trainer.experiment.known import DataKnown, declared, known_from
from trainer.experiment.trial import Trial
from trainer.recipe.checks.draft import Draft
from trainer.recipe.load import load_recipe
from trainer.recipe.problems import Collector, render
from trainer.recipe.recipe import Recipe

RIGHT = """\
version: 1
data:
  dataset: CIFAR10
  val: {fraction: 0.1}
  batch_size: 128
  augment: [{type: HorizontalFlip, p: 0.5}]
  preprocess: [{type: Normalize, mean: $data.mean, std: $data.std}]
model: cifar_resnet18
loss: CrossEntropyLoss
regularizers: [{type: L1, strength: 3e-6}]
optimizer: {type: SGD, lr: 0.1}
scheduler: {type: StepLR, step_size: 3}
train: {epochs: 5}
report: [{type: GradCAM, layers: [layer3]}]
"""
RECIPES = sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml"))


@pytest.fixture(autouse=True)
def _inside_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def said(*changes: str, **known: object) -> list[str]:
    """Return what the second tier, or with facts the third, says of the right recipe after these overrides."""
    Path("recipe.yaml").write_text(RIGHT)
    loaded = load_recipe("recipe.yaml", changes)
    assert loaded.recipe is not None, render(loaded.problems)
    assert loaded.catalogue is not None
    if known:
        names = [f"class {index}" for index in range(int(str(known["num_classes"])))]
        found = check_data(loaded.recipe, loaded.catalogue, DataKnown(**known), names)  # type: ignore[arg-type]
    else:
        found = check_built(loaded.recipe, loaded.catalogue)
    return [str(problem) for problem in found]


def test_a_right_recipe_is_built_without_a_word() -> None:
    assert said() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "optimizer={type: Muon, lr: 0.1}",
            "MuonConv does for a whole network what Muon does for matrices",
        ),
        (
            "train.freeze=[layre1]",
            "command line:1:15: train.freeze: no parameter of cifar_resnet18 fits 'layre1' "
            "(did you mean 'layer1'?) [R070]",
        ),
        ("train.freeze=['**']", "train.freeze: every parameter is frozen, nothing is left to learn [R072]"),
        (
            "optimizer.groups=[{match: ['**.biass']}]",
            "command line:1:28: optimizer.groups.0.match: no parameter of cifar_resnet18 fits '**.biass'",
        ),
        (
            "optimizer.groups=[{match: ['**'], weight_decay: 1}, {match: ['@bias']}]",
            "command line:1:53: optimizer.groups.1: the groups before it have taken all that it matches "
            "(the first that matches wins: put the narrower group first) [R076]",
        ),
        (
            "scheduler={type: OneCycleLR, max_lr: 0.1, pct_start: 0.2, step: {each: epoch}}",
            "command line:1:11: OneCycleLR's rise would last 0 steps: pct_start 0.2 of 5 leaves one",
        ),
        (
            "scheduler={type: LinearLR, start_factor: 1.0, end_factor: 0.0, total_iters: 2}",
            "scheduler LinearLR: the learning rate is practically 0 after epoch 2 of 5",
        ),
        (
            "scheduler={type: ExponentialLR, gamma: 0.5, step: {each: step}}",
            "scheduler ExponentialLR: the learning rate is practically 0 after step 24 of 1,760",
        ),
        (
            "regularizers.0.exclude=['@embedding']",
            "command line:1:25: regularizers.0.exclude: no parameter of cifar_resnet18 fits '@embedding'",
        ),
        (
            "report.0.layers=[layre3]",
            "command line:1:18: report.0.layers: cifar_resnet18 has no layer 'layre3' (did you mean 'layer3'?; maps: ",
        ),
        ("report.0.layers=[fc]", "not a map (N x C x H x W)"),
        (
            "report.0.layers=[layer4]",
            "command line:1:18: warning: the map of layer4 is 4 x 4: too small to say where the network looked",
        ),
        (
            "data.augment.0={type: RandomCrop, height: 64, width: 64}",
            "command line:1:16: a crop of 64x64 is larger than the image of 32x32",
        ),
        ("data.augment.0={type: Normalize}", "move it to data.preprocess"),
        ("train.start_from=nowhere.pt", "train.start_from: there is no 'nowhere.pt' [R074]"),
        ("model.num_classes=7", "recipe.yaml:8:8: model cifar_resnet18 gives 7 numbers per image"),
        (
            "loss={type: CrossEntropyLoss, weight: [1, 2, 3, 4, 5, 6, 7, 8, 9, -1]}",
            "",
        ),
    ],
)
def test_what_cannot_be_built_is_a_problem_at_its_place(change: str, message: str) -> None:
    Path("recipe.yaml").write_text(RIGHT)
    loaded = load_recipe("recipe.yaml", [change])
    if loaded.recipe is None:
        assert message == ""
        return
    problems = said(change)
    assert any(message in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("change", "component", "signature"),
    [
        ("optimizer={type: SGD, nesterov: true}", "optimizer SGD", "SGD(params, lr, "),
        ("optimizer={type: Adam, lr: 0.1, eps: -1}", "optimizer Adam", "Adam(params, lr, "),
        ("scheduler={type: ReduceLROnPlateau, factor: 2}", "scheduler ReduceLROnPlateau", "ReduceLROnPlateau("),
        (
            "scheduler={type: SequentialLR, schedulers: [ConstantLR], milestones: [1, 2]}",
            "scheduler SequentialLR",
            "SequentialLR(",
        ),
    ],
)
def test_what_upstream_refuses_is_told_at_its_place_with_upstreams_reason_and_the_signature(
    change: str, component: str, signature: str
) -> None:
    (problem,) = said(change)
    place, reason = problem.split(" refuses its arguments: ")
    assert place == f"command line:1:11: {component}"
    assert re.fullmatch(rf".+ \(its signature: {re.escape(signature)}.*\) \[R\d+\]", reason)


def test_a_polynomial_decay_is_as_long_as_the_run_where_nobody_says_otherwise() -> None:
    assert said("scheduler=PolynomialLR") == []
    assert len(said("scheduler={type: PolynomialLR, total_iters: 2}")) == 1


def test_a_group_of_frozen_parameters_is_warned_of() -> None:
    lines = said("train.freeze=['@bias']", "optimizer.groups=[{match: ['@bias'], weight_decay: 0}]")
    assert len(lines) == 1
    assert "optimizer.groups.0: all that it matches is frozen by train.freeze" in lines[0]


def test_a_one_cycle_that_the_data_prove_too_short_is_refused_before_training() -> None:
    truth = {"num_classes": 10, "channels": 3, "image_size": (32, 32), "train_images": 1280}
    folder = "data.dataset={type: ImageFolder, root: x}"
    assert said(folder, "scheduler={type: OneCycleLR, max_lr: 0.1, total_steps: 50}", **truth) == []
    lines = said(folder, "scheduler={type: OneCycleLR, max_lr: 0.1, total_steps: 49}", **truth)
    assert [line.rpartition(" ")[2] for line in lines] == ["[R053]"]
    assert "scheduler OneCycleLR ends before the run, which takes 50 steps" in lines[0]


def test_the_floor_of_a_cosine_is_shared_like_any_rate() -> None:
    groups = "optimizer.groups=[{match: [layer1], lr_scale: 0.1}]"
    assert said(groups, "scheduler={type: CosineAnnealingLR, eta_min: 0.01}") == []


def test_a_reference_in_a_group_is_built_in_a_trial_as_in_a_run() -> None:
    assert said("lr_finder={}", "optimizer.groups=[{match: ['@head'], lr: $lr_finder.lr}]") == []


GREY = "{type: ToGray, num_output_channels: 1, p: 1}"
SMALLER = "{type: Resize, height: 24, width: 24}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            [f"data.augment=[{{type: HorizontalFlip}}, {GREY}]", "data.preprocess=[]"],
            "command line:1:39: training images have 1 channel, all others 3 channels (put what changes channels into "
            "data.augment and data.eval alike) [R102]",
        ),
        (
            [f"data.eval=[{GREY}]", "data.preprocess=[]"],
            "command line:1:12: training images have 3 channels, all others 1 channel (put what changes channels into "
            "data.augment and data.eval alike) [R102]",
        ),
        (
            [f"data.augment=[{SMALLER}]"],
            "command line:1:15: warning: training images are 24 x 24, all others 32 x 32 (is a Resize or crop missing "
            "in data.eval or data.augment?) [W030]",
        ),
        (
            [
                "data.dataset={type: ImageFolder, root: x}",
                f"data.augment=[{SMALLER}]",
                "data.eval=[{type: CenterCrop, height: 32, width: 32}]",
            ],
            "command line:2:15: warning: training images are 24 x 24, all others 32 x 32",
        ),
        (
            ["data.preprocess.0.mean=[0.5, 0.5]", "data.preprocess.0.std=0.2"],
            "command line:1:24: transform Normalize.mean: 2 numbers for images of 3 channels (write one number per "
            "channel) [R103]",
        ),
        (
            [f"data.augment=[{GREY}]", f"data.eval=[{GREY}]"],
            "recipe.yaml:7:40: transform Normalize.mean: 3 numbers for images of 1 channel (write one number per "
            "channel) [R103]",
        ),
        (
            ["data.eval=[{type: Rotate, limit: 20, p: 1}]"],
            "command line:1:12: warning: Rotate in data.eval changes images at random: one draw of each is measured "
            "(move it to data.augment, or take what is not random) [W010]",
        ),
        (
            [
                "data.eval=[{type: Resize, height: 32, width: 32}, "
                "{type: OneOf, p: 1, transforms: [HorizontalFlip, VerticalFlip]}]"
            ],
            "command line:1:51: warning: OneOf in data.eval changes images at random",
        ),
        (
            ["data.preprocess=[Normalize, {type: RandomCrop, height: 24, width: 24}]"],
            "command line:1:29: warning: RandomCrop in data.preprocess changes images at random",
        ),
        (
            [f"data.augment=[{SMALLER}]", "model=vit_b_32", "report=[]"],
            "model vit_b_32 cannot take images of 3 x 24 x 24",
        ),
    ],
)
def test_images_that_training_and_evaluation_do_not_share_are_told(changes: list[str], message: str) -> None:
    lines = said(*changes)
    assert any(message in line for line in lines), lines


@pytest.mark.parametrize(
    "changes",
    [
        [f"data.preprocess=[{GREY}, {{type: Normalize, mean: [0.5], std: [0.2]}}]"],
        [f"data.augment=[{SMALLER}]", f"data.eval=[{SMALLER}]"],
        ["data.dataset={type: ImageFolder, root: x}", "data.augment=[{type: RandomCrop, height: 32, width: 32}]"],
        ["data.eval=[{type: HorizontalFlip, p: 1}]"],
        ["data.preprocess=[ToFloat, {type: Normalize, max_pixel_value: 1.0}]"],
    ],
)
def test_images_that_training_and_evaluation_share_are_taken_without_a_word(changes: list[str]) -> None:
    assert said(*changes) == []


def test_a_loss_that_cannot_take_mixed_targets_is_told_before_training() -> None:
    problems = said("loss=MultiMarginLoss", "train.mix={type: MixUp, alpha: 0.2}")
    assert len(problems) == 1
    assert "loss MultiMarginLoss cannot take the mixed targets of a batch" in problems[0]


def test_a_last_batch_of_one_image_is_warned_of_where_the_model_has_batch_norm() -> None:
    lines = said("data.limit=129")
    assert len(lines) == 1
    assert "129 training images leave one for the last batch of 128, and the model has BatchNorm" in lines[0]
    assert said("data.limit=129", "data.drop_last=true") == []


def test_all_problems_of_a_build_are_reported_together() -> None:
    lines = said(
        "optimizer={type: Adam, lr: 0.1, eps: -1}",
        "scheduler={type: LinearLR, start_factor: 5}",
        "train.freeze=[x]",
        "report.0.layers=[y]",
    )
    assert len(lines) >= 3


def test_weights_of_a_pretrained_model_are_not_loaded_for_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.hub

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the trial loads weights")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    assert said("model={type: resnet18, weights: DEFAULT}", "report=[]") == []


def test_the_truth_about_the_data_is_held_against_the_recipe() -> None:
    truth = {"num_classes": 3, "channels": 3, "image_size": (40, 40), "train_images": 258}
    assert said("data.batch_size=128", **truth) == []
    lines = said("data.batch_size=257", class_counts=(100, 0, 158), **truth)
    assert any("258 training images leave one for the last batch of 257" in line for line in lines)
    assert any("no training image is of 'class 1'" in line for line in lines)


@pytest.mark.parametrize(
    "changes",
    [
        ["data.dataset={type: Shapes, image_size: 96}", "model=alexnet", "report=[]"],
        [
            "data.dataset={type: Shapes, image_size: 128}",
            "model=resnet18",
            "report=[{type: GradCAM, layers: [layer2]}]",
        ],
        [
            "data.dataset={type: Shapes, image_size: 64}",
            "data.augment=[{type: RandomCrop, height: 48, width: 48}]",
            "data.eval=[{type: CenterCrop, height: 48, width: 48}]",
        ],
        ["data.dataset={type: FakeData, num_classes: 3}", "loss={type: CrossEntropyLoss, weight: [1, 2, 3]}"],
        [
            "data.dataset={type: FakeData, image_size: [3, 20, 30]}",
            "data.augment=[{type: RandomCrop, height: 20, width: 30}]",
        ],
        ["data.dataset={type: EMNIST, subset: letters}", "model={type: resnet18, num_classes: 27}", "report=[]"],
    ],
)
def test_what_follows_from_a_datasets_arguments_is_believed(changes: list[str]) -> None:
    assert [line for line in said(*changes) if "warning" not in line] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            [
                "data.dataset={type: FakeData, image_size: [3, 20, 30]}",
                "data.augment=[{type: RandomCrop, height: 32, width: 30}]",
            ],
            "a crop of 32x30 is larger than the image of 20x30",
        ),
        (
            ["data.dataset={type: FakeData, num_classes: 3}", "model={type: resnet18, num_classes: 4}", "report=[]"],
            "gives 4 numbers per image, and there are 3 classes",
        ),
        (["data.dataset={type: FakeData, size: 143}"], "129 training images leave one for the last batch of 128"),
    ],
)
def test_what_contradicts_a_datasets_arguments_is_told(changes: list[str], message: str) -> None:
    assert any(message in line for line in said(*changes))


def test_one_class_is_an_error_that_looks_for_a_wrong_level() -> None:
    Path("recipe.yaml").write_text(RIGHT.replace("CIFAR10", "{type: ImageFolder, root: x}"))
    loaded = load_recipe("recipe.yaml")
    assert loaded.recipe is not None, render(loaded.problems)
    assert loaded.catalogue is not None
    found = check_data(loaded.recipe, loaded.catalogue, DataKnown(num_classes=1, image_size=(32, 32)), ["only"])
    (problem,) = [one for one in found if one.severity == "error"]
    assert str(problem) == (
        "recipe.yaml:3:12: ImageFolder has 1 class, there is nothing to tell apart (is data.dataset.root one level too "
        "high? It holds train, val and test, or one folder per class) [R080]"
    )


def test_class_weights_are_counted_against_the_classes_that_were_read() -> None:
    Path("recipe.yaml").write_text(RIGHT.replace("CIFAR10", "{type: ImageFolder, root: x}"))
    loaded = load_recipe("recipe.yaml", ["loss={type: CrossEntropyLoss, weight: [1, 2]}"])
    assert loaded.recipe is not None, render(loaded.problems)
    assert loaded.catalogue is not None
    known = DataKnown(num_classes=3, image_size=(32, 32))
    rules = [problem.rule for problem in check_data(loaded.recipe, loaded.catalogue, known, ["a", "b", "c"])]
    assert "R080" in rules


def test_class_weights_by_name_are_held_against_the_classes_that_were_read() -> None:
    Path("recipe.yaml").write_text(RIGHT.replace("CIFAR10", "{type: ImageFolder, root: x}"))

    def found(weight: str, val: tuple[int, ...] = (), loss: str = "CrossEntropyLoss") -> list[str]:
        loaded = load_recipe("recipe.yaml", [f"loss={{type: {loss}, weight: {weight}}}"])
        assert loaded.recipe is not None, render(loaded.problems)
        assert loaded.catalogue is not None
        measured = {"val": val} if val else {}
        known = DataKnown(num_classes=2, image_size=(32, 32), class_names=("cat", "dog"), measured=measured)
        return [str(one) for one in check_data(loaded.recipe, loaded.catalogue, known, ["cat", "dog"])]

    assert found("{dog: 2}") == []
    (problem,) = found("{cat: 1, dgo: 2}")
    assert problem.endswith("loss.weight: there is no class 'dgo' (did you mean 'dog'?) [R080]")
    assert any("no class has a weight above 0, so nothing is learnt [R095]" in one for one in found("{cat: 0, dog: 0}"))
    for weight in ("{dog: 0}", "[1, 0]"):
        lost = "loss.weight: every image of val is of a class with weight 0, so val/loss has no value"
        assert any(lost in one for one in found(weight, val=(0, 7)))
        assert not any(lost in one for one in found(weight, val=(1, 7)))
        assert not any(lost in one for one in found(weight, val=(0, 7), loss="MultiMarginLoss"))


def test_class_weights_by_name_stand_in_the_order_of_the_classes_and_are_1_where_left_out() -> None:
    Path("recipe.yaml").write_text(RIGHT)
    loaded = load_recipe("recipe.yaml", ["loss={type: CrossEntropyLoss, weight: {ship: 3, cat: 0.5}}"])
    assert loaded.recipe is not None, render(loaded.problems)
    assert loaded.catalogue is not None
    draft = Draft(loaded.recipe, loaded.catalogue, Collector())
    loss = Trial(draft, declared(draft)).parts.new_loss(torch.ones(10))
    assert loss.weight.tolist() == [1, 1, 1, 0.5, 1, 1, 1, 1, 3, 1]


@pytest.mark.parametrize(("target", "words"), [("rign", "(did you mean 'ring'?)"), ("sun", "'cross', 'ring'")])
def test_an_explained_class_is_looked_for_among_those_that_were_read(target: str, words: str) -> None:
    Path("recipe.yaml").write_text(RIGHT.replace("CIFAR10", "{type: ImageFolder, root: x}"))

    def found(name: str) -> list[str]:
        loaded = load_recipe("recipe.yaml", [f"report=[{{type: GradCAM, target: '{name}'}}]"])
        assert loaded.recipe is not None, render(loaded.problems)
        assert loaded.catalogue is not None
        known = DataKnown(num_classes=2, image_size=(32, 32))
        return [str(one) for one in check_data(loaded.recipe, loaded.catalogue, known, ["cross", "ring"])]

    (problem,) = found(target)
    assert f"report.0.target: no class is named '{target}'" in problem
    assert words in problem
    assert problem.endswith("[R093]")
    assert found("ring") == found("true") == found("predicted") == []


def test_a_number_expected_of_a_test_split_that_is_not_there_is_told_before_training() -> None:
    Path("recipe.yaml").write_text(RIGHT.replace("CIFAR10", "{type: ImageFolder, root: x}"))
    loaded = load_recipe("recipe.yaml", ['expect={"best test/accuracy": ">= 0.9"}'])
    assert loaded.recipe is not None, render(loaded.problems)
    assert loaded.catalogue is not None

    def found(measured: dict[str, tuple[int, ...]]) -> list[str]:
        known = DataKnown(num_classes=2, image_size=(32, 32), measured=measured)
        return [one.rule for one in check_data(loaded.recipe, loaded.catalogue, known, ["cross", "ring"])]

    assert found({"val": (3, 3)}) == ["R080"]
    assert found({"val": (3, 3), "test": (3, 3)}) == []


def test_what_was_read_is_handed_on_as_facts(experiment_of: Callable[..., Any]) -> None:
    text = RIGHT.replace("CIFAR10", "{type: Shapes, train_size: 60, val_size: 20, test_size: 20}")
    experiment = experiment_of(text.replace("{fraction: 0.1}", "val"))
    known = known_from(experiment.data)
    assert (known.num_classes, known.channels, known.image_size, known.train_images) == (10, 3, (32, 32), 60)
    assert sum(known.class_counts or ()) == 60
    assert [one.rule for one in check_data(experiment.recipe, experiment.catalogue, known, ["x"] * 10)] == []


@pytest.mark.parametrize("path", RECIPES, ids=[path.name for path in RECIPES])
def test_every_shipped_recipe_can_be_built(path: Path) -> None:
    loaded = load_recipe(path)
    assert loaded.recipe is not None, render(loaded.problems)
    assert loaded.catalogue is not None
    assert isinstance(loaded.recipe, Recipe)
    problems = [one for one in check_built(loaded.recipe, loaded.catalogue) if one.severity == "error"]
    assert render(problems) == ""


FOLDER = "data.dataset={type: ImageFolder, root: photos}"  # declares no classes


@pytest.mark.parametrize(
    "change",
    [
        "loss={type: CrossEntropyLoss, weight: [1, 2]}",
        "loss={type: MultiMarginLoss, weight: [1, 2, 3]}",
        "model.num_classes=2",
        "model.num_classes=37",
        "train.mix={type: MixUp, num_classes: 4}",
    ],
)
def test_where_nobody_declares_the_classes_the_recipes_own_count_stands_in_for_them(change: str) -> None:
    assert said(FOLDER, change) == []


def test_counts_of_classes_that_contradict_each_other_need_no_data() -> None:
    weights = "loss={type: CrossEntropyLoss, weight: [1, 2]}"
    for dataset, says in (
        (FOLDER, "model.num_classes says 3 classes"),
        ("data.dataset={type: FakeData, num_classes: 3}", "FakeData has 3 classes"),
        ("data.dataset=CIFAR10", "CIFAR10 has 10 classes"),
    ):
        Path("recipe.yaml").write_text(RIGHT)
        model = ["model.num_classes=3"] if dataset is FOLDER else []
        problems = load_recipe("recipe.yaml", [dataset, weights, *model]).problems
        assert [problem.rule for problem in problems] == ["R058"]
        assert f"{says}, got 2 weights" in problems[0].text


NETS = '''
from torch import nn
from registry import component


class Net(nn.Module):
    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(in_channels, 4, 3), nn.Linear(4, num_classes)

    def forward(self, x):
        return self.head(self.first(x).mean((2, 3)))


@component("model")
class Branching(Net):
    """Looks at the images' values."""

    def forward(self, x):
        return super().forward(x / 10 if x.abs().max() > 10 else x)


@component("model")
class TwoAnswers(Net):
    """Has an auxiliary head."""

    def forward(self, x):
        y = super().forward(x)
        return (y, y) if self.training else y
'''


def test_a_model_is_tried_as_it_is_used() -> None:
    Path("nets.py").write_text(NETS)
    state = torch.get_rng_state()
    layers = "report=[{type: GradCAM, layers: [first]}]"
    assert said("plugins=[./nets.py]", "model=Branching", layers) == []
    assert torch.equal(torch.get_rng_state(), state)
    (problem,) = said("plugins=[./nets.py]", "model=TwoAnswers", "report=[]")
    assert "model TwoAnswers gives tuple in training, not a tensor of logits" in problem


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("loss={type: CrossEntropyLoss, weight: [1, 2]}", "loss.weight: the data have 3 classes, got 2 weights"),
        ("model.num_classes=2", "model.num_classes: the data have 3 classes, got 2"),
        ("train.mix={type: CutMix, num_classes: 5}", "train.mix.num_classes: the data have 3 classes, got 5"),
    ],
)
def test_a_wrong_count_of_classes_is_told_once_when_the_data_are_read(change: str, text: str) -> None:
    Path("recipe.yaml").write_text(RIGHT)
    loaded = load_recipe("recipe.yaml", [FOLDER, change])
    assert loaded.recipe is not None, render(loaded.problems)
    assert loaded.catalogue is not None
    known = DataKnown(num_classes=3, image_size=(32, 32))
    found = check_data(loaded.recipe, loaded.catalogue, known, ["a", "b", "c"])
    assert [(problem.rule, problem.text) for problem in found] == [("R080", text)]


def test_a_head_of_its_own_size_is_right_until_the_data_say_otherwise(tmp_path: Path) -> None:
    Path("heads.py").write_text(
        "from torch import nn\nfrom registry import component\n\n\n@component('model')\n"
        "def seven() -> nn.Module:\n    '''Build a head of seven.'''\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 7))\n"
    )
    changes = ("plugins=[./heads.py]", "model=seven", "report=[]")
    assert said(FOLDER, *changes) == []
    assert "gives 7 numbers per image, and there are 3 classes" in said(FOLDER, *changes, num_classes=3)[0]


PLUGIN = """
import torch
from torch import nn

from registry import component


class Weighed(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.weight = torch.arange(1.0, 1 + classes)

    def forward(self, logits, targets):
        return nn.functional.cross_entropy(logits, targets, weight=self.weight)


@component("loss")
class Secretive(Weighed):
    '''Divides by weights and does not say so.'''


@component("loss")
class Frank(Weighed):
    '''Divides by weights and says so.'''

    def normaliser(self, targets):
        return self.weight[targets].sum()


@component("loss")
class Summed(nn.CrossEntropyLoss):
    '''A sum.'''

    def __init__(self) -> None:
        super().__init__(reduction="sum")

    def forward(self, logits, targets):
        return super().forward(logits, targets)


@component("loss")
class Each(Summed):
    '''One number per image.'''

    def __init__(self) -> None:
        super().__init__()
        self.reduction = "none"


@component("loss")
class Counted(nn.Module):
    '''Counts mistakes, which has no gradient.'''

    def forward(self, logits, targets):
        return (logits.argmax(1) != targets).float().mean()


@component("metric")
class PerClass:
    '''A number per class.'''

    mode = "max"

    def reset(self):
        pass

    def update(self, logits, targets):
        self.mean = logits.mean(0)

    def compute(self):
        return self.mean

    def state(self):
        return {}

    def load(self, state):
        pass


@component("metric")
class Probabilities(PerClass):
    '''Takes no class indices.'''

    def update(self, logits, targets):
        self.mean = (logits * targets).mean()
"""


@pytest.mark.parametrize(
    ("change", "rule", "text"),
    [
        ("loss=Secretive", "W024", "loss Secretive is no mean over the images"),
        ("loss=Frank", "", ""),
        ("loss=Summed", "W024", "divide by the images, or say by what in a method normaliser(targets)"),
        ("loss=Each", "R071", "loss Each cannot take class indices: it gives 24 numbers for a batch of 24"),
        ("loss=Counted", "R071", "loss Counted cannot take class indices: "),
        ("train.metrics=[Accuracy, PerClass]", "R071", "metric PerClass cannot take logits and class indices"),
        (
            "train.metrics=[Accuracy, Probabilities]",
            "R071",
            "metric Probabilities cannot take logits and class indices: RuntimeError: ",
        ),
        ("train.metrics=[Accuracy, TopKAccuracy]", "", ""),
    ],
)
def test_losses_and_metrics_are_tried_on_made_up_answers(change: str, rule: str, text: str) -> None:
    Path("measures.py").write_text(PLUGIN)
    problems = said("plugins=[./measures.py]", change, "report=[]")
    assert len(problems) == bool(rule), problems
    assert all(f"[{rule}]" in problem and text in problem for problem in problems)


def test_the_k_greatest_of_no_more_classes_are_warned_of_when_the_classes_are_known() -> None:
    five = "train.metrics=[Accuracy, TopKAccuracy]"
    assert said(FOLDER, five, "report=[]", "model.num_classes=3") == []  # only the data can tell
    lines = said(FOLDER, five, "report=[]", num_classes=3)
    assert len(lines) == 1
    assert "metric TopKAccuracy: the 5 greatest of 3 classes always hold the true one: it is 1" in lines[0]
    assert "take k below 3" in lines[0]
    assert said(FOLDER, "train.metrics=[Accuracy, {type: TopKAccuracy, k: 2}]", "report=[]", num_classes=3) == []


def test_float_in_augment_is_told_whether_or_not_images_have_one_size() -> None:
    inside = "data.augment=[{type: Resize, height: 32, width: 32}, {type: Sequential, transforms: [Normalize]}]"
    for known in ({}, {"num_classes": 3}, {"num_classes": 3, "image_size": (32, 32)}):
        (line,) = said(FOLDER, "report=[]", "model.num_classes=3", inside, **known)
        assert "Sequential makes float32, but augment and eval keep uint8" in line
        assert line.endswith("[R075]")


def test_statistics_of_nothing_frozen_are_told() -> None:
    (line,) = said("train.frozen_statistics=update", "train.freeze=['@bias']")
    assert "cifar_resnet18 has no frozen norm layers, so it changes nothing" in line
    assert line.endswith("[W045]")
    assert said("train.frozen_statistics=update", "train.freeze=['@norm']") == []


def test_pictures_too_small_to_be_decoded_smaller_are_told_once_their_size_is_known() -> None:
    reduced = (FOLDER, "report=[]", "model.num_classes=3", "data.decode=reduced")
    assert said(*reduced, num_classes=3) == []
    (line,) = said(*reduced, num_classes=3, image_size=(512, 512))
    assert "the pictures are 512 x 512, and only larger ones than 512 x 512 are decoded smaller" in line
    assert line.endswith("[W033]")
    assert said(*reduced, num_classes=3, image_size=(512, 513)) == []


def test_a_part_of_one_class_is_told_before_anything_is_trained() -> None:
    known: dict[str, object] = {"num_classes": 2, "image_size": (32, 32), "class_counts": (40, 40)}
    rest = (FOLDER, "report=[]", "model.num_classes=2", "train.metrics=[Accuracy, AUROC]")
    (line,) = said(*rest, measured={"val": (0, 20), "test": (10, 10)}, **known)
    assert "every image of val is of 'class 1': always answering it is right there" in line
    assert line.endswith("[W086]")
    assert said(*rest, measured={"val": (1, 20), "test": (10, 10)}, **known) == []
    (line,) = said(*rest, measured={"val": (1, 20), "test": (10, 0)}, **known)
    assert "every image of test is of 'class 0'" in line


def test_a_rare_class_is_told_where_the_best_epoch_is_chosen_by_a_number_in_which_it_hardly_counts() -> None:
    scans: dict[str, object] = {"num_classes": 2, "image_size": (32, 32), "train_images": 1000}
    rest = (FOLDER, "report=[]", "model.num_classes=2")
    (line,) = said(*rest, class_counts=(901, 99), **scans)
    assert (
        "train.best: 'class 1' has 99 of 1,000 training images, so it hardly counts in val/accuracy: always answering "
        "'class 0' is right for 90 % (BalancedAccuracy and F1 let every class count the same: "
        "metrics: [Accuracy, BalancedAccuracy], best: {metric: val/balanced_accuracy}) [W085]"
    ) in line
    assert said(*rest, class_counts=(900, 100), **scans) == []
    for metric in ("BalancedAccuracy", "F1", "AUROC"):
        key = {"BalancedAccuracy": "balanced_accuracy"}.get(metric, metric.lower())
        chosen = (f"train.metrics=[{metric}]", f"train.best.metric=val/{key}")
        assert said(*rest, *chosen, class_counts=(990, 10), **scans) == []
    weighted = ("train.metrics=[{type: F1, average: weighted}]", "train.best.metric=val/f1")
    assert len(said(*rest, *weighted, class_counts=(990, 10), **scans)) == 1
    assert said(*rest, "train.best={metric: val/loss, mode: min}", class_counts=(990, 10), **scans) == []


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        ("torchmetrics:MulticlassAUROC", ""),
        ("{type: torchmetrics:MulticlassRecall, average: none}", "has 10 values, and a column takes one (set `average"),
        ("torchmetrics:MulticlassStatScores", "has 5 values, and a column takes one (take a metric that is one number"),
        ("{type: torchmetrics:MulticlassRecallAtFixedPrecision, min_precision: 0.5}", "has 2 values"),
    ],
)
def test_a_metric_of_torchmetrics_is_tried_before_training(metric: str, text: str) -> None:
    pytest.importorskip("torchmetrics")
    problems = said(f"train.metrics=[Accuracy, {metric}]", "report=[]")
    assert len(problems) == bool(text), problems
    assert all("[R071]" in problem and text in problem for problem in problems)
