"""A recipe while it is checked: what later checks ask of it, wherever it is still wrong.

Owns how a rule finds values, places and components, and how it is kept silent where something it looks at was already
reported. Knows no rule.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from registry.catalogue.catalog import Catalogue, Entry
from registry.contracts import DataFacts
from trainer.recipe.checks.check import Invalid
from trainer.recipe.problems import Collector
from trainer.recipe.recipe import CROSS_ENTROPY, Group, Origin, Recipe, Reference, Spec

LOSS = "loss"
_TTA = "tta/"


@dataclasses.dataclass
class Draft:
    """A recipe whose sections have been looked at; invalid values in it are `INVALID`.

    Attributes:
        recipe: the recipe.
        catalogue: what it names.
        problems: takes what is wrong.
    """

    recipe: Recipe
    catalogue: Catalogue
    problems: Collector

    def report(self, rule: str, path: str, text: str, hint: str = "") -> None:
        """Report something about the value at `path`."""
        self.problems.report(rule, self.place(path), text, hint=hint, path=path)

    def place(self, path: str) -> Origin:
        """Return where a value was written, else where the nearest thing around it was."""
        while path:
            if path in self.recipe.origins:
                return self.recipe.origins[path]
            path = path.rpartition(".")[0]
        return Origin(self.recipe.file, 1, 1)

    def written(self, path: str) -> bool:
        """Say whether the recipe itself has a value."""
        return path in self.recipe.origins

    def sound(self, *paths: str) -> bool:
        """Say whether nothing at, above or below any of `paths` is wrong: reported, or of no value."""
        return not any(_related(path, one) for path in paths for one in (*self.problems.wrong, *self._invalid))

    @cached_property
    def _invalid(self) -> tuple[str, ...]:
        """The dotted paths of what could not be told; what a lost plug-in may have is not reported."""
        return tuple(_invalid_below("", self.recipe))

    def entry(self, spec: Spec) -> Entry:
        """Return the catalogue's entry of a component."""
        return self.catalogue.entry(spec.slot, spec.type)

    @cached_property
    def data_facts(self) -> DataFacts:
        """What the dataset and its arguments tell of the data; nothing where it could not be told which dataset."""
        dataset = self.recipe.data.dataset
        return self.entry(dataset).data_facts(dataset.arguments) if _is(dataset) else DataFacts({})

    @cached_property
    def specs(self) -> tuple[Spec, ...]:
        """Every component, nested ones after the one they stand in."""
        return tuple(_specs(self.recipe))

    def references(self) -> Iterator[tuple[str, Reference]]:
        """Yield every run-time reference in a component's arguments, with its path."""
        for spec in self.specs:
            groups = [(f"groups.{i}", g.arguments) for i, g in enumerate(groups_of(spec))]
            for prefix, arguments in [("", spec.arguments), *groups]:
                for name, value in arguments.items():
                    path = f"{spec.path}.{prefix}.{name}".replace("..", ".")
                    yield from ((path, one) for one in _references(value))

    def those(self, path: str) -> list[Spec]:
        """Return the components in the list at a dotted path of sections, those that could be told."""
        value: object = self.recipe
        for name in path.split("."):
            value = getattr(value, name, ())
        return [one for one in value if isinstance(one, Spec)] if isinstance(value, tuple) else []

    def argument(self, spec: Spec, name: str) -> Any:
        """Return an argument as written, else the parameter's default; None where there is no such parameter."""
        if name in spec.arguments:
            return spec.arguments[name]
        parameter = self.entry(spec).parameter(name)
        return parameter.default if parameter is not None and parameter.default_plain else None

    # ---------------------------------------------------------------------------------------------------- metric keys
    @cached_property
    def directions(self) -> dict[str, str | None]:
        """Every key of an epoch's row -> "min", "max", or None where no direction is better."""
        known: dict[str, str | None] = {"epoch": None, "lr": None, "seconds": None}
        known.update({f"train/{key}": mode for key, mode in {LOSS: "min", **self._metrics}.items()})
        known.update({f"val/{key}": mode for key, mode in self._evaluated.items()})
        known.update({f"train/penalty/{spec.key}": "min" for spec in self.those("regularizers")})
        for spec in self.those("callbacks"):
            known.update(dict.fromkeys(self._measured_by(spec)))
        return known

    def may_measure(self, key: str) -> bool:
        """Say whether a key may be measured by something that does not declare its keys, or is not known yet."""
        if key.startswith("train/penalty/"):
            return not self.sound("regularizers")
        if key.startswith(("train/", "val/", "test/")):
            return False
        if not self.sound("callbacks"):
            return True
        prefixes = [self.argument(spec, "key") for spec in self.those("callbacks") if not self._measured_by(spec)]
        return any(isinstance(prefix, str) and key.startswith(f"{prefix}/") for prefix in prefixes)

    @cached_property
    def final_directions(self) -> dict[str, str | None]:
        """Every key of the run's last numbers: an epoch's row, test-time augmentation, the split held out."""
        known, measured = dict(self.directions), dict(self._evaluated)
        if self.recipe.train.tta != "none":
            measured |= {f"{_TTA}{key}": mode for key, mode in measured.items()}
        splits = ("val", "test") if self.holds_out_test else ("val",)
        known.update({f"{split}/{key}": mode for split in splits for key, mode in measured.items()})
        return known

    @cached_property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Keys of the run's numbers -> the least and the greatest value they can have, of metrics that declare it."""
        limits = {spec.key: self.entry(spec).facts.get("range") for spec in self.those("train.metrics")}
        known = {key: (limit[0], limit[1]) for key, limit in limits.items() if limit is not None}
        known |= {f"{_TTA}{key}": limit for key, limit in known.items()}
        return {f"{split}/{key}": limit for split in ("train", "val", "test") for key, limit in known.items()}

    @property
    def holds_out_test(self) -> bool:
        """Whether the dataset has a test split that chooses nothing."""
        return "test" in self.data_facts.splits and self.recipe.data.val != "test"

    @property
    def _evaluated(self) -> Mapping[str, str | None]:
        """Keys and directions of what validation and test measure."""
        return {LOSS: "min", CROSS_ENTROPY: "min", **self._metrics}

    @property
    def _metrics(self) -> Mapping[str, str | None]:
        return {spec.key: self.entry(spec).facts.get("mode") for spec in self.those("train.metrics")}

    def _measured_by(self, spec: Spec) -> list[str]:
        """Return the keys a callback adds to an epoch's row: its entry's `measures`, arguments filled in."""
        entry = self.entry(spec)
        arguments = {one.name: self.argument(spec, one.name) for one in entry.parameters}
        return [str(key).format(**arguments) for key in entry.facts.get("measures", ())]


def _related(path: str, other: str) -> bool:
    return path == other or path.startswith(f"{other}.") or other.startswith(f"{path}.")


def _is(value: object) -> bool:
    return isinstance(value, Spec)


def groups_of(spec: Spec) -> list[Any]:
    """Return an optimizer's parameter groups that could be read."""
    groups = spec.knobs.get("groups", ())
    return [] if isinstance(groups, Invalid) else [group for group in groups if not isinstance(group, Invalid)]


def _specs(value: object) -> Iterator[Spec]:
    if isinstance(value, Spec):
        yield value
        yield from _specs(value.arguments)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _specs(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _specs(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            if field.metadata.get("recipe", True):
                yield from _specs(getattr(value, field.name))


def _invalid_below(path: str, value: object) -> Iterator[str]:
    """Yield the dotted paths at which a recipe has no value that means anything."""
    if isinstance(value, Invalid):
        yield path
        return
    if isinstance(value, Spec):
        below: Mapping[Any, object] = {**value.arguments, **value.knobs}
    elif isinstance(value, Group):
        below = {"match": value.match, "lr_scale": value.lr_scale, **value.arguments}
    elif isinstance(value, Mapping):
        below = value
    elif isinstance(value, (list, tuple)):
        below = dict(enumerate(value))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        below = {one.name: getattr(value, one.name) for one in dataclasses.fields(value) if one.name != "origins"}
    else:
        return
    for key, item in below.items():
        yield from _invalid_below(f"{path}.{key}".lstrip("."), item)


def _references(value: object) -> Iterator[Reference]:
    if isinstance(value, Reference):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _references(item)
