"""extends, the merge rules, overrides and references of a recipe to itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from trainer.recipe.load import Loaded, load_recipe
from trainer.recipe.problems import Collector, render
from trainer.recipe.reading.composition import compose_recipe
from trainer.recipe.reading.nodes import plain
from trainer.recipe.recipe import Recipe, Reference

BASE = """\
version: 1
name: base
data: {dataset: Shapes, batch_size: 64, augment: [{type: HorizontalFlip, p: 0.5}, Blur]}
model: {type: SmallCNN, dropout: 0.3}
optimizer: {type: SGD, lr: 0.1, momentum: 0.9, nesterov: true}
scheduler: {type: StepLR, step_size: 3}
train: {epochs: 5}
"""


@pytest.fixture(autouse=True)
def _inside_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(BASE)


def child(text: str, *overrides: str) -> Recipe:
    loaded = loading(text, *overrides)
    assert loaded.recipe is not None, render(loaded.problems)
    return loaded.recipe


def loading(text: str, *overrides: str) -> Loaded:
    Path("child.yaml").write_text(text)
    return load_recipe("child.yaml", overrides)


def composed(text: str, *overrides: str) -> Any:
    Path("child.yaml").write_text(text)
    found = compose_recipe(Path("child.yaml"), overrides, Collector())
    assert found is not None
    return plain(found.root)


# ---------------------------------------------------------------------------------------------------------- merge rules
def test_mappings_merge() -> None:
    recipe = child("extends: base.yaml\noptimizer: {lr: 0.2}\ntrain: {log_every: 7}\n")
    assert recipe.optimizer.arguments == {"lr": 0.2, "momentum": 0.9, "nesterov": True}
    assert (recipe.train.epochs, recipe.train.log_every) == (5, 7)


def test_lists_replace() -> None:
    recipe = child("extends: base.yaml\ndata: {augment: [Rotate]}\n")
    assert [spec.type for spec in recipe.data.augment] == ["Rotate"]


def test_null_removes_an_inherited_argument_and_an_inherited_section() -> None:
    recipe = child("extends: base.yaml\noptimizer: {nesterov: null}\nscheduler: null\n")
    assert recipe.optimizer.arguments == {"lr": 0.1, "momentum": 0.9}
    assert recipe.scheduler is None


def test_null_where_nothing_is_inherited_is_none() -> None:
    recipe = child("extends: base.yaml\ntrain: {clip_norm: null}\ndata: {val: null}\nregularizers: null\n")
    assert recipe.train.clip_norm is None
    assert recipe.regularizers == ()


def test_a_component_of_another_type_is_replaced_whole_and_says_what_fell_away() -> None:
    loaded = loading("extends: base.yaml\noptimizer: {type: AdamW, lr: 1e-3}\n")
    assert loaded.recipe is not None
    assert loaded.recipe.optimizer.arguments == {"lr": 1e-3}
    assert loaded.notes == (
        "optimizer: AdamW replaces SGD; fell away: momentum (base.yaml:5:43), nesterov (base.yaml:5:58)",
    )


def test_a_component_of_the_same_type_merges_however_it_is_written() -> None:
    assert child("extends: base.yaml\noptimizer: SGD\n").optimizer.arguments["momentum"] == 0.9
    recipe = child(
        "extends: base.yaml\nloss: {type: CrossEntropyLoss, label_smoothing: 0.1}\n", "loss=CrossEntropyLoss"
    )
    assert recipe.loss.arguments == {"label_smoothing": 0.1}


def test_a_bare_name_can_be_given_arguments_by_a_child() -> None:
    Path("bare.yaml").write_text(BASE + "loss: CrossEntropyLoss\n")
    assert child("extends: bare.yaml\nloss: {label_smoothing: 0.1}\n").loss.arguments == {"label_smoothing": 0.1}


def test_a_value_that_is_no_component_is_replaced_by_a_mapping() -> None:
    Path("val.yaml").write_text(BASE.replace("batch_size: 64", "val: test"))
    assert (
        child("extends: val.yaml\ndata: {val: {fraction: 0.2}}\n").data.val
        == child("extends: base.yaml\ndata: {val: {fraction: 0.2}}\n").data.val
    )


def test_the_order_of_keys_is_the_bases_and_then_the_childs() -> None:
    assert list(composed("extends: base.yaml\nseed: 3\nname: child\n")) == [
        *("version", "name", "data", "model", "optimizer", "scheduler", "train", "seed"),
    ]


# ---------------------------------------------------------------------------------------------------------------- bases
def test_bases_lie_relative_to_the_file_that_names_them() -> None:
    Path("deep/er").mkdir(parents=True)
    Path("deep/middle.yaml").write_text("extends: ../base.yaml\nseed: 4\n")
    Path("deep/er/leaf.yaml").write_text("extends: ../middle.yaml\nname: leaf\n")
    recipe = load_recipe("deep/er/leaf.yaml").recipe
    assert recipe is not None
    assert recipe.seed == 4
    assert str(recipe.origins["seed"]) == "deep/middle.yaml:2:7"
    assert str(recipe.origins["model.type"]) == "base.yaml:4:15"


def test_two_bases_that_agree_or_speak_of_different_things_are_joined() -> None:
    Path("long.yaml").write_text("train: {log_every: 9, epochs: 5}\noptimizer: {type: SGD, weight_decay: 1e-4}\n")
    recipe = child("extends: [base.yaml, long.yaml]\n")
    assert recipe.train.log_every == 9
    assert recipe.optimizer.arguments["weight_decay"] == 1e-4


@pytest.mark.parametrize(
    ("other", "decision"),
    [
        ("train: {epochs: 6}", "train: {epochs: 7}"),
        ("train: {epochs: 5.0}", "train: {epochs: 7}"),
        ("data: {augment: [Rotate]}", "data: {augment: []}"),
        ("optimizer: {type: AdamW, lr: 1}", "optimizer: {type: AdamW}"),
        ("optimizer: {type: AdamW, lr: 1}", "optimizer: {type: RMSprop, lr: 1}"),
        ("scheduler: null", "scheduler: {type: ExponentialLR, gamma: 0.9}"),
        ("scheduler: null", "scheduler: null"),
    ],
)
def test_two_bases_that_disagree_are_refused_unless_the_child_decides(other: str, decision: str) -> None:
    Path("other.yaml").write_text(other + "\n")
    problems = loading("extends: [base.yaml, other.yaml]\n").problems
    assert [problem.rule for problem in problems if problem.rule == "R042"] == ["R042"]
    assert problems[0].origin.file == "other.yaml"
    decided = loading(f"extends: [base.yaml, other.yaml]\n{decision}\n")
    assert decided.recipe is not None, render(decided.problems)


def test_what_one_base_takes_away_and_another_inherits_is_a_disagreement() -> None:
    Path("less.yaml").write_text("extends: base.yaml\nscheduler: null\noptimizer: {nesterov: null}\n")
    Path("seeded.yaml").write_text("extends: base.yaml\nseed: 3\n")
    for order in ("less.yaml, seeded.yaml", "seeded.yaml, less.yaml"):
        problems = loading(f"extends: [{order}]\n").problems
        assert sorted(problem.path for problem in problems if problem.rule == "R042") == [
            "optimizer.nesterov",
            "scheduler",
        ]
    recipe = child("extends: [less.yaml, seeded.yaml]\nscheduler: null\noptimizer: {nesterov: true}\n")
    assert (recipe.seed, recipe.scheduler) == (3, None)
    assert recipe.optimizer.arguments["nesterov"] is True
    Path("more.yaml").write_text("extends: less.yaml\nscheduler: {type: ExponentialLR, gamma: 0.9}\n")
    recipe = child("extends: [more.yaml, less.yaml]\nscheduler: {type: StepLR, step_size: 1}\n")
    assert recipe.scheduler is not None


def test_a_part_of_a_mapping_does_not_decide_that_it_is_there() -> None:
    Path("base.yaml").write_text(BASE + "lr_finder: {start: 1e-3, end: 5, steps: 150}\n")
    Path("less.yaml").write_text("extends: base.yaml\nlr_finder: null\n")
    Path("seeded.yaml").write_text("extends: base.yaml\nseed: 3\n")
    torn = "extends: [less.yaml, seeded.yaml]\n"
    for text, overrides in ((torn + "lr_finder: {steps: 77}\n", ()), (torn, ("lr_finder.steps=77",))):
        assert [problem.rule for problem in loading(text, *overrides).problems] == ["R042"]


def test_an_item_taken_from_a_list_that_bases_disagree_on_adds_no_problem() -> None:
    Path("other.yaml").write_text("data: {augment: [VerticalFlip, Transpose]}\n")
    problems = loading("extends: [base.yaml, other.yaml]\n", "data.augment.0=null").problems
    assert [problem.rule for problem in problems] == ["R042"]


def test_a_grandchild_or_an_override_can_decide_too() -> None:
    Path("other.yaml").write_text("train: {epochs: 6}\n")
    Path("torn.yaml").write_text("extends: [base.yaml, other.yaml]\n")
    assert child("extends: torn.yaml\ntrain: {epochs: 9}\n").train.epochs == 9
    assert child("extends: torn.yaml\n", "train.epochs=8").train.epochs == 8


def test_an_override_within_what_bases_disagree_on_decides_nothing_else() -> None:
    Path("other.yaml").write_text("optimizer: {type: AdamW, lr: 1}\ndata: {augment: [VerticalFlip]}\n")
    torn = "extends: [base.yaml, other.yaml]\n"
    within = ["optimizer.lr=0.01", "data.augment.0.p=0.1"]
    found = loading(torn, *within).problems
    assert sorted(problem.path for problem in found if problem.rule == "R042") == ["data.augment", "optimizer"]
    decided = child(torn, "optimizer.type=SGD", "optimizer.lr=0.01", "data.augment=[]")
    assert decided.optimizer.arguments == {"lr": 0.01, "momentum": 0.9, "nesterov": True}
    later = child(torn, "optimizer.lr=0.01", "optimizer.type=AdamW", "data.augment=[]")
    assert later.optimizer.arguments == {"lr": 0.01}


def test_of_three_bases_that_disagree_none_is_forgotten() -> None:
    Path("two.yaml").write_text("optimizer: {type: AdamW, lr: 1}\n")
    Path("three.yaml").write_text("optimizer: {type: Adam, lr: 2, betas: [0.5, 0.9]}\n")
    torn = "extends: [base.yaml, two.yaml, three.yaml]\n"
    (problem,) = [each for each in loading(torn).problems if each.rule == "R042"]
    assert problem.text.startswith("three bases set 'optimizer' differently: ")
    assert "base.yaml:" in problem.text
    assert "two.yaml:" in problem.text
    decided = child(f"{torn}optimizer: {{type: Adam, lr: 0.01}}\n")
    assert decided.optimizer.arguments == {"lr": 0.01, "betas": [0.5, 0.9]}


def test_bases_of_two_types_are_told_where_they_stand_whatever_lies_over_both() -> None:
    Path("one.yaml").write_text("optimizer: {type: SGD, lr: 1}\n")
    Path("two.yaml").write_text("optimizer:\n  type: Adam\n  lr: 2\n")
    found = loading("extends: [one.yaml, two.yaml]\noptimizer: {weight_decay: 0}\n").problems
    (problem,) = [each for each in found if each.rule == "R042"]
    assert str(problem).startswith(
        "two.yaml:2:3: two bases set 'optimizer' differently: Adam here and SGD in one.yaml:1:12"
    )


def test_a_name_laid_over_a_component_within_another_keeps_its_arguments_or_says_what_fell_away() -> None:
    text = "extends: base.yaml\ndata: {augment: [{type: OneOf, transforms: [{type: Blur, p: 0.1}, GaussNoise]}]}\n"
    inner = "data.augment.0.transforms.0"
    assert child(text, f"{inner}=Blur").data.augment[0].arguments["transforms"][0].arguments == {"p": 0.1}
    (note,) = [note for note in loading(text, f"{inner}=MedianBlur").notes if "fell away" in note]
    assert note.startswith(f"{inner}: MedianBlur replaces Blur; fell away: p (child.yaml:2:")


def test_a_base_that_says_the_same_in_another_form_is_no_further_side() -> None:
    for name, loss in (("two", "{type: MultiMarginLoss}"), ("three", "CrossEntropyLoss"), ("four", "MultiMarginLoss")):
        Path(f"{name}.yaml").write_text(f"loss: {loss}\n")
    found = loading("extends: [base.yaml, two.yaml, three.yaml, four.yaml]\n").problems
    (problem,) = [each for each in found if each.rule == "R042"]
    assert problem.text.startswith("two bases set 'loss' differently: ")


def test_a_file_reached_twice_is_one_base() -> None:
    for name in ("left", "right"):
        Path(f"{name}.yaml").write_text("extends: base.yaml\n")
    assert child("extends: [left.yaml, right.yaml]\n").train.epochs == 5


def test_a_base_with_a_mistake_is_reported_there() -> None:
    Path("wrong.yaml").write_text(BASE.replace("momentum", "momentun"))
    problem = loading("extends: wrong.yaml\nseed: 2\n").problems[0]
    assert str(problem).startswith("wrong.yaml:5:33: optimizer SGD takes no argument 'momentun'")
    assert problem.source_line.startswith("optimizer:")


# ------------------------------------------------------------------------------------------------------------ overrides
@pytest.mark.parametrize(
    ("argument", "path", "value"),
    [
        ("optimizer.lr=0.05", ("optimizer", "lr"), 0.05),
        ("data.augment.0.p=0.3", ("data", "augment", 0, "p"), 0.3),
        ("data.augment.1.blur_limit=[3, 5]", ("data", "augment", 1), {"type": "Blur", "blur_limit": [3, 5]}),
        ("data.augment=[]", ("data", "augment"), []),
        ("data.augment.0=null", ("data", "augment"), ["Blur"]),
        ("loss.label_smoothing=0.1", ("loss",), {"type": "CrossEntropyLoss", "label_smoothing": 0.1}),
        ("callbacks.0.images=false", ("callbacks",), [{"type": "TensorBoard", "images": False}]),
        ("train.best.mode=min", ("train", "best"), {"mode": "min"}),
        ("name=a=b", ("name",), "a=b"),
        ("description=''", ("description",), ""),
        ('description="exp #3"', ("description",), "exp #3"),
        ("description=exp#3", ("description",), "exp#3"),
        ("description=first\n  second", ("description",), "first second"),
        ("description=!!str 5", ("description",), "5"),
        ("scheduler=null", ("scheduler",), KeyError),
        ("optimizer={type: SGD, lr: 1}", ("optimizer",), {"type": "SGD", "lr": 1, "momentum": 0.9, "nesterov": True}),
        ("x-note.a=1", ("x-note", "a"), 1),
    ],
)
def test_an_override_sets_one_place(argument: str, path: tuple[Any, ...], value: Any) -> None:
    found: Any = composed("extends: base.yaml\n", argument)
    if value is KeyError:
        assert path[-1] not in found
        return
    for key in path:
        found = found[key]
    assert found == value


def test_later_overrides_win() -> None:
    assert child("extends: base.yaml\n", "train.epochs=6", "train.epochs=7").train.epochs == 7


def test_an_override_of_a_type_drops_the_arguments_and_says_so() -> None:
    loaded = loading("extends: base.yaml\n", "optimizer={type: AdamW, lr: 1e-3}")
    assert loaded.recipe is not None
    assert loaded.recipe.optimizer.arguments == {"lr": 1e-3}
    assert loaded.notes[0].startswith("optimizer: AdamW replaces SGD; fell away: momentum")
    alone = loading("extends: base.yaml\n", "optimizer.type=AdamW", "optimizer.lr=1e-3")
    assert alone.recipe is not None
    assert alone.recipe.optimizer.arguments == {"lr": 1e-3}, "however it is spelled"
    assert alone.notes[0].startswith("optimizer: AdamW replaces SGD; fell away: lr")
    for order in (("optimizer.lr=0.01", "optimizer.type=AdamW"), ("optimizer.type=AdamW", "optimizer.lr=0.01")):
        typed = child("extends: base.yaml\n", "optimizer.weight_decay=0.001", *order).optimizer.arguments
        assert typed == {"weight_decay": 0.001, "lr": 0.01}, "what the command line gives is meant for the new type"
    nested = "extends: base.yaml\ndata: {augment: [{type: OneOf, transforms: [{type: HorizontalFlip, p: 0.9}]}]}\n"
    inner = child(nested, "data.augment.0.transforms.0.type=VerticalFlip").data.augment[0].arguments["transforms"]
    assert [(spec.type, spec.arguments) for spec in inner] == [("VerticalFlip", {})]
    by_name = "extends: base.yaml\nx-o: SGD\noptimizer: {type: $x-o}\n"
    assert child(by_name, "optimizer.type=SGD").optimizer.arguments == {"lr": 0.1, "momentum": 0.9, "nesterov": True}
    same = child("extends: base.yaml\n", "optimizer.type=SGD")
    assert same.optimizer.arguments == {"lr": 0.1, "momentum": 0.9, "nesterov": True}


def test_places_in_a_list_are_those_of_the_list_before_the_overrides() -> None:
    three = "extends: base.yaml\ndata: {augment: [HorizontalFlip, VerticalFlip, Transpose]}\n"
    first_two = child(three, "data.augment.0=null", "data.augment.1=null").data.augment
    assert [spec.type for spec in first_two] == ["Transpose"]
    changed = child(three, "data.augment.0=null", "data.augment.1.p=0.3").data.augment
    assert [(spec.type, spec.arguments) for spec in changed] == [("VerticalFlip", {"p": 0.3}), ("Transpose", {})]
    (problem,) = loading(three, "data.augment.0=null", "data.augment.0.p=0.3").problems
    assert str(problem).startswith("command line:2:14: 'data.augment.0' is taken away by an earlier override")


def test_an_override_reaches_into_names_within_components_and_lists_behind_references() -> None:
    nested = "scheduler: {type: SequentialLR, milestones: [2], schedulers: [{type: ConstantLR}, CosineAnnealingLR]}\n"
    recipe = child(f"extends: base.yaml\n{nested}", "scheduler.schedulers.1.eta_min=1e-4")
    assert recipe.scheduler is not None
    assert recipe.scheduler.arguments["schedulers"][1].arguments == {"eta_min": 1e-4}
    behind = "extends: base.yaml\nx-aug: [HorizontalFlip, {type: Rotate, limit: 5}]\ndata: {augment: $x-aug}\n"
    changed = child(behind, "data.augment.1.limit=7", "data.augment.0=null").data.augment
    assert [(spec.type, spec.arguments) for spec in changed] == [("Rotate", {"limit": 7})]


def test_each_overrides_problem_points_into_its_own_argument() -> None:
    problems = loading("extends: base.yaml\n", "train.epochs=5", "optimizer.lr=fast", "train.epcohs=3").problems
    assert [str(problem.origin) for problem in problems] == ["command line:2:14", "command line:3:7"]
    assert [problem.source_line for problem in problems] == ["optimizer.lr=fast", "train.epcohs=3"]


def test_an_override_cannot_add_to_a_list() -> None:
    assert [problem.rule for problem in loading("extends: base.yaml\n", "data.augment.2=Blur").problems] == ["R044"]


# ----------------------------------------------------------------------------------------------------------- references
def test_a_reference_takes_the_value_it_names() -> None:
    recipe = child("extends: base.yaml\ndata: {eval_batch_size: $data.batch_size}\nx-p: 0.25\nseed: $train.epochs\n")
    assert (recipe.data.eval_batch_size, recipe.seed) == (64, 5)
    recipe = child("extends: base.yaml\nx-p: {q: 0.25}\nmodel: {dropout: $x-p.q}\n")
    assert recipe.model.arguments["dropout"] == 0.25


def test_a_reference_may_name_a_default_or_an_item_of_a_list_or_a_whole_list() -> None:
    assert child("extends: base.yaml\ntrain: {log_every: $data.eval_batch_size}\n").train.log_every == 512
    recipe = child("extends: base.yaml\ndata: {eval: [$data.augment.1]}\n")
    assert [spec.type for spec in recipe.data.eval] == ["Blur"]
    assert len(child("extends: base.yaml\ndata: {preprocess: $data.augment}\n").data.preprocess) == 2


NET = "extends: base.yaml\nx-net: {type: SmallCNN, dropout: 0.1, width: 16}\nmodel: $x-net\n"


def test_what_is_laid_over_a_reference_lies_over_what_it_names(tmp_path: Path) -> None:
    assert child(NET).model.arguments == {"dropout": 0.1, "width": 16}
    assert child(NET, "model.dropout=0.2").model.arguments == {"dropout": 0.2, "width": 16}
    assert child(NET, "model.dropout=0.2", "model.dropout=null").model.arguments == {"width": 16}
    assert child(NET, "model.dropout=0.2", "x-net.width=8").model.arguments == {"dropout": 0.2, "width": 8}
    (tmp_path / "base.yaml").write_text(BASE.replace("model: {type: SmallCNN, dropout: 0.3}", NET.partition("\n")[2]))
    assert child("extends: base.yaml\nname: own\nmodel: {dropout: 0.2}\n").model.arguments == {
        "dropout": 0.2,
        "width": 16,
    }
    recipe = child("extends: base.yaml\nname: own\nmodel: {dropout: 0.2}\nx-net: {width: 8}\n")
    assert recipe.model.arguments == {"dropout": 0.2, "width": 8}


@pytest.mark.parametrize("index", ["²", "9" * 5000, "-1", "2", "0000000000001"])
def test_a_place_that_is_none_leads_nowhere(index: str) -> None:
    (problem,) = loading("extends: base.yaml\nx-a: [1, 2]\n", f"data.limit=$x-a.{index}").problems
    assert problem.rule in ("R030", "R031")


@pytest.mark.parametrize(
    "schedule",
    [
        "scheduler: {type: CosineAnnealingLR, T_max: $train.epochs}",
        "x-n: $train.epochs\nscheduler: {type: CosineAnnealingLR, T_max: $x-n}",
        "x-s: {type: CosineAnnealingLR, T_max: $train.epochs}\nscheduler: $x-s",
        "x-n: $train.epochs\nx-s: {type: CosineAnnealingLR, T_max: $x-n}\nscheduler: $x-s\ntrain: {log_every: $x-n}",
    ],
)
def test_a_schedule_planned_on_the_epochs_says_so_through_whatever_references(schedule: str) -> None:
    recipe = child(f"extends: base.yaml\n{schedule}\n")
    assert recipe.scheduler is not None
    assert recipe.scheduler.arguments["T_max"] == Reference("run.epochs")
    assert recipe.train.log_every in (5, 50)


def test_a_section_that_is_a_reference_takes_what_is_laid_over_it() -> None:
    text = BASE.replace("data: {", "x-data: {") + "data: $x-data\n"
    assert child(text, "data.batch_size=32").data.batch_size == 32
    assert child(text, "data.batch_size=32").data.dataset.type == "Shapes"


def test_another_type_laid_over_a_reference_replaces_what_it_names_and_says_what_fell_away() -> None:
    loaded = loading(NET, "model={type: cifar_resnet18, dropout: 0.2}")
    assert loaded.recipe is not None
    assert (loaded.recipe.model.type, loaded.recipe.model.arguments) == ("cifar_resnet18", {"dropout": 0.2})
    (note,) = [note for note in loaded.notes if "fell away" in note]
    assert note.startswith("model: cifar_resnet18 replaces SmallCNN; fell away: width (child.yaml:2:")


def test_a_bare_name_that_is_referred_to_takes_arguments_laid_over_it() -> None:
    recipe = child("extends: base.yaml\nx-net: cifar_resnet18\nmodel: $x-net\n", "model.dropout=0.2")
    assert (recipe.model.type, recipe.model.arguments) == ("cifar_resnet18", {"dropout": 0.2})


def test_a_reference_leads_through_references_and_into_bare_names() -> None:
    assert child(NET + "x-p: $model.dropout\nscheduler: {gamma: $x-p}\n").scheduler.arguments["gamma"] == 0.1
    assert child(NET + "scheduler: {gamma: $model.dropout}\n", "model.dropout=0.2").scheduler.arguments["gamma"] == 0.2
    assert (
        child("extends: base.yaml\nmodel: cifar_resnet18\ndescription: $model.type\n").description == "cifar_resnet18"
    )
    text = "extends: base.yaml\nx-net: {type: SmallCNN, dropout: 0.1, width: 16, depth: $model.width}\nmodel: $x-net\n"
    assert [problem.rule for problem in loading(text).problems] == ["R021"]  # no circle: depth is no argument


def test_bases_that_lay_different_things_over_a_reference_disagree(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE.replace("model: {type: SmallCNN, dropout: 0.3}", NET.partition("\n")[2]))
    (tmp_path / "one.yaml").write_text("extends: base.yaml\nname: one\nmodel: {dropout: 0.2}\n")
    (tmp_path / "other.yaml").write_text("extends: base.yaml\nname: other\nmodel: {width: 8}\n")
    assert child("extends: [one.yaml, other.yaml]\nname: both\n").model.arguments == {"dropout": 0.2, "width": 8}
    (tmp_path / "other.yaml").write_text("extends: base.yaml\nname: other\nmodel: {dropout: 0.4}\n")
    both = "extends: [one.yaml, other.yaml]\nname: both\n"
    assert [problem.rule for problem in loading(both).problems] == ["R042"]
    assert child(both, "model.dropout=0.5").model.arguments == {"dropout": 0.5, "width": 16}
    (tmp_path / "other.yaml").write_text("extends: base.yaml\nname: other\nx-more: SmallCNN\nmodel: $x-more\n")
    assert [problem.rule for problem in loading(both).problems] == ["R042"]


def test_references_in_a_chain_are_followed() -> None:
    recipe = child("extends: base.yaml\nseed: $x-a\nx-a: $x-b\nx-b: $train.epochs\n")
    assert recipe.seed == 5


def test_a_doubled_dollar_sign_is_one() -> None:
    assert child("extends: base.yaml\ndescription: $$HOME and more\n").description == "$HOME and more"


def test_run_time_values_stay_references() -> None:
    recipe = child("extends: base.yaml\ndata: {preprocess: [{type: Normalize, mean: $data.mean, std: $data.std}]}\n")
    assert recipe.data.preprocess[0].arguments == {"mean": Reference("data.mean"), "std": Reference("data.std")}


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("seed: $train", ["R016"]),
        ("x-a: $x-a\nseed: $x-a", ["R032"]),
        ("seed: $x-a.b\nx-a: {b: $x-a}", ["R032"]),
        ("x-net: {type: SmallCNN, dropout: $model.dropout}\nmodel: $x-net", ["R032"]),
        ("seed: $x-a.b.c\nx-a: {b: $x-a.b}", ["R031"]),
        ("seed: $x-a.b\nx-a: $x-b\nx-b: $x-a", ["R031"]),
        ("seed: $x-0.b\n" + "\n".join(f"x-{i}: $x-{i + 1}" for i in range(2000)), ["R031"]),
        ("train: {epochs: $train}", ["R032"]),
        ("seed: $", ["R030"]),
        ("seed: $ seed", ["R030"]),
        ("seed: $data.augment.9", ["R031"]),
        ("seed: $run.epoch", ["R030"]),
        ("seed: $lr_finder.rl", ["R030"]),
    ],
)
def test_a_reference_that_cannot_be_is_refused(text: str, rules: list[str]) -> None:
    assert [problem.rule for problem in loading(f"extends: base.yaml\n{text}\n").problems] == rules


def test_bind_replaces_references_wherever_they_stand() -> None:
    from trainer.recipe.reading.references import bind

    text = "lr_finder: {}\nextends: base.yaml\noptimizer: {lr: $lr_finder.lr}\n"
    recipe = child(text)
    facts: Mapping[str, object] = {"lr_finder.lr": 0.25}
    assert bind(recipe.optimizer, facts).arguments["lr"] == 0.25
    assert bind(recipe, facts).optimizer.arguments["lr"] == 0.25
    assert bind({"a": [Reference("data.mean"), 1]}, facts) == {"a": [Reference("data.mean"), 1]}


def test_a_tilde_is_the_home_folder_wherever_a_path_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path("home").absolute()
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    Path("home/ops.py").write_text("")
    Path("home/base.yaml").write_text(
        "version: 1\nname: base\ndata: {dataset: {type: ImageFolder, root: ~/photos}}\nmodel: SmallCNN\n"
        "optimizer: {type: SGD, lr: 0.1}\ntrain: {epochs: 1, start_from: ~/a.pt}\nplugins: [~/ops.py]\n"
    )
    Path("recipe.yaml").write_text("extends: ~/base.yaml\nname: own\n")
    loaded = load_recipe("recipe.yaml")
    assert loaded.recipe is not None, loaded.problems
    assert loaded.recipe.data.dataset.arguments["root"] == f"{home}/photos"
    assert loaded.recipe.train.start_from == f"{home}/a.pt"
    assert loaded.recipe.plugins == (str(home / "ops.py"),)
    changed = load_recipe("recipe.yaml", ["data.dataset.root=~/other", "train.start_from=null"]).recipe
    assert changed is not None
    assert changed.data.dataset.arguments["root"] == f"{home}/other"
