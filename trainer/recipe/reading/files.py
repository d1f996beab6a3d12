"""Reading recipe files: what can be wrong with one before it is YAML.

Owns the size limit and the encoding. Knows nothing of what the text means.
"""

from __future__ import annotations

import re
from pathlib import Path

from registry.catalogue.suggest import nearest
from registry.files import opened
from trainer.recipe.problems import Collector
from trainer.recipe.reading.nodes import MapNode, Node
from trainer.recipe.reading.text import compose
from trainer.recipe.recipe import Origin

MAX_BYTES = 1 << 20

# What YAML forbids in a text, and what breaks lines in one of its versions and not in another.
_CONTROL = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def read_file(path: Path, shown_as: str, problems: Collector, blame: Origin | None = None) -> Node | None:
    """Read a recipe file; report what is wrong with it and return None where nothing can be made of it.

    Args:
        path: the file.
        shown_as: its name in positions.
        problems: takes what is wrong.
        blame: where the file was named (an `extends`); a file that cannot be opened is reported there.
    """
    place = blame or Origin(shown_as, 1, 1)
    data = _bytes(path, shown_as, place, problems)
    if data is None:
        return None
    text = _decode(data, shown_as, problems)
    return None if text is None else compose(text, shown_as, problems)


def _bytes(path: Path, shown_as: str, place: Origin, problems: Collector) -> bytes | None:
    try:
        if path.is_dir():
            problems.report("R001", place, f"'{shown_as}' is a folder, not a recipe", hint="name the .yaml file in it")
            return None
        with opened(path) as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        near = _neighbours(path)
        hint = f"did you mean '{near}'?" if near else ""
        problems.report("R001", place, f"there is no file '{shown_as}'", hint=hint)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        problems.report("R001", place, f"'{shown_as}' cannot be read: {reason}")
    else:
        if len(data) <= MAX_BYTES:
            return data
        problems.report("R002", Origin(shown_as, 1, 1), "a recipe may have 1 MiB at most, this file has more")
    return None


def _neighbours(path: Path) -> str:
    """Return the name of the YAML file that was probably meant; "" where none is near."""
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix in (".yaml", ".yml")]
    except OSError:
        return ""
    near = nearest(path.name, names, limit=1) or nearest(path.name + ".yaml", names, limit=1)
    return near[0] if near else ""


def _decode(data: bytes, file: str, problems: Collector) -> str | None:
    """Return the text of a file in UTF-8, without its byte order mark."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        problems.report("R003", Origin(file, 1, 1), "this file is UTF-16", hint="save it as UTF-8")
        return None
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        byte = f"byte 0x{data[error.start]:02x}"
        problems.report("R003", Origin(file, line, column), f"this file is not UTF-8 ({byte})", hint="save it as UTF-8")
        return None
    control = _CONTROL.search(text)
    if control:
        bad = control.start()
        line, column = text.count("\n", 0, bad) + 1, bad - text.rfind("\n", 0, bad)
        code = f"U+{ord(text[bad]):04X}"
        problems.sources.add(file, text)
        problems.report("R003", Origin(file, line, column), f"this is no text file: control character {code}")
        return None
    return text


def names_key(path: str | Path, key: str) -> bool:
    """Whether a file is a mapping with this key at its top; one that cannot be read is none."""
    root = read_file(Path(path), str(path), Collector())
    return isinstance(root, MapNode) and key in root.entries
