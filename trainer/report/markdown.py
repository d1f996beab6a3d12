"""report.md: the sections as GitHub's Markdown, with pictures by their paths in the run folder.

Everything that comes from data, class names above all, is escaped: it can neither close a table cell nor open a tag.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote

from registry.contracts import Block, Code, Figure, Gallery, Paragraph, Section, Table
from trainer.report.answer import Answer, Tile
from trainer.report.inline import pieces

_SPECIAL = re.compile(r"([\\`*_\[\]|#~])")
_TONES = {"plain": "", "note": "> ", "warning": "> **Warning.** "}
_GALLERY_WIDTH = 128  # px


def markdown(title: str, answer: Answer, sections: Sequence[Section]) -> str:
    """Return the report as Markdown."""
    parts = [f"# {escaped(title)}"]
    if answer.banner:
        parts.append(f"> {_inline(answer.banner)}")
    if answer.description:
        parts.append(escaped(answer.description))
    parts.append(markdown_table(Table("", ("", ""), tuple((tile.label, _words(tile)) for tile in answer.tiles))))
    parts.append(_inline(answer.verdict))
    parts.extend(f"> **Warning.** {_inline(warning)}" for warning in answer.warnings)
    parts.extend(_block(block) for block in answer.blocks)
    parts.extend(_block(section) for section in sections)
    return "\n\n".join(parts) + "\n"


def _words(tile: Tile) -> str:
    return f"**{tile.value}** {tile.note}" + (f"; {tile.interval}" if tile.interval else "")


def escaped(text: str) -> str:
    """Return `text` so that Markdown and HTML take it literally, on one line."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _block(block: Block, level: int = 2) -> str:
    """Return a block; a section with those below it, one heading deeper."""
    if isinstance(block, Section):
        heading = f"{'#' * level} {escaped(block.title)}"
        return "\n\n".join([heading, *(_block(each, level + 1) for each in block.blocks)])
    if isinstance(block, Paragraph):
        return _TONES[block.tone] + _inline(block.text)
    if isinstance(block, Table):
        return markdown_table(block)
    if isinstance(block, Figure):
        return f"![{escaped(block.alt)}]({quote(block.path)})\n\n*{_inline(block.caption)}*"
    if isinstance(block, Gallery):
        return _gallery(block)
    return _code(block)


def _inline(text: str) -> str:
    """Render the two marks. Bold keeps its blanks outside, where Markdown wants them."""
    parts = []
    for kind, words in pieces(text):
        if kind == "code":
            parts.append(f"<code>{escaped(words)}</code>")
        elif kind == "bold":
            parts.append(f"**{escaped(words)}**")
        else:
            left, right = " " * words[:1].isspace(), " " * words[-1:].isspace()
            parts.append(left + escaped(words) + right if words.strip() else " ")
    return "".join(parts)


def markdown_table(table: Table) -> str:
    """Return a table, its cells' two marks rendered."""
    align = table.align or "l" * len(table.headers)
    rule = "|".join("---:" if side == "r" else "---" for side in align)
    lines = [f"**{escaped(table.caption)}**\n"] if table.caption else []
    lines.append("| " + " | ".join(escaped(header) or " " for header in table.headers) + " |")
    lines.append(f"|{rule}|")
    lines.extend("| " + " | ".join(_inline(cell) or " " for cell in row) + " |" for row in table.rows)
    return "\n".join(lines)


def _gallery(gallery: Gallery) -> str:
    """Return a table of pictures, each with its caption below it."""
    columns = max(1, min(gallery.columns, len(gallery.figures)))
    lines = [f"**{_inline(gallery.caption)}**\n", "|" + "   |" * columns, "|" + ":---:|" * columns]
    for start in range(0, len(gallery.figures), columns):
        row = gallery.figures[start : start + columns]
        cells = [
            f'<img src="{quote(f.path)}" alt="{escaped(f.alt).replace(chr(34), "&quot;")}" width="{_GALLERY_WIDTH}">'
            f"<br>{_inline(f.caption)}"
            for f in row
        ]
        lines.append("| " + " | ".join([*cells, *[" "] * (columns - len(row))]) + " |")
    return "\n".join(lines)


def _code(code: Code) -> str:
    longest = max((len(run) for run in re.findall(r"`+", code.text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{code.language}\n{code.text.rstrip()}\n{fence}"
