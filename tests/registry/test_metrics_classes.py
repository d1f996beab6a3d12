"""Metrics per class and of an order, held to what scikit-learn 1.9.1 says of the same answers.

scikit-learn's numbers stand here as they were computed; it is not among what the tests need.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

import trainer
from registry.catalogue.catalog import catalogue
from registry.metrics.classes import F1, Average, BalancedAccuracy, Precision, Recall
from registry.metrics.ranking import AUROC

TRUTH = (0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3)  # class 3 is never answered
ANSWERS = (0, 0, 0, 0, 1, 2, 1, 1, 0, 2, 2, 0)
TRUTH_OF_THREE = (0, 0, 0, 1, 1, 3)  # no image is of class 2, which is answered once
ANSWERS_OF_THREE = (0, 2, 0, 1, 3, 3)
LOGITS = torch.tensor(
    [
        [2.0, 0.5, -1.0],
        [1.5, 1.0, 0.0],
        [0.0, 0.5, 0.0],
        [0.25, 2.0, -0.5],
        [1.0, 1.0, -1.0],
        [-1.0, 0.0, 1.5],
        [0.5, -0.5, 0.5],
        [1.0, 0.0, 2.0],
    ]
)
TARGETS = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
METRICS = (BalancedAccuracy, F1, Precision, Recall, AUROC)


def answered(classes: Sequence[int], count: int = 4) -> Tensor:
    """Return logits whose greatest are of these classes."""
    return 3 * torch.nn.functional.one_hot(torch.tensor(classes), count).float()


def told(metric: Precision | Recall | F1 | BalancedAccuracy, truth: Sequence[int], answers: Sequence[int]) -> float:
    metric.update(answered(answers), torch.tensor(truth))
    return float(metric.compute())


@pytest.mark.parametrize(
    ("average", "precision", "recall", "f1"),
    [
        ("macro", 0.5, 0.5833333333333333, 0.5333333333333333),
        ("micro", 0.6666666666666666, 0.6666666666666666, 0.6666666666666666),
        ("weighted", 0.611111111111111, 0.6666666666666666, 0.6333333333333333),
    ],
)
def test_scores_per_class_are_scikit_learns_with_a_class_never_answered_as_0(
    average: Average, precision: float, recall: float, f1: float
) -> None:
    assert told(Precision(average), TRUTH, ANSWERS) == pytest.approx(precision, abs=1e-12)
    assert told(Recall(average), TRUTH, ANSWERS) == pytest.approx(recall, abs=1e-12)
    assert told(F1(average), TRUTH, ANSWERS) == pytest.approx(f1, abs=1e-12)


@pytest.mark.parametrize(
    ("average", "precision", "recall", "f1"),
    [
        ("macro", 0.8333333333333334, 0.7222222222222222, 0.7111111111111111),
        ("weighted", 0.9166666666666666, 0.6666666666666666, 0.7333333333333334),
    ],
)
def test_a_class_without_images_is_left_out_as_scikit_learn_does_where_labels_are_those_that_occur(
    average: Average, precision: float, recall: float, f1: float
) -> None:
    assert told(Precision(average), TRUTH_OF_THREE, ANSWERS_OF_THREE) == pytest.approx(precision, abs=1e-12)
    assert told(Recall(average), TRUTH_OF_THREE, ANSWERS_OF_THREE) == pytest.approx(recall, abs=1e-12)
    assert told(F1(average), TRUTH_OF_THREE, ANSWERS_OF_THREE) == pytest.approx(f1, abs=1e-12)


def test_balanced_accuracy_is_scikit_learns_whether_or_not_every_class_has_images() -> None:
    assert told(BalancedAccuracy(), TRUTH, ANSWERS) == pytest.approx(0.5833333333333333, abs=1e-12)
    assert told(BalancedAccuracy(), TRUTH_OF_THREE, ANSWERS_OF_THREE) == pytest.approx(0.7222222222222222, abs=1e-12)


@pytest.mark.parametrize(("average", "area"), [("macro", 0.9555555555555556), ("weighted", 0.95)])
def test_auroc_is_scikit_learns_one_against_the_rest(average: str, area: float) -> None:
    metric = AUROC(average)  # type: ignore[arg-type]
    metric.update(LOGITS, TARGETS)
    assert float(metric.compute()) == pytest.approx(area, abs=1e-12)


@pytest.mark.parametrize("average", ["macro", "weighted"])
def test_auroc_of_two_classes_is_the_area_under_their_one_curve_equals_counting_half(average: str) -> None:
    """Of the answers by logits: probabilities that were rounded apart make two equal ones unequal, and 0.625."""
    metric = AUROC(average)  # type: ignore[arg-type]
    metric.update(LOGITS[:, :2], torch.tensor([0, 1, 0, 1, 1, 0, 1, 0]))
    assert float(metric.compute()) == pytest.approx(0.59375, abs=1e-12)


def test_auroc_leaves_out_a_class_that_no_image_is_of_and_ranks_very_sure_answers_too() -> None:
    whole, wider = AUROC(), AUROC()
    whole.update(LOGITS[:, :2], torch.tensor([0, 1, 0, 1, 1, 0, 1, 0]))
    nobody = torch.full((8, 1), float("-inf"))
    wider.update(torch.cat([LOGITS[:, :2], nobody], dim=1), torch.tensor([0, 1, 0, 1, 1, 0, 1, 0]))
    assert wider.compute() == whole.compute()
    sure = AUROC()  # in float32 both probabilities are 1
    sure.update(torch.tensor([[30.0, 0.0], [20.0, 0.0]]), torch.tensor([0, 1]))
    assert sure.compute() == 1


def test_without_images_or_with_one_class_or_an_answer_that_is_no_number_there_is_no_value() -> None:
    for metric in METRICS:
        assert metric().compute().isnan()
    one_class, broken = AUROC(), AUROC()
    one_class.update(LOGITS, torch.zeros(8, dtype=torch.int64))
    broken.update(torch.full((2, 3), float("nan")), torch.tensor([0, 1]))
    assert one_class.compute().isnan()
    assert broken.compute().isnan()


@pytest.mark.parametrize("kind", METRICS)
def test_parts_give_the_value_of_the_whole_and_a_state_continues(kind: type) -> None:
    whole, resumed, part = kind(), kind(), kind()
    whole.update(LOGITS, TARGETS)
    part.load(part.state())  # of nothing
    part.update(LOGITS[:3], TARGETS[:3])
    resumed.load(part.state())
    resumed.update(LOGITS[3:], TARGETS[3:])
    assert resumed.compute() == whole.compute()
    resumed.reset()
    assert resumed.compute().isnan()


@pytest.mark.parametrize("kind", METRICS)
def test_states_of_two_parts_are_joined_by_adding_counts_or_putting_answers_behind_one_another(kind: type) -> None:
    first, second, whole, joined = kind(), kind(), kind(), kind()
    first.update(LOGITS[5:], TARGETS[5:])
    second.update(LOGITS[:5], TARGETS[:5])
    whole.update(LOGITS, TARGETS)
    one, other = first.state(), second.state()
    if kind is AUROC:
        joined.load({name: torch.cat([one[name], other[name]]) for name in one})
    else:
        joined.load({name: one[name] + other[name] for name in one})
    assert joined.compute() == whole.compute()


@pytest.mark.parametrize("kind", METRICS)
def test_each_declares_its_key_direction_and_range_so_that_best_and_expect_know_it(kind: type) -> None:
    keys = {"BalancedAccuracy": "balanced_accuracy", "AUROC": "auroc"}
    facts = catalogue().entry("metric", kind.__name__).facts
    assert facts == {"key": keys.get(kind.__name__, kind.__name__.lower()), "mode": "max", "range": [0.0, 1.0]}


def test_best_and_expect_take_them_and_hold_their_direction_and_range(tmp_path: Path) -> None:
    recipe = tmp_path / "scans.yaml"
    recipe.write_text(
        "version: 1\ndata: {dataset: Shapes}\nmodel: SmallCNN\noptimizer: {type: SGD, lr: 0.1}\n"
        "train: {epochs: 2, metrics: [Accuracy, {type: F1, average: micro, as: f1_micro}, AUROC],\n"
        "        best: {metric: val/auroc}}\n"
        'expect: {"best val/auroc": ">= 0.9", "final test/f1_micro": "0.5..0.7"}\n'
    )
    assert trainer.validate(recipe) == ()
    (problem,) = trainer.validate(recipe, "train.best.mode=min")
    assert (problem.rule, problem.path) == ("R051", "train.best.mode")
    (problem,) = trainer.validate(recipe, "expect={best val/auroc: '>= 90'}")
    assert problem.rule == "R110"
    (problem,) = trainer.validate(recipe, "train.metrics=[Accuracy, AUC, AUROC]", "expect=null")
    assert (problem.text, problem.hint) == ("there is no metric 'AUC'", "here it is 'AUROC'")
