"""Tables for spreadsheets: text that none of them takes for a formula, and what was written before it was made so."""

from __future__ import annotations

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would compute a text that begins so


def no_formula(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula; numbers in words stay what they are."""
    if len(cell) < 2 or not cell.startswith((*_FORMULA, "'")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def as_meant(cell: str) -> str:
    """Return the text that `no_formula` has made a cell of."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith((*_FORMULA, "'")) else cell
