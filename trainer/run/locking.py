"""File lock between processes, which ends with the process that holds it. Knows files, not runs."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from registry import files

TAKEN = {errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}
LOOKS = 5  # at a lock that is taken
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
    looks = 0
    while True:
        file = files.descriptor(path, os.O_RDWR | os.O_CREAT, below=path.parent)
        try:
            _take(file)
        except OSError as error:
            os.close(file)
            if error.errno not in TAKEN:
                raise
            if (looks := looks + 1) < LOOKS:  # it may be somebody who only asks whether it is held
                time.sleep(0.02)
                continue
            raise Held(_holder(path)) from None
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
    """Whether a process holds the lock at `path`, or it cannot be told, as of a file that is another's alone.

    Nothing is made or changed.
    """
    if not path.is_file():
        return False
    try:
        with files.opened(path) as file:
            _take(file.fileno(), shared=True)
            return False
    except FileNotFoundError:
        return False
    except OSError:  # it is taken, or may not be read
        return True


def _take(file: int, *, shared: bool = False) -> None:
    if sys.platform == "win32":
        import msvcrt

        os.lseek(file, AFAR, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)
        return
    import fcntl

    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
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
