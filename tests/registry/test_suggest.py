"""A suggestion is made where a word is close enough, and not where it is another word."""

import pytest

from registry.catalogue.suggest import nearest

SECTIONS = (
    *("version", "name", "description", "seed", "seeds", "extends", "plugins", "data", "model", "loss"),
    *("regularizers", "optimizer", "scheduler", "lr_finder", "train", "callbacks", "report", "expect"),
)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("trian", ["train"]),
        ("daat", ["data"]),
        ("nam", ["name"]),
        ("models", ["model"]),
        ("modle", ["model"]),
        ("optimiser", ["optimizer"]),
        ("shedular", ["scheduler"]),
        ("LR-Finder", ["lr_finder"]),
        ("expekt", ["expect"]),
        ("expects", ["expect"]),
        ("training", ["train"]),
        ("sed", ["seed"]),
        ("trqzain", ["train"]),
    ],
)
def test_a_slip_of_the_hand_is_answered_with_the_word_that_was_meant(word, meant):
    assert nearest(word, SECTIONS) == meant


@pytest.mark.parametrize(
    "word",
    ["sweep", "logs", "steps", "export", "class", "loads", "frame", "vision", "date", "tests", "tune", "host", "head"],
)
def test_another_word_is_answered_with_none(word):
    assert nearest(word, SECTIONS) == []


@pytest.mark.parametrize(
    ("word", "choices"),
    [("Shift", ["swin_t"]), ("LeNet", ["alexnet"]), ("F1", ["L1", "L2"]), ("test", ["best"]), ("MSE", ["MAE"])],
)
def test_a_name_of_something_else_is_answered_with_none(word, choices):
    assert nearest(word, choices) == []
