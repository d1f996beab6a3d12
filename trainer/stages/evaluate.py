"""The evaluate stage: the best and the final weights on the split the report speaks of, every sample once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from registry.contracts import Predictions
from trainer.data.splits import Part
from trainer.engine.evaluation import TTA, Evaluation, evaluate
from trainer.engine.modules import load_learnt, load_network
from trainer.experiment.experiment import Experiment, Which


@dataclass(frozen=True)
class Outcome:
    """What the weights of one epoch reach on a split.

    Attributes:
        values: "loss", "accuracy", ... without test-time augmentation, and "tta/accuracy", ... with it.
        predictions: without test-time augmentation, in dataset order; None where the first process has them.
    """

    values: Mapping[str, float]
    predictions: Predictions | None


def evaluate_weights(
    experiment: Experiment,
    which: Which | Part,
    weights: Mapping[str, Any] | None = None,
    *,
    tta: TTA = "none",
    between: Callable[[], None] = lambda: None,
) -> Outcome:
    """Evaluate on a part of the data.

    Args:
        experiment: its model and loss are given `weights` and keep them.
        which: the part.
        weights: `model`, `buffers`, `loss` and `loss_buffers` as a checkpoint has them; None for model and loss as
            they are.
        tta: also evaluate with this test-time augmentation.
        between: called before each batch; may raise to stop.
    """
    if weights is not None:
        load_network(experiment.model, weights)
        load_learnt(experiment.loss, weights.get("loss", {}), weights.get("loss_buffers", {}))

    def run(mode: TTA, keep: bool) -> Evaluation:
        return evaluate(
            experiment.forward,
            experiment.batches(which).epoch(0),
            experiment.loss,
            experiment.evaluation_metrics(),
            experiment.precision(),
            tta=mode,
            keep=keep,
            between=between,
            processes=experiment.processes,
        )

    plain = run("none", True)
    values = {"loss": plain.loss, **plain.metrics}
    if tta != "none":
        averaged = run(tta, False)
        values.update({f"tta/{key}": value for key, value in {"loss": averaged.loss, **averaged.metrics}.items()})
    if plain.logits is None or plain.targets is None or plain.indices is None:
        return Outcome(values, None)
    predictions = Predictions(
        plain.indices.numpy(), plain.targets.numpy(), plain.logits.numpy(), plain.loss, dict(plain.metrics)
    )
    return Outcome(values, predictions)
