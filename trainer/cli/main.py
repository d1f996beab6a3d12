"""The command line: which command, its options, and how every error is shown.

Imports nothing heavy: a command's module is loaded when it is called, so that `list`, `describe` and
`validate --quick` answer without torch.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from registry.catalogue.suggest import nearest
from registry.errors import RecipeError, UserError
from registry.printing import never_fails


@dataclass(frozen=True)
class Options:
    """A parsed command line.

    Attributes:
        words: positional arguments after the command.
        overrides: `key=value` arguments.
        flags: `--name` or `--name value`, by name.
        command: the command line as typed, for the records.
    """

    words: tuple[str, ...]
    overrides: tuple[str, ...]
    flags: dict[str, str | bool] = field(default_factory=dict)
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class Command:
    """A command of the program.

    Attributes:
        usage: its arguments.
        help: what it does, one line.
        flags: flag -> whether it takes a value.
        least: fewest positional words.
        most: most positional words; None for any number.
        overrides: whether `key=value` is accepted.
    """

    usage: str
    help: str
    flags: dict[str, bool] = field(default_factory=dict)
    least: int = 1
    most: int | None = 1
    overrides: bool = False


COMMANDS = {
    "train": Command("RECIPE [key=value ...] [--fast]", "train what a recipe says", {"fast": False}, overrides=True),
    "validate": Command(
        "RECIPE... [key=value ...] [--quick] [--format json]",
        "check recipes without running them",
        {"quick": False, "format": True},
        most=None,
        overrides=True,
    ),
    "show": Command(
        "RECIPE [key=value ...] [--origin]", "print the resolved recipe", {"origin": False}, overrides=True
    ),
    "diff": Command("A B", "what differs between two recipes or runs", least=2, most=2),
    "list": Command("[SLOT] [PATTERN]", "components a recipe may name", least=0, most=2),
    "describe": Command("NAME", "a component, a section or a rule in full"),
    "schema": Command("", "JSON Schema of the recipe language, for editors", least=0, most=0),
    "new": Command("[TEMPLATE] [FILE]", "write a recipe to start from", least=0, most=2),
    "preview": Command("RECIPE [key=value ...]", "a sheet of augmented images, no training", overrides=True),
    "lr-find": Command("RECIPE [key=value ...]", "sweep the learning rate, nothing else", overrides=True),
    "resume": Command("RUN [key=value ...]", "continue a run exactly where it stopped", overrides=True),
    "evaluate": Command("RUN [key=value ...]", "measure a run's best weights again", overrides=True),
    "predict": Command("RUN IMAGE... [--top K]", "name what is on pictures", {"top": True}, least=2, most=None),
    "explain": Command("RUN [IMAGE...]", "GradCAM of pictures, or of the run's own mistakes", most=None),
    "verify": Command("RECIPE... [key=value ...]", "run recipes against what they expect", most=None, overrides=True),
    "compare": Command("RUN...", "recipes, curves and results side by side", least=2, most=None),
}
GLOBAL_FLAGS = {"debug": False, "help": False}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its version at import
    for stream in (sys.stdout, sys.stderr):
        never_fails(stream)
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        return _run(words)
    except UserError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the exit's flush is quiet too
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        code = getattr(error, "exit_code", None)  # Interrupted carries its own and has said its line
        if code is not None:
            return int(code)
        if debug:
            raise
        print(
            f"error: {type(error).__name__}: {error}\n  this is a bug of the program; --debug shows where",
            file=sys.stderr,
        )
        return 1


def _run(words: list[str]) -> int:
    if not words or words[0] in ("help", "--help", "-h"):
        print(help_text())
        return 0 if words else 2
    name, rest = _command(words)
    options = parse(name, rest, typed=("python", "-m", "trainer", *words))
    if options is None:
        command = COMMANDS[name]
        print(f"python -m trainer {'' if name == 'train' else name + ' '}{command.usage}\n  {command.help}")
        return 0
    return _function(name)(options)


def _command(words: list[str]) -> tuple[str, list[str]]:
    """Return the command and its arguments; a recipe alone means `train`."""
    first = words[0]
    if first in COMMANDS:
        return first, words[1:]
    if first.startswith("--") or first.endswith((".yaml", ".yml")) or "/" in first or os.path.exists(first):  # noqa: PTH110
        return "train", words
    near = nearest(first, COMMANDS)
    hint = (
        f"did you mean {' or '.join(repr(each) for each in near)}?" if near else "`python -m trainer help` lists them"
    )
    raise RecipeError(f"{first!r} is neither a command nor a recipe file", hint)


def parse(name: str, words: Sequence[str], typed: Sequence[str] = ()) -> Options | None:
    """Return the options of a command; None where help was asked for.

    Raises:
        RecipeError: an argument the command does not take, or one too few.
    """
    command = COMMANDS[name]
    known = {**command.flags, **GLOBAL_FLAGS}
    positional: list[str] = []
    overrides: list[str] = []
    flags: dict[str, str | bool] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in ("-h", "--help"):
            return None
        if word.startswith("--"):
            flag, equals, value = word[2:].partition("=")
            if flag not in known:
                near = [f"--{each}" for each in nearest(flag, known)]
                hint = f"did you mean {' or '.join(near)}?" if near else f"it takes {_flag_list(command)}"
                raise RecipeError(f"{name} takes no option {word.partition('=')[0]}", hint)
            if known[flag] and not equals:
                if not rest:
                    raise RecipeError(f"{word} needs a value")
                value = rest.pop(0)
            flags[flag] = value if known[flag] else True
        elif command.overrides and "=" in word and not os.path.exists(word):  # noqa: PTH110
            overrides.append(word)
        else:
            positional.append(word)
    if len(positional) < command.least or (command.most is not None and len(positional) > command.most):
        raise RecipeError(
            f"{name} takes {command.usage or 'no arguments'}, got {len(positional)} words: {' '.join(positional)}",
            "an override is written key=value without spaces around the equals sign" if command.overrides else "",
        )
    return Options(tuple(positional), tuple(overrides), flags, tuple(typed))


def _function(name: str) -> Callable[[Options], int]:
    from trainer.cli import commands

    return commands.COMMAND_FUNCTIONS[name]


def _flag_list(command: Command) -> str:
    return ", ".join(f"--{flag}" for flag in {**command.flags, **GLOBAL_FLAGS})


def help_text() -> str:
    """Return the overview of all commands."""
    lines = [
        "python -m trainer RECIPE [key=value ...]     train an image classifier as the recipe says",
        "",
        "commands:",
    ]
    lines += [f"  {name:<9} {command.usage:<52} {command.help}" for name, command in COMMANDS.items()]
    lines += [
        "",
        "first steps: python -m trainer recipes/quickstart.yaml (no download), then tensorboard --logdir runs",
    ]
    return "\n".join(lines)
