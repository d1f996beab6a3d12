"""Batches: images per second with shuffling and the S10 augmentation, the wait for an epoch's first batch, and a folder
of 50,000 small JPEGs packed once and opened again.

Beside ours: DataLoader over Albumentations as one would write it, in the process and with two workers, and the
gather alone as the floor.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.harness import Benchmark, Ratio, Variant
from registry.datasets.folder import ImageFolder
from registry.datasets.shapes import Shapes
from registry.datasets.source import PackedSource
from trainer.data.batches import Batches
from trainer.data.opening import open_store
from trainer.data.pipeline import Pipeline
from trainer.data.splits import Part
from trainer.data.store import Store

IMAGES = 50_000
DRAWN = 5_000  # different ones among them
BATCH = 128
SLOW_BATCHES = 8  # of the DataLoader: it is timed per image
CPU = torch.device("cpu")


def benchmarks() -> list[Benchmark]:
    """Return what is asked of the input side."""
    epoch = (
        Ratio("ours, shuffled, augmented, in batches", "ours", "", "units/s", 28_000),
        Ratio("ours against DataLoader, two workers", "ours", "DataLoader, two workers", "times faster"),
        Ratio("ours against DataLoader, no worker", "ours", "DataLoader", "times faster"),
    )
    first = (Ratio("from an epoch's start to its first batch", "first batch", "", "seconds", 0.005, at_most=True),)
    packing = (Ratio("a folder of 50,000 JPEGs packed, CPU seconds", "pack", "", "seconds", 2.5, at_most=True),)
    opening = (Ratio("the same folder opened again", "open again", "", "seconds", 0.5, at_most=True),)
    return [
        Benchmark("loader", variants, "image", epoch, threads=2, clock="wall"),
        Benchmark("first batch", first_batch, "epoch", first, threads=2, clock="wall", rounds=15),
        Benchmark("packing", lambda: folder_variants("pack"), "folder", packing, threads=2),
        Benchmark("opening", lambda: folder_variants("open again"), "folder", opening, threads=2, clock="wall"),
    ]


def variants() -> dict[str, Callable[[], int]]:
    """Return an epoch of ours, some batches of the usual way, and the gather alone."""
    part, pipeline = _part(), _s10()
    ours = Batches(part, pipeline, batch_size=BATCH, seed=1, shuffle=True, drop_last=False, device=CPU)
    plain = Batches(part, _Plain(), batch_size=BATCH, seed=1, shuffle=True, drop_last=False, device=CPU)
    epochs = itertools.count(1)
    return {
        "ours": lambda: sum(len(batch.indices) for batch in ours.epoch(next(epochs))),
        "DataLoader": _data_loader(part),
        "DataLoader, two workers": _data_loader(part, workers=2),
        "gather only": lambda: sum(len(batch.indices) for batch in plain.epoch(next(epochs))),
    }


def first_batch() -> dict[str, Callable[[], int]]:
    """Return what starts an epoch and takes one batch."""
    made = Batches(_part(), _s10(), batch_size=BATCH, seed=1, shuffle=True, drop_last=False, device=CPU)
    epochs = itertools.count(1)

    def run() -> int:
        next(iter(made.epoch(next(epochs))))
        return 1

    return {"first batch": run}


def folder_variants(which: str) -> Mapping[str, Variant]:
    """Return the packing or the opening of a folder; its files and cache go with the process."""
    folder = tempfile.TemporaryDirectory(prefix="benchmark-loader-")
    root = Path(folder.name)
    _write_jpegs(root / "images")

    def run() -> int:
        with _cache_in(root / "cache"):
            if which == "pack":
                for file in root.glob("cache/**/*.images"):
                    file.unlink()
            source = ImageFolder(str(root / "images"), split="train", download=False)
            assert len(open_store(source)) == IMAGES
        return 1

    run.folder = folder  # type: ignore[attr-defined]  # kept as long as the variant
    return {which: run}


class _Plain:
    """A pipeline that leaves images as they are."""

    begins_on = CPU

    def apply(self, images: torch.Tensor, *, epoch: int, indices: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        return images.permute(0, 3, 1, 2)


def _images() -> PackedSource:
    drawn = Shapes(train_size=DRAWN, split="train", download=False)
    times = IMAGES // DRAWN
    images, targets = np.tile(drawn.packed(), (times, 1, 1, 1)), np.tile(drawn.targets, times)
    return PackedSource("shapes", images, targets, drawn.class_names)


def _part() -> Part:
    return Part("train", open_store(_images()), torch.arange(IMAGES), "train")


def _s10() -> Pipeline:
    from benchmarks.augment import normalize, s10

    return Pipeline(s10(), [normalize()], seed=1)


def _data_loader(part: Part, workers: int = 0) -> Callable[[], int]:
    import albumentations as A
    from albumentations.pytorch import ToTensorV2

    from benchmarks.augment import normalize, s10

    assert isinstance(part.store, Store)
    images, targets = part.store.images.numpy(), part.store.targets.tolist()
    compose = A.Compose([*s10(), normalize(), ToTensorV2()], seed=1)

    class Plain(Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(targets)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return compose(image=images[index])["image"], targets[index]

    loader = DataLoader(Plain(), batch_size=BATCH, shuffle=True, num_workers=workers, persistent_workers=bool(workers))
    batches = iter(loader)  # one epoch for all rounds: workers are neither started nor filled up anew

    def run() -> int:
        return sum(len(labels) for _, labels in itertools.islice(batches, SLOW_BATCHES * (workers or 1)))

    return run


def _write_jpegs(folder: Path) -> None:
    source = _images()
    for name in source.class_names:
        (folder / name).mkdir(parents=True)
    encoded = [cv2.imencode(".jpg", source.image(index)[..., ::-1])[1].tobytes() for index in range(DRAWN)]
    for index in range(IMAGES):
        name = source.class_names[int(source.targets[index])]
        (folder / name / f"{index:05}.jpg").write_bytes(encoded[index % DRAWN])


@contextmanager
def _cache_in(folder: Path) -> Iterator[None]:
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = before
