"""The report stage: gathers the evidence that the page is written from (trainer/report writes it)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from registry.contracts import Evidence, LRFinding, Predictions
from registry.printing import printable
from registry.recording import Recorder
from trainer.data.pipeline import Pipeline
from trainer.data.singly import naming
from trainer.data.splits import Part
from trainer.experiment.experiment import Experiment

SHEET_IMAGES = 8  # training images on the augmentation sheet


@dataclass(frozen=True)
class PartImages:
    """The images of a part, by position, as the report's parts ask for them."""

    part: Part
    pipeline: Pipeline
    device: torch.device

    def raw(self, positions: Sequence[int]) -> list[np.ndarray]:
        """Return the stored images, uint8 (H, W, C)."""
        return [np.asarray(image) for image in self._stored(positions)]

    def shown(self, positions: Sequence[int]) -> np.ndarray:
        """Return the images as the model sees them before normalising, uint8 (n, H, W, 3)."""
        indices = self._indices(positions)
        with naming(self.part.store.describe, indices):
            return as_rgb(self.pipeline.uint8(self._stored(positions), epoch=0, indices=indices).cpu().numpy())

    def prepared(self, positions: Sequence[int]) -> Tensor:
        """Return the model's input, float32 (n, C, H, W)."""
        indices = self._indices(positions)
        with naming(self.part.store.describe, indices):
            return self.pipeline.apply(self._stored(positions), epoch=0, indices=indices).to(self.device)

    def masks(self, positions: Sequence[int]) -> np.ndarray | None:
        """Return the object masks, where the dataset knows them."""
        return self.part.store.masks(self._indices(positions).tolist())

    def _indices(self, positions: Sequence[int]) -> Tensor:
        return self.part.indices[torch.as_tensor(list(positions), dtype=torch.int64)]

    def _stored(self, positions: Sequence[int]) -> Tensor | list[np.ndarray]:
        return self.part.store.gather(self._indices(positions))


def as_rgb(images: np.ndarray) -> np.ndarray:
    """Return uint8 (n, H, W, 3) of images with one, three or more channels."""
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images[..., :3]


def gather(
    experiment: Experiment,
    folder: Path,
    *,
    recorder: Recorder,
    resolved: str = "",
    history: Sequence[Mapping[str, float]] = (),
    best: Mapping[str, float] | None = None,
    predictions: Predictions | None = None,
    finding: LRFinding | None = None,
    summary: Mapping[str, Any] = MappingProxyType({}),
    environment: Mapping[str, Any] = MappingProxyType({}),
    warnings: Sequence[str] = (),
) -> Evidence:
    """Return what the report's parts may look at.

    Args:
        experiment: its model holds the best weights, or the final ones where there are no best.
        folder: where pictures and page go.
        recorder: pictures go to TensorBoard too.
        resolved: text of resolved.yaml.
        history: a row per epoch.
        best: the best epoch's row; None when no epoch was finished, or none could be the best.
        predictions: of the model's weights on the reported split; None when no epoch was finished.
        finding: of the LR finder.
        summary: what summary.json will hold.
        environment: versions and hardware.
        warnings: a sentence each.
    """
    recipe, data = experiment.recipe, experiment.data
    part = data.test or data.val
    train = data.train
    first = train.indices[:: max(len(train) // SHEET_IMAGES, 1)][:SHEET_IMAGES]

    def augmented(draw: int) -> np.ndarray:
        images = train.store.gather(first)
        with naming(train.store.describe, first):
            return as_rgb(experiment.train_pipeline.uint8(images, epoch=draw, indices=first).cpu().numpy())

    return Evidence(
        folder=folder,
        name=recipe.name,
        description=recipe.description,
        recipe=recipe.text,
        resolved=yaml.safe_load(resolved) or {},
        class_names=tuple(printable(name) for name in data.class_names),
        split=data.selected_on if data.test is None else part.name,
        selected_on=data.selected_on,
        history=history,
        best=best,
        summary=summary,
        environment=environment,
        finding=finding,
        model=experiment.model,
        predictions=predictions,
        images=PartImages(part, experiment.eval_pipeline, experiment.device),
        train_samples=_before_augmentation(experiment, first),
        augmented=augmented,
        warnings=warnings,
        recorder=recorder,
        parameters=sum(p.numel() for p in experiment.model.parameters() if p.requires_grad),
        counted_in=part.dataset_split,
    )


def _before_augmentation(experiment: Experiment, indices: Tensor) -> np.ndarray:
    """Return training images as stored, uint8 (n, H, W, 3); where their sizes differ, as evaluation would see them."""
    images = experiment.data.train.store.gather(indices)
    if isinstance(images, list):
        with naming(experiment.data.train.store.describe, indices):
            images = experiment.eval_pipeline.uint8(images, epoch=0, indices=indices)
    return as_rgb(images.cpu().numpy())
