"""How a trained network answers: by which temperature its probabilities are told, and below which one it is not sure.

`Answerer` is whatever answers pictures, a run (loading.py) or an exported file.

The recipe's `answers` section says so unless whoever asks says otherwise. The temperature was fitted when the run ended
(trainer/stages/calibrate.py) and stands in summary.json with the weights that it is of.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from registry.errors import CheckpointError, RecipeError
from trainer.experiment.trained import Trained
from trainer.run.folder import RunFolder
from trainer.run.pictures import Pictures

NOT_SURE = "not sure"  # the answer to a picture whose likeliest class is not likely enough


@dataclass(frozen=True)
class Sureness:
    """How logits become answers.

    Attributes:
        temperature: that logits are divided by, above 0.
        abstain_below: probability of the likeliest class below which the answer is "not sure"; None for never.
    """

    temperature: float = 1.0
    abstain_below: float | None = None

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probabilities of logits, both float32 (n, C)."""
        return (logits / self.temperature).softmax(1)

    def is_sure(self, probability: float) -> bool:
        """Whether the likeliest class is likely enough; what is no number never is."""
        return math.isfinite(probability) and (self.abstain_below is None or probability >= self.abstain_below)


AS_TOLD = Sureness()  # by the network alone


class Answerer(ABC):
    """Answers pictures.

    Attributes:
        class_names: one per class index.
        sureness: by which temperature probabilities are told, and below which one the answer is "not sure".
    """

    class_names: tuple[str, ...]
    sureness: Sureness

    @abstractmethod
    def images(self, pictures: Pictures) -> list[NDArray[np.uint8]]:
        """Return pictures decoded as the training pictures were, uint8 (H, W, C); they may differ in size.

        Raises:
            DataError: one is no readable picture.
        """

    @abstractmethod
    def probabilities(self, pictures: Pictures) -> Tensor:
        """Return how likely each class is for each picture, float32 (n, C), calibrated where that was asked for.

        Raises:
            DataError: one is no readable picture.
        """

    def answers(self, pictures: Pictures) -> list[str]:
        """Return the class of each picture; "not sure" where it is less likely than `abstain_below`."""
        values, indices = self.probabilities(pictures).max(dim=1)
        return [
            self.class_names[index] if self.sureness.is_sure(value) else NOT_SURE
            for value, index in zip(values.tolist(), indices.tolist(), strict=True)
        ]

    def predict(self, pictures: Pictures, top: int = 3) -> list[list[tuple[str, float]]]:
        """Return for each picture, one alone too, the `top` classes and their probabilities, best first.

        Args:
            pictures: paths, PIL images or arrays.
            top: how many, 1 or more; all where there are fewer.

        Raises:
            DataError: one is no readable picture.
            RecipeError: `top` is no such number.
        """
        if isinstance(top, bool) or not isinstance(top, (int, np.integer)) or top < 1:
            raise RecipeError(f"top is how many classes are named, got {top!r}", "a whole number from 1 on")
        # Not `topk`, which promises no order among equals.
        values, indices = self.probabilities(pictures).sort(dim=1, descending=True, stable=True)
        return [
            [(self.class_names[index], value) for index, value in list(zip(row, row_values, strict=True))[:top]]
            for row, row_values in zip(indices.tolist(), values.tolist(), strict=True)
        ]


def sureness(
    trained: Trained, folder: RunFolder, *, calibrated: bool | None = None, abstain_below: float | None = None
) -> Sureness:
    """Return how a run answers.

    Args:
        trained: the run's network.
        folder: of the run.
        calibrated: whether by its temperature; what the recipe says where None.
        abstain_below: above 0, up to 1; what the recipe says where None.

    Raises:
        RecipeError: `abstain_below` is no such number, or a class has the name of an answer that is not sure.
        CheckpointError: the temperature is asked for, and the run has none.
    """
    section = trained.recipe.answers
    calibrated = section.calibrated if calibrated is None else calibrated
    below = section.abstain_below if abstain_below is None else share(abstain_below)
    if below is not None and NOT_SURE in trained.class_names:
        raise RecipeError(
            f"a class of {folder.path} is called {NOT_SURE!r}, as the answer of a network that is not sure is",
            "leave out abstain_below, or train with the class by another name",
        )
    return Sureness(temperature_of(trained, folder) if calibrated else 1.0, below)


def temperature_of(trained: Trained, folder: RunFolder) -> float:
    """Return the temperature of a run's weights.

    Raises:
        CheckpointError: the run has none of these weights.
    """
    kept = folder.read_summary().get("calibration", {})
    if not is_of(kept, trained):
        raise CheckpointError(
            f"{folder.path}: has no temperature for the weights in {trained.file.name}: it is fitted when a run ends",
            f"`report {folder.path}` fits it, by the run's data; or ask for answers that are not calibrated",
        )
    return float(kept["temperature"])


def unfitted(folder: RunFolder) -> str:
    """Return in a line why answers cannot be calibrated; "" where a temperature was fitted."""
    reason = folder.read_summary().get("calibration", {}).get("reason", "")
    return f"no temperature could be fitted: {reason}; probabilities are the network's own" if reason else ""


def is_of(kept: Mapping[str, Any], trained: Trained) -> bool:
    """Whether the temperature that a summary.json holds was fitted on the logits of these weights."""
    return bool(kept) and (kept.get("weights"), kept.get("epoch")) == (trained.which, trained.epoch)


def share(value: object) -> float:
    """Return a probability below which answers are "not sure".

    Raises:
        RecipeError: it is none.
    """
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool) and 0 < value <= 1:
        return float(value)
    raise RecipeError(f"abstain_below is a probability, got {value!r}", "a number above 0, up to 1, such as 0.8")
