"""The pattern grammar, as a table of what fits and what does not."""

import contextlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.patterns import matches, plain_name


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("layer4", "layer4", True),
        ("layer4", "layer4.0", False),
        ("layer*", "layer4", True),
        ("layer*", "layer4.0.conv1", False),
        ("layer**", "layer4.0.conv1", True),
        ("layer2.*.conv2", "layer2.0.conv2", True),
        ("layer2.*.conv2", "layer2.0.extra.conv2", False),
        ("layer2.**.conv2", "layer2.0.extra.conv2", True),
        ("**.bias", "fc.bias", True),
        ("**.bias", "layer1.0.bn1.bias", True),
        ("**bias", "bias", True),
        ("*.bias", "layer1.0.bias", False),
        ("*", "", True),
        ("features.?", "features.7", True),
        ("features.?", "features.12", False),
        ("features?7", "features.7", False),
        ("features.[0-3]", "features.2", True),
        ("features.[0-3]", "features.4", False),
        ("features.[!0-3]", "features.4", True),
        ("features.[!0-3]", "features.2", False),
        ("features[!0-3]4", "features.4", False),
        ("a[", "a[", True),
        ("a.b", "axb", False),
        ("Layer4", "layer4", False),
        ("layer1", "module._orig_mod.layer1", True),
        ("*.*.weight", "_orig_mod.conv1.weight", False),
        ("[1--]", "-", True),
        ("[a&&b]", "&", True),
        ("[~~||]", "|", True),
        ("[!^]", "^", False),
        ("module", "module", True),  # a submodule of that name
        ("module.0.weight", "module.0.weight", True),
        ("0.weight", "module.0.weight", True),  # or what DistributedDataParallel adds
        ("modules.0", "modules.0", True),
    ],
)
def test_a_pattern_fits_the_names_it_should_and_no_others(pattern, name, fits):
    assert matches(pattern, name) is fits


def test_wrapper_prefixes_are_stripped_in_any_order():
    assert plain_name("_orig_mod.module.layer1.0") == "layer1.0"


def test_adjacent_stars_are_the_wider_of_them():
    assert matches("a" + "*" * 51 + "z", "a.b.z")
    assert not matches("a*z", "a.b.z")


@pytest.mark.parametrize("pattern", ["**a" * 25 + "b", "*?" * 400 + "b", "**.*" * 200 + "b"])
def test_the_work_for_a_pattern_of_many_stars_grows_with_its_length_alone(pattern):
    calls = 0

    def count(_frame, event, _argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    profiler = sys.getprofile()
    matches(pattern, "")  # taken apart
    sys.setprofile(count)
    try:
        fits = matches(pattern, "a.a" * 20)
    finally:
        sys.setprofile(profiler)
    assert not fits
    assert calls < 20 * len(pattern) * 60  # letters of the name


def test_a_pattern_of_more_than_a_thousand_characters_is_refused():
    assert matches("a" * 1000, "a" * 1000)
    with pytest.raises(
        ValueError, match=r"'aaaaaaaaaaaaaaaaaaaa\.\.\.' is no pattern: it has more than 1,000 characters"
    ):
        matches("a" * 1001, "a")


@given(st.text(alphabet="ab.[]^-\\!*?1", max_size=8), st.text(max_size=8))
def test_any_text_is_a_pattern_or_says_so_and_a_literal_fits_itself(pattern, name):
    with contextlib.suppress(ValueError):  # a range that runs backwards; nothing else may escape
        matches(pattern, name)
    if not set(pattern) & set("*?["):
        assert matches(pattern, pattern)


def test_a_range_that_runs_backwards_is_refused():
    with pytest.raises(ValueError, match=r"'layer\[3-1\]' is no pattern: "):
        matches("layer[3-1]", "layer2")
