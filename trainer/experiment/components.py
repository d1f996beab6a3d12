"""Instantiation: from a checked `Spec` to the object it names; the only place that does so for any component.

Fills in what the engine supplies, builds nested components, turns plain values into the few foreign types that a
constructor may want, and answers a constructor that raises with the place in the recipe. What is supplied is the
experiment's to know; whether names and values are right was checked before.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from registry.catalogue.adoption import resolve
from registry.catalogue.catalog import Catalogue, Entry, Parameter, catalogue
from registry.catalogue.grammar import Type, mismatch
from registry.errors import RecipeError, UserError
from trainer.recipe.checks.lengths import phase_lengths
from trainer.recipe.recipe import Reference, Spec

Bind = Callable[[Reference], object]

# Warnings of Albumentations that recommend another transform; all others say that an argument is ignored or changed.
_ADVICE = r"(?s).*(special case|specialized version|is an alias|very slow|onsider using)"


def build(spec: Spec, *, supplied: Mapping[str, object], bind: Bind, catalogue: Catalogue | None = None) -> Any:
    """Build a component.

    Args:
        spec: what the recipe says.
        supplied: values by parameter name; each fills a parameter of the component that the recipe leaves out. Names
            that the component does not have are passed over.
        bind: returns the value of a run-time reference.
        catalogue: where names are looked up; the one without plug-ins when None.

    Returns:
        The object that the constructor returns.

    Raises:
        RecipeError: the component is unknown or refused, or its constructor raised or warned; says where in the recipe.
    """
    return _Builder(catalogue or _default(), bind).build(spec, supplied)


def _default() -> Catalogue:
    return catalogue()


class _Builder:
    """What stays the same from a component to those nested in it."""

    def __init__(self, catalogue: Catalogue, bind: Bind) -> None:
        self._catalogue = catalogue
        self._bind = bind

    def build(self, spec: Spec, supplied: Mapping[str, object]) -> Any:
        entry = self._entry(spec)
        try:
            constructor = entry.load()
        except UserError:
            raise
        except Exception as error:
            raise _positioned(spec, f"{entry.target} cannot be imported: {type(error).__name__}: {error}") from error
        phases = self._phases(entry, spec, supplied)
        arguments = {
            name: [self._bound(*phase) for phase in phases[name]]
            if name in phases
            else self._value(value, entry.parameter(name), supplied)
            for name, value in spec.arguments.items()
        }
        arguments = filled(entry, arguments, supplied)
        with _explained(spec, entry), _warnings_raise(entry.target.startswith("albumentations:")):
            return _called(constructor, arguments)

    def _entry(self, spec: Spec) -> Entry:
        try:
            entry = self._catalogue.entry(spec.slot, spec.type)
        except KeyError:
            raise _positioned(spec, f"there is no {spec.slot} {spec.type!r}") from None
        if entry.refused:
            raise _positioned(spec, f"{spec.slot} {spec.type} cannot be used: {entry.refused}")
        return entry

    def _phases(self, entry: Entry, spec: Spec, supplied: Mapping[str, object]) -> dict[str, list[tuple[Any, Any]]]:
        """Pair components that follow one another in time with what is supplied to each: the length of its phase."""
        rule = entry.facts.get("phases")
        if rule is None or not isinstance(spec.arguments.get(rule["of"]), (list, tuple)):
            return {}
        ends = self._bound(spec.arguments.get(rule["ends"], []), supplied)
        lengths = {name: phase_lengths(supplied[name], ends) for name in rule["lengths"] if name in supplied}
        paired = []
        for index, component in enumerate(spec.arguments[rule["of"]]):
            own = {name: phases[index] for name, phases in lengths.items() if index < len(phases)}
            paired.append((component, {**supplied, **own}))
        return {rule["of"]: paired}

    def _value(self, value: object, parameter: Parameter | None, supplied: Mapping[str, object]) -> object:
        bound = self._bound(value, supplied)
        return bound if parameter is None else converted(parameter.type, bound)

    def _bound(self, value: object, supplied: Mapping[str, object]) -> object:
        if isinstance(value, Spec):
            return self.build(value, supplied)
        if isinstance(value, Reference):
            return self._bind(value)
        if isinstance(value, (list, tuple)):
            return [self._bound(item, supplied) for item in value]
        if isinstance(value, Mapping):
            return {key: self._bound(item, supplied) for key, item in value.items()}
        return value


def _called(constructor: Callable[..., Any], arguments: Mapping[str, object]) -> Any:
    """Call what takes some of its arguments by their place alone as it wants to be called."""
    try:
        parameters = inspect.signature(constructor).parameters.values()
    except (TypeError, ValueError):  # of C
        parameters = ()  # type: ignore[assignment]
    alone = [one for one in parameters if one.kind is inspect.Parameter.POSITIONAL_ONLY]
    placed = [arguments.get(one.name, one.default) for one in alone]
    while placed and alone[len(placed) - 1].name not in arguments:
        placed.pop()
    names = {one.name for one in alone}
    return constructor(*placed, **{name: value for name, value in arguments.items() if name not in names})


def filled(entry: Entry, arguments: Mapping[str, object], supplied: Mapping[str, object]) -> dict[str, object]:
    """Add what the engine supplies to the arguments that the recipe gives.

    Args:
        entry: the component.
        arguments: given by the recipe.
        supplied: values by parameter name.

    Returns:
        The given arguments, a word such as `balanced` replaced by its value, and those supplied.
    """
    made = dict(arguments)
    for name, word in entry.facts.get("computed", {}).items():
        if isinstance(made.get(name), str) and made[name] == word:
            made[name] = supplied[name]
    for parameter in entry.parameters:
        name = parameter.name
        if parameter.role != "user" and name in supplied and name not in made and _wanted(entry, name, arguments):
            made[name] = supplied[name]
    return made


def _wanted(entry: Entry, name: str, given: Mapping[str, object]) -> bool:
    """Tell whether supplying a parameter leaves what the user gave in force: of alternative sets one is completed."""
    sets = [set(names) for names in entry.facts.get("alternatives", ())]
    if not any(name in names for names in sets):
        return True
    chosen = next((names for names in sets if names & set(given)), sets[0])
    return name in chosen


def converted(type: Type, value: object) -> object:
    """Turn a plain value into what the constructor wants where that is no plain value; all others stay as written.

    Args:
        type: the parameter's type.
        value: fits the type.

    Returns:
        A tensor for numbers, an enum member or a library's constant for its name, a tuple or a set for a list, a path
        for its text, a dataclass for its fields.
    """
    kind = type["kind"]
    if kind == "union":
        fitting = [of for of in type["of"] if mismatch(of, value) is None]
        return converted(fitting[0], value) if fitting else value
    if kind == "tensor":
        return _tensor(value)
    if kind == "one_of" and isinstance(value, str):
        if "enum" in type:
            return resolve(type["enum"])[value]
        return type.get("names", {}).get(value, value)
    if isinstance(value, (list, tuple)) and kind in ("list", "tuple"):
        of = type["of"] if kind == "tuple" else [type["of"]] * len(value)
        items = [converted(*pair) for pair in zip(of, value, strict=True)]
        if type.get("set"):
            return (frozenset if type["set"] == "frozenset" else set)(items)
        return tuple(items) if kind == "tuple" or type.get("tuple") else items
    if isinstance(value, Mapping) and kind == "record" and "class" in type:
        return resolve(type["class"])(
            **{key: converted(type["fields"][key]["type"], each) for key, each in value.items()}
        )
    if isinstance(value, str) and kind == "text" and "class" in type:
        return resolve(type["class"])(value)
    if isinstance(value, Mapping) and kind == "mapping" and "keys_enum" in type:
        members = resolve(type["keys_enum"])
        return {members[key]: converted(type["of"], item) for key, item in value.items()}
    if isinstance(value, Mapping) and kind == "mapping":
        return {key: converted(type["of"], item) for key, item in value.items()}
    return value


def _tensor(value: object) -> object:
    import torch

    return value if isinstance(value, torch.Tensor) else torch.tensor(value, dtype=torch.float32)


@contextmanager
def _explained(spec: Spec, entry: Entry) -> Iterator[None]:
    """Turn what a constructor raises into a problem of the recipe, with the place and the signature."""
    try:
        yield
    except UserError as error:
        if isinstance(error, RecipeError) and str(spec.origin) not in error.message:
            raise _positioned(spec, f"{spec.slot} {spec.type}: {error.message}", error.hint) from error
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise _positioned(spec, f"{spec.slot} {spec.type} refuses its arguments: {said}", _signature(entry)) from error


def _signature(entry: Entry) -> str:
    shown = [one.name if one.required else f"{one.name}={one.default!r}" for one in entry.parameters]
    return f"its signature: {entry.name}({', '.join(shown)})"


@contextmanager
def _warnings_raise(strict: bool) -> Iterator[None]:
    """Make errors of the warnings by which Albumentations says that it ignores or changes an argument.

    Args:
        strict: do so; else nothing is changed.
    """
    if not strict:
        yield
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        if issubclass(warning.category, UserWarning) and not re.match(_ADVICE, str(warning.message)):
            raise ValueError(str(warning.message))
    for warning in caught:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _positioned(spec: Spec, message: str, hint: str = "") -> RecipeError:
    return RecipeError(f"{spec.origin}: {spec.path}: {message}", hint)
