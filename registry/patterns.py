"""The one pattern grammar for dotted names: parameters to freeze or group, penalties' include and exclude, CAM layers.

`*` and `?` stop at a dot, `**` does not, `[abc]` and `[!abc]` match one character. Knows names only; kinds such as
`@norm` need the module and are resolved by whoever holds it. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

MAX_LENGTH = 1_000  # characters of a pattern; matching takes time in proportion to them

_WRAPPERS = ("module.", "_orig_mod.")  # DistributedDataParallel, torch.compile


def matches(pattern: str, name: str) -> bool:
    """Say whether the whole of `name` fits `pattern`; case counts.

    All ways to divide the name among the pieces of the pattern are followed at once, so the time is at most the product
    of both lengths, whatever the pattern; a regular expression would try them one after another.

    Args:
        pattern: "layer2.*.conv2", "layer4", "**.bias", "features.[0-3]".
        name: a dotted module or parameter name, as `named_modules` or `named_parameters` gives it; the prefixes that
            DistributedDataParallel and torch.compile add are ignored, unless the pattern itself begins with one.

    Raises:
        ValueError: the pattern has a range that runs backwards, such as "[9-0]", or is longer than `MAX_LENGTH`.
    """
    pieces = _pieces(pattern)
    meant = any(pattern.startswith(wrapper.rstrip(".")) for wrapper in _WRAPPERS)  # a submodule that is called so
    return _fits(pieces, plain_name(name)) or (meant and _fits(pieces, name))


def _fits(pieces: tuple[_Piece, ...], name: str) -> bool:
    places = _reached((0,), pieces)
    for character in name:
        fitting = (place for place in places if place < len(pieces) and pieces[place].fits(character))
        places = _reached((place if pieces[place].repeats else place + 1 for place in fitting), pieces)
        if not places:
            return False
    return len(pieces) in places


def plain_name(name: str) -> str:
    """Return `name` without the prefixes that DistributedDataParallel and torch.compile add."""
    for wrapper in _WRAPPERS:
        if name.startswith(wrapper):
            return plain_name(name.removeprefix(wrapper))
    return name


@dataclass(frozen=True)
class _Piece:
    """One character of a name, or any number of them.

    Attributes:
        one: the characters, as a regular expression for one of them.
        repeats: whether none and many fit as well.
    """

    one: re.Pattern[str]
    repeats: bool = False

    def fits(self, character: str) -> bool:
        return self.one.fullmatch(character) is not None


def _reached(places: Iterable[int], pieces: tuple[_Piece, ...]) -> set[int]:
    """Return the places between pieces, with those behind pieces that need no character."""
    reached: set[int] = set()
    for place in places:
        while place not in reached:
            reached.add(place)
            if place < len(pieces) and pieces[place].repeats:
                place += 1
    return reached


@lru_cache(maxsize=1024)
def _pieces(pattern: str) -> tuple[_Piece, ...]:
    if len(pattern) > MAX_LENGTH:
        raise ValueError(f"{pattern[:20] + '...'!r} is no pattern: it has more than {MAX_LENGTH:,} characters")
    pieces: list[_Piece] = []
    position = 0
    while position < len(pattern):
        try:
            piece, position = _piece(pattern, position)
        except re.error as error:
            raise ValueError(f"{pattern!r} is no pattern: {error.msg}") from error
        if not (piece.repeats and pieces and pieces[-1] == piece):
            pieces.append(piece)
    return tuple(pieces)


def _piece(pattern: str, position: int) -> tuple[_Piece, int]:
    """Return the piece that stands at `position`, and where the next one begins."""
    character = pattern[position]
    if character == "*":
        stars = 2 if pattern.startswith("**", position) else 1
        return _Piece(_one("." if stars == 2 else "[^.]"), repeats=True), position + stars
    if character == "?":
        return _Piece(_one("[^.]")), position + 1
    if character == "[":
        first = position + 2 if pattern.startswith("[!", position) else position + 1
        end = pattern.find("]", first + 1)  # a bracket right after the opening one is a member
        if end > 0:
            members = pattern[first:end].replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
            negated = first == position + 2
            # What later versions of Python may take for operations on sets is a member here.
            body = re.sub(r"-{2,}", r"\\-", re.sub(r"([&~|^])", r"\\\1", members))
            return _Piece(_one(f"[^.{body}]" if negated else f"[{body}]")), end + 1
    return _Piece(_one(re.escape(character))), position + 1


@lru_cache(maxsize=1024)
def _one(expression: str) -> re.Pattern[str]:
    return re.compile(expression, re.DOTALL)
