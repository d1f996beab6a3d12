"""Image digests of 64 bits: pictures are the same where their pixels are, whatever their files are called.

Of pictures that nobody has decoded yet there are digests of their files' bytes: they say the same of the same files.

By these digests a resume notices other images, and an evaluation those that the network has learnt from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

UNREADABLE = 0  # in place of the digest of an image that cannot be read

Digests = NDArray[np.int64]


def digest_of(image: NDArray[np.uint8]) -> int:
    """Return the digest of uint8 pixels (H, W, C), an int64 other than `UNREADABLE`.

    SHA-1, the fastest that processors have built in, cut to 64 bits: of a million images two unlike ones are taken for
    the same once in forty million runs. It tells pictures apart; it is no proof against who makes collisions.
    """
    hasher = hashlib.sha1(b"%d/%d/%d" % image.shape, usedforsecurity=False)
    hasher.update(np.ascontiguousarray(image).data)
    return int.from_bytes(hasher.digest()[:8], "big", signed=True) or 1


def digest_of_file(content: bytes) -> int:
    """Return the digest of a file's bytes, an int64 other than `UNREADABLE`."""
    digest = hashlib.sha1(content, usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "big", signed=True) or 1


def digests_of(images: Iterable[NDArray[np.uint8]]) -> Digests:
    """Return the digest of each image, int64 (N,)."""
    return np.fromiter(map(digest_of, images), dtype=np.int64)
