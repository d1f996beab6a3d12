"""An exported file measured like a run: on all images of its recipe's data that its network has not learnt from."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from registry.catalogue.catalog import catalogue
from registry.contracts import Metric, Predictions
from registry.errors import RecipeError
from registry.metrics.counting import CrossEntropy
from registry.reports import scores
from trainer.data.splits import Part
from trainer.experiment.evaluation_keys import is_unread
from trainer.experiment.measuring import open_measured
from trainer.experiment.trained import Trained
from trainer.export.exported import ExportedFile
from trainer.export.proof import SMALLEST, batches_of, pictures_of
from trainer.recipe.afterwards import Free, free, patterns
from trainer.recipe.load import load_recipe
from trainer.recipe.recipe import CROSS_ENTROPY

READ = (
    Free("data.dataset.**", "other images, or the same in another place"),
    Free("data.fixes", "labels decided anew of the pictures that are measured"),
    Free("data.workers", "speed"),
    Free("data.on_bad_image", "images that cannot be read"),
    Free("train.metrics.**", "what else is measured"),
    Free("plugins.**", "where components of your own lie"),
)


@dataclass(frozen=True)
class Measured:
    """What a file reaches on a part.

    Attributes:
        part: the images.
        values: "cross_entropy", "accuracy", ...
    """

    part: Part
    values: Mapping[str, float]


def trained_of(file: ExportedFile, overrides: Sequence[str]) -> Trained:
    """Return what a file tells of its run's training; it holds no weights.

    Raises:
        RecipeError: the recipe inside no longer fits this version, or an override would change nothing.
    """
    about = file.about
    others = [key for each in overrides if free(key := each.partition("=")[0], READ) is None]
    if others:
        raise RecipeError(
            f"{', '.join(others)} would change nothing: a file answers as it was exported",
            f"what matters: {patterns(READ)}",
        )
    with tempfile.TemporaryDirectory() as place:
        resolved = Path(place) / "resolved.yaml"
        resolved.write_text(about.texts["resolved"], encoding="utf-8")
        recipe = load_recipe(resolved, overrides, unread=is_unread).usable()
    shape = about.json("input")
    return Trained(
        file=file.path,
        recipe=recipe,
        catalogue=catalogue(recipe.plugins),
        weights={},
        buffers={},
        loss={},
        loss_buffers={},
        class_names=about.class_names,
        class_counts=None,
        input_shape=(shape["channels"], shape["height"], shape["width"]),
        channels=about.channels,
        stored_size=about.size,
        facts={},
        prints=about.json("data"),
        learnt=None,
    )


def measure(
    file: ExportedFile, trained: Trained, log: Callable[[str], None], counting: Callable[[str, int], Callable[[], None]]
) -> Sequence[Measured]:
    """Return what a file reaches on each part of its data.

    Raises:
        DataError: the data are missing or do not fit.
    """
    parts = open_measured(trained, log).parts
    return [
        Measured(part, _values(file, trained, part, counting(f"measuring {part.name}", batches_of(part))))
        for part in parts
    ]


def _values(file: ExportedFile, trained: Trained, part: Part, counted: Callable[[], None]) -> dict[str, float]:
    metrics: dict[str, Metric] = {CROSS_ENTROPY: CrossEntropy()}
    metrics |= {spec.key: trained.new_metric(spec) for spec in trained.recipe.train.metrics}
    for metric in metrics.values():
        metric.reset()
    answered: list[torch.Tensor] = []
    for positions, pictures in pictures_of(part):
        counted()
        answers = torch.from_numpy(np.array(file.answer(pictures), np.float32))
        logits = answers.clamp_min(SMALLEST).log()  # but for a number per picture
        answered.append(logits)
        for metric in metrics.values():
            metric.update(logits, part.targets[positions])
    found = {key: float(metric.compute()) for key, metric in metrics.items()}
    below = file.sureness.abstain_below
    if below is not None:
        arrays = np.arange(len(part)), part.targets.numpy(), torch.cat(answered).numpy()
        kept = scores.coverage(scores.read(Predictions(*arrays, float("nan"), {})), below)
        found |= {"answered": kept.share, "answered/accuracy": kept.accuracy}
    return found
