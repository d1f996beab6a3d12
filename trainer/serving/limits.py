"""What a server takes, and how much of it at once."""

from __future__ import annotations

from dataclasses import dataclass

from registry.datasets.decoding import MAX_PIXELS

MB = 1_000_000


@dataclass(frozen=True)
class Limits:
    """Bounds within which a server answers; what is beyond them is refused before it costs anything.

    Attributes:
        bytes: of a request.
        pixels: of a picture, by its header.
        pictures: of a request.
        waiting: requests that wait for an answer at a time; further ones are told to come back (503).
        held: bytes of all those requests together, and of those on their way.
        batch: pictures that pass through the network together.
        reading: seconds that a request may take to arrive.
        silent: seconds for which nothing of it may come.
    """

    bytes: int = 20 * MB
    pixels: int = 50 * MB
    pictures: int = 64
    waiting: int = 256
    held: int = 256 * MB
    batch: int = 64
    reading: float = 30.0
    silent: float = 5.0

    def __post_init__(self) -> None:
        assert self.pixels <= MAX_PIXELS, "what decodes pictures refuses them"
