"""The resolved recipe: everything that a recipe says and leaves out, written down.

    resolved_yaml    resolved.yaml of a run, a recipe that loads again to the same one
    show_text        what `show` prints
    diff_text        what two recipes say differently
    flat, hparams    all values by dotted path, to compare runs by

In resolved.yaml, values of sections that the user left out are written and marked. Those of components and what the
engine supplies are comments only: to write them would make them the user's, who then no longer follows the engine.
Reads and checks nothing (load.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from registry.catalogue.catalog import Catalogue, Entry, Parameter, catalogue
from registry.printing import printable
from trainer.recipe.load import Loaded
from trainer.recipe.reading.references import LR_FOUND, bind
from trainer.recipe.reading.scalars import spelling
from trainer.recipe.recipe import (
    Data,
    Ema,
    Expectation,
    Fraction,
    Group,
    LRFinder,
    Origin,
    Recipe,
    Reference,
    Spec,
    Train,
)

_HIDDEN = ("seeds", "description", "plugins", "expect", "scheduler", "lr_finder")  # left out where they are not set
_ORDER = (
    *("version", "name", "description", "seed", "seeds", "plugins", "data", "model", "loss", "regularizers"),
    *("optimizer", "scheduler", "lr_finder", "train", "callbacks", "report", "answers", "expect"),
)
_FACT_OF = {  # what the engine supplies -> the run-time value that tells it
    "num_classes": "data.num_classes",
    "image_size": "data.image_size",
    "epochs": "run.epochs",
    "steps_per_epoch": "run.steps_per_epoch",
    "total_steps": "run.total_steps",
}
_DECAY = "optimizer.weight_decay"
_FIRST = (  # columns of a dashboard
    *("lr_finder.lr", "optimizer.lr", _DECAY, "model.type", "optimizer.type", "scheduler.type"),
    *("train.epochs", "data.batch_size", "seed", "name"),
)
_WATCHED = (  # what changes nothing in the network that a run ends with
    *("version", "plugins", "expect.", "report", "answers.", "callbacks", "data.workers"),
    *("train.checkpoint.", "train.log_every", "train.metrics", "train.max_minutes"),
)
_COLUMN = 44  # remarks begin here where the line is short enough


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
    known = known or catalogue(recipe.plugins)
    return head + _rendered(_Resolved(recipe, known, facts or {}, lr, fast_limit).lines())


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
        rows.append((f"{path}: {flow(value, escaped=True)}", f"{place.file}:{place.line}" if place else "default"))
    width = min(60, max((len(text) for text, _ in rows), default=0))
    return notes + "".join(f"{text:<{width}}  # {place}\n" for text, place in rows)


def diff_text(first: Recipe, second: Recipe) -> str:
    """Return what two recipes say differently, one line per value; "" where they say the same."""
    one, other = flat(first), flat(second)
    lines = []
    for path in [*one, *(path for path in other if path not in one)]:
        left, right = (flow(v[path], escaped=True) if path in v else "(not set)" for v in (one, other))
        if left != right:
            lines.append(f"{path}: {left} -> {right}")
    return "\n".join(lines)


def flat(recipe: Recipe) -> dict[str, Any]:
    """Return every value of a recipe by dotted path, defaults of sections included; a list of plain values is one.

    A run-time reference is its text, "$data.mean"; text that begins with a dollar sign keeps its escape, "$$".
    """
    found: dict[str, Any] = {}
    for name in _ORDER:
        value = getattr(recipe, name)
        if value or name not in _HIDDEN:
            _flatten(name, value, found)
    return found


def hparams(
    recipe: Recipe, facts: Mapping[str, object], *, found: float | None = None
) -> dict[str, bool | int | float | str]:
    """Return the values that make a run what it is by dotted path, as a dashboard takes them, to compare runs by.

    The first columns are what is looked for first, and every run has them: the learning rate that was found, the one
    taken, weight decay and model. What is only watched or written (report, callbacks, checkpoints) is left out.

    Args:
        recipe: what runs.
        facts: run-time values; each stands where the recipe refers to it.
        found: by the LR finder; None where there is none.
    """
    values = flat(bind(recipe, facts))
    decay = catalogue(recipe.plugins).entry("optimizer", recipe.optimizer.type).parameter(_DECAY.rpartition(".")[2])
    if decay is not None and decay.default_plain:
        values.setdefault(_DECAY, decay.default)
    if found is not None:
        values["lr_finder.lr"] = found
    order = [*(path for path in _FIRST if path in values), *(path for path in values if path not in _FIRST)]
    told = {}
    for path in order:
        value = values[path]
        if value is None or path.startswith(_WATCHED):
            continue
        text = flow(_rounded(value), escaped=True) if isinstance(value, (list, tuple)) else value
        told[path] = printable(text) if isinstance(text, str) else text
    return told


def default_settings() -> dict[str, Any]:
    """Return what the language takes where a recipe says nothing, nested as in resolved.yaml; components by name."""
    sections = {"data": Data, "train": Train, "lr_finder": LRFinder}
    found = {**_defaults(Recipe), **{name: _defaults(section) for name, section in sections.items()}}
    found["data"]["val"], found["train"]["ema"] = _defaults(Fraction), _defaults(Ema)
    return found


def _defaults(section: type) -> dict[str, Any]:
    """Return the fields of a section that have a default, with it."""
    written = [field for field in dataclasses.fields(section) if field.metadata.get("recipe", True)]
    return {
        field.name: _defaults(type(field.default)) if _is_section(field.default) else _plain(field.default)
        for field in written
        if field.default is not dataclasses.MISSING
    }


def _origin(recipe: Recipe, path: str) -> Origin | None:
    """Return where a leaf was written; a bare name stands where its component stands."""
    return recipe.origins.get(path) or (recipe.origins.get(path[: -len(".type")]) if path.endswith(".type") else None)


# ---------------------------------------------------------------------------------------------------------- flat values
def _flatten(path: str, value: Any, found: dict[str, Any]) -> None:
    below = _below(value)
    if below is None:
        found[path] = _plain(value)
        return
    for key, item in below.items():
        _flatten(f"{path}.{key}", item, found)


def _below(value: Any) -> Mapping[str, Any] | None:
    """Return what stands below a value in a recipe, by key or index; None for what is one value."""
    if isinstance(value, Spec):
        return _spec_fields(value)
    if isinstance(value, Group):
        scale = {} if "lr" in value.arguments else {"lr_scale": value.lr_scale}  # a rate of its own has no scale
        return {"match": list(value.match), **scale, **value.arguments}
    if isinstance(value, tuple) and value and isinstance(value[0], Expectation):
        return dict(each.text.rsplit(": ", 1) for each in value)
    if _is_section(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if _is_list_of_parts(value):
        return {str(index): item for index, item in enumerate(value)}
    return value if isinstance(value, Mapping) else None


def _spec_fields(spec: Spec) -> dict[str, Any]:
    named = {"as": spec.name} if spec.renamed else {}
    return {"type": spec.type, **named, **spec.arguments, **spec.knobs}


def _is_section(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, (type, Reference, Spec, Group))


def _is_list_of_parts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and any(isinstance(item, (Spec, Group, Mapping)) for item in value)


def _plain(value: Any) -> Any:
    if isinstance(value, Reference):
        return f"${value.path}"
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return f"${value}" if isinstance(value, str) and value.startswith("$") else value


# -------------------------------------------------------------------------------------------------------- resolved.yaml
@dataclasses.dataclass(frozen=True)
class _Line:
    """A key and what stands under it.

    Attributes:
        key: YAML text.
        value: YAML text of a value, or lines below the key, or items below it.
        remark: comment behind the value.
        active: whether it is a value; a line that is not is itself a comment.
    """

    key: str
    value: _Value
    remark: str = ""
    active: bool = True


@dataclasses.dataclass(frozen=True)
class _Items:
    """A list in block style: each item a value or lines."""

    items: tuple[str | tuple[_Line, ...], ...]


_Value = str | tuple[_Line, ...] | _Items


@dataclasses.dataclass
class _Resolved:
    """A recipe as lines; the attributes are the arguments of `resolved_yaml`."""

    recipe: Recipe
    catalogue: Catalogue
    facts: Mapping[str, object]
    lr: float | None
    fast_limit: int | None

    def lines(self) -> tuple[_Line, ...]:
        found = []
        for name in _ORDER:
            value = getattr(self.recipe, name)
            if name == "seed" and self.recipe.seeds is not None:
                continue
            if name == "lr_finder" and isinstance(value, LRFinder) and self._lr_is_found():
                said = f"it found {spelling(self.lr)}, now written where it was used"
                found.append(_Line("lr_finder", said, active=False))
            elif value or name not in _HIDDEN:
                found.append(_Line(name, self._value(value, name), self._mark(name, value)))
        return tuple(found)

    def _lr_is_found(self) -> bool:
        written = (
            item for value in flat(self.recipe).values() for item in (value if isinstance(value, list) else [value])
        )
        return self.lr is not None and any(item == f"${LR_FOUND}" for item in written)

    def _value(self, value: Any, path: str) -> _Value:
        if isinstance(value, Spec):
            return self._component(value, path)
        if _is_list_of_parts(value):
            return _Items(tuple(self._item(item, f"{path}.{index}") for index, item in enumerate(value)))
        below = _below(value)
        if not below:
            return flow(bind(value, {LR_FOUND: self.lr}) if self.lr is not None else value)
        marked = _is_section(value)
        return tuple(
            _Line(spelling(key), self._value(item, at), self._mark(at, item) if marked else "")
            for key, item in below.items()
            for at in [f"{path}.{key}"]
        )

    def _item(self, item: Any, path: str) -> str | tuple[_Line, ...]:
        value = self._value(item, path)
        assert not isinstance(value, _Items)
        return value

    def _mark(self, path: str, value: Any) -> str:
        """Return the remark on a value of a section: that it is a default, or what a reference stands for."""
        if path == "data.limit" and self.fast_limit is not None:
            return f"--fast takes {self.fast_limit} images of each part at most"
        written = any(at == path or at.startswith(path + ".") for at in self.recipe.origins)
        return self._meaning(value) if written or path == "version" else "default"

    def _meaning(self, value: Any) -> str:
        """Return what a reference stands for, as far as that is known; "" for every other value."""
        if not isinstance(value, Reference):
            return ""
        if value.path == LR_FOUND and self.lr is not None:
            return f"${LR_FOUND}, found"
        return f"= {flow(_rounded(self.facts[value.path]))}" if value.path in self.facts else ""

    def _component(self, spec: Spec, path: str) -> _Value:
        """Return a component's lines: what the recipe says, then its other parameters as comments; or its name."""
        entry = self.catalogue.entry(spec.slot, spec.type)
        fields = _spec_fields(spec)
        lines = [_Line(key, self._value(item, f"{path}.{key}"), self._meaning(item)) for key, item in fields.items()]
        if "step" in spec.knobs:
            lines = [line for line in lines if line.key != "step"] + self._step(spec)
        lines += self._left_out(entry, spec)
        return flow(spec.type) if len(lines) == 1 else tuple(lines)

    def _step(self, spec: Spec) -> list[_Line]:
        """Return a scheduler's `step`, without what the recipe leaves open."""
        set_ = {f.name: getattr(spec.knobs["step"], f.name) for f in dataclasses.fields(spec.knobs["step"])}
        lines = tuple(_Line(key, flow(value)) for key, value in set_.items() if value is not None)
        return [_Line("step", lines)] if lines else []

    def _left_out(self, entry: Entry, spec: Spec) -> list[_Line]:
        """Return as comments the parameters that a recipe could set and does not."""
        lines = []
        for parameter in entry.parameters:
            if parameter.name in spec.arguments or parameter.role == "engine" or parameter.type["kind"] == "opaque":
                continue
            if parameter.role == "supplied":
                lines.append(_Line(parameter.name, self._supplied(parameter, spec), "supplied", active=False))
            elif not parameter.required:
                lines.append(_Line(parameter.name, _default(parameter), "default", active=False))
        return lines

    def _supplied(self, parameter: Parameter, spec: Spec) -> str:
        """Return what the engine supplies: the value where it is known, else what it will be, in words.

        A schedule's lengths depend on what it steps by, its warm-up and what it stands in.
        """
        fact = _FACT_OF.get(parameter.name, "") if spec.slot != "scheduler" else ""
        return flow(self.facts[fact]) if fact in self.facts else parameter.reason


def _default(parameter: Parameter) -> str:
    return flow(parameter.default) if parameter.default_plain else " ".join(str(parameter.default).split())


def _rendered(lines: tuple[_Line, ...]) -> str:
    """Return lines as YAML text, remarks in a column behind it."""
    texts = (f"{text:<{_COLUMN}}  # {remark}" if remark else text for text, remark in _rows(lines, ""))
    return "\n".join(texts) + "\n"


def _rows(lines: tuple[_Line, ...], indent: str) -> Iterator[tuple[str, str]]:
    """Yield each row of text with its remark."""
    for line in lines:
        if isinstance(line.value, str):
            yield f"{indent}{'' if line.active else '# '}{line.key}: {line.value}", line.remark
            continue
        yield f"{indent}{line.key}:", line.remark
        if isinstance(line.value, _Items):
            yield from _item_rows(line.value, indent + "  ")
        else:
            yield from _rows(line.value, indent + "  ")


def _item_rows(items: _Items, indent: str) -> Iterator[tuple[str, str]]:
    """Yield rows of a list, a dash before the first of each item."""
    for item in items.items:
        if isinstance(item, str):
            yield f"{indent}- {item}", ""
            continue
        for number, (text, remark) in enumerate(_rows(item, indent + "  ")):
            yield (f"{indent}- {text[len(indent) + 2 :]}" if number == 0 else text), remark


# --------------------------------------------------------------------------------------------------------------- values
def _rounded(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return round(value, 5) if isinstance(value, float) else value


def flow(value: Any, escaped: bool = False) -> str:
    """Return a plain value in flow style.

    Args:
        value: nested plain values and references.
        escaped: whether text that begins with a dollar sign already has its escape, as `flat` gives it.
    """
    if isinstance(value, Reference):
        return f"${value.path}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(flow(item, escaped) for item in value) + "]"
    if isinstance(value, Mapping):
        pairs = (f"{spelling(str(key))}: {flow(item, escaped)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, str) and value.startswith("$") and not escaped:
        return spelling(f"${value}")
    return spelling(value) if value is None or isinstance(value, (bool, int, float, str)) else spelling(str(value))
