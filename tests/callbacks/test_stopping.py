"""EarlyStopping over a resume: what it remembers is of the metric that it watched."""

from types import SimpleNamespace

import pytest

from registry.callbacks.stopping import EarlyStopping


def after(callback: EarlyStopping, *rows: dict[str, float]) -> list[bool]:
    return [callback.epoch_finished(SimpleNamespace(row=row)) is not None for row in rows]


def test_it_goes_on_counting_where_it_watches_the_same():
    first = EarlyStopping("val/accuracy", "max", patience=2)
    after(first, {"val/accuracy": 0.9}, {"val/accuracy": 0.8})
    second = EarlyStopping("val/accuracy", "max", patience=2)
    second.load(first.state())
    assert after(second, {"val/accuracy": 0.85}, {"val/accuracy": 0.7}) == [False, True]


@pytest.mark.parametrize("other", [{"monitor": "val/loss"}, {"monitor": "val/accuracy", "mode": "min"}])
def test_it_begins_anew_where_it_watches_something_else(other):
    first = EarlyStopping("val/accuracy", "max", patience=1)
    after(first, {"val/accuracy": 0.9}, {"val/accuracy": 0.8})
    second = EarlyStopping(**other, patience=1)
    second.load(first.state())
    falling = [{other["monitor"]: value} for value in (0.7, 0.6, 0.5)]
    assert after(second, *falling) == [False, False, False]
