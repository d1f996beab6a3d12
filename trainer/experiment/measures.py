"""Dry run of the loss and the metrics, on made-up logits; a part of the second tier of checks.

What would otherwise show in the first batch, or after the first epoch, is told before training.
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from registry.contracts import Metric
from registry.errors import UserError
from registry.metrics.counting import TopKAccuracy
from trainer.engine.criterion import Criterion, Loss
from trainer.engine.meters import BatchResult, mean_loss
from trainer.recipe.checks.draft import Draft
from trainer.recipe.recipe import Spec

_IMAGES, _PART = 24, 8
_MOST_CLASSES = 100  # that each get an image


def try_loss(draft: Draft, loss: Loss, classes: int) -> None:
    """Give a loss class indices and, where the recipe mixes, class probabilities; report what it cannot do.

    Args:
        draft: takes what is wrong.
        loss: built from the recipe.
        classes: to tell apart.
    """
    logits, targets = _made_up(_IMAGES, classes)
    given = [("loss", "class indices", targets)]
    if draft.recipe.train.mix is not None:
        soft = torch.full((_IMAGES, classes), 1 / classes)
        given.append(("train.mix", "the mixed targets of a batch", soft))
    for path, words, those in given:
        said = _why_not(loss, logits, those)
        if said:
            draft.report("R071", path, f"loss {draft.recipe.loss.type} cannot take {words}: {said}")
            return
    _same_in_parts(draft, loss, logits, targets)


def _why_not(loss: Loss, logits: Tensor, targets: Tensor) -> str:
    """Return why a loss cannot be trained on these targets; "" where it can."""
    logits = logits.clone().requires_grad_()
    try:
        value = Criterion(loss)(logits, targets)
        if not isinstance(value, Tensor) or value.dim():
            got = f"{value.numel()} numbers" if isinstance(value, Tensor) else type(value).__name__
            return f"it gives {got} for a batch of {len(targets)}, and training needs their mean"
        value.backward()
    except Exception as error:
        return " ".join(str(error).split())[:200] or type(error).__name__
    return ""


def _same_in_parts(draft: Draft, loss: Loss, logits: Tensor, targets: Tensor) -> None:
    """Warn of a loss whose value depends on how the images are cut into batches."""
    criterion = Criterion(loss)
    whole, parts = (
        mean_loss([
            BatchResult(criterion(some, those), some, those, criterion.weight(those))
            for some, those in zip(logits.split(size), targets.split(size), strict=True)
        ])
        for size in (len(targets), _PART)
    )  # fmt: skip
    if whole is None or parts is None or not math.isfinite(whole + parts):
        return
    if not math.isclose(whole, parts, rel_tol=1e-3, abs_tol=1e-6):
        text = (
            f"loss {draft.recipe.loss.type} is no mean over the images: {whole:.4g} for {len(targets)} made-up images "
            f"at once, {parts:.4g} in batches of {_PART}; so val/loss and accumulated steps depend on the batches"
        )
        draft.report("W024", "loss", text, "divide by the images, or say by what in a method normaliser(targets)")


def try_metric(draft: Draft, spec: Spec, metric: Metric, classes: int, *, certain: bool) -> None:
    """Let a metric count made-up logits, and report what it cannot do.

    Args:
        draft: takes what is wrong.
        spec: the metric in the recipe.
        metric: built from it.
        classes: to tell apart.
        certain: whether the number of classes is known, and no stand-in.
    """
    logits, targets = _made_up(max(_IMAGES, 2 * min(classes, _MOST_CLASSES)), classes)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what made-up answers lack
            metric.update(logits, targets)
            metric.load(metric.state())
            float(metric.compute())
    except UserError as error:
        draft.report("R071", spec.path, error.message, error.hint)
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        text = f"metric {spec.type} cannot take logits and class indices: {type(error).__name__}: {said}"
        draft.report("R071", spec.path, text)
    else:
        if certain and isinstance(metric, TopKAccuracy) and metric.k >= classes:
            text = f"metric {spec.type}: the {metric.k} greatest of {classes} classes always hold the true one: it is 1"
            draft.report("W026", f"{spec.path}.k", text, f"take k below {classes}")


def _made_up(images: int, classes: int) -> tuple[Tensor, Tensor]:
    """Return logits (images, classes) and class indices of which some are frequent; every class occurs if it can."""
    logits = torch.randn(images, classes, generator=torch.Generator().manual_seed(0))
    place = torch.arange(images)
    return logits, place * place // images % classes
