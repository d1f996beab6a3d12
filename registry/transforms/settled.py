"""Which of Albumentations' transforms leave nothing to chance: an image is the same after them in every epoch."""

from __future__ import annotations

from typing import Any

# What is left to chance in others stands in their arguments' ranges; one that is not named here counts as drawn.
_SETTLED = frozenset(
    (
        *("CenterCrop", "Crop", "FromFloat", "InvertImg", "LongestMaxSize", "Normalize", "Pad", "PadIfNeeded"),
        *("Resize", "SmallestMaxSize", "ToFloat", "ToGray", "Transpose"),
    )
)


def is_settled(transform: Any) -> bool:
    """Say whether an instance of Albumentations makes the same of an image whatever is drawn."""
    if type(transform).__name__ not in _SETTLED or transform.p < 1:
        return False
    places = (getattr(transform, name, "") for name in ("position", "pad_position"))
    several = isinstance(sizes := getattr(transform, "max_size", None), (list, tuple)) and len(sizes) > 1
    return "random" not in places and not several
