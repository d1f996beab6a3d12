"""Foreign files, taken in safely: downloads proven by digest, tar archives by path, pickles by what they may name.

Owns the three ways in which bytes from elsewhere reach a dataset. Knows no dataset. What is promised stands in
docs/security.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import shutil
import socket
import tarfile
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from registry.errors import DataError

TIMEOUT = 5.0  # seconds without an answer (name look-up, connection, each read) before a download is given up
CHUNK = 1 << 20  # bytes per read
MAX_MEMBERS = 10_000  # of an archive
MAX_UNPACKED = 4 << 30  # bytes of an archive's content


def md5(path: Path) -> str:
    """Return the hexadecimal MD5 of a file; the digest that publishers of old data sets give."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def check_digest(name: str, expected: str, actual: str) -> None:
    """Refuse content whose MD5 is not the published one.

    Args:
        name: what messages call the content.
        expected: published MD5, hexadecimal.
        actual: MD5 of the content.

    Raises:
        DataError: they differ.
    """
    if actual != expected:
        raise DataError(
            f"{name} is damaged or not the published file: MD5 expected {expected}, actual {actual}",
            "delete it and fetch it again from its publisher",
        )


# ------------------------------------------------------------------------------------------------------------ downloads
def fetch(url: str, path: Path, *, size: int, digest: str) -> None:
    """Download a file of known size and digest: into `<path>.part`, continued where it was cut, renamed when proven.

    Args:
        url: http or https address.
        path: where the file belongs.
        size: its length in bytes; more is never read.
        digest: its MD5, hexadecimal.

    Raises:
        DataError: no answer within 5 seconds, a refused request, another content, a folder that cannot be written, or
            another process downloading the same file.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as file, _only_writer(file, part):
            if file.tell() < size:
                _continue(url, file, size)
            arrived = file.tell()
        if arrived < size:
            raise DataError(f"{url} broke off after {arrived} of {size} bytes", "start again: it goes on from there")
        actual = md5(part)
        if actual != digest:
            part.unlink()
        check_digest(f"the download of {url}", digest, actual)
        part.replace(path)
    except urllib.error.HTTPError as error:
        raise DataError(f"{url} answered {error.code} {error.reason}") from error
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(f"{url} cannot be reached: {reason}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be downloaded: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            if part.stat().st_size == 0:
                part.unlink()


def _continue(url: str, file: IO[bytes], size: int) -> None:
    """Append the missing rest of `url` to `file`."""
    _look_up(urllib.parse.urlsplit(url).hostname or "")
    start = file.tell()
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        if start and answer.status != 206:  # the server sends the whole again
            file.truncate(0)
            start = 0
        left = size - start
        while left > 0 and (block := answer.read(min(CHUNK, left))):
            file.write(block)
            left -= len(block)


def _look_up(host: str) -> None:
    """Resolve `host`, given up after `TIMEOUT`: the resolver itself has no limit below half a minute."""
    found = threading.Event()

    def resolve() -> None:
        with contextlib.suppress(OSError):  # the request itself will say why
            socket.getaddrinfo(host, None)
        found.set()

    threading.Thread(target=resolve, daemon=True).start()
    if not found.wait(TIMEOUT):
        raise TimeoutError(f"no answer to the name look-up of {host} within {TIMEOUT:g} s")


@contextlib.contextmanager
def _only_writer(file: IO[bytes], path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `file`, where the system has such locks."""
    try:
        import fcntl
    except ImportError:  # Windows: the digest alone protects
        yield
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise DataError(f"another process is downloading {path}", "wait until it is done") from error
    yield


# ------------------------------------------------------------------------------------------------------------- archives
def unpack(archive: Path, folder: Path, *, member: str) -> None:
    """Unpack the folder `member` of a tar archive as `folder/member`, all of it or nothing.

    Every member is judged before the first byte is written: only plain files and folders below `member`, no absolute
    path, no `..`, no link, no device, limited number and size.

    Args:
        archive: the tar file, compressed or not.
        folder: where `member` will lie.
        member: the one folder at the archive's top.

    Raises:
        DataError: the archive holds anything else or is damaged, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{member}-", dir=folder) as scratch:
            with tarfile.open(archive) as tar:
                members = _safe_members(tar, archive, member)
                if hasattr(tarfile, "data_filter"):
                    tar.extractall(scratch, members, filter="data")
                else:  # Python 3.10 and 3.11 before their security releases; the members are judged already
                    tar.extractall(scratch, members)
            target = folder / member
            if target.exists():
                shutil.rmtree(target)
            (Path(scratch) / member).replace(target)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive} is not a whole tar archive: {error}", "delete it and fetch it again") from error
    except OSError as error:
        raise DataError(f"{archive} cannot be unpacked into {folder}: {error}") from error


def _safe_members(tar: tarfile.TarFile, archive: Path, folder: str) -> list[tarfile.TarInfo]:
    members: list[tarfile.TarInfo] = []
    total = 0
    for item in tar:
        path = PurePosixPath(item.name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or path.parts[:1] != (folder,) or ":" in item.name:
            raise DataError(
                f"{archive} holds {item.name!r}, which would be written outside {folder}/; nothing was unpacked"
            )
        if not (item.isreg() or item.isdir()):
            raise DataError(
                f"{archive} holds {item.name!r}, which is neither a file nor a folder; nothing was unpacked"
            )
        total += item.size
        members.append(item)
        if len(members) > MAX_MEMBERS or total > MAX_UNPACKED:
            limit = f"{MAX_MEMBERS} files or {MAX_UNPACKED >> 30} GiB"
            raise DataError(f"{archive} would unpack to more than {limit}; nothing was unpacked")
    return members


# -------------------------------------------------------------------------------------------------------------- pickles
class _PlainUnpickler(pickle.Unpickler):
    """Builds numpy arrays, numbers, texts, lists and dicts; refuses to look up anything else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the three names an array needs, whatever numpy's module was called when it was written."""
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _empty_array
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes in protocol 2
            return _latin1
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _empty_array(kind: object, shape: object, dtype: object) -> NDArray[np.uint8]:
    """Make the empty array that a pickle then fills; numpy's own function would also make other kinds and sizes."""
    if kind is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError("it asks for something that is no plain array")
    if dtype not in (b"b", "b"):  # a placeholder: the array's own state sets the real type
        raise pickle.UnpicklingError(f"it begins an array of type {dtype!r}")
    return np.empty(0, dtype=np.uint8)


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding}")
    return text.encode("latin1")


def load_plain_pickle(content: bytes, name: str) -> Any:
    """Read a pickle that holds plain data only; code in it cannot run.

    Args:
        content: the pickle.
        name: what messages call it.

    Returns:
        The value; texts written by Python 2 are bytes.

    Raises:
        DataError: it names anything but arrays, or is damaged.
    """
    try:
        return _PlainUnpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise anything, MemoryError included
        raise DataError(f"{name} is not a pickle of plain arrays: {error}; nothing in it was run") from error
