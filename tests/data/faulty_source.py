"""Sources with faults at chosen places, and a transform that changes nothing.

In a module of its own, so that worker processes import no torch for it.
"""

import os
import signal
import time

import numpy as np

from registry.errors import DataError


class Strange:
    """A source of images of several sizes with faults at chosen places."""

    class_names = ("a",)

    def __init__(self, count=24, **faults):
        self.targets = np.zeros(count, np.int64)
        self.faults = {place: fault for fault, place in faults.items()}

    def image(self, index):
        fault = self.faults.get(index)
        if fault == "stop":
            raise StopIteration
        if fault == "error":
            raise KeyError("no such thing")
        if fault == "bad":
            raise DataError(f"{self.describe(index)} is damaged")
        if fault == "kind":
            return "an image"
        if fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "hang":
            time.sleep(60)
        return np.full((2 + index % 3, 4, 3), index % 256, np.uint8)

    def describe(self, index):
        return f"file{index}.png"

    def packed(self):
        return None

    def listing(self):
        return None


class Unpacked(Strange):
    """A source whose code is not there, or fails, where a worker unpacks it."""

    def __setstate__(self, state):
        raise ImportError("no module named 'mine'")


class Same:
    """A transform that keeps each image and needs a key for it."""

    name = "Same"
    transforms = ()

    def transformed(self, image, _row):
        return image
