"""A piece of recipe for a component, ready to paste: where it stands, with its required arguments filled in.

The values are examples that pass the check; what they mean is for the user to decide.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from registry.catalogue.catalog import Catalogue, Entry, Parameter
from registry.catalogue.grammar import Type, choices

_PLACES = {
    "model": "model: {}\n",
    "dataset": "data:\n  dataset: {}\n",
    "transform": "data:\n  augment:\n    - {}\n",
    "loss": "loss: {}\n",
    "regularizer": "regularizers:\n  - {}\n",
    "optimizer": "optimizer: {}\n",
    "scheduler": "scheduler: {}\n",
    "metric": "train:\n  metrics: [Accuracy, {}]\n",
    "callback": "callbacks:\n  - {}\n",
    "report": "report:\n  - {}\n",
    "mix": "train:\n  mix: {}\n",
    "distribution": "search:\n  optimizer.lr: {}\n",
    "sampler": "sampler: {}\n",
    "pruner": "pruner: {}\n",
}
# Arguments worth showing although they have a default, and better values than the type alone suggests.
_WORTH = {"transform": ("p",), "dataset": ("root",)}
_VALUES: Mapping[str, Any] = {
    "lr": 0.1,
    "base_lr": 0.001,
    "max_lr": 0.1,
    "step_size": 10,
    "milestones": [5],
    "T_0": 10,
    "file": "labels.csv",
    "gamma": 0.95,
    "strength": 1e-4,
    "height": 32,
    "width": 32,
    "size": [32, 32],
    "min_max_height": [24, 32],
    "num_grid_xy": [4, 4],
    "magnitude": 5,
    "max_size": 32,
    "decay": 0.999,
}
# Where one of several arguments must be given, or the defaults are made for larger images.
_EXTRA: Mapping[str, Mapping[str, Any]] = {
    "ColorJitter": {"hue": [-0.02, 0.02]},  # its default turns every colour into any other
    "Crop": {"x_max": 24, "y_max": 24},
    "CropAndPad": {"px": 4},
    "FakeData": {"size": 20, "image_size": [3, 32, 32]},
    "LongestMaxSize": {"max_size": 32},
    "OneOrOther": {"first": "HorizontalFlip", "second": "VerticalFlip"},
    "SmallestMaxSize": {"max_size": 32},
    "Table": {"image": "path", "target": "label"},
    "TimeMasking": {"time_mask_param": 16},
}
_NESTED = {"transform": ("HorizontalFlip", "Rotate"), "scheduler": ("LinearLR", "ConstantLR")}


def snippet(entry: Entry, components: Catalogue) -> str:
    """Return YAML that names a component where it belongs, with every argument that a recipe must give."""
    if entry.name == "Accuracy":
        return "train:\n  metrics: [Accuracy]\n"
    return _PLACES[entry.slot].format(_flow(example(entry, components)))


def example(entry: Entry, components: Catalogue) -> str | dict[str, Any]:
    """Return a component as a recipe may write it, with values for what it must give.

    Args:
        entry: the component.
        components: where nested ones are looked up.
    """
    worth = _WORTH.get(entry.slot, ())
    given = {
        one.name: _argument(one, entry, components)
        for one in entry.parameters
        if one.role == "user" and (one.required or (one.name in worth and one.default is not None))
    }
    given.update(_EXTRA.get(entry.name, {}))
    return {"type": entry.name, **given} if given else entry.name


def _argument(parameter: Parameter, entry: Entry, components: Catalogue) -> Any:
    if parameter.name in _VALUES and parameter.required:
        return _VALUES[parameter.name]
    if not parameter.required and parameter.default_plain:
        return parameter.default
    return _value(parameter.type, entry, components)


def _value(type: Type, entry: Entry, components: Catalogue) -> Any:
    """Return a value of a type: near its bounds, the first of its choices, two components."""
    kind = type["kind"]
    if kind == "union":
        return _value(type["of"][0], entry, components)
    if kind in ("number", "integer"):
        return type.get("min", type["above"] + 1 if "above" in type else 1)
    if kind == "list":
        if type["of"]["kind"] == "component":
            names = _NESTED.get(type["of"]["slot"], components.names(type["of"]["slot"])[:1])
            return [example(components.entry(type["of"]["slot"], name), components) for name in names]
        return [_value(type["of"], entry, components)] * max(1, type.get("min_length", 1))
    if kind == "tuple":
        return [_value(of, entry, components) for of in type["of"]]
    if kind == "component":
        return components.names(type["slot"])[0]
    if kind == "one_of":
        return choices(type)[0]
    return {"bool": True, "text": "...", "null": None, "tensor": [1.0], "mapping": {}, "any": None}[kind]


def _flow(value: Any) -> str:
    """Write a value as one line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str):
        return value if value.replace("_", "").isalnum() and not value.isdigit() else json.dumps(value)
    return json.dumps(value)
