"""The grammar: what an annotation becomes, what it refuses, how it says so."""

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

import pytest
import torch

from registry.catalogue.annotations import Constants, record
from registry.catalogue.grammar import assignable, component_at, from_annotation, mismatch, words
from registry.catalogue.json_schema import json_schema, value_schema
from registry.catalogue.markers import Bounds, Slot, Text
from registry.catalogue.suggest import distance, nearest


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass
class Part:
    """A part.

    Attributes:
        share: how much,
            in all.
        kind: which.
    """

    share: Annotated[float, Bounds(above=0, max=1)]
    kind: Literal["a", "b"] = "a"


NUMBER, INTEGER, TEXT, NULL = {"kind": "number"}, {"kind": "integer"}, {"kind": "text"}, {"kind": "null"}
SLOTS = {torch.optim.Optimizer: "optimizer"}


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (float, NUMBER),
        ("float", NUMBER),
        (Optional[int], {"kind": "union", "of": [INTEGER, NULL]}),  # noqa: UP045 - the older spelling counts too
        ("int | None", {"kind": "union", "of": [INTEGER, NULL]}),
        (Union[int, Union[str, int]], {"kind": "union", "of": [INTEGER, TEXT]}),  # noqa: UP007
        (Literal["min", "max"], {"kind": "one_of", "values": ["min", "max"]}),
        (tuple[int, float], {"kind": "tuple", "of": [INTEGER, NUMBER]}),
        (tuple[float, ...], {"kind": "list", "of": NUMBER, "tuple": True}),
        (Sequence[int], {"kind": "list", "of": INTEGER}),
        (Iterable["int"], {"kind": "list", "of": INTEGER}),
        (dict[str, int], {"kind": "mapping", "of": INTEGER}),
        (Mapping[Literal["up"], int], {"kind": "mapping", "of": INTEGER, "keys": ["up"]}),
        (Annotated[int, Bounds(min=1)], {"kind": "integer", "min": 1}),
        (Annotated[int | None, Bounds(min=1)], {"kind": "union", "of": [{"kind": "integer", "min": 1}, NULL]}),
        (Annotated[str, Text("pattern")], {"kind": "text", "syntax": "pattern"}),
        (Annotated[object, Slot("loss")], {"kind": "component", "slot": "loss"}),
        (Path, {"kind": "text", "syntax": "path", "class": "pathlib:Path"}),
        (set[int], {"kind": "list", "of": INTEGER, "set": "set"}),
        (torch.Tensor, {"kind": "tensor"}),
        (float | torch.Tensor, NUMBER),
        (torch.optim.SGD, {"kind": "component", "slot": "optimizer"}),
        (Callable[[int], float], {"kind": "opaque", "reason": "a function"}),
        (Callable[[int], float] | None, {"kind": "opaque", "reason": "a function"}),
        (int | Callable[[int], float], INTEGER),
        (Any, {"kind": "any"}),
        ("NoSuchName[int]", {"kind": "opaque", "reason": "its type NoSuchName[int] cannot be resolved"}),
    ],
)
def test_an_annotation_becomes_a_type(annotation: object, expected: dict) -> None:
    assert from_annotation(annotation, {}, SLOTS) == expected


def test_an_enum_is_written_by_member_names() -> None:
    made = from_annotation(Colour, {}, {})
    assert made["values"] == ["RED", "BLUE"]
    assert made["enum"].endswith(":Colour")


def test_constants_of_two_families_keep_their_own_names_although_their_values_repeat() -> None:
    cv2 = pytest.importorskip("cv2")
    names = {"cv2": Constants(cv2), "Literal": Literal}
    first = from_annotation("Literal[cv2.INTER_NEAREST, cv2.INTER_LINEAR]", names, {})
    second = from_annotation("Literal[cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE]", names, {})
    assert words(first) == "'nearest' or 'linear'"
    assert words(second) == "'constant' or 'replicate'"
    for written in ("replicate", "BORDER_REPLICATE", 1):
        assert mismatch(second, written) is None
    assert mismatch(second, "linear") is not None


def test_a_dataclass_becomes_a_record_with_its_texts() -> None:
    made = record(Part)
    assert made["fields"]["share"] == {
        "type": {"kind": "number", "above": 0, "max": 1},
        "required": True,
        "default": None,
        "doc": "how much, in all.",
    }
    assert made["fields"]["kind"]["default"] == "a"


class Spec:
    def __init__(self, slot: str) -> None:
        self.slot, self.type = slot, "X"


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (float, 1),
        (float, 0.5),
        (int, 3),
        (bool, True),
        (str, "x"),
        (tuple[int, int], [1, 2]),
        (tuple[float, ...], (1, 2.5)),
        (Sequence[str], []),
        (int | None, None),
        (dict[str, Any], {"a": [1, {"b": None}]}),
        (torch.Tensor, [[1, 2], [3, 4]]),
        (torch.optim.Optimizer, Spec("optimizer")),
        (Sequence[torch.optim.Optimizer], [Spec("optimizer")]),
        (Part, {"share": 0.5}),
        (Colour, "RED"),
        (float, object()),  # a reference is the caller's to type
    ],
)
def test_a_value_of_its_type_passes(annotation: object, value: object) -> None:
    assert mismatch(from_annotation(annotation, {}, SLOTS), value) is None


@pytest.mark.parametrize(
    ("annotation", "value", "path", "expected", "got", "kind"),
    [
        (float, True, (), "number", "true", "type"),
        (float, "3e-6", (), "number", "the text '3e-6'", "type"),
        (float, "fast", (), "number", "'fast'", "type"),
        (int, 2.0, (), "integer", "2.0", "type"),
        (int, None, (), "integer", "null", "type"),
        (float, float("nan"), (), "number", ".nan", "range"),
        (float, float("-inf"), (), "number", "-.inf", "range"),
        (bool, 1, (), "true or false", "1", "type"),
        (bool, "true", (), "true or false", "the text 'true'", "type"),
        (str, 3, (), "text", "3", "type"),
        (Annotated[float, Bounds(above=0)], 0, (), "number > 0", "0", "range"),
        (Annotated[float, Bounds(min=0, below=1)], 1, (), "number >= 0 and < 1", "1", "range"),
        (Annotated[float, Bounds(min=0, max=1)], 2, (), "number from 0 to 1", "2", "range"),
        (Annotated[int, Bounds(min=1)] | None, 0, (), "integer >= 1", "0", "range"),
        (Literal["min", "max"], "low", (), "'min' or 'max'", "'low'", "choice"),
        (Literal[1, 2], True, (), "1 or 2", "true", "choice"),
        (tuple[int, int], [1], (), "list of 2 integers", "[1]", "type"),
        (tuple[int, int], [1, "a"], (1,), "integer", "'a'", "type"),
        (tuple[int, str], 3, (), "list of (integer, text)", "3", "type"),
        (tuple[int, int] | int, [1, 2.5], (1,), "integer", "2.5", "type"),
        (tuple[float, float] | tuple[int, int], [1, "a"], (1,), "number", "'a'", "type"),
        (tuple[int, int] | int, "a", (), "list of 2 integers or integer", "'a'", "type"),
        (Sequence[float], {"a": 1}, (), "list of numbers", "a mapping", "type"),
        (Part, {"shair": 1}, ("shair",), "'share' or 'kind'", "'shair'", "key"),
        (Part, {"kind": "a"}, (), "a value for 'share'", "nothing", "missing"),
        (Part | None, {"share": 2}, ("share",), "number > 0 and <= 1", "2", "range"),
        (torch.Tensor, [1, "a"], (1,), "number", "'a'", "type"),
        (torch.Tensor, 1, (), "list of numbers", "1", "type"),
        (torch.optim.Optimizer, Spec("loss"), (), "an optimizer", "a loss", "type"),
        (float, Spec("loss"), (), "number", "a loss", "type"),
        (Callable[[], int], 1, (), "nothing a recipe can write (a function)", "1", "type"),
        (dict[str, int], {1: 2}, (1,), "text as a key", "1", "key"),
    ],
)
def test_a_value_of_another_type_is_refused_where_it_is_wrong(
    annotation: object, value: object, path: tuple, expected: str, got: str, kind: str
) -> None:
    made = from_annotation(annotation, {}, SLOTS)
    if made["kind"] in ("number", "integer") and "above" in made and "max" in made:
        expected = "number > 0 and <= 1"
    found = mismatch(made, value)
    assert found is not None
    assert (found.path, found.expected, found.got, found.kind) == (path, expected, got, kind)


def test_a_reference_is_refused_where_its_type_does_not_fit() -> None:
    colours = {"kind": "list", "of": NUMBER}
    found = mismatch(NUMBER, object(), references=lambda _: colours)
    assert found is not None
    assert found.got == "a reference to list of numbers"
    assert mismatch({"kind": "tuple", "of": [NUMBER] * 3}, object(), references=lambda _: colours) is None


@pytest.mark.parametrize(
    ("given", "wanted", "fits"),
    [
        (INTEGER, NUMBER, True),
        (NUMBER, INTEGER, False),
        (INTEGER, {"kind": "union", "of": [NULL, NUMBER]}, True),
        ({"kind": "union", "of": [NULL, NUMBER]}, NUMBER, False),
        ({"kind": "tuple", "of": [NUMBER, NUMBER]}, {"kind": "tuple", "of": [NUMBER]}, False),
        ({"kind": "tuple", "of": [INTEGER]}, {"kind": "list", "of": NUMBER}, True),
        ({"kind": "list", "of": NUMBER}, {"kind": "tensor"}, True),
        (TEXT, {"kind": "any"}, True),
    ],
)
def test_types_fit_by_kind(given: dict, wanted: dict, fits: bool) -> None:
    assert assignable(given, wanted) is fits


def test_the_slot_of_a_nested_component_is_known_by_its_place() -> None:
    nested = {"kind": "union", "of": [NULL, {"kind": "list", "of": {"kind": "component", "slot": "transform"}}]}
    assert component_at(nested, (3,)) == "transform"
    assert component_at(nested) is None
    assert component_at({"kind": "component", "slot": "loss"}) == "loss"


def test_a_schema_says_what_the_grammar_says() -> None:
    ref = {"$ref": "#/$defs/optimizer"}
    made = json_schema(from_annotation(Annotated[int, Bounds(min=1)] | None, {}, {}), lambda _: ref)
    assert made == {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}
    assert json_schema({"kind": "component", "slot": "optimizer"}, lambda _: ref) == ref
    assert value_schema(NUMBER, lambda _: ref) == {"anyOf": [{"type": "number"}, {"$ref": "#/$defs/reference"}]}


@pytest.mark.parametrize(
    ("left", "right", "slips"), [("", "abc", 3), ("SGDD", "SGD", 1), ("momentun", "momentum", 1), ("ab", "ba", 1)]
)
def test_a_distance_counts_slips(left: str, right: str, slips: int) -> None:
    assert distance(left, right) == distance(right, left) == slips


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("SGDD", ["SGD"]),
        ("trian", ["train"]),
        ("sgd", ["SGD"]),
        ("weight-decay", ["weight_decay"]),
        ("epocs", []),
        ("max_height", []),
        ("horizontal", ["HorizontalFlip"]),
        ("", []),
    ],
)
def test_a_mistyped_word_is_answered_with_the_nearest(word: str, meant: list[str]) -> None:
    choices = ["SGD", "ASGD", "train", "weight_decay", "pose", "plots", "hole_height_range", "HorizontalFlip"]
    assert nearest(word, choices) == meant
