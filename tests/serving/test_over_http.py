"""`serve` as its users have it: one process, real requests, every answer and every refusal."""

from __future__ import annotations

import base64
import json
import re
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from server_kit import PNG, Server, form_of
from small_run import CLASSES, content, picture, train_small

import trainer
from trainer.run.loading import LoadedRun

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
pytest.importorskip("starlette", reason="the extra `serve` is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def run(folder: Path) -> LoadedRun:
    return trainer.load(folder)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """One server for all requests, which the last of them ends."""
    with Server(folder, "--port", "0", "--max-mb", "1", "--max-megapixels", "2") as running:
        yield running


NO_FILE = b'--edge\r\nContent-Disposition: form-data; name="word"\r\n\r\nhello\r\n--edge--\r\n'
RED, BLUE = content(picture("red", 50)), content(picture("blue", 51), ".jpg")


def number(text: str, name: str) -> float:
    """Return a number of /metrics."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(line.rpartition(" ")[2])


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes that says it has so many pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


# -------------------------------------------------------------------------------------------------------------- answers
def test_one_picture_is_answered_as_the_run_itself_answers_it(server, run):
    (told,) = server.ask("/predict?top=2", RED).pictures
    (expected,) = run.predict(picture("red", 50), top=2)
    assert (told["answer"], told["sure"], told["name"]) == ("red", True, "")
    assert list(told["probabilities"].items()) == [(name, pytest.approx(p, abs=1e-5)) for name, p in expected]
    assert "map" not in told


def test_several_pictures_come_as_a_form_with_their_names_or_as_json(server):
    body, headers = form_of(("my red.png", RED), ("b.jpg", BLUE))
    form = server.ask("/predict", body, headers).pictures
    assert [(each["name"], each["answer"]) for each in form] == [("my red.png", "red"), ("b.jpg", "blue")]
    texts = [base64.b64encode(RED).decode(), f"data:image/jpeg;base64,{base64.b64encode(BLUE).decode()}"]
    listed = server.ask("/predict", json.dumps({"pictures": texts}).encode(), {"Content-Type": "application/json"})
    assert [each["probabilities"] for each in listed.pictures] == [each["probabilities"] for each in form]


def test_a_run_says_where_it_looked_when_asked(server):
    (told,) = server.ask("/predict?explain=1", BLUE, {"Content-Type": "image/jpeg"}).pictures
    head, _, text = told["map"]["png"].partition(",")
    png = cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_COLOR)
    assert head == "data:image/png;base64"
    assert png.shape == (336, 336, 3)
    assert (told["map"]["class"], told["map"]["layer"]) == ("blue", "layer2.2")


def test_pictures_of_any_kind_and_size_are_taken(server):
    for ending in (".png", ".jpg", ".webp", ".bmp", ".tiff", ".gif"):
        (told,) = server.ask("/predict", content(picture("red", 7, 300, 17), ending)).pictures
        assert told["answer"] == "red", ending


def test_many_at_once_are_answered_each_its_own(server, run):
    pictures = [picture(CLASSES[seed % 2], 100 + seed) for seed in range(40)]
    expected = [answers[0] for answers in run.predict(pictures, top=1)]
    found: dict[int, object] = {}

    def ask(place: int) -> None:
        found[place] = server.ask("/predict?top=1", content(pictures[place])).pictures[0]["probabilities"]

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(pictures))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[place] for place in range(40)] == [{name: pytest.approx(p, abs=1e-5)} for name, p in expected]


# ------------------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("body", "kind", "status", "said"),
    [
        (b"no picture", "image/png", 422, "no picture that can be read (10 bytes)"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", 422, "no picture that can be read"),
        (RED[:80], "image/png", 422, "the picture is damaged, cut short, or not an image"),
        (content(picture("red", 1, 9, 9)), "image/png", 422, "CenterCrop cannot transform an image of shape (9, 9, 3)"),
        (bomb(60_000, 60_000), "image/png", 413, "far too many pixels"),
        (bomb(1_500, 1_500), "image/png", 413, "1,500 x 1,500 pixels; more than 2,000,000 are refused"),
        (RED, "text/html", 415, "the content type text/html is not taken"),
        (RED, "", 415, "there is no Content-Type"),
        (RED, "application/x-www-form-urlencoded", 415, "is not taken"),
        (b"", "image/png", 400, "the body is empty"),
        (RED, "multipart/form-data", 400, "the form cannot be read: Missing boundary"),
        (RED, "multipart/form-data; boundary=edge", 400, "the form cannot be read"),
        (NO_FILE, "multipart/form-data; boundary=edge", 400, "there is no picture in it"),
        (b'{"pictures": []}', "application/json", 400, "there is no picture in it"),
        (b'{"pictures": [""], "top": 1}', "application/json", 400, '"top" beside "pictures" is read by nobody'),
        (b"[" * 100_000, "application/json", 400, "the JSON cannot be read"),
        (b"\xff" * 1_000_001, "image/png", 413, "the request is larger than 1,000,000 bytes"),
    ],
)  # fmt: skip
def test_what_is_no_picture_or_too_much_is_refused_in_words(server, body, kind, status, said):
    answer = server.ask("/predict", body, {"Content-Type": kind} if kind else {})
    assert (answer.status, said in answer.json["error"]) == (status, True), answer.body
    assert "hint" in answer.json
    assert answer.headers["content-type"] == "application/json"


def test_a_body_without_a_length_is_cut_off_where_it_becomes_too_large(server):
    answer = server.ask("/predict", iter([b"\xff" * 300_000] * 4), PNG)
    assert (answer.status, answer.json["error"]) == (413, "the request is larger than 1,000,000 bytes")


def test_of_several_pictures_those_that_are_none_are_told_and_the_others_answered(server):
    body, headers = form_of(("a.png", RED), ("b.png", b"no picture"), ("c.png", bomb(60_000, 60_000)), ("d.jpg", BLUE))
    a, b, c, d = server.ask("/predict", body, headers).pictures
    assert (a["answer"], d["answer"]) == ("red", "blue")
    assert b == {"name": "b.png", "error": "no picture that can be read (10 bytes)", "hint": b["hint"]}
    assert c["error"].startswith("far too many pixels")


def test_a_request_has_a_number_of_pictures(server):
    body, headers = form_of(*[(f"{place}.png", RED) for place in range(65)])
    answer = server.ask("/predict", body, headers)
    assert (answer.status, answer.json["error"]) == (413, "65 pictures in one request, at most 64 are taken")


@pytest.mark.parametrize("query", ["top=many", "top=-1", "top=0", "explain=yes", "top=1234567"])
def test_a_query_that_is_no_number_is_refused(server, query):
    answer = server.ask(f"/predict?{query}", RED)
    assert (answer.status, "is a whole number" in answer.json["error"]) == (400, True)


def test_other_paths_and_methods_are_answered_in_words(server):
    assert (server.ask("/nowhere").status, server.ask("/predict").status) == (404, 405)
    assert server.ask("/predict").json["hint"] == "POST /predict takes pictures"
    assert server.ask("/", RED).status == 405


# --------------------------------------------------------------------------------------------------- health and numbers
def test_health_says_what_answers(server, folder):
    answer = server.ask("/health")
    assert (answer.status, answer.json) == (200, {"status": "ok", "model": f"small {folder.name}", "classes": 2})


def test_the_numbers_count_what_was_asked_in_the_form_of_prometheus(server):
    before = server.ask("/metrics").body.decode()
    server.ask("/predict", RED)
    server.ask("/predict", b"no picture")
    server.ask("/", headers={"origin": "http://evil.example"})
    server.ask("/no/such/path")
    body, headers = form_of(("a.png", RED), ("b.png", b"no picture"))
    server.ask("/predict", body, headers)
    answer = server.ask("/metrics")
    after = answer.body.decode()
    assert answer.headers["content-type"].startswith("text/plain; version=")
    for name, more in (
        ('trainer_requests_total{path="/predict",status="200"}', 2),
        ('trainer_requests_total{path="/predict",status="422"}', 1),
        ('trainer_requests_total{path="/",status="403"}', 1),
        ('trainer_requests_total{path="other",status="404"}', 1),
        ('trainer_pictures_total{outcome="answered"}', 2),
        ('trainer_pictures_total{outcome="refused"}', 2),
        ("trainer_request_seconds_count", 3),
        ("trainer_batch_pictures_sum", 2),
    ):
        assert number(after, name) - (number(before, name) if f"\n{name} " in before else 0) == more, name
    assert number(after, "trainer_requests_inside") == 0
    assert 'trainer_model_info{classes="2",model="small ' in after


def test_the_page_is_there_and_lets_nothing_else_run(server):
    answer = server.ask("/")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(rule.strip().split(" ", 1) for rule in answer.headers["content-security-policy"].split(";"))
    assert all(re.fullmatch(r"'sha256-[\w+/]+=*'", policy.pop(each)) for each in ("script-src", "style-src"))
    nothing = ("default-src", "base-uri", "form-action", "frame-ancestors")
    here = {"img-src": "blob: data:", "media-src": "blob: mediastream:", "connect-src": "'self'"}
    assert policy == {**dict.fromkeys(nothing, "'none'"), **here}
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert b"http://" not in answer.body.replace(b"http://www.w3.org/2000/svg", b"")


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Host": "128.0.0.1:80"}, "this server is not called 128.0.0.1:80"),
        ({"Host": "127.0.0.1.evil.example:80"}, "this server is not called 127.0.0.1.evil.example:80"),
        ({"Host": "evil.example:80"}, "this server is not called evil.example:80"),
        ({"Origin": "https://evil.example"}, "a page of https://evil.example may not ask"),
        ({"Origin": "null"}, "a page of null may not ask"),
    ],
)
def test_a_page_of_somebody_elses_in_a_browser_here_may_not_ask(server, headers, said):
    answer = server.ask("/predict", RED, {**PNG, **headers})
    assert (answer.status, answer.json["error"]) == (403, said)
    assert server.ask("/predict", RED, {**PNG, "Origin": f"http://127.0.0.1:{server.port}"}).status == 200


@pytest.mark.parametrize("host", ["127.0.0.2:80", "LOCALHOST:80", "[::1]:80", "localhost"])
def test_every_name_of_this_machine_to_itself_is_let_in(server, host):
    assert server.ask("/predict", RED, {**PNG, "Host": host}).status == 200


# ------------------------------------------------------------------------------------------------------------- the end
def test_at_sigterm_all_that_has_come_is_answered_and_it_ends_with_0(server):
    """The last test of the file: the server is gone afterwards."""
    body, headers = form_of(*[(f"{place}.png", RED) for place in range(8)])
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(server.ask("/predict?explain=1", body, headers).status)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    while number(server.ask("/metrics").body.decode(), "trainer_requests_inside") < 8 and not statuses:
        time.sleep(0.005)
    code, said, err = server.stop()
    for thread in threads:
        thread.join()
    assert (statuses, code, err) == ([200] * 8, 0, "")
    assert "requests for predictions were answered" in said
    with pytest.raises(ConnectionRefusedError):
        server.ask("/health")
