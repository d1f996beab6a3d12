"""Building: what is supplied, what is converted, and what a constructor's refusal becomes."""

from pathlib import Path

import pytest
import torch
from torch import nn

from registry.catalogue.catalog import catalogue
from registry.errors import DataError, RecipeError
from trainer.experiment.components import build, converted, filled
from trainer.experiment.dataset import no_reference
from trainer.recipe.load import load_recipe
from trainer.recipe.recipe import Origin, Reference, Spec
from trainer.recipe.resolve import flat, resolved_yaml

KNOWN = catalogue()
ORIGIN = Origin("mine.yaml", 3, 5)


def spec(slot: str, type: str, **arguments: object) -> Spec:
    return Spec(slot, type, type, arguments, "some.path", ORIGIN)


def made(spec: Spec, **supplied: object):
    return build(
        spec, supplied=supplied, bind=lambda reference: {"lr_finder.lr": 0.25}[reference.path], catalogue=KNOWN
    )


@pytest.fixture
def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)


def test_arguments_reach_the_constructor_as_written() -> None:
    group = made(spec("optimizer", "SGD", lr=1, momentum=0.9), params=nn.Linear(2, 2).parameters()).param_groups[0]
    assert (group["lr"], type(group["lr"]), group["momentum"]) == (1, int, 0.9)


def test_a_reference_is_bound() -> None:
    built = made(spec("optimizer", "SGD", lr=Reference("lr_finder.lr")), params=nn.Linear(2, 2).parameters())
    assert built.param_groups[0]["lr"] == 0.25


def test_a_supplied_value_fills_a_gap_and_nothing_else() -> None:
    assert made(spec("model", "SmallCNN"), num_classes=7)(torch.zeros(1, 3, 32, 32)).shape == (1, 7)
    assert made(spec("model", "SmallCNN", num_classes=5), num_classes=7)(torch.zeros(1, 3, 32, 32)).shape == (1, 5)


def test_what_a_component_does_not_take_is_not_supplied() -> None:
    assert made(spec("model", "SmallCNN"), num_classes=7, image_size=3, whatever=1) is not None


@pytest.mark.parametrize(
    ("given", "steps"), [({}, 40), ({"epochs": 3}, 21), ({"total_steps": 30}, 30), ({"steps_per_epoch": 5}, 10)]
)
def test_of_alternative_arguments_the_users_set_is_completed(
    given: dict, steps: int, optimizer: torch.optim.Optimizer
) -> None:
    supplied = {"total_steps": 40, "epochs": 2, "steps_per_epoch": 7}
    assert (
        made(spec("scheduler", "OneCycleLR", max_lr=0.1, **given), optimizer=optimizer, **supplied).total_steps == steps
    )


def test_balanced_class_weights_are_the_engines_numbers_and_only_then() -> None:
    weights = torch.tensor([1.0, 2.0])
    assert made(spec("loss", "CrossEntropyLoss", weight="balanced"), weight=weights).weight is weights
    assert made(spec("loss", "CrossEntropyLoss"), weight=weights).weight is None


def test_class_weights_as_numbers_become_a_tensor() -> None:
    assert made(spec("loss", "CrossEntropyLoss", weight=[1, 2])).weight.tolist() == [1.0, 2.0]


def test_nested_components_are_built_with_what_is_supplied(optimizer: torch.optim.Optimizer) -> None:
    nested = [spec("scheduler", "LinearLR"), spec("scheduler", "CosineAnnealingLR")]
    built = made(spec("scheduler", "SequentialLR", schedulers=nested, milestones=[5]), optimizer=optimizer, T_max=9)
    assert [type(each).__name__ for each in built._schedulers] == ["LinearLR", "CosineAnnealingLR"]
    assert built._schedulers[1].T_max == 4


def test_nested_transforms_are_built() -> None:
    inner = [
        spec("transform", "HorizontalFlip", p=1),
        spec("transform", "Sequential", transforms=[spec("transform", "NoOp")]),
    ]
    built = made(spec("transform", "OneOf", transforms=inner))
    assert [type(each).__name__ for each in built.transforms] == ["HorizontalFlip", "Sequential"]


def test_a_constant_is_written_by_its_name() -> None:
    import cv2

    for written in ("reflect_101", "BORDER_REFLECT_101", cv2.BORDER_REFLECT_101):
        assert made(spec("transform", "Rotate", border_mode=written)).border_mode == cv2.BORDER_REFLECT_101


def test_a_list_becomes_a_tuple_where_the_signature_wants_one() -> None:
    assert converted({"kind": "tuple", "of": [{"kind": "number"}] * 2}, [1, 2.5]) == (1, 2.5)
    assert converted({"kind": "list", "of": {"kind": "number"}}, [1, 2.5]) == [1, 2.5]
    union = {"kind": "union", "of": [{"kind": "number"}, {"kind": "list", "of": {"kind": "number"}, "tuple": True}]}
    assert converted(union, [1, 2.5]) == (1, 2.5)
    assert converted(union, 3) == 3


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (spec("optimizer", "SGD", lr=-1.0), "optimizer SGD refuses its arguments: "),
        (spec("transform", "Blur", blur_limit=[7, 3]), "transform Blur refuses its arguments: blur_limit: "),
        (spec("transform", "CoarseDropout", max_holes=1), "transform CoarseDropout refuses its arguments: "),
        (spec("transform", "CropAndPad"), "transform CropAndPad refuses its arguments: "),
        (spec("optimizer", "LBFGS"), "optimizer LBFGS cannot be used: it evaluates the loss several times"),
        (spec("optimizer", "SGDD"), "there is no optimizer 'SGDD'"),
    ],
)
def test_what_a_constructor_refuses_is_a_problem_with_its_place(component: Spec, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        made(component, params=nn.Linear(2, 2).parameters())
    assert caught.value.message.startswith("mine.yaml:3:5: some.path: ")
    assert message in caught.value.message


def test_a_refusal_ends_with_what_upstream_says_and_shows_the_signature() -> None:
    with pytest.raises(ValueError) as upstream:  # noqa: PT011  its words are looked at below
        torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=-1.0)
    with pytest.raises(RecipeError) as caught:
        made(spec("optimizer", "SGD", lr=-1.0), params=nn.Linear(2, 2).parameters())
    assert caught.value.message.endswith(f"optimizer SGD refuses its arguments: {upstream.value}")
    assert "SGD(params, lr, momentum=0" in caught.value.hint


def test_advice_of_albumentations_is_no_error() -> None:
    with pytest.warns(UserWarning, match="Affine"):
        made(spec("transform", "ShiftScaleRotate"))


def test_pretrained_weights_without_a_network_say_which_file_belongs_where(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", _no_network)
    with pytest.raises(DataError) as caught:
        made(spec("model", "mobilenet_v3_small", weights="DEFAULT"), num_classes=3)
    assert "mobilenet_v3_small-047dcff4.pth" in caught.value.hint
    assert str(tmp_path) in caught.value.hint


def _no_network(*_args: object, **_options: object) -> None:
    raise OSError("no route to host")


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v3_small",
        "squeezenet1_1",
        pytest.param("resnet18", marks=pytest.mark.slow),
        pytest.param("vit_b_16", marks=pytest.mark.slow),  # writes and reads 350 MB
    ],
)
def test_pretrained_weights_load_before_the_last_layer_is_made_anew(
    name: str, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file comes from a local folder, written here by the model itself."""
    import torchvision

    torch.manual_seed(1)
    reference = torchvision.models.get_model(name)
    state = reference.state_dict()
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    file = torchvision.models.get_model_weights(name).DEFAULT.url.rpartition("/")[2]
    torch.save(state, tmp_path / "hub" / "checkpoints" / file)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub._get_torch_home", lambda: str(tmp_path))
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", _unhashed)
    model = made(spec("model", name, weights="DEFAULT"), num_classes=3)
    kept = model.state_dict()
    differing = (
        [key for key in state if not torch.equal(state[key], kept[key])] if set(state) == set(kept) else ["keys"]
    )
    assert 1 <= len(differing) <= 2  # weight and bias of the last layer
    assert model(torch.zeros(2, 3, 224, 224)).shape == (2, 3)


def _unhashed(url: str, **options: object) -> dict:
    options.pop("check_hash", None)
    return torch.hub.load_state_dict_from_url(url, **options)


def test_other_channels_than_three_give_a_model_a_new_first_layer() -> None:
    model = made(spec("model", "resnet18"), num_classes=3, in_channels=1)
    assert model(torch.zeros(1, 1, 64, 64)).shape == (1, 3)


def test_filling_in_leaves_the_given_arguments_alone() -> None:
    given = {"lr": 0.1}
    filled(KNOWN.entry("optimizer", "SGD"), given, {"fused": True})
    assert given == {"lr": 0.1}


def test_a_dataclass_of_a_plug_in_is_made_of_its_fields_and_is_no_section_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(
        "import enum\nfrom dataclasses import dataclass\nfrom typing import Literal\nimport numpy as np\n"
        "from torch import nn\nfrom registry import component\n\n\n"
        "class Kind(enum.Enum):\n    PLAIN = 1\n    DEEP = 2\n\n\n"
        "@dataclass\nclass Best:\n    metric: str = 'z'\n    width: int = 4\n\n\n"
        "@component('model')\nclass Net(nn.Sequential):\n    '''A net.'''\n\n"
        "    def __init__(self, num_classes: int, best: Best | None = None, cfg: Best = Best(),\n"
        "                 kind: Literal[Kind.PLAIN, Kind.DEEP] = Kind.PLAIN, means=np.array([1.0, 2.0])):\n"
        "        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))\n"
        "        self.given = best, cfg, kind, means\n"
    )
    Path("it.yaml").write_text(
        "version: 1\ndata: {dataset: Shapes}\nplugins: [./nets.py]\noptimizer: {type: SGD, lr: 0.1}\n"
        "train: {epochs: 1}\nmodel: {type: Net, best: {metric: val/loss}, kind: DEEP}\n"
    )
    loaded = load_recipe("it.yaml")
    recipe = loaded.usable()
    model = build(recipe.model, supplied={"num_classes": 2}, bind=no_reference, catalogue=loaded.catalogue)
    best, cfg, kind, means = model.given
    assert type(best).__module__ != "trainer.recipe.recipe"
    assert (best.metric, best.width, cfg.width, kind.name, list(means)) == ("val/loss", 4, 4, "DEEP", [1.0, 2.0])
    Path("again.yaml").write_text(resolved_yaml(recipe))
    assert flat(load_recipe("again.yaml").usable()) == flat(recipe)
    wrong = load_recipe("it.yaml", ["model.best.metrik=1"]).problems
    assert "'metrik'" in str(wrong[0])
