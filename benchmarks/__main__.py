"""`python -m benchmarks [name ...] [--json FILE]`: measure, print a table, keep the figures."""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

NAMES = ("engine", "small", "step", "augment", "loader", "gradcam", "checkpoint", "cold", "peers")


def main(arguments: list[str]) -> int:
    """Run the named benchmarks, each in a process of its own so that threads and caches start alike."""
    if "--help" in arguments or "-h" in arguments:
        print(f"{__doc__}\n\nnames: {', '.join(NAMES)}; all of them without one, in about eight minutes")
        return 0
    as_json = arguments[arguments.index("--json") + 1] if "--json" in arguments else None
    alone = "--alone" in arguments
    names = [word for word in arguments if not word.startswith("--") and word != as_json] or list(NAMES)
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"no benchmark named {unknown[0]!r}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    if alone:
        return _one(names[0], as_json)
    results = []
    for name in names:
        results += _in_a_process(name)
    if as_json:
        Path(as_json).write_text(json.dumps({"machine": machine(), "results": results}, indent=1), encoding="utf-8")
    return 0


def machine() -> dict[str, Any]:
    """Return what the figures belong to."""
    import torch

    from trainer.run.environment import describe_environment

    return describe_environment(torch.device("cpu"), "", sys.argv) | {"date": time.strftime("%Y-%m-%d")}


def _in_a_process(name: str) -> list[dict[str, Any]]:
    import subprocess
    import tempfile

    from benchmarks.suite import ENVIRONMENT, threads_of

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        threads = str(threads_of(name))
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            **ENVIRONMENT.get(name, {}),
        }
        command = [sys.executable, "-m", "benchmarks", name, "--alone", "--json", str(file)]
        code = subprocess.run(command, env=environment, check=False).returncode
        if code:
            print(f"{name}: failed with exit code {code}", file=sys.stderr)
            return []
        return list(json.loads(file.read_text(encoding="utf-8")))


def _one(name: str, as_json: str | None) -> int:
    from benchmarks.harness import answer, load, measure

    suite = importlib.import_module("benchmarks.suite")
    results = []
    for benchmark in suite.benchmarks(name):
        before = load()
        measured = measure(benchmark)
        answers = [answer(ratio, measured) for ratio in benchmark.ratios]
        _print(benchmark, measured, answers, before, load())
        results.append(
            {
                "benchmark": benchmark.name,
                "unit": benchmark.unit,
                "threads": benchmark.threads,
                "clock": benchmark.clock,
                "seconds_per_unit": measured.seconds,
                "answers": answers,
                "load": [before, load()],
                "python": platform.python_version(),
            }
        )
    if as_json:
        Path(as_json).write_text(json.dumps(results), encoding="utf-8")
    return 0


def _print(benchmark: Any, measured: Any, answers: list[dict[str, Any]], before: float, after: float) -> None:
    threads = f"{benchmark.threads} thread{'s' if benchmark.threads > 1 else ''}"
    print(
        f"\n{benchmark.name}  ({benchmark.clock} time, {threads}, {benchmark.rounds} rounds, load {before} -> {after})"
    )
    for name in measured.seconds:
        median, spread = measured.median(name), measured.spread(name)
        speed = f"{1 / median:>12,.1f} {benchmark.unit}s/s"
        print(f"  {name:<34} {1e6 * median:>14,.1f} us/{benchmark.unit}  {speed}  +- {spread:.0%}")
    for each in answers:
        target = ""
        if each["target"] is not None:
            target = f"   target {'<=' if each['at_most'] else '>='} {each['target']:g}: {each['verdict']}"
        print(f"  -> {each['text']}: {each['value']:,.3f} {each['kind']}{target}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
