"""What a part of the data is measured by: the recipe's own loss, and beside it numbers that every recipe shares."""

import pytest
import torch
from shared_recipes import EVERYTHING
from torch.nn.functional import cross_entropy

from trainer.engine.evaluation import averaged_logits
from trainer.experiment.experiment import Experiment
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


def test_test_time_augmentation_averages_in_single_precision_whatever_the_network_answers_in():
    """In bfloat16 the mean of 1 and its successor, 1.0078125, is one of both."""
    images = torch.tensor([[1.0, 1.0078125]])[:, None, None].expand(1, 1, 4, 2).contiguous()
    answers = averaged_logits(lambda each: each[:, 0, 0].bfloat16(), images, "flip")
    assert answers.dtype == torch.float32
    assert answers.tolist() == [[1.00390625, 1.00390625]]


def test_a_class_that_training_lacks_counts_as_without_weights(experiment_of, monkeypatch):
    experiment = experiment_of(EVERYTHING)
    monkeypatch.setattr(Experiment, "class_counts", [4000, 3000, 3000, 0])
    assert experiment._balanced_weights().tolist() == pytest.approx([10 / 12, 10 / 9, 10 / 9, 1.0])
