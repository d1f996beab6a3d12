"""Components from outside: packages and files that a recipe names under `plugins`, and installed entry points.

Owns how they are found, imported and checked against their slot's base. A plug-in marks a component with `@component`;
the mark stays on the object, so nothing is registered anywhere by importing it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from registry.catalogue.adoption import Change, Found, fits, is_protocol, resolve
from registry.catalogue.imports import imported_files
from registry.catalogue.slots import SLOTS
from registry.errors import RecipeError
from registry.files import require_plain

GROUP = "recipe_trainer"
_MARK = "__recipe_component__"

T = TypeVar("T", bound=Callable[..., object])


def component(slot: str, name: str | None = None) -> Callable[[T], T]:
    """Mark a class or function of a plug-in as a component.

    Args:
        slot: "model", "transform", "loss", ...
        name: as recipes write it; the object's own name where omitted.

    Raises:
        RecipeError: there is no such slot.
    """
    if slot not in SLOTS:
        raise RecipeError(f"there is no slot {slot!r} for {name or 'a component'}", f"the slots are {', '.join(SLOTS)}")

    def mark(value: T) -> T:
        own = [mark for mark in _marks(value) if mark[0] == id(value)]  # `functools.wraps` copies others'
        setattr(value, _MARK, (*own, (id(value), slot, name or value.__name__)))
        return value

    return mark


def _marks(value: object) -> list[tuple[int, str, str]]:
    """Return the marks on an object, each with the id of what was marked."""
    marks: Sequence[tuple[int, str, str]] = ()
    with contextlib.suppress(Exception):  # an odd object may answer with an error of its own, or have no attributes
        marks = vars(value).get(_MARK, ())
    return list(marks)


@dataclass(frozen=True)
class Plugin:
    """A package or file whose components a recipe may name.

    Attributes:
        name: of the package, or the path of the file.
        sources: files and folders whose change makes the catalogue stale.
        distribution: of an entry point, whose version counts too.
    """

    name: str
    sources: tuple[Path, ...]
    distribution: str = ""

    def find(self) -> Iterator[tuple[str, Found]]:
        """Import the plug-in and yield (slot, component) for everything it marks.

        Raises:
            RecipeError: it cannot be imported, or a component is not of its slot's base.
        """
        seen: set[int] = set()
        modules = self._modules()
        held = {id(value) for owner in modules for value in list(vars(owner).values())}
        for owner in modules:
            for held_as, value in list(vars(owner).items()):
                marks = [] if id(value) in seen else _marks(value)
                seen.add(id(value))
                # What a decorator above the mark has made bears the mark of what no name holds any more.
                for _, slot, name in (mark for mark in marks if mark[0] == id(value) or mark[0] not in held):
                    yield slot, self._found(slot, name, value, owner, held_as)

    def imported(self) -> list[Path]:
        """Return the files of what the plug-in imports, once it is imported itself; see `imported_files`."""
        return imported_files(self._modules())

    def _modules(self) -> list[ModuleType]:
        module = import_plugin(self.name)
        return [module, *_submodules(module.__name__)]

    def _found(self, slot: str, name: str, value: Callable[..., object], owner: ModuleType, held_as: str) -> Found:
        target = self._target(value, owner, held_as)
        check_base(slot, target, value)
        return Found(name, target, value, own_change(value), own=False, package=self.distribution)

    def _target(self, value: Callable[..., object], owner: ModuleType, held_as: str) -> str:
        """Return from where a marked object is loaded: from where it was written, if it is that which is held there."""
        home, names = sys.modules.get(value.__module__), getattr(value, "__qualname__", "")
        is_file = self.name.endswith(".py")
        if home is None or (is_file and home is not owner) or not _holds(home, names, value):
            home, names = owner, held_as
        where = self.name if is_file and home.__name__ == _module_name(Path(self.name)) else home.__name__
        return f"{where}:{names}"


def _holds(module: ModuleType, names: str, value: object) -> bool:
    """Whether a dotted name leads to an object in a module."""
    found: object = module
    for name in names.split("."):
        found = vars(found).get(name) if hasattr(found, "__dict__") else None
    return found is value


def own_change(value: object) -> Change:
    """Return the exceptions that a component declares; an attribute of that name may be anything else of its own."""
    change = getattr(value, "change", None)
    return change if isinstance(change, Change) else Change()


def provides(plugin: str, where: str) -> bool:
    """Say whether the part of an import path before the colon names a plug-in.

    Args:
        plugin: name of a package or path of a file, as in `Plugin.name`.
        where: "my_package.ops", or "ops" of a file "/path/ops.py".
    """
    if plugin.endswith(".py"):
        return where == Path(plugin).stem
    return where == plugin or where.startswith(f"{plugin}.")


def check_base(slot: str, target: str, value: object) -> None:
    """Refuse an object that is of none of its slot's bases.

    Raises:
        RecipeError: it is not.
    """
    bases = [resolve(base) for base in SLOTS[slot].bases]
    if not any(fits(value, base) for base in bases):
        named = " or ".join(f"{base.__module__}.{base.__name__}" for base in bases)
        verb = "has the methods of" if is_protocol(bases[0]) else "derives from"
        hint = f"a {slot} {verb} {named}, or is a function annotated as returning one"
        raise RecipeError(f"{target} is no {slot}", hint)


def find_plugins(names: Sequence[str | Path]) -> list[Plugin]:
    """Locate plug-ins without importing them: those named, and installed entry points.

    Raises:
        RecipeError: a plug-in does not exist.
    """
    from importlib import metadata

    found = [_locate(str(name)) for name in names]
    for point in metadata.entry_points(group=GROUP):
        found.append(_locate(point.value, point.dist.name if point.dist else ""))
    unique = {plugin.name: plugin for plugin in found}
    return list(unique.values())


def _locate(name: str, distribution: str = "") -> Plugin:
    if name.endswith(".py"):
        path = Path(name).resolve()
        try:
            require_plain(path.stat().st_mode, path)
        except OSError as error:
            what = (
                "does not exist"
                if isinstance(error, FileNotFoundError)
                else f"cannot be read: {error.strerror or error}"
            )
            hint = "paths are relative to the recipe that names them"
            raise RecipeError(f"the plug-in {name} {what}", hint) from error
        return Plugin(str(path), (path,))
    try:
        spec = importlib.util.find_spec(name.partition(".")[0])
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise RecipeError(f"the plug-in {name!r} is not installed", "install it, or name a file: ./ops.py")
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    return Plugin(name, tuple(folders) or (Path(str(spec.origin)),), distribution)


def import_plugin(name: str) -> ModuleType:
    """Import a plug-in, a package by name or a file by path.

    Raises:
        RecipeError: importing it raised; the text says what and where.
    """
    try:
        return _import_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    except RecipeError as error:  # of ours, about a component in it
        message = f"the plug-in {name} cannot be imported: {error.message}{_line(error, name)}"
        raise RecipeError(message, error.hint) from error
    except (Exception, SystemExit) as error:
        said = f"{type(error).__name__}: {error}{_line(error, name)}"
        raise RecipeError(f"the plug-in {name} cannot be imported: {said}", _way_out(error, name)) from error


def _way_out(error: BaseException, plugin: str) -> str:
    """Say how a file reaches the one beside it, where that is what it wants."""
    if isinstance(error, SystemExit):
        return "what ends the program when it is imported stands behind `if __name__ == '__main__':`"
    if not isinstance(error, ModuleNotFoundError) or not error.name or not plugin.endswith(".py"):
        return ""
    folder, wanted = Path(plugin).parent, error.name.partition(".")[0]
    if not (folder / f"{wanted}.py").is_file() and not (folder / wanted).is_dir():
        return ""
    return f"{wanted} lies beside it, where Python does not look: set PYTHONPATH={folder}"


def _module_name(path: Path) -> str:
    return f"recipe_plugin_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"


def _import_file(path: Path) -> ModuleType:
    name = _module_name(path)
    if name in sys.modules:
        return sys.modules[name]
    package = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=package)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _line(error: BaseException, name: str) -> str:
    """Say in which line of the plug-in the error arose, where a frame of it is known."""
    found, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file == name or f"/{name.replace('.', '/')}" in file:
            found = f" ({file}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return found


def _submodules(package: str) -> list[ModuleType]:
    return [module for name, module in list(sys.modules.items()) if name.startswith(f"{package}.") and module]


def load_target(target: str) -> Callable[..., object]:
    """Import what an entry's target names: "module:Qualified.Name" or "/path/file.py:Name"."""
    where, _, names = target.rpartition(":")
    if not where.endswith(".py"):
        return resolve(target)  # type: ignore[no-any-return]
    found: object = import_plugin(where)
    for name in names.split("."):
        found = getattr(found, name)
    return found  # type: ignore[return-value]
