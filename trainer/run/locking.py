"""File lock between processes, which ends with the process that holds it. Knows files, not runs."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from registry import files
from registry.errors import StorageError

TAKEN = {errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}
AFAR = 1 << 30  # Windows locks bytes: one that nobody reads


class Held(Exception):
    """Somebody else has the lock; the text is what the file says of them."""


@contextmanager
def lock(path: Path) -> Iterator[int]:
    """Hold the lock at `path` for the length of the block; the file is made for it and removed afterwards.

    A file system that knows no locks gives one to everybody.

    Args:
        path: the lock's file.

    Yields:
        The open file's descriptor, to write into who holds it.

    Raises:
        Held: somebody else does.
        OSError: the file cannot be made.
        StorageError: a link lies in its place.
    """
    while True:
        file = files.descriptor(path, os.O_RDWR | os.O_CREAT, below=path.parent)
        try:
            _take(file)
        except OSError as error:
            os.close(file)
            if error.errno in TAKEN:
                raise Held(_holder(path)) from None
            raise
        if _is_same(path, file):  # else it was removed by who held it, between our opening and our locking
            break
        os.close(file)
    try:
        yield file
    finally:
        if sys.platform == "win32":  # which removes no open file
            os.close(file)
        with suppress(OSError):
            path.unlink()
        if sys.platform != "win32":
            os.close(file)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock at `path`; nothing is made."""
    if not path.is_file():
        return False
    try:
        with lock(path):
            return False
    except Held:
        return True
    except (OSError, StorageError):  # another's folder, or a link in its place: it cannot be told
        return False


def _take(file: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        os.lseek(file, AFAR, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise


def _is_same(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    try:
        return files.read_text(path) or "another process"
    except OSError:
        return "another process"
