"""The report stage: gathers the evidence that the page is written from (trainer/report writes it)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, overload

import numpy as np
import torch
import yaml
from torch import Tensor

from registry.audited import Audit
from registry.contracts import Evidence, LRFinding, Predictions
from registry.printing import one_line
from registry.recording import Recorder
from registry.reports.pictures import as_rgb
from trainer.data.pipeline import Pipeline
from trainer.data.singly import naming
from trainer.data.splits import Part
from trainer.experiment.experiment import Experiment
from trainer.recipe.resolve import default_settings
from trainer.stages.rates import rates_of_steps
from trainer.stages.used_data import file_of, first_of_each_class, folder_of, used_data


@dataclass(frozen=True)
class PartImages:
    """The images of a part, by position, as the report's parts ask for them.

    Attributes:
        part: that they are of.
        pipeline: what the model sees of them.
        device: where the model lies.
        folder: of the dataset; "" where it has none.
    """

    part: Part
    pipeline: Pipeline
    device: torch.device
    folder: str

    def raw(self, positions: Sequence[int]) -> list[np.ndarray]:
        """Return the stored images, uint8 (H, W, C)."""
        return [np.asarray(image) for image in self._stored(positions)]

    def shown(self, positions: Sequence[int]) -> list[np.ndarray]:
        """Return the images as the model sees them before normalising, uint8 (H, W, 3), sizes may differ."""
        return _shown(self.part, self.pipeline, self._indices(positions), epoch=0)

    def prepared(self, positions: Sequence[int]) -> Tensor:
        """Return the model's input, float32 (n, C, H, W)."""
        indices = self._indices(positions)
        with naming(self.part.store.describe, indices):
            images = _read_for(self.pipeline, self.part, indices, epoch=0)
            return self.pipeline.apply(images, epoch=0, indices=indices).to(self.device)

    def masks(self, positions: Sequence[int]) -> np.ndarray | None:
        """Return the object masks, where the dataset knows them and transforms leave them where they are."""
        if not self.pipeline.keeps_places:
            return None
        return self.part.store.masks(self._indices(positions).tolist())

    def files(self, positions: Sequence[int]) -> list[str]:
        """Return each image's file below the dataset's folder; "" where it is not a file of its own."""
        return [file_of(self.part.store, index, self.folder) for index in self._indices(positions).tolist()]

    def _indices(self, positions: Sequence[int]) -> Tensor:
        return self.part.indices[torch.as_tensor(list(positions), dtype=torch.int64)]

    def _stored(self, positions: Sequence[int]) -> Tensor | list[np.ndarray]:
        return self.part.store.gather(self._indices(positions))


@dataclass(frozen=True)
class StoredImages(Sequence[np.ndarray]):
    """Images of a part as they are stored, uint8 (H, W, 3) each, read when they are asked for."""

    part: Part
    indices: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, place: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, place: slice) -> list[np.ndarray]: ...

    def __getitem__(self, place: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(place, slice):
            return [as_rgb(np.asarray(image)) for image in self.part.store.gather(self.indices[place])]
        return self[place : place + 1 or None][0]


def _shown(part: Part, pipeline: Pipeline, indices: Tensor, epoch: int) -> list[np.ndarray]:
    """Return images of a part as a model sees them before normalising, uint8 (H, W, 3) each."""
    with naming(part.store.describe, indices):
        images = _read_for(pipeline, part, indices, epoch)
        return [as_rgb(image) for image in pipeline.shown(images, epoch=epoch, indices=indices)]


def _read_for(pipeline: Pipeline, part: Part, indices: Tensor, epoch: int) -> Tensor | list[np.ndarray]:
    """Return images of a part as a pipeline wants them decoded."""
    return part.store.gather(indices, pipeline.factors(epoch=epoch, indices=indices))


def gather(
    experiment: Experiment,
    folder: Path,
    *,
    recorder: Recorder,
    part: Part | None = None,
    given: str = "",
    resolved: str = "",
    history: Sequence[Mapping[str, float]] = (),
    best: Mapping[str, float] | None = None,
    predictions: Predictions | None = None,
    finding: LRFinding | None = None,
    summary: Mapping[str, Any] = MappingProxyType({}),
    environment: Mapping[str, Any] = MappingProxyType({}),
    warnings: Sequence[str] = (),
    audit: Audit | None = None,
) -> Evidence:
    """Return what the report's parts may look at.

    Args:
        experiment: its model holds the best weights, or the final ones where there are no best.
        folder: where pictures and page go.
        recorder: pictures go to TensorBoard too.
        part: that predictions and images are of; None for the test part, or validation's where there is no test.
        given: the recipe's text as the run was given it; "" for the recipe's own.
        resolved: text of resolved.yaml.
        history: a row per epoch.
        best: the best epoch's row; None when no epoch was finished, or none could be the best.
        predictions: of the model's weights on `part`; None when no epoch was finished.
        finding: of the LR finder.
        summary: what summary.json will hold.
        environment: versions and hardware.
        warnings: a sentence each.
        audit: of the pictures; None where none was made.
    """
    recipe, data = experiment.recipe, experiment.data
    part, train = part or data.test or data.val, data.train
    first, place = first_of_each_class(train), folder_of(experiment)

    return Evidence(
        folder=folder,
        name=recipe.name,
        description=recipe.description,
        recipe=given or recipe.text,
        resolved=yaml.safe_load(resolved) or {},
        class_names=tuple(one_line(name) for name in data.class_names),
        split=data.selected_on if part is data.val else part.name,
        selected_on=data.selected_on,
        history=history,
        best=best,
        summary=summary,
        environment=environment,
        finding=finding,
        model=experiment.model,
        predictions=predictions,
        images=PartImages(part, experiment.eval_pipeline, experiment.device, place),
        train_samples=StoredImages(train, first),
        augmented=lambda draw: _shown(train, experiment.train_pipeline, first, epoch=draw),
        warnings=warnings,
        recorder=recorder,
        parameters=sum(p.numel() for p in experiment.model.parameters() if p.requires_grad),
        counted_in=part.dataset_split,
        data=used_data(experiment),
        sample_classes=tuple(train.store.targets[first].tolist()),
        sample_files=tuple(file_of(train.store, index, place) for index in first.tolist()),
        defaults=default_settings(),
        rates=rates_of_steps(experiment, history),
        audit=audit,
    )
