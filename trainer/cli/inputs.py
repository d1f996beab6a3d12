"""What a command works on: the run, recipe or plug-ins that a word means, read and checked, and the wait for torch.

Imports nothing heavy: what reads with torch is loaded when it is called.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Literal

from registry.errors import RecipeError
from registry.printing import one_line
from registry.program import typed_as
from trainer.cli.layout import folded
from trainer.recipe.afterwards import RESOLVED
from trainer.run.naming import LATEST, is_pattern, located, names_a_run, newest_of_each, runs_below

if TYPE_CHECKING:
    from registry.catalogue.catalog import Catalogue
    from trainer.recipe.load import Loaded
    from trainer.run.conduct import Order
    from trainer.search.reading import LoadedSweep

Tried = Literal["text", "images", "all"]  # of a recipe: its words, what happens to images, all that a run builds


@contextmanager
def importing(*, told: bool = False) -> Iterator[None]:
    """Say that torch is imported, which takes seconds: on a terminal until it is, else in a line where `told`."""
    if "torch" in sys.modules:
        yield
        return
    words = "importing torch ..."
    is_first = os.environ.get("RANK", "0") == "0"  # of the processes of one run one speaks
    told, on_terminal = told and is_first, sys.stderr.isatty() and is_first
    with contextlib.suppress(OSError):  # a full disk or a closed pipe: what comes does without them
        if on_terminal:
            print(words, end="", file=sys.stderr, flush=True)
        elif told:
            print(words, flush=True)
    try:
        with _ctrl_c_ends_at_once():
            yield
    finally:
        if on_terminal:
            print(f"\r{'':{len(words)}}\r", end="", file=sys.stderr, flush=True)


@contextmanager
def _ctrl_c_ends_at_once() -> Iterator[None]:
    """Have Ctrl-C end the process where it is, unless somebody else handles it.

    Modules that are half imported do not bear an exception out of nowhere: some swallow it and go on broken.
    """

    def end(_: int, __: FrameType | None) -> None:
        os.write(2, b"\ninterrupted\n")
        os._exit(130)

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def run_in(word: str) -> Path:
    """Return the folder of the run that a word means, and say which one `latest` is."""
    found = located(Path(word))
    if found != Path(word) and os.environ.get("RANK", "0") == "0":
        say(f"{one_line(word)} is {one_line(str(found))}")
    return found


def runs_in(word: str) -> list[Path]:
    """Return the folders that a word of several runs means, and say which ones `latest` stands for."""
    path = Path(word)
    if not is_pattern(path):
        return [run_in(word)]
    if path.name != LATEST:
        return [path]  # what a pattern names is found where its runs are read
    found = newest_of_each(path)
    say(f"{one_line(word)} is {', '.join(one_line(str(run)) for run in found)}")
    return found


def recipe_in(word: str) -> str:
    """Return the file of a recipe; a run stands for the one that it was made by, with every default."""
    if names_a_run(Path(word)):
        return str(run_in(word) / RESOLVED)
    if Path(word).is_dir() and any(runs_below(Path(word))):
        raise RecipeError(f"{one_line(word)} is neither a recipe nor a run", f"it holds runs: {one_line(word)}/latest")
    return word


def known_with(plugins: Sequence[str]) -> Catalogue | None:
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
        named += read(recipe_in(word), (), tried="text").usable().plugins if is_recipe else [word]
    return catalogue(named)


# ---------------------------------------------------------------------------------------------------- reading, checking
def read(path: str, overrides: Sequence[str], *, fast: bool = False, tried: Tried = "all") -> Loaded:
    """Read and check a recipe; all but its text needs torch."""
    if tried == "text":
        from trainer.recipe.load import load_recipe

        return load_recipe(path, overrides, fast=fast)
    with importing():
        from trainer.experiment.checking import examined

    return examined(path, overrides, fast=fast, only_images=tried == "images")


def read_any(path: str, overrides: Sequence[str], *, tried: Tried) -> Loaded | LoadedSweep:
    """Read and check a recipe, or a sweep with every point of its space."""
    from trainer.recipe.reading.files import names_key

    if not overrides and names_key(path, "sweep"):
        from trainer.search.reading import load_sweep

        return load_sweep(path, built=tried != "text")
    return read(path, overrides, tried=tried)


def checked(path: str, overrides: Sequence[str], *, fast: bool = False, tried: Tried = "all") -> Loaded:
    """Read and check a recipe that is going to be used; print warnings and notes.

    Raises:
        RecipeError: with all problems; nothing was run.
    """
    from trainer.recipe.problems import render
    from trainer.recipe.reading.files import names_key

    loaded = read(path, overrides, fast=fast, tried=tried)
    if loaded.problems and names_key(path, "sweep"):
        raise RecipeError(f"{path} is a sweep, not a recipe", f"{typed_as()} sweep {path}")
    loaded.usable()
    if loaded.warnings:
        say(render(loaded.warnings))
    for note in loaded.notes:
        say(f"note: {note}")
    return loaded


def given(word: str, overrides: Sequence[str], *, tried: Tried = "all") -> Loaded:
    """Read and check the recipe that a word means, as `checked`; that of a `--fast` run is cut down as it was."""
    from trainer.recipe.fast import was_fast

    path = recipe_in(word)
    return checked(path, overrides, fast=path != word and was_fast(Path(path)), tried=tried)


def print_checked(path: str, loaded: Loaded | LoadedSweep, *, quick: bool) -> None:
    """Print what checking a recipe or a sweep has found."""
    from trainer.recipe.problems import render

    if loaded.warnings:
        say(render(loaded.warnings))
    if not loaded.problems:
        print(f"{one_line(path)}: no problems{' (text only)' if quick else ''}")
        for note in loaded.notes:
            print(f"note: {note}", file=sys.stderr)
        return
    say(render(loaded.problems))
    say(f"{one_line(path)}: {len(loaded.problems)} problem{'s' if len(loaded.problems) > 1 else ''}")
    if loaded.recipe is None and not quick:
        say("not checked yet: what must be built (layer names, constructors); mend these first")


def say(text: str) -> None:
    """Print what is no result: beside the results, as wide as the terminal."""
    print(folded(text, sys.stderr), file=sys.stderr)


def order_of(
    path: str, overrides: Sequence[str], typed: Sequence[str], *, fast: bool = False, quiet: bool = False
) -> Order:
    """Return the order to run a recipe, checked; its warnings and notes are printed unless `quiet`."""
    from trainer.run.conduct import Order

    loaded = read(path, overrides, fast=fast) if quiet else checked(path, overrides, fast=fast)
    return Order.of(loaded, typed)
