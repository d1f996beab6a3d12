"""Catalogue cache: what is kept between processes, one JSON file per set of sources, replaced by rename.

Owns the key (what makes a stored catalogue stale) and the file. Knows nothing of what the records mean.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from registry.errors import StorageError
from registry.files import write

FORMAT = 2
KEPT = 32  # files; checkouts and plug-ins that are gone leave theirs behind
_LOG = logging.getLogger(__name__)
_PACKAGE = Path(__file__).parents[1]

Records = list[dict[str, Any]]

_held: dict[Path, dict[str, Any]] = {}  # what this process read or made: a command asks several times
_refused: set[Path] = set()  # folders in which nothing can be stored; one line about each is enough


def folder() -> Path:
    """Return the cache folder: $XDG_CACHE_HOME/recipe-trainer, by default under ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(home) / "recipe-trainer"


def key(packages: Sequence[str], sources: Iterable[Path]) -> dict[str, Any]:
    """Return what the catalogue depends on, as JSON.

    Args:
        packages: distributions whose version matters; one that is not installed counts as such.
        sources: files and folders of plug-ins, beside our own.
    """
    return {
        "format": FORMAT,
        "python": sys.version,
        "packages": {name: _version(name) for name in packages},
        "files": _files((_PACKAGE, *sources)),
    }


def _files(roots: Iterable[Path]) -> list[list[Any]]:
    return [entry for root in roots for entry in _below(root)]


def _below(root: Path) -> list[list[Any]]:
    """Return [path, bytes, mtime, ctime in ns] of a file, or of every Python file below a folder.

    By the ctime a file is known that took another's place and has its size and date, as `cp -p` and `tar` leave it.
    """
    if root.is_file():
        return [_state(str(root), root.stat())]
    found: list[list[Any]] = []
    waiting = [str(root)]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name != "__pycache__":
                    waiting.append(entry.path)
            elif entry.name.endswith(".py"):
                found.append(_state(entry.path, entry.stat()))
    return sorted(found)


def _state(path: str, stat: os.stat_result) -> list[Any]:
    return [path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


@functools.cache  # a process keeps the packages that it began with
def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def kept(
    name: str,
    wanted: dict[str, Any],
    make: Callable[[], Records],
    met: Callable[[], Iterable[Path]] = tuple,
) -> Records:
    """Return the records stored for a key, or make and store them; for this process alone where nothing can be stored.

    Args:
        name: tells apart what is stored side by side, such as checkouts and sets of plug-ins.
        wanted: the key, from `key`.
        make: makes the records; slow.
        met: asked once they are made; further files whose change makes them stale, such as what a plug-in imports.
    """
    path = folder() / f"catalogue-{hashlib.sha256(f'{_PACKAGE} {name}'.encode()).hexdigest()[:16]}.json"
    held = _held.get(path)
    if held is None or not _is_fresh(held, wanted):
        held = _read(path)
    if held is None or not _is_fresh(held, wanted):
        records = make()
        held = {"key": wanted, "records": records, "met": _files(met())}
        _write(path, held)
    _held[path] = held
    with contextlib.suppress(OSError):  # of somebody else, or nothing can be stored
        os.utime(path)
    return held["records"]  # type: ignore[no-any-return]


def _is_fresh(held: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return bool(held.get("key") == wanted and held["met"] == _files(Path(state[0]) for state in held["met"]))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        stored = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    whole = isinstance(stored, dict) and all(isinstance(stored.get(part), list) for part in ("records", "met"))
    return stored if whole else None


def _prune(directory: Path) -> None:
    """Take away all but the files used last; another process may do so too."""
    files = sorted(directory.glob("catalogue-*"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in files[KEPT:]:
        path.unlink(missing_ok=True)


def _write(path: Path, content: dict[str, Any]) -> None:
    """Replace the file whole: another process sees the old one or the new one, never a part."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, json.dumps(content).encode(), below=path.parent, lasting=False)
        _prune(path.parent)
    except (OSError, StorageError) as error:
        if path.parent not in _refused:
            _LOG.warning("the catalogue cannot be kept in %s (%s); every start builds it anew", path.parent, error)
        _refused.add(path.parent)
