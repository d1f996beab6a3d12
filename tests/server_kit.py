"""A server as its users have it, a process of its own and a plain HTTP client; and an application asked directly."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PNG = {"Content-Type": "image/png"}


@dataclass(frozen=True)
class Answered:
    """An answer over HTTP.

    Attributes:
        status: of it.
        headers: by name in small letters.
        body: its bytes.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def pictures(self) -> Any:
        assert self.status == 200, self.body
        return self.json["pictures"]


class Server:
    """`python -m trainer serve RUN`, for the length of a block."""

    def __init__(self, run: Path, *words: str, env: Mapping[str, str] | None = None) -> None:
        self._line = [sys.executable, "-m", "trainer", "serve", str(run), *(words or ("--port", "0"))]
        self._env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), **(env or {})}

    def __enter__(self) -> Server:
        self.process = subprocess.Popen(
            self._line, env=self._env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        self.said = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if line.startswith("to stop"):
                break
        else:
            raise AssertionError(f"it did not begin: {self.said}{self.process.communicate()[1]}")
        found = re.search(r"^page +(http://\S+?:(\d+)/\S*)$", self.said, re.MULTILINE)
        assert found is not None, self.said
        self.url, self.port = found[1], int(found[2])
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def ask(
        self,
        path: str = "/predict",
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] = PNG,
        method: str = "",
    ) -> Answered:
        """Ask over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method or ("GET" if body is None else "POST"), path, body, dict(headers))
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answered(answer.status, found, answer.read())
        finally:
            connection.close()

    def stop(self, signum: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal; return the exit code and what was said on both streams."""
        self.process.send_signal(signum)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, self.said + out, err


@contextlib.contextmanager
def in_this_process(served: Any, limits: Any) -> Iterator[str]:
    """Serve in a thread for the length of the block; yields the address."""
    from trainer.serving.server import Address, serve, url_of

    began: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    with Address(port=0).opened() as listening:
        url = url_of(listening)
        thread = threading.Thread(target=serve, args=(served, listening, limits, "", began.put))
        thread.start()
        stop = began.get(timeout=60)
        try:
            yield url
        finally:
            stop()
            thread.join()


def form_of(*files: tuple[str, bytes]) -> tuple[bytes, dict[str, str]]:
    """Return a multipart form of files and its headers, as curl -F sends them."""
    parts = [
        f'--edge\r\nContent-Disposition: form-data; name="picture"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, content in files
    ]
    return b"".join(parts) + b"--edge--\r\n", {"Content-Type": "multipart/form-data; boundary=edge"}


async def asked(
    app: Any,
    path: str = "/",
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    method: str = "",
    whole: bool = True,
) -> Answered:
    """Ask an ASGI application without a network between; a body that is not whole is sent by half and no further."""
    named = {"Content-Length": str(len(body)), **(headers or {})}
    given = [(name.lower().encode(), value.encode("latin-1")) for name, value in named.items()]
    plain, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method or ("POST" if body else "GET"),
        "scheme": "http",
        "path": plain,
        "raw_path": plain.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": given,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    come = body if whole else body[: len(body) // 2]
    messages = iter([{"type": "http.request", "body": come, "more_body": not whole}])
    sent: list[dict[str, Any]] = []

    async def receive() -> Any:
        if (message := next(messages, None)) is not None:
            return message
        if not whole:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    found = {name.decode().lower(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return Answered(sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:]))
