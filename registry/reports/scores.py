"""Scores that follow from predictions: probabilities, confusion, per-class scores, calibration, and who was wrong.

Pure NumPy on `Predictions`; draws nothing and knows nothing of networks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from registry.contracts import Predictions


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Return the softmax of logits (N, C) as float64; rows that are not finite become NaN."""
    shifted = logits.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        powers: np.ndarray = np.exp(shifted - shifted.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Answers:
    """Predictions read image by image; every array is (N,), in the order of the predictions.

    Attributes:
        truth: class index; -1 where it is not known, as for a user's own pictures.
        predicted: class of the greatest logit, the first of several equals.
        confidence: probability of the predicted class.
        truth_probability: probability of the true class; NaN where the truth is not known.
        loss: cross entropy of the image; NaN where the truth is not known.
    """

    truth: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    truth_probability: np.ndarray
    loss: np.ndarray

    @property
    def wrong(self) -> np.ndarray:
        """Where the prediction is not the truth, bool (N,); never where the truth is not known."""
        return np.asarray((self.predicted != self.truth) & (self.truth >= 0))


def read(predictions: Predictions) -> Answers:
    """Return the answers behind `predictions`."""
    shares = probabilities(predictions.logits)
    predicted = predictions.logits.argmax(axis=1)
    rows = np.arange(len(predicted))
    known = predictions.targets >= 0
    truth_probability = np.where(known, shares[rows, predictions.targets], np.nan)
    loss = np.where(known, _log_sum_exp(predictions.logits) - predictions.logits[rows, predictions.targets], np.nan)
    return Answers(predictions.targets, predicted, shares[rows, predicted], truth_probability, loss)


def tempered(predictions: Predictions, temperature: float) -> Predictions:
    """Return predictions with their logits divided by a temperature; loss and metrics stay those before."""
    return replace(predictions, logits=predictions.logits / temperature)


def most_confident_mistakes(answers: Answers, count: int) -> np.ndarray:
    """Return positions of the mistakes made with the greatest confidence, at most `count`; equals by position."""
    wrong = np.flatnonzero(answers.wrong)
    return wrong[np.argsort(-answers.confidence[wrong], kind="stable")][:count]


def greatest_losses(answers: Answers, count: int) -> np.ndarray:
    """Return positions of the mistakes with the greatest cross entropy, at most `count`; equals by position."""
    wrong = np.flatnonzero(answers.wrong)
    return wrong[np.argsort(-answers.loss[wrong], kind="stable")][:count]


def least_confident_correct(answers: Answers, count: int) -> np.ndarray:
    """Return positions of correct answers given with the least confidence, at most `count`; equals by position."""
    right = np.flatnonzero(~answers.wrong)
    return right[np.argsort(answers.confidence[right], kind="stable")][:count]


def most_confident_correct(answers: Answers, count: int) -> np.ndarray:
    """Return positions of correct answers given with the greatest confidence, at most `count`; equals by position."""
    right = np.flatnonzero(~answers.wrong)
    return right[np.argsort(-answers.confidence[right], kind="stable")][:count]


def confusion(answers: Answers, classes: int) -> np.ndarray:
    """Return counts (truth, predicted), int64 (classes, classes)."""
    flat = np.bincount(answers.truth * classes + answers.predicted, minlength=classes * classes)
    return flat.reshape(classes, classes)


@dataclass(frozen=True)
class ClassScores:
    """Scores per class, float64 (C,); NaN where a score has no meaning.

    Attributes:
        precision: share of the predictions of the class that are right; NaN where it was never predicted.
        recall: share of the class's images that were found; NaN where it has none.
        f1: harmonic mean of both; NaN where the class neither occurs nor is predicted.
        support: images of the class, int64.
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray


def class_scores(counts: np.ndarray) -> ClassScores:
    """Return precision, recall, F1 and support from confusion `counts`."""
    hits, predicted, support = np.diag(counts), counts.sum(0), counts.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = 2 * hits / (predicted + support)
        return ClassScores(hits / predicted, hits / support, f1, support)


@dataclass(frozen=True)
class MeanScores:
    """Means over the classes that have images, each counting the same; NaN where none has.

    Attributes:
        precision: of a class that was never predicted it counts as 0, as its F1 is.
        recall: mean recall, the balanced accuracy.
        f1: macro F1.
        classes: classes that have images.
        unpredicted: those of them that were never predicted.
    """

    precision: float
    recall: float
    f1: float
    classes: int
    unpredicted: int


def mean_scores(found: ClassScores) -> MeanScores:
    """Return the means of scores per class; a class without images is left out of all three alike."""
    present = found.support > 0
    if not present.any():
        return MeanScores(np.nan, np.nan, np.nan, 0, 0)
    precision, recall, f1 = (values[present] for values in (found.precision, found.recall, found.f1))
    never = int(np.isnan(precision).sum())
    return MeanScores(
        float(np.nan_to_num(precision).mean()), float(recall.mean()), float(f1.mean()), int(present.sum()), never
    )


_NORMAL = 1.959963984540054  # standard deviations around the middle that hold 95 % of a normal distribution


_OF_IMAGES = re.compile(r"(.*/)?(tta[/_])?(top_k_)?accuracy")


def is_share_of_images(metric: str) -> bool:
    """Whether a metric's value counts images, so that `interval` is its: a balanced accuracy's is another."""
    return _OF_IMAGES.fullmatch(metric) is not None


def interval(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of `count` images: where the share of endlessly many would lie.

    Unlike the share plus and minus two deviations it stays between 0 and 1 and says something at 0 and 1 (Wilson 1927).
    """
    squared = _NORMAL**2
    middle = (share + squared / (2 * count)) / (1 + squared / count)
    half = _NORMAL / (1 + squared / count) * np.sqrt(share * (1 - share) / count + squared / (4 * count**2))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy in bins of equal width.

    Attributes:
        edges: of the bins, float64 (B + 1,).
        confidence: mean confidence in each bin, NaN where empty.
        accuracy: share of right answers in each bin, NaN where empty.
        counts: answers in each bin, int64.
        ece: expected calibration error, the mean gap weighted by counts (Naeini et al. 2015).
    """

    edges: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray
    ece: float


def reliability(answers: Answers, bins: int) -> Reliability:
    """Return how far confidence can be trusted; a confidence on an edge belongs to the bin below it."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    known = np.isfinite(answers.confidence)
    sure, right = answers.confidence[known], ~answers.wrong[known]
    place = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(place, sure, bins) / counts
        accuracy = np.bincount(place, right, bins) / counts
    gaps = np.abs(np.nan_to_num(confidence) - np.nan_to_num(accuracy)) * counts
    return Reliability(edges, confidence, accuracy, counts, float(gaps.sum() / max(1, counts.sum())))


@dataclass(frozen=True)
class Coverage:
    """What is left where a model answers only when it is sure enough.

    Attributes:
        below: confidence below which it does not answer.
        answered: images that it answers.
        right: of those, the ones answered rightly.
        images: in all.
        right_of_all: images that it would answer rightly if it always answered.
    """

    below: float
    answered: int
    right: int
    images: int
    right_of_all: int

    @property
    def share(self) -> float:
        """Share of the images that it answers; NaN of none."""
        return self.answered / self.images if self.images else np.nan

    @property
    def accuracy(self) -> float:
        """Share of its answers that are right; NaN where it gives none."""
        return self.right / self.answered if self.answered else np.nan


def coverage(answers: Answers, below: float) -> Coverage:
    """Return what is answered where a confidence below a number is no answer; one that is not finite never is."""
    sure, right = answers.confidence >= below, ~answers.wrong
    return Coverage(below, int(sure.sum()), int((sure & right).sum()), len(sure), int(right.sum()))


def _log_sum_exp(logits: np.ndarray) -> np.ndarray:
    top = logits.max(axis=1)
    with np.errstate(invalid="ignore"):  # of logits that are not finite
        return np.asarray(top + np.log(np.exp(logits.astype(np.float64) - top[:, None]).sum(axis=1)))
