"""Penalties: gradients equal autograd's on the same formula, values equal the formula, whatever the memory format."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from registry.models.cifar_resnet import cifar_resnet18
from registry.regularizers import L1, L2, L2Norm

FORMULAS: list[tuple[type, Callable[[Tensor], Tensor]]] = [
    (L1, lambda p: p.abs().sum()),
    (L2, lambda p: p.square().sum() / 2),
    (L2Norm, lambda p: p.norm()),
]
BY_FORMULA = pytest.mark.parametrize(("penalty", "formula"), FORMULAS)


def parameters(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for shape in [(4, 3, 3, 3), (6, 4), (6,), ()]:
        value = torch.randn(shape, generator=generator).to(dtype)
        made.append(nn.Parameter(value))
        made[-1].grad = torch.randn(shape, generator=generator).to(dtype)
    return made


@BY_FORMULA
def test_penalty_gradient_equals_autograd(penalty: type, formula: Callable[[Tensor], Tensor]) -> None:
    tensors = parameters()
    before = [p.grad.clone() for p in tensors]  # type: ignore[union-attr]
    expected = torch.autograd.grad(0.3 * sum(formula(p) for p in tensors), tensors)
    penalty(0.3).add_gradients(tensors)
    for p, old, added in zip(tensors, before, expected, strict=True):
        torch.testing.assert_close(p.grad, old + added)


@BY_FORMULA
def test_value_equals_the_formula_on_a_real_network(penalty: type, formula: Callable[[Tensor], Tensor]) -> None:
    tensors = list(cifar_resnet18(10).parameters())
    expected = 1e-3 * sum(formula(p.detach().double()) for p in tensors)
    value = penalty(1e-3).value(tensors)
    assert value.dtype == torch.float32
    assert value.shape == ()
    assert not value.requires_grad
    assert value.item() == pytest.approx(expected.item(), rel=2e-5)


@BY_FORMULA
def test_frozen_parameters_get_no_gradient(penalty: type, formula: Callable[[Tensor], Tensor]) -> None:
    tensors = parameters()
    tensors[1].grad = None
    penalty(1.0).add_gradients(tensors)
    assert tensors[1].grad is None
    penalty(1.0).add_gradients([tensors[1]])
    assert tensors[1].grad is None


@BY_FORMULA
def test_memory_formats_may_differ(penalty: type, formula: Callable[[Tensor], Tensor]) -> None:
    plain, mixed = parameters()[:1], parameters()[:1]
    mixed[0].grad = mixed[0].grad.to(memory_format=torch.channels_last)  # type: ignore[union-attr]
    penalty(0.5).add_gradients(plain)
    penalty(0.5).add_gradients(mixed)
    torch.testing.assert_close(mixed[0].grad.contiguous(), plain[0].grad)  # type: ignore[union-attr]


@BY_FORMULA
def test_all_zero_tensors_have_gradient_zero(penalty: type, formula: Callable[[Tensor], Tensor]) -> None:
    tensor = nn.Parameter(torch.zeros(3, 3))
    tensor.grad = torch.ones(3, 3)
    penalty(0.5).add_gradients([tensor])
    assert torch.equal(tensor.grad, torch.ones(3, 3))
    assert penalty(0.5).value([tensor]).item() == 0


@BY_FORMULA
def test_no_parameters_mean_no_penalty(penalty: type, formula: Callable[[Tensor], Tensor]) -> None:
    penalty(1.0).add_gradients([])
    assert penalty(1.0).value([]).item() == 0


@BY_FORMULA
def test_it_works_on_half_precision_parameters(penalty: type, formula: Callable[[Tensor], Tensor]) -> None:
    tensors = parameters(torch.bfloat16)
    penalty(0.5).add_gradients(tensors)
    assert tensors[0].grad.dtype == torch.bfloat16  # type: ignore[union-attr]
    assert penalty(0.5).value(tensors).dtype == torch.float32


@pytest.mark.parametrize("penalty", [L1, L2, L2Norm])
def test_the_strength_scales_and_the_patterns_are_kept(penalty: type) -> None:
    tensors = parameters()
    assert penalty(0.4).value(tensors).item() == pytest.approx(2 * penalty(0.2).value(tensors).item())
    chosen = penalty(0.1, include=["layer1.**"], exclude=["@bias"])
    assert (chosen.include, chosen.exclude) == (["layer1.**"], ["@bias"])


def test_penalties_take_few_calls_however_many_tensors_there_are() -> None:
    few, many = ([nn.Parameter(torch.ones(2)) for _ in range(count)] for count in (2, 60))
    for tensor in (*few, *many):
        tensor.grad = torch.zeros(2)
    for penalty in (L1(0.1), L2(0.1)):
        counts = []
        for tensors in (few, many):
            with torch.autograd.profiler.profile() as profile:
                penalty.add_gradients(tensors)
            counts.append(sum(event.name.startswith("aten::_foreach") for event in profile.function_events))
        assert counts[0] == counts[1] <= 2
