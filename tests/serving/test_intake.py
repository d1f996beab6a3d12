"""What a request's JSON may be, and what is said of one that is none: in words, not in Python's."""

from __future__ import annotations

import asyncio
import base64
import json
import struct

import pytest

pytest.importorskip("starlette", reason="the extra `serve` is not installed")

from small_run import content, picture
from starlette.requests import Request

from trainer.serving.intake import Refused, Sent, pictures_of
from trainer.serving.limits import Limits

RED = content(picture("red", 1))


def read(body: bytes, kind: bytes = b"application/json") -> list[Sent]:
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive():
        return next(messages)

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind)]}
    return asyncio.run(pictures_of(Request(scope, receive), Limits(), lambda _: None))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{}", 'it has no key "pictures"'),
        (b'{"images": [], "n": 1}', 'it has no key "pictures", but "images", "n"'),
        (b"[]", "it is a list, not an object"),
        (b"null", "it is null, not an object"),
        (b"true", "it is true, not an object"),
        (b"1.5", "it is a number, not an object"),
        (b'{"pictures": {}}', '"pictures" is an object, not a list of texts in base64'),
        (b'{"pictures": null}', '"pictures" is null, not a list of texts in base64'),
        (b'{"pictures": [1]}', 'place 0 of "pictures" is a number, not a text in base64'),
        (b'{"pictures": ["", "%%%"]}', 'place 1 of "pictures" is no base64'),
        ('{"pictures": "<b\u00e4se64>"}'.encode(), 'place 0 of "pictures" is no base64'),
        (b"{'pictures'", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b"\xff\xd8\xff", "it is no text in UTF-8"),
        (b"[" * 100_000, "it is nested too deeply"),
    ],
)
def test_what_is_wrong_with_json_is_said_in_words(body, said):
    with pytest.raises(Refused) as refused:
        read(body)
    assert (refused.value.status, refused.value.message) == (400, f"the JSON cannot be read: {said}")
    assert '{"pictures": ["<base64>", ...]}' in refused.value.hint


def test_a_tiff_is_as_large_as_one_of_its_tiles():
    def tiled(side: int) -> bytes:
        tags = ((256, 10), (257, 10), (258, 8), (259, 1), (262, 1), (277, 1), (322, side), (323, side), (324, 8))
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)

    (small,), (large,) = (read(tiled(side), b"image/tiff") for side in (16, 16_000))
    assert (small.pixels, small.refused) == (256, None)
    assert large.refused is not None
    assert large.refused.message == "16,000 x 16,000 pixels; more than 50,000,000 are refused"


def test_one_text_alone_is_one_picture():
    (sent,) = read(json.dumps({"pictures": base64.b64encode(RED).decode()}).encode())
    assert sent.content == RED
