"""Reading docstrings: the first sentence, and one text per argument, in the Google style that torch and we write.

Text in, text out; knows nothing of components.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_SECTIONS = ("args", "arguments", "attributes", "parameters", "keyword args", "keyword arguments")
_ENTRY = re.compile(r"^(\*{0,2}[A-Za-z_]\w*)\s*(\([^\n]*?\))?\s*:\s*(.*)$")
_ROLE = re.compile(r":[a-z:]+:`~?([^`<]+?)(?:\s*<[^`>]*>)?`")
_LINK = re.compile(r"`([^`<]+?)\s*<([^`>]+)>`_{1,2}")
_DEFAULT = re.compile(
    r"\s*(?:\((?:optional, )?default\s*[:=][^()]*(?:\([^()]*\)[^()]*)*\)"
    r"|Defaults?(?:\s+is|\s*:|\s+to)\s[^:]{1,60})\.?$",
    re.I,
)


def first_sentence(text: str) -> str:
    """Return the first sentence of a docstring as one plain line; "" where there is none."""
    lines: list[str] = []
    for line in text.strip().splitlines():
        if lines and (not line.strip() or line.strip().lower().rstrip(":") in _SECTIONS):
            break
        if line.strip() and not line.strip().startswith((".. ", "__ ")):
            lines.append(line.strip())
    whole = plain_text(" ".join(lines))
    match = re.match(r"(.+?[.!?])(?:\s+[A-Z`(]|$)", whole)
    return match.group(1) if match else whole


def documented(text: str) -> dict[str, str]:
    """Return what a docstring says about each argument: name -> text on one line."""
    found: dict[str, str] = {}
    for name, said in _entries(text):
        found.setdefault(name.lstrip("*"), said)
    return found


def plain_text(text: str) -> str:
    """Take the reStructuredText marks out of a line."""
    text = _LINK.sub(r"\1 (\2)", _ROLE.sub(lambda match: match.group(1).strip(), text))
    text = re.sub(r"\*\*([^*]+)\*\*", r"\1", text).replace("``", "`")
    return re.sub(r"\s+", " ", text.replace("\\", "")).strip()


def without_default(text: str) -> str:
    """Take away what a text ends with about the default, which the signature says better."""
    return _DEFAULT.sub("", text).rstrip(" ;,")


def _entries(text: str) -> Iterator[tuple[str, str]]:
    """Walk the sections of arguments: an entry begins at the section's own depth, deeper lines belong to it."""
    inside, depth = False, -1
    name, said = "", [""]
    for line in [*text.expandtabs(4).splitlines(), "end"]:
        bare = line.strip()
        indent = len(line) - len(line.lstrip())
        if inside and bare and (indent < depth or (depth < 0 and indent == 0)):
            inside = False
            if name:
                yield name, plain_text(" ".join(said))
            name = ""
        if not inside:
            inside, depth = bare.lower().rstrip(":") in _SECTIONS and bare.endswith(":"), -1
            continue
        if bare and depth < 0:
            depth = indent
        match = _ENTRY.match(bare) if indent == depth else None
        if match:
            if name:
                yield name, plain_text(" ".join(said))
            name, said = match.group(1), [match.group(3)]
        elif bare and not bare.startswith(".. "):
            said.append(bare)
