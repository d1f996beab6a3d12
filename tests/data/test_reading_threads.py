"""Reading threads: the same images in the same order, no fault without a name, bounded memory."""

import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import albumentations as A
import numpy as np
import pytest
from faulty_source import Same, Strange

from registry.errors import DataError
from trainer.data import threads as threads_module
from trainer.data.singly import Singly
from trainer.data.threads import ReadingThreads


def batches_of(readers, count=24, size=4, **options):
    return list(readers.batches([range(start, start + size) for start in range(0, count, size)], **options))


@pytest.fixture
def started():
    """Start threads that end with the test."""
    made = []

    def start(source, threads=2, **options):
        made.append(ReadingThreads(source, threads, **options))
        return made[-1]

    yield start
    for readers in made:
        readers.close()


def test_images_come_in_the_order_asked_for_and_again_in_the_next_epoch(started):
    readers = started(Strange(), 3)
    for _ in range(2):
        batches = batches_of(readers)
        assert [len(batch) for batch in batches] == [4] * 6
        for index, image in enumerate(image for batch in batches for image in batch):
            assert np.array_equal(image, Strange().image(index))


def test_reading_begins_when_it_is_asked_for_and_not_when_the_first_batch_is_taken(started):
    begun = threading.Event()

    class Tells(Strange):
        def image(self, index):
            begun.set()
            return super().image(index)

    batches = started(Tells()).batches([range(4)])
    assert begun.wait(30)
    assert len(next(batches)) == 4


def test_leaving_an_epoch_in_the_middle_does_not_disturb_the_next(started):
    readers = started(Strange())
    iterator = readers.batches([range(4), range(4, 8), range(8, 12), range(12, 16), range(16, 20)])
    next(iterator)
    del iterator
    assert [batch[0][0, 0, 0] for batch in batches_of(readers)] == list(range(0, 24, 4))


def test_no_more_is_read_ahead_than_memory_is_given(started, monkeypatch):
    """Of images of 4,000 bytes, ten; of a batch the whole, since it is taken as a whole."""
    monkeypatch.setattr(threads_module, "WAITING", 40_000)
    read = []

    class Counts(Strange):
        def image(self, index):
            read.append(index)
            return np.zeros((100, 40, 1), np.uint8)

    iterator = started(Counts(400), 1).batches([[index] for index in range(400)])
    for taken in range(1, 50):
        next(iterator)
        assert len(read) <= taken + 10
    iterator.close()


def test_before_an_image_is_taken_as_many_are_read_as_fit_where_their_size_is_known(started, monkeypatch):
    monkeypatch.setattr(threads_module, "WAITING", 40_000)
    for expected, begun in ((0, 2), (4_000, 10), (1, 400)):
        read = []

        class Counts(Strange):
            def image(self, index, read=read):
                read.append(index)
                return np.zeros((100, 40, 1), np.uint8)

        readers = started(Counts(400), 1)
        iterator = readers.batches([[index] for index in range(400)], expected=expected)
        while len(read) < begun:
            threading.Event().wait(0.01)
        assert len(read) == begun
        iterator.close()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("bad", r"file9\.png is damaged"),
        ("error", r"file9\.png cannot be read: KeyError: 'no such thing'"),
        ("stop", r"file9\.png cannot be read: StopIteration"),
        ("kind", r"file9\.png is not a uint8 image of three dimensions"),
        ("hang", r"a thread that reads images has stood still for 0\.5 s at image 9, file9\.png"),
    ],
)
def test_a_fault_ends_the_run_and_names_the_image(started, fault, message):
    with pytest.raises(DataError, match=message) as caught:
        batches_of(started(Strange(**{fault: 9}), patience=0.5))
    assert (caught.value.hint == "data.on_bad_image: skip leaves such images out") == (fault != "hang")


def test_an_image_that_a_transform_refuses_is_named(started):
    crop = Singly("RandomCrop", (A.RandomCrop(9, 9),))
    with pytest.raises(DataError, match=r"file0\.png: RandomCrop cannot transform an image of shape \(2, 4, 3\)"):
        batches_of(started(Strange()), transforms=[crop], keys=[[(index,) for index in range(4)]] * 6)


def test_every_thread_has_transforms_of_its_own_and_an_image_meets_the_chance_of_its_key(started):
    noise = Singly("GaussNoise", (A.GaussNoise(std_range=(0.1, 0.4), p=1.0),))
    keys = [[(7 * index,) for index in range(start, start + 4)] for start in range(0, 24, 4)]
    made = [image for batch in batches_of(started(Strange(), 4), transforms=[noise], keys=keys) for image in batch]
    expected = noise([Strange().image(index) for index in range(24)], [7 * index for index in range(24)])
    assert all(map(np.array_equal, made, expected))


def test_what_transforms_warn_of_is_not_said_for_every_image_and_nothing_else_is_silenced(started):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        batches_of(started(Strange()), transforms=[Same()], keys=[[(0,)] * 4] * 6)
        warnings.warn_explicit("of an image", UserWarning, "a.py", 1, module="albumentations.core")
        warnings.warn_explicit("of the training", UserWarning, "b.py", 1, module="mine")
    assert [str(each.message) for each in caught] == ["of the training"]


ENDS = """
import numpy as np
from faulty_source import Strange
from trainer.data.threads import ReadingThreads

class Large(Strange):
    def image(self, index):
        import cv2
        return cv2.resize(np.zeros((500, 500, 3), np.uint8), (2000, 2000))

readers = ReadingThreads(Large(4000), 3)
batches = readers.batches([[index] for index in range(4000)], expected=1)
next(batches)
raise SystemExit(5)
"""


def test_a_process_that_ends_while_photos_are_read_ends_as_it_means_to():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    for _ in range(3):
        assert subprocess.run([sys.executable, "-c", ENDS], env=environment, check=False).returncode == 5
