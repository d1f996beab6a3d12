"""Augmentation on one core: the S10 pipeline from packed uint8 to normalised float CHW, draws included.

Ours, Albumentations as one would write it (Compose + ToTensorV2, image by image), torchvision's v2 transforms, and the
floor: normalising alone. Owns what is run; `python -m benchmarks` times it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
from albumentations.pytorch import ToTensorV2
from torchvision.transforms import v2

from trainer.data.pipeline import Pipeline

IMAGES = 2048  # per call of a variant
CHUNK = 512
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
FILL = (125, 122, 113)
SLOW = 8  # Albumentations and torchvision do a share of the images: they are timed per image


def variants() -> dict[str, Callable[[], int]]:
    """Return what is compared; each call does its work once and returns how many images went through."""
    packed = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (50_000, 32, 32, 3), dtype=np.uint8))
    order = torch.randperm(len(packed), generator=torch.Generator().manual_seed(0))
    return {
        "ours": _batched(Pipeline(s10(), [normalize()], seed=1, backend="batched"), packed, order),
        "albumentations": _albumentations(packed.numpy(), order),
        "torchvision v2": _torchvision(packed, order),
        "normalise only": _batched(Pipeline([], [normalize()], seed=1), packed, order),
    }


def s10() -> list[A.BasicTransform]:
    """Return the transforms of recipes/cifar10_resnet18.yaml."""
    return [
        A.HueSaturationValue(p=0.25),
        A.HorizontalFlip(p=0.5),
        A.Rotate(limit=15, border_mode=cv2.BORDER_REFLECT_101, p=0.5),
        A.CoarseDropout((1, 1), (4, 16), (4, 16), fill=FILL, p=0.75),
    ]


def normalize() -> A.Normalize:
    return A.Normalize(mean=MEAN, std=STD)


def _batched(pipeline: Pipeline, packed: torch.Tensor, order: torch.Tensor) -> Callable[[], int]:
    def run() -> int:
        for indices in order[:IMAGES].split(CHUNK):
            pipeline.apply(packed.index_select(0, indices), epoch=1, indices=indices)
        return IMAGES

    return run


def _albumentations(packed: np.ndarray, order: torch.Tensor) -> Callable[[], int]:
    compose = A.Compose([*s10(), normalize(), ToTensorV2()], seed=1)

    def run() -> int:
        for index in order[: IMAGES // SLOW].tolist():
            compose(image=packed[index])["image"]
        return IMAGES // SLOW

    return run


def _torchvision(packed: torch.Tensor, order: torch.Tensor) -> Callable[[], int]:
    """The nearest that torchvision has: ColorJitter for the shifts in HSV, one erased rectangle of its own kind."""
    compose = v2.Compose(
        [
            v2.RandomApply([v2.ColorJitter(brightness=0.08, saturation=0.12, hue=0.11)], p=0.25),
            v2.RandomHorizontalFlip(0.5),
            v2.RandomApply([v2.RandomRotation(15, interpolation=v2.InterpolationMode.BILINEAR)], p=0.5),
            v2.RandomErasing(p=0.75, scale=(0.016, 0.25), ratio=(0.25, 4), value=[float(v) for v in FILL]),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    chw = packed.permute(0, 3, 1, 2)

    def run() -> int:
        for index in order[: IMAGES // SLOW].tolist():
            compose(chw[index])
        return IMAGES // SLOW

    return run
