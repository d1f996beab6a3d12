"""What the loop remembers: kept whole, at a cost that does not grow with the epochs behind it."""

import json
import math

import torch
from small_training import Memory, batch, training

from trainer.engine import checkpoint, loop, progress
from trainer.engine.progress import Progress, history_in


def row(epoch, **values):
    return {"epoch": epoch, "lr": 0.1 / 3, "val/loss": 1.0 / epoch, **values}


def test_rows_come_back_with_their_order_types_and_last_bits():
    before = Progress(epoch=3, history=[row(1), row(2, extra=float("inf")), {"z": 5, "a": 1e-300}])
    after = Progress()
    after.load(before.state())
    assert after == before
    assert [list(each) for each in after.history] == [list(each) for each in before.history]
    assert [type(value) for value in after.history[2].values()] == [int, float]
    before.history.append({"val/loss": float("nan")})
    assert math.isnan(history_in(before.state())[3]["val/loss"])


def test_an_epoch_more_costs_a_state_one_row_more(monkeypatch):
    kept, written = Progress(), []
    monkeypatch.setattr(progress.json, "dumps", lambda row, **_: written.append(row) or "{}")
    for epoch in range(1, 501):
        kept.history.append(row(epoch))
        state = checkpoint.snapshot(kept.state())
    assert len(written) == 500
    assert len(list(checkpoint.leaves(state))) == len(list(checkpoint.leaves(Progress().state())))


def test_a_state_within_an_epoch_has_the_time_until_then(monkeypatch):
    """Else a run that is killed again and again would seem to have taken no time, and outlive train.max_minutes."""
    clock = [100.0]
    monkeypatch.setattr(loop.time, "perf_counter", lambda: clock[0])

    class Slow(Memory):
        def step_finished(self, each) -> None:
            clock[0] += 2.5
            super().step_finished(each)

    keeper = Slow(every=3)
    made, _ = training(
        [batch(seed) for seed in range(4)], lambda model: torch.optim.SGD(model.parameters(), 0.1), keeper=keeper
    )
    made.run()
    within, end = (each["progress"] for each in keeper.saved)
    assert (within["seconds"], within["epoch_seconds"]) == (7.5, 7.5)
    assert (end["seconds"], made.progress.history[0]["seconds"]) == (10.0, 10.0)


def test_a_state_is_not_changed_by_what_follows_and_goes_on_after_a_load():
    kept = Progress(history=[row(1)])
    state = kept.state()
    kept.history.append(row(2))
    assert history_in(state) == [row(1)]
    kept.load(state)
    kept.history.append(row(3))
    assert history_in(kept.state()) == [row(1), row(3)]


def test_checkpoints_that_hold_a_list_of_rows_are_read():
    state = {**Progress().state(), "history": [row(1), row(2)]}
    kept = Progress()
    kept.load(state)
    assert kept.history == [row(1), row(2)]
    assert [json.loads(line) for line in kept.state()["history"].splitlines()] == [row(1), row(2)]
