"""Safe file access: only plain files are read, files are written whole, and never through a link.

    opened(path)                      to read; a pipe, a device, a socket or a folder is refused, not waited for
    write(path, data, below=folder)   beside its name, flushed, renamed: the old file or the new one, whole
    append, create, remove, ...       in place, and never through a link either

A run may come from somebody else, and a link in it would lead whatever is written there out of it. So everything below
a run is reached from a descriptor of its folder, one step at a time, and a link is refused at every step: between the
look and the step nobody can put one there. The folder itself may be reached through links: the user has named it.

Knows nothing of what files mean.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from registry.errors import StorageError

TEMPORARY = ".tmp-"  # in the name of a file that is not whole yet, before the process id

_STEPWISE = {os.open, os.mkdir, os.unlink, os.rename} <= os.supports_dir_fd  # not on Windows
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_AT_ONCE = getattr(os, "O_NONBLOCK", 0)  # else opening a pipe waits for its other end
_AS_IS = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _AS_IS


# -------------------------------------------------------------------------------------------------------------- reading
def opened(path: Path) -> BinaryIO:
    """Open a plain file to read.

    Raises:
        OSError: it cannot be opened, or is something else, which `strerror` names: "it is a pipe, not a file".
    """
    require_plain(path.stat().st_mode, path)  # a look does nothing to a device
    file = os.open(path, os.O_RDONLY | _AT_ONCE | _AS_IS)
    try:
        require_plain(os.fstat(file).st_mode, path)
        return os.fdopen(file, "rb")
    except BaseException:
        os.close(file)
        raise


def read_text(path: Path) -> str:
    """Return the text of a plain file in UTF-8.

    Raises:
        OSError: as `opened`.
        UnicodeDecodeError: it is not UTF-8.
    """
    with opened(path) as file:
        return file.read().decode("utf-8")


def require_plain(mode: int, path: Path) -> None:
    """Refuse what is no plain file by its mode, as `stat` tells it.

    Raises:
        OSError: it is something else.
    """
    kind = kind_of(mode)
    if kind != "a file":
        number = 21 if stat.S_ISDIR(mode) else 22  # EISDIR, EINVAL
        raise OSError(number, f"it is {kind}, not a file", str(path))


def kind_of(mode: int) -> str:
    """Return in words what has a mode: "a file", "a folder", "a pipe", ..."""
    kinds = {
        stat.S_IFREG: "a file",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "of another kind")


# -------------------------------------------------------------------------------------------------------------- writing
def write(path: Path, *parts: bytes | memoryview, below: Path, lasting: bool = True) -> None:
    """Put `parts` at `path`, so that a crash at any moment leaves the old file or the new one, whole.

    Args:
        path: the file; missing folders between `below` and it are made.
        parts: its content, in order.
        below: the folder below which no link is followed.
        lasting: flush to the disk before the rename; what can be made again need not.

    Raises:
        OSError: the disk is full, the folder is gone, ...; the old file is untouched and no temporary file stays.
        StorageError: a link stands in the way.
    """
    write_each(path, parts, below=below, lasting=lasting)


def write_each(path: Path, parts: Iterable[bytes | memoryview], *, below: Path, lasting: bool = True) -> None:
    """Do as `write` with parts that are made while they are written."""
    with _told_of(path), _reached(path, below, make=True) as (folder, name):
        temporary = f"{name}{TEMPORARY}{os.getpid()}"
        try:
            _write_new(temporary, folder, parts, lasting)
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        if folder is not None and lasting:
            with contextlib.suppress(OSError):  # makes the rename durable, where the system can
                os.fsync(folder)


def _write_new(name: str, folder: int | None, parts: Iterable[bytes | memoryview], lasting: bool) -> None:
    """Write a file that nobody else may have made; with `lasting` it is on the disk afterwards."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)  # of an earlier process with our number
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK | _AS_IS, 0o666, dir_fd=folder)
    try:
        for part in parts:
            rest = memoryview(part).cast("B")
            while rest:
                rest = rest[os.write(file, rest) :]
        if lasting:
            os.fsync(file)
    finally:
        os.close(file)


def append(path: Path, *, below: Path) -> BinaryIO:
    """Open a file to write at its end, unbuffered; it is made where there is none.

    Raises:
        OSError: it cannot be opened.
        StorageError: a link stands in the way, or it is no plain file of one name.
    """
    return os.fdopen(descriptor(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, below=below), "ab", buffering=0)


def create(path: Path, *, below: Path) -> BinaryIO:
    """Open a new file to write; missing folders between `below` and it are made.

    Raises:
        OSError: it exists, or cannot be made.
        StorageError: a link stands in the way.
    """
    return os.fdopen(descriptor(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, below=below), "wb")


def descriptor(path: Path, flags: int, *, below: Path) -> int:
    """Open a file to be changed in place, and return its descriptor.

    Raises:
        OSError: it cannot be opened.
        StorageError: a link stands in the way, or it is no plain file of one name: its other name may lie elsewhere.
    """
    with _told_of(path), _reached(path, below, make=True) as (folder, name):
        _refuse_other_kinds(path, name, folder)
        file = os.open(name, flags | _NO_LINK | _AT_ONCE | _AS_IS, 0o666, dir_fd=folder)
    found = os.fstat(file)
    if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:
        return file
    os.close(file)
    raise StorageError(
        f"{path}: has {found.st_nlink} names (hard links), and would change under all of them",
        "put a copy in its place: the others keep what they hold",
    )


def _refuse_other_kinds(path: Path, name: str, folder: int | None) -> None:
    """Refuse a pipe and the like; a folder is refused by the system itself, in its own words."""
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise StorageError(f"{path}: is {kind_of(mode)}, not a file", "remove it")


def make_folder(path: Path, *, below: Path) -> None:
    """Make a folder and those between `below` and it; it may exist.

    Raises:
        OSError: it cannot be made.
        StorageError: a link stands in the way.
    """
    with _told_of(path), _reached(path / "_", below, make=True):  # the way to a file in it makes it
        pass


def remove(path: Path, *, below: Path) -> None:
    """Remove a file; it may be gone already.

    Raises:
        OSError: it cannot be removed.
        StorageError: a link stands in the way.
    """
    with _told_of(path), contextlib.suppress(FileNotFoundError), _reached(path, below) as (folder, name):
        os.unlink(name, dir_fd=folder)


def rename(path: Path, to: str, *, below: Path) -> None:
    """Give a file or folder another name beside its own; a file of that name is replaced.

    Raises:
        OSError: it cannot be renamed.
        StorageError: a link stands in the way.
    """
    with _told_of(path), _reached(path, below) as (folder, name):
        os.replace(name, str(Path(name).with_name(to)), src_dir_fd=folder, dst_dir_fd=folder)


def second_name(path: Path, other: str, *, below: Path) -> None:
    """Give a file another name beside its own, without copying where the file system can; replaces what has it.

    Raises:
        OSError: it cannot be had.
        StorageError: a link stands in the way.
    """
    with _told_of(path), _reached(path, below) as (folder, name):
        temporary = f"{Path(name).with_name(other)}{TEMPORARY}{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        try:
            os.link(name, temporary, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except OSError:
            with opened(path) as file:
                write(path.with_name(other), file.read(), below=below)
            return
        try:
            os.replace(temporary, str(Path(name).with_name(other)), src_dir_fd=folder, dst_dir_fd=folder)
        finally:  # it is still there where both already named one file: POSIX renames nothing
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder)


def remove_temporaries(folder: Path, *, below: Path) -> None:
    """Remove what a killed process left half written; only for the one that holds the run's lock."""
    for stray in folder.glob(f"*{TEMPORARY}*"):
        with contextlib.suppress(OSError):
            remove(stray, below=below)


# ---------------------------------------------------------------------------------------------------------------- links
def refuse_links(folder: Path) -> None:
    """Refuse a folder with a link in it that leads outside, however deep; a look before anything is begun.

    Raises:
        StorageError: naming the first.
        OSError: it cannot be looked through.
    """
    inside, waiting = os.path.realpath(folder), [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                if entry.is_symlink():
                    if not Path(os.path.realpath(entry.path)).is_relative_to(inside):
                        raise _link(Path(entry.path))
                elif entry.is_dir():
                    waiting.append(Path(entry.path))


def _link(path: Path) -> StorageError:
    """Return the error for a link at `path`, which says where it leads as far as that can be read."""
    with contextlib.suppress(OSError):
        return StorageError(
            f"{path}: is a link to {path.readlink()}; nothing below a run is written through one",
            "remove it, or put what it names in its place",
        )
    return StorageError(f"{path}: is a link; nothing below a run is written through one", "remove it")


@contextlib.contextmanager
def _reached(path: Path, below: Path, *, make: bool = False) -> Iterator[tuple[int | None, str]]:
    """Give the descriptor of the folder of `path` and the name in it; on Windows no descriptor and the whole path.

    The way leads from `below` through one folder after another, each opened relative to the one before.

    Args:
        path: of a file or folder, which need not exist.
        below: where the way begins; it may be reached through links, nothing after it may.
        make: make folders that are missing on the way.
    """
    *folders, name = path.relative_to(below).parts
    if ".." in (*folders, name):
        raise ValueError(f"{path} is not below {below}")
    here, folder = below, os.open(below, _FOLDER) if _STEPWISE else None
    try:
        for each in folders:
            here = here / each
            folder = _entered(folder, each, here, make)
        if _is_link(name, folder, here / name):
            raise _link(here / name)
        yield folder, name if folder is not None else str(here / name)
    finally:
        if folder is not None:
            os.close(folder)


def _entered(folder: int | None, name: str, path: Path, make: bool) -> int | None:
    """Return the descriptor of a folder within `folder`, which is closed; without descriptors only refuse a link."""
    if make:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name if folder is not None else path, dir_fd=folder)
    if folder is None:
        if path.is_symlink():
            raise _link(path)
        return None
    try:
        deeper = os.open(name, _FOLDER | _NO_LINK, dir_fd=folder)
    except OSError as error:
        if _is_link(name, folder, path):
            raise _link(path) from error
        raise
    os.close(folder)
    return deeper


def _is_link(name: str, folder: int | None, path: Path) -> bool:
    """Whether a link lies at `name` in `folder`, or without a descriptor at `path`."""
    try:
        found = os.lstat(path) if folder is None else os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISLNK(found.st_mode)


@contextlib.contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Have the system's errors name the whole path, not the last step."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
