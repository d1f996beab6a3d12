"""Components named by where they are: `timm:NAME`, `torchmetrics:NAME` and `package.module:Object`.

Owns which of them a recipe may name and how they are described. Only what `plugins` lists is ever imported for a name;
nothing is called here, and an object that is not of its slot's base is refused.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from registry.catalogue.adoption import Change, Found
from registry.catalogue.annotations import Slots
from registry.catalogue.plugins import check_base, import_plugin, own_change, provides
from registry.catalogue.signatures import described
from registry.catalogue.slots import SLOTS
from registry.errors import RecipeError

_NO_VALUE = ("ConfusionMatrix", "ROC", "PrecisionRecallCurve")  # tables and curves; what else has none, a trial finds


def imported(slot: str, name: str, plugins: Sequence[str], slots: Callable[[], Slots]) -> dict[str, Any]:
    """Describe a component that is named with a colon, as the catalogue's record of it.

    Args:
        slot: where the recipe names it.
        name: as written.
        plugins: names of packages and paths of files that the recipe lists.
        slots: returns base class -> slot, for nested components; asked once the name is found to be allowed.

    Raises:
        RecipeError: it is not allowed, cannot be imported, does not exist or is not of the slot's base.
    """
    where, _, names = name.partition(":")
    if where in _EXTRAS:
        wanted, describe = _EXTRAS[where]
        if slot == wanted:
            return describe(names, slots) | {"name": name}
    module = _module(where, plugins)
    if module is None:
        raise RecipeError(
            f"{name!r} is neither an adopted component nor from a package or file listed under `plugins`",
            "an import path names a component of a plug-in: package.module:Object",
        )
    value: object = import_plugin(module)
    for part in names.split("."):
        if part.startswith("_") or not hasattr(value, part):
            raise RecipeError(f"{where} has no {names!r}", "an import path is written package.module:Object")
        value = getattr(value, part)
    check_base(slot, name, value)
    found = Found(name, f"{module}:{names}", value, own_change(value), own=False, package="")  # type: ignore[arg-type]
    return described(found, SLOTS[slot], slots())


def _module(where: str, plugins: Sequence[str]) -> str | None:
    """Return what to import for the part before the colon; None where no plug-in allows it."""
    for plugin in plugins:
        if provides(plugin, where):
            return plugin if plugin.endswith(".py") else where
    return None


def _timm(name: str, slots: Callable[[], Slots]) -> dict[str, Any]:
    timm = _extra("timm", f"timm:{name}")
    from registry.models.timm import LOCAL, architecture, build

    if name.startswith(LOCAL):
        folder = name.removeprefix(LOCAL)
        raise RecipeError(
            f"timm:{name} says where weights are, not which network takes them",
            f'write {{type: "timm:{architecture(Path(folder)) or "NAME"}", weights: "{folder}"}}',
        )
    if not timm.is_model(name):
        close = timm.list_models(f"*{name}*")[:2]
        raise RecipeError(f"timm has no model {name!r}", f"did you mean {' or '.join(close)}?" if close else "")
    target = f"registry.models.timm:{name.replace('.', '/')}"  # a dot would be a step into it
    change = Change(engine={"name": "the part after the colon says it"}, facts={"upstream": f"timm:{name}"})
    found = Found(name, target, build, change, own=False, package="timm")
    record = described(found, SLOTS["model"], slots())
    record["parameters"] = [one for one in record["parameters"] if one["name"] != "name"]
    return record


def _torchmetrics(name: str, slots: Callable[[], Slots]) -> dict[str, Any]:
    _extra("torchmetrics", f"torchmetrics:{name}")
    from registry.catalogue.adoption import resolve

    cls = getattr(resolve("torchmetrics:classification"), name, None)
    metric = resolve("torchmetrics:Metric")
    if not isinstance(cls, type) or not issubclass(cls, metric) or name.startswith(("Binary", "Multilabel")):
        raise RecipeError(f"torchmetrics has no multiclass metric {name!r}", "its names are those of MulticlassF1Score")
    # Classes for any task, CalibrationError say, declare nothing and make an object of the one that does.
    told = getattr(resolve("torchmetrics:classification"), f"Multiclass{name}", cls)
    record = described(
        Found(
            name,
            f"registry.metrics.torchmetrics:{name}",
            cls,
            Change(
                refused="it has no single value" if name.removeprefix("Multiclass") in _NO_VALUE else "",
                engine=dict.fromkeys(("num_labels", "threshold", "multidim_average"), "targets are class indices"),
                facts={
                    "mode": "min" if getattr(told, "higher_is_better", True) is False else "max",
                    **_range(told),
                },
            ),
            own=False,
            package="torchmetrics",
        ),
        SLOTS["metric"],
        slots(),
    )
    for parameter in record["parameters"]:
        if parameter["name"] == "task":  # the generic classes ask for it, and here it can only be one
            parameter.update(role="engine", reason="targets are class indices", type={"kind": "text"})
    return record


def _range(cls: type) -> dict[str, list[float]]:
    """Return the fact of the numbers that a metric of torchmetrics can have, where it declares them."""
    limits = [getattr(cls, name, None) for name in ("plot_lower_bound", "plot_upper_bound")]
    known = [float(one) for one in limits if isinstance(one, (int, float))]
    return {"range": known} if len(known) == 2 else {}


def _extra(package: str, name: str) -> Any:
    if importlib.util.find_spec(package) is None:
        raise RecipeError(f"{name} needs the package {package}", f'install it: pip install "recipe-trainer[{package}]"')
    try:
        return importlib.import_module(package)
    except Exception as error:
        raise RecipeError(f"{name}: {package} cannot be imported: {type(error).__name__}: {error}") from error


_EXTRAS: Mapping[str, tuple[str, Callable[[str, Callable[[], Slots]], dict[str, Any]]]] = {
    "timm": ("model", _timm),
    "torchmetrics": ("metric", _torchmetrics),
}
