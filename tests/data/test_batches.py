"""Batches: every image as often as it should, the same whatever the chunk and the place one starts at."""

import albumentations as A
import numpy as np
import pytest
import torch

from registry.datasets.source import PackedSource
from registry.errors import DataError
from trainer.data import batches as module
from trainer.data.batches import REPEAT, Batches
from trainer.data.opening import open_store
from trainer.data.pipeline import Pipeline
from trainer.data.sharing import Sharing
from trainer.data.splits import Part

CPU = torch.device("cpu")


class Recorder:
    """A pipeline that only scales, and keeps what it was asked."""

    def __init__(self):
        self.calls = []
        self.begins_on = CPU

    def apply(self, images, *, epoch, indices):
        self.calls.append((len(images), epoch, indices.clone()))
        return images.permute(0, 3, 1, 2).float()


class Keyed(Recorder):
    """A pipeline whose images show their key."""

    def apply(self, images, *, epoch, indices):
        return super().apply(images, epoch=epoch, indices=indices) + (indices * 1000 + epoch)[:, None, None, None]


def part(count=100, classes=(0,), name="train"):
    targets = np.resize(np.array(classes), count)
    images = np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3).repeat(2, axis=1).repeat(2, axis=2)
    store = open_store(PackedSource("made", images, targets, [str(label) for label in range(max(classes) + 1)]))
    return Part(name, store, torch.arange(count), "train")


def batches(part, pipeline=None, **options):
    options = {"batch_size": 8, "seed": 1, "shuffle": True, "drop_last": False, "device": CPU, **options}
    return Batches(part, pipeline or Recorder(), **options)


def indices_of(iterator):
    return [batch.indices.tolist() for batch in iterator]


# ------------------------------------------------------------------------------------------------------------ a choice
@pytest.mark.parametrize("sharing", [None, Sharing(rank=1, count=2)])
def test_a_choice_has_every_class_by_its_share_from_all_over_the_part(sharing):
    """A folder's images lie class by class; the first few would be of the first class alone."""
    whole = part(count=240, classes=[0] * 120 + [1] * 90 + [2] * 30)
    made = batches(whole, shuffle=False, sharing=sharing)
    chosen = [index for batch in made.spread(24) for index in batch.indices.tolist()]
    if sharing is None:
        labels = whole.targets[chosen].tolist()
        assert [labels.count(label) for label in range(3)] == [12, 9, 3]
        assert chosen == sorted(chosen)
        assert chosen[:3] == [0, 10, 20]
    else:
        assert len(chosen) == 12


def test_a_choice_of_more_than_there_are_is_the_part():
    made = batches(part(count=20), shuffle=False)
    assert indices_of(made.spread(20)) == indices_of(made.spread(99)) == indices_of(made.epoch(0))


# --------------------------------------------------------------------------------------------------------------- order
def test_every_image_comes_once_an_epoch_with_its_label_and_pixels():
    made = batches(part(classes=(0, 1, 2)))
    seen = []
    for batch in made.epoch(1):
        assert batch.images.shape[1:] == (3, 2, 2)
        assert batch.images[:, 0, 0, 0].tolist() == batch.indices.tolist()
        assert torch.equal(batch.targets, batch.indices % 3)
        seen += batch.indices.tolist()
    assert sorted(seen) == list(range(100))
    assert seen != sorted(seen)


def test_a_batch_is_channels_last():
    first = next(batches(part()).epoch(1))
    assert first.images.is_contiguous(memory_format=torch.channels_last)


def test_the_order_follows_from_seed_and_epoch():
    made = batches(part())
    assert indices_of(made.epoch(2)) == indices_of(batches(part()).epoch(2))
    assert indices_of(made.epoch(2)) != indices_of(made.epoch(3))
    assert indices_of(made.epoch(2)) != indices_of(batches(part(), seed=2).epoch(2))


def test_the_order_does_not_touch_the_global_random_state():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    list(batches(part()).epoch(1))
    assert torch.equal(torch.rand(3), expected)


def test_unshuffled_batches_keep_the_order_of_the_split():
    made = batches(part(20), shuffle=False)
    assert indices_of(made.epoch(0)) == [list(range(8)), list(range(8, 16)), list(range(16, 20))]


def test_a_part_of_a_split_yields_its_own_images_under_their_own_numbers():
    whole = part()
    some = Part("val", whole.store, torch.tensor([3, 50, 99]), "train")
    (batch,) = batches(some, shuffle=False).epoch(0)
    assert batch.indices.tolist() == [3, 50, 99]
    assert batch.images[:, 0, 0, 0].tolist() == [3, 50, 99]


# ------------------------------------------------------------------------------------------------- start and chunking
@pytest.mark.parametrize("start", [0, 1, 5, 12, 13])
def test_starting_in_the_middle_gives_the_rest_of_the_epoch(start, monkeypatch):
    monkeypatch.setattr(module, "CPU_CHUNK", 24)
    whole = list(batches(part(), Keyed()).epoch(4))
    rest = list(batches(part(), Keyed()).epoch(4, start))
    assert len(rest) == 13 - start
    for expected, got in zip(whole[start:], rest, strict=True):
        assert torch.equal(expected.images, got.images)
        assert torch.equal(expected.indices, got.indices)


def test_chunking_changes_nothing(monkeypatch):
    monkeypatch.setattr(module, "CPU_CHUNK", 8)
    single = [batch.images for batch in batches(part(), Keyed()).epoch(4)]
    monkeypatch.setattr(module, "CPU_CHUNK", 64)
    chunked = [batch.images for batch in batches(part(), Keyed()).epoch(4)]
    assert all(torch.equal(first, second) for first, second in zip(single, chunked, strict=True))


def test_the_first_chunk_is_one_batch_and_the_others_are_large():
    pipeline = Recorder()
    list(batches(part(200), pipeline, batch_size=8).epoch(1))
    assert [size for size, _, _ in pipeline.calls] == [8, 192]
    pipeline = Recorder()
    list(batches(part(200), pipeline, batch_size=64, drop_last=True).epoch(1))
    assert [size for size, _, _ in pipeline.calls] == [64, 128]


def test_chunks_of_images_that_the_pipeline_enlarges_stay_small(monkeypatch):
    class Enlarging(Recorder):
        def apply(self, images, *, epoch, indices):
            return super().apply(images, epoch=epoch, indices=indices).repeat_interleave(10, 2).repeat_interleave(10, 3)

    monkeypatch.setattr(module, "CPU_CHUNK_VALUES", 16 * 3 * 20 * 20)
    pipeline = Enlarging()
    list(batches(part(100), pipeline).epoch(1))
    assert [size for size, _, _ in pipeline.calls] == [8, 16, 16, 16, 16, 16, 12]


@pytest.mark.parametrize("values", [1, 3 * 12, 5 * 12, 8 * 12, 1000 * 12])
def test_a_batch_of_large_images_is_gathered_in_pieces_and_is_the_same(values, monkeypatch):
    """Batches of 512 are the default of evaluation; stored images may be far larger than what the model is given."""
    expected = list(batches(part(20), Keyed(), batch_size=16).epoch(3))
    monkeypatch.setattr(module, "CPU_CHUNK_VALUES", values)
    pipeline = Keyed()
    for first, second in zip(expected, batches(part(20), pipeline, batch_size=16).epoch(3), strict=True):
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.indices, second.indices)
        assert second.images.is_contiguous(memory_format=torch.channels_last)
    assert max(size for size, _, _ in pipeline.calls) <= max(1, values // 12)


def test_large_packed_images_are_resized_in_pieces_to_the_last_bit(monkeypatch):
    images = np.random.default_rng(2).integers(0, 256, (12, 61, 47, 3), dtype=np.uint8)
    store = open_store(PackedSource("made", images, np.zeros(12, np.int64), ["a"]))
    pipeline = Pipeline([A.Resize(24, 20), A.RandomCrop(16, 16), A.HorizontalFlip()], [A.Normalize()], seed=3)
    made = Batches(
        Part("val", store, torch.arange(12), "val"),
        pipeline,
        batch_size=12,
        seed=1,
        shuffle=False,
        drop_last=False,
        device=CPU,
    )
    (whole,) = made.epoch(1)
    monkeypatch.setattr(module, "CPU_CHUNK_VALUES", 5 * 61 * 47 * 3)
    (pieces,) = made.epoch(1)
    assert torch.equal(whole.images, pieces.images)


def test_nothing_is_augmented_before_it_is_asked_for():
    pipeline = Recorder()
    iterator = batches(part(), pipeline).epoch(1)
    assert pipeline.calls == []
    next(iterator)
    assert len(pipeline.calls) == 1


def test_the_pipeline_is_given_epoch_and_indices_as_keys():
    pipeline = Recorder()
    made = batches(part(20), pipeline)
    seen = [batch.indices for batch in made.epoch(7)]
    assert {epoch for _, epoch, _ in pipeline.calls} == {7}
    assert torch.equal(torch.cat([keys for _, _, keys in pipeline.calls]), torch.cat(seen))


# -------------------------------------------------------------------------------------------------------------- lengths
@pytest.mark.parametrize(
    ("count", "drop_last", "sizes"), [(20, False, [8, 8, 4]), (20, True, [8, 8]), (16, True, [8, 8])]
)
def test_an_incomplete_last_batch_is_kept_or_left_out(count, drop_last, sizes):
    made = batches(part(count), drop_last=drop_last)
    assert [len(batch.indices) for batch in made.epoch(1)] == sizes
    assert len(made) == len(sizes)


def test_with_drop_last_another_rest_is_left_out_each_epoch():
    made = batches(part(20), drop_last=True)
    left_out = [
        set(range(20)) - {index for batch in indices_of(made.epoch(epoch)) for index in batch} for epoch in (1, 2)
    ]
    assert left_out[0] != left_out[1]


def test_fewer_images_than_a_batch_with_drop_last_are_refused_with_the_numbers():
    with pytest.raises(DataError, match="7 train images make no batch of 8 with drop_last"):
        batches(part(7), drop_last=True)
    assert indices_of(batches(part(7), shuffle=False).epoch(0)) == [list(range(7))]


def test_an_empty_part_is_refused():
    whole = part()
    with pytest.raises(DataError, match="0 val images make no batch of 8"):
        batches(Part("val", whole.store, torch.arange(0), "train"))


# ------------------------------------------------------------------------------------------------------------ balanced
def test_balanced_sampling_draws_every_class_equally_often():
    uneven = part(100, classes=(0, 0, 0, 0, 0, 0, 0, 1, 1, 2))
    made = batches(uneven, balanced=True)
    for epoch in (1, 2):
        targets = torch.cat([batch.targets for batch in made.epoch(epoch)])
        counts = torch.bincount(targets)
        assert counts.sum() == 100
        assert counts.max() - counts.min() <= 1


def test_balanced_sampling_takes_each_image_of_a_small_class_equally_often():
    uneven = part(100, classes=(0, 0, 0, 0, 0, 0, 0, 0, 0, 1))
    drawn = torch.cat([batch.indices for batch in batches(uneven, balanced=True).epoch(1)])
    counts = torch.bincount(drawn, minlength=100)
    assert set(counts[uneven.targets == 1].tolist()) == {5}
    assert set(counts[uneven.targets == 0].tolist()) == {0, 1}


def test_balanced_sampling_draws_each_class_from_its_images_in_order():
    """The order of an epoch is part of a run's seed: the same as ever."""
    targets = torch.tensor([0, 3, 0, 1, 3, 3, 0, 0, 1, 3, 0])
    drawn = module._balanced(targets, torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(4)
    lots = torch.full((3,), 3)
    lots[torch.randperm(3, generator=generator)[:2]] += 1
    taken = []
    for label, count in zip((0, 1, 3), lots.tolist(), strict=True):
        members = torch.nonzero(targets == label).flatten()
        rounds = [members[torch.randperm(len(members), generator=generator)] for _ in range(-(-count // len(members)))]
        taken.append(torch.cat(rounds)[:count])
    assert torch.equal(drawn, torch.cat(taken)[torch.randperm(11, generator=generator)])


def test_balanced_sampling_is_keyed_and_starts_anywhere():
    uneven = part(100, classes=(0, 0, 1))
    made = batches(uneven, balanced=True)
    assert indices_of(made.epoch(3)) == indices_of(made.epoch(3))
    assert indices_of(made.epoch(3)) != indices_of(made.epoch(4))
    assert indices_of(made.epoch(3, 5)) == indices_of(made.epoch(3))[5:]


def test_an_image_that_comes_again_in_an_epoch_has_another_key():
    pipeline = Recorder()
    uneven = part(100, classes=(0, 0, 0, 0, 0, 0, 0, 0, 0, 1))
    drawn = torch.cat([batch.indices for batch in batches(uneven, pipeline, balanced=True).epoch(1)])
    keys = torch.cat([keys for _, _, keys in pipeline.calls])
    assert torch.equal(keys % REPEAT, drawn)
    assert len(keys.unique()) == 100
    assert sorted((keys // REPEAT)[drawn == 9].tolist()) == [0, 1, 2, 3, 4]


# -------------------------------------------------------------------------------------------------------- waste, GPU
def test_reaching_a_late_batch_costs_no_pass_over_the_earlier_ones():
    pipeline = Recorder()
    next(batches(part(200), pipeline).epoch(1, 20))
    assert [size for size, _, _ in pipeline.calls] == [8]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("memory", [0, 2**40], ids=["fed from the host", "resident"])
def test_on_a_gpu_an_epoch_waits_for_nothing(memory, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (memory, memory))
    made = batches(part(1000), batch_size=64, device=torch.device("cuda"))
    expected = [(batch.images, batch.targets, batch.indices) for batch in batches(part(1000), batch_size=64).epoch(1)]
    list(made.epoch(0))
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = list(made.epoch(1))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for (images, targets, indices), batch in zip(expected, got, strict=True):
        assert torch.equal(images, batch.images.cpu())
        assert torch.equal(targets, batch.targets.cpu())
        assert torch.equal(indices, batch.indices.cpu())
