"""The audit: what pictures serve for what, what they are like, which of them are alike and should not be.

    looks -> exact duplicates (by digest) -> near duplicates (likeness.py) -> leaks, duplicates, contradictions
          -> sizes, modes, broken, tiny and blank pictures; groups on both sides

Pictures of all parts stand in one row, training first, then validation, then test: of two that are alike the later one
is the one that is measured. Owns what counts as a finding. Shows nothing (trainer/report) and trains nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from registry.audited import MEASURED, Alike, Audit, Odd, PartFacts, Picture, Shared
from registry.errors import DataError
from registry.printing import duration, one_line
from trainer.audit.likeness import FLAT, LOWEST, Pairs, candidates_among, compared, descriptors_of, flat, needed
from trainer.audit.looks import MODES, SAY_EVERY, SIDE, Looks, Thumbnails, looks_of
from trainer.data.content import UNREADABLE
from trainer.data.reading import read
from trainer.data.splits import LoadedData, Part
from trainer.data.store import AnyStore

CHUNK = 8192  # thumbnails that are worked on at a time
NAMED_SIZES = 5  # of each part
TINY = 4  # a picture is tiny with a shorter side below this part (a quarter) of what is usual
EXPLAINED = 200  # broken pictures that are read again, to say what is wrong with them
SAY_FROM = 20_000  # pictures from which the search says beforehand that it takes its time

FileOf = Callable[[AnyStore, int], str]
GroupOf = Callable[[AnyStore, int], str]
Log = Callable[[str], None]


def audited(
    data: LoadedData,
    *,
    file_of: FileOf,
    group_of: GroupOf | None = None,
    why_not_near: str = "",
    log: Log,
) -> Audit:
    """Audit the pictures of a run.

    Args:
        data: as the run divides them.
        file_of: returns a picture's path as people are shown it; "" where it is no file of its own.
        group_of: returns the group that a picture belongs to, "" for none; None where the data tell no groups.
        why_not_near: why near duplicates are not looked for; "" where they are.
        log: takes a line.
    """
    started = time.monotonic()
    row = _Row(data, file_of, log)
    links = row.exact()
    if not why_not_near:
        links = links.joined(row.near())
    findings = _Findings(row, links)
    seconds = time.monotonic() - started
    log(f"audit: {len(row):,} images compared in {duration(seconds)}")
    return Audit(
        class_names=tuple(map(one_line, data.class_names)),
        parts=tuple(row.facts()),
        leaks=findings.leaks(),
        duplicates=findings.duplicates(),
        contradictions=findings.contradictions(),
        odd=tuple(row.odd()),
        shared=() if group_of is None else tuple(row.shared(group_of)),
        grouped=group_of is not None,
        near=not why_not_near,
        why_not_near=why_not_near,
        seconds=seconds,
        pixels=row.pixels,
    )


@dataclass(frozen=True)
class _Links:
    """Pairs of pictures that are alike, by their places in the row.

    Attributes:
        pairs: of which the second is the later one.
        exact: whether all pixels are the same, bool (n,).
    """

    pairs: Pairs
    exact: NDArray[np.bool_]

    def joined(self, other: _Links) -> _Links:
        """Return both."""
        mine, others = self.pairs, other.pairs
        pairs = Pairs(
            np.concatenate((mine.first, others.first)),
            np.concatenate((mine.second, others.second)),
            np.concatenate((mine.mirrored, others.mirrored)),
            np.concatenate((mine.likeness, others.likeness)),
        )
        return _Links(pairs, np.concatenate((self.exact, other.exact)))


class _Row:
    """The pictures of all parts, training first, validation next, test last; arguments as of `audited`."""

    def __init__(self, data: LoadedData, file_of: FileOf, log: Log) -> None:
        self._file_of, self._log = file_of, log
        self.parts: list[Part] = [part for part in (data.train, data.val, data.test) if part is not None]
        stores = {id(part.store): part.store for part in self.parts}
        self._looks: dict[int, Looks] = {key: looks_of(store, log=log) for key, store in stores.items()}
        self._splits = {id(part.store): part.dataset_split for part in self.parts}
        self._stores = stores
        self._classes = data.num_classes
        self.owners = np.concatenate([np.full(len(part), place, np.int8) for place, part in enumerate(self.parts)])
        self.places = np.concatenate([part.indices.numpy() for part in self.parts])
        self.labels = np.concatenate([part.targets.numpy() for part in self.parts])
        self.digests = self._gathered(lambda looks: looks.digests)

    def __len__(self) -> int:
        return len(self.places)

    def _gathered(self, column: Callable[[Looks], NDArray]) -> NDArray:  # type: ignore[type-arg]
        """Return a column of the looks, in the order of the row."""
        return np.concatenate([column(self._looks_of(part))[part.indices.numpy()] for part in self.parts])

    def _looks_of(self, part: Part) -> Looks:
        return self._looks[id(part.store)]

    def thumbnail(self, at: int) -> Thumbnails:
        """Return the thumbnail of a picture of the row, uint8 (32, 32)."""
        kept: Thumbnails = self._looks_of(self.parts[self.owners[at]]).thumbnails[self.places[at]]
        return kept

    def _thumbnails(self) -> Iterator[Thumbnails]:
        """Yield the thumbnails of the row, some thousands at a time."""
        for part in self.parts:
            kept, places = self._looks_of(part).thumbnails, part.indices.numpy()
            for start in range(0, len(places), CHUNK):
                yield kept[places[start : start + CHUNK]]

    def picture(self, at: int) -> Picture:
        """Return a picture of the row."""
        part, place = self.parts[self.owners[at]], int(self.places[at])
        return Picture(part.name, part.dataset_split, place, int(self.labels[at]), self._file_of(part.store, place))

    def pixels(self, picture: Picture) -> NDArray[np.uint8]:
        """Return a picture as it is stored, uint8 (H, W, C)."""
        store = next(self._stores[key] for key, split in self._splits.items() if split == picture.split)
        return np.asarray(store.gather(_one(picture.index))[0])

    def _is_plain(self, at: int) -> bool:
        """Whether a picture whose thumbnail is one grey is one colour, too: red and green may be equally bright."""
        small = cv2.resize(self.pixels(self.picture(at)), (SIDE, SIDE), interpolation=cv2.INTER_AREA)  # without grain
        return bool((small.reshape(SIDE * SIDE, -1).std(axis=0, dtype=np.float32) < FLAT).all())

    # ------------------------------------------------------------------------------------------------------------ alike
    def exact(self) -> _Links:
        """Return pictures of the same pixels: each with the first of every part, and of another label, before it."""
        order = np.argsort(self.digests, kind="stable")
        digests = self.digests[order]
        ends = np.flatnonzero(np.append(digests[1:] != digests[:-1], True)) + 1
        found: list[tuple[int, int]] = []
        start = 0
        for end in ends.tolist():
            if end - start > 1 and digests[start] != UNREADABLE:
                found += self._linked(order[start:end].tolist())
            start = end
        first, second = (np.array([pair[side] for pair in found], np.int64) for side in (0, 1))
        count = len(found)
        pairs = Pairs(first, second, np.zeros(count, np.bool_), np.ones(count, np.float32))
        return _Links(pairs, np.ones(count, np.bool_))

    def _linked(self, members: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Yield (earlier, later) of pictures that are the same: few for each, however many they are."""
        firsts: dict[tuple[str, int], int] = {}
        for member in members:
            keys = (("part", int(self.owners[member])), ("label", int(self.labels[member])))
            for earlier in sorted(set(firsts.values())):
                yield earlier, member
            for key in keys:
                firsts.setdefault(key, member)

    def near(self) -> _Links:
        """Return the near duplicates: pictures that show the same in other pixels."""
        shown, copies = self._without_copies()
        if len(shown) > SAY_FROM:
            self._log(f"audit: comparing {len(shown):,} images with one another ...")
        both = [descriptors_of(some) for some in self._thumbnails()]
        even, odd = (np.concatenate([each[side] for each in both])[shown] for side in (0, 1))
        pairs = candidates_among(even, odd, self.owners[shown], progress=self._now_and_then())
        digests = self.digests[shown]
        pairs = pairs.taken(digests[pairs.first] != digests[pairs.second])

        def thumbnail(at: int) -> Thumbnails:
            return self.thumbnail(shown[at])

        pairs = compared(thumbnail, pairs)
        pairs = pairs.taken(pairs.likeness >= LOWEST)
        pairs = pairs.taken(pairs.likeness >= needed(even, odd, self.labels[shown], thumbnail, pairs))
        pairs = replace(pairs, first=shown[pairs.first], second=shown[pairs.second])
        pairs = self._with_copies(pairs, copies)
        return _Links(pairs, np.zeros(len(pairs), np.bool_))

    def _now_and_then(self) -> Callable[[float], None]:
        """Return what says from time to time which share of the search is done."""
        said = time.monotonic()

        def tell(share: float) -> None:
            nonlocal said
            if time.monotonic() - said >= SAY_EVERY and share < 1:
                said = time.monotonic()
                self._log(f"audit: {100 * share:.0f} % of all pairs compared")

        return tell

    def _without_copies(self) -> tuple[NDArray[np.int64], dict[int, list[int]]]:
        """Return the pictures without exact copies in their part, int64 (n,), and the copies of those that have any."""
        key = np.stack((self.digests, self.owners.astype(np.int64)), axis=1)
        _, firsts, which = np.unique(key, axis=0, return_index=True, return_inverse=True)
        first_of = firsts[which.reshape(-1)]
        copies: dict[int, list[int]] = {}
        for at in np.flatnonzero(first_of != np.arange(len(self))).tolist():
            copies.setdefault(int(first_of[at]), []).append(at)
        return np.sort(firsts), copies

    def _with_copies(self, pairs: Pairs, copies: dict[int, list[int]]) -> Pairs:
        """Add what is true of a picture for its copies in the same part: of those that are measured each one counts."""
        more = [
            (number, copy)
            for number, later in enumerate(pairs.second.tolist())
            if later in copies and self.owners[pairs.first[number]] != self.owners[later]
            for copy in copies[later]
        ]
        if not more:
            return pairs
        numbers = np.array([number for number, _ in more])
        added = replace(pairs.taken(numbers), second=np.array([copy for _, copy in more], np.int64))
        return _Links(pairs, pairs.mirrored).joined(_Links(added, added.mirrored)).pairs

    # --------------------------------------------------------------------------------------------------------- pictures
    def facts(self) -> Iterator[PartFacts]:
        """Yield what the pictures of each part are like."""
        for part in self.parts:
            looks, places = self._looks_of(part), part.indices.numpy()
            heights, widths = looks.heights[places].astype(np.int64), looks.widths[places].astype(np.int64)
            sizes = Counter(zip(widths.tolist(), heights.tolist(), strict=True))
            by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
            modes = Counter(MODES[mode] for mode in looks.modes[places].tolist())
            yield PartFacts(
                name=part.name,
                counts=tuple(np.bincount(part.targets.numpy(), minlength=self._classes).tolist()),
                sizes=tuple((*size, count) for size, count in sizes.most_common(NAMED_SIZES)),
                distinct_sizes=len(sizes),
                smallest=by_area[0] if by_area else (0, 0),
                largest=by_area[-1] if by_area else (0, 0),
                shapes=(int((widths > heights).sum()), int((widths < heights).sum()), int((widths == heights).sum())),
                modes=tuple(modes.most_common()),
                turned=int(looks.turned[places].sum()),
            )

    def odd(self) -> Iterator[Odd]:
        """Yield the pictures that are broken, tiny or blank."""
        yield from self._broken()
        sides = self._gathered(lambda looks: np.minimum(looks.heights, looks.widths)).astype(np.int64)
        widths, heights = self._gathered(lambda looks: looks.widths), self._gathered(lambda looks: looks.heights)
        readable = self.digests != UNREADABLE
        usual = int(np.median(sides[readable])) if readable.any() else 0
        for at in np.flatnonzero(readable & (sides * TINY < usual)).tolist():
            words = f"{widths[at]} x {heights[at]} px, where a shorter side of {usual} px is usual"
            yield Odd(self.picture(at), "tiny", words)
        blank = np.concatenate([flat(some) for some in self._thumbnails()])
        for at in np.flatnonzero(readable & blank).tolist():
            if self._is_plain(at):
                yield Odd(self.picture(at), "blank", "nearly one colour: it shows nothing")

    def _broken(self) -> Iterator[Odd]:
        explained = 0
        for key, store in self._stores.items():
            unreadable = np.flatnonzero(self._looks[key].digests == UNREADABLE).tolist()
            for place in unreadable:
                label = int(store.targets[place])
                picture = Picture("", self._splits[key], place, label, self._file_of(store, place))
                explained += 1
                yield Odd(picture, "broken", _why_broken(store, place) if explained <= EXPLAINED else "cannot be read")

    def shared(self, group_of: GroupOf) -> Iterator[Shared]:
        """Yield the groups that have pictures in more than one part, the greatest first."""
        members: dict[str, list[int]] = {}
        for at in range(len(self)):
            group = group_of(self.parts[self.owners[at]].store, int(self.places[at]))
            if group:
                members.setdefault(group, []).append(at)
        for group, places in sorted(members.items(), key=lambda item: (-len(item[1]), item[0])):
            counts = Counter(self.parts[self.owners[at]].name for at in places)
            if len(counts) > 1:
                example = next(self.picture(at) for at in reversed(places))
                yield Shared(one_line(group), tuple(counts.items()), example)


class _Findings:
    """What pairs of pictures that are alike mean.

    Args:
        row: of the pictures.
        links: between them.
    """

    def __init__(self, row: _Row, links: _Links) -> None:
        self._row = row
        # The best come first: where one per picture is wanted, it is the first.
        order = np.lexsort((links.pairs.first, -links.pairs.likeness, ~links.exact))
        self._pairs, self._exact = links.pairs.taken(order), links.exact[order]
        self._owners = row.owners[self._pairs.first], row.owners[self._pairs.second]
        self._groups = self._group_numbers()

    def _group_numbers(self) -> NDArray[np.int64]:
        """Return for each pair the number of the pictures that hang together with it, int64 (n,), from 1."""
        first, second = self._pairs.first, self._pairs.second
        if not len(first):
            return np.zeros(0, np.int64)
        ones, count = np.ones(len(first), np.int8), len(self._row)
        _, labels = connected_components(coo_array((ones, (first, second)), shape=(count, count)), directed=False)
        numbers: dict[int, int] = {}
        return np.array([numbers.setdefault(label, len(numbers) + 1) for label in labels[first].tolist()], np.int64)

    def leaks(self) -> tuple[Alike, ...]:
        """Return the measured pictures that are like one of another part, the gravest parts first."""
        across = np.flatnonzero(self._owners[0] != self._owners[1])
        keys = [(int(self._pairs.second[at]), int(self._owners[0][at])) for at in across.tolist()]
        found = self._alike(_firsts(across, keys))
        order = {(measured, other): place for place, (measured, other) in enumerate(_GRAVITY)}
        return tuple(sorted(found, key=lambda each: order[each.first.part, each.second.part]))

    def duplicates(self) -> tuple[Alike, ...]:
        """Return the pictures that are like an earlier one of their own part."""
        within = np.flatnonzero(self._owners[0] == self._owners[1])
        return tuple(self._alike(_firsts(within, self._pairs.second[within].tolist())))

    def contradictions(self) -> tuple[Alike, ...]:
        """Return the pictures that are like one of another class."""
        labels = self._row.labels
        apart = np.flatnonzero(labels[self._pairs.first] != labels[self._pairs.second])
        return tuple(self._alike(_firsts(apart, self._pairs.second[apart].tolist())))

    def _alike(self, places: Sequence[int]) -> list[Alike]:
        """Return pairs in words, in the order of their likeness."""
        pairs, row = self._pairs, self._row
        return [
            Alike(
                row.picture(int(pairs.second[at])),
                row.picture(int(pairs.first[at])),
                float(pairs.likeness[at]),
                bool(self._exact[at]),
                bool(pairs.mirrored[at]),
                int(self._groups[at]),
            )
            for at in places
        ]


_GRAVITY = (("test", "train"), ("val", "train"), ("test", "val"))
assert {measured for measured, _ in _GRAVITY} == set(MEASURED)


def _firsts(places: NDArray[np.int64], keys: Sequence[object]) -> list[int]:
    """Return the first place of each key."""
    found: dict[object, int] = {}
    for place, key in zip(places.tolist(), keys, strict=True):
        found.setdefault(key, place)
    return list(found.values())


def _why_broken(store: AnyStore, place: int) -> str:
    try:
        read(store.source, place)
    except DataError as error:
        return error.message
    return "could not be read when the data were opened; it can now"


def _one(index: int) -> Tensor:
    return torch.tensor([index])
