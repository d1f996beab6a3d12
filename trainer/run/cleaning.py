"""What of old runs can go: checkpoints that only a resume needs, and what killed processes left half made.

Owns the choice and the deleting, which holds each run's lock. Weights that are used (best.pt, best.safetensors),
numbers and pages are never among it.
"""

from __future__ import annotations

import shutil
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from registry import files
from registry.errors import StorageError, UserError
from trainer.run.folder import RunFolder
from trainer.run.listing import Row, size_of
from trainer.run.locking import is_held

DAY = 86_400.0
DONE = ("completed", "pruned")  # a run of another status may still be resumed
HALF_MADE = ".new-*"  # folders that a killed process never gave their name


@dataclass(frozen=True)
class Removable:
    """Something that can go.

    Attributes:
        path: a file, or a folder with all that is in it.
        below: the run's folder, or the one that holds runs.
        bytes: on the disk.
        why: it is not needed.
    """

    path: Path
    below: Path
    bytes: int
    why: str


def proposals(root: Path, rows: Sequence[Row], days: float) -> list[Removable]:
    """Return what can go.

    Args:
        root: where runs lie.
        rows: the runs to look at.
        days: since a run was last written to; younger ones keep everything.
    """
    now, found = time.time(), []
    for row in rows:
        if (
            row.status in DONE
            and not _may_go_on(row.path)
            and now - _last_written(row.path) >= days * DAY
            and not is_held(row.path / "lock")
        ):
            found += _of_a_run(row.path)
    for path in sorted(root.glob(f"*/{HALF_MADE}")):
        if now - path.stat().st_mtime >= max(days, 1.0) * DAY and not path.is_symlink():
            found.append(Removable(path, root, size_of(path), "never became a run"))
    return found


def _may_go_on(path: Path) -> bool:
    """Whether only its limit on time has ended a run: more time lets it go on."""
    return bool(RunFolder(path).read_json("summary.json").get("out_of_time"))


def _last_written(path: Path) -> float:
    return max(entry.stat().st_mtime for entry in (path / "summary.json", path) if entry.exists())


def _of_a_run(path: Path) -> list[Removable]:
    """Return the states that a resume would go on from; best.pt answers for the run without them, if it can be read."""
    checkpoints = path / "checkpoints"
    others = [*checkpoints.glob("last.pt"), *checkpoints.glob("epoch-*.pt"), *checkpoints.glob("*.unreadable")]
    if not zipfile.is_zipfile(checkpoints / "best.pt"):  # whole, as torch writes it; else the last is all there is
        return []
    found, counted = [], set()
    for file in sorted(others):
        status = file.lstat()
        fresh = (status.st_dev, status.st_ino) not in counted  # two names may be one file
        counted.add((status.st_dev, status.st_ino))
        found.append(
            Removable(
                file,
                path,
                status.st_size if fresh else 0,
                "needed to resume the run, which is done, or to repeat its epochs (verify --replay)",
            )
        )
    return found


def remove(proposed: Sequence[Removable]) -> tuple[int, list[str]]:
    """Delete; return the bytes that came free, and a sentence for each that stayed.

    A run that another process has begun to work on meanwhile is left alone.
    """
    free, stayed = 0, []
    for each in proposed:
        try:
            if each.path.is_dir():
                shutil.rmtree(each.path)
            else:
                with RunFolder(each.below).locked():
                    files.remove(each.path, below=each.below)
        except (OSError, UserError) as error:
            stayed.append(f"{each.path}: {error.message if isinstance(error, StorageError) else error}")
        else:
            free += each.bytes
    return free, stayed
