"""Letters in pictures: DejaVu Sans, which matplotlib carries, so that a server without fonts draws the same.

A letter that it has no glyph for, and a tab, is written as its number: a box would name nothing.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from registry.printing import numbered


def font_file(bold: bool = False) -> str:
    """Return the path of the font."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name)


def drawable(words: str) -> str:
    r"""Return `words` with escapes for what the font cannot draw: a tab becomes `\u0009`."""
    if words.isascii() and words.isprintable():
        return words
    glyphs = _glyphs()
    return "".join(letter if ord(letter) in glyphs else numbered(ord(letter)) for letter in words)


@cache
def _glyphs() -> frozenset[int]:
    """Return the letters that the font has in both its weights."""
    from matplotlib.ft2font import FT2Font

    plain, bold = (FT2Font(font_file(weight)).get_charmap() for weight in (False, True))
    return frozenset(plain) & frozenset(bold)
