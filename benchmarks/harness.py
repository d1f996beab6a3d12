"""How things are timed: variants in turn, medians over rounds with spread and load, no verdict when noisy."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

NOISY = 0.10  # spread above which a ratio is no verdict
Variant = Callable[[], int]  # does its work once and returns how many units went through


@dataclass(frozen=True)
class Ratio:
    """A question that a benchmark answers.

    Attributes:
        text: what is compared.
        of: variant.
        to: variant it is held against.
        kind: "times faster" (to / of), "times the cost" (of / to), "extra us" (of - to, microseconds per unit),
            "extra s" (of - to, seconds per unit), "units/s" (of alone).
        target: number to reach; None where there is none.
        at_most: the target is an upper limit.
    """

    text: str
    of: str
    to: str
    kind: Literal["times faster", "times the cost", "extra us", "extra s", "units/s", "seconds"]
    target: float | None = None
    at_most: bool = False


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: what is run and asked.

    Attributes:
        name: on the command line.
        variants: makes the variants.
        unit: what a variant counts.
        ratios: questions.
        threads: torch and OpenMP threads.
        clock: "cpu" for one thread (robust against neighbours), "wall" otherwise.
        rounds: timed rounds.
    """

    name: str
    variants: Callable[[], Mapping[str, Variant]]
    unit: str
    ratios: tuple[Ratio, ...]
    threads: int = 1
    clock: Literal["cpu", "wall"] = "cpu"
    rounds: int = 5


@dataclass
class Measured:
    """Seconds per unit of each variant, one per round."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, name: str) -> float:
        """Median seconds per unit."""
        return statistics.median(self.seconds[name])

    def spread(self, name: str) -> float:
        """Half the range between the quartiles, as a share of the median."""
        low, _, high = statistics.quantiles(self.seconds[name], n=4)
        return (high - low) / 2 / self.median(name)


def measure(benchmark: Benchmark) -> Measured:
    """Run the variants in turn, once to warm up and then `rounds` times."""
    import torch

    torch.set_num_threads(benchmark.threads)
    variants = benchmark.variants()
    for run in variants.values():
        run()
    clock = time.process_time if benchmark.clock == "cpu" else time.perf_counter
    measured = Measured({name: [] for name in variants})
    for _ in range(benchmark.rounds):
        for name, run in variants.items():
            gc.collect()
            started = clock()
            units = run()
            measured.seconds[name].append((clock() - started) / units)
    return measured


def answer(ratio: Ratio, measured: Measured) -> dict[str, Any]:
    """Return the ratio, round by round where two variants are compared, with its spread and verdict."""
    ours, other = measured.seconds[ratio.of], measured.seconds.get(ratio.to, [])
    if ratio.kind == "times faster":
        values = [b / a for a, b in zip(ours, other, strict=True)]
    elif ratio.kind == "times the cost":
        values = [a / b for a, b in zip(ours, other, strict=True)]
    elif ratio.kind in ("extra us", "extra s"):
        scale = 1e6 if ratio.kind == "extra us" else 1.0
        values = [scale * (a - b) for a, b in zip(ours, other, strict=True)]
    else:
        values = [1 / a if ratio.kind == "units/s" else a for a in ours]
    value = statistics.median(values)
    noisy = any(measured.spread(name) > NOISY for name in (ratio.of, ratio.to) if name in measured.seconds)
    verdict = ""
    if ratio.target is not None:
        reached = value <= ratio.target if ratio.at_most else value >= ratio.target
        verdict = "no verdict: noisy" if noisy else "reached" if reached else "missed"
    return {**asdict(ratio), "value": value, "worst": max(values), "best": min(values), "verdict": verdict}


def load() -> float:
    """Load average over the last minute."""
    return round(os.getloadavg()[0], 2)
