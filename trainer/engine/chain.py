"""Chain of digests: what the weights were after every epoch, each link over the one before it.

    origin   what the run builds on: its recipe and its data
    link n   digest of link n-1 (of the origin), of the weights after epoch n and of that epoch's numbers

A number or a weight that is changed afterwards breaks every link from there on. A training that is repeated to the last
bit, or interrupted and resumed, ends in the same link. Knows nothing of recipes or files.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer.engine import checkpoint

SIZE = 32  # hexadecimal digits kept of a digest, 128 bits
KEYS = ("weights", "link")  # of a row in metrics.jsonl, beside its numbers
CLOCK = ("seconds",)  # of a row: what no other training repeats, and no link speaks of


@dataclass(frozen=True)
class Link:
    """What the chain says of an epoch.

    Attributes:
        weights: digest of the weights that validation saw.
        link: digest of it, of the epoch's numbers and of the link before.
    """

    weights: str
    link: str


class Chain:
    """The links of a training.

    Args:
        state: of a checkpoint to go on from; None, or that of a version without a chain, for none yet.

    Attributes:
        origin: what the run builds on, plain values, which the first link holds on to; empty until `begin`.
        links: by epoch; an epoch trained by a version without a chain has none.
    """

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self.origin: dict[str, Any] = {}
        self.links: dict[int, Link] = {}
        if state:
            self.load(state)

    def begin(self, **origin: object) -> None:
        """Hold on to what the run builds on, plain values; a chain that has begun stays as it is."""
        self.origin = self.origin or origin

    def add(self, epoch: int, weights: str, row: Mapping[str, float]) -> None:
        """Add the link of an epoch.

        Args:
            epoch: finished, from 1.
            weights: their digest.
            row: the epoch's numbers.
        """
        self.links[epoch] = Link(weights, next_link(self._before(epoch), weights, plain(epoch, row)))

    def _before(self, epoch: int) -> str:
        before = self.links.get(epoch - 1)
        return first_link(self.origin) if before is None else before.link

    def at(self, epoch: int) -> dict[str, str]:
        """Return what metrics.jsonl says of an epoch beside its numbers; empty where it has no link."""
        link = self.links.get(epoch)
        return {} if link is None else dict(zip(KEYS, (link.weights, link.link), strict=True))

    def state(self) -> dict[str, Any]:
        """Return plain values."""
        links = {str(epoch): [link.weights, link.link] for epoch, link in self.links.items()}
        return {"origin": self.origin, "links": json.dumps(links)}  # one text: cheap to copy at each checkpoint

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        self.origin = state["origin"]
        self.links = {int(epoch): Link(*link) for epoch, link in json.loads(state["links"]).items()}


def weights_digest(weights: Mapping[str, Any]) -> str:
    """Return the digest of nested state dicts: names, types, shapes and bytes."""
    return checkpoint.digest(weights)[:SIZE]


def first_link(origin: Mapping[str, object]) -> str:
    """Return what stands before the link of the first epoch."""
    return _digest(origin)


def next_link(before: str, weights: str, row: Mapping[str, Any]) -> str:
    """Return the link after `before`.

    Args:
        before: the link of the epoch before, or what the chain begins with.
        weights: digest of the weights after the epoch.
        row: the epoch's numbers, as `plain` gives them or as metrics.jsonl has them.
    """
    return _digest((before, weights, {key: value for key, value in row.items() if key not in (*KEYS, *CLOCK)}))


def plain(epoch: int, row: Mapping[str, float]) -> dict[str, float | None]:
    """Return an epoch's row as JSON can hold it: a number that is not finite is null."""
    return {**{key: value if math.isfinite(value) else None for key, value in row.items()}, "epoch": epoch}


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=SIZE // 2).hexdigest()
