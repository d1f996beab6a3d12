"""Hints for people who come from other libraries lead to what exists here."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.catalogue.catalog import Catalogue, catalogue
from registry.catalogue.slots import SLOTS
from trainer.recipe.checks.habits import ARGUMENTS, COMPONENTS, KEYS
from trainer.recipe.load import load_recipe
from trainer.recipe.sections import homes_of, recipe_type, step


@pytest.fixture(scope="module")
def known() -> Catalogue:
    return catalogue()


def test_every_component_that_is_suggested_exists_and_the_other_name_does_not(known: Catalogue) -> None:
    for slot, names in COMPONENTS.items():
        listed = known.names(slot)
        assert set(names.values()) <= set(listed)
        assert not set(names) & set(listed)


def test_every_argument_that_is_suggested_exists_somewhere(known: Catalogue) -> None:
    settable = {name for slot in SLOTS for one in known.names(slot) for name in known.entry(slot, one).settable()}
    assert set(ARGUMENTS.values()) <= settable


def test_every_key_that_is_suggested_exists(known: Catalogue) -> None:
    for path in KEYS.values():
        type_ = recipe_type()
        section, _, rest = path.partition(".")
        if section in ("optimizer", "loss"):
            components = {"optimizer": "SGD", "loss": "CrossEntropyLoss"}
            assert not rest or rest in known.entry(section, components[section]).settable()
            continue
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
    ],
)
def test_another_librarys_word_is_answered_with_ours(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text + "\n")
    assert any(str(problem).endswith(said) for problem in load_recipe(path).problems)
