"""Sharing: several processes together have every batch of one process, image for image."""

import numpy as np
import pytest
import torch

from registry.datasets.source import PackedSource
from trainer.data.batches import Batches
from trainer.data.opening import open_store
from trainer.data.sharing import Share, Sharing
from trainer.data.splits import Part
from trainer.data.store import LazyStore

CPU = torch.device("cpu")


class Keyed:
    """A pipeline whose images show their own number and the key that their draws have."""

    begins_on = CPU
    ahead, reduces, values_ahead = (), False, 0

    def apply(self, images, *, epoch, indices, begun=False):
        numbers = images[:, 0, 0, 0] if isinstance(images, torch.Tensor) else torch.tensor([i[0, 0, 0] for i in images])
        return (numbers.double() + 1000.0 * indices + epoch)[:, None, None, None]


def part(count: int, lazy: bool = False) -> Part:
    images = np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    source = PackedSource("made", images, np.arange(count) % 3 // 2, ["many", "few"])
    store = LazyStore(source, 3) if lazy else open_store(source)
    return Part("train", store, torch.arange(count), "train")


def batches(of: Part, **options) -> Batches:
    given = {"batch_size": 8, "seed": 1, "shuffle": True, "drop_last": False, "device": CPU, "workers": 0}
    return Batches(of, Keyed(), **{**given, **options})


def together(of: Part, count: int, start: int = 0, **options) -> list[list[torch.Tensor]]:
    """The batches of an epoch, each put together from the images that are somebody's own."""
    ranks = [batches(of, sharing=Sharing(rank, count), **options).epoch(2, start) for rank in range(count)]
    whole = []
    for shares in zip(*ranks, strict=True):
        own = [[column[: each.share.images] for column in each] for each in shares]
        assert [each.share.start for each in shares] == np.cumsum([0, *(len(o[0]) for o in own[:-1])]).tolist()
        whole.append([torch.cat(column) for column in zip(*own, strict=True)])
        assert {each.share.whole for each in shares} == {len(whole[-1][0])}
    return whole


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize(
    "options",
    [{}, {"batch_size": 7}, {"balanced": True}, {"drop_last": True}, {"shuffle": False}, {"batch_size": 64}],
    ids=lambda options: "-".join(map(str, options)) or "plain",
)
def test_the_shares_of_a_batch_make_the_batch_with_its_order_and_draws(options, count):
    """Among them a last batch of 1 image, of fewer than there are processes."""
    alone = list(batches(part(57), **options).epoch(2))
    shared = together(part(57), count, **options)
    assert len(shared) == len(alone)
    for one, other in zip(alone, shared, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_shares_of_images_that_are_read_ahead_make_the_batch_too():
    alone, shared = list(batches(part(21, lazy=True)).epoch(2)), together(part(21, lazy=True), 3)
    assert [batch.images.flatten().tolist() for batch in alone] == [own[0].flatten().tolist() for own in shared]


def test_an_epoch_that_is_entered_in_the_middle_goes_on_with_the_same_shares():
    of, sharing = part(57), Sharing(1, 3)
    from_start = list(batches(of, sharing=sharing).epoch(2))[3:]
    entered = list(batches(of, sharing=sharing).epoch(2, 3))
    assert [(b.indices.tolist(), b.share) for b in from_start] == [(b.indices.tolist(), b.share) for b in entered]


def test_shares_differ_by_one_image_at_most_and_the_longer_come_first():
    assert Sharing(0, 4).lengths(10) == [3, 3, 2, 2]
    assert Sharing(2, 4).of(10) == Share(start=6, images=2, whole=10)


def test_a_process_without_an_image_of_its_own_is_lent_one_that_does_not_count():
    last = list(batches(part(57), sharing=Sharing(2, 4)).epoch(1))[-1]
    assert last.share == Share(start=1, images=0, whole=1)
    assert len(last.images) == 1


def test_processes_of_one_machine_divide_its_cores_among_their_readers(monkeypatch):
    monkeypatch.setattr("trainer.data.batches.cores", lambda: 32)
    readers = [batches(part(9), workers="auto", neighbours=count)._workers for count in (1, 4, 32, 64)]
    assert [(each.count, each.are) for each in readers] == [(each, "threads") for each in (16, 8, 1, 1)]
