"""A batch with a number that is not finite: what it may leave behind, on the CPU and on the road of other devices.

That road, where no number is read before it must be, is the same code with `free=False`, so the CPU can run it.
"""

from dataclasses import replace

import pytest
import torch
from small_training import CPU, Memory, Normed, batch, training
from torch import nn

from registry.errors import DivergedError
from registry.optimizers.muon import MuonConv
from registry.recording import Sink
from trainer.engine import checkpoint
from trainer.engine.guard import Guard
from trainer.engine.interrupts import Interrupts
from trainer.engine.precision import FP16
from trainer.engine.step import not_finite

OPTIMIZERS = {
    "SGD fused": lambda model: torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, fused=True),
    "SGD foreach": lambda model: torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, foreach=True),
    "AdamW fused": lambda model: torch.optim.AdamW(model.parameters(), 0.01, fused=True),
    "Adam foreach": lambda model: torch.optim.Adam(model.parameters(), 0.01, foreach=True),
    "Adagrad fused": lambda model: torch.optim.Adagrad(model.parameters(), 0.01, fused=True),
    "RMSprop": lambda model: torch.optim.RMSprop(model.parameters(), 0.01, momentum=0.9),
    "Muon": lambda model: torch.optim.Muon(model.parameters(), 0.02),
    "MuonConv": lambda model: MuonConv(model.parameters(), 0.02),
}
SGD = OPTIMIZERS["SGD fused"]
GOOD = [batch(seed) for seed in (1, 2, 3)]
BAD_IMAGE = batch(7, spoil=float("nan"))
every_optimizer = pytest.mark.parametrize("optimizer_of", OPTIMIZERS.values(), ids=OPTIMIZERS)
both_roads = pytest.mark.parametrize("free", [True, False], ids=["cpu", "device"])


class BadGradient(nn.Module):
    """Cross entropy whose gradient is not finite, though the loss is, at a batch of seven."""

    def forward(self, logits, targets):
        loss = nn.functional.cross_entropy(logits, targets)
        return loss + (logits.abs().max() * 0).sqrt() if logits.shape[0] == 7 else loss


def seven() -> object:
    """A batch of seven, at which `BadGradient` is bad."""
    return type(GOOD[0])(*(column[:7] for column in batch(8)))


def learnt(loop) -> str:
    """Digest of weights, buffers, averages and the optimizer's state."""
    state = loop.state()
    return checkpoint.digest({key: state[key] for key in ("model", "buffers", "modules", "optimizer", "averaging")})


# --------------------------------------------------------------------------------------------------------------- skip
@every_optimizer
@both_roads
def test_a_skipped_bad_image_leaves_no_trace(optimizer_of, free):
    loop, said = training([GOOD[0], BAD_IMAGE, *GOOD[1:]], optimizer_of, on_nan="skip", free=free)
    without, _ = training(GOOD, optimizer_of)
    loop.run()
    without.run()
    assert learnt(loop) == learnt(without)
    assert loop.progress.history[0]["val/loss"] == without.progress.history[0]["val/loss"]
    assert loop.progress.history[0]["train/loss"] == without.progress.history[0]["train/loss"]
    assert (loop.progress.skipped, loop.progress.step) == (1, 4)
    assert [line for line in said if "not finite" in line] == [
        f"loss not finite at epoch 1, step 2, learning rate {loop.progress.lr:.4g}: step skipped"
    ]


@every_optimizer
@both_roads
@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_skipped_bad_gradient_leaves_no_trace_though_its_loss_was_finite(optimizer_of, free, clip_norm):
    settings = {"loss": BadGradient(), "clip_norm": clip_norm}
    loop, said = training([GOOD[0], seven(), *GOOD[1:]], optimizer_of, on_nan="skip", free=free, **settings)
    without, _ = training(GOOD, optimizer_of, **settings)
    loop.run()
    without.run()
    assert learnt(loop) == learnt(without)
    assert any(line.startswith("gradient not finite at epoch 1, step 2") for line in said)


@both_roads
def test_statistics_of_the_loss_go_back_too(free):
    loss = Remembering()
    loop, _ = training([GOOD[0], BAD_IMAGE], SGD, on_nan="skip", free=free, loss=loss, modules={"loss": loss})
    loop.run()
    assert loss.mean.item() == pytest.approx(loss.seen[0])
    assert loss.replaced.item() == pytest.approx(loss.seen[0])


class Remembering(nn.Module):
    """Cross entropy that keeps its mean in two buffers: one changed in place, one replaced at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("replaced", torch.zeros(()), persistent=False)
        self.seen = []

    def forward(self, logits, targets):
        loss = nn.functional.cross_entropy(logits, targets)
        if self.training:
            self.seen.append(loss.item())
            self.mean += loss.detach()
            self.replaced = self.replaced + loss.detach()
        return loss


class Counts(Normed):
    """Spoils its input at the fifth training pass, by a counter in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros((), dtype=torch.long))

    def forward(self, inputs):
        if self.training:
            self.passes += 1
            if int(self.passes) == 5:
                inputs = inputs * float("inf")
        return super().forward(inputs)


@pytest.mark.parametrize("on_nan", ["skip", "restore"])
@both_roads
def test_a_counter_goes_on_so_that_what_it_counted_does_not_come_again(on_nan, free):
    loop, said = training(GOOD, SGD, on_nan=on_nan, free=free, model=Counts(), epochs=3)
    loop.run()
    assert len([line for line in said if "not finite" in line]) == 1
    assert int(loop.parts.model.passes) == 9
    assert int(loop.parts.model.norm.num_batches_tracked) == {"skip": 8, "restore": 7}[on_nan]


# ------------------------------------------------------------------------------------------------------------ restore
@every_optimizer
@both_roads
def test_restore_gives_back_everything_that_was_learnt_until_the_last_checkpoint(optimizer_of, free):
    keeper = Memory()
    loop, said = training([*GOOD, BAD_IMAGE], optimizer_of, on_nan="restore", free=free, keeper=keeper, epochs=2)
    first, _ = training(GOOD, optimizer_of)
    first.run()
    keeper.saved.append(checkpoint.snapshot(first.state()))
    loop.limits = replace(loop.limits, epochs=1)
    loop.run()
    assert learnt(loop) == learnt(first)
    assert loop.progress.restores == 1
    assert "weights of the last checkpoint restored, what the last 1 steps learnt is lost" in said[0]


def test_restore_keeps_what_the_schedule_has_made_of_the_groups():
    loop, _ = training([*GOOD, BAD_IMAGE], SGD, on_nan="restore", epochs=1)
    loop.parts.keeper.saved.append(checkpoint.snapshot(loop.state()))
    group = loop.parts.step.optimizer.param_groups[0]
    group["lr"], group["momentum"] = 0.007, 0.5
    loop.run()
    assert (group["lr"], group["momentum"]) == (0.007, 0.5)


# --------------------------------------------------------------------------------------------------- stop, and saving
@every_optimizer
def test_on_a_device_a_bad_batch_stops_at_the_next_reading_and_is_named_by_its_own_step(optimizer_of):
    keeper = Memory()
    loop, _ = training([*GOOD, BAD_IMAGE, *GOOD], optimizer_of, free=False, log_every=6, keeper=keeper)
    with pytest.raises(DivergedError, match=r"the loss is not finite \(epoch 1, step 4, learning rate"):
        loop.run()
    assert loop.progress.step == 6
    assert keeper.saved == []


@pytest.mark.parametrize("bad", [BAD_IMAGE, seven()], ids=["loss", "gradient"])
def test_on_a_device_a_save_in_the_middle_of_an_epoch_looks_first(bad):
    keeper = Memory(every=2)
    loop, _ = training([*GOOD, bad, *GOOD], SGD, free=False, loss=BadGradient(), keeper=keeper)
    with pytest.raises(DivergedError, match="step 4"):
        loop.run()
    assert [state["progress"]["step"] for state in keeper.saved] == [2]
    assert all(tensor.isfinite().all() for tensor in keeper.saved[0]["model"].values())


def test_on_a_device_a_signal_saves_nothing_that_is_not_finite():
    interrupts, keeper = Interrupts(), Memory()
    loop, _ = training([BAD_IMAGE, *GOOD], SGD, free=False, keeper=keeper, interrupts=interrupts)
    interrupts.signum = 2
    with pytest.raises(DivergedError, match="step 1"):
        loop.run()
    assert keeper.saved == []


def test_on_a_device_an_epoch_is_not_closed_before_the_last_look():
    loop, _ = training([*GOOD, BAD_IMAGE], SGD, free=False)
    with pytest.raises(DivergedError, match="step 4"):
        loop.run()
    assert loop.progress.history == []


@both_roads
@pytest.mark.parametrize("on_nan", ["stop", "skip"])
def test_weights_that_an_update_has_ruined_are_never_saved(free, on_nan):
    keeper = Memory()
    loop, _ = training(
        GOOD, lambda model: torch.optim.SGD(model.parameters(), 1e38), on_nan=on_nan, free=free, keeper=keeper
    )
    loop.parts.train._batches = GOOD[:1]
    with torch.no_grad():
        loop.parts.model.head.weight.mul_(1e3)
    with pytest.raises(DivergedError, match="the weight is not finite"):
        loop.run()
    assert keeper.saved == []


def test_a_mask_that_holds_infinities_is_no_fault():
    model = Normed()
    model.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    loop, _ = training(GOOD, SGD, model=model)
    loop.run()
    assert loop.progress.epoch == 1


class BadValidation(nn.Module):
    """Cross entropy that is no number in the first validation."""

    def __init__(self) -> None:
        super().__init__()
        self.validations = 0

    def forward(self, logits, targets):
        self.validations += not self.training
        loss = nn.functional.cross_entropy(logits, targets)
        return loss * float("nan") if self.validations == 1 and not self.training else loss


def test_an_epoch_without_a_finite_validation_loss_is_never_the_best_whatever_the_metric():
    loop, _ = training(GOOD, SGD, on_nan="skip", loss=BadValidation(), epochs=3)
    loop.limits = replace(loop.limits, best_metric="train/loss", best_mode="max")
    loop.run()
    losses = [row["train/loss"] for row in loop.progress.history]
    assert losses == sorted(losses, reverse=True)
    assert loop.progress.best["epoch"] == 2, "the first had the greatest"


@pytest.mark.parametrize("on_nan", ["skip", "restore"])
def test_a_training_of_which_no_epoch_could_be_validated_ends_as_diverged_with_its_last_state_kept(on_nan):
    keeper = Memory()
    lost = lambda logits, _targets: logits.sum() * (1 if logits.requires_grad else float("nan"))  # noqa: E731
    loop, said = training(GOOD, SGD, on_nan=on_nan, loss=lost, epochs=2, keeper=keeper)
    with pytest.raises(DivergedError, match="not finite in all 2 epochs: there are no best weights"):
        loop.run()
    assert said == [f"the validation loss is nan in epoch {epoch}: it cannot be the best" for epoch in (1, 2)]
    assert (loop.progress.best, keeper.saved[-1]["progress"]["epoch"]) == (None, 2)


def test_an_epoch_of_which_every_step_is_skipped_is_said():
    loop, said = training([BAD_IMAGE, BAD_IMAGE], SGD, on_nan="skip")
    loop.run()
    assert said[-1] == "epoch 1: none of its steps counts, each had a loss or gradient not finite"


# ----------------------------------------------------------------------------------------------- the look, the reading
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_bad_number_in_the_last_of_many_gradients_is_found_and_nothing_is_changed(value):
    gradients = [torch.randn(3, 4), torch.full((2,), 3e38), torch.randn(5)]
    before = [each.clone() for each in gradients]
    assert not_finite(gradients, torch.ones(())).item() == 0
    assert all(map(torch.equal, gradients, before))
    gradients[-1][-1] = value
    assert not_finite(gradients, torch.ones(())).item() == 1


def test_nothing_is_read_before_the_look_on_a_device_that_stops(monkeypatch):
    guard = Guard(CPU, free=False)
    numbers = [torch.tensor(1.0), torch.tensor(float("nan")), torch.tensor(2.0)]
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "item", lambda _: pytest.fail("read"))
        assert all(guard.admits([number], torch.zeros(()), 0.1 * index) for index, number in enumerate(numbers))
    fault = guard.look()
    assert (fault.what, fault.ago, fault.lr) == ("loss", 1, 0.1)
    assert guard.look() is None


def test_an_overflow_is_the_scalers_as_long_as_it_has_a_scale_to_come_down_from():
    precision, found = FP16(CPU), torch.ones(())
    assert precision.fault(found).item() == 0
    precision.load({**precision.state(), "scale": 1.0})
    assert precision.fault(found).item() == 1


@pytest.mark.parametrize("clip_norm", [None, 0.01])
def test_the_reading_has_the_gradient_norm_before_clipping(clip_norm):
    taken = {}

    class Readings(Sink):
        def step(self, step, values):
            taken[step] = dict(values)

    loop, _ = training(GOOD, SGD, log_every=2, clip_norm=clip_norm, sinks=[Readings()])
    other = Normed()
    optimizer = torch.optim.SGD(other.parameters(), 0.05, momentum=0.9)
    for images, targets, _ in GOOD[:2]:
        optimizer.zero_grad()
        nn.functional.cross_entropy(other(images), targets).backward()
        norm = nn.utils.clip_grad_norm_(other.parameters(), float("inf") if clip_norm is None else clip_norm)
        optimizer.step()
    loop.run()
    assert list(taken) == [2]
    assert taken[2]["grad_norm"] == pytest.approx(norm.item(), rel=1e-5)


def test_every_parameter_groups_rate_is_in_the_reading_and_in_the_row():
    taken = {}

    class Readings(Sink):
        def step(self, step, values):
            taken[step] = dict(values)

    def two_groups(model):
        return torch.optim.SGD(
            [{"params": model.first.parameters()}, {"params": model.head.parameters(), "lr": 0.5}], 0.1
        )

    loop, _ = training(GOOD, two_groups, log_every=3, sinks=[Readings()])
    loop.run()
    for numbers in (taken[3], loop.progress.history[0]):
        assert (numbers["lr"], numbers["lr/group2"]) == (0.1, 0.5)
