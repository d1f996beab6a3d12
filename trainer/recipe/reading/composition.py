"""Composition: a recipe file, what it extends, and overrides from the command line become one tree.

Owns the order (bases, the file, overrides) and every problem of it. How one is laid over another is merge.py; what a
key means is checked later (checks/check.py).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainer.recipe.problems import Collector, shown
from trainer.recipe.reading.files import read_file
from trainer.recipe.reading.merge import Tree, conflicts, join, lay_over, without_conflicts
from trainer.recipe.reading.nodes import ListNode, MapNode, Node, Scalar, plain
from trainer.recipe.reading.overrides import apply
from trainer.recipe.recipe import Origin
from trainer.recipe.sections import recipe_type

MAX_FILES = 64


@dataclass(frozen=True)
class Composed:
    """One tree of everything a recipe says.

    Attributes:
        root: the tree.
        text: the recipe file as given.
        notes: what fell away on the way.
    """

    root: MapNode
    text: str
    notes: tuple[str, ...]


def compose_recipe(path: Path, overrides: Sequence[str], problems: Collector) -> Composed | None:
    """Read a recipe and what it extends, and apply overrides; None where nothing is left to check.

    Args:
        path: the recipe file.
        overrides: `key.path=value`, in order.
        problems: takes what is wrong.
    """
    files = _Files(problems)
    root: Tree | None = files.load(path, str(path), None)
    for number, argument in enumerate(overrides, 1):
        root = apply(root, argument, number, problems, files.notes)
    if root is None:
        return None
    for at, conflict in conflicts(root):
        others = " and ".join(f"{_said(side)} in {side.origin}" for side in conflict.sides[:-1])
        count = {2: "two", 3: "three"}.get(len(conflict.sides), str(len(conflict.sides)))
        text = f"{count} bases set '{at}' differently: {_said(conflict.last)} here and {others}"
        mappings = all(isinstance(side, MapNode) for side in conflict.sides)
        what = f"{at} there, with its type" if mappings else f"{at} there"
        problems.report("R042", conflict.origin, text, hint=f"decide in {path.name}: set {what}", path=at)
    whole = without_conflicts(root)
    assert isinstance(whole, MapNode)
    return Composed(whole, "\n".join(problems.sources.lines.get(str(path), [])), tuple(files.notes))


def _said(node: Node) -> str:
    """Put a value into the words of a message: a component by its type."""
    named = node.get("type") if isinstance(node, MapNode) else None
    return str(named.value) if isinstance(named, Scalar) else shown(plain(node))


@dataclass
class _Files:
    """Reads files and what they extend, each once."""

    problems: Collector
    notes: list[str] = field(default_factory=list)
    done: dict[str, Tree | None] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)

    def load(self, path: Path, shown_as: str, named_at: Origin | None) -> Tree | None:
        """Return a file laid over what it extends; None where it cannot be used, which has been reported."""
        real = os.path.realpath(path) if "\0" not in str(path) else str(path)
        if real in self.open:
            chain = " -> ".join(Path(name).name for name in [*self.open[self.open.index(real) :], real])
            assert named_at is not None
            self.problems.report("R041", named_at, f"recipes extend each other in a circle: {chain}", path="extends")
            return None
        if real not in self.done:
            if len(self.done) + len(self.open) >= MAX_FILES:
                place = named_at or Origin(shown_as, 1, 1)
                self.problems.report("R002", place, f"more than {MAX_FILES} files extend one another", path="extends")
                return None
            self.open.append(real)
            self.done[real] = self._read(path, shown_as, named_at)
            self.open.pop()
        return self.done[real]

    def _read(self, path: Path, shown_as: str, named_at: Origin | None) -> Tree | None:
        node = read_file(path, shown_as, self.problems, named_at)
        if not isinstance(node, MapNode):
            if node is not None or not self.problems.failed:
                self._not_a_recipe(node, shown_as)
            return None
        named = node.entries.get("extends")
        entries = {key: entry for key, entry in node.entries.items() if key != "extends"}
        own = MapNode(entries, node.origin)
        names = self._names(named.node if named else None)
        found = [None if name is None else self._base(path, name) for name in names]
        bases = [base for base in found if base is not None]
        if len(bases) < len(found):
            return None  # without a base, nearly everything below would be reported as missing
        if not bases:
            return own
        joined = bases[0]
        for base in bases[1:]:
            joined = join(joined, base, recipe_type())
        return lay_over(joined, own, recipe_type(), "", self.notes)

    def _not_a_recipe(self, node: Node | None, shown_as: str) -> None:
        if node is None or (isinstance(node, Scalar) and node.value is None):
            what, origin = "the file is empty", Origin(shown_as, 1, 1)
        else:
            what, origin = f"a recipe is a mapping of sections, this is {shown(plain(node))}", node.origin
        self.problems.report("R009", origin, what, hint="begin with 'version: 1'")

    def _names(self, node: Node | None) -> list[Scalar | None]:
        """Return the file names of an `extends`; None for each that is none, which is reported."""
        if node is None or (isinstance(node, Scalar) and node.value is None):
            return []
        names: list[Scalar | None] = []
        for item in node.items if isinstance(node, ListNode) else (node,):
            if isinstance(item, Scalar) and isinstance(item.value, str) and item.value.strip():
                names.append(item)
            else:
                text = f"extends names recipe files, got {shown(plain(item))}"
                self.problems.report("R040", item.origin, text, path="extends")
                names.append(None)
        return names

    def _base(self, path: Path, name: Scalar) -> Tree | None:
        """Load a file named by `path`'s `extends`, relative to it."""
        assert isinstance(name.value, str)
        place = os.path.normpath(path.parent / os.path.expanduser(name.value))  # noqa: PTH111  raises without a home
        return self.load(Path(place), place, name.origin)
