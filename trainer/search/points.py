"""The space of a sweep, tried before the first trial: what every choice and every end of a range makes of the recipe.

A mistake is reported where the sweep says it, not at the override that it becomes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from trainer.experiment.checking import check_built
from trainer.recipe.load import load_recipe
from trainer.recipe.problems import COMMAND_LINE, Collector, Problem
from trainer.recipe.recipe import Origin, Recipe
from trainer.recipe.resolve import flat
from trainer.search.sweep import Sweep

MOST = 64  # points that are tried; of a larger space every choice and every end is, in one of them at least


def check_points(sweep: Sweep, problems: Collector, *, built: bool) -> tuple[Recipe | None, tuple[str, ...]]:
    """Report what is wrong with the recipe at any point.

    Args:
        sweep: read without problems.
        problems: takes them.
        built: whether each point's recipe is built, too.

    Returns:
        The first point's recipe, None where it has problems; and what was left untried, a sentence each.
    """
    points, notes = points_of(sweep)
    if any(choice.is_continuous for choice in sweep.choices if not choice.texts):
        points = [*points, tuple(0 if choice.texts else 2 for choice in sweep.choices)]
    first: Recipe | None = None
    for number, point in enumerate(points):
        texts = [choice.ends[index] for choice, index in zip(sweep.choices, point, strict=True)]
        overrides = sweep.assigned(texts)
        loaded = load_recipe(sweep.base, overrides)
        found = [*loaded.problems, *(loaded.warnings if number == 0 else ())]
        if loaded.recipe is not None and built:
            assert loaded.catalogue is not None
            seen = check_built(loaded.recipe, loaded.catalogue)
            found += [each for each in seen if each.severity == "error" or number == 0]
        places = _places(sweep, point)
        _take(found, overrides, places, problems)
        first = loaded.recipe if number == 0 else first
    if first is not None and not problems.failed:
        _read_by_something(sweep, problems)
    return first, notes


def _read_by_something(sweep: Sweep, problems: Collector) -> None:
    """Report a key of the recipe's own (`x-`) whose choices make one and the same recipe: no reference reads it."""
    lowest = [choice.ends[0] for choice in sweep.choices]
    for number, choice in enumerate(sweep.choices):
        if not choice.path.startswith("x-") or f"${choice.path.partition('.')[0]}" in sweep.text:
            continue
        made = []
        for end in choice.ends:
            recipe = load_recipe(sweep.base, sweep.assigned([*lowest[:number], end, *lowest[number + 1 :]])).recipe
            made.append(None if recipe is None else flat(recipe))
        if len(made) > 1 and all(each == made[0] for each in made[1:]):
            text = f"'{choice.path}' is searched, and nothing in {sweep.base} refers to it: every trial is the same"
            hint = f"write ${choice.path} where it is meant"
            problems.report("R162", choice.key, text, hint=hint, path=f"search.{choice.path}")


def points_of(sweep: Sweep) -> tuple[list[tuple[int, ...]], tuple[str, ...]]:
    """Return the points that are tried, as the number of an end per choice, and what is left out.

    All choices are combined with one another, once with every range at its low end and once with every range at its
    high one.
    """
    categorical = [number for number, choice in enumerate(sweep.choices) if choice.texts]
    ranges = [number for number, choice in enumerate(sweep.choices) if not choice.texts]
    counts = [len(sweep.choices[number].texts) for number in categorical]
    ends = (0, 1) if ranges else (0,)
    total = len(ends)
    for count in counts:
        total *= count
    if total <= MOST:
        combined = itertools.product(ends, *(range(count) for count in counts))
        return [_point(sweep, end, categorical, picked) for end, *picked in combined], ()
    longest = max(counts, default=1)
    few = [
        _point(sweep, end, categorical, [number % count for count in counts])
        for number in range(longest)
        for end in ends
    ]
    said = f"{total:,} combinations of choices are too many to try: each choice was tried in one of them at least"
    return few, (said,)


def _point(sweep: Sweep, end: int, categorical: Sequence[int], picked: Sequence[int]) -> tuple[int, ...]:
    chosen = dict(zip(categorical, picked, strict=True))
    return tuple(chosen.get(number, end) for number in range(len(sweep.choices)))


def _places(sweep: Sweep, point: Sequence[int]) -> list[tuple[Origin, Origin]]:
    """Return where the key and the value of each override stand, in the order of `Sweep.assigned`."""
    drawn = sorted(zip(sweep.choices, point, strict=True), key=lambda pair: pair[0].path.count("."))
    return [
        *sweep.places,
        *(
            (choice.key, choice.values[min(index, len(choice.values) - 1)])
            for choice, index in drawn
            for _ in choice.overrides(choice.ends[index])
        ),
    ]


def _take(
    found: Sequence[Problem],
    overrides: Sequence[str],
    places: Sequence[tuple[Origin, Origin]],
    problems: Collector,
) -> None:
    """Keep problems, those of an override at its place in the sweep."""
    moved = []
    for problem in found:
        origin = problem.origin
        if origin.file == COMMAND_LINE:
            key, value = places[origin.line - 1]
            at = key if origin.column <= overrides[origin.line - 1].index("=") else value
            moved.append(replace(problem, origin=at, source_line=problems.sources.line(at)))
        else:
            moved.append(problem)
        if problem.severity == "error":
            problems.wrong.add(problem.path)
    problems.take(moved)
