"""A mean over parts is the loss of the whole, whatever it divides by: class weights, ignored classes, mixed targets."""

import copy

import pytest
import torch
from torch import nn

from registry.losses import sums_of
from registry.metrics.classes import BalancedAccuracy
from registry.metrics.counting import Accuracy, CrossEntropy
from registry.metrics.ranking import AUROC
from trainer.data.batches import Batch
from trainer.engine.criterion import Criterion, part_of_step
from trainer.engine.evaluation import evaluate
from trainer.engine.guard import Guard
from trainer.engine.meters import BatchResult, Meter, mean_loss
from trainer.engine.precision import Precision
from trainer.engine.step import Step

CLASSES, IMAGES = 4, 64
WEIGHT = torch.tensor([20.0, 1.0, 0.05, 0.0])
CPU = torch.device("cpu")


class Focal(nn.Module):
    """A plug-in's loss with class weights, which tells what it divides by."""

    def normaliser(self, targets: torch.Tensor) -> torch.Tensor:
        return WEIGHT[targets].sum()

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        likelihood = logits.log_softmax(1).gather(1, targets[:, None])[:, 0]
        weight = WEIGHT[targets]
        return -(weight * (1 - likelihood.exp()) ** 2 * likelihood).sum() / weight.sum()


class Likelihoods(nn.NLLLoss):
    """A subclass that leaves the mean as it is."""


LOSSES = {
    "plain": nn.CrossEntropyLoss(),
    "weighted": nn.CrossEntropyLoss(weight=WEIGHT),
    "smoothed": nn.CrossEntropyLoss(label_smoothing=0.1),
    "weighted and smoothed": nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.1),
    "a class ignored": nn.CrossEntropyLoss(ignore_index=2),
    "weighted, a class ignored": nn.CrossEntropyLoss(weight=WEIGHT, ignore_index=0),
    "likelihoods": Likelihoods(weight=WEIGHT, ignore_index=1),
    "margin": nn.MultiMarginLoss(weight=WEIGHT),
    "a plug-in's": Focal(),
}


@pytest.fixture
def answers() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and class indices, class by class as folders come, the last class alone in the last batches."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(IMAGES, CLASSES, generator=generator), torch.arange(IMAGES) * CLASSES // IMAGES


def cut(loss: nn.Module, logits: torch.Tensor, targets: torch.Tensor, size: int) -> list[BatchResult]:
    criterion, results = Criterion(loss), []
    for some, those in zip(logits.split(size), targets.split(size), strict=True):
        results.append(BatchResult(criterion(some, those), some, those, criterion.weight(those)))
    return results


@pytest.mark.parametrize("size", [1, 5, 16, 48])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_the_mean_over_batches_of_any_size_is_torchs_over_all_images(loss, size, answers):
    assert mean_loss(cut(loss, *answers, size)) == pytest.approx(float(loss(*answers)), rel=1e-6)


@pytest.mark.parametrize("size", [1, 5, 16])
def test_class_probabilities_are_not_normalised_by_the_weights(size, answers):
    logits, targets = answers
    mixed = 0.7 * nn.functional.one_hot(targets, CLASSES) + 0.3 / CLASSES
    loss = nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.1)
    assert mean_loss(cut(loss, logits, mixed, size)) == pytest.approx(float(loss(logits, mixed)), rel=1e-6)


def test_a_loss_that_divides_by_the_images_costs_no_tensor(answers):
    _, targets = answers
    for name in ("plain", "smoothed", "margin"):
        assert sums_of(LOSSES[name]) is None
        assert Criterion(LOSSES[name]).weight(targets) == IMAGES


@pytest.mark.parametrize("name", ["weighted", "weighted and smoothed", "a plug-in's"])
def test_a_step_of_images_that_do_not_count_has_gradients_of_zero(name, answers):
    logits, targets = answers[0][:3].clone().requires_grad_(), torch.tensor([3, 3, 3])
    assert not LOSSES[name](logits, targets).isfinite()
    (result,) = cut(LOSSES[name], logits, targets, 3)
    part_of_step(result.loss, result.weight, result.weight).backward()
    assert result.loss.isfinite()
    assert torch.equal(logits.grad, torch.zeros(3, CLASSES))
    assert mean_loss([result]) is None


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_an_image_that_another_process_counts_adds_nothing_to_the_step(name, answers):
    logits, targets = answers[0][:2].clone().requires_grad_(), torch.tensor([0, 1])
    criterion = Criterion(LOSSES[name])
    part_of_step(criterion(logits, targets), 0, criterion.weight(targets)).backward()
    assert torch.equal(logits.grad, torch.zeros(2, CLASSES))


def batches(size: int, images: torch.Tensor, targets: torch.Tensor) -> list[Batch]:
    columns = (images.split(size), targets.split(size), torch.arange(IMAGES).split(size))
    return [Batch(*parts) for parts in zip(*columns, strict=True)]


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, CLASSES))


@pytest.fixture
def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(IMAGES, 3, 2, 2, generator=generator), torch.arange(IMAGES) * CLASSES // IMAGES


def softened(images, targets):
    return images, 0.8 * nn.functional.one_hot(targets, CLASSES) + 0.2 / CLASSES


@pytest.mark.parametrize(
    ("name", "mix"),
    [
        *((name, None) for name in LOSSES),
        *((name, softened) for name in ("plain", "weighted", "smoothed", "weighted and smoothed")),
    ],
)
def test_four_micro_batches_of_16_take_the_step_of_64_at_once(name, mix, data):
    """Class by class, so that each micro-batch has weights of its own and one has none at all."""
    weights = []
    for size in (16, 64):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        step = Step(model, LOSSES[name], optimizer, Precision(), (), None, Guard(CPU))
        for _ in range(3):
            results = step(batches(size, *data), mix)
            assert torch.stack([result.loss for result in results]).isfinite().all()
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert not torch.equal(weights[0], torch.cat([p.detach().flatten() for p in network().parameters()]))
    torch.testing.assert_close(*weights, rtol=0, atol=1e-6)


def test_a_step_in_which_nothing_counts_moves_nothing(data):
    images, _ = data
    model = network()
    before = copy.deepcopy(model.state_dict())
    guard = Guard(CPU)
    step = Step(model, LOSSES["weighted"], torch.optim.SGD(model.parameters(), lr=0.5), Precision(), (), None, guard)
    step(batches(16, images, torch.full((IMAGES,), 3)))
    assert guard.look() is None
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_an_evaluation_is_the_same_for_every_batch_size(loss, data):
    images, targets = data
    model = network()
    right = loss(model(images), targets).item()
    found = [evaluate(model, batches(size, *data), loss, {}, Precision()).loss for size in (1, 7, 16, 64)]
    assert found == pytest.approx([right] * 4, rel=1e-6)


def test_an_epochs_mean_and_that_of_each_interval_count_by_weight(answers):
    """Losses 1 and 4 with weights 3 and 1, so sums of 3 and 4: the mean is 1.75, not 2.5."""
    logits, targets = torch.zeros(2, CLASSES), torch.zeros(2, dtype=torch.int64)
    meter = Meter({"accuracy": Accuracy()})
    for loss, weight in ((1.0, 3.0), (4.0, 1.0)):
        meter.add([BatchResult(torch.tensor(loss * weight), logits, targets, torch.tensor(weight))])
    assert meter.fold() == {"loss": 1.75}
    meter.add([BatchResult(torch.tensor(0.0), logits, targets, torch.tensor(0.0))])
    assert meter.fold() == {}  # nothing in this interval counts
    meter.add([BatchResult(torch.tensor(36.0), logits, targets, torch.tensor(4.0))])
    assert meter.fold() == {"loss": 9.0}
    assert meter.read() == {"loss": 43 / 8, "accuracy": 1.0}


def test_a_meter_continues_from_its_state_with_the_weights_that_wait(answers):
    results = cut(LOSSES["weighted"], *answers, 16)
    whole, resumed = Meter({}), Meter({})
    whole.add(results[:2])
    resumed.load(whole.state(), CPU)
    for meter in (whole, resumed):
        meter.add(results[2:])
    assert resumed.read() == whole.read()
    assert whole.read()["loss"] == pytest.approx(float(LOSSES["weighted"](*answers)), rel=1e-6)


def test_an_epoch_in_which_no_image_counts_has_no_loss():
    meter = Meter({})
    assert meter.read() == {}
    meter.add(cut(LOSSES["weighted"], torch.zeros(2, CLASSES), torch.tensor([3, 3]), 1))
    assert torch.tensor(meter.read()["loss"]).isnan()


# ------------------------------------------------------------------------------------------------- a resume elsewhere
class OnTheHost:
    """A metric that keeps what it is given off the device."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.kept: list[torch.Tensor] = []

    def update(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        self.kept.append(torch.zeros(len(targets)))

    def state(self) -> dict[str, object]:
        return {"kept": self.kept}

    def load(self, state) -> None:
        self.kept = list(state["kept"])


def test_what_metrics_have_gathered_goes_where_batches_lie_unless_they_kept_it_elsewhere():
    """The device "meta" stands for another than the CPU, to which checkpoints are read."""
    classes = (Accuracy, BalancedAccuracy, AUROC, CrossEntropy, OnTheHost)
    made = [Meter({each.__name__: each() for each in classes}) for _ in range(2)]
    meta = torch.device("meta")
    for meter, device in zip(made, ("cpu", "meta"), strict=True):
        logits, targets = torch.zeros(4, CLASSES, device=device), torch.zeros(4, dtype=torch.int64, device=device)
        meter.add([BatchResult(torch.zeros((), device=device), logits, targets, 4)])
        meter._update_metrics()
    states = [each.state() for each in made]
    assert [each["apart"] for each in states] == [[], ["OnTheHost"]]
    resumed = Meter({each.__name__: each() for each in classes})
    resumed.load({**states[0], "apart": ["OnTheHost"]}, meta)
    resumed.add([BatchResult(torch.zeros((), device=meta), logits, targets, 4)])
    resumed._update_metrics()
    state = resumed.state()["metrics"]
    assert state["BalancedAccuracy"]["counts"].device == state["AUROC"]["logits"].device == meta
    assert [each.device.type for each in state["OnTheHost"]["kept"]] == ["cpu", "cpu"]
