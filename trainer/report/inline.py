"""The two marks a report's text may carry, `**bold**` and code in backticks, read once for HTML and Markdown."""

from __future__ import annotations

import re
from typing import Literal

Piece = tuple[Literal["text", "bold", "code"], str]

_MARKS = re.compile(r"\*\*(?P<bold>.+?)\*\*|`(?P<code>[^`]+)`", re.DOTALL)


def pieces(text: str) -> list[Piece]:
    """Cut `text` into plain, bold and code pieces."""
    found: list[Piece] = []
    end = 0
    for match in _MARKS.finditer(text):
        found.append(("text", text[end : match.start()]))
        found.append(("bold", match["bold"]) if match["bold"] is not None else ("code", match["code"]))
        end = match.end()
    found.append(("text", text[end:]))
    return [piece for piece in found if piece[1]]
