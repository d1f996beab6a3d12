"""The command line: one function per command, its options standing on it.

Imports nothing heavy: what a command needs is loaded when it is called, so that `list`, `describe` and
`validate --quick` answer without torch. A new command is one function here; what it does that others may want lies in
the module it calls.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.shell_completion import shell_complete

from registry.errors import FULL, ExpectationError, RecipeError, StorageError, UserError
from registry.printing import harmless, never_fails, one_line
from registry.program import PROGRAM, VERSION, typed_as
from trainer.cli.inputs import (
    checked,
    given,
    importing,
    known_with,
    order_of,
    print_checked,
    read_any,
    recipe_in,
    run_in,
    runs_in,
    say,
)
from trainer.cli.options import FAST, TABLE, TEXT_OR_JSON, launches, plugins_option, sureness
from trainer.cli.syntax import Command, Program, Words, in_our_words, started_together, takes
from trainer.cli.templates import EVERY_TEMPLATE
from trainer.export.formats import is_exported
from trainer.recipe.afterwards import FREE_AT_RESUME, READ_BY_EVALUATE
from trainer.run.naming import RUNS, located, names_a_run

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from trainer.engine.processes import Processes

_COMPLETE = "_RECIPE_TRAINER_COMPLETE"  # set by the shell's completion script, as click names it


# ------------------------------------------------------------------------------------------------------- the program
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its version at import
    if started_together() > 1:  # read at torch's import: else every lost connection prints a stack of its own
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed by whoever started the program
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115  to its end
        never_fails(getattr(sys, name))
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        return _answer([word for word in words if word != "--debug"], typed=(*typed_as().split(), *words))
    except UserError as error:
        if debug:
            traceback.print_exc()
        say(harmless(f"error: {error}"))
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
        if isinstance(error, OSError) and error.filename is None and error.errno == errno.ENOSPC:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what it still holds is written at the exit
            say("error: what is to be shown cannot be written: no space is left on its device")
            return StorageError.exit_code
        if isinstance(error, OSError) and error.errno in FULL:
            where = error.filename or "a file"
            written = StorageError(f"{where}: cannot be written ({error.strerror})", "make room, or work elsewhere")
            say(harmless(f"error: {written}"))
            return StorageError.exit_code
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
        print(program.get_help(click.Context(program, info_name=typed_as(), **program.context_settings)))
        return RecipeError.exit_code
    try:
        with program.make_context(typed_as(), words, obj=typed) as context:
            return int(program.invoke(context) or 0)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.UsageError as error:
        raise in_our_words(error) from error


def _version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        print(f"{PROGRAM} {VERSION}")
        context.exit()


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=False)
@click.option(
    "-V", "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)
def program() -> None:
    """Train an image classifier as a recipe says.

    RECIPE alone means `train RECIPE`. First steps: `new quickstart` writes a recipe that needs no download; train it,
    and watch it with tensorboard --logdir runs. `--debug` after any command shows where an error comes from.
    """


def _command(**about: Any) -> Callable[[Callable[..., int]], click.Command]:
    return program.command(cls=Command, **about)


# -------------------------------------------------------------------------------------------------------------- running
@_command(
    examples=("train my.yaml train.epochs=10 optimizer.lr=0.01", "recipes/cifar10_resnet18.yaml --processes auto"),
    writes="runs/<name>/<time>/: report.html, metrics.jsonl, checkpoints/, figures/, gradcam/, tensorboard/.",
    elsewhere=("fit", "run", "start"),
)
@takes("RECIPE [key=value ...]")
@FAST
@click.pass_obj
@launches
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
        from trainer.run.beginning import start

    with _processes() as processes:
        order = order_of(path, words.overrides, typed, fast=fast, quiet=not processes.is_first)
        return start(order, RUNS, Console(), processes).exit_code


@_command(
    examples=("resume latest", "resume runs/quickstart/20261126-101500 train.epochs=20"),
    writes="Goes on in the run's own folder.",
    anew=FREE_AT_RESUME,
    elsewhere=("continue", "restart"),
)
@takes("RUN [key=value ...]")
@click.pass_obj
@launches
def resume(typed: Sequence[str], words: Words) -> int:
    """Continue a run exactly where it stopped.

    RUN is its folder; `latest` is the newest one in runs/, `runs/quickstart/latest` the newest of that name.
    """
    run = run_in(words.plain[0])
    with importing(told=True):
        from trainer.cli.console import Console
        from trainer.run.resuming import continued

    with _processes() as processes:
        return continued(run, words.overrides, typed, Console(), processes)


@_command(
    examples=("sweep sweeps/quickstart_lr.yaml", "sweep my_sweep.yaml --workers 2"),
    writes="runs/<sweep>/: a run folder per trial, report.html, best.yaml. Given again, it goes on where it stopped.",
    elsewhere=("tune", "search", "optimize", "hpo"),
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
        from trainer.run.beginning import start
        from trainer.run.verdicts import EXPECT, exit_code, rows

    judged, runs, orders = {}, {}, {}
    for word in words.plain:  # all are looked at before one of them takes its time
        if names_a_run(Path(word)):
            runs[word] = run_in(word)
            continue
        orders[word] = order_of(recipe_in(word), words.overrides, typed)
        if not orders[word].recipe.expect:
            raise RecipeError(f"{word}: has no `expect:` section to verify", EXPECT)
    sound = True
    for word, run in runs.items():
        verdicts, not_judged, holds = verify_run(run, words.overrides, replay, draw, Console())
        judged[word], sound = (verdicts, not_judged), sound and holds
    for word, order in orders.items():
        judged[word] = start(order, RUNS, Console()).verdicts, order.not_judged
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
    elsewhere=("check", "lint"),
)
@takes("RECIPE|RUN... [key=value ...]", most=None)
@click.option("--quick", is_flag=True, help="The text alone, without importing torch.")
@click.option("--format", "form", type=TEXT_OR_JSON, default="text", help="How problems are printed.")
def validate(words: Words, quick: bool, form: str) -> int:
    """Check recipes without running them."""
    from trainer.recipe.problems import to_json

    failed, collected = False, []
    for path in map(recipe_in, words.plain):
        loaded = read_any(path, words.overrides, tried="text" if quick else "all")
        failed |= bool(loaded.problems)
        collected += [*loaded.problems, *loaded.warnings]
        if form == "text":
            print_checked(path, loaded, quick=quick)
    if form == "json":
        print(json.dumps(to_json(collected), indent=2))
    return RecipeError.exit_code if failed else 0


@_command(
    examples=("show latest", "show my.yaml optimizer.lr=0.1 --origin"),
    writes="The recipe with every default, on standard output.",
    elsewhere=("config", "print", "resolve"),
)
@takes("RECIPE|RUN [key=value ...]")
@click.option("--origin", is_flag=True, help="Say of every value where it was written.")
def show(words: Words, origin: bool) -> int:
    """Print a recipe with all that it leaves out.

    Of a RUN it prints the recipe that the run was made by.
    """
    from trainer.recipe.resolve import show_text

    print(show_text(checked(recipe_in(words.plain[0]), words.overrides, tried="text"), origin=origin))
    return 0


@_command(
    examples=("diff a.yaml b.yaml", "diff latest b.yaml"),
    writes="What differs, on standard output; a difference is no error.",
)
@takes("A B", least=2, most=2)
def diff(words: Words) -> int:
    """What differs between two recipes or runs."""
    from trainer.recipe.resolve import diff_text

    first, second = (checked(recipe_in(word), (), tried="text").recipe for word in words.plain)
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
@plugins_option
def list_components(words: Words, plugins: Sequence[str]) -> int:
    """Components a recipe may name.

    SLOT is a kind of component, such as model or transform; PATTERN a part of a name, or one with * and ?.
    """
    from trainer.cli.describing import list_text

    print(list_text(*words.plain, components=known_with(plugins)))
    return 0


@_command(
    examples=("describe SGD", "describe MyNet --plugins my_nets.py"),
    writes="Its arguments, defaults and a snippet to copy, on standard output.",
    elsewhere=("info", "doc", "docs"),
)
@takes("NAME")
@plugins_option
def describe(words: Words, plugins: Sequence[str]) -> int:
    """A component, a section or a rule in full.

    NAME is a component (SGD), a kind of them (optimizer), a section or key of recipes (train, data.val), or the number
    of a rule (R021).
    """
    from trainer.cli.describing import describe_text

    print(describe_text(words.plain[0], components=known_with(plugins)))
    return 0


@_command(
    examples=("schema > recipe.schema.json", "schema --plugins my_nets.py > recipe.schema.json"),
    writes="The JSON Schema of recipes, or with `sweep` of sweeps, on standard output.",
)
@takes("[recipe|sweep]", least=0)
@plugins_option
def schema(words: Words, plugins: Sequence[str]) -> int:
    """JSON Schema of the recipe language, for editors."""
    from trainer.cli.describing import schema_of
    from trainer.recipe.schema_text import schema_text

    print(schema_text(schema_of("".join(words.plain) or "recipe", known_with(plugins))))
    return 0


@_command(
    examples=("new quickstart", "new own_images flowers.yaml"),
    writes="A recipe, and recipe.schema.json beside it for editors; a file is never overwritten.",
    help=f"Write a recipe to start from.\n\nTemplates: {', '.join(EVERY_TEMPLATE)}. `new` alone says what each is.",
    elsewhere=("init", "create"),
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
    elsewhere=("augment", "visualize"),
)
@takes("RECIPE|RUN [key=value ...]")
def preview(words: Words) -> int:
    """A sheet of augmented images, no training."""
    with importing():
        from trainer.cli import looking

    return looking.preview(given(words.plain[0], words.overrides, tried="images"))


@_command(
    examples=("audit latest", "audit my.yaml --labels"),
    writes="runs/<name>/<time>-audit/: report.html and audit.csv; with --labels fixes.csv, and a run per fold.",
)
@takes("RECIPE|RUN [key=value ...]")
@click.option("--labels", is_flag=True, help="Train a network per fold and name labels that are probably wrong.")
@click.option("--folds", type=click.IntRange(min=2), metavar="N", default=5, show_default=True, help="Of --labels.")
@click.pass_obj
def audit(typed: Sequence[str], words: Words, labels: bool, folds: int) -> int:
    """Look through the pictures: duplicates, leaks, wrong labels.

    Of a RUN it gives the accuracy with and without the pictures that were measured and learnt from.
    """
    with importing():
        from trainer.cli import auditing

    run = run_in(words.plain[0]) if names_a_run(Path(words.plain[0])) else None
    loaded = given(words.plain[0], words.overrides, tried="all" if labels else "images")
    return auditing.audit(loaded, run, typed, folds=folds if labels else None)


@_command(
    name="lr-find",
    examples=("lr-find recipes/quickstart.yaml", "lr-find my.yaml lr_finder.end=10 lr_finder.steps=200"),
    writes="runs/<name>/<time>-lr/: the curve and its picks.",
    elsewhere=("lr_finder", "find-lr", "lrfind"),
)
@takes("RECIPE|RUN [key=value ...]")
def lr_find(words: Words) -> int:
    """Sweep the learning rate, nothing else."""
    with importing():
        from trainer.cli import looking

    return looking.lr_find(given(words.plain[0], words.overrides))


@_command(
    examples=("evaluate latest", "evaluate latest data.dataset.root=/new/pictures"),
    writes="Numbers, on standard output.",
    anew=READ_BY_EVALUATE,
    elsewhere=("eval", "test", "score"),
)
@takes("RUN|FILE [key=value ...]")
def evaluate(words: Words) -> int:
    """Measure a run's best weights again, or an exported file.

    The numbers are held against those that the run recorded. RUN is its folder; `latest` is the newest one in runs/,
    `runs/quickstart/latest` the newest of that name.
    """
    if is_exported(path := Path(words.plain[0])):
        with importing():
            from trainer.cli import exporting

        return exporting.evaluate(path, words.overrides)
    with importing():
        from trainer.cli import looking

    return looking.evaluate(run_in(words.plain[0]), words.overrides)


@_command(
    examples=("export latest", "export latest --to torch --out shapes.pt2 --calibrated"),
    writes="One file and a card beside it, in the run's folder or where --out says; exit code 9 if not proved.",
    elsewhere=("convert", "save"),
)
@takes("RUN [key=value ...]")
@click.option("--to", type=click.Choice(["onnx", "torch"]), default="onnx", show_default=True, help="The format.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", default=None, help="Where the file goes.")
@click.option("--int8", is_flag=True, help="Compute in whole numbers of 8 bits, of ONNX alone.")
@sureness
def export(
    words: Words,
    to: Literal["onnx", "torch"],
    out: Path | None,
    int8: bool,
    calibrated: bool | None,
    abstain_below: float | None,
) -> int:
    """One file that takes pictures and gives probabilities.

    It holds the recipe's preprocessing, and is proved on the whole reported split before it is called exported.
    """
    with importing():
        from trainer.cli import exporting
        from trainer.export.exporting import Request

    run = run_in(words.plain[0])
    return exporting.export(Request(run, words.overrides, to, out, calibrated, abstain_below, int8))


@_command(
    examples=("predict latest cat.jpg dog.png", "predict latest photos --out answers.csv --rank diverse"),
    writes="A line per picture, on standard output; with --out a table of answers instead.",
    elsewhere=("infer", "classify", "inference"),
)
@takes("RUN|FILE IMAGE|FOLDER|TABLE...", least=2, most=None)
@click.option(
    "--top", type=click.IntRange(min=1), metavar="N", default=3, show_default=True, help="Classes named per picture."
)
@click.option("--out", type=click.Path(), metavar="FILE", help="Write a table of answers: .csv or .tsv.")
@click.option(
    "--rank",
    type=click.Choice(["uncertain", "diverse"]),
    help="Begin with what would teach most: least sure, or least sure and unlike the others.",
)
@click.option("--column", default="", metavar="NAME", help="Of a TABLE, which names the pictures; or image, path, ...")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Threads that read pictures.")
@sureness
def predict(
    words: Words,
    top: int,
    out: str | None,
    rank: str | None,
    column: str,
    workers: int | None,
    calibrated: bool | None,
    abstain_below: float | None,
) -> int:
    """Name what is on pictures.

    Of a FOLDER all pictures in it and in its folders are meant, of a TABLE those that its rows name. What could not be
    read is listed at the end.
    """
    with importing():
        from trainer.cli import predicting

    form = predicting.Form(top, None if out is None else Path(out), column, rank, workers or predicting.WORKERS)
    run, *asked = words.plain
    return predicting.predict(_run_or_file(run), list(map(Path, asked)), form, calibrated, abstain_below)


@_command(
    examples=("serve latest", "serve shapes.onnx --port 9000"),
    writes="Nothing. It answers until Ctrl+C or SIGTERM, and this machine alone unless --address says otherwise.",
    elsewhere=("deploy", "server"),
)
@takes("RUN|FILE")
@click.option(
    "--address", "--host", metavar="HOST", default="127.0.0.1", show_default=True, help="Another needs a token."
)
@click.option("--port", type=click.IntRange(0, 65_535), default=8000, show_default=True, help="0: any that is free.")
@click.option("--max-mb", type=click.IntRange(min=1), metavar="N", default=20, show_default=True, help="Of a request.")
@click.option(
    "--max-megapixels", type=click.IntRange(1, 178), metavar="N", default=50, show_default=True, help="Of a picture."
)
@click.option(
    "--queue", type=click.IntRange(min=1), metavar="N", default=256, show_default=True, help="Requests at a time."
)
@sureness
def serve(
    words: Words,
    address: str,
    port: int,
    max_mb: int,
    max_megapixels: int,
    queue: int,
    calibrated: bool | None,
    abstain_below: float | None,
) -> int:
    """Answer pictures over HTTP, and on a page.

    On the page a picture is dropped, pasted or taken by camera; programs POST to /predict.
    """
    from trainer.serving.extra import require_server

    require_server()
    with importing():
        from trainer.cli import serving
        from trainer.serving.limits import MB, Limits
        from trainer.serving.server import Address

    limits = Limits(bytes=max_mb * MB, pixels=max_megapixels * MB, waiting=queue, held=max(256, max_mb) * MB)
    path = _run_or_file(words.plain[0])
    return serving.serve_network(path, Address(address, port), limits, calibrated, abstain_below)


@_command(
    examples=("explain latest", "explain runs/quickstart/20261126-101500 cat.jpg"),
    writes="A folder of GradCAM pictures beside the run, named at the end.",
    elsewhere=("gradcam", "cam"),
)
@takes("RUN [IMAGE...]", most=None)
def explain(words: Words) -> int:
    """GradCAM of pictures, or of the run's own mistakes."""
    with importing():
        from trainer.cli import looking

    return looking.explain(run_in(words.plain[0]), [Path(word) for word in words.plain[1:]])


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

    return looking.report(run_in(words.plain[0]), words.overrides, pdf=pdf or short, short=short)


@_command(
    examples=("card latest", "card runs/quickstart/latest --out MODEL.md"),
    writes="README.md in the run's folder, or FILE.",
)
@takes("RUN")
@click.option("--out", type=click.Path(), metavar="FILE", default=None, help="Write it there, where no file may be.")
def card(words: Words, out: str | None) -> int:
    """Write a run's model card.

    It is Markdown with the metadata that the Hugging Face Hub reads: what the network tells apart, how well, how it was
    trained and how it is used.
    """
    with importing():
        from trainer.run.card import write_card
        from trainer.run.folder import RunFolder

    path = write_card(RunFolder.open(run_in(words.plain[0])), None if out is None else Path(out))
    print(f"{path} written; choose a licence at its head before it is published")
    return 0


@_command(
    examples=("compare runs/quickstart", "compare runs/a/20261126-101500 runs/b --sort test/accuracy"),
    writes="runs/compare/<time>/report.html, and a table on standard output; with another --format that alone.",
    elsewhere=("leaderboard",),
)
@takes("RUN...", most=None)
@click.option("--format", "form", type=TABLE, default="text", help="How the table is printed.")
@click.option("--sort", default="", metavar="KEY", help="A column: val/loss, time, lr, name; -time turns it round.")
def compare(words: Words, form: str, sort: str) -> int:
    """Runs side by side, the best first.

    RUN may be a folder of runs or a pattern in quotes: 'runs/*/latest' is the newest of each name.
    """
    with importing():
        from trainer.cli import comparing

    return comparing.compare([str(run) for word in words.plain for run in runs_in(word)], form, sort)


@_command(
    examples=("runs", "runs 'quick*' status=completed --sort best"),
    writes="A table, JSON or CSV, on standard output. The page of all runs is runs/index.html.",
    elsewhere=("ls", "history", "status"),
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
    elsewhere=("rm", "prune", "delete"),
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
    name="cache",
    examples=("cache", "cache '*pets*' --clear"),
    writes="Nothing without --clear; with it, what is kept of images is removed and made again when it is needed.",
)
@takes("[PATTERN]", least=0)
@click.option("--clear", is_flag=True, help="Remove what is listed.")
def cached_images(words: Words, clear: bool) -> int:
    """What is kept of decoded images, and how much."""
    from trainer.cli import caching

    return caching.show("".join(words.plain), clear=clear)


@_command(
    examples=("completion bash >> ~/.bashrc", "completion fish > recipe-trainer.fish"),
    writes=f"A script for the shell, on standard output; it completes `{PROGRAM}`.",
)
@takes("bash|zsh|fish")
def completion(words: Words) -> int:
    """Script that completes commands, options and files in a shell."""
    shell = words.plain[0]
    if shell not in (shells := ("bash", "zsh", "fish")):
        raise RecipeError(f"there is no completion for {shell}", f"the shells are {', '.join(shells)}")
    return shell_complete(program, {}, PROGRAM, _COMPLETE, f"{shell}_source")


def _run_or_file(word: str) -> Path:
    """Return the folder of the run that a word means, or the exported file that it names."""
    return path if is_exported(path := Path(word)) else run_in(word)


def _processes() -> AbstractContextManager[Processes]:
    """Return the processes that a launcher has started, this one among them; where nobody has, it alone."""
    if started_together() > 1:
        from trainer.run.joining import joined

        return joined()
    from trainer.engine.processes import ONE

    return nullcontext(ONE)
