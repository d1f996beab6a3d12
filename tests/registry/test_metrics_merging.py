"""Merging: what several processes gathered, each of images of its own, is what one gathers of all."""

import copy

import pytest
import torch

from registry.catalogue.catalog import catalogue

OURS = sorted(name for name in catalogue().names("metric") if ":" not in name)
UPSTREAM = ["torchmetrics:MulticlassF1Score", "torchmetrics:MulticlassAUROC", "torchmetrics:MulticlassCalibrationError"]
LOGITS = torch.randn(23, 4, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(23) % 4


def metric(name: str):
    entry = catalogue().entry("metric", name)
    return entry.load()(**({"num_classes": 4} if entry.parameter("num_classes") else {}))


def fed(name: str, *parts: slice):
    made = metric(name)
    for part in parts:
        made.update(LOGITS[part], TARGETS[part])
    return made


@pytest.mark.parametrize("name", [*OURS, *UPSTREAM])
def test_a_metric_takes_in_what_others_gathered(name):
    if name in UPSTREAM:
        pytest.importorskip("torchmetrics")
    shares = [fed(name, slice(0, 5), slice(5, 9)), fed(name, slice(9, 20)), metric(name), fed(name, slice(20, 23))]
    first, *others = [each.state() for each in shares]
    before = copy.deepcopy(others)
    merged = metric(name)
    merged.load(first)
    merged.merge(others)
    assert float(merged.compute()) == pytest.approx(float(fed(name, slice(0, 23)).compute()), rel=1e-6)
    assert repr(others) == repr(before)  # the states are left as they are


@pytest.mark.parametrize("name", OURS)
def test_a_metric_that_has_seen_nothing_takes_in_others(name):
    merged = metric(name)
    merged.merge([metric(name).state(), fed(name, slice(0, 23)).state()])
    assert float(merged.compute()) == pytest.approx(float(fed(name, slice(0, 23)).compute()), rel=1e-6)
