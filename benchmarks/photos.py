"""`python -m benchmarks.photos [PART ...] [--rounds N]`: photos from files to batches, beside DataLoader.

    small     mixed sizes about 500x375: a first epoch, opening included, and a second one
    large     six megapixels: the same with reduced decoding, beside the decoding alone
    frozen    steps of a frozen ResNet18 with a new head, features kept and not

Photos are generated (JPEG, as large as a camera's). Every variant runs in a process of its own, in turn, `--rounds`
times; clocks start when everything is imported. Times are wall seconds; CPU seconds are of the process and its workers.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from registry.threads import share_cores

BATCH = 64
SMALL = (960, ((375, 500), (500, 375), (333, 500), (500, 333), (400, 533), (480, 640)))  # photos, (height, width)s
LARGE = (128, ((2000, 3000), (3000, 2000)))
DIFFERENT = 24  # generated of each size; the rest are copies
CLASSES = 4


def main(arguments: list[str]) -> int:
    """Measure the parts named, all without one."""
    if arguments[:1] == ["--one"]:
        print(json.dumps(VARIANTS[arguments[1]](Path(arguments[2]))))
        return 0
    rounds = int(arguments[arguments.index("--rounds") + 1]) if "--rounds" in arguments else 3
    parts = [word for word in arguments if word in PARTS] or list(PARTS)
    with tempfile.TemporaryDirectory(prefix="benchmark-photos-") as folder:
        for part in parts:
            photos = Path(folder) / part
            write_photos(photos, *(LARGE if part == "large" else SMALL))
            _print(part, {name: [] for name in PARTS[part]}, photos, rounds)
    return 0


def _print(part: str, found: dict[str, list[dict[str, float]]], photos: Path, rounds: int) -> None:
    for _ in range(rounds):
        for name, rows in found.items():
            rows.append(_in_a_process(name, photos))
    print(f"\n{part}  ({rounds} rounds, load {os.getloadavg()[0]:.1f})")
    keys = list(dict.fromkeys(key for rows in found.values() for key in rows[0]))
    print(f"  {'':<34}" + "".join(f"{key:>18}" for key in keys))
    for name, rows in found.items():
        medians = (statistics.median(row.get(key, float("nan")) for row in rows) for key in keys)
        print(f"  {name:<34}" + "".join(f"{median:>18.3f}" for median in medians))
    first, base = next(iter(found)), PARTS[part][-1]
    for key in keys:
        if all(key in rows[0] for rows in (found[first], found[base])):
            ratios = [
                theirs[key] / ours[key] for ours, theirs in zip(found[first], found[base], strict=True) if ours[key]
            ]
            if ratios:
                print(
                    f"  {key}: {base} / {first} = {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
                )
    sys.stdout.flush()


def _in_a_process(name: str, photos: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="benchmark-cache-") as cache:
        environment = {**os.environ, "XDG_CACHE_HOME": cache, "OMP_NUM_THREADS": "2", "NO_ALBUMENTATIONS_UPDATE": "1"}
        share_cores(environment)
        command = [sys.executable, "-m", "benchmarks.photos", "--one", name, str(photos)]
        answer = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
        return dict(json.loads(answer.splitlines()[-1]))


# --------------------------------------------------------------------------------------------------------------- photos
def write_photos(folder: Path, count: int, sizes: tuple[tuple[int, int], ...]) -> None:
    """Write photos in class folders below `folder`/train: smooth shapes with edges and grain."""
    import cv2
    import numpy as np

    for label in range(CLASSES):
        (folder / "train" / f"class{label}").mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(1)
    encoded = []
    for number in range(min(count, DIFFERENT)):
        height, width = sizes[number % len(sizes)]
        coarse = generator.integers(0, 256, (height // 40, width // 40, 3), dtype=np.uint8)
        photo = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
        for _ in range(30):
            centre = (int(generator.integers(width)), int(generator.integers(height)))
            colour = tuple(int(level) for level in generator.integers(0, 256, 3))
            cv2.circle(photo, centre, int(generator.integers(5, max(6, width // 8))), colour, 3 if number % 2 else -1)
        photo += np.rint(generator.normal(0, 4, (height, width, 1))).astype(np.int16)
        encoded.append(cv2.imencode(".jpg", np.clip(photo, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])[1])
    for number in range(count):
        path = folder / "train" / f"class{number % CLASSES}" / f"{number:05}.jpg"
        path.write_bytes(encoded[number % len(encoded)].tobytes())


def _files(photos: Path) -> list[str]:
    return sorted(map(str, photos.glob("train/*/*.jpg")))


# ----------------------------------------------------------------------------------------------------------------- ours
def _ours(
    photos: Path, *, train: str, decode: str = "full", workers: int | str = "auto", store: str = ""
) -> dict[str, float]:
    """Open the photos as a run does, and take two epochs."""
    import torch

    from trainer.experiment.experiment import Experiment
    from trainer.recipe.load import load_recipe

    recipe = photos.parent / f"recipe-{os.getpid()}.yaml"
    recipe.write_text(
        _RECIPE.format(root=photos, train=train, decode=decode, workers=workers, store=store), encoding="utf-8"
    )
    loaded = load_recipe(recipe)
    torch.set_num_threads(2)
    assert loaded.recipe is not None, loaded.problems
    assert loaded.catalogue is not None
    clock = _Clock()
    experiment = Experiment.from_recipe(loaded.recipe, loaded.catalogue, log=lambda _: None)
    opened = clock.wall()
    batches = experiment.batches("train")
    return {"opened": opened, **_epochs(batches.epoch, clock)}


def _epochs(epoch: Callable[[int], Iterator[Any]], clock: _Clock) -> dict[str, float]:
    """Take epochs 0 and 1; return the seconds to the first batch, of each, and in CPU time."""
    began = clock.wall()
    batches = iter(epoch(0))
    next(batches)
    first = clock.wall()
    for _ in batches:
        pass
    one, cpu_one = clock.wall(), clock.cpu()
    for _ in epoch(1):
        pass
    two, cpu_two = clock.wall(), clock.cpu()
    return {
        "first batch": first - began,
        "epoch 1 + opening": one,
        "epoch 2": two - one,
        "CPU, epoch 1": cpu_one,
        "CPU, epoch 2": cpu_two - cpu_one,
        "peak MB": _peak(),
    }


class _Clock:
    """Wall and CPU seconds since it was made; CPU time is of this process and of its workers, dead or alive."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), _cpu()

    def wall(self) -> float:
        """Seconds gone by."""
        return time.perf_counter() - self._wall

    def cpu(self) -> float:
        """Seconds of processors."""
        return _cpu() - self._cpu


def _cpu() -> float:
    """CPU seconds of this process and of its workers, those that have ended included."""
    own, ended = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    ticks = sum(sum(map(int, (each / "stat").read_text().rpartition(")")[2].split()[11:13])) for each in _workers())
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime + ticks / os.sysconf("SC_CLK_TCK")


def _peak() -> float:
    """Largest memory of this process, in MB, and what its workers have beside it now."""
    private = 0
    for worker in _workers():
        lines = (worker / "smaps_rollup").read_text().splitlines()
        private += sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + private) / 1024


def _workers() -> list[Path]:
    """The processes that this one has started, below /proc."""
    lists = Path("/proc/self/task").glob("*/children")
    return [Path("/proc", number) for each in lists for number in each.read_text().split()]


_RECIPE = """
version: 1
data:
  dataset: {{type: ImageFolder, root: {root}, layout: splits}}
  val: {{fraction: 0.02}}
  batch_size: 64
  decode: {decode}
  workers: {workers}
  {store}
  augment: [{train}, {{type: HorizontalFlip}}]
  eval: [{{type: SmallestMaxSize, max_size: 256}}, {{type: CenterCrop, height: 224, width: 224}}]
  preprocess: [{{type: Normalize}}]
model: SmallCNN
optimizer: {{type: SGD, lr: 0.1}}
train: {{epochs: 1, precision: fp32}}
callbacks: []
report: []
"""
_CROP = "{type: RandomResizedCrop, size: [224, 224]}"
_SIDE = "{type: SmallestMaxSize, max_size: 256}, {type: RandomCrop, height: 224, width: 224}"


# ---------------------------------------------------------------------------------------------------------------- peers
def _data_loader(photos: Path, *, side: bool = False, workers: int = 2) -> dict[str, float]:
    """Albumentations in DataLoader, as one would write it with care."""
    import albumentations as A
    import cv2
    import torch
    from albumentations.pytorch import ToTensorV2
    from torch.utils.data import DataLoader, Dataset

    files = _files(photos)
    first = [A.SmallestMaxSize(256), A.RandomCrop(224, 224)] if side else [A.RandomResizedCrop((224, 224))]
    compose = A.Compose([*first, A.HorizontalFlip(), A.Normalize(), ToTensorV2()])

    class Photos(Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            image = cv2.cvtColor(cv2.imread(files[index]), cv2.COLOR_BGR2RGB)
            return compose(image=image)["image"], index % CLASSES

    cv2.setNumThreads(0)
    clock = _Clock()
    loader = DataLoader(Photos(), batch_size=BATCH, shuffle=True, num_workers=workers, persistent_workers=True)
    return _epochs(lambda _: iter(loader), clock)


def _bare(photos: Path) -> dict[str, float]:
    """Decode at a quarter of the size in two threads, and nothing else."""
    import cv2
    import numpy as np

    files = _files(photos)

    def decode(file: str) -> int:
        return len(cv2.imdecode(np.frombuffer(Path(file).read_bytes(), np.uint8), cv2.IMREAD_REDUCED_COLOR_4))

    clock = _Clock()
    with ThreadPoolExecutor(2) as pool:
        return _epochs(lambda _: pool.map(decode, files), clock)


# --------------------------------------------------------------------------------------------------------------- frozen
def _frozen(photos: Path, *, cache: str) -> dict[str, float]:
    """Train a new head on a frozen ResNet18 for three epochs; return the seconds of a step in the last."""
    from trainer.experiment.experiment import Experiment
    from trainer.recipe.load import load_recipe

    recipe = photos.parent / f"frozen-{os.getpid()}.yaml"
    recipe.write_text(_FROZEN.format(root=photos, cache=cache), encoding="utf-8")
    loaded = load_recipe(recipe)
    assert loaded.recipe is not None, loaded.problems
    assert loaded.catalogue is not None
    experiment = Experiment.from_recipe(loaded.recipe, loaded.catalogue, log=lambda _: None)
    clock = _Clock()
    course, step = experiment.course, experiment.step(experiment.optimizer())
    experiment.train_mode()
    made = clock.wall()
    for epoch in (1, 2):
        started, steps = clock.wall(), 0
        for batch in course.train.epoch(epoch):
            step([batch])
            steps += 1
    return {"features once": made, "a step": (clock.wall() - started) / steps, "peak MB": _peak()}


_FROZEN = """
version: 1
data:
  dataset: {{type: ImageFolder, root: {root}, layout: splits}}
  val: {{fraction: 0.1}}
  limit: 192
  batch_size: 32
  augment: [{{type: SmallestMaxSize, max_size: 256}}, {{type: CenterCrop, height: 224, width: 224}}]
  eval: [{{type: SmallestMaxSize, max_size: 256}}, {{type: CenterCrop, height: 224, width: 224}}]
  preprocess: [{{type: Normalize}}]
model: resnet18
optimizer: {{type: SGD, lr: 0.1}}
train: {{epochs: 3, freeze: ["conv1", "bn1", "layer*"], cache_features: {cache}}}
callbacks: []
report: []
"""

VARIANTS: dict[str, Callable[[Path], dict[str, float]]] = {
    "ours": partial(_ours, train=_CROP),
    "ours, 2 processes": partial(_ours, train=_CROP, workers=2),
    "DataLoader, 2 workers": _data_loader,
    "ours, reduced": partial(_ours, train=_SIDE, decode="reduced"),
    "ours, full": partial(_ours, train=_SIDE),
    "DataLoader, full": partial(_data_loader, side=True),
    "decoding alone, reduced": _bare,
    "features kept": partial(_frozen, cache="auto"),
    "features in every step": partial(_frozen, cache="off"),
}
PARTS: dict[str, tuple[str, ...]] = {  # what is measured; the first is held against the last
    "small": ("ours", "ours, 2 processes", "DataLoader, 2 workers"),
    "large": ("ours, reduced", "ours, full", "DataLoader, full", "decoding alone, reduced"),
    "frozen": ("features kept", "features in every step"),
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
