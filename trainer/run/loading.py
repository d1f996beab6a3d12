"""Inference with a finished run: the model with its classes and preprocessing, without its data. `trainer.load(RUN)`.

run = trainer.load("runs/quickstart/20260131-120000")
run.predict(["cat.jpg"])          # [("cat", 0.98), ...] per picture
run.model(run.preprocess(["cat.jpg"]))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from registry.datasets.decoding import Decoding
from trainer.data.fitting import Fitting
from trainer.data.pipeline import Pipeline
from trainer.data.singly import naming
from trainer.engine.device import choose_device
from trainer.engine.evaluation import evaluation_mode
from trainer.experiment.trained import Trained
from trainer.recipe.recipe import Recipe
from trainer.run.folder import RunFolder

Picture = str | Path | np.ndarray
Pictures = Picture | Sequence[Picture]


@dataclass(frozen=True)
class LoadedRun:
    """A trained network, ready to use.

    Attributes:
        model: best weights, eval mode.
        class_names: one per class index.
        recipe: what it was trained by.
        folder: the run.
        pipeline: evaluation transforms and preprocessing.
        channels: of the images it was trained on before its own transforms: 3 for RGB, 1 for grey.
        size: (height, width) of the images it was trained on before its own transforms; None where they vary.
        input_shape: (channels, height, width) of the model's input.
        device: where the model lies.
    """

    model: nn.Module
    class_names: tuple[str, ...]
    recipe: Recipe
    folder: RunFolder
    pipeline: Pipeline
    channels: int
    size: tuple[int, int] | None
    input_shape: tuple[int, int, int]
    device: torch.device

    def images(self, pictures: Pictures) -> list[np.ndarray]:
        """Return pictures as uint8 (H, W, C) of the channels and, where it has one size only, the size of the data.

        Args:
            pictures: paths, or uint8 arrays (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), RGB; transparent pixels
                become white, as in the training images. One alone is a list of one.

        Raises:
            DataError: a file is no readable picture.
        """
        decoding, fitting = _decoding(self.recipe), Fitting(self.channels, self.size)
        return [
            fitting.apply(decoding.read(str(each)) if isinstance(each, (str, Path)) else each)
            for each in _several(pictures)
        ]

    def shown(self, pictures: Pictures) -> list[np.ndarray]:
        """Return pictures as the model sees them before normalising, uint8 (H, W, C), sizes may differ."""
        images = self.images(pictures)
        if not images:
            return []
        indices = torch.arange(len(images))
        with naming(_name_among(pictures), range(len(images))):
            return self.pipeline.shown(images, epoch=0, indices=indices)

    def preprocess(self, pictures: Pictures) -> Tensor:
        """Return the model's input for pictures, float32 (n, C, H, W)."""
        images = self.images(pictures)
        if not images:
            return torch.zeros((0, *self.input_shape), device=self.device)
        indices = torch.arange(len(images))
        with naming(_name_among(pictures), range(len(images))):
            return self.pipeline.apply(images, epoch=0, indices=indices).to(self.device)

    def logits(self, pictures: Pictures) -> Tensor:
        """Return the model's answers, float32 (n, C)."""
        inputs = self.preprocess(pictures)
        if not len(inputs):  # some networks take no empty batch
            return torch.zeros((0, len(self.class_names)))
        with evaluation_mode(self.model), torch.inference_mode():
            answer: Tensor = self.model(inputs).float().cpu()
        return answer.clone()

    def predict(self, pictures: Pictures, top: int = 3) -> list[list[tuple[str, float]]]:
        """Return for each picture, one alone too, the `top` classes and their probabilities, best first."""
        probabilities = self.logits(pictures).softmax(1)
        values, indices = probabilities.topk(min(top, len(self.class_names)), dim=1)
        return [
            [(self.class_names[index], value) for index, value in zip(row, row_values, strict=True)]
            for row, row_values in zip(indices.tolist(), values.tolist(), strict=True)
        ]


def load(run: str | Path, device: str = "auto") -> LoadedRun:
    """Load a run's best weights, or its last where it has no best yet.

    Args:
        run: the run folder.
        device: where to put the model.

    Raises:
        CheckpointError: it is no run, or has no whole checkpoint.
        RecipeError: its recipe no longer fits this version.
    """
    folder = RunFolder.open(Path(run))
    trained = Trained.read(folder.path)
    recipe, where = trained.recipe, choose_device(device)
    model = trained.model()
    model.to(where, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return LoadedRun(
        model=model,
        class_names=trained.class_names,
        recipe=recipe,
        folder=folder,
        pipeline=trained.new_pipeline(recipe.data.eval, where),
        channels=trained.channels,
        size=trained.stored_size,
        input_shape=trained.input_shape,
        device=where,
    )


def _several(pictures: Pictures) -> Sequence[Picture]:
    """Return pictures one by one; an array of four dimensions holds several."""
    alone = isinstance(pictures, (str, Path)) or (isinstance(pictures, np.ndarray) and pictures.ndim < 4)
    return [pictures] if alone else pictures  # type: ignore[list-item,return-value]


def _name_among(pictures: Pictures) -> Callable[[int], str]:
    """Return what names a picture by its place: its path where it has one."""
    several = _several(pictures)

    def name(index: int) -> str:
        return f"picture {index}" if isinstance(several[index], np.ndarray) else str(several[index])

    return name


def _decoding(recipe: Recipe) -> Decoding:
    """Return how the run's own images became pixels."""
    level = recipe.data.dataset.arguments.get("white_level")
    return Decoding() if level is None else Decoding(level)
