"""Which folder a run is meant by: its path, or `latest` for the newest run that lies below a folder.

    latest                        the newest of all in runs/
    runs/quickstart/latest        the newest of that name
    runs/*/latest                 the newest of each name, where several runs are taken

Knows where runs lie and what they are called, nothing of what is in them; imports nothing heavy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from glob import glob, has_magic
from pathlib import Path

from registry.errors import CheckpointError
from registry.program import typed_as
from trainer.recipe.afterwards import RESOLVED

RUNS = Path("runs")  # in the working directory
LATEST = "latest"
_MAKE_ONE = "runs/ lies in the folder where a run was started; make one: {} new quickstart"
_STAMP = "%Y%m%d-%H%M%S"
_MAKING = 60.0  # seconds that the making of a run's folder may take
_STAMPED = re.compile(r"\d{8}-\d{6}")
_LABEL_FOLD = re.compile(r"[0-9a-f]+-fold-\d+")  # of `audit --labels`


def is_run(path: Path) -> bool:
    """Whether a run lies at `path`."""
    return (path / RESOLVED).exists()  # what is no file there is refused by whoever reads it


def names_a_run(path: Path) -> bool:
    """Whether `path` is a run's, or stands for the newest one."""
    return is_run(path) or _stands_for_newest(path)


def located(path: Path) -> Path:
    """Return the folder of the run that `path` means; it may be none.

    Raises:
        CheckpointError: it is a pattern, or it ends in `latest`, and there is no run.
    """
    if is_pattern(path):
        raise CheckpointError(
            f"{path}: a pattern may name several runs, and one is wanted", "name one; `compare` takes patterns"
        )
    if not _stands_for_newest(path):
        above = next((each for each in path.parents if _stands_for_newest(each)), None)
        return path if above is None else located(above) / path.relative_to(above)
    above = RUNS if path == Path(LATEST) else path.parent
    runs = runs_below(above)
    if path == Path(LATEST):  # which saw a part of the pictures alone
        runs = (run for run in runs if not _LABEL_FOLD.fullmatch(run.name))
    found = max(runs, key=begun, default=None)
    if found is None:
        raise CheckpointError(
            f"{path}: there is no run in {above}",
            _MAKE_ONE.format(typed_as()),
        )
    return found


def newest_of_each(pattern: Path) -> list[Path]:
    """Return the newest run in each folder that <pattern>/latest stands for, by name; folders without a run have none.

    Raises:
        CheckpointError: no run lies in any.
    """
    above = [Path(each) for each in sorted(glob(str(pattern.parent)))]  # noqa: PTH207  (a pattern may be absolute)
    found = [max(runs, key=begun) for each in above if (runs := list(runs_below(each)))]
    if not found:
        raise CheckpointError(f"{pattern}: there is no run in {pattern.parent}", _MAKE_ONE.format(typed_as()))
    return found


def is_pattern(path: Path) -> bool:
    """Whether `path` is a pattern, as runs/*/latest, and no folder that is called so."""
    there = path.parent if path.name == LATEST and not path.exists() else path
    return has_magic(str(there)) and not there.exists()


def runs_below(folder: Path) -> Iterator[Path]:
    """Yield the runs in a folder, `runs/` or one name's, each once and in no order; of one and links to it itself."""
    found = (resolved for pattern in ("*", "*/*") for resolved in folder.glob(f"{pattern}/{RESOLVED}"))
    made = [each.parent for each in found if not any(part[0] == "." for part in each.relative_to(folder).parts)]
    yield from themselves(made)


def themselves(folders: Iterable[Path]) -> Iterator[Path]:
    """Yield folders without those that only links make others of."""
    seen = set()
    for path in sorted(folders, key=lambda each: each.is_symlink() or each.parent.is_symlink()):
        if (place := path.resolve()) not in seen:
            seen.add(place)
            yield path


def _stands_for_newest(path: Path) -> bool:
    return path.name == LATEST and not path.exists()


def begun(run: Path) -> tuple[float, int]:
    """Return what sorts runs by when they began: the stamp in the name, then when the recipe was written.

    A stamp is local time, of which one hour a year comes twice: where the recipe was written at it, that says which.
    """
    try:
        written = (run / "recipe.yaml").stat().st_mtime_ns
    except OSError:
        written = 0
    stamped = _STAMPED.match(run.name)
    if stamped is None:
        return written / 1e9, written
    try:
        told = datetime.strptime(stamped[0], _STAMP)
        late = (datetime.fromtimestamp(written / 1e9) - told).total_seconds()
        return (written / 1e9 if 0 <= late < _MAKING else told.timestamp()), written
    except (ValueError, OverflowError, OSError):  # digits that are no time, or none that a computer knows
        return written / 1e9, written
