"""Near duplicates of thumbnails: found whatever was done to them, and nothing else."""

import cv2
import numpy as np
import pytest
import torch
from made_pictures import COPIES, scenes

from registry.datasets.shapes import Shapes
from trainer.audit.likeness import (
    KEPT,
    LOWEST,
    Pairs,
    candidates_among,
    compared,
    descriptors_of,
    needed,
)
from trainer.audit.looks import thumbnail_of


def thumbnails_of(images) -> np.ndarray:
    return np.stack([thumbnail_of(image) for image in images])


def found_among(thumbnails, classes=10) -> Pairs:
    described, owners = descriptors_of(thumbnails), np.zeros(len(thumbnails), np.int8)
    labels = np.arange(len(thumbnails)) % classes
    pairs = compared(lambda at: thumbnails[at], candidates_among(*described, owners))
    return pairs.taken(pairs.likeness >= needed(*described, labels, lambda at: thumbnails[at], pairs))


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_found_however_it_was_made(how):
    pictures = scenes(60)
    thumbnails = thumbnails_of([*pictures, COPIES[how](pictures[7])])
    found = found_among(thumbnails)
    assert list(zip(found.first, found.second, strict=True)) == [(7, 60)]
    assert found.mirrored.tolist() == [how == "mirrored"]


def test_drawn_shapes_of_one_class_are_hardly_ever_near_duplicates():
    """A shape on a ground, alike in all but place, turn and colours, is what photos seldom are."""
    source = Shapes(train_size=160, val_size=1, test_size=1, split="train", download=False)
    assert len(found_among(thumbnails_of(source.packed()))) <= 160 // 16


def mark(cells, size: int, at: tuple[int, int], height: int = 0) -> np.ndarray:
    """Return a white page, uint8 (256, 256, 3), with a pattern of black cells somewhere."""
    page, (y, x) = np.full((256, 256, 3), 255, np.uint8), at
    height = height or size
    page[y : y + height, x : x + size] = cv2.resize(cells, (size, height), interpolation=cv2.INTER_NEAREST)[..., None]
    return page


@pytest.mark.parametrize(
    ("cells", "size", "at", "height"),
    [((4, 4), 28, (0, 0), 0), ((4, 4), 28, (0, 114), 0), ((3, 32), 256, (2, 0), 24)],
    ids=["a mark in the corner", "at the edge", "a line at the top"],
)
def test_pages_with_another_mark_at_their_edge_are_no_duplicates(cells, size, at, height):
    draw = np.random.default_rng(1)
    pages = [mark(draw.integers(0, 2, cells).astype(np.uint8) * 255, size, at, height) for _ in range(40)]
    assert len(found_among(thumbnails_of(pages))) == 0
    again = cv2.imdecode(cv2.imencode(".jpg", pages[3], [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR)
    found = found_among(thumbnails_of([*pages[:4], again]))  # of many such pages the grid tells too few apart
    assert (3, 4) in set(zip(found.first.tolist(), found.second.tolist(), strict=True))


def test_products_of_descriptors_are_correlations_of_both_mirror_images():
    thumbnails = thumbnails_of(scenes(6, side=32))
    thumbnails = np.concatenate((thumbnails, thumbnails[:, :, ::-1]))
    even, odd = descriptors_of(thumbnails)
    plain, mirrored = even @ even.T + odd @ odd.T, even @ even.T - odd @ odd.T
    assert np.allclose(np.diag(plain), 1, atol=1e-5)
    assert np.allclose(plain[:6, 6:], mirrored[:6, :6], atol=1e-5)
    assert plain[0, 6] < 0.9


def test_what_is_flat_is_like_nothing():
    thumbnails = np.full((4, 32, 32), 90, np.uint8)
    thumbnails += np.random.default_rng(0).integers(0, 2, thumbnails.shape, dtype=np.uint8)
    assert len(found_among(thumbnails)) == 0


def test_pictures_that_have_much_in_common_anyhow_are_no_near_duplicates_for_that():
    """Digits: strokes on black, each bent in its own way, none a copy of another."""
    draw = np.random.default_rng(0)
    digits = np.zeros((120, 32, 32), np.uint8)
    for digit in digits:
        bends = np.stack((16 + draw.integers(-5, 6, 4), [4, 12, 20, 27]), axis=1).astype(np.int32)
        cv2.polylines(digit, [bends], False, 255, 3, cv2.LINE_AA)
    described = descriptors_of(digits)
    pairs = compared(lambda at: digits[at], candidates_among(*described, np.zeros(120, np.int8)))
    assert (pairs.likeness >= LOWEST).sum() > 100
    assert len(found_among(digits, classes=1)) < 10


def test_a_film_of_a_thousand_frames_makes_few_pairs():
    frames = np.repeat(thumbnails_of(scenes(1, side=32)), 300, axis=0)
    owners = np.arange(300, dtype=np.int8) % 2
    pairs = candidates_among(*descriptors_of(frames), owners)
    assert len(pairs) <= 4 * KEPT * 300, "six of either part for each frame, as the earlier one and as the later"


def test_each_of_many_copies_of_one_picture_is_paired_with_it():
    """As twenty test pictures that were made of one training picture: none of them may pass for clean."""
    original = thumbnails_of(scenes(1, side=32))
    copies = np.concatenate(
        [original, np.clip(original.astype(int) + np.arange(20)[:, None, None], 0, 255).astype(np.uint8)]
    )
    owners = np.array([0] + [1] * 20, dtype=np.int8)
    pairs = candidates_among(*descriptors_of(copies), owners)
    assert set(pairs.second[pairs.first == 0]) == set(range(1, 21))


def test_blocks_of_pairs_leave_none_out(monkeypatch):
    thumbnails = thumbnails_of(scenes(90, side=32))
    whole = candidates_among(*descriptors_of(thumbnails), np.zeros(90, np.int8))
    monkeypatch.setattr("trainer.audit.likeness.ROWS", 7)
    monkeypatch.setattr("trainer.audit.likeness.COLUMNS", 11)
    cut = candidates_among(*descriptors_of(thumbnails), np.zeros(90, np.int8))
    assert set(zip(cut.first, cut.second, strict=True)) == set(zip(whole.first, whole.second, strict=True))
    even, odd = map(torch.from_numpy, descriptors_of(thumbnails))
    products = (even @ even.T + (odd @ odd.T).abs()).triu(1)
    assert len(whole) <= int((products > 0.7).sum())
