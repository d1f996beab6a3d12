"""A server under load, over real connections: ten thousand at once, and the end in the middle of steady work."""

from __future__ import annotations

import asyncio
import re
import resource
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_kit import Server
from small_run import content, picture, train_small

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
pytestmark = pytest.mark.slow  # many connections, and a server for each test

PNG = content(picture("red", 1))
NOT_LET_IN, LOST = "not let in", "let in and never answered"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("small"))


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < 11_000:
        pytest.skip("this machine allows a process no ten thousand connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def once(port: int) -> str:
    """Ask over a connection of its own; return the status, or what became of it."""
    head = f"Host: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Type: image/png\r\nContent-Length: {len(PNG)}"
    writer = None
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"POST /predict HTTP/1.1\r\n{head}\r\n\r\n".encode() + PNG)
        answer = (await reader.read()).decode("latin-1")
        found = re.match(r"HTTP/1\.1 (\d+)", answer)
        if found and found[1] == "503":
            assert re.search(r"retry-after: [1-9]", answer.lower())
        return found[1] if found else LOST
    except OSError:
        return NOT_LET_IN if writer is None else LOST
    finally:
        if writer is not None:
            writer.close()


def test_ten_thousand_connections_at_once_all_have_their_answer_and_the_server_goes_on(folder):
    async def all_at_once(port: int) -> Counter[str]:
        return Counter(await asyncio.gather(*(once(port) for _ in range(10_000))))

    with Server(folder) as server:
        statuses = asyncio.run(all_at_once(server.port))
        assert set(statuses) == {"200", "503"}, statuses
        assert statuses.total() == 10_000
        assert server.ask("/predict", PNG).status == 200
        code, _, err = server.stop()
    assert (code, err) == (0, "")


def test_no_request_that_was_let_in_is_lost_at_sigterm_in_the_middle_of_steady_work(folder):
    async def steadily(server: Server) -> Counter[str]:
        asking = []
        for number in range(600):
            if number == 300:
                server.process.send_signal(signal.SIGTERM)
            asking.append(asyncio.ensure_future(once(server.port)))
            await asyncio.sleep(1 / 200)
        return Counter(await asyncio.gather(*asking))

    with Server(folder) as server:
        statuses = asyncio.run(steadily(server))
        _, err = server.process.communicate(timeout=60)
    assert LOST not in statuses, statuses
    assert statuses["200"] >= 300
    assert (server.process.returncode, err) == (0, "")
