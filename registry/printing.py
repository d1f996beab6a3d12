r"""How things are said: text that every stream and file can take, durations, metrics.

A name that is no UTF-8 (an old zip's, say) reaches Python with a stand-in for each byte it cannot read; a terminal may
know ASCII alone. Neither may stop a run or lose a line: such a byte is written `\xe9`, such a letter `\u00e9`.
Names stay as they are wherever they open files; they are made printable where they are shown. A name may also hold
what a terminal obeys (an escape sequence, a line break) or reorders: where a name is shown, `one_line` spells that too.
"""

from __future__ import annotations

import codecs
import math
import re
import unicodedata
from collections.abc import Sequence

ERRORS = "printable"  # the name of the way in which text is encoded, for `str.encode` and streams
_MARKS = re.compile(r"[*`]|\\(?=[\\*`]|\Z)")  # what a report's text may be marked with, and what takes the meaning away
_OBEYED = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")  # controls, breaks, directions
_SPELLED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}  # the others below 0xa0 by two digits, as a string literal has them
_WRITTEN = {"auroc": "AUROC", "f1": "F1", "auprc": "AUPRC", "mcc": "MCC", "tta": "TTA"}  # short for several words
SMALL = 0.001  # below, four digits behind the point say too little
_BYTE = 0xDC00  # Python's stand-in for byte b is this plus b


def printable(text: str) -> str:
    r"""Return `text` with escapes for what is no character: `caf\udce9` becomes `caf\xe9`."""
    return text if text.isascii() else text.encode("utf-8", ERRORS).decode("utf-8")


def one_line(text: str) -> str:
    r"""Return `text` printable and on one line: line breaks and what else a terminal obeys as `\n`, `\x1b`."""

    def spelled(found: re.Match[str]) -> str:
        letter = ord(found[0])
        return _SPELLED.get(found[0]) or (f"\\x{letter:02x}" if letter < 0xA0 else numbered(letter))

    return _OBEYED.sub(spelled, printable(text))


def harmless(text: str) -> str:
    """Return a text of several lines printable, without anything in them that a terminal obeys."""
    return "\n".join(map(one_line, text.split("\n")))


def as_seen(name: str) -> str:
    """Return what is to be seen of a name: one form for letters that Unicode composes in several, one space for many.

    What shows nothing, as a zero width space, is not in it.
    """
    shown = "".join(letter for letter in unicodedata.normalize("NFC", name) if unicodedata.category(letter) != "Cf")
    return " ".join(shown.split())


def alike(names: Sequence[str]) -> list[str]:
    """Say which of some names differ in their case alone, or in what cannot be seen; a clause each.

    Args:
        names: each once.
    """
    by_look: dict[str, list[str]] = {}
    for name in sorted(names):
        by_look.setdefault(as_seen(name).casefold(), []).append(name)
    said = []
    for twins in by_look.values():
        if len({name.casefold() for name in twins}) == 1 < len(twins):
            said.append(f"{' and '.join(map(repr, twins))} differ in their case alone")
        elif len(twins) > 1:
            written = " and ".join(map(ascii, twins))
            said.append(f"{written} look alike, but are composed of other Unicode characters")
    return said


def composed_otherwise(names: Sequence[str], known: Sequence[str]) -> str:
    """Say of which known name one that looks the same is another spelling; "" where there is none.

    Unicode writes a letter with an accent as one character or as two; systems differ in which their file names have.
    What is pasted brings characters that cannot be seen.
    """
    forms = {as_seen(name): name for name in known}
    for name in names:
        twin = forms.get(as_seen(name))
        if twin is not None and twin != name:
            written = " and ".join(ascii(each) for each in (twin, name))
            return f"{written} look the same, but are composed of other Unicode characters: give both the same name"
    return ""


def literal(text: str) -> str:
    """Return `text` so that a report shows it as it is: patterns such as `layer1.**` hold what elsewhere makes bold."""
    return _MARKS.sub(r"\\\g<0>", text)


def never_fails(stream: object) -> None:
    """Have a text stream write what it has no letter for as its number, where it can be told to."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors=ERRORS)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = (ord(letter) for letter in error.object[error.start : error.end])
    return "".join(numbered(letter) for letter in letters), error.end


def numbered(letter: int) -> str:
    r"""Return a letter as its number: `\xe9` for a byte that is none, else `\u65e5`."""
    if _BYTE + 0x80 <= letter <= _BYTE + 0xFF:
        return f"\\x{letter - _BYTE:02x}"
    return f"\\u{letter:04x}" if letter < 0x10000 else f"\\U{letter:08x}"


def duration(seconds: float) -> str:
    """Return a duration as people say it: 42 s, 7 min 20 s, 6 h 3 min."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def size_in_words(size: int) -> str:
    """Return bytes as people say them."""
    for power, unit in ((30, "GiB"), (20, "MiB")):
        if size >= 2**power / 10:
            return f"{size / 2**power:.1f} {unit}"
    return f"{size / 2**10:.1f} KiB"


def counted(count: int, noun: str) -> str:
    """Return a number of things that take an s where there are several: 1 epoch, 1,200 epochs."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def few(names: Sequence[str], most: int = 5) -> str:
    """Return the first names, and dots where there are more: a, b, c, d, e, ..."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def counted_few(names: Sequence[str], most: int = 3) -> str:
    """Return the first names, and how many more there are: a, b, c and 4 more."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def snake_case(name: str) -> str:
    """Return a type's name as a key is written: L2Norm -> l2_norm, TopKAccuracy -> top_k_accuracy."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def metric_words(key: str) -> str:
    """Return a metric's name as people write it, without its part: "balanced accuracy", "AUROC" of "val/auroc"."""
    words = key.rpartition("/")[2].split("_")
    return " ".join(_WRITTEN.get(word, word) for word in words)


def sentence_case(text: str) -> str:
    """Return `text` with its first letter great; the others stay, as in "AUROC"."""
    return text[:1].upper() + text[1:]


def metric_text(key: str, value: float) -> str:
    """Return a metric as people read it: accuracies in per cent, others with four digits behind the point.

    No accuracy reaches 100 % or 0 % by rounding.
    """
    if "accuracy" in key and math.isfinite(value):
        return share_text(value)
    return f"{value:.3g}" if 0 < abs(value) < SMALL else number_text(value)


def share_text(share: float) -> str:
    """Return a share as per cent with two digits behind the point, which reaches neither 0 nor 100 % by rounding."""
    percent = f"{100 * share:.2f} %"
    if percent == "100.00 %" and share < 1:
        return "> 99.99 %"
    return "< 0.01 %" if percent == "0.00 %" and share > 0 else percent


def number_text(value: float) -> str:
    """Return a metric with four digits behind the point; "undefined" where it is not a number."""
    return "undefined" if math.isnan(value) else f"{value:.4f}"


codecs.register_error(ERRORS, _escaped)
