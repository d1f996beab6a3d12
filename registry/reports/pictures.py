"""Photos, heat over photos, and sheets of them: uint8 RGB arrays in, uint8 RGB arrays and PNG files out.

One pipeline in RGB from end to end; OpenCV's BGR exists only inside its own calls. Drawn with OpenCV and Pillow, since
matplotlib would take longer for one sheet than this takes for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from registry import files
from registry.reports.lettering import drawable, font_file

TILE = 168  # px: longer side of one picture in a sheet
_GAP = 10
_LINE = 18  # px between lines below a tile
_TITLE, _SUBTITLE, _WORDS, _FIRST, _OTHERS = 20, 15, 15, 14, 13  # px: sizes of letters, readable on paper at half size
_COMPRESSION = 1  # of PNG files: a sixth smaller at 6, and four times as slow
_INK, _SOFT, _PAPER, _ALARM = (28, 36, 48), (86, 96, 114), (255, 255, 255), (176, 58, 20)

Colormap = Literal["turbo", "jet", "inferno", "viridis", "magma", "plasma", "hot"]


def as_rgb(image: np.ndarray) -> np.ndarray:
    """Return an image of 1, 3 or 4 channels, or of none, as uint8 (H, W, 3); a fourth channel is dropped."""
    if image.ndim == 2:
        image = image[:, :, None]
    if image.shape[2] < 3:
        image = np.repeat(image[:, :, :1], 3, axis=2)
    return np.ascontiguousarray(image[:, :, :3], dtype=np.uint8)


def enlarged(image: np.ndarray, side: int = TILE) -> np.ndarray:
    """Return a photo with its longer side at `side` px, smoothly enlarged or area-averaged."""
    height, width = image.shape[:2]
    factor = side / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    method = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
    return as_rgb(np.asarray(cv2.resize(as_rgb(image), size, interpolation=method)))


def overlay(image: np.ndarray, heat: np.ndarray, alpha: float, colormap: Colormap) -> np.ndarray:
    """Lay heat over a photo; where there is none, the photo stays as it is.

    Args:
        image: uint8 (H, W, 3).
        heat: float (H, W), 0 to 1.
        alpha: opacity where the heat is 1; between, opacity is alpha times the heat.
        colormap: an OpenCV colour map.

    Returns:
        uint8 (H, W, 3).
    """
    levels = np.clip(np.rint(heat * 255), 0, 255).astype(np.uint8)
    colors = cv2.applyColorMap(levels, getattr(cv2, f"COLORMAP_{colormap.upper()}"))[:, :, ::-1]
    opacity = (alpha * np.clip(heat, 0, 1))[:, :, None].astype(np.float32)
    return np.asarray(np.rint(image * (1 - opacity) + colors * opacity), dtype=np.uint8)


def write_png(path: Path, image: np.ndarray, *, below: Path) -> None:
    """Write uint8 RGB to `path`, making its folder; `below` is the folder below which no link is followed."""
    encoded = cv2.imencode(".png", image[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, _COMPRESSION])[1]
    files.write(path, encoded.data, below=below, lasting=False)


def read_png(path: Path) -> np.ndarray:
    """Return the picture at `path` as uint8 RGB, on white where it is transparent."""
    with Image.open(path) as found:
        picture = found.convert("RGBA")
    paper = Image.new("RGBA", picture.size, (*_PAPER, 255))
    return np.asarray(Image.alpha_composite(paper, picture).convert("RGB"))


def file_name(words: str, longest: int = 24) -> str:
    """Return `words` as a harmless part of a file name: letters, digits and hyphens."""
    return re.sub(r"[^A-Za-z0-9]+", "-", words).strip("-")[:longest].lower() or "x"


@dataclass(frozen=True)
class Tile:
    """A picture with words below it.

    Attributes:
        image: uint8 (H, W, 3).
        lines: below the picture, the first darker than the others.
        pale: drawn pale, with an alarming second line, because there is nothing to see on it.
    """

    image: np.ndarray
    lines: tuple[str, ...] = ()
    pale: bool = False


def sheet(
    rows: Sequence[tuple[str, Sequence[Tile]]],
    title: str = "",
    subtitle: str = "",
    side: int = TILE,
    lead: Tile | None = None,
) -> np.ndarray:
    """Return rows of tiles, `side` px apart, under a title, each row under words of its own, as one picture.

    Args:
        rows: words and tiles.
        title: above all.
        subtitle: below the title.
        side: of a tile.
        lead: a tile that belongs to every row and stands once, on the left.
    """
    left = 0 if lead is None else side + 2 * _GAP
    columns = max((len(tiles) for _, tiles in rows), default=1)
    across = left + columns * (side + _GAP) + _GAP
    width = max([across, _width(title, _TITLE, True) + 2 * _GAP, _width(subtitle, _SUBTITLE) + 2 * _GAP])
    head = (_GAP + 28 if title else _GAP) + (22 if subtitle else 0)
    heights = [_row_height(words, tiles) for words, tiles in rows]
    canvas = Image.new("RGB", (width, head + sum(heights) + _GAP), _PAPER)
    draw = ImageDraw.Draw(canvas)
    if title:
        draw.text((_GAP, _GAP), drawable(title), _INK, font=_font(_TITLE, True))
    if subtitle:
        draw.text((_GAP, _GAP + 28), drawable(subtitle), _SOFT, font=_font(_SUBTITLE))
    if lead is not None:
        _draw_row(canvas, draw, (0, head), side, " ", [lead])
    y = head
    for (words, tiles), height in zip(rows, heights, strict=True):
        _draw_row(canvas, draw, (left, y), side, words, tiles)
        y += height
    return np.asarray(canvas)


def grid(tiles: Sequence[Tile], columns: int, title: str = "") -> np.ndarray:
    """Return tiles in reading order, `columns` to a row, under a title."""
    rows = [("", tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    return sheet(rows, title)


def _row_height(words: str, tiles: Sequence[Tile]) -> int:
    picture = max((tile.image.shape[0] for tile in tiles), default=0)
    lines = max((len(tile.lines) for tile in tiles), default=0)
    return (26 if words else 0) + picture + _LINE * lines + _GAP + 4


def _draw_row(
    canvas: Image.Image,
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    side: int,
    words: str,
    tiles: Sequence[Tile],
) -> None:
    left, y = place
    if words:
        draw.text((left + _GAP, y + 5), drawable(words), _INK, font=_font(_WORDS, True))
        y += 26
    tallest = max((tile.image.shape[0] for tile in tiles), default=0)
    for column, tile in enumerate(tiles):
        x = left + _GAP + column * (side + _GAP)
        picture = Image.fromarray(tile.image)
        canvas.paste(
            Image.blend(picture, Image.new("RGB", picture.size, _PAPER), 0.55) if tile.pale else picture, (x, y)
        )
        for row, line in enumerate(tile.lines):
            size = _fitting(line, _FIRST if row == 0 else _OTHERS, side)
            fill = _ALARM if tile.pale and row else _INK if row == 0 else _SOFT
            draw.text((x, y + tallest + 3 + _LINE * row), drawable(line), fill, font=_font(size))


@lru_cache(maxsize=32)
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_file(bold), size)


def _width(words: str, size: int, bold: bool = False) -> int:
    return round(_font(size, bold).getlength(drawable(words))) if words else 0


def _fitting(words: str, size: int, room: int) -> int:
    """Return the greatest size, from `size` down to 8, at which `words` are no wider than `room` px."""
    return next((s for s in range(size, 8, -1) if _width(words, s) <= room), 8)
