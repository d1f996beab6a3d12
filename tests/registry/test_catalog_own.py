"""Rules for our own components that walk the catalogue: typed, without `**kwargs`, and every argument is read."""

import ast
import inspect
import textwrap

import pytest

from registry.catalogue.catalog import catalogue
from registry.catalogue.slots import SLOTS

KNOWN = catalogue()
OWN = [(slot, name) for slot in SLOTS for name in KNOWN.names(slot) if KNOWN.entry(slot, name).own]


@pytest.mark.parametrize(("slot", "name"), OWN)
def test_every_argument_has_a_type_and_none_is_swept_up(slot: str, name: str) -> None:
    entry = KNOWN.entry(slot, name)
    shown = inspect.signature(entry.load()).parameters if entry.parameters else {}
    for parameter in shown.values():
        assert parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        assert parameter.annotation is not parameter.empty, parameter.name


@pytest.mark.parametrize(("slot", "name"), OWN)
def test_every_argument_of_the_constructor_is_read(slot: str, name: str) -> None:
    entry = KNOWN.entry(slot, name)
    component = entry.load()
    maker = component.__init__ if isinstance(component, type) else component
    if not entry.parameters:
        return
    tree = ast.parse(textwrap.dedent(inspect.getsource(maker)))
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    assert {parameter.name for parameter in entry.parameters if parameter.role != "engine"} - read == set()


@pytest.mark.parametrize(
    ("slot", "name"), [one for one in OWN if inspect.isclass(KNOWN.entry(*one).load()) and one[0] != "model"]
)
def test_every_attribute_that_an_argument_is_kept_in_is_read_somewhere(slot: str, name: str) -> None:
    """`self.x = x` alone is not reading: some method, of the class or of its bases, or the engine must use it."""
    cls = KNOWN.entry(slot, name).load()
    kept = set()
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(cls)))):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node):
            kept.add(node.attr)
    sources = [
        inspect.getsource(inspect.getmodule(base)) for base in cls.__mro__ if base.__module__.startswith("registry")
    ]
    read = {node.attr for text in sources for node in ast.walk(ast.parse(text)) if _is_read(node)}
    contract = {"include", "exclude", "class_names", "targets", "name", "mode"}  # the engine reads these
    assert kept - read - contract == set()


def _is_self(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "self"


def _is_read(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
