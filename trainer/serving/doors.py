"""Who may ask, and what every answer says beside its content.

Without a token only this machine reaches the server, and a page of somebody else's that runs in a browser on it must
not: a name that was made to mean 127.0.0.1 is told by the Host header, another page's request by its Origin. With a
token whoever has it may ask: a program as `Authorization: Bearer`, a browser by the link with ?token=, which it trades
for a cookie. Every answer passes here on its way out, refusals included, so here they are counted.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Callable
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN = ("/health",)  # for whoever looks whether it is alive; it tells nothing of pictures
_COOKIE = "recipe-trainer-token"
_ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
}


class Doors:
    """An ASGI application in front of another.

    Args:
        app: that answers those who may ask.
        token: what they must have; "" where only this machine reaches it.
        stopping: whether connections are to end with their answer.
        answered: told the path and the status of every answer.
    """

    def __init__(
        self, app: ASGIApp, token: str, stopping: Callable[[], bool], answered: Callable[[str, int], None]
    ) -> None:
        self._app, self._token, self._stopping, self._answered = app, token, stopping, answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._answered(scope["path"], message["status"])
                headers = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    headers.setdefault(name, value)
                if self._stopping():
                    headers["connection"] = "close"
            await send(message)

        await (self._refusal(scope) or self._app)(scope, receive, dressed)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to who may not ask; None to who may."""
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return _refused(403, f"a page of {origin} may not ask", "open the server's own page, or ask by a program")
        if self._token:
            return None if scope["path"] in OPEN else self._without_token(scope, headers)
        if host and not _is_here(_name_of(host)):
            return _refused(403, f"this server is not called {host}", "ask 127.0.0.1; --address lets others in")
        return None

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_token(given.strip()):
            return None
        if self._is_token(Request(scope).cookies.get(_COOKIE, "")):
            return None
        (linked,) = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[:1]
        if scope["path"] == "/" and self._is_token(linked):
            answer = RedirectResponse("/", status_code=303)
            answer.set_cookie(_COOKIE, self._token, httponly=True, samesite="lax")
            return answer
        refused = _refused(401, "a token is needed", "the line that the server prints at its start has it")
        refused.headers["www-authenticate"] = "Bearer"
        return refused

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self._token.encode())


def _name_of(host: str) -> str:
    """Return a Host header without its port."""
    return host if host.endswith("]") else host.rpartition(":")[0] or host


def _is_here(name: str) -> bool:
    """Say whether a name or number means this machine, as whoever asks it there spells it."""
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _refused(status: int, message: str, hint: str) -> JSONResponse:
    return JSONResponse({"error": message, "hint": hint}, status)
