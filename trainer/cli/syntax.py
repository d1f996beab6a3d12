"""What a command line is made of: commands with their words and options, and what is said of a wrong one.

The rules are click's, the words ours: a recipe alone is trained, a mistake names the nearest right word, and every help
ends with two examples and what the command writes. Knows no command.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from registry.catalogue.suggest import nearest
from registry.errors import RecipeError
from registry.program import typed_as
from trainer.recipe.afterwards import Free

DEBUG = "Show where an error comes from."  # taken off every command line before it is read


def in_our_words(error: click.UsageError) -> RecipeError:
    """Return what click found wrong with a command line as an error that names the nearest right word."""
    context = error.ctx
    command = "" if context is None else context.info_name if context.parent else ""
    if isinstance(error, click.NoSuchOption):
        known = [] if context is None else [one for each in context.command.get_params(context) for one in each.opts]
        known = [one for one in known if one.startswith("--")]
        near = nearest(error.option_name, known)
        hint = f"did you mean {' or '.join(near)}?" if near else _as_key(error) or f"it takes {', '.join(known)}"
        return RecipeError(f"{command or 'the program'} takes no option {error.option_name}", hint)
    if isinstance(error, click.BadOptionUsage):
        return RecipeError(f"{error.option_name} needs a value")
    if isinstance(error, click.BadParameter) and error.param is not None:
        return RecipeError(f"{error.param.opts[0]} takes {_values(error.param.type)}")
    return RecipeError(error.format_message().rstrip("."))


def _as_key(error: click.NoSuchOption) -> str:
    """Return the hint for an option that is a key of recipes, such as --epochs; "" where it is none."""
    from trainer.recipe.checks.check import where_it_belongs

    taken = [] if error.ctx is None else [str(one.metavar) for one in error.ctx.command.params]
    where = where_it_belongs(error.option_name.strip("-").replace("-", "_"))
    if not where or not any("key=value" in usage for usage in taken):
        return ""
    return f"{where}; values of a recipe are given as key=value, without dashes"


def _values(taken: click.ParamType[Any]) -> str:
    """Say in words which values an option of this type takes."""
    if isinstance(taken, click.Choice):
        return " or ".join(map(str, taken.choices))
    for kind, words in ((click.IntRange, "a whole number"), (click.FloatRange, "a number")):
        if isinstance(taken, kind):
            least = f"above {taken.min:g}" if taken.min_open else f"of {taken.min} or more"
            return f"{words} {least}" + ("" if taken.max is None else f", up to {taken.max:g}")
    return taken.name


class Program(click.Group):
    """Takes a recipe for `train RECIPE`, and answers a mistyped command with the nearest one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that a line means: its first word, or `train` where that is a recipe.

        Raises:
            RecipeError: it is neither.
        """
        first = args[0]
        if first == "help":
            args = [*args[1:2], "--help"] if args[1:] else ["--help"]
            if args == ["--help"]:
                print(ctx.get_help())
                ctx.exit()
            return self.resolve_command(ctx, args)
        if first in self.commands:
            return super().resolve_command(ctx, args)
        if first.startswith("--") or first.endswith((".yaml", ".yml")) or "/" in first or os.path.exists(first):  # noqa: PTH110
            return "train", self.commands["train"], args
        elsewhere = [name for name, each in self.commands.items() if first in getattr(each, "elsewhere", ())]
        near = elsewhere or nearest(first, self.commands)
        named = f"did you mean {' or '.join(map(repr, near))}?"
        raise RecipeError(
            f"{first!r} is neither a command nor a recipe file", named if near else "`help` lists the commands"
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take `--fast recipe.yaml` as the option of a command left out."""
        if args and args[0].startswith("--") and args[0] not in ("--help", "--version"):
            args = ["train", *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of the commands in the order of their file, not of the alphabet."""
        return list(self.commands)


IN_SEVERAL = ("train", "resume")  # commands that the processes of a launch run together


class Command(click.Command):
    """A command whose help ends with two examples and what it writes.

    Args:
        examples: of its command line, without the program's name.
        writes: what it leaves behind.
        anew: keys of the recipe that it takes as key=value; empty where it takes all, or none.
        elsewhere: what other programs call it; whoever types that is told its name.
    """

    def __init__(
        self,
        *args: Any,
        examples: Sequence[str] = (),
        writes: str = "",
        anew: Sequence[Free] = (),
        elsewhere: Sequence[str] = (),
        **options: Any,
    ) -> None:
        options["params"] = [
            *options.get("params", ()),
            click.Option(["--debug"], is_flag=True, expose_value=False, help=DEBUG),
        ]
        super().__init__(*args, **options)
        self.examples, self.writes, self.anew, self.elsewhere = tuple(examples), writes, anew, elsewhere

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, in one process unless it is made for several."""
        if self.name not in IN_SEVERAL:
            refuse_several(str(self.name))
        return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what stands at the end of a help: keys, examples, and what is written."""
        name = typed_as()
        if self.anew:
            with formatter.section("Keys that key=value may give anew"):
                formatter.write_dl([(one.pattern, one.why) for one in self.anew])
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}{name} {example}\n")
        with formatter.section("Writes"):
            formatter.write_text(self.writes)
        super().format_epilog(ctx, formatter)


@dataclass(frozen=True)
class Words:
    """The arguments of a command that are no options.

    Attributes:
        plain: recipes, runs, pictures, names.
        overrides: `key=value`, in order.
    """

    plain: tuple[str, ...]
    overrides: tuple[str, ...] = ()


def takes(usage: str, *, least: int = 1, most: int | None = 1) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command its words; those with an equals sign are overrides where the usage has them.

    Args:
        usage: as help shows it.
        least: fewest plain words.
        most: most of them; None for any number.
    """

    def divided(context: click.Context, _: click.Parameter, values: tuple[str, ...]) -> Words:
        named = "=value" in usage
        overrides = tuple(word for word in values if named and "=" in word and not os.path.exists(word))  # noqa: PTH110
        plain = tuple(word for word in values if word not in overrides)
        if "" in plain:
            raise RecipeError(
                f"{context.info_name} takes {usage}, got an empty word", "a variable of the shell may not be set"
            )
        if len(plain) < least or (most is not None and len(plain) > most):
            raise RecipeError(
                f"{context.info_name} takes {usage or 'no arguments'}, got {_counted(plain)}",
                "an override is written key=value without spaces around the equals sign" if named else "",
            )
        return Words(plain, overrides)

    return click.argument("words", nargs=-1, metavar=usage, type=click.Path(), callback=divided)


def _counted(words: Sequence[str]) -> str:
    return f"{len(words)} word{'' if len(words) == 1 else 's'}{': ' if words else ''}{' '.join(words)}"


def refuse_several(what: str) -> None:
    """Refuse to do in each of several processes what is meant for one.

    Raises:
        RecipeError: a launcher has started several.
    """
    if (count := started_together()) > 1:
        raise RecipeError(
            f"{what} runs in one process, and a launcher has started {count}",
            f"start it without one; the commands {' and '.join(IN_SEVERAL)} run in several",
        )


def started_together() -> int:
    """Return how many processes a launcher has started, by its environment; 1 where nobody has."""
    text = os.environ.get("WORLD_SIZE", "")
    return int(text) if text.isdecimal() else 1
