"""The LR finder leaves no trace, measures what it says, and its number reaches the optimizer."""

import math

import pytest
import torch
from shared_recipes import EVERYTHING

from registry.errors import DivergedError
from trainer.engine import checkpoint, rng
from trainer.engine.interrupts import Interrupted, Interrupts
from trainer.recipe.recipe import LRFinder
from trainer.stages.lr_finder import find_lr, required_lr, untouched

QUICK = LRFinder(start=1e-4, end=10, steps=20)


def fingerprint(experiment) -> tuple[str, str, list[bool]]:
    modes = [module.training for module in experiment.model.modules()]
    return checkpoint.digest(experiment.model.state_dict()), checkpoint.digest(rng.capture()), modes


@pytest.mark.parametrize("loss", ["train", "val"])
def test_model_gradients_modes_and_random_states_are_as_before(experiment_of, loss):
    experiment = experiment_of(EVERYTHING)
    experiment.model.eval()
    next(experiment.model.parameters()).grad = kept = torch.ones_like(next(experiment.model.parameters()))
    before = fingerprint(experiment)
    find_lr(experiment, LRFinder(start=1e-4, end=10, steps=20, loss=loss))
    assert fingerprint(experiment) == before
    assert next(experiment.model.parameters()).grad is kept


def test_twice_gives_the_same_curve(experiment_of):
    experiment = experiment_of(EVERYTHING)
    first, second = (find_lr(experiment, QUICK) for _ in range(2))
    assert first.losses == second.losses
    assert first.lr == second.lr


def test_nothing_is_left_after_an_interrupt(experiment_of):
    experiment = experiment_of(EVERYTHING)
    before, interrupts = fingerprint(experiment), Interrupts()

    def stop(step, *_):
        interrupts.signum = 2 if step == 3 else None

    with pytest.raises(Interrupted):
        find_lr(experiment, QUICK, interrupts=interrupts, progress=stop)
    assert fingerprint(experiment) == before


def test_a_training_loss_is_paired_with_the_rate_that_made_it(experiment_of):
    """On a quadratic the loss after a step tells the step's rate exactly."""
    experiment = experiment_of(EVERYTHING, ["regularizers=[]", "train.mix=null", "train.clip_norm=null"])
    seen = []
    finding = find_lr(experiment, QUICK, progress=lambda step, steps, lr, loss: seen.append((lr, loss)))
    rates, losses = zip(*seen, strict=True)
    assert finding.lrs == rates[: len(finding.lrs)]  # loss i+1 stands beside lr i
    assert finding.losses == losses[1 : len(finding.losses) + 1]


def test_a_loss_that_is_not_finite_ends_the_sweep(experiment_of):
    experiment = experiment_of(EVERYTHING, ["train.clip_norm=null"])
    finding = find_lr(experiment, LRFinder(start=1e25, end=1e38, steps=20))
    assert finding.stopped in ("non-finite", "diverged")
    assert all(math.isfinite(loss) for loss in finding.losses)
    assert finding.lr is None


def test_an_inconclusive_finding_gives_no_number_unless_one_is_assumed(experiment_of):
    experiment = experiment_of(EVERYTHING)
    section = LRFinder(start=1e-9, end=1e-8, steps=20)
    finding = find_lr(experiment, section)
    assert finding.status == "inconclusive"
    with pytest.raises(DivergedError, match="found no learning rate"):
        required_lr(finding)
    assumed = find_lr(experiment, section, assume=True)
    assert assumed.status == "assumed"
    assert assumed.lr == pytest.approx(math.sqrt(1e-9 * 1e-8))


def test_a_change_that_escapes_is_noticed(experiment_of):
    experiment = experiment_of(EVERYTHING)
    kept = rng.restore

    def change_and_escape() -> None:
        with untouched(experiment):
            rng.restore = lambda _: None
            torch.rand(1)

    try:
        with pytest.raises(AssertionError, match="random state"):
            change_and_escape()
    finally:
        rng.restore = kept


def test_a_weighted_sweep_measures_by_the_weights_and_skips_steps_in_which_nothing_counts(experiment_of):
    """Batches of two images under weights that count three classes of ten: some steps measure nothing."""
    weights = [0, 0, 0, 0, 0, 0, 0, 1, 1, 50]
    experiment = experiment_of(
        EVERYTHING,
        [
            f"loss={{type: CrossEntropyLoss, weight: {weights}}}",
            "data.batch_size=1",
            "train.mix=null",
            "regularizers=[]",
        ],
    )
    seen = []
    section = LRFinder(start=1e-6, end=1e-4, steps=20)
    finding = find_lr(experiment, section, progress=lambda step, steps, lr, loss: seen.append(step))
    assert finding.stopped == "end"
    assert 0 < len(seen) < 20
    assert len(finding.losses) == len([step for step in seen if step > 1])
    assert all(0 < loss < 5 for loss in finding.losses)


def test_a_sweep_that_measures_too_little_is_told_by_the_steps_in_which_nothing_counts(experiment_of):
    weights = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    loss = f"loss={{type: CrossEntropyLoss, weight: {weights}}}"
    experiment = experiment_of(EVERYTHING, [loss, "data.batch_size=1", "train.mix=null", "regularizers=[]"])
    seen = []
    section = LRFinder(start=1e-6, end=1e-4, steps=20)
    finding = find_lr(experiment, section, progress=lambda step, steps, lr, loss: seen.append(step))
    assert (finding.status, finding.stopped) == ("inconclusive", "end")
    assert finding.reason.startswith(f"in {20 - len(seen)} of 20 steps no image counts, ")
    assert "raise data.batch_size" in finding.reason
