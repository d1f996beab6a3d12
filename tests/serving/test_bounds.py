"""What bounds a server: the queue, batches, and who is let in."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from concurrent.futures import wait

import numpy as np
import pytest
import torch
from server_kit import PNG, asked, in_this_process
from small_run import content, picture

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
pytest.importorskip("starlette", reason="the extra `serve` is not installed")

from registry.errors import DataError
from trainer.run.answering import Sureness
from trainer.serving.app import App
from trainer.serving.batching import Batcher
from trainer.serving.doors import Doors
from trainer.serving.gate import Full, Gate
from trainer.serving.limits import Limits
from trainer.serving.served import Served
from trainer.serving.server import Address


class Brightness:
    """A network that says how bright a picture is, once it may."""

    class_names = ("dark", "light")

    def __init__(self, below: float | None = None) -> None:
        self.sureness = Sureness(abstain_below=below)
        self.may = threading.Event()
        self.may.set()

    def images(self, pictures):
        if pictures == b"odd":
            raise DataError("odd", "send another")
        return [np.frombuffer(pictures, np.uint8)[-4:].reshape(2, 2, 1)]

    def probabilities(self, pictures):
        self.may.wait()
        light = torch.tensor([float(image.mean()) / 255 for image in pictures])
        return torch.stack([1 - light, light], dim=1)


RED = content(picture("red", 1))


# ------------------------------------------------------------------------------------------------------------ the queue
def test_ten_thousand_requests_at_once_are_answered_as_far_as_there_is_room_and_told_when_to_come_back():
    network = Brightness()
    network.may.clear()

    async def all_at_once() -> tuple[list, object]:
        app = App(Served(network, "bright"), Limits(waiting=100))
        asking = [asyncio.ensure_future(asked(app.starlette, "/predict", RED, PNG)) for _ in range(10_000)]
        while sum(each.done() for each in asking) < 9_900:
            await asyncio.sleep(0.01)
        network.may.set()
        answers = await asyncio.gather(*asking)
        return answers, await asked(app.starlette, "/predict", RED, PNG)

    answers, afterwards = asyncio.run(all_at_once())
    assert Counter(each.status for each in answers) == {200: 100, 503: 9_900}
    refused = next(each for each in answers if each.status == 503)
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json["error"] == "too many requests at once"
    assert afterwards.status == 200


def test_the_queue_is_bounded_in_bytes_too_but_takes_one_request_of_any_size():
    gate = Gate(Limits(waiting=10, held=100))
    with gate.visit() as one, gate.visit() as other:
        one.take(90)
        other.take(10)
        with pytest.raises(Full):
            one.take(1)
        assert gate.held == 100
    assert (gate.inside, gate.held) == (0, 0)
    with gate.visit() as alone:
        alone.take(90)
        alone.take(1_000)
        assert gate.held == 1_090


def test_a_place_is_free_again_after_an_error():
    gate = Gate(Limits(waiting=1))

    def failing():
        with gate.visit() as visit:
            visit.take(1)
            visit.enter()
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        failing()
    assert (gate.inside, gate.held) == (0, 0)


def test_who_sends_in_part_keeps_nobody_out_and_is_told_after_a_while():
    limits = Limits(waiting=2, silent=0.2)

    async def half_sent_and_whole() -> tuple[list, list]:
        app = App(Served(Brightness(), "bright"), limits)
        slow = [asyncio.ensure_future(asked(app.starlette, "/predict", RED, PNG, whole=False)) for _ in range(20)]
        await asyncio.sleep(0.02)
        return [await asked(app.starlette, "/predict", RED, PNG) for _ in range(2)], await asyncio.gather(*slow)

    whole, slow = asyncio.run(half_sent_and_whole())
    assert [each.status for each in whole] == [200, 200]
    assert {each.status for each in slow} == {408}
    assert slow[0].json["error"] == "the request did not arrive: nothing came for 0.2 s, or not all within 30 s"


@pytest.mark.parametrize("sent", [b"", b"POST /predict HTTP/1.1\r\nHost: 127."], ids=["nothing", "half of its headers"])
def test_a_connection_on_which_no_request_begins_is_closed(sent, monkeypatch):
    monkeypatch.setattr("trainer.serving.server.Protocol.waits", 0.1)
    with (
        in_this_process(Served(Brightness(), "bright"), Limits()) as url,
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=30) as connection,
    ):
        connection.sendall(sent)
        assert connection.recv(1) == b""


def test_who_finds_it_full_is_told_a_time_by_the_pace_of_late(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("trainer.serving.gate.time.monotonic", lambda: now[0])
    gate = Gate(Limits(waiting=2))
    for _ in range(10):
        with gate.visit() as visit:
            visit.enter()
            now[0] += 3.0
    with gate.visit() as one, gate.visit() as other, gate.visit() as third:
        one.enter()
        other.enter()
        with pytest.raises(Full) as full:
            third.enter()
        with pytest.raises(Full), gate.visit():
            pass
    assert full.value.seconds == 6, "two are inside, and each takes about three seconds"


# -------------------------------------------------------------------------------------------------------------- batches
def test_what_gathers_while_a_batch_is_answered_is_the_next_batch():
    may, begun, lengths = threading.Event(), threading.Event(), []

    def answer(given):
        begun.set()
        may.wait()
        return [-each for each in given]

    batcher = Batcher(answer, most=4, told=lengths.append)
    first = batcher.submit(1, 0)
    begun.wait()
    others = [batcher.submit(each, 0) for each in range(2, 9)]
    may.set()
    assert [first.result(), *(each.result() for each in others)] == [-each for each in range(1, 9)]
    assert lengths == [1, 4, 3]
    batcher.close()


def test_a_batch_is_bounded_in_pixels(monkeypatch):
    monkeypatch.setattr("trainer.serving.batching.DECODED_AT_ONCE", 100)
    may, begun, lengths = threading.Event(), threading.Event(), []

    def held(given):
        begun.set()
        may.wait()
        return given

    batcher = Batcher(held, most=64, told=lengths.append)
    futures = [batcher.submit(0, 1)]
    begun.wait()
    futures += [batcher.submit(each, 40) for each in range(5)] + [batcher.submit(9, 500)]
    may.set()
    wait(futures)
    assert lengths == [1, 2, 2, 1, 1], "one that is larger than the bound is answered alone"
    batcher.close()


def test_closing_answers_what_waits_and_an_error_or_somebody_gone_costs_only_its_own_batch():
    may, begun = threading.Event(), threading.Event()

    def answer(given):
        begun.set()
        may.wait()
        if "bad" in given:
            raise ValueError("bad")
        return given

    batcher = Batcher(answer, most=2)
    first = batcher.submit("first", 0)
    begun.wait()
    bad, gone, good = batcher.submit("bad", 0), batcher.submit("gone", 0), batcher.submit("good", 0)
    assert gone.cancel()
    last = batcher.submit("last", 0)
    may.set()
    batcher.close()
    assert (first.result(), last.result()) == ("first", "last")
    assert isinstance(bad.exception(), ValueError)
    assert isinstance(good.exception(), ValueError), "it was in the batch of the bad one"


# ------------------------------------------------------------------------------------------------------------- not sure
def test_below_its_bound_a_network_is_not_sure_and_names_no_class():
    async def both() -> list:
        app = App(Served(Brightness(below=0.8), "bright"), Limits())
        return [await asked(app.starlette, "/predict", RED[:-4] + bytes([level] * 4), PNG) for level in (140, 250)] + [
            await asked(app.starlette, "/metrics")
        ]

    unsure, sure, numbers = asyncio.run(both())
    assert (unsure.pictures[0]["answer"], unsure.pictures[0]["sure"]) == (None, False)
    assert next(iter(unsure.pictures[0]["probabilities"])) == "light"
    assert (sure.pictures[0]["answer"], sure.pictures[0]["sure"]) == ("light", True)
    assert 'trainer_pictures_total{outcome="unsure"} 1.0' in numbers.body.decode()


def test_names_that_are_no_utf_8_are_told_with_escapes():
    class Bytes(Brightness):
        class_names = ("caf\udce9", "light")

    async def told() -> object:
        app = App(Served(Bytes(), "bright"), Limits())
        return await asked(app.starlette, "/predict", RED[:-4] + bytes([9] * 4), PNG)

    answer = asyncio.run(told())
    assert (answer.status, answer.pictures[0]["answer"]) == (200, r"caf\xe9")
    assert list(answer.pictures[0]["probabilities"]) == [r"caf\xe9", "light"]


# ---------------------------------------------------------------------------------------------------------------- doors
def test_a_server_listens_where_answers_are_sent_at_once():
    """Where a socket does not name TCP, asyncio leaves Nagle's algorithm on: 40 ms an answer."""
    with Address(port=0).opened() as listening:
        assert listening.proto == socket.IPPROTO_TCP


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("lab", False)],
)
def test_only_an_address_of_this_machine_alone_needs_no_token(host, local):
    assert Address(host).is_local == local


async def _inside(scope, receive, send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"in"})


def knock(token: str, path: str = "/", stopping: bool = False, **headers: str):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return asyncio.run(asked(Doors(_inside, token, lambda: stopping, lambda path, status: None), path, headers=named))


TOKEN = "a-token-of-enough-letters"


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", "localhost"])
def test_without_a_token_this_machine_is_let_in_by_its_own_names(host):
    assert knock("", host=host).status == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8000", "[2001:db8::1]:8000"])
def test_without_a_token_no_other_name_is_let_in(host):
    assert knock("", host=host).status == 403


def test_with_a_token_who_has_it_is_let_in_whatever_the_name():
    assert knock(TOKEN, "/predict", host="lab:8000").status == 401
    refused = knock(TOKEN, "/predict", host="lab:8000", authorization="Bearer another")
    assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert knock(TOKEN, "/predict", host="lab:8000", authorization=f"Bearer {TOKEN}").body == b"in"
    assert knock(TOKEN, "/predict", host="lab:8000", cookie=f"recipe-trainer-token={TOKEN}").status == 200
    assert knock(TOKEN, "/health", host="lab:8000").status == 200, "it tells nothing of pictures"


def test_a_browser_trades_the_links_token_for_a_cookie():
    answer = knock(TOKEN, f"/?token={TOKEN}", host="lab:8000")
    assert (answer.status, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"recipe-trainer-token={TOKEN};")
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    assert knock(TOKEN, "/?token=another", host="lab:8000").status == 401
    assert knock(TOKEN, f"/predict?token={TOKEN}", host="lab:8000").status == 401, "a link asks for the page alone"


def test_another_page_may_not_ask_even_with_the_cookie():
    answer = knock(TOKEN, host="lab:8000", origin="http://evil.example", cookie=f"recipe-trainer-token={TOKEN}")
    assert answer.status == 403


def test_while_it_stops_every_answer_ends_its_connection():
    assert "connection" not in knock("", host="localhost").headers
    assert knock("", stopping=True, host="localhost").headers["connection"] == "close"


def test_markup_in_the_names_of_a_run_and_its_classes_is_text_on_the_page():
    from trainer.serving.page import Page

    network = Brightness()
    network.class_names = ("<b>dark", "<script>alert(1)</script>")
    html = Page.of(Served(network, "<i>bright"), Limits(), guarded=False).html
    assert not [each for each in ("<b>dark", "<script>alert(1)", "<i>bright") if each in html]
    assert all(each in html for each in ("&lt;b&gt;dark", "&lt;script&gt;alert(1)", "&lt;i&gt;bright"))
