"""A server from its first request to its last: the address, the signals, and an end at which nothing is lost.

At SIGTERM or SIGINT it says so on /health, takes the connections that have come already, answers what it has, closing
each connection with its answer, and ends with exit code 0: to stop is what a server is told. A second SIGINT ends it on
the spot.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TypeAlias

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from registry.errors import RecipeError
from trainer.serving.app import App
from trainer.serving.doors import Doors
from trainer.serving.limits import Limits
from trainer.serving.served import Served

LOCAL = "127.0.0.1"
_ANY = ("0.0.0.0", "::")  # every address that this machine has
_BACKLOG = 4096  # connections that the system keeps until they are taken
_QUIET = 0.25  # seconds after the last connection was taken in which a request may still be on its way
_IDLE = 75  # seconds that a connection may say nothing: closed sooner, a request may just be on its way
_HEADERS = 30  # seconds that the first request of a connection may take to have its headers whole
_GRACE = 60  # seconds that answers may take at the end
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@dataclass(frozen=True)
class Address:
    """Where a server listens.

    Attributes:
        host: a name or number of this machine.
        port: 0 for any that is free.
    """

    host: str = LOCAL
    port: int = 8000

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def opened(self) -> socket.socket:
        """Return a socket that listens there.

        Raises:
            RecipeError: it is no address of this machine, or somebody else listens there.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        # Only where TCP is named does asyncio send answers at once; else each waits 40 ms to be acknowledged in part.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            if os.name == "posix":  # elsewhere it would let two servers listen
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((self.host, self.port))
            listening.listen(_BACKLOG)
        except OSError as error:
            listening.close()
            number = getattr(error, "errno", None)
            reason = os.strerror(number) if number is not None and number > 0 else error  # names have other numbers
            raise RecipeError(
                f"{self.host}, port {self.port}: nothing can listen there ({reason})",
                "--port 0 takes any port that is free" if self.is_local else "--address is one of this machine's",
            ) from error
        return listening


def url_of(listening: socket.socket) -> str:
    """Return the address of a listening socket as a browser takes it."""
    host, port = listening.getsockname()[:2]
    if host in _ANY:
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


Began: TypeAlias = "Callable[[Callable[[], None]], None]"


def serve(served: Served, listening: socket.socket, limits: Limits, token: str, began: Began) -> int:
    """Answer until a signal comes; return how many requests for predictions were answered.

    Args:
        served: that answers.
        listening: a socket from `Address.opened`.
        limits: within which it answers.
        token: what those who ask must have; "" for nothing.
        began: called once it answers, with what ends it; signals reach the main thread alone.
    """
    _allow_many_files()
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # whoever sent a bad form is told
    app = App(served, limits, guarded=bool(token))
    doors = Doors(app.starlette, token, lambda: app.gate.stopping, app.count)
    config = uvicorn.Config(
        doors,
        http=Protocol,
        lifespan="on",
        log_level="error",  # a fault of ours, with its stack
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
        timeout_keep_alive=_IDLE,
        backlog=_BACKLOG,
    )
    _Server(config, app, began).run(sockets=[listening])
    return app.answered


class Protocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type, unused-ignore]  # chosen by what is installed
    """uvicorn's side of a connection, closed where no request begins: uvicorn itself would wait for ever."""

    waits = float(_HEADERS)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._patience = self.loop.call_later(self.waits, self._close_unasked)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._patience.cancel()
        super().connection_lost(exc)

    def _close_unasked(self) -> None:
        if self.cycle is None:  # no headers have come whole
            self.transport.close()


class _Server(uvicorn.Server):  # type: ignore[misc, unused-ignore]  # without the extra it is Any
    """uvicorn's server with an end of its own."""

    should_exit: bool

    def __init__(self, config: uvicorn.Config, app: App, began: Began) -> None:
        super().__init__(config)
        self._app, self._began = app, began

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and say so."""
        await super().startup(sockets)
        self._began(self.stop)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take who has come, answer them, end."""
        self._app.gate.stopping = True
        for _ in range(2):  # each turn of the loop takes all connections that wait
            await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        if not self.force_exit:
            await asyncio.sleep(_QUIET)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Be told of signals; one that was obeyed is not raised again afterwards, as uvicorn does."""
        before = {}
        for signum in _SIGNALS if threading.current_thread() is threading.main_thread() else ():
            if signal.getsignal(signum) is not signal.SIG_IGN:
                before[signum] = signal.signal(signum, self._told)
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def stop(self) -> None:
        """Answer what has come, then end."""
        self.should_exit = True

    def _told(self, signum: int, _frame: FrameType | None) -> None:
        if self.should_exit and signum == signal.SIGINT:
            self.force_exit = True
        self.stop()


def _allow_many_files() -> None:
    """Let this process have as many connections as the system allows it; each is an open file."""
    try:
        import resource
    except ImportError:  # Windows has no such bound
        return
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
