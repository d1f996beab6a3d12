"""A recipe with everything said: resolved.yaml, `show`, `diff`, and the flat values for comparison.

What is written here loads again to the same recipe: values of sections that the user left out are written and marked,
those of components and what the engine supplies are comments, because writing them would make them the user's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from registry.catalogue.catalog import Catalogue, Entry, catalogue
from registry.printing import printable
from trainer.recipe.load import Loaded
from trainer.recipe.outline import Items, Line, Value, render
from trainer.recipe.reading.references import bind
from trainer.recipe.reading.scalars import spelling
from trainer.recipe.recipe import Expectation, Group, LRFinder, Origin, Recipe, Reference, Spec

_HIDDEN = ("seeds", "description", "plugins", "expect", "scheduler", "lr_finder")  # left out where they are not set
_ORDER = (
    *("version", "name", "description", "seed", "seeds", "plugins", "data", "model", "loss", "regularizers"),
    *("optimizer", "scheduler", "lr_finder", "train", "callbacks", "report", "expect"),
)
_FACT_OF = {  # what the engine supplies -> the run-time value that tells it
    "num_classes": "data.num_classes",
    "image_size": "data.image_size",
    "epochs": "run.epochs",
    "steps_per_epoch": "run.steps_per_epoch",
    "total_steps": "run.total_steps",
}
LR = "lr_finder.lr"


RESOLVED = "resolved.yaml"  # in a run folder


def resolved_yaml(
    recipe: Recipe,
    *,
    facts: Mapping[str, object] | None = None,
    lr: float | None = None,
    known: Catalogue | None = None,
    fast_limit: int | None = None,
) -> str:
    """Return the recipe as YAML with everything resolved; it runs as is.

    Args:
        recipe: what runs.
        facts: run-time values, shown in comments beside the references to them.
        lr: the learning rate that was found; it replaces `$lr_finder.lr`, and the finder becomes a comment.
        known: the catalogue with the recipe's plug-ins; looked up where omitted.
        fast_limit: images of each part that a run under `--fast` takes; None where it takes all.
    """
    head = f"# {recipe.name}: everything that was left out is written here and marked. Run it as any recipe.\n"
    if fast_limit is not None:
        head += "# It was run with --fast, which cuts it short; to repeat that run give --fast again.\n"
    return head + render(_Resolved(recipe, known or catalogue(recipe.plugins), facts or {}, lr, fast_limit).lines())


def show_text(loaded: Loaded, origin: bool = False) -> str:
    """Return what `show` prints: the resolved recipe, or every value with where it was written.

    Args:
        loaded: of `load_recipe`, without problems.
        origin: print file:line of every leaf.
    """
    recipe = loaded.recipe
    assert recipe is not None
    notes = "".join(f"# {note}\n" for note in loaded.notes)
    if not origin:
        return notes + resolved_yaml(recipe, known=loaded.catalogue)
    rows = []
    for path, value in flat(recipe).items():
        place = _origin(recipe, path)
        rows.append((f"{path}: {_flow(value, escaped=True)}", f"{place.file}:{place.line}" if place else "default"))
    width = min(60, max((len(text) for text, _ in rows), default=0))
    return notes + "".join(f"{text:<{width}}  # {place}\n" for text, place in rows)


def diff_text(first: Recipe, second: Recipe) -> str:
    """Return what two recipes say differently, one line per value; "" where they say the same."""
    one, other = flat(first), flat(second)
    lines = []
    for path in [*one, *(path for path in other if path not in one)]:
        left, right = (_flow(v[path], escaped=True) if path in v else "(not set)" for v in (one, other))
        if left != right:
            lines.append(f"{path}: {left} -> {right}")
    return "\n".join(lines)


def flat(recipe: Recipe) -> dict[str, Any]:
    """Return every value of a recipe by dotted path, defaults of sections included; lists of numbers stay whole.

    A run-time reference is its text, "$data.mean"; text that begins with a dollar sign keeps its escape, "$$".
    """
    found: dict[str, Any] = {}
    for name in _ORDER:
        value = getattr(recipe, name)
        if value or name not in _HIDDEN:
            _flatten(name, value, found)
    return found


def hparams(recipe: Recipe, facts: Mapping[str, object]) -> dict[str, bool | int | float | str]:
    """Return every value of a recipe by dotted path as a dashboard takes it, to sort and compare runs by.

    Args:
        recipe: what runs.
        facts: run-time values; each stands where the recipe refers to it.
    """
    found = {}
    for path, value in flat(bind(recipe, facts)).items():
        told = _flow(_rounded(value), escaped=True) if isinstance(value, (list, tuple)) else value
        if told is not None:
            found[path] = printable(told) if isinstance(told, str) else told
    return found


def _flatten(path: str, value: Any, found: dict[str, Any]) -> None:
    below: Mapping[str, Any]
    if isinstance(value, Spec):
        below = _spec_fields(value)
    elif isinstance(value, tuple) and value and isinstance(value[0], Expectation):
        below = {e.text.rpartition(": ")[0]: e.text.rpartition(": ")[2] for e in value}
    elif isinstance(value, Group):
        below = {"match": list(value.match), "lr_scale": value.lr_scale, **value.arguments}
    elif dataclasses.is_dataclass(value) and not isinstance(value, (type, Reference)):
        below = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif isinstance(value, Mapping):
        below = value
    elif isinstance(value, (list, tuple)) and any(isinstance(item, (Spec, Group, Mapping)) for item in value):
        below = {str(index): item for index, item in enumerate(value)}
    else:
        found[path] = _plain(value)
        return
    for key, item in below.items():
        _flatten(f"{path}.{key}", item, found)


def _plain(value: Any) -> Any:
    if isinstance(value, Reference):
        return f"${value.path}"
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return f"${value}" if isinstance(value, str) and value.startswith("$") else value


def _spec_fields(spec: Spec) -> dict[str, Any]:
    named = {"as": spec.name} if spec.renamed else {}
    return {"type": spec.type, **named, **spec.arguments, **spec.knobs}


def _origin(recipe: Recipe, path: str) -> Origin | None:
    """Return where a leaf was written; a bare name stands where its component stands."""
    return recipe.origins.get(path) or (recipe.origins.get(path[: -len(".type")]) if path.endswith(".type") else None)


# ------------------------------------------------------------------------------------------------------- resolved.yaml
@dataclasses.dataclass
class _Resolved:
    recipe: Recipe
    catalogue: Catalogue
    facts: Mapping[str, object]
    lr: float | None
    fast_limit: int | None

    def lines(self) -> tuple[Line, ...]:
        found = []
        for name in _ORDER:
            value = getattr(self.recipe, name)
            if name == "seed" and self.recipe.seeds is not None:
                continue
            if name == "lr_finder" and isinstance(value, LRFinder) and self._lr_is_found():
                said = f"it found {spelling(self.lr)}, now written where it was used"
                found.append(Line("lr_finder", said, active=False))
            elif value or name not in _HIDDEN:
                found.append(Line(name, self._value(value, name), self._mark(name, value)))
        return tuple(found)

    def _lr_is_found(self) -> bool:
        return self.lr is not None and f"${LR}" in map(str, flat(self.recipe).values())

    def _value(self, value: Any, path: str) -> Value:
        if isinstance(value, Spec):
            return self._component(value, path)
        if isinstance(value, Group):
            fields = {"match": list(value.match), "lr_scale": value.lr_scale, **value.arguments}
            return tuple(Line(key, self._value(item, f"{path}.{key}")) for key, item in fields.items())
        if isinstance(value, tuple) and value and isinstance(value[0], Expectation):
            pairs = [e.text.rpartition(": ") for e in value]
            return tuple(Line(spelling(key), spelling(band)) for key, _, band in pairs)
        if dataclasses.is_dataclass(value) and not isinstance(value, (type, Reference)):
            return tuple(
                Line(f.name, self._value(item, f"{path}.{f.name}"), self._mark(f"{path}.{f.name}", item))
                for f in dataclasses.fields(value)
                for item in [getattr(value, f.name)]
            )
        if isinstance(value, Mapping) and value:
            return tuple(Line(spelling(key), self._value(item, f"{path}.{key}")) for key, item in value.items())
        if isinstance(value, (list, tuple)) and any(isinstance(item, (Spec, Group, Mapping)) for item in value):
            return Items(tuple(self._item(item, f"{path}.{index}") for index, item in enumerate(value)))
        return _flow(self._found(value))

    def _item(self, item: Any, path: str) -> str | tuple[Line, ...]:
        value = self._value(item, path)
        assert not isinstance(value, Items)
        return value

    def _found(self, value: Any) -> Any:
        return bind(value, {LR: self.lr}) if self.lr is not None else value

    def _mark(self, path: str, value: Any) -> str:
        """Return the remark on a value of a section: that it is a default, or what a reference stands for."""
        if path == "data.limit" and self.fast_limit is not None:
            return f"--fast takes {self.fast_limit} images of each part at most"
        written = any(at == path or at.startswith(path + ".") for at in self.recipe.origins)
        return self._meaning(value) if written or path == "version" else "default"

    def _meaning(self, value: Any) -> str:
        if not isinstance(value, Reference):
            return ""
        if value.path == LR and self.lr is not None:
            return f"${LR}, found"
        return f"= {_flow(_rounded(self.facts[value.path]))}" if value.path in self.facts else ""

    def _component(self, spec: Spec, path: str) -> Value:
        entry = self.catalogue.entry(spec.slot, spec.type)
        fields = _spec_fields(spec)
        lines = [Line(key, self._value(item, f"{path}.{key}"), self._meaning(item)) for key, item in fields.items()]
        if "step" in spec.knobs:
            lines = [line for line in lines if line.key != "step"] + self._step(spec)
        lines += self._left_out(entry, spec)
        return _flow(spec.type) if len(lines) == 1 else tuple(lines)

    def _step(self, spec: Spec) -> list[Line]:
        set_ = {f.name: getattr(spec.knobs["step"], f.name) for f in dataclasses.fields(spec.knobs["step"])}
        lines = tuple(Line(key, _flow(value)) for key, value in set_.items() if value is not None)
        return [Line("step", lines)] if lines else []

    def _left_out(self, entry: Entry, spec: Spec) -> list[Line]:
        """Return a component's other parameters as comments."""
        lines = []
        for parameter in entry.parameters:
            if parameter.name in spec.arguments or parameter.role == "engine" or parameter.type["kind"] == "opaque":
                continue
            if parameter.role == "supplied":
                fact = _FACT_OF.get(parameter.name, "")
                value = _flow(self.facts[fact]) if fact in self.facts else parameter.reason
                lines.append(Line(parameter.name, value, "supplied", active=False))
            elif not parameter.required:
                value = (
                    _flow(parameter.default) if parameter.default_plain else " ".join(str(parameter.default).split())
                )
                lines.append(Line(parameter.name, value, "default", active=False))
        return lines


def _rounded(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return round(value, 5) if isinstance(value, float) else value


def _flow(value: Any, escaped: bool = False) -> str:
    """Return a plain value in flow style.

    Args:
        value: nested plain values and references.
        escaped: whether text that begins with a dollar sign already has its escape, as `flat` gives it.
    """
    if isinstance(value, Reference):
        return f"${value.path}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_flow(item, escaped) for item in value) + "]"
    if isinstance(value, Mapping):
        pairs = (f"{spelling(str(key))}: {_flow(item, escaped)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, str) and value.startswith("$") and not escaped:
        return spelling(f"${value}")
    return spelling(value) if value is None or isinstance(value, (bool, int, float, str)) else spelling(str(value))
