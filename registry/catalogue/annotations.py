"""Type annotations: what the annotation of a parameter lets a recipe write for it, as a type of the grammar.

    from_annotation("float | None", ...)  ->  {"kind": "union", "of": [{"kind": "number"}, {"kind": "null"}]}

The one place where signatures become checks, and where foreign types are mapped: an enum to its member names, a tensor
to numbers, a base class to a component of its slot, a function to nothing that a recipe can set. What the types mean is
grammar.py, how a whole signature is read signatures.py. Imports no torch: what is foreign is recognised by name.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import enum
import inspect
import math
import pathlib
import types
import typing
from collections.abc import Mapping
from typing import Any

from registry.catalogue.docstrings import documented
from registry.catalogue.markers import Bounds, Slot, Text

Type = Mapping[str, Any]
Slots = Mapping[type, str]

_SETS = {set: "set", frozenset: "frozenset", collections.abc.Set: "frozenset"}
_LIST_LIKE = (list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection, *_SETS)
_MAPPING_LIKE = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_SCALARS: Mapping[object, Type] = {
    float: {"kind": "number"},
    int: {"kind": "integer"},
    bool: {"kind": "bool"},
    str: {"kind": "text"},
    None: {"kind": "null"},
    type(None): {"kind": "null"},
    Any: {"kind": "any"},
    object: {"kind": "any"},
    inspect.Parameter.empty: {"kind": "any"},
    pathlib.Path: {"kind": "text", "syntax": "path", "class": "pathlib:Path"},
    list: {"kind": "list", "of": {"kind": "any"}},
    tuple: {"kind": "list", "of": {"kind": "any"}},
    dict: {"kind": "mapping", "of": {"kind": "any"}},
}
_NO_SLOTS: Slots = {}
_A_FUNCTION: Type = {"kind": "opaque", "reason": "a function"}


def from_annotation(annotation: object, namespace: Mapping[str, object], slots: Slots) -> Type:
    """Turn an annotation into a type.

    Args:
        annotation: a type, a typing form, or the text of one.
        namespace: names that texts may use.
        slots: base class -> slot; a class that derives from one is a component of that slot.

    Returns:
        The type; `opaque` with the reason where a recipe cannot write such a value.
    """
    return _Reader(namespace, slots).read(annotation)


def record(cls: type, slots: Slots = _NO_SLOTS, within: tuple[type, ...] = ()) -> Type:
    """Return the record type of a dataclass: the mapping that a recipe writes for it.

    Args:
        cls: the dataclass; its docstring documents the fields.
        slots: base class -> slot, as in `from_annotation`.
        within: dataclasses that hold it; one that holds itself cannot be written there.
    """
    module = inspect.getmodule(cls)
    namespace = {**vars(typing), **vars(collections.abc), **(vars(module) if module else {})}
    docs = documented(inspect.getdoc(cls) or "")
    fields = {}
    for field in (field for field in dataclasses.fields(cls) if field.init):
        default = field.default_factory() if callable(field.default_factory) else field.default
        required = default is dataclasses.MISSING
        fields[field.name] = {
            "type": _Reader(namespace, slots, (*within, cls)).read(field.type),
            "required": required,
            "default": None if required else plain_default(default)[0],
            "doc": docs.get(field.name, ""),
        }
    return {"kind": "record", "name": cls.__name__, "fields": fields}


def union(of: list[Type]) -> Type:
    """Return the type of alternatives: flat, without repetition.

    What a recipe cannot write is left out, unless nothing else, or null alone, is left.
    """
    flat: list[Type] = []
    for item in of:
        for one in item["of"] if item["kind"] == "union" else [item]:
            if one not in flat:
                flat.append(one)
    settable = [item for item in flat if item["kind"] != "opaque"]
    if len(settable) < len(flat) and all(item["kind"] == "null" for item in settable):
        return next(item for item in flat if item["kind"] == "opaque")
    if {"kind": "number"} in settable:  # a tensor beside a number is that number for a caller with tensors
        settable = [item for item in settable if item["kind"] != "tensor"]
    if {"kind": "any"} in settable:
        return {"kind": "any"}
    return settable[0] if len(settable) == 1 else {"kind": "union", "of": settable}


def bounded(type: Type, mark: object) -> Type:
    """Add the limits that `mark` declares to every number in a scalar type; other types and marks are left alone.

    Args:
        type: the type to limit.
        mark: `Bounds`, or an object with `ge`, `le`, `gt`, `lt` as annotated-types and pydantic use them.
    """
    if isinstance(mark, Bounds):
        found = {name: getattr(mark, name) for name in ("min", "max", "above", "below")}
    else:
        words = {"min": "ge", "max": "le", "above": "gt", "below": "lt"}
        found = {name: getattr(mark, word, None) for name, word in words.items()}
    limits = {name: limit for name, limit in found.items() if isinstance(limit, (int, float))}
    if not limits:
        return type
    if type["kind"] == "union":
        return {**type, "of": [bounded(of, mark) for of in type["of"]]}
    return {**type, **limits} if type["kind"] in ("number", "integer") else type


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Reads annotations that stand in one signature; the attributes are the arguments of `from_annotation`.

    Attributes:
        within: as `record` takes it.
    """

    namespace: Mapping[str, object]
    slots: Slots
    within: tuple[type, ...] = ()

    def read(self, annotation: Any) -> Type:
        """Return the type of any annotation."""
        if isinstance(annotation, typing.ForwardRef):
            annotation = annotation.__forward_arg__
        if isinstance(annotation, str):
            try:
                annotation = eval(annotation, dict(self.namespace))
            except Exception:
                return {"kind": "opaque", "reason": f"its type {annotation} cannot be resolved"}
            return self.read(annotation)
        origin = typing.get_origin(annotation)
        return self._bare(annotation) if origin is None else self._generic(origin, typing.get_args(annotation))

    def _bare(self, annotation: object) -> Type:
        """Return the type of a class or a special form without brackets."""
        with contextlib.suppress(TypeError):  # some cannot be hashed
            if annotation in _SCALARS:
                return _SCALARS[annotation]
        if isinstance(annotation, typing.TypeVar):
            return self.read(annotation.__bound__ or Any)
        if annotation in (collections.abc.Callable, typing.Callable):
            return _A_FUNCTION
        if not isinstance(annotation, type):
            return {"kind": "opaque", "reason": f"a {getattr(annotation, '__name__', annotation)}"}
        for base, slot in self.slots.items():
            if issubclass(annotation, base):
                return {"kind": "component", "slot": slot}
        if issubclass(annotation, enum.Enum):
            where = f"{annotation.__module__}:{annotation.__qualname__}"
            return {"kind": "one_of", "values": list(annotation.__members__), "enum": where}
        if dataclasses.is_dataclass(annotation):
            if annotation in self.within:
                return {"kind": "opaque", "reason": f"a {annotation.__name__} within another"}
            made = record(annotation, self.slots, self.within)
            own = annotation.__module__.partition(".")[0] == "trainer"  # a section of recipes, known by its name
            return made if own else {**made, "class": f"{annotation.__module__}:{annotation.__qualname__}"}
        if annotation.__module__.startswith("torch") and annotation.__name__ == "Tensor":
            return {"kind": "tensor"}
        if annotation in (collections.abc.Sequence, collections.abc.Iterable):
            return _SCALARS[list]
        return {"kind": "opaque", "reason": f"a {annotation.__name__}"}

    def _generic(self, origin: Any, args: tuple[Any, ...]) -> Type:
        """Return the type of `origin[args]`."""
        if origin is typing.Annotated:
            return self._annotated(args[0], args[1:])
        if origin is typing.Literal:
            return _literal(args)
        if origin in (typing.Union, types.UnionType):
            return union([self.read(arg) for arg in args])
        if origin in (typing.Final, typing.ClassVar):
            return self.read(args[0])
        if origin is tuple:
            return self._tuple(args)
        if origin in _LIST_LIKE:
            made = _container("list", self.read(args[0]))
            return {**made, "set": _SETS[origin]} if origin in _SETS and made["kind"] == "list" else made
        if origin in _MAPPING_LIKE:
            return self._mapping(*args)
        if origin is collections.abc.Callable:
            return _A_FUNCTION
        return {"kind": "opaque", "reason": f"a {getattr(origin, '__name__', origin)}"}

    def _annotated(self, inner: Any, marks: tuple[object, ...]) -> Type:
        """Return the type of `Annotated[inner, *marks]`; marks that are not ours are read for limits."""
        slot = next((mark for mark in marks if isinstance(mark, Slot)), None)
        if slot is not None:
            return {"kind": "component", "slot": slot.name}
        made = self.read(inner)
        for mark in marks:
            made = {**made, "syntax": mark.kind} if isinstance(mark, Text) else bounded(made, mark)
        return made

    def _tuple(self, args: tuple[Any, ...]) -> Type:
        """Return a tuple's type: one type per place, or for `tuple[X, ...]` a list that becomes a tuple."""
        if len(args) == 2 and args[1] is Ellipsis:
            return {**_container("list", self.read(args[0])), "tuple": True}
        of = [self.read(arg) for arg in args if arg != ()]
        return next((item for item in of if item["kind"] == "opaque"), {"kind": "tuple", "of": of})

    def _mapping(self, key: Any, value: Any) -> Type:
        """Return a mapping's type; its keys are a closed list where their type is one."""
        made, keys = _container("mapping", self.read(value)), self.read(key)
        is_closed = keys["kind"] == "one_of" and made["kind"] == "mapping"
        if not is_closed:
            return made
        named = {"keys_enum": keys["enum"]} if "enum" in keys else {}
        return {**made, "keys": list(keys["values"]), **named}


def _container(kind: str, of: Type) -> Type:
    """Return a list or mapping of `of`; of what a recipe cannot write, it cannot write many either."""
    return of if of["kind"] == "opaque" else {"kind": kind, "of": of}


def _literal(values: tuple[Any, ...]) -> Type:
    """Return a closed list of values; constants of a library may be written by their names too."""
    if values and all(isinstance(value, enum.Enum) for value in values) and len({type(value) for value in values}) == 1:
        where = f"{type(values[0]).__module__}:{type(values[0]).__qualname__}"
        return {"kind": "one_of", "values": [value.name for value in values], "enum": where}
    if any(isinstance(value, enum.Enum) for value in values):
        return {"kind": "opaque", "reason": "a member of an enum, or something else"}
    plain = [int(value) if isinstance(value, Constant) else value for value in values]
    names = {short: int(value) for value in values if isinstance(value, Constant) for short in _spellings(value.name)}
    apart = {(type(value), value): value for value in plain}  # True is 1 to a dict, not to whoever wrote both
    made = {"kind": "one_of", "values": list(apart.values())}
    return {**made, "names": names} if names else made


def _spellings(name: str) -> tuple[str, str]:
    """Return how BORDER_REFLECT_101 may be written: reflect_101, BORDER_REFLECT_101."""
    return name.partition("_")[2].lower(), name


def plain_default(value: object) -> tuple[object, bool]:
    """Return a default as JSON and True, or its text and False where it has no plain form."""
    if isinstance(value, enum.Enum):
        return value.name, True
    if isinstance(value, pathlib.PurePath):
        return str(value), True
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain_default({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if value is None or isinstance(value, (bool, int, str)):
        return value, True
    if isinstance(value, float):
        return (value, True) if math.isfinite(value) else (repr(value), False)
    if isinstance(value, (list, tuple)):
        items = [plain_default(item) for item in value]
        return ([item for item, _ in items], True) if all(plain for _, plain in items) else (repr(value), False)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        pairs = {key: plain_default(item) for key, item in value.items()}
        if all(plain for _, plain in pairs.values()):
            return {key: item for key, (item, _) in pairs.items()}, True
    return getattr(value, "__name__", None) or repr(value), False


# ------------------------------------------------------------------------------------------------ a library's constants
class Constant(int):
    """An integer constant of a library together with its name there, so that a recipe can write the name."""

    name: str

    def __new__(cls, name: str, value: int) -> Constant:
        """Make the constant `name` with this value."""
        made = super().__new__(cls, value)
        made.name = name
        return made

    def __eq__(self, other: object) -> bool:
        return int(self) == other and getattr(other, "name", self.name) == self.name

    def __hash__(self) -> int:
        return hash((self.name, int(self)))  # typing.Literal caches by it, and values repeat across families


class Constants:
    """Stands in for a module while annotations are evaluated: its integer attributes remember their names."""

    def __init__(self, module: types.ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> object:
        value = getattr(self._module, name)
        return Constant(name, value) if type(value) is int else value
