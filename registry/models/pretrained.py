"""Pretrained weights: whether they are wanted, whether they can be fetched, and what was said of them.

Weights are not wanted for a network whose own are loaded afterwards, as after training. Knows no library of models and
no file format.
"""

from __future__ import annotations

import re
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from urllib.parse import urlsplit

from registry.catalogue.grammar import WEIGHTS

_ANSWER = 5  # seconds that a server has to take the call
_PATIENCE = _ANSWER + 1  # seconds that finding it may take, too
_STALLED = 20  # seconds without a byte after which a download is given up
_PORTS = {"http": 80, "https": 443}

_FETCHED = ContextVar("fetched", default=True)
_SAID: ContextVar[list[str] | None] = ContextVar("said", default=None)


@contextmanager
def architecture_only() -> Iterator[None]:
    """Build models as they are with their pretrained weights, without these weights, for the length of the block."""
    before = _FETCHED.set(False)
    try:
        yield
    finally:
        _FETCHED.reset(before)


def weights_are_fetched() -> bool:
    """Return False inside `architecture_only`."""
    return _FETCHED.get()


@contextmanager
def listening() -> Iterator[list[str]]:
    """Collect what is said of weights that are loaded in the block, a line each."""
    lines: list[str] = []
    before = _SAID.set(lines)
    try:
        yield lines
    finally:
        _SAID.reset(before)


def say(line: str) -> None:
    """Say which weights were loaded, to whoever listens."""
    lines = _SAID.get()
    if lines is not None:
        lines.append(line)


def names_a_file(text: str) -> bool:
    """Tell whether a text that may be a name or a path is a path: it has a folder, or the ending of a file."""
    return re.search(WEIGHTS, text, re.IGNORECASE) is not None


# ------------------------------------------------------------------------------------------------------------- fetching
def fetch(url: str, file: Path) -> None:
    """Download a file whole, or leave nothing; where that cannot be, it shows in seconds.

    Args:
        url: of the file; a digest in its name, "-<digits>.", is held against what comes.
        file: where to put it.

    Raises:
        OSError: nobody answers, the answer stops coming, it is another file, or it cannot be written.
    """
    from torch import hub

    reach(url)
    file.parent.mkdir(parents=True, exist_ok=True)
    digest = hub.HASH_REGEX.search(file.name)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_STALLED)
    try:
        hub.download_url_to_file(url, str(file), digest[1] if digest else None, progress=False)
    except RuntimeError as error:  # the digest
        raise OSError(str(error)) from error
    finally:
        socket.setdefaulttimeout(before)


def reach(url: str) -> None:
    """Look whether somebody answers at an address, or at the proxy that stands before it.

    Raises:
        OSError: nobody does.
    """
    parts = urlsplit(url)
    proxies = {} if urllib.request.proxy_bypass(parts.hostname or "") else urllib.request.getproxies()
    proxy = proxies.get(parts.scheme, "")
    there = urlsplit(proxy if "//" in proxy else f"//{proxy}") if proxy else parts
    host, port = there.hostname or "", there.port or _PORTS.get(there.scheme, 80)
    answered: list[OSError | None] = []

    def call() -> None:
        try:
            socket.create_connection((host, port), timeout=_ANSWER).close()
            answered.append(None)
        except OSError as error:
            answered.append(error)

    # In a thread: names are looked up without a limit of time.
    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    caller.join(_PATIENCE)
    if not answered or answered[0] is not None:
        why = answered[0] if answered else f"no answer in {_PATIENCE} seconds"
        raise OSError(f"{host} cannot be reached: {why}")
