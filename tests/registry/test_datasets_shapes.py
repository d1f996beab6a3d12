"""Shapes: what its docstring and the quickstart rely on."""

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from registry.datasets.shapes import LUMA, OUTLINES, UNIT_OUTLINES, Shapes
from registry.datasets.source import MissingSplit


def opened(split="train", **arguments):
    return Shapes(split=split, download=False, **arguments)


@pytest.fixture(scope="module")
def train():
    return opened(train_size=2000)


def test_any_image_can_be_drawn_alone(train):
    alone = train.draw([1234, 7])
    assert np.array_equal(alone[0], train.image(1234))
    assert np.array_equal(alone[1], train.image(7))


def test_the_images_follow_from_the_seed_whatever_the_number_drawn(train):
    assert np.array_equal(opened(train_size=300).packed(), train.packed()[:300])


def test_another_seed_and_another_split_give_other_images(train):
    assert not np.array_equal(opened(train_size=50, seed=1).packed(), train.packed()[:50])
    assert not np.array_equal(opened("val", val_size=50).packed(), train.packed()[:50])
    assert not np.array_equal(opened("val", val_size=50).packed(), opened("test", test_size=50).packed())


def test_sizes_are_those_asked_for():
    sizes = {"train_size": 31, "val_size": 12, "test_size": 11}
    assert [len(opened(split, **sizes).targets) for split in ("train", "val", "test")] == [31, 12, 11]
    assert opened(train_size=10, image_size=48).packed().shape == (10, 48, 48, 3)


def test_declared_facts_are_the_defaults():
    assert Shapes.facts.splits == {"train": 8000, "val": 2000, "test": 2000}
    val = opened("val")
    assert val.packed().shape == (2000, *Shapes.facts.image_size, Shapes.facts.channels)
    assert val.class_names == Shapes.facts.class_names


def test_a_split_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(MissingSplit, match="Shapes has no split 'extra'; it has train, val, test"):
        opened("extra")


def test_classes_come_equally_often(train):
    assert len(OUTLINES) >= 10
    assert np.bincount(train.targets).tolist() == [200] * 10


def test_the_object_covers_8_to_15_percent_of_the_image(train):
    share = train.masks(range(2000)).mean(axis=(1, 2))
    assert share.min() >= 0.08
    assert share.max() <= 0.15


def test_the_mask_is_where_the_object_was_drawn(train):
    """Inside its mask an object is of one lightness, but for noise and shading; the mask's surroundings are not."""
    luma = train.packed()[:500] @ LUMA
    masks = train.masks(range(500))
    for picture, mask in zip(luma, masks, strict=True):
        inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3))).astype(bool)
        assert picture[inner].std() < 22


def test_every_object_stands_off_its_surroundings(train):
    luma = train.packed() @ LUMA
    masks = train.masks(range(2000))
    contrast = []
    for picture, mask in zip(luma, masks, strict=True):
        around = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5))).astype(bool) & ~mask
        contrast.append(abs(picture[mask].mean() - picture[around].mean()))
    assert min(contrast) > 40


def test_no_two_classes_are_equal_under_rotation():
    def drawn(contours, degrees):
        angle = np.deg2rad(degrees)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        canvas = np.zeros((128, 128), np.uint8)
        cv2.fillPoly(canvas, [np.round(line @ turn * 40 + 64).astype(np.int32) for line in contours], 1)
        return canvas.astype(bool)

    still = [drawn(contours, 0) for contours in UNIT_OUTLINES]
    for first, contours in enumerate(UNIT_OUTLINES):
        for degrees in range(0, 360, 6):
            turned = drawn(contours, degrees)
            for second in range(first + 1, len(still)):
                overlap = (turned & still[second]).sum() / (turned | still[second]).sum()
                assert overlap < 0.9, (list(OUTLINES)[first], list(OUTLINES)[second], degrees)


def test_a_linear_model_on_pixels_stays_near_chance(train):
    test = opened("test", test_size=1000)

    def pixels(source):
        return torch.from_numpy(source.packed()).flatten(1).float().div_(255).sub_(0.5)

    inputs, targets = pixels(train), torch.from_numpy(train.targets)
    torch.manual_seed(0)
    model = torch.nn.Linear(inputs.shape[1], len(OUTLINES))
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=1e-3)
    for _ in range(10):
        for chosen in torch.randperm(len(inputs)).split(128):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[chosen]), targets[chosen]).backward()
            optimizer.step()
    accuracy = (model(pixels(test)).argmax(1) == torch.from_numpy(test.targets)).float().mean()
    assert accuracy < 0.25


@pytest.mark.slow  # half a minute of training on two cores
def test_a_small_network_passes_95_percent():
    train, val = opened(), opened("val")

    def images(source):
        pixels = torch.from_numpy(source.packed()).permute(0, 3, 1, 2).float().div_(255).sub_(0.5)
        return pixels.contiguous(memory_format=torch.channels_last)

    def block(inputs, outputs, stride):
        return [
            torch.nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            torch.nn.BatchNorm2d(outputs),
            torch.nn.ReLU(),
        ]

    torch.manual_seed(0)
    layers = [*block(3, 24, 1), *block(24, 32, 2), *block(32, 48, 1), *block(48, 64, 2), *block(64, 96, 1)]
    model = torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(96, 10))
    assert sum(parameter.numel() for parameter in model.parameters()) < 200_000
    model.to(memory_format=torch.channels_last)
    inputs, targets, epochs = images(train), torch.from_numpy(train.targets), 6
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    steps = epochs * -(-len(inputs) // 128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=steps)
    for _ in range(epochs):
        for chosen in torch.randperm(len(inputs)).split(128):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[chosen]), targets[chosen]).backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.inference_mode():
        accuracy = (model(images(val)).argmax(1) == torch.from_numpy(val.targets)).float().mean()
    assert accuracy > 0.95
