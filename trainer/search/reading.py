"""Reading a sweep: a file becomes a checked `Sweep`, or a list of everything that is wrong, each at its place.

Owns the order: the sweep's own text, the recipe it names, its space. What every point of the space makes of the recipe
is points.py's to say. Needs no data; Optuna must be installed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from registry.catalogue.catalog import Catalogue, catalogue
from registry.catalogue.grammar import Type
from registry.catalogue.suggest import nearest
from registry.errors import RecipeError
from registry.program import typed_as
from registry.search import require_optuna
from trainer.recipe.checks.check import Checker, Place
from trainer.recipe.checks.components import Components
from trainer.recipe.checks.draft import Draft
from trainer.recipe.load import load_recipe, unsafe, version_fits
from trainer.recipe.problems import Collector, Problem, did_you_mean, listed, refusal, shown
from trainer.recipe.reading.files import read_file
from trainer.recipe.reading.nodes import Entry, ListNode, MapNode, Node, Scalar, plain
from trainer.recipe.reading.references import resolve
from trainer.recipe.recipe import Origin, Recipe, Spec
from trainer.recipe.resolve import flow
from trainer.recipe.sections import section_class, section_type
from trainer.search import sweep as sections
from trainer.search.building import FINITE, built
from trainer.search.points import check_points
from trainer.search.sweep import CHOOSE_IMAGES, Choice, Goal, Objective, Sweep

CATEGORICAL, FLOAT = "CategoricalDistribution", "FloatDistribution"
NOT_DRAWN = {  # top-level keys of a recipe that no trial changes
    "seed": "the sweep's own `seeds` says by which seeds each trial runs",
    "seeds": "the sweep's own `seeds` says by which seeds each trial runs",
    "name": "trials are named by the sweep",
    "extends": "name the recipe that extends others under `recipe`",
    "version": "",
    "plugins": "name plug-ins in the recipe",
}
MEASURED = {"seconds": "min", "parameters": "min"}  # of every run, beside the keys of its epochs
STORAGES = ("sqlite:///", "postgresql", "mysql", "journal:")


@dataclass(frozen=True)
class LoadedSweep:
    """What came of reading a sweep.

    Attributes:
        sweep: the sweep; None where there are problems.
        recipe: that of its first point; None likewise.
        problems: everything that is wrong, by position.
        warnings: what is allowed but probably a mistake.
        notes: what was not checked, a sentence each.
        path: of the file, as given.
    """

    sweep: Sweep | None
    recipe: Recipe | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    path: str = ""

    def usable(self) -> Sweep:
        """Return the sweep, which has no problems.

        Raises:
            RecipeError: it has; its message shows them all.
        """
        if self.problems or self.sweep is None:
            raise refusal(self.path, self.problems)
        return self.sweep


def sweep_type() -> Type:
    """Return the type of a sweep's file."""
    return section_type(Sweep)


def load_sweep(path: str | Path, *, built: bool = True) -> LoadedSweep:
    """Read a sweep and check it and every point of its space; never raises for what the file gets wrong.

    Args:
        path: of the file, shown in positions as given.
        built: whether the points' recipes are built, too, which needs torch.

    Raises:
        RecipeError: Optuna is not installed, or the file is a recipe.
    """
    require_optuna()
    problems = Collector()
    sweep, recipe, notes = _Reader(str(path), problems).read(built)
    errors = problems.sorted("error")
    found = sweep if not errors else None
    return LoadedSweep(
        found, recipe if found is not None else None, errors, problems.sorted("warning"), notes, str(path)
    )


@dataclass
class _Reader:
    """Reads one file; every method reports what it finds wrong."""

    path: str
    problems: Collector

    def read(self, whole: bool) -> tuple[Sweep | None, Recipe | None, tuple[str, ...]]:
        root = read_file(Path(self.path), self.path, self.problems)
        if not isinstance(root, MapNode):
            if not self.problems.failed:
                self._report("R009", Origin(self.path, 1, 1), "a sweep is a mapping", hint="begin with 'version: 1'")
            return None, None, ()
        if not {"search", "sweep"} & set(root.entries) and {"model", "data"} & set(root.entries):
            raise RecipeError(f"{self.path} is a recipe, not a sweep", f"{typed_as()} {self.path}")
        self.root = root
        known = catalogue()
        sweep = self._text(known)
        if sweep is None or self.problems.failed:
            return None, None, ()
        loaded = load_recipe(sweep.base)
        if loaded.recipe is None:  # all points have these problems: told once, where they are
            self.problems.take(loaded.problems)
            return None, None, ()
        recipe, notes = check_points(sweep, self.problems, built=whole)
        if recipe is None or self.problems.failed:
            return None, None, notes
        sweep = replace(sweep, goals=self._goals(sweep, recipe))
        self._agree(sweep, recipe, known)
        return sweep, recipe, notes

    def _report(self, rule: str, origin: Origin, text: str, hint: str = "", path: str = "") -> None:
        self.problems.report(rule, origin, text, hint=hint, path=path)

    def _place(self, key: str) -> Origin:
        entry = self.root.entries.get(key)
        return self.root.origin if entry is None else entry.node.origin

    # --------------------------------------------------------------------------------------------------- its own text
    def _text(self, known: Catalogue) -> Sweep | None:
        checker = Checker(self.problems, sections=_section, whole="a sweep")
        Components(checker, known)
        root = resolve(_without_the_recipes_own(self.root), self.problems)
        if not version_fits(root, self.problems):
            return None
        fields = checker.fields(sweep_type(), root, Place("", ""))
        if self.problems.failed:
            return None
        name = fields["sweep"]
        if reason := unsafe(name):
            self._report("R014", self._place("sweep"), f"sweep '{name}' cannot be a folder's name: {reason}")
        text = "\n".join(self.problems.sources.lines.get(self.path, []))
        base = os.path.normpath(Path(self.path).parent / os.path.expanduser(fields["recipe"]))  # noqa: PTH111
        if not os.path.isfile(base):  # noqa: PTH113  text, as all of it
            read_file(Path(base), base, self.problems, self._place("recipe"))  # says why, and what was meant
        overrides, places = self._set()
        choices = self._choices(fields["search"], known)
        own = {"file": self.path, "text": text, "choices": choices, "overrides": overrides, "places": places}
        sweep = Sweep(**{**fields, **own, "base": base})
        self._limits(sweep)
        self._storage(sweep)
        return sweep

    def _set(self) -> tuple[tuple[str, ...], tuple[tuple[Origin, Origin], ...]]:
        """Return `set` as overrides with their places; one that is searched, too, is reported."""
        node, searched = self.root.get("set"), self.root.get("search")
        if not isinstance(node, MapNode):
            return (), ()
        for path, entry in node.entries.items():
            if isinstance(searched, MapNode) and path in searched.entries:
                self._report("R162", entry.key, f"'{path}' is both set and searched", hint="leave one of them out")
            above = next((key for key in _entries(searched) if path.startswith(f"{key}.")), None)
            if above is not None:
                text = f"'{path}' is set, and '{above}' above it is searched, which replaces it"
                self._report("R162", entry.key, text, hint=f"write it into the choices of {above}")
            self._drawn(path, entry.key)
        overrides = tuple(f"{path}={flow(plain(entry.node), True)}" for path, entry in node.entries.items())
        return overrides, tuple((entry.key, entry.node.origin) for entry in node.entries.values())

    def _drawn(self, path: str, origin: Origin) -> None:
        first = path.partition(".")[0]
        if first in NOT_DRAWN:
            self._report("R162", origin, f"a sweep does not change '{first}'", hint=NOT_DRAWN[first])

    def _choices(self, search: Mapping[str, Spec], known: Catalogue) -> tuple[Choice, ...]:
        node = self.root.get("search")
        assert isinstance(node, MapNode)
        if not search:
            hint = "as in optimizer.lr: {type: FloatDistribution, low: 1e-3, high: 1, log: true}"
            self._report("R161", node.origin, "'search' names nothing to search", hint=hint)
        found = []
        for path, spec in search.items():
            entry = node.entries[path]
            self._drawn(path, entry.key)
            try:
                known.entry("distribution", spec.type).load()(**_plain_choices(spec, entry.node))
            except (ValueError, TypeError) as error:
                self._report("R161", entry.node.origin, f"search '{path}': {_sentence(error)}", path=f"search.{path}")
                continue
            found.append(_choice(path, spec, entry))
            self._distinct(found[-1])
        for choice in found:
            above = next((one for one in found if choice.path.startswith(f"{one.path}.") and "null" in one.texts), None)
            if above is not None:
                text = f"'{choice.path}' would set '{above.path}' again, one of whose choices is null"
                hint = f"write whole values as the choices of {above.path}"
                self._report("R162", choice.key, text, hint=hint, path=f"search.{choice.path}")
        return tuple(found)

    def _distinct(self, choice: Choice) -> None:
        for number, text in enumerate(choice.texts):
            if text in choice.texts[:number]:
                self._report("R161", choice.values[number], f"search '{choice.path}' has the choice {text} twice")

    def _limits(self, sweep: Sweep) -> None:
        if sweep.trials is None and sweep.minutes is None:
            text = "a sweep needs 'trials' or 'minutes': else it has no end"
            self._report("R161", self.root.origin, text, hint="as in trials: 20", path="trials")
        if sweep.seeds is not None and len(set(sweep.seeds)) < max(len(sweep.seeds), 1):
            self._report("R161", self._place("seeds"), "'seeds' names a seed twice", path="seeds")
        if sweep.seeds == ():
            hint = "leave it out for the recipe's own seed"
            self._report("R161", self._place("seeds"), "'seeds' is empty", hint=hint)

    def _storage(self, sweep: Sweep) -> None:
        if sweep.storage is not None and not sweep.storage.startswith(STORAGES):
            text = f"storage: '{sweep.storage.partition(':')[0]}' is none that Optuna has"
            hint = "sqlite:///FILE, postgresql://..., mysql://..., or journal:FILE"
            self._report("R164", self._place("storage"), text, hint=hint, path="storage")

    # ------------------------------------------------------------------------------------------- with what it searches
    def _goals(self, sweep: Sweep, recipe: Recipe) -> tuple[Goal, ...]:
        objectives = (sweep.objective,) if isinstance(sweep.objective, Objective) else sweep.objective
        nodes = self.root.entries["objective"].node
        places = nodes.items if isinstance(nodes, ListNode) else (nodes,)
        draft = Draft(recipe, catalogue(recipe.plugins), Collector())
        directions = {**draft.final_directions, **draft.directions, **MEASURED}
        goals = []
        for objective, node in zip(objectives, places, strict=True):
            mode = self._direction(objective.metric, directions, node, sweep)
            if mode is not None:
                goals.append(Goal(objective.metric, objective.at, mode))
        if not objectives:
            self._report("R161", self._place("objective"), "'objective' names no metric", path="objective")
        if any(goal in goals[:number] for number, goal in enumerate(goals)):
            self._report("R161", self._place("objective"), "'objective' names a metric twice", path="objective")
        return tuple(goals)

    def _direction(self, metric: str, directions: Mapping[str, str | None], node: Node, sweep: Sweep) -> Any:
        """Return "min" or "max"; None where the metric cannot choose, which is reported."""
        origin = node.entries["metric"].node.origin if isinstance(node, MapNode) else node.origin
        if metric.startswith("test/"):
            self._test(sweep, origin)
            metric = f"val/{metric.removeprefix('test/')}"
        if metric not in directions:
            ordered = [key for key, mode in directions.items() if mode is not None]
            hint = did_you_mean(nearest(metric, ordered), f"measured are {listed(ordered, 20)}")
            self._report("R050", origin, f"objective: no metric '{metric}' is measured", hint=hint, path="objective")
            return None
        if directions[metric] is None:
            self._report("R163", origin, f"objective: of '{metric}' neither more nor less is better", path="objective")
        return directions[metric]

    def _test(self, sweep: Sweep, origin: Origin) -> None:
        """Refuse that the test split chooses: the best of many looks at it is no estimate of anything."""
        if not sweep.selects_on_test:
            text = "the test split would choose among the trials, and its number would be the best of many looks"
            hint = (
                "measure on val, and the winner is tested once; selects_on_test: true allows it, and every page says so"
            )
            self._report("R160", origin, text, hint=hint, path="objective")

    def _agree(self, sweep: Sweep, recipe: Recipe, known: Catalogue) -> None:
        """Report what sampler and pruner cannot do with this space and these objectives."""
        if recipe.data.val == "test":
            self._test(sweep, self._place("objective"))
        if len(sweep.goals) > 1 and sweep.pruner is not None and sweep.pruner.type != "NopPruner":
            text = f"pruner {sweep.pruner.type} judges by one number, and there are {len(sweep.goals)} objectives"
            self._report("R163", sweep.pruner.origin, text, hint="leave the pruner out", path="pruner")
        if sweep.pruner is not None and sweep.pruner.type != "NopPruner":
            by_epoch = Draft(recipe, known, Collector()).directions
            for goal in (goal for goal in sweep.goals if by_epoch.get(goal.metric) is None):
                text = f"pruner {sweep.pruner.type} judges by what epochs reach, and '{goal.metric}' is of a whole run"
                self._report("R163", sweep.pruner.origin, text, hint="leave the pruner out", path="pruner")
        if sweep.sampler.type in FINITE:
            for choice in sweep.choices:
                if choice.distribution.type == FLOAT and choice.distribution.arguments.get("step") is None:
                    text = f"sampler {sweep.sampler.type}: '{choice.path}' is a range without `step`, which has no grid"
                    self._report("R163", choice.key, text, hint="give it a step, or choices", path="sampler")
        for choice in sweep.choices:
            if choice.path.startswith(CHOOSE_IMAGES):
                text = (
                    f"search '{choice.path}': trials are measured on other pictures, so the best may have the easiest"
                )
                self._report("W160", choice.key, text, hint="run each setting by several seeds", path="search")
        for slot, spec in (("sampler", sweep.sampler), ("pruner", sweep.pruner)):
            if spec is not None:
                self._constructs(slot, spec, sweep, recipe, known)

    def _constructs(self, slot: str, spec: Spec, sweep: Sweep, recipe: Recipe, known: Catalogue) -> None:
        try:
            built(spec, sweep, recipe, known)
        except RecipeError:
            raise
        except Exception as error:  # Optuna's own words for what its constructors refuse
            self._report("R161", spec.origin, f"{slot} {spec.type}: {_sentence(error)}", path=slot)


def _section(name: str) -> type:
    found: type = getattr(sections, name, None) or section_class(name)
    return found


def _entries(node: Node | None) -> Mapping[str, Entry]:
    return node.entries if isinstance(node, MapNode) else {}


def _without_the_recipes_own(root: MapNode) -> MapNode:
    """Return the sweep's tree in which what belongs to its recipe is plain: references in it are the recipe's."""
    entries = dict(root.entries)
    if isinstance(root.get("set"), MapNode):
        entries["set"] = Entry(entries["set"].key, MapNode({}, entries["set"].node.origin))
    search = root.get("search")
    if isinstance(search, MapNode):
        inner = {path: Entry(entry.key, _with_plain_choices(entry.node)) for path, entry in search.entries.items()}
        entries["search"] = Entry(entries["search"].key, MapNode(inner, search.origin))
    return MapNode(entries, root.origin)


def _with_plain_choices(node: Node) -> Node:
    choices = node.get("choices") if isinstance(node, MapNode) else None
    if not isinstance(choices, ListNode) or not isinstance(node, MapNode):
        return node
    items = tuple(Scalar(number, item.origin) for number, item in enumerate(choices.items))
    entry = node.entries["choices"]
    return MapNode({**node.entries, "choices": Entry(entry.key, ListNode(items, choices.origin))}, node.origin)


def _plain_choices(spec: Spec, node: Node) -> dict[str, Any]:
    """Return the arguments with which Optuna makes the distribution; choices are told apart by their text."""
    if spec.type != CATEGORICAL:
        return dict(spec.arguments)
    assert isinstance(node, MapNode)
    return {"choices": _texts(node)}


def _texts(node: MapNode) -> tuple[str, ...]:
    choices = node.get("choices")
    return tuple(flow(plain(item), True) for item in choices.items) if isinstance(choices, ListNode) else ()


def _choice(path: str, spec: Spec, entry: Entry) -> Choice:
    node = entry.node
    assert isinstance(node, MapNode)
    if spec.type == CATEGORICAL:
        choices = node.get("choices")
        assert isinstance(choices, ListNode)
        return Choice(path, spec, _texts(node), entry.key, tuple(item.origin for item in choices.items))
    ends = tuple(node.entries[name].node.origin for name in ("low", "high"))
    return Choice(path, spec, (), entry.key, ends)


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text[:1].lower() + text[1:] if text else shown(type(error).__name__)
