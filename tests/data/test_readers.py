"""Worker processes: the same images in the same order, and no fault without a name."""

import multiprocessing.resource_tracker
import multiprocessing.spawn
import os
import signal
import threading

import albumentations as A
import numpy as np
import pytest
import torch
from faulty_source import Same, Strange, Unpacked
from PIL import Image

from registry.datasets.folder import ImageFolder
from registry.errors import DataError
from trainer.data import batches as batches_module
from trainer.data.batches import Batches
from trainer.data.opening import open_store
from trainer.data.pipeline import Pipeline
from trainer.data.readers import Readers
from trainer.data.splits import Part
from trainer.data.store import LazyStore


def batches_of(readers, count=24, size=4):
    return list(readers.batches([range(start, start + size) for start in range(0, count, size)]))


@pytest.fixture
def started():
    """Start readers that end with the test."""
    made = []

    def start(source, workers=2, **options):
        made.append(Readers(source, workers, **options))
        return made[-1]

    yield start
    for readers in made:
        readers.close()


def test_images_come_in_the_order_asked_for_and_again_in_the_next_epoch(started):
    readers = started(Strange(), workers=3)
    for _ in range(2):
        images = [image for batch in batches_of(readers) for image in batch]
        assert len(images) == 24
        for index, image in enumerate(images):
            assert np.array_equal(image, Strange().image(index))
            assert image.flags.writeable


def test_who_goes_on_where_other_batches_were_asked_for_meanwhile_is_told_that_his_are_lost(started):
    readers = started(Strange())
    first = readers.batches([range(4), range(4, 8), range(8, 12)])
    next(first)
    assert len(batches_of(readers)) == 6
    with pytest.raises(RuntimeError, match="other batches were asked for meanwhile"):
        next(first)


def test_leaving_an_epoch_in_the_middle_does_not_disturb_the_next(started):
    readers = started(Strange())
    iterator = readers.batches([range(4), range(4, 8), range(8, 12), range(12, 16), range(16, 20)])
    next(iterator)
    del iterator
    assert [batch[0][0, 0, 0] for batch in batches_of(readers)] == list(range(0, 24, 4))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("bad", r"file9\.png is damaged"),
        ("error", r"file9\.png cannot be read: KeyError: 'no such thing'"),
        ("stop", r"file9\.png cannot be read: StopIteration"),
        ("kind", r"file9\.png is not a uint8 image of three dimensions"),
        ("die", r"a process that reads images died at image 9, file9\.png \(exit code -9\)"),
        ("hang", r"a process that reads images has stood still for 1 s at image 9, file9\.png"),
    ],
)
def test_a_fault_ends_the_run_and_names_the_image(started, fault, message):
    readers = started(Strange(**{fault: 9}), patience=1.0)
    with pytest.raises(DataError, match=message):
        batches_of(readers)


def without_end(act, *arguments):
    """Return what `act` returns or raises, or fail where it has not ended after a minute."""
    found = []

    def run():
        try:
            found.append(act(*arguments))
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert found, "it still waits"
    return found[0]


def test_requests_and_answers_of_any_size_pass_each_other(started):
    """Ten times what the operating system holds between two processes, while an answer comes back: nobody waits."""
    count = 81_920
    readers = started(Strange(count), workers=1)
    asked = [range(count), range(count)]
    keys = [[(index, index) for index in range(count)]] * 2
    answers = without_end(lambda: list(readers.batches(asked, [Same(), Same()], keys)))
    assert [len(batch) for batch in answers] == [count] * 2
    assert [image[0, 0, 0] for image in answers[1][:600]] == [index % 256 for index in range(600)]


def test_a_worker_that_takes_no_request_is_noticed(started):
    readers = started(Strange(81_920), workers=1, patience=1.0)
    batches_of(readers)
    (worker,) = readers._workers
    os.kill(worker.process.pid, signal.SIGSTOP)
    keys = [[(index, index) for index in range(81_920)]]
    error = without_end(lambda: list(readers.batches([range(81_920)], [Same(), Same()], keys)))
    assert isinstance(error, DataError)
    assert error.message == "a process that reads images has stood still for 1 s"


def test_a_worker_that_dies_while_it_starts_keeps_nobody_waiting(started, monkeypatch):
    """Its source, a listing of many files, is larger than what the operating system holds between two processes."""
    multiprocessing.resource_tracker.ensure_running()
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", b"/bin/false")
    source = Strange()
    source.files = [f"folder/{index:08}.png" for index in range(100_000)]
    readers = without_end(started, source, 1)
    error = without_end(batches_of, readers)
    assert isinstance(error, DataError)
    assert error.message == "a process that reads images died (exit code 1)"


def test_a_source_that_a_worker_cannot_unpack_is_said_with_the_reason(started):
    with pytest.raises(DataError, match="ImportError: no module named 'mine'") as caught:
        batches_of(started(Unpacked(), 1))
    assert caught.value.hint == "data.workers: 0 does without"


def test_a_source_that_cannot_be_sent_to_a_process_is_named():
    source = Strange()
    source.open_file = open(os.devnull)  # noqa: SIM115, PTH123
    with pytest.raises(DataError, match="Strange cannot be handed to worker processes"):
        Readers(source, 1)
    source.open_file.close()


def test_workers_ignore_signals_and_end_with_their_parent(started):
    readers = started(Strange(), workers=1)
    batches_of(readers)
    (worker,) = readers._workers
    os.kill(worker.process.pid, signal.SIGINT)
    os.kill(worker.process.pid, signal.SIGTERM)
    assert len(batches_of(readers)) == 6
    worker.asked.put(None)  # its pipe is closed, as by the end of its parent, and nobody kills it
    worker.process.join(30)
    assert worker.process.exitcode == 0


# -------------------------------------------------------------------------------------------------------- as batches
class Shapes:
    """A pipeline that shows what it was given."""

    ahead, reduces, values_ahead = (), False, 0

    def apply(self, images, *, epoch, indices, begun=False):
        assert isinstance(images, list)
        assert not begun
        values = torch.tensor([float(image[0, 0, 0]) for image in images])
        return (values * 1000 + indices + epoch)[:, None, None, None].expand(-1, 3, 2, 2)


def lazy_batches(store, workers, seed=1, pipeline=None):
    part = Part("train", store, torch.arange(len(store)), "train")
    return Batches(
        part,
        pipeline or Shapes(),
        batch_size=5,
        seed=seed,
        shuffle=True,
        drop_last=False,
        device=torch.device("cpu"),
        workers=workers,
    )


@pytest.fixture
def lazy(tmp_path):
    for index in range(23):
        path = tmp_path / "root" / ("cat" if index % 2 else "dog") / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4 + index % 3), (index, 0, 0)).save(path)
    made = open_store(ImageFolder(str(tmp_path / "root"), split="train", download=False))
    assert isinstance(made, LazyStore)
    return made


def test_the_number_of_workers_changes_nothing(lazy):
    expected = list(lazy_batches(lazy, 0).epoch(3))
    for workers in (1, 2):
        fresh = LazyStore(lazy.source, 3)
        for first, second in zip(expected, lazy_batches(fresh, workers).epoch(3), strict=True):
            assert torch.equal(first.images, second.images)
            assert torch.equal(first.targets, second.targets)
            assert torch.equal(first.indices, second.indices)
        fresh._readers.close()


def test_large_images_are_asked_for_in_pieces_and_the_batches_are_the_same(lazy, monkeypatch):
    expected = list(lazy_batches(lazy, 0).epoch(3))
    monkeypatch.setattr(batches_module, "READ_VALUES", 2 * lazy.values_per_image())
    asked, read = [], Readers.batches
    monkeypatch.setattr(
        Readers,
        "batches",
        lambda self, wanted, *rest, **how: read(self, (asked.append(len(w)) or w for w in wanted), *rest, **how),
    )
    fresh = LazyStore(lazy.source, 3, (), lazy.survey)
    for first, second in zip(expected, lazy_batches(fresh, 2).epoch(3), strict=True):
        assert torch.equal(first.images, second.images)
    assert asked == [2, 2, 1] * 4 + [2, 1]
    fresh._readers.close()


def test_workers_apply_what_is_done_image_by_image_and_an_image_meets_the_same_chance(lazy):
    """Cutting to one size is the costly part of such data; on the training's thread a GPU would wait for it."""
    stages = [A.RandomResizedCrop((8, 8), scale=(0.2, 1.0)), A.HorizontalFlip(p=0.5)]
    pipeline = Pipeline(stages, [A.Normalize()], seed=5)
    assert [single.name for single in pipeline.ahead] == ["RandomResizedCrop"]
    fresh = LazyStore(lazy.source, 3)
    here = list(lazy_batches(lazy, 0, pipeline=pipeline).epoch(3))
    for _ in range(2):  # two parts share the workers: the second may want other transforms
        for first, second in zip(here, lazy_batches(fresh, 2, pipeline=pipeline).epoch(3), strict=True):
            assert torch.equal(first.images, second.images)
        plain = lazy_batches(fresh, 2).epoch(3)
        assert torch.equal(next(plain).images, next(lazy_batches(lazy, 0).epoch(3)).images)
    fresh._readers.close()


def test_what_cannot_travel_stays_in_the_training_process(lazy):
    def corner(image, **_):
        return image[:4, :4].copy()

    pipeline = Pipeline([A.Lambda(image=corner)], [A.Normalize()], seed=5)
    assert pipeline.ahead == []
    fresh = LazyStore(lazy.source, 3)
    assert next(lazy_batches(fresh, 1, pipeline=pipeline).epoch(1)).images.shape == (5, 3, 4, 4)
    fresh._readers.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_does_not_suit_a_transform_is_named_with_the_way_out(lazy, workers):
    pipeline = Pipeline([A.RandomCrop(9, 9)], [], seed=5)
    fresh = LazyStore(lazy.source, 3)
    with pytest.raises(DataError) as met:
        list(lazy_batches(fresh, workers, pipeline=pipeline).epoch(1))
    named = [index for index in range(len(fresh)) if met.value.message.startswith(f"{fresh.describe(index)}: ")]
    assert len(named) == 1
    shape = lazy.source.image(named[0]).shape
    assert f": RandomCrop cannot transform an image of shape {shape}: " in met.value.message
    assert min(shape[:2]) < 9
    assert met.value.hint == (
        "set pad_if_needed: true of RandomCrop, or put SmallestMaxSize before it, or leave the image out"
    )
    if workers:
        fresh._readers.close()


def test_an_epoch_read_ahead_starts_anywhere(lazy):
    made = lazy_batches(lazy, 0)
    assert [batch.indices.tolist() for batch in made.epoch(3, 2)] == [
        batch.indices.tolist() for batch in made.epoch(3)
    ][2:]
