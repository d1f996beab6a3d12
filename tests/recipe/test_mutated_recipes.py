"""Shipped recipes, mutated mechanically: a key misspelt, a value of another type, a line twice, an argument moved.

Every mutant must be refused at the mutated place, or the test says why it is legal. The default run takes all mutants
of two recipes and a share of the others'; the slow one takes all.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, reduce
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from registry.catalogue.catalog import Catalogue, catalogue
from trainer.recipe.load import load_recipe
from trainer.recipe.problems import Collector, render
from trainer.recipe.reading.nodes import ListNode, MapNode, Node, Scalar, plain, walk
from trainer.recipe.reading.references import is_reference
from trainer.recipe.reading.text import compose
from trainer.recipe.recipe import Origin
from trainer.recipe.resolve import flow

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(FOLDER.rglob("*.yaml"))
WHOLLY = ("cifar10_resnet18.yaml", "quickstart.yaml")
SHARE = 6  # of the other recipes' mutants, every so-manieth runs by default


@cache
def known() -> Catalogue:
    return catalogue()


@dataclass(frozen=True)
class Mutant:
    """A recipe with one thing changed.

    Attributes:
        what: was done.
        text: the recipe.
        lines: where the mutated place is, lines from 1.
        column: of that place; 0 for anywhere in the line.
        path: dotted path of the mutated place; "" where lines tell.
    """

    what: str
    text: str
    lines: tuple[int, ...] = ()
    column: int = 0
    path: str = ""


def nodes_of(path: Path) -> MapNode:
    node = compose(path.read_text(encoding="utf-8"), path.name, Collector())
    assert isinstance(node, MapNode)
    return node


def replaced(text: str, place: Origin, old: str, new: str) -> str | None:
    """Return the text with `old` at `place` replaced; None where something else stands there (a quoted key)."""
    lines = text.split("\n")
    line = lines[place.line - 1]
    start = place.column - 1
    if not line.startswith(old, start):
        return None
    lines[place.line - 1] = line[:start] + new + line[start + len(old) :]
    return "\n".join(lines)


# --------------------------------------------------------------------------------------------------------- the mutants
def misspelt_keys(path: Path) -> Iterator[Mutant]:
    text = path.read_text(encoding="utf-8")
    for at, node in walk(nodes_of(path)):
        if not isinstance(node, MapNode) or (at and at[0].startswith("x-")):
            continue
        for key, entry in node.entries.items():
            if key.startswith("x-"):
                continue
            wrong = f"{key[:-1]}qz{key[-1]}"
            mutant = replaced(text, entry.key, key, wrong) or replaced(text, entry.key, f'"{key}', f'"{wrong}')
            if mutant is not None:
                yield Mutant(f"{'.'.join((*at, key))} misspelt", mutant, (entry.key.line,), entry.key.column)


def other_types(path: Path) -> Iterator[Mutant]:
    text = path.read_text(encoding="utf-8")
    for at, node in walk(nodes_of(path)):
        if not isinstance(node, Scalar) or at[0].startswith("x-") or "\n" in str(node.value):
            continue
        old = f'"{node.text}"' if node.quoted else node.text
        mutant = replaced(text, node.origin, old, "12345" if isinstance(node.value, str) else "nonsense")
        if mutant is not None:
            yield Mutant(f"{'.'.join(at)} of another type", mutant, (node.origin.line,), node.origin.column)


def doubled_lines(path: Path) -> Iterator[Mutant]:
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            mutant = "\n".join([*lines[:number], *lines[number - 1 :]])
            yield Mutant(f"line {number} twice: {line.strip()}", mutant, tuple(range(number, number + 3)))


def moved_arguments(path: Path) -> Iterator[Mutant]:
    """Move each key of a mapping into the next mapping beside it."""
    root = plain(nodes_of(path))
    for at, parent in containers_in(root):
        items = parent.items() if isinstance(parent, dict) else enumerate(parent)
        inner = [name for name, value in items if isinstance(value, dict) and not str(name).startswith("x-")]
        for name, neighbour in pairwise(inner):
            for key in parent[name]:
                if key not in parent[neighbour]:
                    mutant = copy.deepcopy(root)
                    around = reduce(lambda value, step: value[step], at, mutant)
                    around[neighbour][key] = around[name].pop(key)
                    text = "\n".join(f"{top}: {flow(of, escaped=True)}" for top, of in mutant.items()) + "\n"
                    source, target = (".".join(map(str, (*at, one))) for one in (name, neighbour))
                    yield Mutant(f"{source}.{key} moved to {target}", text, path=target)


def containers_in(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [(path, value)] if isinstance(value, (dict, list)) else []
    return found + [pair for key, item in items for pair in containers_in(item, (*path, key))]


# --------------------------------------------------------------------------------------------------------- the verdict
def why_legal(mutant: Mutant, root: Node) -> str:
    """Say why a mutant is a right recipe; "" where it should have been refused."""
    if mutant.what.startswith("line ") and mutant.what.partition(": ")[2].startswith("- "):
        return "the same item may stand twice in a list of transforms or patterns"
    moved, _, _ = mutant.what.partition(" moved to ")
    if mutant.path and accepts(root, mutant.path, moved.rpartition(".")[2]):
        return "the neighbour takes an argument of this name as well"
    if mutant.what.endswith("of another type") and takes_anything(root, mutant.what.split(" ")[0]):
        return "the parameter takes a value of this type as well"
    if mutant.what.endswith("of another type") and is_reference(node_at(root, mutant.what.split(" ")[0])):
        return "a number may stand where a run-time value did"
    if mutant.what.startswith("expect.") and not any(split in mutant.what for split in ("train/", "val/", "test/")):
        return "a callback that does not declare its keys may measure it"
    return ""


SLOT_OF = {
    **dict.fromkeys(("data.augment", "data.eval", "data.preprocess"), "transform"),
    "data.dataset": "dataset",
    "model": "model",
    "loss": "loss",
    "optimizer": "optimizer",
    "scheduler": "scheduler",
    "regularizers": "regularizer",
    "callbacks": "callback",
    "report": "report",
    "train.metrics": "metric",
}


def slot_at(path: str) -> str:
    return next((slot for prefix, slot in SLOT_OF.items() if path == prefix or path.startswith(f"{prefix}.")), "")


def node_at(root: Node, path: str) -> Node | None:
    node: Node | None = root
    for key in path.split("."):
        if isinstance(node, ListNode):
            node = node.items[int(key)]
        else:
            node = node.get(key) if isinstance(node, MapNode) else None
    return node


def accepts(root: Node, path: str, key: str) -> bool:
    """Say whether the component at a path has an argument of a name."""
    if key == "as":
        return True
    node, slot = node_at(root, path), slot_at(path)
    named = node.get("type") if isinstance(node, MapNode) else node
    if not slot or not isinstance(named, Scalar) or not isinstance(named.value, str):
        return False
    return key in known().entry(slot, named.value).settable()


def takes_anything(root: Node, path: str) -> bool:
    """Say whether a parameter's type has an alternative that a number or a word fits."""
    owner, _, key = path.rpartition(".")
    slot, node = slot_at(owner), node_at(root, owner)
    named = node.get("type") if isinstance(node, MapNode) else None
    if not slot or not isinstance(named, Scalar):
        return False
    parameter = known().entry(slot, str(named.value)).parameter(key)
    if parameter is None or parameter.type["kind"] != "union":
        return False
    kinds = {of["kind"] for of in parameter.type["of"]}
    return bool(kinds & {"text", "any", "number", "integer"})


def hits(mutant: Mutant, line: int, column: int, path: str) -> bool:
    if mutant.path:
        return path.startswith(mutant.path) or mutant.path.startswith(path)
    return line in mutant.lines and mutant.column in (0, column)


def check(path: Path, mutants: list[Mutant], tmp_path: Path) -> None:
    place = tmp_path / path.relative_to(FOLDER)
    for base in RECIPES:  # what the recipe extends lies beside it
        copy = tmp_path / base.relative_to(FOLDER)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(base.read_text(encoding="utf-8"), encoding="utf-8")
    root, wrong = nodes_of(path), []
    for mutant in mutants:
        place.write_text(mutant.text, encoding="utf-8")
        loaded = load_recipe(place)
        found = [p for p in loaded.problems if hits(mutant, p.origin.line, p.origin.column, p.path)]
        if not found and not why_legal(mutant, root):
            wrong.append(f"{mutant.what}: {render(loaded.problems) or 'accepted'}")
    assert not wrong, "\n\n".join(wrong)


KINDS = {"misspelt": misspelt_keys, "retyped": other_types, "doubled": doubled_lines, "moved": moved_arguments}
IDS = [str(path.relative_to(FOLDER)) for path in RECIPES]


def test_there_are_recipes_to_mutate() -> None:
    assert len(RECIPES) >= 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", RECIPES, ids=IDS)
def test_every_mutant_is_refused_at_its_place(path: Path, kind: str, tmp_path: Path) -> None:
    mutants = list(KINDS[kind](path))
    check(path, mutants if path.name in WHOLLY else mutants[::SHARE], tmp_path)


@pytest.mark.slow  # a few thousand recipes
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", RECIPES, ids=IDS)
def test_really_every_mutant_is_refused_at_its_place(path: Path, kind: str, tmp_path: Path) -> None:
    check(path, list(KINDS[kind](path)), tmp_path)
