"""Options that several commands have in common, and what it means to be run in several processes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import click

from registry.errors import RecipeError
from registry.program import typed_as

FAST = click.option("--fast", is_flag=True, help="Run everything once, small: two epochs of two batches.")
_LAUNCHING: dict[str, dict[str, Any]] = {
    "--processes": {"metavar": "N|auto", "help": "Run in N processes, which share every batch; auto: one per GPU."},
    "--max-restarts": {
        "type": click.IntRange(min=0),
        "metavar": "N",
        "help": "Start all anew, N times, if one is gone.",
    },
    "--machines": {"type": click.IntRange(min=1), "metavar": "N", "help": "Machines, each given this command."},
    "--rendezvous": {"metavar": "HOST:PORT", "help": "Where several machines meet."},
    "--wait": {"type": click.IntRange(min=1), "metavar": "SECONDS", "help": "How long machines are waited for."},
}
TEXT_OR_JSON = click.Choice(["text", "json"])
TABLE = click.Choice(["text", "csv", "json", "markdown"])


def plugins_option(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command `--plugins`, whose components it knows as well."""
    return click.option(
        "--plugins",
        multiple=True,
        metavar="FILE|PACKAGE|RECIPE",
        help="Know components of your own, too: a .py file, a package, or a recipe that names them. May be repeated.",
    )(command)


def sureness(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options that say how sure an answer must be, in place of the recipe's `answers`."""
    below = click.option(
        "--abstain-below",
        type=click.FloatRange(min=0, max=1, min_open=True),
        metavar="P",
        default=None,
        help='Answer "not sure" where the likeliest class is less likely than P.',
    )
    calibrated = click.option(
        "--calibrated/--not-calibrated",
        default=None,
        help="Tell probabilities by the temperature fitted on validation.",
    )
    return calibrated(below(command))


def launches(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options that have it run in several processes."""

    @functools.wraps(command)
    def either(typed: Sequence[str], /, **options: Any) -> int:
        how = {name: options.pop(name.strip("-").replace("-", "_")) for name in _LAUNCHING}
        given = {name: value for name, value in how.items() if value is not None}
        if not given:
            return command(typed, **options)
        if "--processes" not in given:
            raise RecipeError(f"{next(iter(given))} goes with --processes", "torchrun has options of its own")
        from trainer.cli.launching import launched

        return launched(without_launching(typed[len(typed_as().split()) :]), given)

    for name, about in reversed(_LAUNCHING.items()):
        either = click.option(name, default=None, **about)(either)
    return either


def without_launching(words: Sequence[str]) -> list[str]:
    """Return the words of a command line without the options of launching and their values."""
    kept, skipped = [], False
    for word in words:
        if not skipped and word.partition("=")[0] not in _LAUNCHING:
            kept.append(word)
        skipped = word in _LAUNCHING and not skipped
    return kept
