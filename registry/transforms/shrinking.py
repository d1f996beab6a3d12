"""By how much the first transforms shrink what they keep of a picture: so much of it need not be decoded.

A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size for a part of the work. What is drawn (a crop's place and size) is
asked of the transform itself, by the numbers that it will draw. Says 1 wherever it does not know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

WHOLE = 512 * 512  # pixels up to which a picture is decoded in full size: such pictures may be packed, too
FACTORS = (8, 4, 2)

# What changes no size, or exchanges the sides, and does to a smaller picture what it does to a larger one.
_KEEPS_SIZE = frozenset(
    (
        *("ChannelShuffle", "ColorJitter", "D4", "HorizontalFlip", "HueSaturationValue", "InvertImg", "NoOp"),
        *("RGBShift", "RandomBrightnessContrast", "RandomGamma", "RandomRotate90", "Solarize", "SquareSymmetry"),
        *("ToGray", "Transpose", "VerticalFlip"),
    )
)
_TURNS = frozenset(("D4", "RandomRotate90", "SquareSymmetry", "Transpose"))


def keeps_size(transform: Any) -> bool:
    """Say whether a transform leaves sizes alone, and is as good on a smaller picture."""
    return type(transform).__name__ in _KEEPS_SIZE


def may_turn(transform: Any) -> bool:
    """Say whether a transform may exchange height and width."""
    return type(transform).__name__ in _TURNS


def shrinking(transform: Any, height: int, width: int) -> float:
    """Return by how much a transform shrinks what it keeps of a picture, along the side that it shrinks least.

    Args:
        transform: an instance of Albumentations, its random state set for this picture.
        height: of the picture.
        width: of the picture.

    Returns:
        1 or less where it shrinks nothing, or that is not known.
    """
    found = _SHRINKING.get(type(transform).__name__)
    return 1.0 if found is None or transform.p < 1 else found(transform, height, width)


def factor_of(shrinking: float) -> int:
    """Return the greatest of 8, 4, 2 and 1 by which a picture may be decoded smaller and still be shrunk after."""
    return next((factor for factor in FACTORS if factor <= shrinking), 1)


def _resize(transform: Any, height: int, width: int) -> float:
    return float(min(height / transform.height, width / transform.width))


def _by_side(transform: Any, height: int, width: int) -> float:
    drawn = transform.get_params_dependent_on_data({"shape": (height, width, 3)}, {})
    return 1 / float(drawn["scale"])


def _crop(transform: Any, height: int, width: int) -> float:
    drawn = transform.get_params_dependent_on_data({"shape": (height, width, 3)}, {})
    left, top, right, bottom = drawn["crop_coords"]
    return float(min((bottom - top) / transform.size[0], (right - left) / transform.size[1]))


_SHRINKING: dict[str, Callable[[Any, int, int], float]] = {
    "LongestMaxSize": _by_side,
    "RandomResizedCrop": _crop,
    "Resize": _resize,
    "SmallestMaxSize": _by_side,
}
