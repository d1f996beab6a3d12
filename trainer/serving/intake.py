"""From the body of a request to pictures, within limits: one as it is, several as a form or as JSON.

Nothing is decoded here. A picture's header tells its size before its pixels take any memory, so a file of a few bytes
that would fill it (a picture bomb) is refused by what it says of itself; one that does not say so, by bombs.py.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
from collections.abc import AsyncIterator, Callable, Sequence
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
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # TIFF's tags
_READ = f"{', '.join(_FORMATS[:-1])} and {_FORMATS[-1]} are read"

Taking = Callable[[int], None]


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


async def drain(request: Request, limits: Limits) -> None:
    """Read what is still to come of a body and drop it, as far as that is reasonable."""
    left = _DRAINED * limits.bytes
    with anyio.move_on_after(limits.reading), contextlib.suppress(RuntimeError):  # Starlette's, where all has come
        async for piece in request.stream():
            left -= len(piece)
            if left < 0:
                return


async def pictures_of(request: Request, limits: Limits, take: Taking) -> list[Sent]:
    """Return the pictures of a request, those that are too large or none marked as refused.

    Args:
        request: that brings them.
        limits: within which it is taken.
        take: told of the length of each piece that comes; raises `Full` where there is no room.

    Raises:
        Refused: there is none, or more than is taken, or nobody can tell what it is.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (kind in (FORM, JSON, *_RAW) or kind.startswith("image/")):
        await drain(request, limits)
        raise Refused(415, f"the content type {kind} is not taken" if kind else "there is no Content-Type", TAKEN)
    body = await _body(request, limits, take)
    if not body:
        raise Refused(400, "the body is empty", TAKEN)
    named = await _parts(request, body, limits) if kind == FORM else _listed(body) if kind == JSON else [("", body)]
    if not named:
        raise Refused(400, "there is no picture in it", TAKEN)
    if len(named) > limits.pictures:
        raise Refused(413, f"{len(named)} pictures in one request, at most {limits.pictures} are taken", "send several")
    return [_looked_at(name, content, limits) for name, content in named]


async def _body(request: Request, limits: Limits, take: Taking) -> bytes:
    """Return a body.

    Raises:
        Refused: it is too large, or does not come.
        Full: there is no room for it.
    """
    declared = request.headers.get("content-length", "")
    too_large = declared.isdecimal() and int(declared) > limits.bytes
    body = b"" if too_large else await _arrived(request, limits, take)
    if too_large or len(body) > limits.bytes:
        await drain(request, limits)
        raise Refused(413, f"the request is larger than {limits.bytes:,} bytes", "send fewer or smaller pictures")
    return body


async def _arrived(request: Request, limits: Limits, take: Taking) -> bytes:
    """Return what comes of a body, up to the piece with which it becomes too large."""
    body = bytearray()
    try:
        with anyio.fail_after(limits.silent) as patience:
            end = anyio.current_time() + limits.reading
            async for piece in request.stream():
                take(len(piece))
                body += piece
                if len(body) > limits.bytes:
                    break
                patience.deadline = min(end, anyio.current_time() + limits.silent)
    except TimeoutError as error:
        raise Refused(
            408,
            f"the request did not arrive: nothing came for {limits.silent:g} s, or not all within {limits.reading:g} s",
            "send it again, or a smaller picture",
        ) from error
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
        why = error.message if isinstance(error, MultiPartException) else "its parts are not well formed"
        raise Refused(400, f"the form cannot be read: {why}", TAKEN) from error


def _listed(body: bytes) -> list[tuple[str, bytes]]:
    """Return (name, content) of the pictures in a JSON object; a text alone is one picture."""
    try:
        told = json.loads(body)
    except RecursionError as error:
        raise _no_json("it is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise _no_json("it is no text in UTF-8") from error
    except ValueError as error:
        raise _no_json(str(error)[:100]) from error
    if not isinstance(told, dict):
        raise _no_json(f"it is {_kind(told)}, not an object")
    if "pictures" not in told:
        there = ", but " + ", ".join(json.dumps(key[:40]) for key in list(told)[:5]) if told else ""
        raise _no_json(f'it has no key "pictures"{there}')
    if others := [key for key in told if key != "pictures"]:
        named = ", ".join(json.dumps(key[:40]) for key in others[:5])
        raise Refused(
            400, f'{named} beside "pictures" is read by nobody', "options stand in the address: ?top=3&explain=1"
        )
    pictures = [told["pictures"]] if isinstance(told["pictures"], str) else told["pictures"]
    if not isinstance(pictures, list):
        raise _no_json(f'"pictures" is {_kind(pictures)}, not a list of texts in base64')
    return [("", _unpacked(text, place)) for place, text in enumerate(pictures)]


def _unpacked(text: object, place: int) -> bytes:
    """Return the content of a picture in base64."""
    if not isinstance(text, str):
        raise _no_json(f'place {place} of "pictures" is {_kind(text)}, not a text in base64')
    try:
        return base64.b64decode(_undressed(text), validate=True)
    except ValueError as error:  # letters that are none of it, or too few
        raise _no_json(f'place {place} of "pictures" is no base64') from error


def _no_json(why: str) -> Refused:
    return Refused(400, f"the JSON cannot be read: {why}", TAKEN)


def _kind(value: object) -> str:
    """Say in JSON's own words what a value is."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    kinds: tuple[tuple[type, str], ...] = ((dict, "an object"), (list, "a list"), (str, "a text"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "a number")


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
            tags = getattr(image, "tag_v2", {})  # a TIFF's; what decodes it has room for one of its tiles, of any size
            width, height = image.size
            return max(width, int(tags.get(_TILE_WIDTH, 0))), max(height, int(tags.get(_TILE_LENGTH, 0)))
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
