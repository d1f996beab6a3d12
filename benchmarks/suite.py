"""Which benchmarks there are, what they ask and what they must reach."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.harness import Benchmark, Ratio, Variant

THREADS = {"step": 2, "loader": 2, "cold": 2, "gradcam": 2, "checkpoint": 2}

# glibc gives the top of the heap back to the kernel or not by what happens to lie there: 150 to 1,400 page faults a
# step, different for each variant and each process, would decide a ratio near 1.
_KEEPS_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "8589934592", "MALLOC_MMAP_THRESHOLD_": "1073741824"}
ENVIRONMENT = {"small": _KEEPS_MEMORY, "step": _KEEPS_MEMORY}


def threads_of(name: str) -> int:
    """Threads a benchmark's process starts with."""
    return THREADS.get(name, 1)


def benchmarks(name: str) -> list[Benchmark]:
    """Return the benchmarks behind a name."""
    return MAKERS[name]()


def _module_variants(name: str) -> Callable[[], Mapping[str, Variant]]:
    return importlib.import_module(f"benchmarks.{name}").variants  # type: ignore[no-any-return]


def _engine() -> list[Benchmark]:
    from benchmarks import engine

    limits = {4: 25.0, 60: 40.0}
    return [
        Benchmark(
            f"engine, {tensors} tensors",
            partial(engine.variants, tensors),
            "step",
            (Ratio("ours over a bare loop", "ours", "bare loop", "extra us", limit, at_most=True),),
            rounds=15,
        )
        for tensors, limit in limits.items()
    ]


def _small() -> list[Benchmark]:
    from benchmarks import engine

    question = Ratio("ours / a bare loop", "ours", "bare loop", "times the cost", 1.01, at_most=True)
    return [Benchmark("small network", engine.small_variants, "step", (question,), rounds=9)]


def _step() -> list[Benchmark]:
    questions = (
        Ratio("ours against the naive loop", "ours", "naive fp32 NCHW", "times faster", 4.0),
        Ratio("ours against a loop tuned by hand", "ours", "tuned by hand", "times the cost", 1.02, at_most=True),
    )
    return [Benchmark("S10 step", _module_variants("step"), "step", questions, threads=2, clock="wall")]


def _augment() -> list[Benchmark]:
    questions = (
        Ratio("ours", "ours", "", "units/s", 40_000),
        Ratio("ours against Albumentations", "ours", "albumentations", "times faster", 7.5),
    )
    return [Benchmark("S10 augmentation", _module_variants("augment"), "image", questions)]


def _loader() -> list[Benchmark]:
    module = importlib.import_module("benchmarks.loader")
    return list(module.benchmarks())


def _gradcam() -> list[Benchmark]:
    questions = (  # the strongest peer first
        Ratio("ours against captum, in a batch", "ours", "captum, in a batch", "times faster"),
        Ratio("ours against grad-cam, in a batch", "ours", "grad-cam, in a batch", "times faster"),
        Ratio("ours against grad-cam, one by one", "ours", "grad-cam, one by one", "times faster", 5.0),
    )
    return [Benchmark("GradCAM", _module_variants("gradcam"), "map", questions, threads=2, clock="wall")]


def _checkpoint() -> list[Benchmark]:
    module = importlib.import_module("benchmarks.checkpoint")
    return list(module.benchmarks())


def _cold() -> list[Benchmark]:
    questions = (
        Ratio("validate --quick over bare Python", "validate --quick", "python -c pass", "extra s", 0.35, at_most=True),
        Ratio(
            "validate --quick without a cache over the bare imports",
            "validate --quick, no cache",
            "bare imports",
            "extra s",
            2.0,
            at_most=True,
        ),
        Ratio("from command to the end of a small run", "quickstart --fast, no report", "", "seconds"),
    )
    return [Benchmark("cold start", _module_variants("cold"), "process", questions, threads=2, clock="wall")]


def _peers() -> list[Benchmark]:
    from benchmarks import peers

    found = peers.variants()
    questions = tuple(Ratio(name, name, "bare loop", "extra us") for name in found if name != "bare loop")
    return [Benchmark("peers, 4 tensors", lambda: found, "step", questions)]


MAKERS: dict[str, Callable[[], list[Benchmark]]] = {
    "engine": _engine,
    "small": _small,
    "step": _step,
    "augment": _augment,
    "loader": _loader,
    "gradcam": _gradcam,
    "checkpoint": _checkpoint,
    "cold": _cold,
    "peers": _peers,
}
