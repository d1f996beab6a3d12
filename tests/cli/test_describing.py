"""Discovery: what list, describe and schema say, held against the check and a real JSON Schema validator."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from registry.catalogue.catalog import catalogue
from registry.catalogue.slots import SLOTS
from registry.errors import RecipeError
from trainer.cli.describing import WIDTH, describe_text, list_text, schema
from trainer.cli.main import main
from trainer.recipe.problems import Collector
from trainer.recipe.reading.nodes import plain
from trainer.recipe.reading.text import compose
from trainer.recipe.schema_text import schema_text, shared

KNOWN = catalogue()
ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))

GOOD = """
version: 1
data:
  dataset: {type: CIFAR10, root: data}
  val: {fraction: 0.1}
  augment:
    - {type: OneOf, transforms: [HorizontalFlip, {type: Rotate, limit: 15, border_mode: reflect_101}]}
  preprocess: [{type: Normalize, mean: $data.mean, std: $data.std}]
model: {type: cifar_resnet18, dropout: 0.15}
loss: {type: CrossEntropyLoss, weight: balanced, label_smoothing: 0.1}
regularizers: [{type: L1, strength: 3e-6}]
optimizer: {type: SGD, lr: $lr_finder.lr, groups: [{match: ["@bias"], lr_scale: 2, weight_decay: 0}]}
scheduler: {type: SequentialLR, schedulers: [LinearLR, {type: CosineAnnealingLR, T_max: 5}], milestones: [5]}
lr_finder: {}
train: {epochs: 5, ema: {decay: 0.99}, metrics: [Accuracy, {type: TopKAccuracy, k: 3, as: top3}]}
x-note: anything
"""


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    made = schema(KNOWN)
    Draft202012Validator.check_schema(made)
    return Draft202012Validator(made)


def read(text: str) -> object:
    problems = Collector()
    node = compose(text, "recipe.yaml", problems)
    assert node is not None
    return plain(node)


def valid(validator: Draft202012Validator, text: str) -> bool:
    return validator.is_valid(read(text))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_every_shipped_recipe_passes_the_schema(path: Path, validator: Draft202012Validator) -> None:
    assert [error.message for error in validator.iter_errors(read(path.read_text(encoding="utf-8")))] == []


def test_a_recipe_with_everything_passes_the_schema(validator: Draft202012Validator) -> None:
    assert [error.message for error in validator.iter_errors(read(GOOD))] == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("version: 1\n", ""),
        ("version: 1\n", "version: 2\n"),
        ("epochs: 5", "epocs: 5"),
        ("x-note", "note"),
        ("type: SGD", "type: SGDD"),
        ("type: SGD, lr: $lr_finder.lr", "type: SGD"),
        ("type: SGD, lr: $lr_finder.lr", "type: SGD, lr: fast"),
        ("type: SGD, lr: $lr_finder.lr", "type: SGD, lr: 0.1, momentun: 0.9"),
        ("limit: 15", "limmit: 15"),
        ("limit: 15", "limit: [1, 2, 3]"),
        ("reflect_101", "reflect_102"),
        ("label_smoothing: 0.1", "label_smoothing: 1.5"),
        ("weight: balanced", "weight: balancd"),
        ("fraction: 0.1", "fraction: 1.0"),
        ("decay: 0.99", "decay: true"),
        ("decay: 0.99", "decay: 0.99, evry: 2"),
        ("strength: 3e-6", "strength: '3e-6'"),
        ("lr_scale: 2", "lr_scal: 2"),
        ("T_max: 5", "T_max: 5.0e-1"),
        ("k: 3", "k: 0"),
        ("dropout: 0.15", "dropout: 0.15, num_clases: 3"),
        ("weight_decay: 0", "params: []"),
    ],
)
def test_the_schema_refuses_a_mistake(right: str, wrong: str, validator: Draft202012Validator) -> None:
    assert GOOD.count(right) == 1
    assert not valid(validator, GOOD.replace(right, wrong))


def test_a_recipe_that_extends_another_may_leave_sections_out(validator: Draft202012Validator) -> None:
    assert valid(validator, "version: 1\nextends: base.yaml\nscheduler: null\nregularizers: null\n")
    assert valid(validator, "version: 1\nextends: base.yaml\noptimizer: {lr: 0.2}\ntrain: {ema: {every: 2}}\n")
    assert not valid(validator, "version: 1\nextends: base.yaml\noptimizer: {type: SGD, momentun: 0.2}\n")
    assert not valid(validator, "version: 1\nextends: base.yaml\ndata: {augment: [Resize]}\n")
    assert not valid(validator, "version: 1\nscheduler: null\n")


@pytest.mark.parametrize(
    "text",
    [
        "extends: a.yaml",
        "extends: a.yaml\ndata: {batch_size: null}\noptimizer: {type: SGD, momentum: null}",
        "extends: a.yaml\noptimizer: {type: SGD, lr: 0.1, groups: $x-groups}\nx-groups: [{match: ['@bias']}]",
        "extends: a.yaml\noptimizer: {type: SGD, lr: 0.1, groups: [$x-group]}\nx-group: {match: ['@bias']}",
        "extends: a.yaml\nmodel: {type: $x-network}\nx-network: resnet18",
        "extends: a.yaml\nmodel: {type: resnet18, weights: MINE.PTH}",
        "extends: a.yaml\nexpect: {best val/accuracy: null}",
    ],
)
def test_the_schema_accepts_what_a_recipe_may_say_over_another(text: str, validator: Draft202012Validator) -> None:
    assert valid(validator, text + "\n")


def test_the_schema_has_one_branch_per_component_with_its_text() -> None:
    definitions = schema(KNOWN)["$defs"]
    for slot in SLOTS:
        branches = definitions[slot]["anyOf"][-1]["oneOf"]
        assert definitions[slot]["anyOf"][-1]["required"] == ["type"]
        assert [branch["$ref"].rpartition("/")[2] for branch in branches] == [
            f"{slot}.{name}" for name in KNOWN.names(slot)
        ]
    momentum = definitions["optimizer.SGD"]["properties"]["momentum"]
    assert momentum["description"] == "momentum factor"
    assert momentum["default"] == 0
    assert definitions["optimizer.SGD"]["additionalProperties"] is False
    assert "params" not in definitions["optimizer.SGD"]["properties"]


def unfolded(made: dict, plain: dict) -> dict:
    """The schema with its shared parts back in their places: those that `plain` has no definition of."""

    def put_back(value: object) -> object:
        if isinstance(value, list):
            return [put_back(each) for each in value]
        if not isinstance(value, dict):
            return value
        name = value.get("$ref", "").removeprefix("#/$defs/")
        if name and name not in plain["$defs"]:
            beside = {key: each for key, each in value.items() if key != "$ref"}
            assert beside.keys() <= {"description", "default"} - made["$defs"][name].keys()
            return put_back(made["$defs"][name] | beside)
        return {key: put_back(each) for key, each in value.items()}

    kept = {name: made["$defs"][name] for name in plain["$defs"]}
    return put_back({**made, "$defs": kept})


def test_the_schema_says_once_what_it_says_in_many_places_and_loses_nothing() -> None:
    plain = schema(KNOWN)
    text = schema_text(plain)
    assert unfolded(json.loads(text), plain) == plain
    assert len(text) < 0.7 * len(json.dumps(plain, ensure_ascii=False, separators=(",", ":")))
    assert text.count("\n") < 700, "a line for each definition"


def test_a_part_is_shared_with_its_words_or_without_them() -> None:
    number = {"anyOf": [{"type": "number"}, {"type": "null"}]}
    momentum = {**number, "description": "momentum factor", "default": 0}
    parts = {"momentum": momentum, "rho": {**number, "description": "decay"}, "short": {"type": "null"}}
    component = {"type": "object", "properties": parts}
    made = shared({"$defs": {"SGD": component, "Adam": component}})["$defs"]
    assert made == {
        "SGD": {
            "type": "object",
            "properties": {
                "momentum": {"$ref": "#/$defs/momentum"},
                "rho": {"$ref": "#/$defs/rho"},
                "short": {"type": "null"},
            },
        },
        "Adam": made["SGD"],
        "momentum": {"$ref": "#/$defs/number-or-null", "description": "momentum factor", "default": 0},
        "number-or-null": number,
        "rho": {"$ref": "#/$defs/number-or-null", "description": "decay"},
    }


def test_the_schema_beside_the_recipes_knows_every_section_and_all_of_ours() -> None:
    """`python -m trainer schema > recipe.schema.json` makes it anew; the first line of each shipped recipe names it."""
    text, made = (ROOT / "recipe.schema.json").read_text(encoding="utf-8"), schema(KNOWN)
    assert len(text) < 400_000
    kept = json.loads(text)
    assert kept["properties"].keys() == made["properties"].keys()
    for slot in SLOTS:
        for name in KNOWN.names(slot):
            if KNOWN.entry(slot, name).own:
                assert kept["$defs"][f"{slot}.{name}"]["properties"].keys() == (
                    made["$defs"][f"{slot}.{name}"]["properties"].keys()
                ), name


# ------------------------------------------------------------------------------------------------------------- list
def test_list_counts_the_slots() -> None:
    lines = list_text(components=KNOWN).splitlines()
    assert [line.split()[0] for line in lines[: len(SLOTS)]] == list(SLOTS)
    assert lines[2].split()[:2] == ["transform", str(len(KNOWN.names("transform")))]


def test_list_takes_a_slot_in_the_plural_and_a_pattern() -> None:
    assert list_text("optimizers", components=KNOWN) == list_text("optimizer", components=KNOWN)
    assert list_text("transform", "crop", components=KNOWN).startswith("transform: 7 of ")
    assert "  RandomCrop " in list_text("transform", "*CROP", components=KNOWN)
    assert "RandomCropFromBorders" not in list_text("transform", "*CROP", components=KNOWN)


def test_a_pattern_alone_searches_all_slots() -> None:
    text = list_text("resnet18", components=KNOWN)
    assert "  resnet18 " in text
    assert "  cifar_resnet18 " in text


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("optimzer",), "did you mean 'optimizer'?"),
        (("HorizontalFlop",), "did you mean 'HorizontalFlip'?"),
        (("transform", "HorizontalFlop"), "did you mean 'HorizontalFlip'?"),
        (("optimzer", "SGD"), "did you mean 'optimizer'?"),
    ],
)
def test_a_mistyped_word_is_answered_with_the_nearest(words: tuple[str, ...], hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        list_text(*words, components=KNOWN)
    assert caught.value.hint == hint


@pytest.mark.parametrize("slot", SLOTS)
def test_no_line_of_a_list_is_too_long(slot: str) -> None:
    assert max(map(len, list_text(slot, components=KNOWN).splitlines())) <= WIDTH + 5


# --------------------------------------------------------------------------------------------------------- describe
def test_describe_tells_all_about_a_component() -> None:
    text = describe_text("ReduceLROnPlateau", components=KNOWN)
    assert text.startswith("ReduceLROnPlateau - scheduler, torch ")
    assert "  mode: 'min' or 'max'; default 'min'\n" in text
    assert "  patience: integer >= 0; default 10\n" in text
    assert "not settable: optimizer (the recipe's optimizer)" in text
    assert text.endswith("In a recipe:\n  scheduler: ReduceLROnPlateau")


def test_describe_marks_what_is_supplied_and_what_is_required() -> None:
    text = describe_text("cifar_resnet18", components=KNOWN)
    assert "num_classes: integer >= 1; supplied: the dataset's number of classes" in text
    assert "  lr: number > 0; required" in describe_text("SGD", components=KNOWN)


def test_describe_writes_constants_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert "default 'linear'" in describe_text("Rotate", components=KNOWN)


def test_describe_says_why_a_component_is_refused() -> None:
    assert "A recipe cannot use it: it evaluates the loss" in describe_text("LBFGS", components=KNOWN)


def test_describe_takes_sections_rules_slots_and_import_paths() -> None:
    assert "epochs: integer >= 1; required" in describe_text("train", components=KNOWN)
    assert "decay: number >= 0 and < 1; required" in describe_text("train.ema", components=KNOWN)
    assert "each: 'step', 'epoch' or null" in describe_text("StepOn", components=KNOWN)
    assert describe_text("R021", components=KNOWN).startswith("R021: ")
    assert describe_text("r021", components=KNOWN) == describe_text("R021", components=KNOWN)
    assert "`list optimizer`" in describe_text("optimizers", components=KNOWN)
    assert describe_text("torch.optim:SGD", components=KNOWN) == describe_text("SGD", components=KNOWN)
    assert "version: integer; required" in describe_text("recipe", components=KNOWN)


@pytest.mark.parametrize(
    ("word", "hint"), [("Sgdd", "'SGD'"), ("trian", "'train'"), ("cifar_resnet81", "'cifar_resnet18'")]
)
def test_describe_answers_a_mistyped_name(word: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        describe_text(word, components=KNOWN)
    assert hint in caught.value.hint


def test_discovery_imports_nothing_heavy() -> None:
    code = (
        "import sys; from trainer.cli.describing import *; list_text(); describe_text('SGD'); schema();"
        "print([name for name in ('torch', 'numpy', 'albumentations', 'cv2', 'matplotlib') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]", ran.stderr


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("weight decay", "optimizer.AdamW "),
        ("weight-decay", "takes weight_decay"),
        ("label smoothing", "loss.CrossEntropyLoss"),
        ("warmup", "scheduler.LinearLR"),
        ("EMA", "train.ema - mapping"),
    ],
)
def test_describe_takes_a_persons_word_for_what_has_another_name(word, told):
    assert told in describe_text(word)


def test_describe_prefers_a_likely_misspelling_to_a_search():
    with pytest.raises(RecipeError, match="there is nothing called 'stepp'") as raised:
        describe_text("stepp")
    assert "did you mean 'StepLR'?" in str(raised.value.hint)


# ------------------------------------------------------------------------------------------------------------ plug-ins
PLUGIN = '''
from torch import nn
from registry import component

@component("model")
class OwnNet(nn.Module):
    """A network of one's own.

    Args:
        hidden: units.
    """
    def __init__(self, num_classes: int, hidden: int = 3) -> None:
        super().__init__()
'''


@pytest.mark.parametrize("named", ["nets.py", "own.yaml"])
def test_list_describe_and_schema_know_components_of_a_plug_in(named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(PLUGIN)
    Path("own.yaml").write_text(
        "version: 1\nplugins: [./nets.py]\ndata: {dataset: Shapes}\nmodel: OwnNet\n"
        "optimizer: {type: SGD, lr: 0.1}\ntrain: {epochs: 1}\n"
    )
    assert main(["describe", "OwnNet"]) == 2
    for words, said in (
        (["list", "model", "Own"], "OwnNet  nets.py"),
        (["describe", "OwnNet"], "hidden: integer; default 3"),
        (["schema"], '"OwnNet"'),
    ):
        capsys.readouterr()
        assert main([*words, "--plugins", named]) == 0
        assert said in capsys.readouterr().out


def test_another_librarys_name_is_answered_by_describe_and_list(capsys):
    for words, said in (
        (["describe", "Rotation"], "here it is 'Rotate'"),
        (["list", "transform", "RandomFlip"], "here it is 'HorizontalFlip'"),
        (["describe", "data.root"], "here it is data.dataset.root"),
        (["describe", "warmup_epochs"], "here it is scheduler.warmup.epochs"),
    ):
        main(words)
        shown = capsys.readouterr()
        assert said in shown.out + shown.err


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["list", "transform"],
        ["list", "model"],
        ["describe", "recipe"],
        ["describe", "GradCAM"],
        ["describe", "SGD"],
        ["describe", "R021"],
    ],
)
def test_what_is_listed_and_described_fits_the_columns_there_are(words, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(words) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= columns


@pytest.mark.parametrize("name", ["scheduler.step", "scheduler.warmup", "optimizer.groups"])
def test_what_stands_beside_a_components_arguments_is_described_by_its_place(name: str) -> None:
    first, *rest = describe_text(name, components=KNOWN).splitlines()
    assert first == f"{name} - mapping"
    assert len(rest) > 3


def test_nothing_is_said_of_facts_that_are_empty() -> None:
    assert "owns:" not in describe_text("TensorBoard", components=KNOWN)
