"""`python -m benchmarks.gpu DATA [--minutes 8]`: what one GPU gives, and several, within the time.

Seconds per S10 epoch at batch 128 and 512, eager and compiled; augmentation images/s; the engine against a bare loop
on the same batches; whether an epoch waits for the device; an epoch on 2, 3, ... GPUs; then as many epochs of
`cifar10_resnet18.yaml` as the time allows, with the accuracy of each. DATA holds cifar-10-batches-py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from trainer.engine.interrupts import Interrupts
from trainer.experiment.experiment import Experiment
from trainer.recipe.load import load_recipe
from trainer.recipe.problems import render
from trainer.run.recorder import Recorder
from trainer.stages.fit import fit

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "recipes" / "cifar10_resnet18.yaml"
COMMON = ("lr_finder=null", "optimizer.lr=0.01", "callbacks=[]", "report=[]")
SHARE_OF_MEASUREMENTS = 0.6  # of the time; the rest trains the recipe


def main(arguments: Sequence[str]) -> int:
    """Measure and print; exit 2 without a GPU."""
    if not torch.cuda.is_available():
        print("no GPU here: torch.cuda.is_available() is False", file=sys.stderr)
        return 2
    data = next((word for word in arguments if not word.startswith("--")), "data")
    minutes = float(arguments[arguments.index("--minutes") + 1]) if "--minutes" in arguments else 8.0
    end = time.monotonic() + 60 * minutes
    rows: dict[str, str] = {"device": torch.cuda.get_device_name()}
    measurements: list[tuple[str, Callable[[], str]]] = [
        ("augmentation", lambda: _augmentation(data)),
        *[
            (
                f"epoch, batch {size}, {'compiled' if compiled else 'eager'}",
                lambda s=size, c=compiled: _epoch(data, s, c),
            )
            for size in (128, 512)
            for compiled in (False, True)
        ],
        ("engine / bare loop, batch 512", lambda: _engine_ratio(data)),
        ("an epoch without waiting for the device", lambda: _syncs(data)),
        *[
            (f"epoch, batch 512, {count} GPUs", lambda n=count: _on_several(data, n))
            for count in range(2, torch.cuda.device_count() + 1)
        ],
    ]
    for name, measure in measurements:
        if time.monotonic() > end - 60 * minutes * (1 - SHARE_OF_MEASUREMENTS):
            rows[name] = "not measured: out of time"
            continue
        try:
            rows[name] = measure()
        except Exception as error:  # one figure that fails must not cost the others
            rows[name] = f"failed: {type(error).__name__}: {error}"
        print(f"{name}: {rows[name]}", flush=True)
    rows["accuracy by epoch"] = _train(data, max(end - time.monotonic(), 0) / 60)
    width = max(map(len, rows))
    print("\n" + "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items()))
    print(json.dumps(rows))
    return 0


def _experiment(data: str, *overrides: str) -> Experiment:
    loaded = load_recipe(RECIPE, [f"data.dataset.root={data}", *COMMON, *overrides])
    assert loaded.recipe is not None, render(loaded.problems)
    assert loaded.catalogue is not None
    return Experiment.from_recipe(loaded.recipe, loaded.catalogue, log=lambda _: None)


def _fit(experiment: Experiment) -> list[float]:
    """Train and return the seconds of every epoch."""
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder([], lambda _: None)
        result = fit(experiment, [], recorder, Interrupts(), Path(folder), {}, state=None, log=print)
    return [row["seconds"] for row in result.progress.history]


def _epoch(data: str, size: int, compiled: bool) -> str:
    overrides = [f"data.batch_size={size}", "train.epochs=4", f"train.compile={str(compiled).lower()}"]
    seconds = _fit(_experiment(data, *overrides, f"data.drop_last={str(compiled).lower()}"))
    return f"{min(seconds[1:]):.3f} s with validation (first {seconds[0]:.1f} s)"


def _on_several(data: str, count: int) -> str:
    """Train by the command line, one process per GPU."""
    options = ["data.batch_size=512", "train.epochs=4", f"data.dataset.root={Path(data).resolve()}", *COMMON]
    words = [sys.executable, "-m", "trainer", str(RECIPE), *options, "--processes", str(count)]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(words, cwd=folder, env=environment, check=True, capture_output=True)
        (metrics,) = Path(folder).glob("runs/*/*/metrics.jsonl")
        seconds = [json.loads(line)["seconds"] for line in metrics.read_text(encoding="utf-8").splitlines()]
    return f"{min(seconds[1:]):.3f} s with validation (first {seconds[0]:.1f} s)"


def _augmentation(data: str) -> str:
    experiment = _experiment(data)
    part, pipeline = experiment.data.train, experiment.train_pipeline
    images = part.store.images[:16384].cuda()
    indices = torch.arange(len(images), device="cuda")
    for epoch in range(3):
        pipeline.apply(images.clone(), epoch=epoch, indices=indices)
    torch.cuda.synchronize()
    started, rounds = time.perf_counter(), 10
    for epoch in range(rounds):
        pipeline.apply(images.clone(), epoch=epoch, indices=indices)
    torch.cuda.synchronize()
    return f"{rounds * len(images) / (time.perf_counter() - started):,.0f} images/s"


def _engine_ratio(data: str) -> str:
    experiment = _experiment(data, "data.batch_size=512", "train.epochs=4", "regularizers=[]")
    ours = min(_fit(experiment)[1:])
    model, optimizer = experiment.model, experiment.optimizer()
    times = []
    for epoch in range(3):
        torch.cuda.synchronize()
        started = time.perf_counter()
        model.train()
        for batch in experiment.batches("train").epoch(epoch):
            with experiment.precision().autocast():
                logits = model(batch.images)
            torch.nn.functional.cross_entropy(logits.float(), batch.targets).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        model.eval()
        with torch.inference_mode():
            for batch in experiment.batches("val").epoch(0):
                with experiment.precision().autocast():
                    model(batch.images)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return f"{ours / min(times[1:]):.3f} ({ours:.3f} s / {min(times[1:]):.3f} s)"


def _syncs(data: str) -> str:
    """One epoch of steps with waiting made an error, after one that warms up."""
    experiment = _experiment(data, "data.batch_size=512")
    step = experiment.step(experiment.optimizer())
    for epoch in (1, 2):
        batches = experiment.batches("train").epoch(epoch)
        torch.cuda.set_sync_debug_mode("error" if epoch == 2 else "default")
        try:
            for batch in batches:
                step([batch])
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return "none waited"


def _train(data: str, minutes: float) -> str:
    if minutes < 0.5:
        return "not run: out of time"
    loaded = load_recipe(RECIPE, [f"data.dataset.root={data}", f"train.max_minutes={0.9 * minutes:.2f}", *COMMON])
    assert loaded.recipe is not None
    assert loaded.catalogue is not None
    experiment = Experiment.from_recipe(loaded.recipe, loaded.catalogue, log=lambda _: None)
    with tempfile.TemporaryDirectory() as folder:
        result = fit(experiment, [], Recorder([], print), Interrupts(), Path(folder), {}, state=None, log=print)
    return " ".join(f"{100 * row['val/accuracy']:.2f}" for row in result.progress.history)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
