"""The catalogue: every component a recipe may name, with its parameters, read without importing torch.

Owns the entries and how they are looked up. They are made once by `signatures` from what `adoption` finds, kept by
`cache`, and made anew when a version or a file changed. What a recipe says is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from registry.catalogue import cache
from registry.catalogue.adoption import Registry as Registry
from registry.catalogue.adoption import duplicate, resolve
from registry.catalogue.plugins import Plugin, find_plugins, load_target
from registry.catalogue.plugins import component as component
from registry.catalogue.slots import EVERY_SLOT, SLOTS
from registry.contracts import DataFacts
from registry.errors import RecipeError
from registry.search import is_installed

Type = Mapping[str, Any]

_PACKAGES = ("torch", "torchvision", "albumentations", "opencv-python-headless", "opencv-python", "pydantic", "optuna")
_BASES = {
    "torch.optim.lr_scheduler:LRScheduler": "scheduler",
    "torch.optim:Optimizer": "optimizer",
    "torch.nn:Module": "model",
    "albumentations:BasicTransform": "transform",
    "albumentations:BaseCompose": "transform",
}
_SEARCH_BASES = {"optuna.pruners:BasePruner": "pruner", "optuna.samplers:BaseSampler": "sampler"}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a component.

    Attributes:
        name: as the constructor calls it.
        type: of the values it takes, in the grammar of `registry.catalogue.grammar`.
        required: it has no default.
        default: the default as plain JSON; its text where it has no plain form.
        default_plain: whether `default` is the value itself.
        doc: what the docstring says about it, one line.
        role: "user" sets it; it is "supplied" where the user does not; or it is always the "engine"'s.
        reason: what is supplied, or why it is the engine's.
    """

    name: str
    type: Type
    required: bool
    default: object
    default_plain: bool
    doc: str
    role: Literal["user", "supplied", "engine"]
    reason: str = ""


@dataclass(frozen=True)
class Entry:
    """One component.

    Attributes:
        slot: where a recipe may name it.
        name: as a recipe names it.
        target: "package.module:Qualified.Name", or "/path/ops.py:Name" of a plug-in file.
        origin: "torch 2.15.0", or our module, or the plug-in.
        own: it is ours.
        doc: first sentence of its docstring.
        parameters: in the constructor's order.
        facts: what checks and people may want to know: a dataset's splits, classes and image_size, a metric's key and
            mode and `range`; `usual`: (least, greatest) value of an argument that is met in practice; `instead`: what
            to take where its constructor refuses; `waits`: unit -> the argument that counts what is waited for;
            `levels`: a transform takes pixels for grey levels;
            `alternatives`: sets of arguments of which one is given; `computed`: argument -> the word that asks
            the engine for its value; `phases`: which components follow one another, where each ends, and which
            lengths are supplied to each.
        refused: why a recipe cannot use it; "" where it can.
        renamed: argument of an older release -> what to write now.
    """

    slot: str
    name: str
    target: str
    origin: str
    own: bool
    doc: str
    parameters: tuple[Parameter, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    refused: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)

    def parameter(self, name: str) -> Parameter | None:
        """Return the parameter of this name, or None."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)

    def settable(self) -> list[str]:
        """Return the names a recipe may set, in order."""
        return [one.name for one in self.parameters if one.role != "engine" and one.type["kind"] != "opaque"]

    def data_facts(self, arguments: Mapping[str, object] | None = None) -> DataFacts:
        """Return what is known of a dataset without reading it.

        Args:
            arguments: that a recipe gives it; what they say goes before what the entry declares.
        """
        facts = {**self.facts, **self._told({} if arguments is None else arguments)}
        names, size = facts.get("class_names"), facts.get("image_size")
        names = None if names is None or len(names) != facts.get("classes") else tuple(names)
        return DataFacts(
            splits=facts.get("splits", {}),
            class_names=names,
            image_size=None if size is None else (size[0], size[1]),
            channels=facts.get("channels"),
            num_classes=facts.get("classes"),
        )

    def _told(self, arguments: Mapping[str, object]) -> dict[str, Any]:
        """Return the facts that follow from arguments."""
        told: dict[str, Any] = {}
        for name, rule in self.facts.get("follows", {}).items():
            parameter = self.parameter(rule["argument"])
            value = arguments.get(rule["argument"], None if parameter is None else parameter.default)
            if rule["values"]:
                value = rule["values"].get(str(value), rule["values"].get("*"))
            told |= _fact(name, value, {**self.facts, **told})
        return told

    def load(self) -> Callable[..., object]:
        """Import and return the class or function."""
        return load_target(self.target)


def _fact(name: str, value: object, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return a fact in the form in which an entry holds it; nothing where the value is of another form."""
    if name == "input" and isinstance(value, (list, tuple)) and len(value) == 3:
        return {"channels": value[0], "image_size": list(value[1:])}
    if name == "image_size" and isinstance(value, (list, tuple)):
        return {name: list(value)}
    if name == "class_names":
        return {name: list(value), "classes": len(value)} if isinstance(value, (list, tuple)) else {}
    if not isinstance(value, int) or isinstance(value, bool):
        return {}
    if name == "image_size":
        return {name: [value, value]}
    if name.startswith("splits."):
        return {"splits": {**known["splits"], name.removeprefix("splits."): value}}
    return {{"num_classes": "classes"}.get(name, name): value} if name in ("num_classes", "channels") else {}


class Catalogue:
    """All entries by slot and name.

    Args:
        records: entries as JSON, ours first.
        plugins: names of packages and paths of files from which import paths are accepted, and how many components
            each marks.
    """

    def __init__(self, records: Sequence[Mapping[str, Any]], plugins: Mapping[str, int] | None = None) -> None:
        self.marked_by: Mapping[str, int] = plugins or {}
        self._records: dict[str, dict[str, Mapping[str, Any]]] = {slot: {} for slot in EVERY_SLOT}
        self._entries: dict[tuple[str, str], Entry] = {}
        for record in records:
            earlier = self._records[record["slot"]].setdefault(record["name"], record)
            if earlier is not record and earlier["target"] != record["target"]:
                raise duplicate(record["slot"], record["name"], earlier["target"], record["target"])

    def entry(self, slot: str, name: str) -> Entry:
        """Return an entry, a refused one too.

        Args:
            slot: where it is named.
            name: a listed name; or an import path "package.module:Object" of an adopted component or a plug-in's,
                "timm:NAME" or "torchmetrics:NAME".

        Raises:
            KeyError: the slot has no component of this name.
            RecipeError: an import path is not allowed, cannot be imported or names nothing of the slot.
        """
        if (slot, name) not in self._entries:
            record = self._records[slot].get(name) or (self._imported(slot, name) if ":" in name else None)
            if record is None:
                raise KeyError(name)
            self._entries[slot, name] = _entry(record)
        return self._entries[slot, name]

    def _imported(self, slot: str, name: str) -> Mapping[str, Any]:
        for record in self._records[slot].values():
            if name in (record["target"], record["facts"].get("upstream")):
                return record
        if (name.count(":") != 1 and not name.startswith("timm:")) or name.startswith(":") or name.endswith(":"):
            raise RecipeError(f"{name!r} is no import path", "an import path is written package.module:Object")
        from registry.catalogue.imported import imported

        return imported(slot, name, list(self.marked_by), base_slots)

    def names(self, slot: str, refused: bool = False) -> list[str]:
        """Return the names of a slot, ours first, else in order; with or without those a recipe cannot use."""
        records = self._records[slot]
        kept = [name for name, record in records.items() if refused or not record["refused"]]
        return sorted(kept, key=lambda name: _order(records[name]))

    def slots_of(self, name: str) -> list[str]:
        """Return the slots that have a component of this name."""
        return [slot for slot, records in self._records.items() if name in records]


def _order(record: Mapping[str, Any]) -> tuple[bool, str]:
    return not record["own"], record["name"].lower()


def _entry(record: Mapping[str, Any]) -> Entry:
    parameters = tuple(Parameter(**parameter) for parameter in record["parameters"])
    return Entry(**{**record, "parameters": parameters})


def catalogue(plugins: Sequence[str | Path] = ()) -> Catalogue:
    """Return the catalogue, from the cache where nothing it depends on has changed.

    Args:
        plugins: names of packages, and paths of files (ending in .py), whose components may be named as well; installed
            packages with an entry point in the group "recipe_trainer" come in by themselves.

    Raises:
        RecipeError: a plug-in does not exist or cannot be imported, or two components have one name.
    """
    records = list(cache.kept("", cache.key(_PACKAGES, []), _make))
    marked: dict[str, int] = {}
    for plugin in find_plugins(plugins):  # each beside the rest, so that a line changed in one does not cost all
        wanted = cache.key([*_PACKAGES, *filter(None, [plugin.distribution])], plugin.sources)
        made = cache.kept(plugin.name, wanted, partial(_make_plugin, plugin), plugin.imported)
        records += made
        marked[plugin.name] = len(made)
    return Catalogue(records, marked)


def base_slots() -> dict[type, str]:
    """Return base class -> slot, of the slots whose components may be nested in others; imports torch."""
    extra = _SEARCH_BASES if is_installed() else {}
    return {resolve(base): slot for base, slot in (_BASES | extra).items()}


def _make() -> cache.Records:
    """Import everything there is without plug-ins and describe it; takes seconds."""
    from registry.catalogue.signatures import described

    slots, records = base_slots(), []
    for rules in EVERY_SLOT.values():
        registry: Registry = resolve(rules.registry)
        records += [described(found, rules, slots) for found in registry.find()]
    return records


def _make_plugin(plugin: Plugin) -> cache.Records:
    """Import a plug-in and describe what it marks."""
    from registry.catalogue.signatures import described

    slots, records = base_slots(), []
    for slot, found in plugin.find():
        try:
            records.append(described(found, SLOTS[slot], slots))
        except RecipeError:
            raise
        except Exception as error:  # an odd class may answer any question with an error of its own
            said = f"{type(error).__name__}: {error}"
            message = f"the {slot} {found.name!r} of the plug-in {plugin.name} cannot be described: {said}"
            raise RecipeError(message, f"{found.target} has something that no recipe can write; simplify it") from error
    return records
