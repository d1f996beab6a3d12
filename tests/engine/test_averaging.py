"""Averaged weights: what the average is after so many steps, when it is in place, and what lookahead does besides."""

import pytest
import torch
from torch import nn

from trainer.engine.averaging import Averaging


def weight_of(value: float) -> nn.Module:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(value)
    return model


def set_to(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        model.weight.fill_(value)


def test_the_average_keeps_the_share_that_was_asked_for_once_it_has_run_in():
    model = weight_of(0.0)
    averaging = Averaging(model, 0.5, 1, "ema")
    expected = 0.0
    for number, value in enumerate([1.0, -2.0, 4.0, 0.5, 3.0, 7.0, 1.0, 2.0, 9.0, 5.0], start=1):
        set_to(model, value)
        averaging.step_finished()
        share = min(0.5, (1 + number) / (10 + number))
        expected = share * expected + (1 - share) * value
    with averaging.applied():
        assert model.weight.item() == pytest.approx(expected, rel=1e-6)
    assert model.weight.item() == 5.0


def test_the_initial_weights_do_not_linger_under_a_great_decay():
    model = weight_of(100.0)
    averaging = Averaging(model, 0.999, 1, "ema")
    set_to(model, 0.0)
    for _ in range(50):
        averaging.step_finished()
    with averaging.applied():
        assert abs(model.weight.item()) < 1e-4, "0.999 ** 50 would have left 95"


def test_only_every_so_many_steps_count():
    model = weight_of(0.0)
    averaging = Averaging(model, 0.0, 3, "ema")
    set_to(model, 1.0)
    for step, expected in enumerate([0.0, 0.0, 1.0], start=1):
        averaging.step_finished()
        with averaging.applied():
            assert model.weight.item() == expected, step


def test_lookahead_moves_the_weights_to_the_average_by_the_share_alone():
    model = weight_of(0.0)
    averaging = Averaging(model, 0.75, 1, "lookahead")
    set_to(model, 8.0)
    averaging.step_finished()
    assert model.weight.item() == pytest.approx(2.0)


@pytest.mark.parametrize("mode", ["ema", "lookahead"])
def test_a_mask_of_infinities_stays_what_it_is(mode):
    model = weight_of(0.0)
    model.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    averaging = Averaging(model, 0.5, 1, mode)
    set_to(model, 8.0)
    averaging.step_finished()
    with averaging.applied():
        assert model.mask.tolist() == [0.0, -torch.inf]
    assert model.mask.tolist() == [0.0, -torch.inf]


def test_counters_stay_the_live_ones_and_running_statistics_are_averaged():
    model = nn.BatchNorm1d(1)
    averaging = Averaging(model, 0.5, 1, "ema")
    model(torch.tensor([[0.0], [10.0]]))
    averaging.step_finished()
    share = 2 / 11
    with averaging.applied():
        assert model.running_mean.item() == pytest.approx((1 - share) * 0.5)
        assert model.num_batches_tracked.item() == 1
