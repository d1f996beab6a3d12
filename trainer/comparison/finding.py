"""Which runs are meant: run folders, folders of runs and patterns, and what else lies among them.

`runs/` also holds what `preview`, `lr-find` and `compare` write; whoever names all of a folder gets its runs, and is
told what was left out.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from registry.errors import CheckpointError
from trainer.recipe.afterwards import RESOLVED

PAGES = "compare"  # the folder of comparisons, below runs/
_LEVELS = 2  # runs/ holds names, a name holds runs
_KINDS = (  # how a folder that is no run ends, and what it is
    (re.compile(r"-preview(-\d+)?$"), "an augmentation sheet"),
    (re.compile(r"-lr(-\d+)?$"), "a search of the learning rate"),
)


@dataclass(frozen=True)
class Found:
    """The runs that words name.

    Attributes:
        runs: each once, in the order they were named, those of a folder by their names.
        skipped: a sentence for each thing that is no run.
    """

    runs: tuple[Path, ...]
    skipped: tuple[str, ...]


def find_runs(words: Sequence[str]) -> Found:
    """Return the runs that are named.

    Args:
        words: run folders, folders that hold runs (runs/quickstart, runs), or patterns (quoted from the shell).

    Raises:
        CheckpointError: nothing is there.
    """
    runs: dict[Path, Path] = {}  # where it really lies -> as it was named
    skipped: dict[str, None] = {}
    for path in (path for word in words for path in _matching(word)):
        for each in _below(path, skipped):
            first = runs.setdefault(each.resolve(), each)
            if first is not each:
                skipped[f"{each} is {first} again, which counts once"] = None
    return Found(tuple(runs.values()), tuple(skipped))


def _matching(word: str) -> list[Path]:
    """Return the paths that a word stands for."""
    if Path(word).exists():
        return [Path(word)]
    matches = sorted(glob.glob(word)) if glob.has_magic(word) else []  # noqa: PTH207  (a pattern may be absolute)
    if not matches:
        what = "matches nothing" if glob.has_magic(word) else "does not exist"
        raise CheckpointError(f"{word}: {what}", "a run is a folder like runs/quickstart/20260131-120000")
    return [Path(match) for match in matches]


def _below(path: Path, skipped: dict[str, None], levels: int = _LEVELS) -> list[Path]:
    """Return the run that lies at `path`, or those in it; what holds none is skipped with a note.

    Raises:
        CheckpointError: a folder cannot be read.
    """
    if (path / RESOLVED).exists():
        return [path]
    inside = _folders(path) if levels else []
    kind = _kind(path, inside)
    if kind or not inside:
        skipped[f"{path} is {kind or 'no run and holds none'}: skipped"] = None
        return []
    return [run for each in inside for run in _below(each, skipped, levels - 1)]


def _folders(path: Path) -> list[Path]:
    """Return the folders in a folder, those apart that are being made."""
    try:
        return sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))
    except NotADirectoryError:
        return []
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be looked through ({error.strerror or error})") from error


def _kind(path: Path, inside: Sequence[Path]) -> str:
    """Return what holds no training by its nature; "" for a folder that may hold runs."""
    if path.is_file():
        return "a file"
    if any((each / RESOLVED).exists() for each in inside):  # a recipe may be called `compare` or `my-lr`
        return ""
    name = path.resolve().name
    if PAGES in (name, path.resolve().parent.name):
        return "the folder of comparisons" if name == PAGES else "a comparison"
    return next((kind for ending, kind in _KINDS if ending.search(name)), "")
