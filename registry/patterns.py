"""The one pattern grammar for dotted names: parameters to freeze or group, penalties' include and exclude, CAM layers.

`*` and `?` stop at a dot, `**` does not, `[abc]` and `[!abc]` match one character. Knows names only; kinds such as
`@norm` need the module and are resolved by whoever holds it. Imports no torch.
"""

from __future__ import annotations

import re
from functools import lru_cache

_WRAPPERS = ("module.", "_orig_mod.")  # DistributedDataParallel, torch.compile


def matches(pattern: str, name: str) -> bool:
    """Say whether the whole of `name` fits `pattern`; case counts.

    Args:
        pattern: "layer2.*.conv2", "layer4", "**.bias", "features.[0-3]".
        name: a dotted module or parameter name, as `named_modules` or `named_parameters` gives it; the prefixes that
            DistributedDataParallel and torch.compile add are ignored.

    Raises:
        ValueError: the pattern has a range that runs backwards, such as "[9-0]".
    """
    return _compiled(pattern).fullmatch(plain_name(name)) is not None


def plain_name(name: str) -> str:
    """Return `name` without the prefixes that DistributedDataParallel and torch.compile add."""
    for wrapper in _WRAPPERS:
        if name.startswith(wrapper):
            return plain_name(name.removeprefix(wrapper))
    return name


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts: list[str] = []
    position = 0
    while position < len(pattern):
        piece, position = _translate(pattern, position)
        parts.append(piece)
    try:
        return re.compile("".join(parts), re.DOTALL)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no pattern: {error.msg}") from error


def _translate(pattern: str, position: int) -> tuple[str, int]:
    """Return the regular expression for what stands at `position`, and where the next piece begins."""
    character = pattern[position]
    if character == "*":
        stars = 2 if pattern.startswith("**", position) else 1
        return (".*" if stars == 2 else "[^.]*"), position + stars
    if character == "?":
        return "[^.]", position + 1
    if character == "[":
        first = position + 2 if pattern.startswith("[!", position) else position + 1
        end = pattern.find("]", first + 1)  # a bracket right after the opening one is a member
        if end > 0:
            members = pattern[first:end].replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
            negated = first == position + 2
            body = members.replace("^", "\\^")
            return (f"[^.{body}]" if negated else f"[{body}]"), end + 1
    return re.escape(character), position + 1
