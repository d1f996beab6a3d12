"""`python -m benchmarks.serving RUN [--rate 200] [--seconds 20] [--side 32] [--term]`: a server under steady load.

Starts `serve RUN`, asks it at a fixed rate whatever it answers, each request at its own time (so that one that is slow
does not hold back the next), and prints how long answers took from the time they were due. Client and server share the
machine. With --term the server gets SIGTERM in the middle, and it is counted what became of the requests until then.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import cv2
import numpy as np

WARM = 2.0  # seconds whose answers do not count


async def _once(port: int, pool: list, body: bytes, due: float, found: list) -> None:
    """Ask once, over a connection of the pool where one is free; note (status, seconds)."""
    status = 0
    writer = None
    try:
        reader, writer = pool.pop() if pool else await asyncio.open_connection("127.0.0.1", port)
        writer.write(body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        await reader.readexactly(int(re.search(r"content-length: (\d+)", head)[1]))
        status = int(head.split()[1])
        if "connection: close" in head:
            writer.close()
        else:
            pool.append((reader, writer))
    except (OSError, asyncio.IncompleteReadError):
        status = -1 if writer is None else 0  # not let in; or let in and never answered
    found.append((status, time.perf_counter() - due))


async def _load(port: int, rate: float, seconds: float, side: int, stop: subprocess.Popen | None) -> list:
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    png = cv2.imencode(".png", image)[1].tobytes()
    lines = (f"Host: 127.0.0.1:{port}", "Content-Type: image/png", f"Content-Length: {len(png)}", "", "")
    head = "\r\n".join(("POST /predict HTTP/1.1", *lines))
    pool, found, tasks = [], [], []
    begun = time.perf_counter()
    for number in range(round(rate * seconds)):
        due = begun + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        if stop is not None and number == round(rate * seconds / 2):
            stop.send_signal(signal.SIGTERM)
        tasks.append(asyncio.ensure_future(_once(port, pool, head.encode() + png, due, found)))
    await asyncio.gather(*tasks)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--term", action="store_true")
    given = parser.parse_args()
    server = subprocess.Popen(
        [sys.executable, "-m", "trainer", "serve", given.run, "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    for line in server.stdout:
        if found := re.match(r"page +http://.*:(\d+)/", line):
            port = int(found[1])
        if line.startswith("to stop"):
            break
    if not given.term:
        asyncio.run(_load(port, given.rate, WARM, given.side, None))
    answers = asyncio.run(_load(port, given.rate, given.seconds, given.side, server if given.term else None))
    if not given.term:
        server.send_signal(signal.SIGTERM)
    rest = server.stdout.read()
    code = server.wait()
    statuses = Counter(status for status, _ in answers)
    times = np.array([seconds for status, seconds in answers if status == 200]) * 1000
    print(f"{given.rate:g} requests/s of {given.side}x{given.side} for {given.seconds:g} s: {dict(statuses)}")
    print(f"ms: p50 {np.percentile(times, 50):.1f}, p99 {np.percentile(times, 99):.1f}, longest {times.max():.1f}")
    print(f"the server ended with {code}: {rest.strip()}")
    print(f"let in and never answered: {statuses[0]}; not let in: {statuses[-1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
