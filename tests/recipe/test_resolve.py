"""resolved.yaml, show, diff and the flat values: what they say, and that it reads back to the same recipe."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from trainer.recipe.load import Loaded, load_recipe
from trainer.recipe.problems import render
from trainer.recipe.recipe import Recipe, Reference, Spec
from trainer.recipe.resolve import diff_text, flat, resolved_yaml, show_text

RECIPES = sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml"))
RICH = """\
version: 1
name: rich
description: "$$5 a run: # not a comment"
x-note: {anything: goes}
data:
  dataset: {type: Shapes, train_size: 92}
  val: {fraction: 0.25, seed: 3}
  augment:
    - {type: OneOf, transforms: [{type: Blur, blur_limit: [3, 3]}, GaussNoise], p: 0.5}
    - {type: SomeOf, transforms: [HorizontalFlip], n: 1}
  preprocess: [{type: Normalize, mean: $data.mean, std: $data.std}]
model: {type: SmallCNN, dropout: 0.3}
loss: {type: CrossEntropyLoss, weight: balanced, label_smoothing: 0.1}
regularizers: [{type: L1, strength: 1e-5, as: light}, {type: L1, strength: 1e-3, include: ["@norm", "**.weight"]}]
optimizer:
  type: SGD
  lr: $lr_finder.lr
  momentum: 0.9
  groups: [{match: ["@bias"], lr_scale: 2, weight_decay: 0}, {match: [head]}]
scheduler:
  type: SequentialLR
  schedulers: [{type: LinearLR, total_iters: 2}, {type: OneCycleLR, max_lr: $lr_finder.lr}]
  milestones: [2]
  step: {each: step}
lr_finder: {end: 2, steps: 30}
train: {epochs: 3, ema: {decay: 0.9}, mix: {type: MixUp, alpha: 0.2}, freeze: ["**.bias"], checkpoint: {keep: 2}}
callbacks: [TensorBoard, {type: EarlyStopping, patience: 3}]
report: [Curves]
expect: {"best val/accuracy": ">= 0.5", "lr drop 1 epoch": "1..3"}
"""


@pytest.fixture(autouse=True)
def _inside_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def loading(text: str, name: str = "recipe.yaml", *overrides: str) -> Loaded:
    Path(name).write_text(text, encoding="utf-8")
    loaded = load_recipe(name, overrides)
    assert loaded.recipe is not None, render(loaded.problems)
    return loaded


def recipe_of(text: str, name: str = "recipe.yaml") -> Recipe:
    recipe = loading(text, name).recipe
    assert recipe is not None
    return recipe


def without_places(value: Any) -> Any:
    """Return a recipe's values alone: no origins, no text."""
    if isinstance(value, Spec):
        return (value.slot, value.type, value.name, without_places(value.arguments), without_places(value.knobs))
    if isinstance(value, dict):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_places(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hidden = ("origin", "origins", "text", "file", "overrides", "fast")
        names = [field.name for field in dataclasses.fields(value) if field.name not in hidden]
        return {name: without_places(getattr(value, name)) for name in names}
    return value


@pytest.mark.parametrize("path", RECIPES, ids=[path.name for path in RECIPES])
def test_a_shipped_recipe_reads_back_from_its_resolved_form(path: Path) -> None:
    recipe = load_recipe(path).recipe
    assert recipe is not None
    again = recipe_of(resolved_yaml(recipe), "resolved.yaml")
    assert without_places(again) == without_places(recipe)


def test_everything_reads_back_from_the_resolved_form() -> None:
    recipe = recipe_of(RICH)
    again = recipe_of(resolved_yaml(recipe), "resolved.yaml")
    assert without_places(again) == without_places(recipe)
    assert recipe.description == "$5 a run: # not a comment"


def test_resolving_what_is_resolved_changes_nothing_but_marks() -> None:
    once = resolved_yaml(recipe_of(RICH))
    twice = resolved_yaml(recipe_of(once, "resolved.yaml"))
    values = [[line.split("  # ")[0].rstrip() for line in text.splitlines()] for text in (once, twice)]
    assert values[0] == values[1]


def test_a_found_learning_rate_is_written_wherever_it_was_used_and_the_finder_goes() -> None:
    text = resolved_yaml(recipe_of(RICH), lr=0.0123)
    assert "  lr: 0.0123" in text
    assert "# $lr_finder.lr, found" in text
    assert "max_lr: 0.0123" in text
    assert "# lr_finder: it found 0.0123, now written where it was used" in text
    again = recipe_of(text, "resolved.yaml")
    assert again.lr_finder is None
    assert again.optimizer.arguments["lr"] == 0.0123


def test_a_rate_for_every_group_comes_back_and_its_finder_goes() -> None:
    lists = "{type: OneCycleLR, max_lr: [$lr_finder.lr, 0.01, 0.02], cycle_momentum: false}}"
    text = re.sub(r"(?s)scheduler:\n.*?(?=lr_finder:)", f"scheduler: {lists[:-1]}\n", RICH).replace("lr_scale: 2, ", "")
    again = recipe_of(resolved_yaml(recipe_of(text.replace("lr: $lr_finder.lr", "lr: 0.1")), lr=0.5), "resolved.yaml")
    assert again.scheduler is not None
    assert again.scheduler.arguments["max_lr"] == [0.5, 0.01, 0.02]
    assert again.lr_finder is None


def test_a_finder_that_only_reports_stays() -> None:
    recipe = recipe_of(RICH.replace("lr: $lr_finder.lr", "lr: 0.1").replace("$lr_finder.lr", "0.5"))
    assert "\nlr_finder:\n" in resolved_yaml(recipe, lr=0.0123)


def test_defaults_and_supplied_values_are_marked() -> None:
    facts = {"data.num_classes": 10, "data.mean": [0.123456, 0.5, 0.5], "run.total_steps": 99}
    lines = resolved_yaml(recipe_of(RICH), facts=facts).splitlines()
    marked = {" ".join(line.split()) for line in lines}
    assert "eval_batch_size: 512 # default" in marked
    assert "# num_classes: 10 # supplied" in marked
    assert "# total_steps: the steps it takes in the whole run # supplied" in marked, "by its `step`, warm-up and place"
    assert "mean: $data.mean # = [0.12346, 0.5, 0.5]" in marked
    assert "# dampening: 0 # default" in marked
    assert "seed: 3" in marked  # of data.val, written


def test_show_prints_where_every_leaf_was_written() -> None:
    shown = show_text(loading(RICH, "recipe.yaml", "train.epochs=4"), origin=True)
    rows = {" ".join(line.split()) for line in shown.splitlines()}
    assert "optimizer.momentum: 0.9 # recipe.yaml:18" in rows
    assert "train.epochs: 4 # command line:1" in rows
    assert "train.log_every: 50 # default" in rows
    assert "loss.type: CrossEntropyLoss # recipe.yaml:13" in rows


def test_show_begins_with_what_fell_away() -> None:
    Path("base.yaml").write_text(RICH)
    text = "extends: base.yaml\nscheduler: {type: StepLR, step_size: 1}\n"
    shown = show_text(loading(text, "child.yaml"))
    assert shown.startswith("# scheduler: StepLR replaces SequentialLR; fell away: schedulers (base.yaml:22:15)")


def test_a_difference_is_one_line_per_value() -> None:
    first = recipe_of(RICH)
    second = recipe_of(RICH.replace("momentum: 0.9", "momentum: 0.8").replace("report: [Curves]", "report: []"))
    assert diff_text(first, second).splitlines() == [
        "optimizer.momentum: 0.9 -> 0.8",
        "report.0.type: Curves -> (not set)",
        "report: (not set) -> []",
    ]
    assert diff_text(first, first) == ""


def test_flat_values_are_plain_and_named_by_their_paths() -> None:
    values = flat(recipe_of(RICH))
    assert values["optimizer.lr"] == "$lr_finder.lr"
    assert values["description"] == "$$5 a run: # not a comment"
    assert values["regularizers.0.as"] == "light"
    assert values["optimizer.groups.0.match"] == ["@bias"]
    assert values["expect.best val/accuracy"] == ">= 0.5"
    assert values["train.best.metric"] == "val/accuracy"
    plain = (bool, int, float, str, list, type(None))
    assert all(isinstance(value, plain) for value in values.values())


def test_what_nobody_reads_is_no_mistake_at_its_default() -> None:
    """Runs of earlier versions have it in their resolved.yaml, and say nothing by it."""
    text = RICH.replace("momentum: 0.9", "momentum: 0\n  dampening: 0\n  maximize: false").replace(
        "{type: SomeOf, transforms: [HorizontalFlip], n: 1}", "{type: Rotate, rotate_method: largest_box}"
    )
    assert recipe_of(text).optimizer.arguments["maximize"] is False
    cyclic = re.sub(r"(?s)scheduler:\n.*?(?=lr_finder:)", "scheduler: {type: OneCycleLR, max_lr: 0.1}\n", text)
    assert recipe_of(cyclic.replace("dampening: 0", "dampening: 0.5")), "the cycle sets the momentum"


def test_a_later_phase_with_a_rate_for_every_group_leaves_the_first_theirs() -> None:
    phases = "[{type: CosineAnnealingLR, T_max: 5}, {type: CyclicLR, max_lr: [0.1, 0.2, 0.3], base_lr: 0.01}]"
    scheduler = f"scheduler: {{type: SequentialLR, schedulers: {phases}, milestones: [2]}}\n"
    assert recipe_of(re.sub(r"(?s)scheduler:\n.*?(?=lr_finder:)", scheduler, RICH)).scheduler is not None


def test_several_seeds_take_the_place_of_one() -> None:
    recipe = recipe_of(RICH + "seeds: [1, 2]\n")
    text = resolved_yaml(recipe)
    assert "\nseeds: [1, 2]" in text
    assert "\nseed:" not in text
    assert recipe_of(text, "resolved.yaml").seeds == (1, 2)


def test_a_group_with_a_rate_of_its_own_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "version: 1\ndata: {dataset: Shapes}\nmodel: SmallCNN\ntrain: {epochs: 2}\nlr_finder: {}\n"
        "optimizer: {type: SGD, lr: $lr_finder.lr, groups: [{match: ['@head'], lr: 0.5}, "
        "{match: ['@bias'], lr: $lr_finder.lr}, {match: ['@norm'], weight_decay: 0}]}\n"
    )
    first = load_recipe(path)
    assert first.recipe is not None, render(first.problems)
    for lr in (None, 0.25):
        path.write_text(resolved_yaml(first.recipe, lr=lr))
        again = load_recipe(path)
        assert again.recipe is not None, render(again.problems)
        groups = again.recipe.optimizer.knobs["groups"]
        assert [(group.arguments.get("lr"), group.lr_scale) for group in groups] == [
            (0.5, 1.0),
            (Reference("lr_finder.lr") if lr is None else 0.25, 1.0),
            (None, 1.0),
        ]
