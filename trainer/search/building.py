"""From a sweep's names to Optuna's objects: distributions, sampler and pruner, with what is supplied to them."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

from registry.catalogue.catalog import Catalogue
from trainer.recipe.recipe import Recipe, Spec
from trainer.search.sweep import Choice, Sweep

ONE_SEQUENCE = ("GridSampler", "QMCSampler")  # whose seed orders all points, of which each trial takes the next
_PRIME = 1_000_003


def distribution(choice: Choice, known: Catalogue) -> Any:
    """Return Optuna's distribution; a choice is its text, since Optuna takes neither mappings nor lists."""
    make = known.entry("distribution", choice.distribution.type).load()
    return make(choices=choice.texts) if choice.texts else make(**choice.distribution.arguments)


def sampler_for(number: int, sweep: Sweep, recipe: Recipe, known: Catalogue) -> Any:
    """Return the sampler that draws a trial: its draws follow from its seed and the trial's number.

    Whoever draws, in whichever process and after whatever interruption, draws the same; with the seed alone each worker
    would draw the same sequence again.
    """
    spec = sweep.sampler
    if known.entry("sampler", spec.type).parameter("seed") is None or spec.type in ONE_SEQUENCE:
        return built(spec, sweep, recipe, known)
    seed = spec.arguments.get("seed", recipe.seed)
    if seed is None:
        return built(spec, sweep, recipe, known)
    mixed = (int(seed) * _PRIME + number) % 2**32
    return built(replace(spec, arguments={**spec.arguments, "seed": mixed}), sweep, recipe, known)


def built(spec: Spec, sweep: Sweep, recipe: Recipe, known: Catalogue) -> Any:
    """Return the sampler or pruner that a spec names.

    Args:
        spec: checked.
        sweep: its space is supplied to the grid.
        recipe: of a trial.
        known: where names are looked up.
    """
    entry = known.entry(spec.slot, spec.type)
    arguments = {
        name: built(value, sweep, recipe, known) if isinstance(value, Spec) else value
        for name, value in spec.arguments.items()
    }
    supplied = {
        "search_space": lambda: grid(sweep),
        "max_resource": lambda: most_epochs(sweep, recipe),
        "seed": lambda: None if recipe.seed is None else recipe.seed % 2**32,  # NumPy's seeds have 32 bits
    }
    for parameter in entry.parameters:
        if parameter.role == "supplied" and parameter.name not in arguments and parameter.name in supplied:
            arguments[parameter.name] = supplied[parameter.name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna marks what it may still change as experimental
        return entry.load()(**arguments)


def most_epochs(sweep: Sweep, recipe: Recipe) -> int:
    """Return the epochs of the longest trial, which are the most that a pruner can count."""
    ends = [end for choice in sweep.choices if choice.path == "train.epochs" for end in choice.ends]
    return max([int(end) for end in ends if end.isdecimal()], default=recipe.train.epochs)


def grid(sweep: Sweep) -> dict[str, list[Any]]:
    """Return every value of every choice; a range without steps has its ends alone."""
    return {choice.path: list(choice.texts) or _steps(choice) for choice in sweep.choices}


def _steps(choice: Choice) -> list[Any]:
    arguments = choice.distribution.arguments
    low, high = arguments["low"], arguments["high"]
    step = arguments.get("step") or (1 if choice.distribution.type == "IntDistribution" else None)
    if step is None:
        return [low, high]
    count = int((high - low) / step + 1e-9)
    return [low + number * step for number in range(count + 1)]


FINITE = ("GridSampler", "BruteForceSampler")  # samplers that try each point once


def size(sweep: Sweep) -> int:
    """Return the points of the grid."""
    count = 1
    for values in grid(sweep).values():
        count *= len(values)
    return count
