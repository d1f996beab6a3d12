"""The sweep as the rest of the house sees it: typed, frozen, checked.

Its dataclasses ARE the schema of a sweep's file, as those of trainer/recipe/recipe.py are of a recipe's. Nothing here
reads text (reading.py) or runs anything (worker.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from registry.catalogue.grammar import Type
from registry.catalogue.markers import Bounds, Slot, Text
from registry.printing import one_line
from trainer.recipe.recipe import Origin, Spec
from trainer.recipe.sections import recipe_type, step, takes_component

_ENGINE = {"recipe": False}  # marks a field that no file sets

Mode = Literal["min", "max"]

# Keys that say which images a trial learns from and is measured on.
CHOOSE_IMAGES = ("data.dataset", "data.val", "data.limit", "data.fixes", "data.on_bad_image")


@dataclass(frozen=True)
class Objective:
    """What a trial is measured by.

    Attributes:
        metric: a key of metrics.jsonl, or `seconds` or `parameters`.
        at: the `best` epoch, as train.best chose it, or the `final` one.
    """

    metric: Annotated[str, Text("metric")]
    at: Literal["best", "final"] = "best"


@dataclass(frozen=True)
class Goal:
    """An objective with its direction, which follows from the metric.

    Attributes:
        metric: key.
        at: "best" or "final".
        mode: "max" where greater is better.
    """

    metric: str
    at: str
    mode: Mode

    @property
    def sign(self) -> int:
        """1 where greater is better, else -1."""
        return 1 if self.mode == "max" else -1


@dataclass(frozen=True)
class Confirm:
    """The best trials run again by seeds that chose nothing, before a winner is named.

    Attributes:
        best: trials that are run again.
        seeds: for each of them, other ones than the trials had.
    """

    best: Annotated[int, Bounds(min=2)] = 3
    seeds: Annotated[int, Bounds(min=2)] = 3


_WITHIN = 0.381966  # of a range: where it is tried within, at a number that nobody would call round


@dataclass(frozen=True)
class Choice:
    """A key of the recipe that a sweep draws.

    Attributes:
        path: dotted, in the recipe.
        distribution: checked.
        texts: of a categorical one, each choice as YAML on one line; () for a range.
        key: where the path was written.
        values: where each choice was written; of a range its low and high end.
    """

    path: str
    distribution: Spec
    texts: tuple[str, ...]
    key: Origin
    values: tuple[Origin, ...]

    @property
    def ends(self) -> tuple[str, ...]:
        """Every choice, or both ends of a range and a place within it, as YAML."""
        if self.texts:
            return self.texts
        low, high = (self.distribution.arguments[name] for name in ("low", "high"))
        if self.distribution.type == "FloatDistribution" and not self.is_continuous:
            low, high = float(low), float(high)  # as they are drawn, steps of whole numbers, too
        return (repr(low), repr(high), repr(low + _WITHIN * (high - low) if self.is_continuous else high))

    def overrides(self, text: str) -> tuple[str, ...]:
        """Return the overrides that give the key a value.

        A component takes the place of what the recipe has there, whatever its type: laid over one of the same type it
        would inherit what a choice of another type does not.
        """
        taken_away = (f"{self.path}=null",) if self.texts and _is_component(self.path) else ()
        return (*taken_away, f"{self.path}={text}")

    @property
    def is_continuous(self) -> bool:
        """Whether it is a range without steps, of which any number may be drawn."""
        arguments = self.distribution.arguments
        return self.distribution.type == "FloatDistribution" and arguments.get("step") is None


@dataclass(frozen=True)
class Sweep:
    """A whole sweep, checked.

    Attributes:
        version: of the language; 1.
        sweep: its name, and that of the folder below runs/.
        recipe: the recipe that every trial is made from; its path is relative to this file.
        search: dotted path in the recipe -> the distribution it is drawn from.
        objective: what trials are measured by; several make a Pareto front.
        set: overrides for every trial, dotted path -> value.
        sampler: draws the next trial.
        pruner: ends or pauses a trial that promises little, by epochs; omitted: every trial runs to its end.
        trials: how many in all, however often the command is given.
        minutes: no new trial begins after so many, counted over all workers from the first start.
        seeds: each trial is run by all of them and measured by their mean.
        confirm: the best few run again by fresh seeds; `none` takes the best as it is, with a warning.
        storage: where Optuna keeps the trials: sqlite:///..., postgresql://..., mysql://..., or journal:FILE;
            sqlite:///runs/<sweep>.db where omitted.
        report: `best` writes the winner's report, `none` no trial's.
        selects_on_test: the test split may choose the winner; every page then says so.
        description: one sentence for the page.
        file: path as given.
        text: the file as given.
        choices: of `search`, in order.
        overrides: of `set`, as `key=value`.
        places: of `overrides`, where each key and each value was written.
        goals: of `objective`, with their directions.
        base: path of the recipe from the working directory.
    """

    version: int
    sweep: str
    recipe: Annotated[str, Text("path")]
    search: Mapping[str, Annotated[Spec, Slot("distribution")]]
    objective: Objective | tuple[Objective, ...]
    set: Mapping[str, Any] = field(default_factory=dict)
    sampler: Annotated[Spec, Slot("sampler")] = "TPESampler"  # type: ignore[assignment]
    pruner: Annotated[Spec, Slot("pruner")] | None = None
    trials: Annotated[int, Bounds(min=1)] | None = None
    minutes: Annotated[float, Bounds(above=0)] | None = None
    seeds: tuple[Annotated[int, Bounds(min=0)], ...] | None = None
    confirm: Confirm | Literal["none"] = Confirm()
    storage: str | None = None
    report: Literal["none", "best"] = "none"
    selects_on_test: bool = False
    description: str = ""
    file: str = field(default="", metadata=_ENGINE)
    text: str = field(default="", metadata=_ENGINE)
    choices: Sequence[Choice] = field(default=(), metadata=_ENGINE)
    overrides: tuple[str, ...] = field(default=(), metadata=_ENGINE)
    places: Sequence[tuple[Origin, Origin]] = field(default=(), metadata=_ENGINE)
    goals: tuple[Goal, ...] = field(default=(), metadata=_ENGINE)
    base: str = field(default="", metadata=_ENGINE)

    def shown(self, values: Sequence[str]) -> list[str]:
        """Return a trial's values as people read them: of a range of numbers that are not whole with four digits."""
        drawn = zip(self.choices, values, strict=True)
        return [one_line(text) if choice.texts or _is_whole(text) else f"{float(text):.4g}" for choice, text in drawn]

    def assigned(self, values: Sequence[str]) -> tuple[str, ...]:
        """Return the overrides that make a trial's recipe: `set`, then each choice's value, whole components first.

        Args:
            values: as YAML, one per choice.
        """
        drawn = sorted(zip(self.choices, values, strict=True), key=lambda pair: pair[0].path.count("."))
        return (*self.overrides, *(override for choice, value in drawn for override in choice.overrides(value)))


def _is_component(path: str) -> bool:
    """Whether a key's value is a component; an item of a list is not, which nothing but its list takes away."""
    type: Type | None = recipe_type()
    for key in path.split("."):
        type = None if key.isdigit() else step(type, key)
    return takes_component(type)


def _is_whole(text: str) -> bool:
    return not text or text.lstrip("-").isdecimal()
