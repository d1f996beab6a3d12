"""Norms of large tensors are as exact as their numbers, in whatever order those lie in memory."""

import pytest
import torch
from torch import nn

from registry.callbacks.logging import ParameterNorms
from registry.norms import norms, sum_of_magnitudes
from registry.regularizers import L1, L2, L2Norm

LARGE = 6_000_011  # values: a naive float32 sum of as many loses 5e-4 of the sum; no multiple of a row


@pytest.fixture(scope="module")
def large() -> torch.Tensor:
    return torch.rand(LARGE, generator=torch.Generator().manual_seed(0))


def test_a_large_tensors_norm_is_that_in_double_precision(large):
    found = norms([large, large[:5], large[:262_144]])
    exact = torch.stack([each.double().norm() for each in (large, large[:5], large[:262_144])])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=0)
    assert sum_of_magnitudes([large, -large]) == pytest.approx(2 * float(large.double().sum()), rel=1e-6)


@pytest.mark.parametrize("form", ["channels last", "turned", "every second", "one of several"])
def test_the_order_in_memory_does_not_matter(large, form):
    four = large[: 512 * 512 * 9].view(512, 512, 3, 3)
    tensor = {
        "channels last": four.contiguous(memory_format=torch.channels_last),
        "turned": four.view(512, -1).T,
        "every second": large[::2],
        "one of several": large.clone()[7:],
    }[form]
    (found,) = norms([tensor])
    assert float(found) == pytest.approx(float(tensor.double().norm()), rel=1e-6)


def test_what_is_not_finite_stays_so(large):
    spoilt = large.clone()
    spoilt[LARGE // 2] = torch.inf
    assert norms([spoilt]).isinf().all()
    spoilt[-1] = torch.nan
    assert norms([spoilt]).isnan().all()


def test_penalties_and_measured_norms_of_large_layers_are_right(large):
    parameter = nn.Parameter(large)
    parameter.grad = torch.zeros_like(large)
    exact = large.double()
    assert L1(1.0).value([parameter]) == pytest.approx(float(exact.sum()), rel=1e-6)
    assert L2(1.0).value([parameter]) == pytest.approx(float(exact.square().sum() / 2), rel=1e-6)
    assert L2Norm(1.0).value([parameter]) == pytest.approx(float(exact.norm()), rel=1e-6)
    L2Norm(1.0).add_gradients([parameter])
    assert float(parameter.grad.double().norm()) == pytest.approx(1.0, rel=1e-6)


def test_the_callback_measures_both_sums(large):
    model = nn.Linear(1, 1)
    model.weight = nn.Parameter(large.view(1, -1))
    view = type("View", (), {"model": model})()
    measured = ParameterNorms().measure(view)
    bias = float(model.bias.detach().abs())
    assert measured["parameters/sum_abs"] == pytest.approx(float(large.double().sum()) + bias, rel=1e-6)
    assert measured["parameters/sum_norms"] == pytest.approx(float(large.double().norm()) + bias, rel=1e-6)
