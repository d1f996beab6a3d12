"""What each command does, once the command line is parsed. Heavy modules are imported where they are needed."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from registry.errors import ExpectationError, RecipeError
from trainer.cli.main import Options
from trainer.recipe.load import Loaded, load_recipe
from trainer.recipe.problems import render, to_json

if TYPE_CHECKING:
    from trainer.run.conduct import Order

RUNS = Path("runs")


# ---------------------------------------------------------------------------------------------------- reading, checking
def checked(options: Options, *, fast: bool = False, path: str | None = None, built: bool = True) -> Loaded:
    """Read and check a recipe, tiers 1 and 2; print warnings.

    Raises:
        RecipeError: with all problems; nothing was run.
    """
    loaded = load_recipe(path or options.words[0], options.overrides, fast=fast)
    problems = list(loaded.problems)
    warnings = list(loaded.warnings)
    if loaded.recipe is not None and built:
        from trainer.experiment.tier2 import check_built

        assert loaded.catalogue is not None
        found = check_built(loaded.recipe, loaded.catalogue)
        problems += [each for each in found if each.severity == "error"]
        warnings += [each for each in found if each.severity == "warning"]
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}, nothing was run"
        raise RecipeError(f"{path or options.words[0]} cannot be run\n{render(problems)}\n{count}")
    if warnings:
        print(render(warnings), file=sys.stderr)
    for note in loaded.notes:
        print(f"note: {note}", file=sys.stderr)
    return dataclasses.replace(loaded, warnings=tuple(warnings))


def validate(options: Options) -> int:
    """Check recipes and print every problem."""
    quick, as_json = bool(options.flags.get("quick")), options.flags.get("format") == "json"
    if options.flags.get("format", "text") not in ("json", "text"):
        raise RecipeError(f"--format is json or text, got {options.flags['format']!r}")
    failed, collected = False, []
    for path in options.words:
        loaded = load_recipe(path, options.overrides)
        problems, warnings = list(loaded.problems), list(loaded.warnings)
        skipped = loaded.recipe is None and not quick
        if loaded.recipe is not None and not quick:
            from trainer.experiment.tier2 import check_built

            assert loaded.catalogue is not None
            found = check_built(loaded.recipe, loaded.catalogue)
            problems += [each for each in found if each.severity == "error"]
            warnings += [each for each in found if each.severity == "warning"]
        failed |= bool(problems)
        collected += [*problems, *warnings]
        if not as_json:
            _print_checked(path, problems, warnings, skipped=skipped, quick=quick)
    if as_json:
        print(json.dumps(to_json(collected), indent=2))
    return RecipeError.exit_code if failed else 0


def _print_checked(path: str, problems: list, warnings: list, *, skipped: bool, quick: bool) -> None:  # type: ignore[type-arg]
    if warnings:
        print(render(warnings), file=sys.stderr)
    if problems:
        print(render(problems), file=sys.stderr)
        print(f"{path}: {len(problems)} problem{'s' if len(problems) > 1 else ''}", file=sys.stderr)
        if skipped:
            print("not checked yet: what must be built (layer names, constructors); mend these first", file=sys.stderr)
    else:
        print(f"{path}: no problems{' (text only)' if quick else ''}")


def show(options: Options) -> int:
    """Print the resolved recipe."""
    from trainer.recipe.resolve import show_text

    loaded = checked(options, built=False)
    print(show_text(loaded, origin=bool(options.flags.get("origin"))))
    return 0


def diff(options: Options) -> int:
    """Print what differs between two recipes or runs; exit 1 is not used, a difference is no error."""
    from trainer.recipe.resolve import diff_text

    def recipe_file(word: str) -> str:
        path = Path(word)
        return str(path / "resolved.yaml") if path.is_dir() else word

    first, second = (checked(options, path=recipe_file(word), built=False).recipe for word in options.words)
    assert first is not None
    assert second is not None
    print(diff_text(first, second) or "no difference")
    return 0


def list_components(options: Options) -> int:
    """Print components."""
    from trainer.cli.describing import list_text

    print(list_text(*options.words))
    return 0


def describe(options: Options) -> int:
    """Print one component, section or rule in full."""
    from trainer.cli.describing import describe_text

    print(describe_text(options.words[0]))
    return 0


def schema(_options: Options) -> int:
    """Print the JSON Schema."""
    from trainer.cli.describing import schema as make

    print(json.dumps(make(), indent=1, ensure_ascii=False))
    return 0


# -------------------------------------------------------------------------------------------------------------- running
def train(options: Options) -> int:
    """Train."""
    from trainer.cli.console import Console
    from trainer.run import conduct as run

    fast = bool(options.flags.get("fast"))
    return run.start(_order(options, fast=fast), RUNS, Console()).exit_code


def _order(options: Options, *, fast: bool = False, path: str | None = None) -> Order:
    from trainer.recipe.checks.expect import not_judged_because
    from trainer.recipe.fast import fast_recipe
    from trainer.run.conduct import Order

    loaded = checked(options, fast=fast, path=path)
    assert loaded.recipe is not None
    recipe = fast_recipe(loaded.recipe) if fast else loaded.recipe
    return Order(
        recipe,
        tuple(warning.text for warning in loaded.warnings),
        fast,
        not_judged_because(recipe),
        options.command,
    )


def resume(options: Options) -> int:
    """Continue a run."""
    from trainer.run.resuming import continued

    return continued(Path(options.words[0]), options)


def verify(options: Options) -> int:
    """Run recipes as written and print a scoreboard."""
    from trainer.cli.console import Console
    from trainer.run import conduct as run
    from trainer.run.verdicts import rows

    lines, missed = [], False
    for path in options.words:
        order = _order(options, path=path)
        if not order.recipe.expect:
            raise RecipeError(f"{path}: has no `expect:` section to verify")
        result = run.start(order, RUNS, Console())
        missed |= result.exit_code != 0
        lines += [f"{path}: {key}: {text}" for key, text in rows(result.verdicts, order.not_judged).items()]
    print("\n".join(lines))
    return ExpectationError.exit_code if missed else 0


def lr_find(options: Options) -> int:
    """Sweep the learning rate and print the picks."""
    from trainer.cli.looking import lr_find as act

    return act(checked(options), options)


def preview(options: Options) -> int:
    """Write a sheet of augmented images."""
    from trainer.cli.looking import preview as act

    return act(checked(options), options)


def evaluate(options: Options) -> int:
    """Measure a run's best weights again."""
    from trainer.cli.looking import evaluate as act

    return act(Path(options.words[0]), options)


def predict(options: Options) -> int:
    """Name what is on pictures."""
    from trainer.cli.looking import predict as act

    return act(Path(options.words[0]), [Path(word) for word in options.words[1:]], options)


def explain(options: Options) -> int:
    """GradCAM of pictures, or of the run's mistakes."""
    from trainer.cli.looking import explain as act

    return act(Path(options.words[0]), [Path(word) for word in options.words[1:]])


def compare(options: Options) -> int:
    """Hold runs side by side."""
    from trainer.cli.comparing import compare as act

    return act([Path(word) for word in options.words])


def new(options: Options) -> int:
    """Write a recipe to start from."""
    from trainer.cli.templates import write_template

    return write_template(*options.words)


COMMAND_FUNCTIONS: Mapping[str, Callable[[Options], int]] = {
    "train": train,
    "validate": validate,
    "show": show,
    "diff": diff,
    "list": list_components,
    "describe": describe,
    "schema": schema,
    "new": new,
    "preview": preview,
    "lr-find": lr_find,
    "resume": resume,
    "evaluate": evaluate,
    "predict": predict,
    "explain": explain,
    "verify": verify,
    "compare": compare,
}
