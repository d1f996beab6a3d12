"""What is known of each image: exact sums, bounded memory, the same after being kept."""

import math
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest

from trainer.data import survey
from trainer.data.survey import Survey, mean_and_deviation, sums_of


def images(count=5, channels=3):
    generator = np.random.default_rng(1)
    return [generator.integers(0, 256, (3 + index, 4, channels), dtype=np.uint8) for index in range(count)]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sums_are_exact_whatever_the_band(channels, monkeypatch):
    monkeypatch.setattr(survey, "BAND", 5)
    for image in images(channels=channels):
        pixels = image.reshape(-1, channels).astype(np.int64)
        assert sums_of(image).tolist() == np.stack((pixels.sum(0), (pixels**2).sum(0)), axis=1).tolist()
        assert sums_of(image[::-1, ::-1]).tolist() == sums_of(image).tolist()


def test_more_pixels_than_a_float_can_count():
    white = np.full((4100, 4100, 1), 255, np.uint8)  # 2**24 = 4096 * 4096 are the last that float32 counts
    assert sums_of(white).tolist() == [[4100 * 4100 * 255, 4100 * 4100 * 255**2]]


def test_a_picture_of_any_size_is_counted_in_the_memory_of_a_small_one():
    picture = np.zeros((3000, 3000, 3), np.uint8)
    tracemalloc.start()
    sums_of(picture)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_mean_and_deviation_follow_exactly_from_the_sums():
    pixels = np.concatenate([image.reshape(-1, 3) for image in images()]).astype(object)
    total = sum(sums_of(image) for image in images())
    mean, deviation = mean_and_deviation(len(pixels), total)
    for channel in range(3):
        exact = Fraction(int(pixels[:, channel].sum()), 255 * len(pixels))
        square = Fraction(int((pixels[:, channel] ** 2).sum()), 255**2 * len(pixels))
        assert mean[channel] == float(exact)
        assert deviation[channel] == pytest.approx(math.sqrt(square - exact**2), rel=1e-15)


def test_the_deviation_of_many_pixels_of_one_value_is_zero():
    count = 10**13
    sums = np.array([[count * 7, count * 49]], dtype=np.int64)
    assert mean_and_deviation(count, sums) == ((7 / 255,), (0.0,))


def test_a_survey_is_the_same_after_it_was_kept():
    made = Survey(6, 3)
    for index, image in enumerate(images()):
        made.enter(index, image)
    made.miss(5)
    again = Survey.unpacked(made.packed())
    some = np.array([1, 4])
    assert (again.channels, again.sizes()) == (3, [(3 + index, 4) for index in range(5)])
    assert again.unreadable(np.arange(6)) == [5]
    assert again.digests.tolist() == made.digests.tolist()
    assert again.seen.all()
    count, sums = again.sums(some)
    assert (count, sums.tolist()) == (4 * (4 + 7), sum(sums_of(images()[index]) for index in some).tolist())
    assert again.mean_values() == 5 * 4 * 3
