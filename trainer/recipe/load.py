"""Loading a recipe: a file and overrides become a checked `Recipe`, or a list of everything that is wrong.

Owns the order of the first tier: text, composition, references, sections and components, what they say together.
Imports no torch. The other tiers, what must be built and what only the data can tell, stand in
trainer/experiment/checking.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.catalogue.catalog import Catalogue, catalogue
from registry.errors import RecipeError
from registry.printing import few
from trainer.recipe.checks.check import Checker, Place
from trainer.recipe.checks.components import Components
from trainer.recipe.checks.consistency import check_together
from trainer.recipe.checks.expect import expectations
from trainer.recipe.problems import COMMAND_LINE, Collector, Problem, refusal, shown
from trainer.recipe.reading.composition import compose_recipe
from trainer.recipe.reading.merge import is_removal
from trainer.recipe.reading.nodes import ListNode, MapNode, Node, Scalar, walk
from trainer.recipe.reading.references import resolve
from trainer.recipe.recipe import Origin, Recipe
from trainer.recipe.sections import recipe_type

VERSION = 1

_UNSAFE = re.compile(r"[^\w .+=@-]")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # device names of Windows
_NAME_BYTES = 150


@dataclass(frozen=True)
class Loaded:
    """What came of reading a recipe.

    Attributes:
        recipe: the recipe; None where there are problems.
        problems: everything that is wrong, by position.
        warnings: what is allowed but probably a mistake, by position.
        notes: inherited arguments that fell away because a component's type changed.
        catalogue: what the recipe could name; None where it was not asked.
        path: of the file, as given.
    """

    recipe: Recipe | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    catalogue: Catalogue | None = None
    path: str = ""

    def usable(self) -> Recipe:
        """Return the recipe, which has no problems.

        Raises:
            RecipeError: it has; its message shows them all.
        """
        if self.problems or self.recipe is None:
            raise refusal(self.path, self.problems)
        return self.recipe


def load_recipe(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    fast: bool = False,
    unread: Callable[[str], bool] = lambda _: False,
    trusted: bool = True,
) -> Loaded:
    """Read a recipe, compose it and check its text; never raises for what a user can get wrong.

    Args:
        path: the recipe file, shown in positions as given here.
        overrides: `key.path=value`, applied in order.
        fast: mark the recipe as one that is run end to end but small.
        unread: says of a dotted path whether its value is not going to be used; then it need not fit the others.
        trusted: whether its plug-ins may be imported, which runs them; where not, naming any is a problem.
    """
    problems = Collector()
    composed = compose_recipe(Path(path), overrides, problems)
    if composed is None:
        return Loaded(None, problems.sorted("error"), path=str(path))
    notes = list(composed.notes)
    root = resolve(composed.root, problems, notes)
    _one_value_for_all_seeds(composed.root, problems)
    known, plugins, complete = _catalogue(root, problems, trusted=trusted)
    checker = Checker(problems)
    Components(checker, known, complete)
    fields = checker.fields(recipe_type(), root, Place("", "")) if version_fits(root, problems) else None
    if fields is not None:
        fields["name"] = _name(root, fields.get("name"), path, problems)
        fields["expect"] = expectations(root.get("expect"), problems)
        fields["plugins"] = plugins
        del fields["extends"]
        origins = {".".join(at): node.origin for at, node in walk(root) if at}
        recipe = Recipe(
            **fields, text=composed.text, file=str(path), overrides=tuple(overrides), origins=origins, fast=fast
        )
        single = dict(problems.found)
        check_together(recipe, known, problems)
        together = {key: each for key, each in problems.found.items() if key not in single and not unread(each.path)}
        problems.found = single | together
    errors = problems.sorted("error")
    whole = recipe if fields is not None and not errors else None
    return Loaded(whole, errors, problems.sorted("warning"), tuple(notes), known, str(path))


def _one_value_for_all_seeds(root: MapNode, problems: Collector) -> None:
    """Refuse `$seed` beside `seeds`: references are resolved once, before the recipe is run by each of them."""
    if root.get("seeds") is None or is_removal(root.entries["seeds"].node):
        return
    for at, node in walk(root):
        if isinstance(node, Scalar) and node.value == "$seed":
            text = "'$seed' beside 'seeds' would be the default seed in every run"
            hint = "write a number, or leave the key out; or run the recipe once per seed"
            problems.report("R015", node.origin, text, hint=hint, path=".".join(at))


def version_fits(root: MapNode, problems: Collector) -> bool:
    """Refuse a recipe of another version of the language: nothing else in it can be judged."""
    node = root.get("version")
    if node is None or (isinstance(node, Scalar) and node.value == VERSION and type(node.value) is int):
        return True
    got = shown(node.value) if isinstance(node, Scalar) else "something else"
    hint = "a newer trainer may read it" if isinstance(node, Scalar) and got.isdigit() else f"write version: {VERSION}"
    text = f"this trainer reads version {VERSION} of the recipe language, got {got}"
    problems.report("R013", node.origin, text, hint=hint, path="version")
    return False


def _name(root: MapNode, given: Any, path: str | Path, problems: Collector) -> str:
    """Return the name of the run's folder: as given, where that is safe, else from the file's stem."""
    if given is None:
        stem = _UNSAFE.sub("_", Path(path).stem).encode()[: _NAME_BYTES - len("recipe_")].decode(errors="ignore")
        stem = stem.strip(" .-") or "recipe"
        return f"recipe_{stem}" if unsafe(stem) else stem
    node = root.get("name")
    if not isinstance(given, str) or node is None:
        return ""
    reason = unsafe(given)
    if reason:
        text = f"name '{given}' cannot be a folder's name: {reason}"
        problems.report("R014", node.origin, text, hint="use letters, digits, '_', '-' and '.'", path="name")
    return given


def unsafe(name: str) -> str:
    """Say why a name is no safe folder name; "" where it is one."""
    if not name.strip():
        return "it is empty"
    if len(name.encode()) > _NAME_BYTES:
        return f"it is longer than {_NAME_BYTES} bytes"
    found = _UNSAFE.search(name)
    if found:
        return f"it contains {found.group()!r}"
    if name[0] in " .-" or name[-1] in " .":
        return "it begins or ends with a dot, a dash or a space"
    return "Windows keeps it for a device" if _RESERVED.fullmatch(name) else ""


# ------------------------------------------------------------------------------------------------------------ plug-ins
def _catalogue(root: MapNode, problems: Collector, *, trusted: bool) -> tuple[Catalogue, tuple[str, ...], bool]:
    """Return the catalogue with the recipe's plug-ins, their names, and whether all of them could be had."""
    named = _plugins(root.get("plugins"))
    if named and not trusted:
        text = f"{few([name for name, _ in named])}: plug-ins are code, and none of somebody else's is run here"
        problems.report("R029", named[0][1], text, path="plugins")
        return catalogue(), (), False
    try:
        return catalogue(tuple(name for name, _ in named)), tuple(name for name, _ in named), True
    except RecipeError as error:
        place = next((origin for name, origin in named if name in error.message), None)
        place = place or (named[0][1] if named else root.origin)
        problems.report("R029", place, error.message, hint=error.hint, path="plugins")
        return catalogue(), (), False


def _plugins(node: Node | None) -> list[tuple[str, Origin]]:
    """Return the plug-ins a recipe names; files as absolute paths, relative to the file they are named in."""
    found = []
    for item in node.items if isinstance(node, ListNode) else ():
        if not isinstance(item, Scalar) or not isinstance(item.value, str):
            continue
        name = item.value
        if name.endswith(".py"):
            folder = Path() if item.origin.file == COMMAND_LINE else Path(item.origin.file).parent
            name = str((folder / os.path.expanduser(name)).resolve())  # noqa: PTH111  raises where there is no home
        found.append((name, item.origin))
    return found
