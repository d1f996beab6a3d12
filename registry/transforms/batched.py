"""Batched versions of upstream transforms, made from the upstream instances.

Names, arguments, defaults and validation stay upstream's: it constructs, this module reads the result. An instance
whose arguments have no batched version has a reason instead, and runs by Albumentations (trainer/data/pipeline.py).
Albumentations itself is not imported here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from registry.transforms.color import GREYS, ColorJitter, HueSaturationValue, RandomBrightnessContrast, ToGray
from registry.transforms.contract import Batched, UnsupportedError
from registry.transforms.cropping import (
    Borders,
    CenterCrop,
    Cut,
    RandomCrop,
    RandomCropFromBorders,
    RandomResizedCrop,
    Resize,
)
from registry.transforms.erasing import CoarseDropout
from registry.transforms.flips import Flip
from registry.transforms.geometry import Affine, Ranges, Rotate
from registry.transforms.noise import GaussNoise
from registry.transforms.normalize import Normalize
from registry.transforms.padding import Frame, Least, Margins, Pad, PadIfNeeded
from registry.transforms.warp import Sampling
from registry.transforms.windows import Scaling

Upstream = Any  # an albumentations.BasicTransform or BaseCompose, which are untyped and not imported for a name


def batched(transform: Upstream) -> Batched | None:
    """Return the batched version of an upstream transform, or None where it has none."""
    found = _look_up(transform)
    return None if isinstance(found, str) else found


def why_not(transform: Upstream) -> str:
    """Return why an upstream transform has no batched version; "" where it has one."""
    found = _look_up(transform)
    return found if isinstance(found, str) else ""


def batched_pair(first: Upstream, second: Upstream) -> Batched | None:
    """Return the batched version of two transforms that have one only together, or None.

    It draws as the first does; the second leaves nothing to chance.
    """
    if not (_is_upstream(first, "RandomCropFromBorders") and _is_upstream(second, "Resize")):
        return None
    if first.p < 1 or isinstance(_look_up(second), str):
        return None
    borders = Borders(first.crop_left, first.crop_right, first.crop_top, first.crop_bottom)
    return RandomCropFromBorders(borders, _scaling(second, second.height, second.width))


def _look_up(transform: Upstream) -> Batched | str:
    make = MAKERS.get(type(transform).__name__)
    if make is None or not _is_upstream(transform, type(transform).__name__):
        return _ALONE.get(type(transform).__name__, "it has no batched version")
    try:
        return make(transform)
    except UnsupportedError as error:
        return str(error)


def _is_upstream(transform: Upstream, name: str) -> bool:
    kind = type(transform)
    return kind.__name__ == name and kind.__module__.split(".")[0] == "albumentations"


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise UnsupportedError(reason)


def _always(t: Upstream) -> None:
    _require(t.p >= 1, "p below 1 leaves images of two sizes")


def _affine(t: Upstream) -> Batched:
    _require(not t.fit_output, "fit_output changes the size by what is drawn")
    in_pixels = t.translate_px is not None
    translate = t.translate_px if in_pixels else t.translate_percent
    ranges = Ranges(
        scale=_axes(t.scale),
        shear=_axes(t.shear),
        translate=_axes(translate),
        in_pixels=in_pixels,
        rotate=t.rotate,
        keep_ratio=t.keep_ratio,
        balanced=t.balanced_scale,
    )
    return Affine(ranges, _sampling(t), t.p)


def _axes(limits: dict[str, tuple[float, float]]) -> tuple[tuple[float, float], tuple[float, float]]:
    return limits["x"], limits["y"]


def _brightness_contrast(t: Upstream) -> Batched:
    return RandomBrightnessContrast(t.brightness_limit, t.contrast_limit, t.brightness_by_max, t.ensure_safe_range, t.p)


def _center_crop(t: Upstream) -> Batched:
    return CenterCrop(_cut(t))


def _coarse_dropout(t: Upstream) -> Batched:
    _require(not isinstance(t.fill, str), f"fill {t.fill!r} is no grey level")
    return CoarseDropout(t.num_holes_range, t.hole_height_range, t.hole_width_range, t.fill, t.p)


def _color_jitter(t: Upstream) -> Batched:
    return ColorJitter(t.brightness, t.contrast, t.saturation, t.hue, t.p)


def _cut(t: Upstream) -> Cut:
    _always(t)
    frame = Frame(t.border_mode, t.fill) if t.pad_if_needed else None
    return Cut(t.height, t.width, frame, t.pad_position)


def _gauss_noise(t: Upstream) -> Batched:
    _require(t.noise_scale_factor == 1, "noise_scale_factor below 1 resizes the noise")
    return GaussNoise(t.std_range, t.mean_range, t.per_channel, t.p)


def _hue_saturation_value(t: Upstream) -> Batched:
    return HueSaturationValue(t.hue_shift_limit, t.sat_shift_limit, t.val_shift_limit, t.p)


def _normalize(t: Upstream) -> Batched:
    _require(t.normalization == "standard", f"normalization {t.normalization!r} needs each image's own statistics")
    _require(t.p >= 1, "p below 1 leaves some images as they are")
    mean, std = (tuple(values) if isinstance(values, (tuple, list)) else (values,) for values in (t.mean, t.std))
    return Normalize(mean, std, t.max_pixel_value)


def _pad(t: Upstream) -> Batched:
    _always(t)
    if isinstance(t.padding, (tuple, list)):
        left, top, right, bottom = t.padding if len(t.padding) == 4 else (*t.padding, *t.padding)
    else:
        left = top = right = bottom = t.padding
    return Pad(Margins(top, bottom, left, right), Frame(t.border_mode, t.fill))


def _pad_if_needed(t: Upstream) -> Batched:
    _always(t)
    height, width = Least(t.min_height, t.pad_height_divisor), Least(t.min_width, t.pad_width_divisor)
    return PadIfNeeded(height, width, t.position, Frame(t.border_mode, t.fill))


def _random_crop(t: Upstream) -> Batched:
    return RandomCrop(_cut(t))


def _random_resized_crop(t: Upstream) -> Batched:
    return RandomResizedCrop(t.scale, t.ratio, _scaling(t, *t.size))


def _resize(t: Upstream) -> Batched:
    return Resize(_scaling(t, t.height, t.width))


def _rotate(t: Upstream) -> Batched:
    _require(not t.crop_border, "crop_border changes the size by the angle")
    return Rotate(t.limit, _sampling(t), t.p)


def _sampling(t: Upstream) -> Sampling:
    return Sampling(t.interpolation, t.border_mode, t.fill)


def _scaling(t: Upstream, height: int, width: int) -> Scaling:
    _always(t)
    _require(t.area_for_downscale is None, "area_for_downscale interpolates by area")
    return Scaling(height, width, t.interpolation)


def _to_gray(t: Upstream) -> Batched:
    _require(t.num_output_channels == 3, f"num_output_channels {t.num_output_channels} changes the number of channels")
    _require(t.method in GREYS, f"method {t.method!r} is none of {', '.join(GREYS)}")
    return ToGray(t.method, t.p)


_ALONE = {"RandomCropFromBorders": "each image has its own size after it; put Resize right behind it"}

MAKERS: dict[str, Callable[[Upstream], Batched]] = {
    "Affine": _affine,
    "CenterCrop": _center_crop,
    "CoarseDropout": _coarse_dropout,
    "ColorJitter": _color_jitter,
    "GaussNoise": _gauss_noise,
    "HorizontalFlip": lambda t: Flip(True, t.p),
    "HueSaturationValue": _hue_saturation_value,
    "Normalize": _normalize,
    "Pad": _pad,
    "PadIfNeeded": _pad_if_needed,
    "RandomBrightnessContrast": _brightness_contrast,
    "RandomCrop": _random_crop,
    "RandomResizedCrop": _random_resized_crop,
    "Resize": _resize,
    "Rotate": _rotate,
    "ShiftScaleRotate": _affine,
    "ToGray": _to_gray,
    "VerticalFlip": lambda t: Flip(False, t.p),
}
