"""From the body of a request to pictures, within limits: one as it is, several as a form or as JSON.

Nothing is decoded here. A picture's header tells its size before its pixels take any memory, so a file of a few bytes
that would fill it (a picture bomb) is refused by what it says of itself.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import anyio
from PIL import Image, UnidentifiedImageError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from trainer.serving.limits import Limits

FORM, JSON = "multipart/form-data", "application/json"
TAKEN = (
    "one picture as the body (Content-Type: image/png, image/jpeg, ...), several as multipart/form-data, "
    'or application/json: {"pictures": ["<base64>", ...]}'
)
_RAW = ("application/octet-stream",)  # and every image/*
_DRAINED = 4  # times as many bytes as are taken are read and dropped, so that an answer is heard by who is sending
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")  # those that decoding.py reads


_READ = f"{', '.join(_FORMATS[:-1])} and {_FORMATS[-1]} are read"


class Refused(Exception):
    """A request, or one of its pictures, that is not answered.

    Args:
        status: of HTTP.
        message: what is wrong.
        hint: the way out; "" where there is none to say.
    """

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.hint = status, message, hint


@dataclass(frozen=True, eq=False)
class Sent:
    """A picture of a request.

    Attributes:
        name: as the sender calls it; "" where it does not.
        content: of its file.
        pixels: by its header; 0 where it is refused.
        refused: why it is not answered; None where it may be.
    """

    name: str
    content: bytes
    pixels: int = 0
    refused: Refused | None = None


def declared_size(request: Request, limits: Limits) -> int:
    """Return how many bytes a request may have: what it declares, else the most."""
    text = request.headers.get("content-length", "")
    return min(int(text), limits.bytes) if text.isdecimal() else limits.bytes


async def drain(request: Request, limits: Limits) -> None:
    """Read what is still to come of a body and drop it, as far as that is reasonable."""
    left = _DRAINED * limits.bytes
    with anyio.move_on_after(limits.reading):
        async for piece in request.stream():
            left -= len(piece)
            if left < 0:
                return


async def pictures_of(request: Request, limits: Limits) -> list[Sent]:
    """Return the pictures of a request, those that are too large or none marked as refused.

    Raises:
        Refused: there is none, or more than is taken, or nobody can tell what it is.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (kind in (FORM, JSON, *_RAW) or kind.startswith("image/")):
        await drain(request, limits)
        raise Refused(415, f"the content type {kind} is not taken" if kind else "there is no Content-Type", TAKEN)
    body = await _body(request, limits)
    if not body:
        raise Refused(400, "the body is empty", TAKEN)
    named = await _parts(request, body, limits) if kind == FORM else _listed(body) if kind == JSON else [("", body)]
    if not named:
        raise Refused(400, "there is no picture in it", TAKEN)
    if len(named) > limits.pictures:
        raise Refused(413, f"{len(named)} pictures in one request, at most {limits.pictures} are taken", "send several")
    return [_looked_at(name, content, limits) for name, content in named]


async def _body(request: Request, limits: Limits) -> bytes:
    """Return a body.

    Raises:
        Refused: it is too large, or does not come.
    """
    declared = request.headers.get("content-length", "")
    too_large = Refused(413, f"the request is larger than {limits.bytes:,} bytes", "send fewer or smaller pictures")
    if declared.isdecimal() and int(declared) > limits.bytes:
        await drain(request, limits)
        raise too_large
    body = bytearray()
    try:
        with anyio.fail_after(limits.reading):
            async for piece in request.stream():
                body += piece
                if len(body) > limits.bytes:
                    await drain(request, limits)
                    raise too_large
    except TimeoutError as error:
        raise Refused(408, f"the request did not arrive within {limits.reading:g} s") from error
    return bytes(body)


async def _parts(request: Request, body: bytes, limits: Limits) -> list[tuple[str, bytes]]:
    """Return (name, content) of the files of a form."""

    async def once() -> AsyncIterator[bytes]:
        yield body

    try:
        parser = MultiPartParser(request.headers, once(), max_files=10 * limits.pictures)  # type: ignore[arg-type, unused-ignore]
        form = await parser.parse()
        files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
        try:
            return [(part.filename or "", await part.read()) for part in files]
        finally:
            await form.close()
    except (MultiPartException, KeyError, ValueError) as error:
        raise Refused(400, f"the form cannot be read: {getattr(error, 'message', error)}", TAKEN) from error


def _listed(body: bytes) -> list[tuple[str, bytes]]:
    """Return (name, content) of the pictures in a JSON object."""
    try:
        pictures = json.loads(body)["pictures"]
        texts = [pictures] if isinstance(pictures, str) else pictures
        return [("", base64.b64decode(_undressed(text), validate=True)) for text in texts]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        raise Refused(400, f"the JSON cannot be read: {error!r}"[:200], TAKEN) from error


def _undressed(text: str) -> str:
    """Return the base64 of a data URL, or of what is none."""
    return text.partition(",")[2] if text.startswith("data:") else text


def _looked_at(name: str, content: bytes, limits: Limits) -> Sent:
    """Return a picture by its header."""
    size = _size_of(content)
    if isinstance(size, Refused):
        return Sent(name, content, refused=size)
    width, height = size
    if width * height > limits.pixels:
        words = f"{width:,} x {height:,} pixels; more than {limits.pixels:,} are refused"
        return Sent(name, content, refused=Refused(413, words, "make it smaller"))
    return Sent(name, content, width * height)


def _size_of(content: bytes) -> tuple[int, int] | Refused:
    """Return (width, height) by a file's header, or why it has none."""
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            width, height = image.size
            return width, height
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        return Refused(413, f"far too many pixels: {error}", "make it smaller")
    except UnidentifiedImageError:
        return Refused(422, f"no picture that can be read ({len(content)} bytes)", _READ)
    except Exception as error:  # each format's reader raises as it likes at what is damaged
        return Refused(422, f"no whole picture: {error}", _READ)


def refusal_of(sent: Sequence[Sent]) -> Refused | None:
    """Return why a request is refused as a whole: where all of its pictures are, the first one's reason."""
    reasons = [each.refused for each in sent if each.refused is not None]
    return reasons[0] if len(reasons) == len(sent) else None
