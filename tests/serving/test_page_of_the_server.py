"""The page of a server in a real Chromium: by mouse, by keyboard, by paste and camera; on a phone and in the dark."""

from __future__ import annotations

import base64
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, browser
from server_kit import in_this_process
from small_run import content, picture, put, train_small

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
pytest.importorskip("starlette", reason="the extra `serve` is not installed")

from trainer.run.loading import load
from trainer.serving.limits import MB, Limits
from trainer.serving.served import Served

LOOKED_AT = os.environ.get("KEEP_PICTURES", "")  # a folder: what the screens of this file show is kept there


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that is not sure of what it answers with less than 60 %."""
    run = load(train_small(tmp_path_factory.mktemp("small")), abstain_below=0.6)
    with in_this_process(Served(run, "small", "of a test"), Limits(bytes=MB)) as url:
        yield url


@pytest.fixture(scope="module")
def chromium_page(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(chromium, tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(chromium_page: Browser, server: str, request: pytest.FixtureRequest) -> Iterator[Browser]:
    width, dark = getattr(request, "param", (1280, False))
    chromium_page.console.clear()
    chromium_page.open(server, width=width, dark=dark)
    yield chromium_page
    if LOOKED_AT:
        name = request.node.name.replace("/", "-")
        chromium_page.picture(Path(LOOKED_AT, f"{name}.png"))


SCREENS = pytest.mark.parametrize("page", [(390, False), (390, True), (1280, False), (1280, True)], indirect=True)
ANSWERED = "document.querySelectorAll('.answer:not(.waiting)').length === {}"


def answers(page: Browser, count: int) -> list[list[str]]:
    """Wait for so many answers, and return what each says, the newest first."""
    page.wait(ANSWERED.format(count))
    said = "[a.querySelector('.value').textContent, a.querySelector('.why, .warning').textContent]"
    return page.evaluate(f"[...document.querySelectorAll('.answer')].map(a => {said})")


def bring(page: Browser, event: str, name: str, files_as: str, *files: bytes) -> None:
    """Have an event bring files to the page, as a mouse or the clipboard does."""
    made = "; ".join(
        f"t.items.add(new File([Uint8Array.from(atob('{base64.b64encode(each).decode()}'), c => c.charCodeAt(0))], "
        f"'{place}.png', {{type: 'image/png'}}))"
        for place, each in enumerate(files)
    )
    brought = f"document.body.dispatchEvent(new {event}('{name}', {{bubbles: true, {files_as}: t}}))"
    page.evaluate(f"(() => {{ const t = new DataTransfer(); {made}; {brought}; }})()")


def between() -> bytes:
    """Return a picture that is neither blue nor red."""
    blend = (picture("red", 0).astype(int) + picture("blue", 0).astype(int)) // 2
    return content(blend.astype("uint8"))


@SCREENS
def test_an_answer_a_doubt_and_an_error_can_be_read_on_every_screen(page, tmp_path):
    good = put(tmp_path / "rose.png", picture("red", 3))
    odd, bad = tmp_path / "between.png", tmp_path / "notes.png"
    odd.write_bytes(between())
    bad.write_bytes(b"no picture")
    page.choose("#files", good, odd, bad)
    error, doubt, answer = answers(page, 3)
    assert answer[0] == "red"
    assert answer[1].endswith("% sure")
    assert doubt[0] == "Not sure"
    assert doubt[1].startswith("The likeliest is ")
    assert doubt[1].endswith("below 60.0\u00a0% it does not answer.")
    assert error == ["No answer", error[1]]
    assert error[1].startswith("No picture that can be read (10 bytes). JPEG, PNG, ")
    assert page.evaluate("document.querySelectorAll('.map:not([hidden]) img').length") == 2
    assert page.evaluate("document.querySelector('.map:not([hidden]) img').alt").startswith("Where it looked for ")
    page.wait("[...document.images].every(image => image.complete)")
    assert page.violations() == []
    assert page.overflow() <= 0
    assert [line for line in page.console if "422" not in line] == [], "but for the status of the error"


def test_classes_that_are_called_by_numbers_are_shown_by_their_probability(chromium_page, tmp_path):
    run = load(train_small(tmp_path))
    for names in (("7", "3"), ("3", "7")):  # an object of JavaScript has the smaller number first
        numbered = dataclasses.replace(run, class_names=names)
        with in_this_process(Served(numbered, "small", "of digits"), Limits(bytes=MB)) as url:
            chromium_page.open(url, width=1280, dark=False)
            bring(
                chromium_page,
                "DragEvent",
                "drop",
                "dataTransfer",
                content(picture("red", 4)),
                content(picture("blue", 5)),
            )
            wanted = [names[run.class_names.index(name)] for name in ("blue", "red")]
            assert [said for said, _ in answers(chromium_page, 2)] == wanted
            first = "[...document.querySelectorAll('.answer tbody tr:first-child th')].map(name => name.textContent)"
            assert chromium_page.evaluate(first) == wanted


def test_pictures_are_dropped_and_pasted(page):
    bring(page, "DragEvent", "drop", "dataTransfer", content(picture("red", 4)), content(picture("blue", 5)))
    assert [said for said, _ in answers(page, 2)] == ["blue", "red"]
    bring(page, "ClipboardEvent", "paste", "clipboardData", content(picture("red", 6)))
    assert [said for said, _ in answers(page, 3)] == ["red", "blue", "red"]
    assert page.evaluate("document.querySelector('[role=status]').textContent").startswith("red. ")


def test_the_camera_takes_a_picture_and_is_dark_afterwards_all_by_keyboard(page):
    names = []
    for _ in range(3):
        page.press("Tab")
        names.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert names == ["skip", "choose", "camera"]
    page.press("Enter")
    page.wait("document.querySelector('dialog').open && !document.getElementById('take').disabled")
    assert page.violations() == []
    page.press("Escape")
    page.wait("!document.querySelector('dialog').open && document.querySelector('video').srcObject === null")
    assert page.evaluate("document.activeElement.id") == "camera"
    page.press(" ")
    page.wait("document.querySelector('dialog').open && !document.getElementById('take').disabled")
    page.evaluate("document.getElementById('take').focus()")
    page.press("Enter")
    ((said, _),) = answers(page, 1)
    assert said in ("red", "blue", "Not sure")
    assert page.evaluate("document.querySelector('.given figcaption').textContent") == "camera.png"
    assert page.evaluate("document.querySelector('video').srcObject") is None


def test_where_a_browser_lets_no_page_look_a_phones_own_camera_takes_the_picture(page):
    """As over a network without encryption, where `navigator.mediaDevices` is missing."""
    page.evaluate("Object.defineProperty(navigator, 'mediaDevices', {value: undefined}); 0")
    page.evaluate("window.asked = 0; document.getElementById('snapshot').click = () => { window.asked += 1 }; 0")
    page.evaluate("document.getElementById('camera').click()")
    assert page.evaluate("window.asked") == 1
    assert page.evaluate("document.getElementById('snapshot').getAttribute('capture')") == "environment"
    assert not page.evaluate("document.querySelector('dialog').open")


def test_a_file_that_is_too_large_is_not_sent(page, tmp_path):
    large = tmp_path / "large.png"
    large.write_bytes(b"\xff" * 1_200_000)
    page.choose("#files", large)
    assert answers(page, 1) == [["No answer", "This file has 1.2 MB. Make it smaller."]]
    assert page.console == []


def test_a_program_finds_the_commands_with_this_servers_address(page, server):
    page.evaluate("document.querySelector('#program summary').click()")
    code = page.evaluate("document.querySelector('#program code').textContent")
    assert f"{server}/predict" in code


def test_a_server_that_is_gone_is_said_in_words(page, tmp_path):
    page.evaluate("window.fetch = () => Promise.reject(new TypeError('gone')); 0")
    page.choose("#files", put(tmp_path / "a.png", picture("red", 1)))
    assert answers(page, 1) == [["No answer", "The server does not answer. Is it still running?"]]


def test_a_server_without_room_is_asked_again(page, tmp_path):
    page.evaluate(
        "const real = window.fetch; let times = 0; window.fetch = (...given) => (times += 1) < 3 ? "
        "Promise.resolve(new Response('{}', {status: 503, headers: {'Retry-After': '0.01'}})) : real(...given); 0"
    )
    page.choose("#files", put(tmp_path / "a.png", picture("red", 1)))
    assert answers(page, 1)[0][0] == "red"
