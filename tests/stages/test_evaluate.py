"""What a part of the data is measured by: the recipe's own loss, and beside it numbers that every recipe shares."""

import pytest
import torch
from shared_recipes import EVERYTHING
from torch.nn.functional import cross_entropy

from trainer.stages.evaluate import evaluate_weights

OWN = "loss={type: CrossEntropyLoss, label_smoothing: 0.2, weight: [9, 1, 1, 1, 1, 1, 1, 1, 1, 0]}"


@pytest.mark.parametrize("size", [1, 7, 40])
def test_the_loss_is_the_recipes_over_the_whole_part_and_a_plain_cross_entropy_stands_beside_it(experiment_of, size):
    experiment = experiment_of(EVERYTHING, [OWN, f"data.eval_batch_size={size}"])
    found = evaluate_weights(experiment, "val")
    logits, targets = torch.from_numpy(found.predictions.logits), torch.from_numpy(found.predictions.targets)
    own = cross_entropy(logits, targets, weight=torch.tensor([9.0, *[1.0] * 8, 0.0]), label_smoothing=0.2)
    assert found.values["loss"] == pytest.approx(float(own), rel=1e-6)
    assert found.values["cross_entropy"] == pytest.approx(float(cross_entropy(logits, targets)), rel=1e-6)
    assert list(found.values) == ["loss", "cross_entropy", "accuracy"]
