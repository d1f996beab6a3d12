"""Hints for people who come from other libraries lead to what exists here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from registry.catalogue.catalog import Catalogue, catalogue
from registry.catalogue.slots import SLOTS
from trainer.recipe.checks.habits import ARGUMENTS, COMPONENTS, INSTEAD, KEYS
from trainer.recipe.load import load_recipe
from trainer.recipe.sections import homes_of, recipe_type, section_class, section_type, step


@pytest.fixture(scope="module")
def known() -> Catalogue:
    return catalogue()


def plain(names) -> set[str]:
    return {name.lower().replace("-", "").replace("_", "") for name in names}


def test_every_component_that_is_suggested_exists_and_the_other_name_does_not(known: Catalogue) -> None:
    for slot, names in COMPONENTS.items():
        listed = known.names(slot)
        assert set(names.values()) <= set(listed)
        assert not plain(names) & plain(listed)
    for slot, names in INSTEAD.items():
        assert not plain(names) & plain([*known.names(slot), *COMPONENTS.get(slot, {})])


def test_the_tables_know_what_people_type() -> None:
    assert len(plain(KEYS)) == len(KEYS) > 100
    assert sum(map(len, (*COMPONENTS.values(), *INSTEAD.values()))) > 100
    for slot, names in COMPONENTS.items():
        assert len(plain(names)) == len(names), slot


def test_every_argument_that_is_suggested_exists_somewhere(known: Catalogue) -> None:
    settable = {name for slot in SLOTS for one in known.names(slot) for name in known.entry(slot, one).settable()}
    assert set(ARGUMENTS.values()) <= settable


def named_keys() -> set[str]:
    """Keys of recipes that hints name, those within sentences too."""
    said = [*KEYS.values(), *(text for names in INSTEAD.values() for text in names.values())]
    paths = {text for text in said if " " not in text}
    sections = "|".join(recipe_type()["fields"])
    return paths | {path for text in said for path in re.findall(rf"\b(?:{sections})(?:\.\w+)+", text)}


@pytest.mark.parametrize("path", sorted(named_keys()))
def test_every_key_that_is_suggested_exists(known: Catalogue, path: str) -> None:
    components = {"optimizer": "SGD", "loss": "CrossEntropyLoss", "scheduler": "StepLR", "model": "resnet18"}
    section, _, rest = path.partition(".")
    if path == "data.dataset.root":
        assert known.entry("dataset", "ImageFolder").parameter("root") is not None
    elif section == "scheduler" and rest:
        assert {"warmup", *section_type(section_class("Warmup"))["fields"]} >= set(rest.split("."))
    elif section in components:
        settable = known.entry(section, components[section]).settable()
        assert not rest or rest in settable or known.entry("model", "cifar_resnet18").parameter(rest) is not None
    else:
        type_ = recipe_type()
        for key in path.split("."):
            found = step(type_, key)
            assert found is not None, path
            type_ = found


def test_a_key_that_belongs_elsewhere_here_is_not_called_foreign() -> None:
    assert homes_of("epochs") == ["train.epochs"]
    assert homes_of("monitor") == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("optimizer: {type: Adam, learning_rate: 1}", "takes no argument 'learning_rate' (here it is 'lr') [R021]"),
        ("loss: cross_entropy", "there is no loss 'cross_entropy' (here it is 'CrossEntropyLoss') [R020]"),
        ("data: {augment: [RandomErasing]}", "'RandomErasing' (here it is 'CoarseDropout') [R020]"),
        ("train: {amp: true}", "'train' has no key 'amp' (here it is train.precision) [R011]"),
        ("max_epochs: 3", "unknown section 'max_epochs' (here it is train.epochs) [R010]"),
        ("epochs: 3", "unknown section 'epochs' (it belongs to train.epochs) [R010]"),
        ("data: {augment: [Rotation]}", "there is no transform 'Rotation' (here it is 'Rotate') [R020]"),
        ("data: {augment: [random_flip]}", "there is no transform 'random_flip' (here it is 'HorizontalFlip') [R020]"),
        (
            "data: {augment: [ToTensor]}",
            "(nothing is needed: images become tensors by themselves, and data.preprocess makes the numbers) [R020]",
        ),
        (
            "data: {auto_augment: trivial}",
            "(name it in data.augment: TrivialAugmentWide, RandAugment, AutoAugment or AugMix) [R011]",
        ),
        (
            "data: {augment: [CutMix]}",
            "'CutMix' (it mixes images of a batch: say train.mix) [R020]",
        ),
        ("data: {root: pets}", "'data' has no key 'root' (here it is data.dataset.root) [R011]"),
        ("train: {warmup_epochs: 5}", "'train' has no key 'warmup_epochs' (here it is scheduler.warmup.epochs) [R011]"),
        ("warmup_epochs: 5", "unknown section 'warmup_epochs' (here it is scheduler.warmup.epochs) [R010]"),
        (
            "callbacks: [ModelCheckpoint]",
            "(the best and the last weights are always kept: train.best, train.checkpoint) [R020]",
        ),
        (
            "data: {imgsz: 64}",
            "by a Resize in data.eval, and one like it in data.augment) [R011]",
        ),
        ("optimizer: {type: SGD, lr0: 0.1}", "optimizer SGD takes no argument 'lr0' (here it is 'lr') [R021]"),
    ],
)
def test_another_librarys_word_is_answered_with_ours(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text + "\n")
    assert any(str(problem).endswith(said) for problem in load_recipe(path).problems)
