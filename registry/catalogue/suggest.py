"""Suggestions: what a mistyped word may have meant. Knows nothing of recipes or registries."""

from __future__ import annotations

from collections.abc import Iterable


def distance(left: str, right: str) -> int:
    """Count the insertions, deletions, substitutions and swaps of neighbours that turn `left` into `right`."""
    before: list[int] = []
    previous = list(range(len(right) + 1))
    for row, a in enumerate(left, 1):
        current = [row]
        for column, b in enumerate(right, 1):
            cost = min(previous[column] + 1, current[-1] + 1, previous[column - 1] + (a != b))
            if row > 1 and column > 1 and a == right[column - 2] and left[row - 2] == b:
                cost = min(cost, before[column - 2] + 1)
            current.append(cost)
        before, previous = previous, current
    return previous[-1]


def nearest(word: str, choices: Iterable[str], limit: int = 2) -> list[str]:
    """Return at most `limit` of `choices` that `word` may have been meant to be, the likeliest first.

    One slip is forgiven, two in words of seven letters and more, behind four right ones, and where only letters too
    many were typed; in words of up to four letters none that puts one letter in another's place, which makes a word of
    its own (test, best). Case, `-` and `_` count as no slip. A second suggestion is made only where it is as near as
    the first. Words of six letters or more are also found in what they start.
    """
    plain = _plain(word)
    ranked = []
    for choice in dict.fromkeys(choices):
        other = _plain(choice)
        long = min(len(plain), len(other)) >= 7
        allowed = 2 if long or plain[:4] == other[:4] or _has_letters_too_many(plain, other) else 1
        if abs(len(plain) - len(other)) <= allowed:
            slips = distance(plain, other)
            if slips <= allowed and slips < len(plain) and not _another_word(plain, other):
                ranked.append((slips, distance(word, choice), choice))
    if not ranked and len(plain) >= 6:
        begun = (choice for choice in choices if _plain(choice).startswith(plain) or plain.startswith(_plain(choice)))
        ranked = [(0, abs(len(choice) - len(word)), choice) for choice in begun if len(choice) >= 5]
    ranked.sort()
    return [choice for slips, _, choice in ranked if slips == ranked[0][0]][:limit]


def _another_word(plain: str, other: str) -> bool:
    """Say whether two short words of one length differ in a letter, not in the order of their letters."""
    return len(plain) == len(other) <= 4 and sorted(plain) != sorted(other)


def _has_letters_too_many(plain: str, other: str) -> bool:
    """Say whether a word becomes `other`, of four letters or more, by leaving letters behind the first one out."""
    left = iter(plain)
    return len(other) >= 4 and plain[:1] == other[:1] and all(letter in left for letter in other)


def _plain(word: str) -> str:
    return word.lower().replace("-", "").replace("_", "")
