"""Registries: per slot, the rules by which upstream namespaces and our own folders come in.

A rule names a namespace and a base; what it finds is decided when the catalogue is built, so declaring rules imports
nothing. Exceptions stand beside the rule with their reason. What an adopted object's signature says is read by
`registry.catalogue.signatures`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from registry.errors import RecipeError

Type = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """How one component, or all of an adoption, differs from what its signature says.

    Attributes:
        refused: why it cannot be used, and what to use; it stays listed so that the message can be given.
        types: parameter -> its type, where the annotation is missing or says too little.
        engine: parameters that are not the user's -> the reason.
        user: parameters that are the user's here, although the slot has them for the engine's.
        supplied: parameters that the engine fills in for this component alone -> what it fills in.
        renamed: argument of an older release or of another name -> what to write now.
        forwards: "module:Object" of what receives the component's `**kwargs`.
        facts: what people and checks may want to know, JSON.
        docs: parameter -> text, instead of upstream's.
        missing_docs: parameter -> text, where upstream has none.
    """

    refused: str = ""
    types: Mapping[str, Type] = field(default_factory=dict)
    engine: Mapping[str, str] = field(default_factory=dict)
    user: tuple[str, ...] = ()
    supplied: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    forwards: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    docs: Mapping[str, str] = field(default_factory=dict)
    missing_docs: Mapping[str, str] = field(default_factory=dict)

    def over(self, other: Change) -> Change:
        """Return both, this one winning where they speak of the same."""
        return Change(
            refused=self.refused or other.refused,
            types={**other.types, **self.types},
            engine={**other.engine, **self.engine},
            user=self.user or other.user,
            supplied={**other.supplied, **self.supplied},
            renamed={**other.renamed, **self.renamed},
            forwards=self.forwards or other.forwards,
            facts={**other.facts, **self.facts},
            docs={**other.docs, **self.docs},
            missing_docs={**other.missing_docs, **self.missing_docs},
        )


@dataclass(frozen=True)
class Found:
    """A component that a rule found.

    Attributes:
        name: as recipes write it.
        target: "module:Qualified.Name" to load it from.
        object: what its signature is read from.
        change: the exceptions that hold for it.
        own: it is ours, not upstream's.
        package: the distribution whose version is its origin; "" for ours.
    """

    name: str
    target: str
    object: Callable[..., object]
    change: Change
    own: bool
    package: str


class Rule(Protocol):
    """One way for components to come in."""

    def find(self) -> Iterator[Found]:
        """Import what is needed and yield the components."""


class Registry:
    """The components of one slot.

    Args:
        slot: its name in `registry.catalogue.slots`.
    """

    def __init__(self, slot: str) -> None:
        self.slot = slot
        self.rules: list[Rule] = []

    def adopt(self, namespace: str, base: str, **options: Any) -> None:
        """Adopt every public concrete subclass of `base` that the module `namespace` exports; see `Namespace`."""
        self.rules.append(Namespace(namespace, base, **options))

    def adopt_own(self, package: str, base: str, marked_by: str = "") -> None:
        """Adopt what the modules of our own package or module define; see `Own`."""
        self.rules.append(Own(package, base, marked_by))

    def adopt_table(self, targets: Mapping[str, str], **options: Any) -> None:
        """Adopt by name what no rule describes; see `Table`."""
        self.rules.append(Table(targets, **options))

    def find(self) -> Iterator[Found]:
        """Yield the components of all rules, in order.

        Raises:
            RecipeError: two different objects claim one name.
        """
        seen: dict[str, Found] = {}
        for rule in self.rules:
            for found in rule.find():
                earlier = seen.setdefault(found.name, found)
                if earlier is found:
                    yield found
                elif earlier.object is not found.object:
                    raise duplicate(self.slot, found.name, earlier.target, found.target)


def duplicate(slot: str, name: str, first: str, second: str) -> RecipeError:
    """Return the error for two components of one name."""
    return RecipeError(
        f"the {slot} {name!r} is defined twice: by {first} and by {second}", "rename one of them, or adopt only one"
    )


@dataclass(frozen=True)
class Namespace:
    """Adopt a module's public concrete subclasses of a base.

    Attributes:
        module: whose names are adopted.
        base: "module:Class"; the base itself and abstract classes stay out.
        package: the distribution that the module belongs to.
        exclude: names that stay out.
        changes: exceptions by name.
        every: exceptions that hold for all.
    """

    module: str
    base: str
    package: str
    exclude: Sequence[str] = ()
    changes: Mapping[str, Change] = field(default_factory=dict)
    every: Change = Change()

    def find(self) -> Iterator[Found]:
        """Import the module and yield its components, by name."""
        module, base = importlib.import_module(self.module), resolve(self.base)
        assert isinstance(base, type)
        for name in sorted(getattr(module, "__all__", None) or dir(module)):
            cls = getattr(module, name)
            if name.startswith("_") or not isinstance(cls, type) or not issubclass(cls, base) or cls is base:
                continue
            if inspect.isabstract(cls) or name in self.exclude or cls.__name__ != name:
                continue
            change = self.changes.get(name, Change()).over(self.every)
            yield Found(name, f"{self.module}:{name}", cls, change, own=False, package=self.package)


@dataclass(frozen=True)
class Table:
    """Adopt named objects.

    Attributes:
        targets: name -> "module:Object".
        package: the distribution they come from.
        changes: exceptions by name.
        every: exceptions that hold for all.
    """

    targets: Mapping[str, str]
    package: str
    changes: Mapping[str, Change] = field(default_factory=dict)
    every: Change = Change()

    def find(self) -> Iterator[Found]:
        """Import and yield what the table names."""
        for name, target in self.targets.items():
            change = self.changes.get(name, Change()).over(self.every)
            yield Found(name, target, resolve(target), change, own=False, package=self.package)


@dataclass(frozen=True)
class Own:
    """Adopt what a module of ours, or every module in a folder of ours, defines.

    Public concrete classes that fit the base; and functions that `__all__` exports and whose return annotation fits.

    Attributes:
        package: module or package; missing means nothing is adopted.
        base: "module:Class", a base class or a Protocol.
        marked_by: attribute that a component has and a base class of ours has not; "" where nothing tells them apart.
    """

    package: str
    base: str
    marked_by: str = ""

    def find(self) -> Iterator[Found]:
        """Import the modules and yield their components in the order they are written."""
        base = resolve(self.base)
        assert isinstance(base, type)
        for module in _modules(self.package):
            exported = getattr(module, "__all__", None)
            names = exported if exported is not None else [name for name in vars(module) if not name.startswith("_")]
            for name in names:
                value = getattr(module, name)
                if getattr(value, "__module__", "") != module.__name__ or not hasattr(
                    value, self.marked_by or "__doc__"
                ):
                    continue
                if fits(value, base, exported is not None):
                    change = getattr(value, "change", Change())
                    yield Found(name, f"{module.__name__}:{name}", value, change, own=True, package="")


@dataclass(frozen=True)
class Noted:
    """Adopt what another rule finds, with facts that the rule does not know.

    Attributes:
        rule: the other rule.
        names: the components that the facts hold for.
        facts: added to each of them.
    """

    rule: Rule
    names: Sequence[str]
    facts: Mapping[str, Any]

    def find(self) -> Iterator[Found]:
        """Yield what the other rule finds."""
        for found in self.rule.find():
            noted = found.name in self.names
            yield replace(found, change=Change(facts=self.facts).over(found.change)) if noted else found


def _modules(package: str) -> Iterator[Any]:
    try:
        root = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name == package:
            return
        raise
    yield root
    for info in sorted(pkgutil.walk_packages(getattr(root, "__path__", []), f"{package}."), key=lambda one: one.name):
        yield importlib.import_module(info.name)


def fits(value: object, base: type, exported: bool = True) -> bool:
    """Tell whether a value is a component of a base: a concrete class below it, or an exported function returning it.

    Args:
        value: a module's attribute.
        base: a class, or a Protocol whose public methods the class must have.
        exported: whether a function counts.
    """
    if isinstance(value, type):
        return value is not base and not inspect.isabstract(value) and not is_protocol(value) and _derives(value, base)
    if not exported or not inspect.isfunction(value):
        return False
    try:
        returned = inspect.signature(value, eval_str=True).return_annotation
    except Exception as error:  # the annotations' own code: any of them may be at fault
        where = f"{value.__module__}.{value.__qualname__}"
        raise RecipeError(
            f"an annotation of {where} cannot be evaluated: {error}",
            "import what it names when the module is run, not under `if TYPE_CHECKING:` alone",
        ) from error
    return isinstance(returned, type) and _derives(returned, base)


def _derives(cls: type, base: type) -> bool:
    if not is_protocol(base):
        return issubclass(cls, base)
    wanted = [name for name in vars(base) if not name.startswith("_") and callable(getattr(base, name))]
    return all(callable(getattr(cls, name, None)) for name in wanted)


def is_protocol(cls: type) -> bool:
    """Tell whether a class is a Protocol, not one that implements it."""
    return bool(cls.__dict__.get("_is_protocol", False))


def resolve(target: str) -> Any:
    """Import what "module:Qualified.Name" names."""
    module, _, names = target.partition(":")
    found: Any = importlib.import_module(module)
    for name in names.split("."):
        found = getattr(found, name)
    return found
