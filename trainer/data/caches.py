"""All caches of images together: what they take, how much they may, and which go first.

They lie in one folder, $XDG_CACHE_HOME/recipe-trainer/images, by default below ~/.cache. What has not been used for
longest makes room for what is new. Owns the folder; what a cache holds is cache.py's and resized.py's. No torch here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from registry.catalogue import cache
from registry.errors import RecipeError
from registry.printing import size_in_words
from trainer.data.cache import place_of

LIMIT = "TRAINER_CACHE_GB"  # variable of the environment that says how many GiB caches may take together
SHARE = 2  # of the disk that is free or taken by caches, which they may take without it: divided by this
_KEPT = (".images", ".pixels")


@dataclass(frozen=True)
class Cache:
    """What is kept of one split of a dataset.

    Attributes:
        files: that belong together.
        size: bytes.
        used: when last, seconds since 1970.
    """

    files: tuple[Path, ...]
    size: int
    used: float

    @property
    def of(self) -> str:
        """Where its images come from, read from the file; "" where it does not say."""
        with contextlib.suppress(OSError, ValueError):  # damaged: it takes room all the same
            return place_of(self.files[0])
        return ""

    def remove(self) -> None:
        """Remove its files, as far as that can be done."""
        for file in self.files:
            with contextlib.suppress(OSError):  # gone, or in use on Windows
                file.unlink()


def folder() -> Path:
    """Return where caches of images lie.

    Raises:
        RuntimeError: there is no home folder.
    """
    return cache.folder() / "images"


def found(where: Path) -> list[Cache]:
    """Return the caches in a folder, those used last first."""
    together: dict[str, list[Path]] = defaultdict(list)
    with contextlib.suppress(OSError):  # no such folder
        for file in where.iterdir():
            if file.suffix in _KEPT:
                together[file.stem].append(file)
    caches = [each for files in together.values() if (each := _of(sorted(files))) is not None]
    return sorted(caches, key=lambda each: each.used, reverse=True)


def _of(files: list[Path]) -> Cache | None:
    try:
        facts = [file.stat() for file in files]
    except OSError:  # removed meanwhile
        return None
    return Cache(tuple(files), sum(each.st_size for each in facts), max(each.st_mtime for each in facts))


def limit(where: Path, kept: list[Cache] | None = None) -> int:
    """Return the bytes that all caches may take together.

    Args:
        where: their folder.
        kept: what `found` says of it, where that is known.

    Raises:
        RecipeError: the environment says something else than a number.
    """
    said = os.environ.get(LIMIT, "").strip()
    if not said:
        taken = _taken(found(where) if kept is None else kept)
        there = next(each for each in (where, *where.parents) if each.exists())
        return (shutil.disk_usage(there).free + taken) // SHARE
    try:
        most = float(said)
        if not most >= 0:
            raise ValueError
    except ValueError:
        raise RecipeError(
            f"the environment says {LIMIT}={said}", "write how many GiB caches of images may take, as in 20"
        ) from None
    return int(most * 2**30) if most < 2**30 else 2**60


def used(path: Path) -> None:
    """Note that a cache was used now."""
    with contextlib.suppress(OSError):  # of somebody else, or a disk to read only
        now = time.time()
        os.utime(path, (now, now))


def make_room(path: Path, needed: int) -> str:
    """Remove caches unused for longest until there is room for a new one.

    Args:
        path: of the new one; what stands there already, or belongs with it, is replaced and does not count.
        needed: bytes of it.

    Returns:
        Why there is no room; "" where there is.
    """
    kept = found(path.parent)
    most = limit(path.parent, kept)
    if needed > most:
        return (
            f"it would take {size_in_words(needed)}, and caches may take {size_in_words(most)} ({LIMIT} says how much)"
        )
    others = [each for each in kept if each.files[0].stem != path.stem]
    while others and needed + _taken(others) > most:
        others.pop().remove()
    return ""


def _taken(kept: list[Cache]) -> int:
    return sum(each.size for each in kept)
