"""Names of tensors: which tensor of another program's state dict is which of a network's own.

Wrappers put words before the names (`module.` of data parallelism, `_orig_mod.` of torch.compile, `model.` of a trainer
that keeps the network in itself); they are told by what is left without them. Knows names only, no numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

_WRAPPERS = {"module", "_orig_mod"}  # may stand within a name, too: a part may be compiled on its own
_COUNTER = "num_batches_tracked"  # of a norm layer; files of older programs lack it, and only `momentum: null` reads it


@dataclass(frozen=True)
class Names:
    """How the names of a file belong to those of a network.

    Attributes:
        found: of the network -> of the file.
        before: what most names of the file have before the network's; "" for nothing.
        missing: of the network, that the file lacks; counters apart.
        counters: those that count batches, which the file lacks.
        unknown: of the file, in parts that the network has too.
        elsewhere: of the file, in parts that the network does not have at all.
    """

    found: Mapping[str, str]
    before: str
    missing: Sequence[str]
    counters: Sequence[str]
    unknown: Sequence[str]
    elsewhere: Sequence[str]


def named_as(own: Collection[str], theirs: Collection[str]) -> Names:
    """Match the names of a file with a network's own, by the words before them under which most are the same.

    Args:
        own: names in the network's state dict.
        theirs: names in the file.
    """
    ways = [{name: name for name in theirs}, {_unwrapped(name): name for name in theirs}]
    readings = [(way, _before(own, way)) for way in ways if len(way) == len(theirs)]
    known, before = max(readings, key=lambda each: sum(f"{each[1]}{name}" in each[0] for name in own))
    found = {name: known[f"{before}{name}"] for name in own if f"{before}{name}" in known}
    lacking = sorted(set(own) - found.keys())
    rest = {name: written for name, written in known.items() if written not in set(found.values())}
    parts = {name.partition(".")[0] for name in own}
    unknown = [written for name, written in rest.items() if _is_inside(name, before, parts)]
    leading = Counter(written.removesuffix(name) for name, written in found.items() if written.endswith(name))
    return Names(
        found=found,
        before=max(leading, key=leading.__getitem__, default=""),
        missing=[name for name in lacking if not name.endswith(_COUNTER)],
        counters=[name for name in lacking if name.endswith(_COUNTER)],
        unknown=sorted(unknown),
        elsewhere=sorted(set(rest.values()) - set(unknown)),
    )


def _is_inside(name: str, before: str, parts: Collection[str]) -> bool:
    """Whether a tensor belongs to a part that the network has, or to a further one in a row of numbered parts."""
    part = name.removeprefix(before).partition(".")[0]
    return name.startswith(before) and (part in parts or part.isdigit())


def _unwrapped(name: str) -> str:
    return ".".join(word for word in name.split(".") if word not in _WRAPPERS)


def _before(own: Collection[str], theirs: Collection[str]) -> str:
    """Return the words that stand before the network's names in most of a file's."""
    counts: Counter[str] = Counter()
    for name in theirs:
        words = name.split(".")
        for number in range(len(words)):
            if ".".join(words[number:]) in own:
                counts["".join(f"{word}." for word in words[:number])] += 1
    return max(counts, key=lambda before: (counts[before], -len(before)), default="")
