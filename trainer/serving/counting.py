"""What a server counts, in the form that Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

FORM = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_PICTURES = (1, 2, 4, 8, 16, 32, 64)


class Counts:
    """The numbers of one server.

    Args:
        model: what answers; its name stands in `trainer_model_info`.
        classes: how many it tells apart.
        inside: tells how many requests have come whole and wait for their answer.
        waiting: tells how many pictures wait for their batch.
    """

    def __init__(self, model: str, classes: int, inside: Callable[[], int], waiting: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "trainer_requests", "Requests by path and status.", ("path", "status"), registry=registry
        )
        self.seconds = Histogram(
            "trainer_request_seconds", "Seconds from a prediction's first byte to its answer.", (), registry=registry,
            buckets=_SECONDS,
        )  # fmt: skip
        self.pictures = Counter(
            "trainer_pictures", "Pictures by outcome: answered, unsure, refused.", ("outcome",), registry=registry
        )
        self.batches = Histogram(
            "trainer_batch_pictures", "Pictures that passed through the network together.", (), registry=registry,
            buckets=_PICTURES,
        )  # fmt: skip
        for outcome in ("answered", "unsure", "refused"):
            self.pictures.labels(outcome)
        Gauge(
            "trainer_requests_inside", "Requests that have come whole and wait for their answer.", registry=registry
        ).set_function(inside)
        Gauge("trainer_pictures_waiting", "Pictures that wait for their batch.", registry=registry).set_function(
            waiting
        )
        info = Gauge("trainer_model_info", "What answers; always 1.", ("model", "classes"), registry=registry)
        info.labels(model, str(classes)).set(1)

    def text(self) -> bytes:
        """Return all of them."""
        text: bytes = generate_latest(self._registry)
        return text
