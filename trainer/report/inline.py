"""The two marks a report's text may carry, `**bold**` and code in backticks, read once for HTML and Markdown.

A backslash takes the meaning from a mark or a backslash that follows it; `registry.printing.literal` writes them.
"""

from __future__ import annotations

import re
from typing import Literal

Piece = tuple[Literal["text", "bold", "code"], str]

_BOLD = r"\*\*(?P<bold>(?:\\[\\*`]|.)+?)\*\*"
_CODE = r"`(?P<code>(?:\\[\\*`]|[^`])+)`"
_MARKS = re.compile(rf"(?P<sign>\\[\\*`])|{_BOLD}|{_CODE}", re.DOTALL)
_SIGN = re.compile(r"\\([\\*`])")


def pieces(text: str) -> list[Piece]:
    """Cut `text` into plain, bold and code pieces."""
    found: list[Piece] = []
    plain, end = "", 0
    for match in _MARKS.finditer(text):
        plain += text[end : match.start()]
        end = match.end()
        if match["sign"] is not None:
            plain += match["sign"][1]
            continue
        found.append(("text", plain))
        kind: Literal["bold", "code"] = "bold" if match["bold"] is not None else "code"
        found.append((kind, _SIGN.sub(r"\1", match[kind])))
        plain = ""
    found.append(("text", plain + text[end:]))
    return [piece for piece in found if piece[1]]
