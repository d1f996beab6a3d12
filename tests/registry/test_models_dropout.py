"""QuickDropout is held to nn.Dropout: the same shares, scale, gradient and switches."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from registry.models.dropout import QuickDropout


@pytest.mark.parametrize("p", [0.05, 0.15, 0.5, 0.9])
def test_it_zeroes_the_share_asked_for_and_scales_the_rest(p: float) -> None:
    torch.manual_seed(0)
    out = QuickDropout(p)(torch.ones(1_000_000))
    share = (out == 0).float().mean().item()
    assert share == pytest.approx(p, abs=5 * (p * (1 - p) / 1e6) ** 0.5 + 1e-5)
    assert out.unique().tolist() == pytest.approx([0, 1 / (1 - p)], rel=2e-4)


def test_all_four_elements_of_a_draw_have_the_same_chance_and_none_follows_another() -> None:
    torch.manual_seed(0)
    zeros = (QuickDropout(0.3)(torch.ones(400_000)) == 0).view(-1, 4).double()
    torch.testing.assert_close(zeros.mean(0), torch.full((4,), 0.3).double(), atol=0.01, rtol=0)
    correlation = torch.corrcoef(torch.cat([zeros[:-1], zeros[1:]], 1).T)
    assert (correlation - torch.eye(8)).abs().max() < 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_layout_and_type_stay_and_the_gradient_uses_the_same_mask(
    dtype: torch.dtype, layout: torch.memory_format
) -> None:
    x = torch.randn(2, 5, 3, 7).to(dtype).contiguous(memory_format=layout).requires_grad_()
    out = QuickDropout(0.5)(x)
    assert out.dtype == dtype
    assert out.is_contiguous(memory_format=layout)
    out.sum().backward()
    assert torch.equal(x.grad == 0, out == 0)  # type: ignore[union-attr]
    torch.testing.assert_close(out, x * x.grad)


def test_channels_and_images_are_masked_apart() -> None:
    out = QuickDropout(0.5)(torch.ones(8, 16, 8, 8).contiguous(memory_format=torch.channels_last))
    masks = (out == 0).flatten(2).flatten(0, 1)
    assert len(masks.unique(dim=0)) == 8 * 16


def test_a_layout_with_gaps_falls_back_to_torch() -> None:
    out = QuickDropout(0.5)(torch.ones(100, 100)[:, ::2])
    assert 0.4 < (out == 0).float().mean().item() < 0.6


def test_the_seed_fixes_the_mask_whatever_the_threads() -> None:
    outs = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            torch.manual_seed(3)
            outs.append(QuickDropout(0.2)(torch.ones(300_000)))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*outs)


@pytest.mark.parametrize("module", [QuickDropout(0.5).eval(), QuickDropout(0.0)])
def test_it_is_off_in_eval_and_for_zero(module: nn.Module) -> None:
    x = torch.randn(1000)
    assert module(x) is x or torch.equal(module(x), x)


def test_nothing_is_left_at_p_one() -> None:
    assert QuickDropout(1.0)(torch.ones(1000)).count_nonzero() == 0
