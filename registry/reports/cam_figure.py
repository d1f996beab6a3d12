"""A figure of where a network looked, for notebooks: a row per picture, the photo and the map of every layer over it.

Draws what cam.py explains; knows nothing of networks or runs. The pages of a run have cam_pictures.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from registry.reports.cam import upsampled
from registry.reports.chart import INK, SOFT_INK
from registry.reports.lettering import drawable
from registry.reports.pictures import enlarged, overlay

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

_SIDE = 224  # px: longer side of a picture
_INCHES = 2.1  # of a picture on the figure
_MOST_LETTERS = 30  # over or below a picture
_ALPHA = 0.6  # as on the pages


@dataclass(frozen=True)
class Look:
    """One picture explained.

    Attributes:
        name: of the picture.
        photo: as the network saw it, uint8 RGB (H, W, 3).
        answer: the class explained and its probability, in words.
        maps: by layer name, raw map (h, w), never negative.
    """

    name: str
    photo: np.ndarray
    answer: str
    maps: Mapping[str, Tensor]


def figure_of(looks: Sequence[Look]) -> Figure:
    """Return the figure; a notebook shows it once, as the value of its cell."""
    from registry.reports.shown_figure import ShownFigure

    columns = 1 + max((len(look.maps) for look in looks), default=0)
    figure = ShownFigure(columns * _INCHES, max(1, len(looks)) * (_INCHES + 0.4))
    places = figure.subplots(max(1, len(looks)), columns, squeeze=False)
    for axes in places.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for row, look in zip(places, looks, strict=False):
        photo = enlarged(look.photo, _SIDE)
        _put(row[0], photo, look.name, look.answer)
        for axes, (name, found) in zip(row[1:], look.maps.items(), strict=False):
            height, width = found.shape
            said = "" if float(found.max()) > 0 else "no evidence"
            heat = upsampled(found, photo.shape[:2]).numpy()
            _put(axes, overlay(photo, heat, _ALPHA, "turbo"), f"{name} {height}x{width}", said)
    return figure


def _put(axes: Axes, image: np.ndarray, title: str, below: str) -> None:
    axes.imshow(image)
    axes.set_title(_cut(title), fontsize=8, color=SOFT_INK, loc="left")
    axes.set_xlabel(_cut(below), fontsize=9, color=INK, loc="left")


def _cut(words: str) -> str:
    """Return words that fit over a picture; of longer ones the end, which tells files and layers apart."""
    shown = drawable(words)
    return shown if len(shown) <= _MOST_LETTERS else f"…{shown[1 - _MOST_LETTERS :]}"
