"""Reading signatures: a component's parameters, types, defaults and texts, ready for the catalogue.

The signature is the schema. Needs the component imported, so it runs only while the catalogue is built; what the slot's
rules and an adoption's exceptions add is applied here. Finds no components: `registry.catalogue.adoption` does.
"""

from __future__ import annotations

import collections.abc
import enum
import importlib.metadata
import inspect
import json
import sys
import typing
from collections.abc import Callable, Mapping
from typing import Any

from registry.catalogue.adoption import Change, Found, resolve
from registry.catalogue.annotations import Constants, Slots, bounded, from_annotation, plain_default
from registry.catalogue.docstrings import documented, first_sentence, without_default
from registry.catalogue.slots import SlotRules
from registry.contracts import DataFacts
from registry.printing import snake_case
from registry.recording import Sink

Type = Mapping[str, Any]
Record = dict[str, Any]

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def described(found: Found, rules: SlotRules, slots: Slots) -> Record:
    """Return the catalogue's record of a component: an `Entry` as JSON.

    Args:
        found: the component and its exceptions.
        rules: of its slot.
        slots: base class -> slot, for nested components.
    """
    parameters = _parameters(found, rules, slots)
    refused = found.change.refused or _unwritable(parameters) or _taken(parameters, rules)
    record = {
        "slot": rules.name,
        "name": found.name,
        "target": found.target,
        "origin": _origin(found),
        "own": found.own,
        "doc": first_sentence(_doc(found.object)),
        "parameters": parameters,
        "facts": {**_facts(rules.name, found), **found.change.facts},
        "refused": refused,
        "renamed": dict(found.change.renamed),
    }
    json.dumps(record, allow_nan=False)  # what is no JSON is found here, where the component is known
    return record


def _parameters(found: Found, rules: SlotRules, slots: Slots) -> list[Record]:
    made = _signature(found.object, found.change, slots)
    for target in found.change.forwards:
        known = {parameter["name"] for parameter in made}
        inner = _signature(resolve(target), found.change, slots)
        # What the outer function fills in itself has no default in the inner signature.
        open_ = [one for one in inner if not one["required"] or one["name"] in rules.supplied]
        made += [one for one in open_ if one["name"] not in known]
    for parameter in made:
        _assign_role(parameter, rules, found.change)
        parameter["required"] |= parameter["name"] in rules.written
    return made


def _assign_role(parameter: Record, rules: SlotRules, change: Change) -> None:
    name = parameter["name"]
    parameter["role"], parameter["reason"] = "user", ""
    supplied, engine = {**rules.supplied, **change.supplied}, {**rules.engine, **change.engine}
    for role, reasons in (("supplied", supplied), ("engine", engine)):
        if name in reasons and name not in change.user:
            parameter["role"], parameter["reason"] = role, reasons[name]


def _unwritable(parameters: list[Record]) -> str:
    for parameter in parameters:
        if parameter["required"] and parameter["role"] == "user" and parameter["type"]["kind"] == "opaque":
            return f"its argument {parameter['name']!r} is {parameter['type']['reason']}, which a recipe cannot write"
    return ""


def _taken(parameters: list[Record], rules: SlotRules) -> str:
    for parameter in parameters:
        if parameter["name"] in rules.knobs and parameter["role"] == "user":
            name = parameter["name"]
            return f"its argument {name!r} is called as what the engine does by {rules.name}.{name}: rename it"
    return ""


def _signature(callable_: Callable[..., object], change: Change, slots: Slots) -> list[Record]:
    namespace = _namespace(callable_)
    docs = documented(_doc(callable_))
    if isinstance(callable_, type):
        docs = {**documented(inspect.getdoc(vars(callable_).get("__init__")) or ""), **docs}
    limits = _init_schema(callable_)
    made = []
    for name, parameter in inspect.signature(callable_).parameters.items():
        if parameter.kind in _VARIADIC or name == "self":
            continue
        required = parameter.default is inspect.Parameter.empty
        type_ = change.types.get(name) or _typed(parameter, namespace, slots)
        for mark in limits.get(name, ()):
            type_ = bounded(type_, mark)
        given = parameter.default
        if isinstance(given, enum.Enum) and name in change.types and "enum" not in type_:
            given = given.value  # a release of upstream has the member where others have its value
        default, plain = (None, True) if required else plain_default(given)
        said = change.docs.get(name) or without_default(docs.get(name, "")) or change.missing_docs.get(name, "")
        made.append({"name": name, "type": dict(type_), "required": required, "default": default})
        made[-1].update(default_plain=plain, doc=said)
    return made


def _typed(parameter: inspect.Parameter, namespace: Mapping[str, object], slots: Slots) -> Type:
    given = parameter.default is not None and parameter.default is not inspect.Parameter.empty
    if parameter.annotation is inspect.Parameter.empty and given:
        return from_annotation(type(parameter.default), namespace, slots)
    return from_annotation(parameter.annotation, namespace, slots)


def _namespace(callable_: Callable[..., object]) -> dict[str, object]:
    """Names an annotation may use: typing, collections.abc and torch behind the globals of where it was written."""
    import torch
    from torch.optim.lr_scheduler import LRScheduler

    behind = {"torch": torch, "Tensor": torch.Tensor, "Optimizer": torch.optim.Optimizer, "LRScheduler": LRScheduler}
    own: dict[str, object] = {}
    if isinstance(callable_, type):
        made_by = [cls for cls in callable_.__mro__ if {"__init__", "__new__"} & set(vars(cls)) and cls is not object]
        for cls in (*reversed(callable_.__mro__), *made_by[:1]):  # fields of a dataclass may be of any of its bases
            own.update(vars(sys.modules.get(cls.__module__, typing)))
    else:
        own = getattr(inspect.unwrap(callable_), "__globals__", {})
    names = {**vars(typing), **vars(collections.abc), **behind, **own}
    if "cv2" in own:
        names["cv2"] = Constants(own["cv2"])  # type: ignore[arg-type]
    return names


def _init_schema(callable_: Callable[..., object]) -> dict[str, list[object]]:
    """Return the limits that an Albumentations transform declares beside its signature."""
    schema = getattr(callable_, "InitSchema", None)
    fields = getattr(schema, "model_fields", {})
    return {name: list(field.metadata) for name, field in fields.items()}


def _doc(callable_: Callable[..., object]) -> str:
    return inspect.cleandoc(callable_.__doc__ or "")


def _origin(found: Found) -> str:
    if found.package:
        return f"{found.package} {importlib.metadata.version(found.package)}"
    return found.target.partition(":")[0]


def _facts(slot: str, found: Found) -> Record:
    facts = getattr(found.object, "facts", None)
    if slot == "dataset" and isinstance(facts, DataFacts):
        return data_facts(facts)
    if slot == "metric":
        limits = getattr(found.object, "range", None)
        known = {"range": list(limits)} if isinstance(limits, (tuple, list)) else {}
        return {"key": snake_case(found.name.rpartition(":")[2]), "mode": getattr(found.object, "mode", "max"), **known}
    if slot == "callback" and isinstance(found.object, type):
        measured = getattr(found.object, "measures", ())
        measures = list(measured) if isinstance(measured, (tuple, list)) else []
        return {"sink": issubclass(found.object, Sink), **({"measures": measures} if measures else {})}
    return {}


def data_facts(facts: DataFacts) -> Record:
    """Return a dataset's facts as JSON; what is unknown is null."""
    return {
        "splits": dict(facts.splits),
        "classes": facts.classes,
        "class_names": None if facts.class_names is None else list(facts.class_names),
        "image_size": None if facts.image_size is None else list(facts.image_size),
        "channels": facts.channels,
        "follows": {name: {"argument": of.argument, "values": dict(of.values)} for name, of in facts.follows.items()},
    }
