"""What one of several processes wishes, all do, after the same look."""

import threading

import pytest
import torch.distributed as dist

from trainer.engine.group import AgreedInterrupts
from trainer.engine.interrupts import Interrupted, Paused


def told(wishes, looks: int = 4) -> list[list[str]]:
    """Return for each process what it raised at its looks, "" for nothing, until something was."""
    store, said = dist.HashStore(), [[] for _ in wishes]

    def process(rank: int) -> None:
        interrupts = AgreedInterrupts(dist.ProcessGroupGloo(store, rank, len(wishes)))
        for look in range(looks):
            wishes[rank](look, interrupts)
            try:
                interrupts.check()
            except (Paused, Interrupted) as error:
                said[rank].append(f"{type(error).__name__}: {error}")
                return
            said[rank].append("")

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(len(wishes))]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    return said


def nothing(_look: int, _interrupts: AgreedInterrupts) -> None:
    return


def pauses(look: int, interrupts: AgreedInterrupts) -> None:
    if look == 1:
        interrupts.pause("among the worse ones")


def is_signalled(look: int, interrupts: AgreedInterrupts) -> None:
    if look == 1:
        interrupts.signum = 15


@pytest.mark.skipif(not dist.is_available(), reason="torch was built without distributed")
def test_a_pause_that_one_asks_for_is_a_pause_of_all_after_the_same_look():
    asks, other = told([pauses, nothing])
    assert asks == ["", "", "Paused: among the worse ones"]
    assert other == ["", "", "Paused: another process asked for it"]


@pytest.mark.skipif(not dist.is_available(), reason="torch was built without distributed")
def test_a_signal_to_one_goes_before_a_pause_of_another():
    for each in told([pauses, is_signalled]):
        assert each[:2] == ["", ""]
        assert each[2].startswith("Interrupted")
    assert told([nothing, nothing]) == [[""] * 4] * 2
