"""Draws: keyed, even, independent, and the same for ever."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import stats

from registry.transforms.draws import Draws, _mixed, mixed_by_torch

MANY = torch.arange(20_000)
ALPHA = 1e-4  # significance of each statistical test; the seeds are fixed, so it passes or fails once and for all

GOLDEN_BITS = [7049692950821272468, -5000846930411457725, 1179318284482392594]
GOLDEN_UNIFORMS = [0.7036478008293694, 0.6059836243655041, 0.4119378774957997]
GOLDEN_INTEGERS = [14, 5, 8]


def test_draws_are_what_they_always_were() -> None:
    draws = Draws(1, 2, torch.tensor([0, 1, 49_999]), 3)
    assert draws.bits(0)[0].tolist() == GOLDEN_BITS
    assert draws.uniform(1).tolist() == GOLDEN_UNIFORMS
    assert draws.integers(2, 4, 16).tolist() == GOLDEN_INTEGERS


def test_what_one_position_draws_for_every_pixel_of_a_photo_no_other_position_draws() -> None:
    of_one, of_next = (Draws(1, 2, torch.tensor([7]), position) for position in (3, 4))
    count = (1 << 20) + 5000
    many, others = of_one.bits(2, count)[:, 0], of_next.bits(0, 10_000)[:, 0]
    assert not torch.isin(others, many).any()
    assert len(many.unique()) == count
    assert torch.equal(
        many[-7000:], torch.cat([of_one.bits(2 + count - 7000, 3000), of_one.bits(2 + count - 4000, 4000)])[:, 0]
    )
    assert not torch.isin(of_next.bits(2, count)[-4000:, 0], many).any()


def test_python_arithmetic_gives_the_same_hash() -> None:
    mask, weyl = (1 << 64) - 1, 0x9E3779B97F4A7C15

    def mixed(x: int) -> int:
        x &= mask
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    seed, epoch, index, position, draw = 7, 3, 12_345, 2, 5
    key = mixed(mixed(mixed(seed) + epoch * weyl) + index * weyl)
    expected = mixed(key + (position * (1 << 20) + draw + 1) * weyl)
    assert Draws(seed, epoch, torch.tensor([index]), position).bits(draw).item() & mask == expected


def test_the_form_for_gpus_scrambles_alike() -> None:
    numbers = Draws(1, 1, MANY).bits(0)
    assert torch.equal(mixed_by_torch(numbers), _mixed(numbers))
    assert len(set(_mixed(MANY).tolist())) == len(MANY)


def test_many_limits_at_once_give_the_same() -> None:
    draws = Draws(1, 1, MANY[:100])
    limits = [(-20.0, 35.0), (0.0, 1.0), (5.0, 5.0)]
    for number, (several, pair) in enumerate(zip(draws.betweens(3, *limits), limits, strict=True)):
        assert torch.equal(several, draws.between(3 + number, pair))


def test_a_subset_keeps_its_draws() -> None:
    draws = Draws(1, 1, MANY, 2)
    rows = torch.tensor([5, 17, 19_999])
    assert torch.equal(draws.subset(rows).uniform(3), draws.uniform(3)[rows])
    assert torch.equal(draws.subset(rows).in_epoch(0).uniform(3), Draws(1, 0, MANY[rows], 2).uniform(3))


def test_one_call_for_many_draws_gives_the_same() -> None:
    draws = Draws(1, 1, MANY[:100])
    together = draws.uniforms(4, 3)
    for number in range(3):
        assert torch.equal(together[number], draws.uniform(4 + number))


def test_uniforms_are_even() -> None:
    for draw in range(4):
        u = Draws(5, 1, MANY).uniform(draw).numpy()
        assert u.min() >= 0
        assert u.max() < 1
        assert stats.kstest(u, "uniform").pvalue > ALPHA


def test_integers_include_both_ends_and_are_even() -> None:
    numbers = Draws(5, 1, MANY).integers(0, 4, 16).numpy()
    counts = np.bincount(numbers, minlength=17)
    assert counts[:4].sum() == 0
    assert stats.chisquare(counts[4:]).pvalue > ALPHA


def test_integers_take_limits_of_each_image() -> None:
    high = torch.arange(20_000) % 5
    numbers = Draws(5, 1, MANY).integers(0, 0, high)
    assert (numbers <= high).all()
    assert all((numbers[high == h] == h).any() for h in range(5))


def test_chance_is_as_asked() -> None:
    draws = Draws(5, 1, MANY)
    for p in (0.25, 0.5, 0.75):
        hits = int(draws.chosen(p).sum())
        assert stats.binomtest(hits, len(MANY), p).pvalue > ALPHA
    assert not draws.chosen(0.0).any()
    assert draws.chosen(1.0).all()


def test_everything_in_the_key_makes_independent_draws() -> None:
    base = Draws(1, 1, MANY, 0)
    series = {
        "base": base.uniform(0),
        "next draw": base.uniform(1),
        "next position": base.at(1).uniform(0),
        "next epoch": Draws(1, 2, MANY, 0).uniform(0),
        "next seed": Draws(2, 1, MANY, 0).uniform(0),
        "next image": Draws(1, 1, MANY + 1, 0).uniform(0),
        "far image": Draws(1, 1, MANY + (1 << 40), 0).uniform(0),
        "epoch and seed swapped": Draws(1, 3, MANY, 0).uniform(0),
    }
    for (one, x), (other, y) in combinations(series.items(), 2):
        assert stats.pearsonr(x.numpy(), y.numpy()).pvalue > ALPHA / 10, (one, other)
        cells = np.histogram2d(x.numpy(), y.numpy(), bins=8, range=[[0, 1], [0, 1]])[0]
        assert stats.chisquare(cells.ravel()).pvalue > ALPHA / 10, (one, other)


def test_neighbouring_images_have_unrelated_bits() -> None:
    bits = Draws(1, 1, MANY).bits(0)[0]
    changed = torch.stack([((bits[1:] ^ bits[:-1]) >> b) & 1 for b in range(64)]).double().mean(1)
    assert (changed - 0.5).abs().max() < 5 * 0.5 / np.sqrt(len(MANY))


def test_normals_are_normal_and_independent() -> None:
    z = Draws(3, 1, MANY[:2000]).normals(16, 51).numpy()
    assert z.shape == (2000, 51)
    assert stats.kstest(z.ravel(), "norm").pvalue > ALPHA
    correlation = np.corrcoef(z.T) - np.eye(51)
    assert np.abs(correlation).max() < 5.5 / np.sqrt(2000)


def test_seeds_are_plain_and_different() -> None:
    seeds = Draws(1, 1, MANY[:1000]).seeds(0)
    assert len(set(seeds)) == 1000
    assert all(0 <= seed < 1 << 63 for seed in seeds)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_the_same() -> None:
    here, there = Draws(1, 2, MANY, 3), Draws(1, 2, MANY.cuda(), 3)
    assert torch.equal(here.bits(0, 5), there.bits(0, 5).cpu())
    assert torch.equal(here.uniforms(0, 5), there.uniforms(0, 5).cpu())
