"""YAML scalars: what a plain one means, by the core schema of YAML 1.2, a little stricter.

`3e-6` and `1e3` are numbers; `no`, `yes`, `on`, dates, `010` and `1_000` are text. Knows nothing of files.
"""

from __future__ import annotations

import re

Plain = bool | int | float | str | None

_DIGITS = 400  # longest whole number that is read as one; beyond it Python refuses to convert
_WORDS: dict[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")


def resolve(text: str) -> Plain:
    """Return the value of an unquoted scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "0123456789+-.":
        return text
    if len(text) > _DIGITS:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    if _HEXADECIMAL.fullmatch(text):
        return int(text[2:], 16)
    if _INFINITY.fullmatch(text):
        return float(text.replace(".", ""))
    return float("nan") if _NAN.fullmatch(text) else text


# A file's name may hold bytes that are no UTF-8. Python hands each on as a letter that YAML does not know, so in YAML
# others, which nobody has a use for, stand for them: "caf\U000f00e9".
STAND_INS = {0xDC00 + byte: 0xF0000 + byte for byte in range(0x80, 0x100)}
BYTES = {stand_in: letter for letter, stand_in in STAND_INS.items()}
HOLDS_BYTES = re.compile("[\U000f0080-\U000f00ff]|\\\\U000[fF]00[89a-fA-F]")


def spelling(value: Plain) -> str:
    """Return the YAML text that reads as `value` again; text is quoted only where it must be."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return _number(value)
    return value if _is_plain(value) else quoted(value)


def _number(value: int | float) -> str:
    """Return the shortest spelling of a number that reads as the same number and type."""
    text = repr(value)
    if text in ("inf", "-inf", "nan"):
        return text.replace("inf", ".inf").replace("nan", ".nan")
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else text


_SAFE = re.compile(r"[A-Za-z0-9_./$]([A-Za-z0-9_./@$<>=~^%+\-* ()]|:(?=[A-Za-z0-9_]))*")


def _is_plain(text: str) -> bool:
    """Say whether text may stand unquoted, in flow style too."""
    return bool(_SAFE.fullmatch(text)) and not text.endswith(" ") and isinstance(resolve(text), str) and text != "..."


def quoted(text: str) -> str:
    """Return text in double quotes, with everything escaped that YAML would not keep."""
    pieces = []
    for character in text:
        if character in '"\\':
            pieces.append("\\" + character)
        elif character == "\n":
            pieces.append("\\n")
        elif character == "\t":
            pieces.append("\\t")
        elif character.isprintable() and character not in "\x85\u2028\u2029\ufeff":
            pieces.append(character)
        else:
            code = STAND_INS.get(ord(character), ord(character))
            pieces.append(f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}")
    return '"' + "".join(pieces) + '"'
