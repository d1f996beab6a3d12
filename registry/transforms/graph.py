"""What an exported graph holds of a recipe's transforms: each as a module of tensor operations, or the reason why not.

As batched.py makes batched versions of upstream instances, so this makes graph forms of them. A graph draws nothing:
what is left to chance has no form. A transform of somebody's own comes into a graph by a method `graph()` that returns
its form, a torch module that takes and gives (N, H, W, C) of one size. Albumentations itself is not imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import torch
from torch import Tensor, nn
from typing_extensions import override

from registry.transforms.contract import UnsupportedError, border_levels
from registry.transforms.graph_resize import FORMS, CropGraph, LetterboxGraph, ResizeGraph, ScaledCropGraph
from registry.transforms.normalize import of_channels
from registry.transforms.padding import Frame, Least, Margins, placed

Upstream = Any  # an albumentations transform, which is untyped and not imported for a name
Size = tuple[int, int]  # height and width


@dataclass(frozen=True)
class Seen:
    """The pictures that a transform is given.

    Attributes:
        size: (height, width); None where it is known only when the graph runs.
        channels: 3 for RGB, 1 for grey.
    """

    size: Size | None
    channels: int


class NoGraphForm(Exception):
    """A transform has no form that a graph can hold.

    Attributes:
        name: of the transform.
        reason: why.
        way_out: what to do instead.
    """

    def __init__(self, name: str, reason: str, way_out: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name, self.reason, self.way_out = name, reason, way_out


@dataclass(frozen=True)
class Form:
    """A transform in a graph.

    Attributes:
        module: takes (N, H, W, C).
        size: (height, width) of what it gives; None where each picture keeps its own.
        makes_float: whether it gives float32 and no grey levels.
        exact: whether it gives the transform's very pixels; else one in thousands may be a grey level off.
    """

    module: nn.Module
    size: Size | None
    makes_float: bool = False
    exact: bool = True


def forms_of(transforms: Sequence[Upstream], seen: Seen) -> list[Form]:
    """Return transforms as forms, in order; two where they have one only together are one.

    Args:
        transforms: upstream's instances, or somebody's own.
        seen: the pictures.

    Raises:
        NoGraphForm: one has none.
    """
    forms: list[Form] = []
    waiting = list(transforms)
    while waiting:
        first, second = waiting[0], waiting[1] if len(waiting) > 1 else None
        if forms and forms[-1].makes_float:
            hint = f"put {_name(first)} into data.eval, or before it"
            if _name(first) == "Normalize":  # which data.eval does not take
                hint = f"leave out what makes float: {_name(first)} does, and divides by its own max_pixel_value"
            raise NoGraphForm(_name(first), "it stands behind what makes float", hint)
        pair = _pair(first, second, seen)
        form = _alone(first, seen) if pair is None else pair
        del waiting[: 1 if pair is None else 2]
        forms.append(form)
        seen = replace(seen, size=form.size)
    return forms


def _alone(transform: Upstream, seen: Seen) -> Form:
    name = _name(transform)
    own = getattr(transform, "graph", None)
    if callable(own) and not _is_upstream(transform):
        return Form(own(), seen.size)
    make = MAKERS.get(name)
    if make is None or not _is_upstream(transform):
        raise NoGraphForm(name, "a graph has no form of it", _way_out(transform))
    if transform.p < 1 and name != "NoOp":
        raise NoGraphForm(
            name, f"p is {transform.p:g}, and a graph leaves nothing to chance", "set p: 1, or leave it out"
        )
    try:
        return make(transform, seen)
    except UnsupportedError as error:
        raise NoGraphForm(name, str(error), _way_out(transform)) from error


def _pair(first: Upstream, second: Upstream | None, seen: Seen) -> Form | None:
    """Return the form of two transforms that have one only together; None where they are no such two."""
    name, then = _name(first), "" if second is None else _name(second)
    if name not in _SCALES or not _is_upstream(first) or first.p < 1:
        return None
    if then != _SCALES[name] or second is None or second.p < 1:
        hint = f"put {_SCALES[name]} right behind {name}, or use Resize"
        raise NoGraphForm(name, "each picture has a size of its own after it", hint)
    side = first.max_size
    if not isinstance(side, int):
        raise NoGraphForm(name, f"max_size {side} leaves it to chance, or to each side", "give max_size one number")
    if first.interpolation not in (cv2.INTER_LINEAR, cv2.INTER_NEAREST) or first.area_for_downscale is not None:
        raise NoGraphForm(name, "it interpolates neither linearly nor by the nearest", "leave interpolation out")
    return _scaled_crop(first, second) if then == "CenterCrop" else _letterbox(first, second, seen)


def _scaled_crop(first: Upstream, crop: Upstream) -> Form:
    if crop.pad_if_needed:
        raise NoGraphForm("CenterCrop", "pad_if_needed pads each picture by margins of its own", "leave it out")
    size = crop.height, crop.width
    return Form(ScaledCropGraph(first.max_size, True, *size, first.interpolation), size)


def _letterbox(first: Upstream, pad: Upstream, seen: Seen) -> Form:
    size = pad.min_height, pad.min_width
    if None in size or min(size) < first.max_size or pad.position != "center" or pad.border_mode != cv2.BORDER_CONSTANT:
        hint = "give it min_height and min_width of max_size or more, and leave position and border_mode out"
        raise NoGraphForm("PadIfNeeded", f"behind {_name(first)} a graph frames pictures by one colour alone", hint)
    fill = border_levels(pad.fill, seen.channels)
    return Form(LetterboxGraph(first.max_size, *size, first.interpolation, fill), size)


# What leaves each picture a size of its own -> what gives all of them one.
_SCALES = {"SmallestMaxSize": "CenterCrop", "LongestMaxSize": "PadIfNeeded"}


# ------------------------------------------------------------------------------------------------------------- geometry
def _resize(t: Upstream, seen: Seen) -> Form:  # noqa: ARG001 (any size will do)
    way = t.interpolation
    if way not in FORMS:
        raise UnsupportedError(f"interpolation {way} is neither nearest, linear nor by area")
    if t.area_for_downscale is not None:
        raise UnsupportedError("area_for_downscale interpolates each picture in a way of its own")
    return Form(ResizeGraph(t.height, t.width, way), (t.height, t.width), exact=way != cv2.INTER_AREA)


def _center_crop(t: Upstream, seen: Seen) -> Form:
    crop, size = (t.height, t.width), seen.size
    if size is None:
        if t.pad_if_needed:
            raise UnsupportedError("pad_if_needed pads each picture by margins of its own")
        return Form(CropGraph(*crop), crop)
    lacking = [Least(side, None).margin(own) for side, own in zip(crop, size, strict=True)]
    margins = Margins(*lacking[0], *lacking[1])
    if any(margins) and not t.pad_if_needed:
        raise UnsupportedError(f"a crop of {crop[0]}x{crop[1]} is larger than the picture of {size[0]}x{size[1]}")
    steps: list[nn.Module] = []
    if any(margins):
        steps.append(_Padded(_fixed(margins, t.pad_position), Frame(t.border_mode, t.fill)))
    top, left = (max(own - side, 0) // 2 for own, side in zip(size, crop, strict=True))
    return Form(nn.Sequential(*steps, _Window(top, left, *crop)), crop)


def _pad(t: Upstream, seen: Seen) -> Form:
    given = t.padding
    if isinstance(given, (tuple, list)):
        left, top, right, bottom = given if len(given) == 4 else (*given, *given)
    else:
        left = top = right = bottom = given
    margins = Margins(top, bottom, left, right)
    return Form(_Padded(margins, Frame(t.border_mode, t.fill)), _grown(_known(seen), margins))


def _pad_if_needed(t: Upstream, seen: Seen) -> Form:
    known = _known(seen)
    down = Least(t.min_height, t.pad_height_divisor).margin(known[0])
    across = Least(t.min_width, t.pad_width_divisor).margin(known[1])
    margins = _fixed(Margins(*down, *across), t.position)
    return Form(_Padded(margins, Frame(t.border_mode, t.fill)), _grown(known, margins))


def _known(seen: Seen) -> Size:
    if seen.size is None:
        raise UnsupportedError("the pictures differ in size, and with them what it adds")
    return seen.size


def _grown(size: Size, margins: Margins) -> Size:
    return size[0] + margins.top + margins.bottom, size[1] + margins.left + margins.right


def _fixed(margins: Margins, position: str) -> Margins:
    if position == "random" and any(margins):
        raise UnsupportedError("position random leaves it to chance")
    return margins if position == "random" else placed(margins, position)  # type: ignore[arg-type]


class _Padded(nn.Module):
    """Images with margins."""

    def __init__(self, margins: Margins, frame: Frame) -> None:
        super().__init__()
        self.margins, self.frame = margins, frame

    @override
    def forward(self, images: Tensor) -> Tensor:
        return self.frame.around(images, self.margins)


class _Window(nn.Module):
    """One window of all images."""

    def __init__(self, top: int, left: int, height: int, width: int) -> None:
        super().__init__()
        self.top, self.left, self.height, self.width = top, left, height, width

    @override
    def forward(self, images: Tensor) -> Tensor:
        return images[:, self.top : self.top + self.height, self.left : self.left + self.width]


# --------------------------------------------------------------------------------------------------------------- levels
class LevelsGraph(nn.Module):
    """Grey levels as numbers of the network: times a factor, plus an offset, per channel.

    Args:
        factors: float32 (C,) or (1,).
        offsets: likewise.
    """

    factors: Tensor
    offsets: Tensor

    def __init__(self, factors: Tensor, offsets: Tensor) -> None:
        super().__init__()
        self.register_buffer("factors", factors.to(torch.float32))
        self.register_buffer("offsets", offsets.to(torch.float32))

    @override
    def forward(self, images: Tensor) -> Tensor:
        return self.offsets + images.to(torch.float32) * self.factors


def scaled_levels() -> LevelsGraph:
    """Return what makes 0..1 of grey levels, as the engine does where no transform makes float."""
    return LevelsGraph(torch.tensor([1 / 255]), torch.zeros(1))


def _normalize(t: Upstream, seen: Seen) -> Form:
    if t.normalization != "standard":
        raise UnsupportedError(f"normalization {t.normalization!r} needs each picture's own statistics")
    mean, std = (
        of_channels(tuple(each) if isinstance(each, (tuple, list)) else (each,), seen.channels)
        for each in (t.mean, t.std)
    )
    return Form(LevelsGraph(1 / (std * t.max_pixel_value), -mean / std), seen.size, makes_float=True)


def _to_float(t: Upstream, seen: Seen) -> Form:
    most = 255.0 if t.max_value is None else float(t.max_value)
    return Form(LevelsGraph(torch.tensor([1 / most]), torch.zeros(1)), seen.size, makes_float=True)


MAKERS: dict[str, Callable[[Upstream, Seen], Form]] = {
    "CenterCrop": _center_crop,
    "NoOp": lambda _, seen: Form(nn.Identity(), seen.size),
    "Normalize": _normalize,
    "Pad": _pad,
    "PadIfNeeded": _pad_if_needed,
    "Resize": _resize,
    "ToFloat": _to_float,
}


# ---------------------------------------------------------------------------------------------------------------- words
def _name(transform: Upstream) -> str:
    return type(transform).__name__


def _is_upstream(transform: Upstream) -> bool:
    return type(transform).__module__.split(".")[0] == "albumentations"


def _way_out(transform: Upstream) -> str:
    if _is_upstream(transform):
        return (
            f"a graph holds {', '.join([*sorted(MAKERS), *_SCALES])}: train with these, or do the rest before the file"
        )
    return f"give {_name(transform)} a method graph() that returns it as a torch module of (N, H, W, C)"
