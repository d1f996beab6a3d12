"""The command line: one function per command, its options standing on it.

Imports nothing heavy: what a command needs is loaded when it is called, so that `list`, `describe` and
`validate --quick` answer without torch. A new command is one function here; what it does that others may want lies in
the module it calls.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.shell_completion import shell_complete

from registry.catalogue.suggest import nearest
from registry.errors import ExpectationError, RecipeError, UserError
from registry.printing import harmless, never_fails, one_line
from registry.program import PROGRAM, VERSION, typed_as
from trainer.cli.layout import folded
from trainer.cli.templates import TEMPLATES
from trainer.recipe.afterwards import FREE_AT_RESUME, READ_BY_EVALUATE, RESOLVED, Free
from trainer.run.naming import LATEST, RUNS, is_pattern, located, names_a_run, newest_of_each, runs_below

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from registry.catalogue.catalog import Catalogue
    from trainer.engine.processes import Processes
    from trainer.recipe.load import Loaded
    from trainer.run.conduct import Order
    from trainer.search.reading import LoadedSweep

Tried = Literal["text", "images", "all"]  # of a recipe: its words, what happens to images, all that a run builds
_DEBUG = "Show where an error comes from."  # taken off every command line before it is read
_COMPLETE = "_RECIPE_TRAINER_COMPLETE"  # set by the shell's completion script, as click names it


# ------------------------------------------------------------------------------------------------------- the program
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its version at import
    if _started_together() > 1:  # read at torch's import: else every lost connection prints a stack of its own
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    for stream in (sys.stdout, sys.stderr):
        never_fails(stream)
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        return _answer([word for word in words if word != "--debug"], typed=(*typed_as().split(), *words))
    except UserError as error:
        if debug:
            traceback.print_exc()
        print(folded(harmless(f"error: {error}"), sys.stderr), file=sys.stderr)
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
            harmless(f"error: {type(error).__name__}: {error}")
            + "\n  this is a bug of the program; --debug shows where",
            file=sys.stderr,
        )
        return 1


def _answer(words: list[str], typed: Sequence[str]) -> int:
    if instruction := os.environ.get(_COMPLETE):
        return shell_complete(program, {}, PROGRAM, _COMPLETE, instruction)
    if not words:
        print(program.get_help(click.Context(program, info_name=typed_as())))
        return RecipeError.exit_code
    try:
        with program.make_context(typed_as(), words, obj=typed) as context:
            return int(program.invoke(context) or 0)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.UsageError as error:
        raise _in_our_words(error) from error


def _in_our_words(error: click.UsageError) -> RecipeError:
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
    kinds = ((click.IntRange, "a whole number"), (click.FloatRange, "a number"))
    found = next((words for kind, words in kinds if isinstance(taken, kind)), None)
    return taken.name if found is None else f"{found} of {taken.min} or more"  # type: ignore[attr-defined]


class _Program(click.Group):
    """Takes a recipe for `train RECIPE`, and answers a mistyped command with the nearest one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
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
        near = nearest(first, self.commands)
        named = f"did you mean {' or '.join(map(repr, near))}?"
        raise RecipeError(
            f"{first!r} is neither a command nor a recipe file", named if near else "`help` lists the commands"
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # `--fast recipe.yaml` is the option of a command left out.
        if args and args[0].startswith("--") and args[0] not in ("--help", "--version"):
            args = ["train", *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)  # in the order of this file, not of the alphabet


_IN_SEVERAL = ("train", "resume")  # commands that the processes of a launch run together


class _Command(click.Command):
    """A command whose help ends with two examples and what it writes.

    Args:
        examples: of its command line, without the program's name.
        writes: what it leaves behind.
        anew: keys of the recipe that it takes as key=value; empty where it takes all, or none.
    """

    def __init__(
        self, *args: Any, examples: Sequence[str] = (), writes: str = "", anew: Sequence[Free] = (), **options: Any
    ) -> None:
        options["params"] = [
            *options.get("params", ()),
            click.Option(["--debug"], is_flag=True, expose_value=False, help=_DEBUG),
        ]
        super().__init__(*args, **options)
        self.examples, self.writes, self.anew = tuple(examples), writes, anew

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, in one process unless it is made for several."""
        if self.name not in _IN_SEVERAL:
            refuse_several(str(self.name))
        return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
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


def _version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        print(f"{PROGRAM} {VERSION}")
        context.exit()


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=False)
@click.option(
    "-V", "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)
def program() -> None:
    """Train an image classifier as a recipe says.

    RECIPE alone means `train RECIPE`. First steps: `new quickstart` writes a recipe that needs no download; train it,
    and watch it with tensorboard --logdir runs. `--debug` after any command shows where an error comes from.
    """


_FAST = click.option("--fast", is_flag=True, help="Run everything once, small: two epochs of two batches.")
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
_TEXT_OR_JSON = click.Choice(["text", "json"])
_TABLE = click.Choice(["text", "csv", "json", "markdown"])


def _plugins_option(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command `--plugins`, whose components it knows as well."""
    return click.option(
        "--plugins",
        multiple=True,
        metavar="FILE|PACKAGE|RECIPE",
        help="Know components of your own, too: a .py file, a package, or a recipe that names them. May be repeated.",
    )(command)


def _command(**about: Any) -> Callable[[Callable[..., int]], click.Command]:
    return program.command(cls=_Command, **about)


def _launches(command: Callable[..., int]) -> Callable[..., int]:
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

        return launched(_without_launching(typed[len(typed_as().split()) :]), given)

    for name, about in reversed(_LAUNCHING.items()):
        either = click.option(name, default=None, **about)(either)
    return either


def _without_launching(words: Sequence[str]) -> list[str]:
    """Return the words of a command line without the options of launching and their values."""
    kept, skipped = [], False
    for word in words:
        if not skipped and word.partition("=")[0] not in _LAUNCHING:
            kept.append(word)
        skipped = word in _LAUNCHING and not skipped
    return kept


# -------------------------------------------------------------------------------------------------------------- running
@_command(
    examples=("train my.yaml train.epochs=10 optimizer.lr=0.01", "recipes/cifar10_resnet18.yaml --processes auto"),
    writes="runs/<name>/<time>/: report.html, metrics.jsonl, checkpoints/, figures/, gradcam/, tensorboard/.",
)
@takes("RECIPE [key=value ...]")
@_FAST
@click.pass_obj
@_launches
def train(typed: Sequence[str], words: Words, fast: bool) -> int:
    """Train what a recipe says.

    key=value changes a value of the recipe for this run: train.epochs=3, optimizer.lr=0.1, data.augment.0.p=0.2.
    """
    path = words.plain[0]
    if names_a_run(Path(path)):
        raise RecipeError(
            f"{one_line(path)} is a run, not a recipe",
            f"`resume {one_line(path)}` continues it; `train {one_line(str(located(Path(path))))}/resolved.yaml` "
            "makes another like it",
        )
    with importing(told=True):
        from trainer.cli.console import Console
        from trainer.run import conduct

    with _processes() as processes:
        order = _order(path, words.overrides, typed, fast=fast, quiet=not processes.is_first)
        return conduct.start(order, RUNS, Console(), processes).exit_code


@_command(
    examples=("resume latest", "resume runs/quickstart/20261126-101500 train.epochs=20"),
    writes="Goes on in the run's own folder.",
    anew=FREE_AT_RESUME,
)
@takes("RUN [key=value ...]")
@click.pass_obj
@_launches
def resume(typed: Sequence[str], words: Words) -> int:
    """Continue a run exactly where it stopped.

    RUN is its folder; `latest` is the newest one in runs/, `runs/quickstart/latest` the newest of that name.
    """
    run = _run(words.plain[0])
    with importing(told=True):
        from trainer.cli.console import Console
        from trainer.run.resuming import continued

    with _processes() as processes:
        return continued(run, words.overrides, typed, Console(), processes)


@_command(
    examples=("sweep sweeps/quickstart_lr.yaml", "sweep my_sweep.yaml --workers 2"),
    writes="runs/<sweep>/: a run folder per trial, report.html, best.yaml. Given again, it goes on where it stopped.",
)
@takes("FILE")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes on this machine.")
@click.pass_obj
def sweep(typed: Sequence[str], words: Words, workers: int) -> int:
    """Search recipes: many runs from one file."""
    from registry.search import require_optuna

    require_optuna()
    with importing(told=True):
        from trainer.cli import sweeping

    return sweeping.sweep(words.plain[0], workers, typed, RUNS)


@_command(
    examples=("verify recipes/quickstart.yaml", "verify runs/quickstart/latest"),
    writes="A run folder per recipe, none for a run; exit code 8 where an expectation is missed.",
)
@takes("RECIPE|RUN... [key=value ...]", most=None)
@click.option("--replay", type=click.IntRange(0), default=0, help="Of a RUN: train so many of its epochs again.")
@click.option("--draw", type=int, default=None, help="A number, to draw the same epochs again.")
@click.pass_obj
def verify(typed: Sequence[str], words: Words, replay: int, draw: int | None) -> int:
    """Hold recipes and runs against what they expect.

    A RECIPE is run and judged by its `expect` section. Of a RUN it is looked whether its files agree with one another,
    and it is judged by what it has recorded; nothing is trained unless --replay repeats some of its epochs.
    """
    with importing(told=True):
        from trainer.cli.console import Console
        from trainer.cli.verifying import verify_run
        from trainer.run import conduct
        from trainer.run.verdicts import EXPECT, exit_code, rows

    judged, runs, orders = {}, {}, {}
    for word in words.plain:  # all are looked at before one of them takes its time
        if names_a_run(Path(word)):
            runs[word] = _run(word)
            continue
        orders[word] = _order(_recipe_in(word), words.overrides, typed)
        if not orders[word].recipe.expect:
            raise RecipeError(f"{word}: has no `expect:` section to verify", EXPECT)
    sound = True
    for word, run in runs.items():
        verdicts, not_judged, holds = verify_run(run, words.overrides, replay, draw, Console())
        judged[word], sound = (verdicts, not_judged), sound and holds
    for word, order in orders.items():
        judged[word] = conduct.start(order, RUNS, Console()).verdicts, order.not_judged
    for word in dict.fromkeys(words.plain):
        for key, text in rows(*judged[word]).items():
            print(f"{one_line(word)}: {key}: {text}")
    missed = any(exit_code(*each) for each in judged.values())
    return ExpectationError.exit_code if missed or not sound else 0


@_command(
    examples=(
        "grade hand-ins --against s10.yaml",
        "grade hand-ins --against s10.yaml --replay 3",
    ),
    writes="grades.html and grades.csv into FOLDER; exit code 8 where something is to be looked at.",
)
@takes("FOLDER [key=value ...]")
@click.option("--against", type=click.Path(), required=True, help="The recipe that was given.")
@click.option("--replay", type=click.IntRange(0), default=0, help="Train so many epochs of each run again.")
@click.option("--draw", type=int, default=None, help="A number, to draw the same epochs again.")
def grade(words: Words, against: str, replay: int, draw: int | None) -> int:
    """Hold hand-ins against the recipe that was given."""
    with importing(told=True):
        from trainer.cli import grading
        from trainer.cli.console import Console
        from trainer.run.grading import Grader

    console = Console()
    grader = Grader(Path(against), words.overrides, replays=replay, seed=draw, display=console)
    sound = grading.grade(Path(words.plain[0]), grader, console.line)
    return 0 if sound else ExpectationError.exit_code


# ------------------------------------------------------------------------------------------ recipes and their words
@_command(
    examples=("validate my.yaml", "validate recipes/*.yaml --quick --format json"),
    writes="Nothing. Exit code 2 where a recipe has a problem.",
)
@takes("RECIPE|RUN... [key=value ...]", most=None)
@click.option("--quick", is_flag=True, help="The text alone, without importing torch.")
@click.option("--format", "form", type=_TEXT_OR_JSON, default="text", help="How problems are printed.")
def validate(words: Words, quick: bool, form: str) -> int:
    """Check recipes without running them."""
    from trainer.recipe.problems import to_json

    failed, collected = False, []
    for path in map(_recipe_in, words.plain):
        loaded = _read_any(path, words.overrides, tried="text" if quick else "all")
        failed |= bool(loaded.problems)
        collected += [*loaded.problems, *loaded.warnings]
        if form == "text":
            _print_checked(path, loaded, quick=quick)
    if form == "json":
        print(json.dumps(to_json(collected), indent=2))
    return RecipeError.exit_code if failed else 0


@_command(
    examples=("show latest", "show my.yaml optimizer.lr=0.1 --origin"),
    writes="The recipe with every default, on standard output.",
)
@takes("RECIPE|RUN [key=value ...]")
@click.option("--origin", is_flag=True, help="Say of every value where it was written.")
def show(words: Words, origin: bool) -> int:
    """Print a recipe with all that it leaves out.

    Of a RUN it prints the recipe that the run was made by.
    """
    from trainer.recipe.resolve import show_text

    print(show_text(_checked(_recipe_in(words.plain[0]), words.overrides, tried="text"), origin=origin))
    return 0


@_command(
    examples=("diff a.yaml b.yaml", "diff latest b.yaml"),
    writes="What differs, on standard output; a difference is no error.",
)
@takes("A B", least=2, most=2)
def diff(words: Words) -> int:
    """What differs between two recipes or runs."""
    from trainer.recipe.resolve import diff_text

    first, second = (_checked(_recipe_in(word), (), tried="text").recipe for word in words.plain)
    assert first is not None
    assert second is not None
    print(diff_text(first, second) or "no difference")
    return 0


@_command(
    name="list",
    examples=("list transform Rotat", "list model --plugins my_nets.py"),
    writes="A table, on standard output.",
)
@takes("[SLOT] [PATTERN]", least=0, most=2)
@_plugins_option
def list_components(words: Words, plugins: Sequence[str]) -> int:
    """Components a recipe may name.

    SLOT is a kind of component, such as model or transform; PATTERN a part of a name, or one with * and ?.
    """
    from trainer.cli.describing import list_text

    print(list_text(*words.plain, components=_known(plugins)))
    return 0


@_command(
    examples=("describe SGD", "describe MyNet --plugins my_nets.py"),
    writes="Its arguments, defaults and a snippet to copy, on standard output.",
)
@takes("NAME")
@_plugins_option
def describe(words: Words, plugins: Sequence[str]) -> int:
    """A component, a section or a rule in full.

    NAME is a component (SGD), a kind of them (optimizer), a section or key of recipes (train, data.val), or the number
    of a rule (R021).
    """
    from trainer.cli.describing import describe_text

    print(describe_text(words.plain[0], components=_known(plugins)))
    return 0


@_command(
    examples=("schema > recipe.schema.json", "schema --plugins my_nets.py > recipe.schema.json"),
    writes="The JSON Schema of recipes, or with `sweep` of sweeps, on standard output.",
)
@takes("[recipe|sweep]", least=0)
@_plugins_option
def schema(words: Words, plugins: Sequence[str]) -> int:
    """JSON Schema of the recipe language, for editors."""
    from trainer.cli.describing import schema_of
    from trainer.recipe.schema_text import schema_text

    print(schema_text(schema_of("".join(words.plain) or "recipe", _known(plugins))))
    return 0


@_command(
    examples=("new quickstart", "new own_images flowers.yaml"),
    writes="A recipe, and recipe.schema.json beside it for editors; a file is never overwritten.",
    help=f"Write a recipe to start from.\n\nTemplates: {', '.join(TEMPLATES)}. `new` alone says what each is.",
)
@takes("[TEMPLATE] [FILE]", least=0, most=2)
def new(words: Words) -> int:
    """Write a recipe to start from; the help of the command names the templates."""
    from trainer.cli.starting import write_template

    return write_template(*words.plain)


# ------------------------------------------------------------------------------------------------------------- looking
@_command(
    examples=("preview recipes/quickstart.yaml", "preview my.yaml data.augment.1.p=1"),
    writes="runs/<name>/<time>-preview/figures/augmentation.png.",
)
@takes("RECIPE|RUN [key=value ...]")
def preview(words: Words) -> int:
    """A sheet of augmented images, no training."""
    with importing():
        from trainer.cli import looking

    return looking.preview(_checked(_recipe_in(words.plain[0]), words.overrides, tried="images"))


@_command(
    name="lr-find",
    examples=("lr-find recipes/quickstart.yaml", "lr-find my.yaml lr_finder.end=10 lr_finder.steps=200"),
    writes="runs/<name>/<time>-lr/: the curve and its picks.",
)
@takes("RECIPE|RUN [key=value ...]")
def lr_find(words: Words) -> int:
    """Sweep the learning rate, nothing else."""
    with importing():
        from trainer.cli import looking

    return looking.lr_find(_checked(_recipe_in(words.plain[0]), words.overrides))


@_command(
    examples=("evaluate latest", "evaluate latest data.dataset.root=/new/pictures"),
    writes="Numbers, on standard output.",
    anew=READ_BY_EVALUATE,
)
@takes("RUN [key=value ...]")
def evaluate(words: Words) -> int:
    """Measure a run's best weights again.

    The numbers are held against those that the run recorded. RUN is its folder; `latest` is the newest one in runs/,
    `runs/quickstart/latest` the newest of that name.
    """
    with importing():
        from trainer.cli import looking

    return looking.evaluate(_run(words.plain[0]), words.overrides)


@_command(
    examples=("predict latest cat.jpg dog.png", "predict runs/quickstart/latest cat.jpg --top 5"),
    writes="A line per picture, on standard output.",
)
@takes("RUN IMAGE...", least=2, most=None)
@click.option(
    "--top", type=click.IntRange(min=1), metavar="N", default=3, show_default=True, help="Classes named per picture."
)
def predict(words: Words, top: int) -> int:
    """Name what is on pictures."""
    with importing():
        from trainer.cli import looking

    return looking.predict(_run(words.plain[0]), [Path(word) for word in words.plain[1:]], top=top)


@_command(
    examples=("explain latest", "explain runs/quickstart/20261126-101500 cat.jpg"),
    writes="A folder of GradCAM pictures beside the run, named at the end.",
)
@takes("RUN [IMAGE...]", most=None)
def explain(words: Words) -> int:
    """GradCAM of pictures, or of the run's own mistakes."""
    with importing():
        from trainer.cli import looking

    return looking.explain(_run(words.plain[0]), [Path(word) for word in words.plain[1:]])


@_command(
    examples=("report latest", "report runs/quickstart/latest --pdf --short"),
    writes="The run's report.html, report.md and figures/; with --pdf report.pdf, with --short report-short.pdf.",
)
@takes("RUN [key=value ...]")
@click.option("--pdf", is_flag=True, help="Print the page into a PDF, by Chromium, Chrome or Edge.")
@click.option("--short", is_flag=True, help="Print its short version: three pages to hand in.")
def report(words: Words, pdf: bool, short: bool) -> int:
    """Write a run's report again.

    `resume RUN report=...` changes what stands in it.
    """
    with importing():
        from trainer.cli import looking

    return looking.report(_run(words.plain[0]), words.overrides, pdf=pdf or short, short=short)


@_command(
    examples=("compare runs/quickstart", "compare runs/a/20261126-101500 runs/b --sort test/accuracy"),
    writes="runs/compare/<time>/report.html, and a table on standard output; with another --format that alone.",
)
@takes("RUN...", most=None)
@click.option("--format", "form", type=_TABLE, default="text", help="How the table is printed.")
@click.option("--sort", default="", metavar="KEY", help="A column: val/loss, time, lr, name; -time turns it round.")
def compare(words: Words, form: str, sort: str) -> int:
    """Runs side by side, the best first.

    RUN may be a folder of runs or a pattern in quotes: 'runs/*/latest' is the newest of each name.
    """
    with importing():
        from trainer.cli import comparing

    return comparing.compare([str(run) for word in words.plain for run in _runs(word)], form, sort)


@_command(
    examples=("runs", "runs 'quick*' status=completed --sort best"),
    writes="A table, JSON or CSV, on standard output. The page of all runs is runs/index.html.",
)
@takes("[PATTERN] [column=value ...]", least=0)
@click.option("--sort", metavar="COLUMN", default="", help="Order by a column; without, the newest come first.")
@click.option("--format", "form", type=click.Choice(["text", "json", "csv"]), default="text", help="How it is printed.")
def runs(words: Words, sort: str, form: str) -> int:
    """What runs there are, and what they reached."""
    from trainer.cli.listing import runs_text

    print(runs_text(RUNS, "".join(words.plain), words.overrides, sort, form))
    return 0


@_command(
    examples=("clean", "clean 'quick*' --days 30 --yes"),
    writes="Nothing without --yes; with it, old runs keep their best weights, numbers and pages.",
)
@takes("[PATTERN]", least=0)
@click.option(
    "--days", type=click.FloatRange(min=0), metavar="N", default=14.0, show_default=True, help="Age of what may go."
)
@click.option("--yes", is_flag=True, help="Remove what is proposed.")
def clean(words: Words, days: float, yes: bool) -> int:
    """Propose checkpoints of old runs that can go, and remove them."""
    from trainer.cli import listing

    return listing.clean(RUNS, "".join(words.plain), days, sure=yes)


@_command(
    examples=("completion bash >> ~/.bashrc", "completion fish > recipe-trainer.fish"),
    writes=f"A script for the shell, on standard output; it completes `{PROGRAM}`.",
)
@takes("bash|zsh|fish")
def completion(words: Words) -> int:
    """Script that completes commands, options and files in a shell."""
    return shell_complete(program, {}, PROGRAM, _COMPLETE, f"{words.plain[0]}_source")


# --------------------------------------------------------------------------------------------- what a command works on
@contextmanager
def importing(*, told: bool = False) -> Iterator[None]:
    """Say that torch is imported, which takes seconds: on a terminal until it is, else in a line where `told`."""
    if "torch" in sys.modules:
        yield
        return
    words = "importing torch ..."
    is_first = os.environ.get("RANK", "0") == "0"  # of the processes of one run one speaks
    told, on_terminal = told and is_first, sys.stderr.isatty() and is_first
    if on_terminal:
        print(words, end="", file=sys.stderr, flush=True)
    elif told:
        print(words, flush=True)
    try:
        yield
    finally:
        if on_terminal:
            print(f"\r{'':{len(words)}}\r", end="", file=sys.stderr, flush=True)


def _run(word: str) -> Path:
    """Return the folder of the run that a word means, and say which one `latest` is."""
    found = located(Path(word))
    if found != Path(word) and os.environ.get("RANK", "0") == "0":
        _say(f"{one_line(word)} is {one_line(str(found))}")
    return found


def _runs(word: str) -> list[Path]:
    """Return the folders that a word of several runs means, and say which ones `latest` stands for."""
    path = Path(word)
    if not is_pattern(path):
        return [_run(word)]
    if path.name != LATEST:
        return [path]  # what a pattern names is found where its runs are read
    found = newest_of_each(path)
    _say(f"{one_line(word)} is {', '.join(one_line(str(run)) for run in found)}")
    return found


def _recipe_in(word: str) -> str:
    """Return the file of a recipe; a run stands for the one that it was made by, with every default."""
    if names_a_run(Path(word)):
        return str(_run(word) / RESOLVED)
    if Path(word).is_dir() and any(runs_below(Path(word))):
        raise RecipeError(f"{one_line(word)} is neither a recipe nor a run", f"it holds runs: {one_line(word)}/latest")
    return word


def _known(plugins: Sequence[str]) -> Catalogue | None:
    """Return the catalogue with plug-ins; None for the one without.

    Raises:
        RecipeError: a plug-in does not exist, or the recipe that is to name some has problems.
    """
    if not plugins:
        return None
    from registry.catalogue.catalog import catalogue

    named: list[str] = []
    for word in plugins:
        is_recipe = word.endswith((".yaml", ".yml")) or names_a_run(Path(word))
        named += _read(_recipe_in(word), (), tried="text").usable().plugins if is_recipe else [word]
    return catalogue(named)


# ---------------------------------------------------------------------------------------------------- reading, checking
def _read(path: str, overrides: Sequence[str], *, fast: bool = False, tried: Tried = "all") -> Loaded:
    """Read and check a recipe; all but its text needs torch."""
    if tried == "text":
        from trainer.recipe.load import load_recipe

        return load_recipe(path, overrides, fast=fast)
    with importing():
        from trainer.experiment.checking import examined

    return examined(path, overrides, fast=fast, only_images=tried == "images")


def _read_any(path: str, overrides: Sequence[str], *, tried: Tried) -> Loaded | LoadedSweep:
    """Read and check a recipe, or a sweep with every point of its space."""
    from trainer.recipe.reading.files import names_key

    if not overrides and names_key(path, "sweep"):
        from trainer.search.reading import load_sweep

        return load_sweep(path, built=tried != "text")
    return _read(path, overrides, tried=tried)


def _checked(path: str, overrides: Sequence[str], *, fast: bool = False, tried: Tried = "all") -> Loaded:
    """Read and check a recipe that is going to be used; print warnings and notes.

    Raises:
        RecipeError: with all problems; nothing was run.
    """
    from trainer.recipe.problems import render
    from trainer.recipe.reading.files import names_key

    loaded = _read(path, overrides, fast=fast, tried=tried)
    if loaded.problems and names_key(path, "sweep"):
        raise RecipeError(f"{path} is a sweep, not a recipe", f"{typed_as()} sweep {path}")
    loaded.usable()
    if loaded.warnings:
        _say(render(loaded.warnings))
    for note in loaded.notes:
        _say(f"note: {note}")
    return loaded


def _print_checked(path: str, loaded: Loaded | LoadedSweep, *, quick: bool) -> None:
    from trainer.recipe.problems import render

    if loaded.warnings:
        _say(render(loaded.warnings))
    if not loaded.problems:
        print(f"{one_line(path)}: no problems{' (text only)' if quick else ''}")
        for note in loaded.notes:
            print(f"note: {note}", file=sys.stderr)
        return
    _say(render(loaded.problems))
    _say(f"{one_line(path)}: {len(loaded.problems)} problem{'s' if len(loaded.problems) > 1 else ''}")
    if loaded.recipe is None and not quick:
        _say("not checked yet: what must be built (layer names, constructors); mend these first")


def _say(text: str) -> None:
    """Print what is no result: beside the results, as wide as the terminal."""
    print(folded(text, sys.stderr), file=sys.stderr)


def refuse_several(what: str) -> None:
    """Refuse to do in each of several processes what is meant for one.

    Raises:
        RecipeError: a launcher has started several.
    """
    if (count := _started_together()) > 1:
        raise RecipeError(
            f"{what} runs in one process, and a launcher has started {count}",
            f"start it without one; the commands {' and '.join(_IN_SEVERAL)} run in several",
        )


def _started_together() -> int:
    """Return how many processes a launcher has started, by its environment; 1 where nobody has."""
    text = os.environ.get("WORLD_SIZE", "")
    return int(text) if text.isdecimal() else 1


def _processes() -> AbstractContextManager[Processes]:
    """Return the processes that a launcher has started, this one among them; where nobody has, it alone."""
    if _started_together() > 1:
        from trainer.run.joining import joined

        return joined()
    from trainer.engine.processes import ONE

    return nullcontext(ONE)


def _order(
    path: str, overrides: Sequence[str], typed: Sequence[str], *, fast: bool = False, quiet: bool = False
) -> Order:
    from trainer.run.conduct import Order

    loaded = _read(path, overrides, fast=fast) if quiet else _checked(path, overrides, fast=fast)
    return Order.of(loaded, typed)
