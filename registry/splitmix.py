"""Counter-based randomness: splitmix64's finaliser, which scatters 64-bit numbers one to one (Steele et al., 2014).

Every draw of the house is such a number of a key and a counter, so nothing depends on what was drawn before. Owns the
constants and the forms for Python's integers and NumPy's; torch's stands in registry/transforms/draws.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WEYL = 0x9E3779B97F4A7C15  # step of the counter: 2**64 over the golden ratio, odd
MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SHIFTS = (30, 27, 31)
MASK = (1 << 64) - 1


def scattered(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scatter numbers, uint64 of any shape."""
    for shift, multiplier in zip(SHIFTS[:2], MULTIPLIERS, strict=True):
        x = x ^ (x >> np.uint64(shift))
        x *= np.uint64(multiplier)
    x ^= x >> np.uint64(SHIFTS[2])
    return x


def scattered_int(x: int) -> int:
    """Scatter one number, of which the lowest 64 bits count."""
    x &= MASK
    for shift, multiplier in zip(SHIFTS[:2], MULTIPLIERS, strict=True):
        x = ((x ^ (x >> shift)) * multiplier) & MASK
    return x ^ (x >> SHIFTS[2])
