"""Components written in any usual way: what carries the mark is built, with what its annotations say, or is refused."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import pytest

from registry.catalogue.catalog import Catalogue, catalogue
from registry.errors import RecipeError
from trainer.experiment.components import build
from trainer.recipe.recipe import Origin, Spec

_HEAD = """
import dataclasses, enum, functools, pathlib, typing
from torch import nn
from registry import Callback, component

class Colour(enum.Enum):
    RED = 1
    BLUE = 2

"""
_NUMBERS = itertools.count()


@pytest.fixture
def plugged(tmp_path: Path):
    """Write a plug-in of its own name, and return the catalogue with it."""

    def write(text: str, head: str = _HEAD) -> Catalogue:
        path = tmp_path / f"plug{next(_NUMBERS)}.py"
        path.write_text(head + text)
        return catalogue([path])

    return write


def made(known: Catalogue, slot: str, name: str, **arguments: Any) -> Any:
    spec = Spec(slot, name, name, arguments, "some.path", Origin("recipe.yaml", 1, 1))
    return build(spec, supplied={"num_classes": 3}, bind=lambda _: None, catalogue=known)


_LINEAR = """
def linear(num_classes: int, width: int = 4) -> nn.Module:
    return nn.Linear(width, num_classes)
"""


@pytest.mark.parametrize(
    "text",
    [
        """
def dropped(make):
    @functools.wraps(make)
    def inner(*arguments, **named):
        return nn.Sequential(make(*arguments, **named), nn.Dropout())
    return inner
component("model", "plain")(linear)
net = component("model", "net")(dropped(linear))
""",
        """
def dropped(make):
    def inner(num_classes: int) -> nn.Module:
        return nn.Sequential(make(num_classes), nn.Dropout())
    return inner
net = component("model", "net")(dropped(linear))
""",
        """
def of(layers):
    class Net(nn.Sequential):
        def __init__(self, num_classes: int) -> None:
            super().__init__(linear(num_classes), *layers)
    Net.__qualname__ = "Net"
    return Net
Net = component("model", "other")(of([]))
Net2 = component("model", "net")(of([nn.Dropout()]))
""",
    ],
    ids=["decorated with wraps", "decorated without", "of one qualified name"],
)
def test_the_object_that_carries_the_mark_is_built(plugged, text) -> None:
    net = made(plugged(_LINEAR + text), "model", "net")
    assert [type(layer).__name__ for layer in net] == ["Linear", "Dropout"]


@pytest.mark.parametrize(
    "text",
    [
        """
def logged(make):
    @functools.wraps(make)
    def inner(*arguments, **named):
        return make(*arguments, **named)
    return inner
@logged
@component("callback")
def above(size: int = 3) -> Callback:
    made = Callback()
    made.size = size
    return made
""",
        "@dataclasses.dataclass(slots=True)\n@component('callback')\nclass above(Callback):\n    size: int = 3\n",
    ],
)
def test_a_decorator_above_the_mark_keeps_it(plugged, text) -> None:
    assert made(plugged(text), "callback", "above", size=4).size == 4


def test_what_only_wraps_a_marked_function_is_no_component(plugged) -> None:
    known = plugged(
        f"{_LINEAR}component('model', 'net')(linear)\n@functools.wraps(linear)\ndef other(*a, **k): return None\n"
    )
    assert made(known, "model", "net").out_features == 3


def test_an_object_may_have_two_names(plugged) -> None:
    known = plugged(f"{_LINEAR}component('model', 'one')(linear)\ncomponent('model', 'two')(linear)\n")
    assert {"one", "two"} <= set(known.names("model"))


def test_a_package_named_by_its_first_file_brings_its_modules(tmp_path: Path) -> None:
    package = tmp_path / "nets"
    package.mkdir()
    (package / "__init__.py").write_text("from . import deep\n")
    (package / "deep.py").write_text(f"{_HEAD}{_LINEAR}component('model', 'deep')(linear)\n")
    assert made(catalogue([package / "__init__.py"]), "model", "deep").in_features == 4


def test_arguments_that_go_by_place_alone_are_given_so(plugged) -> None:
    known = plugged("""
@component("model")
def placed(num_classes: int, width: int = 4, /, *, bias: bool = True) -> nn.Module:
    return nn.Linear(width, num_classes, bias=bias)
""")
    assert made(known, "model", "placed").in_features == 4
    net = made(known, "model", "placed", width=7, bias=False)
    assert (net.in_features, net.out_features, net.bias) == (7, 3, None)


_TAKES = """
@dataclasses.dataclass
class Options:
    '''Options.'''
    folder: pathlib.Path = pathlib.Path("here")
    colour: Colour = Colour.BLUE
    much: float = float("inf")
    own: int = dataclasses.field(default=3, init=False)

@component("callback")
class Takes(Callback):
    def __init__(self, value: TYPE = None) -> None:
        self.value = value
"""


@pytest.mark.parametrize(
    ("annotation", "written", "arrives"),
    [
        ("pathlib.Path", "a/b", "pathlib.Path('a/b')"),
        ("pathlib.Path | None", "a/b", "pathlib.Path('a/b')"),
        ("list[pathlib.Path]", ["a"], "[pathlib.Path('a')]"),
        ("dict[Colour, float]", {"RED": 5.0}, "{Colour.RED: 5.0}"),
        ("set[str]", ["a", "b", "a"], "{'a', 'b'}"),
        ("frozenset[int]", [1, 1], "frozenset({1})"),
        ("set[Colour]", ["RED"], "{Colour.RED}"),
        ("Options", {"folder": "x", "colour": "RED"}, "Options(pathlib.Path('x'), Colour.RED)"),
        ("typing.Literal[False, 0, 1]", 0, "0"),
        ("typing.Literal[1, True]", True, "True"),
    ],
)
def test_a_value_arrives_as_its_annotation_says(plugged, annotation, written, arrives) -> None:
    known = plugged(_TAKES.replace("TYPE", annotation))
    built = made(known, "callback", "Takes", value=written)
    value, expected = built.value, eval(arrives, vars(sys.modules[type(built).__module__]))
    assert (type(value), value) == (type(expected), expected)


def test_the_members_of_a_literal_stay_apart(plugged) -> None:
    known = plugged(_TAKES.replace("TYPE", "typing.Literal[False, 0, 1, True]"))
    parameter = known.entry("callback", "Takes").parameter("value")
    assert parameter is not None
    assert [(type(one), one) for one in parameter.type["values"]] == [(bool, False), (int, 0), (int, 1), (bool, True)]


def test_a_dataclass_offers_what_its_constructor_takes_with_defaults_as_recipes_write_them(plugged) -> None:
    parameter = plugged(_TAKES.replace("TYPE", "Options")).entry("callback", "Takes").parameter("value")
    assert parameter is not None
    fields = parameter.type["fields"]
    assert {name: field["default"] for name, field in fields.items()} == {
        "folder": "here",
        "colour": "BLUE",
        "much": "inf",
    }


def test_a_dataclass_within_itself_leaves_the_rest_to_be_written(plugged) -> None:
    known = plugged("""
@dataclasses.dataclass
class Node:
    '''A node.'''
    size: int = 1
    kids: "list[Node]" = dataclasses.field(default_factory=list)

@component("callback")
class Grows(Callback):
    def __init__(self, node: Node | None = None) -> None:
        self.node = node
""")
    assert made(known, "callback", "Grows", node={"size": 4}).node.size == 4


@pytest.mark.parametrize(
    "body",
    [
        "class Own(Callback):\n    def change(self): ...\n    def measures(self): ...\n",
        "class Own(Callback):\n    measures = 3\n",
        "class Own(Callback):\n    def __init__(self, one: typing.Literal[Colour.RED, 'x'] = 'x') -> None: ...\n",
    ],
)
def test_attributes_of_ones_own_may_be_called_as_ours(plugged, body) -> None:
    assert made(plugged(f"@component('callback')\n{body}"), "callback", "Own") is not None


def test_a_dataclass_with_fields_from_another_module_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "halves"
    package.mkdir()
    (package / "__init__.py").write_text("from . import base, top\n")
    future = "from __future__ import annotations\nimport dataclasses\n"
    (package / "base.py").write_text(
        f"{future}import enum\nfrom registry import Callback\nclass Kind(enum.Enum):\n    ONE = 1\n    TWO = 2\n"
        "@dataclasses.dataclass\nclass Base(Callback):\n    kind: Kind = Kind.ONE\n"
    )
    (package / "top.py").write_text(
        f"{future}from registry import component\nfrom .base import Base\n"
        "@component('callback')\n@dataclasses.dataclass\nclass Top(Base):\n    size: int = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert made(catalogue(["halves"]), "callback", "Top", kind="TWO").kind.name == "TWO"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "from __future__ import annotations\nimport typing\nfrom registry import component\n"
            "if typing.TYPE_CHECKING:\n    from torch import nn\n"
            "@component('model')\ndef net(num_classes: int) -> nn.Module: ...\n",
            r"an annotation of .*\.net cannot be evaluated: name 'nn' is not defined",
        ),
        ("import sys\nsys.exit(3)\n", r"cannot be imported: SystemExit: 3 \(.*, line 2\)"),
        (
            f"{_HEAD}{_LINEAR}net = component('model', 'big')(functools.partial(linear, width=9))\n",
            "net is no model",
        ),
        (
            f"{_HEAD}@component('model')\ndef net(num_classes: int): ...\n",
            "net is no model",
        ),
    ],
)
def test_what_cannot_be_a_component_is_refused_by_name(plugged, text, said) -> None:
    with pytest.raises(RecipeError, match=said):
        plugged(text, head="")


def test_an_argument_called_as_the_engines_own_is_to_be_renamed(plugged) -> None:
    known = plugged("""
from torch.optim.lr_scheduler import LRScheduler
@component("scheduler")
class Warm(LRScheduler):
    def __init__(self, optimizer, warmup: int) -> None: ...
""")
    said = "its argument 'warmup' is called as what the engine does by scheduler.warmup: rename it"
    assert known.entry("scheduler", "Warm").refused == said
