"""report.html: one file with everything inside, from templates that escape whatever they are given."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from registry.contracts import Block, Figure, Section, Table
from trainer.report.answer import Answer
from trainer.report.embed import data_uri
from trainer.report.inline import pieces

_TEMPLATES = Path(__file__).with_name("templates")
_LONG_TABLE = 40  # rows; a longer table scrolls in itself
_TWO_COLUMNS = 12  # rows or lines; more than these stand in two columns on paper
_PAPER_COLUMNS = 9  # pictures in a row of a gallery, at least
_PAPER_WIDTH = 9  # columns of a table that a printed page has room for
_LONG_WORD = 24  # letters; a longer word in a cell may be broken anywhere
_OPEN_FIGURES = 6  # of a long row of pictures; the others fold away on the screen, and are left out on paper


def html(
    title: str,
    answer: Answer,
    sections: Sequence[Section],
    folder: Path,
    *,
    dated: str = "",
    kind: str = "Training report",
) -> str:
    """Return the page.

    Args:
        title: of the page.
        answer: what it opens with.
        sections: in order; those among a section's blocks stand below its heading.
        folder: where figures' paths begin.
        dated: the day that the foot of a printed page names; "" for none.
        kind: what it is, said above the title.
    """
    page = _templates().get_template("page.html")
    return page.render(
        title=title,
        kind=kind,
        dated=dated,
        answer=answer,
        sections=sections,
        picture=lambda figure: _picture(figure, folder),
        style=Markup(_asset("page.css") + _foot(title, dated)),
        script=Markup(_asset("page.js")),
    )


@functools.cache  # a sweep writes many pages; a template is compiled once
def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["inline"] = inline
    templates.filters["plain"] = lambda text: "".join(words for _, words in pieces(text))
    templates.filters["breaking"] = _breaking
    templates.globals["printed"] = _printed
    templates.globals["breaks"] = lambda cell: " breaks" if max(map(len, cell.split()), default=0) > _LONG_WORD else ""
    templates.globals["side"] = lambda table, column: "right" if table.align[column : column + 1] == "r" else "left"
    templates.globals["sketch"] = lambda table, row: Markup(table.sketches[row])
    templates.globals["sorted_by"] = _sorted_by
    templates.globals["grouped"] = _grouped
    templates.globals.update(
        open_figures=_OPEN_FIGURES, long_table=_LONG_TABLE, two_columns=_TWO_COLUMNS, paper_columns=_PAPER_COLUMNS
    )
    return templates


def style() -> str:
    """Return the style sheet of all pages, for one that is not made of sections."""
    return _asset("page.css")


def inline(text: str) -> Markup:
    """Return `text` escaped, with its bold and code marks as elements."""
    tags = {"text": "{}", "bold": "<strong>{}</strong>", "code": "<code>{}</code>"}
    return Markup("").join(Markup(tags[kind]).format(escape(_unbroken(words))) for kind, words in pieces(text))


def _unbroken(words: str) -> str:
    """Return words in which a number stays on one line with its per cent sign, and with what says it is beyond."""
    return re.sub(r" (?=%)|(?<=[<>]) (?=\d)", "\u00a0", words)


def _breaking(header: str) -> Markup:
    """Return a column's name with the places where it may go on below: behind a stroke, before an underscore."""
    return Markup("<wbr>").join(re.split(r"(?<=/)|(?=_)", header))


def _printed(table: Table) -> list[Table]:
    """Return a table of more columns than paper is wide as several, each with its first column; else nothing."""
    columns = range(1, len(table.headers))
    if len(columns) < _PAPER_WIDTH or table.sortable or table.sketches:
        return []
    count = -(-len(columns) // (_PAPER_WIDTH - 1))
    wide = -(-len(columns) // count)
    kept = [(0, *columns[start : start + wide]) for start in range(0, len(columns), wide)]
    return [_columns_of(table, own, f"{table.caption}: {n} of {count}") for n, own in enumerate(kept, start=1)]


def _columns_of(table: Table, columns: Sequence[int], caption: str) -> Table:
    rows = tuple(tuple(row[i] for i in columns) for row in table.rows)
    headers = tuple(table.headers[i] for i in columns)
    align = "".join(table.align[i : i + 1] or "l" for i in columns)
    return replace(table, caption=caption, headers=headers, rows=rows, align=align, order=())


def _sorted_by(table: Table, row: int, column: int) -> Markup:
    """Return the attribute that the page's script sorts a cell by; none where the table keeps its order."""
    if not table.order:
        return Markup("")
    value = table.order[row][column]
    return Markup(' data-order="{}"').format("" if value is None else value)


def _foot(title: str, dated: str) -> str:
    """Return the style sheet's rule for the foot of a printed page: name, date and page number."""
    words = " · ".join(each for each in (title, dated) if each)
    # Every sign as its number: no name can end the text, or the style sheet.
    spelled = "".join(f"\\{ord(letter):06x}" for letter in words)
    return f'@page {{ @bottom-left {{ content: "{spelled}"; }} }}\n'


def _asset(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _picture(figure: Figure, folder: Path) -> Markup:
    """Return the element that shows `figure`: its SVG where it has one, else the file's content."""
    if figure.svg is not None:
        return Markup(figure.svg)
    uri, width, height = data_uri(folder / figure.path)
    tag = '<img src="{}" alt="{}" width="{}" height="{}">'
    return Markup(tag).format(Markup(uri), figure.alt, width, height)


def _grouped(blocks: Sequence[Block]) -> list[tuple[str, list[Block]]]:
    """Return blocks by kind: neighbouring charts and neighbouring pictures together, a chart beside its tables."""
    groups: list[tuple[str, list[Block]]] = []
    for block in blocks:
        kind = type(block).__name__.lower()
        if isinstance(block, Figure):
            kind = "charts" if block.svg is not None else "figures"
        last = groups[-1] if groups else ("", [])
        if last[0] == kind and isinstance(block, Figure):
            last[1].append(block)
        elif isinstance(block, Table) and last[0] == "charts" and len(last[1]) == 1:
            groups[-1] = ("beside", [*last[1], block])
        elif isinstance(block, Table) and last[0] == "beside":
            last[1].append(block)
        else:
            groups.append((kind, [block]))
    return groups
