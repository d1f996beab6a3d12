"""How text fits the width that it is shown in: lines break between words, never inside one.

The width is what COLUMNS says, else the terminal's. In a pipe or a file a line of the log stays one line, which
programs can read.
"""

from __future__ import annotations

import os
import sys
import textwrap
from typing import TextIO

PAGE = 110  # columns of a text to read where nobody says how many there are, and the most of them
NARROWEST = 40
QUOTED = "    "  # begins a line of a recipe and the caret below it: these stand as they are
_CUT = "..."
_HANGING = "  "  # before what is left of a line


def width_of(stream: TextIO) -> int | None:
    """Return how many columns a terminal has; None where the stream is none."""
    if not stream.isatty():
        return None
    try:
        return _told() or max(os.get_terminal_size(stream.fileno()).columns, NARROWEST)
    except (OSError, ValueError):  # a stream without a file behind it; a terminal that is gone
        return None


def table_width() -> int | None:
    """Return how many columns what is printed for reading has: COLUMNS counts in a pipe, too; None where none says."""
    return _told() or width_of(sys.stdout)


def page_width() -> int:
    """Return how many columns a text has: at most as many as one reads with ease."""
    return min(table_width() or PAGE, PAGE)


def _told() -> int | None:
    """Return the width that COLUMNS asks for; None where it does not."""
    told = os.environ.get("COLUMNS", "")
    return max(int(told), NARROWEST) if told.isdecimal() and int(told) > 0 else None


def folded(text: str, stream: TextIO) -> str:
    """Return text in lines that fit the stream, broken between words; of a recipe's line what is around its caret."""
    width = width_of(stream)
    if width is None:
        return text
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if number and line.startswith(QUOTED) and line.strip() == "^":
            lines[number - 1], lines[number] = _around(lines[number - 1], line.index("^"), width)
    return "\n".join(_folded(line, width) for line in lines)


def _around(quoted: str, caret: int, width: int) -> tuple[str, str]:
    """Return a line of a recipe and the caret below it, cut where they do not fit."""
    text, at, room = quoted.removeprefix(QUOTED), caret - len(QUOTED), width - len(QUOTED)
    begin = 0
    if len(text) > room:
        room -= 2 * len(_CUT)
        begin = max(0, min(at - room // 2, len(text) - room))
        before, after = _CUT if begin else "", _CUT if begin + room < len(text) else ""
        text, at = f"{before}{text[begin : begin + room]}{after}", at - begin + len(before)
    return f"{QUOTED}{text}", f"{QUOTED}{'':{at}}^"


def _folded(line: str, width: int) -> str:
    if len(line) <= width or line.startswith(QUOTED):
        return line
    indent = line[: len(line) - len(line.lstrip())]
    return "\n".join(in_words(line, width, indent + _HANGING))


def in_words(text: str, width: int, hanging: str = "", first: str = "") -> list[str]:
    """Return the lines of a paragraph; a word that is longer than a line, a path for example, stays whole.

    Args:
        text: the paragraph.
        width: columns.
        hanging: before every line but the first.
        first: before the first.
    """
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=hanging,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )
