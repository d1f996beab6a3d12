"""What is where: the page, predictions, health and numbers, as one Starlette application.

    GET  /          the page
    POST /predict   one or many pictures; ?top=N classes of each, ?explain=1 with where the network looked
    GET  /health    whether it takes requests
    GET  /metrics   numbers for Prometheus

Owns paths, statuses and the form of answers. How pictures are answered is batching.py and served.py.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from registry.printing import printable
from trainer.serving import counting
from trainer.serving.batching import Batcher
from trainer.serving.gate import Full, Gate
from trainer.serving.intake import Refused, Sent, drain, pictures_of, refusal_of
from trainer.serving.limits import Limits
from trainer.serving.page import Page
from trainer.serving.served import Asked, Served, Told

MOST_NAMED = 5  # classes per picture where nobody says how many
_FULL = "too many requests at once"
_PATHS = ("/", "/predict", "/health", "/metrics")


class App:
    """A served network and its paths.

    Args:
        served: that answers.
        limits: within which it does.
        guarded: whether those who ask need a token.

    Attributes:
        gate: how many requests are inside.
        answered: requests for predictions that got one.
        starlette: the application; `doors.Doors` stands before it.
    """

    def __init__(self, served: Served, limits: Limits, *, guarded: bool = False) -> None:
        self._served, self._limits = served, limits
        self.gate = Gate(limits)
        self.answered = 0
        self._shown = Page.of(served, limits, guarded=guarded)
        self._batcher: Batcher[Asked, Told] = Batcher(
            served.answer, limits.batch, lambda length: self.counts.batches.observe(length)
        )
        self.counts = counting.Counts(
            served.name, len(served.class_names), lambda: self.gate.inside, lambda: self._batcher.waiting
        )
        self.starlette = Starlette(
            routes=[
                Route("/", self._page),
                Route("/predict", self._predict, methods=["POST"]),
                Route("/health", self._health),
                Route("/metrics", self._metrics),
            ],
            exception_handlers={HTTPException: self._elsewhere, 500: self._failed},
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        self._batcher.close()

    # ------------------------------------------------------------------------------------------------------------ paths
    async def _page(self, _: Request) -> Response:
        return HTMLResponse(self._shown.html, headers={"content-security-policy": self._shown.policy})

    async def _health(self, _: Request) -> Response:
        status = 503 if self.gate.stopping else 200
        told = {
            "status": "stopping" if self.gate.stopping else "ok",
            "model": self._served.name,
            "classes": len(self._served.class_names),
        }
        return JSONResponse(told, status)

    async def _metrics(self, _: Request) -> Response:
        return Response(self.counts.text(), headers={"content-type": counting.FORM})

    async def _predict(self, request: Request) -> Response:
        started = time.perf_counter()
        answer = await self._prediction(request)
        self.answered += answer.status_code == 200
        self.counts.seconds.observe(time.perf_counter() - started)
        return answer

    async def _prediction(self, request: Request) -> Response:
        try:
            top, explained = _count_in(request, "top", MOST_NAMED, least=1), _count_in(request, "explain", 0) > 0
            with self.gate.visit() as visit:
                sent = await pictures_of(request, self._limits, visit.take)
                visit.enter()
                refused = refusal_of(sent)
                told = await self._told(sent, explained)
                if refused is None:
                    refused = _refused_as_a_whole(told)
                if refused is not None:
                    raise refused
                pictures = [self._as_json(each, one, top) for each, one in zip(sent, told, strict=True)]
                return JSONResponse({"model": self._served.name, "pictures": pictures})
        except Full as error:
            await drain(request, self._limits)
            told_when = {"retry-after": str(error.seconds)}
            return JSONResponse({"error": _FULL, "hint": str(error)}, 503, headers=told_when)
        except Refused as error:
            self.counts.pictures.labels("refused").inc()
            return JSONResponse({"error": error.message, "hint": error.hint}, error.status)
        except ClientDisconnect:  # nobody hears it
            return Response(status_code=400)

    async def _told(self, sent: Sequence[Sent], explained: bool) -> list[Told]:
        """Return the answers to a request's pictures, in order."""
        futures = [
            self._batcher.submit(Asked(each.content, explained and self._served.explains), each.pixels)
            for each in sent
            if each.refused is None
        ]
        made = iter(await asyncio.gather(*map(asyncio.wrap_future, futures)))
        return [
            next(made) if each.refused is None else Told(problem=each.refused.message, hint=each.refused.hint)
            for each in sent
        ]

    def _as_json(self, sent: Sent, told: Told, top: int) -> dict[str, Any]:
        """Return the answer to a picture as programs read it."""
        if told.probabilities is None:
            self.counts.pictures.labels("refused").inc()
            return {"name": printable(sent.name), "error": told.problem, "hint": told.hint}
        order = (-told.probabilities).argsort(kind="stable")
        names = [printable(name) for name in self._served.class_names]
        named = {names[place]: round(float(told.probabilities[place]), 6) for place in order[:top]}
        sure = self._served.is_sure(float(told.probabilities[order[0]]))
        self.counts.pictures.labels("answered" if sure else "unsure").inc()
        likeliest = names[order[0]]
        found: dict[str, Any] = {"name": printable(sent.name), "answer": likeliest if sure else None, "sure": sure}
        found |= {"likeliest": likeliest, "probabilities": named}
        if told.map:
            picture = f"data:image/png;base64,{base64.b64encode(told.map).decode()}"
            found["map"] = {"class": likeliest, "layer": told.layer, "png": picture}
        return found

    # ----------------------------------------------------------------------------------------------------------- errors
    async def _elsewhere(self, request: Request, error: Exception) -> Response:
        """Answer a path or a method that is none."""
        assert isinstance(error, HTTPException)
        there = f"there are {', '.join(_PATHS)}"
        hint = "POST /predict takes pictures" if request.url.path == "/predict" else there
        return JSONResponse({"error": error.detail, "hint": hint}, error.status_code, headers=error.headers)

    async def _failed(self, _: Request, error: Exception) -> Response:
        """Answer what nobody has foreseen; the server goes on."""
        return JSONResponse({"error": f"{type(error).__name__}: {error}"[:300], "hint": "a bug of the server"}, 500)

    # --------------------------------------------------------------------------------------------------------- numbers
    def count(self, path: str, status: int) -> None:
        """Count an answer; of paths that are none, whose names are anybody's, all as one."""
        self.counts.requests.labels(path if path in _PATHS else "other", str(status)).inc()


def _refused_as_a_whole(told: Sequence[Told]) -> Refused | None:
    """Return why a request fails: where no picture of it has an answer, the first one's reason."""
    if any(one.probabilities is not None for one in told):
        return None
    return Refused(422, told[0].problem, told[0].hint)


def _count_in(request: Request, name: str, default: int, *, least: int = 0) -> int:
    """Return a whole number of a query, `least` or more.

    Raises:
        Refused: it is none.
    """
    text = request.query_params.get(name, str(default))
    if not text.isdecimal() or len(text) > 6 or int(text) < least:
        raise Refused(400, f"{name} is a whole number, {least} or more, got {text[:40]!r}", f"as in /predict?{name}=1")
    return int(text)
