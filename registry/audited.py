"""What an audit of a run's pictures has found, as it crosses the border to the report.

Owns the words: a picture, two that look alike, what cannot be used. Finds nothing itself (trainer/audit).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LIST = "audit.csv"  # beside the page: a line per finding
FIXES = "fixes.csv"  # beside the page: a line per label that is probably wrong, to be decided
FIX_COLUMNS = ("path", "given", "suggested", "decision", "confidence", "part")
MEASURED = ("test", "val")  # parts whose numbers a leak makes too good, the gravest first


@dataclass(frozen=True)
class Picture:
    """A picture of the data.

    Attributes:
        part: "train", "val" or "test"; "" where it is in none, because it cannot be read.
        split: the dataset's split that it lies in.
        index: its place there.
        label: class index; -1 where it is not known.
        file: its path below the dataset's folder, printable; "" where it is no file of its own.
    """

    part: str
    split: str
    index: int
    label: int
    file: str

    @property
    def name(self) -> str:
        """What it is called: its file, or its number."""
        return self.file or f"{self.split} #{self.index}"


@dataclass(frozen=True)
class Alike:
    """Two pictures that show the same.

    Attributes:
        first: the one that matters: measured where the other is learnt from, the later one of two in one part.
        second: what it is like.
        likeness: correlation of the two, laid over each other as well as they can be, 0 to 1.
        exact: all pixels are the same.
        mirrored: the second is like the first's mirror image.
        group: number of the pictures that hang together, from 1.
    """

    first: Picture
    second: Picture
    likeness: float
    exact: bool
    mirrored: bool
    group: int

    @property
    def contradicts(self) -> bool:
        """Whether the two have different labels."""
        return self.first.label != self.second.label


@dataclass(frozen=True)
class Odd:
    """A picture with something about it that is worth a look.

    Attributes:
        picture: which.
        kind: "broken", "tiny" or "blank".
        why: in words.
    """

    picture: Picture
    kind: str
    why: str


@dataclass(frozen=True)
class Shared:
    """A group (a patient, a burst) whose pictures lie in more than one part.

    Attributes:
        group: its name, printable.
        counts: pictures by part, (("train", 12), ("test", 3)).
        example: one of its pictures outside of training.
    """

    group: str
    counts: tuple[tuple[str, int], ...]
    example: Picture


@dataclass(frozen=True)
class Doubted:
    """A picture whose label is probably wrong.

    Attributes:
        picture: which, with the label that it was given.
        suggested: class index that it probably is of.
        confidence: probability of that class, by a network that has not learnt from the picture.
        given_confidence: probability of the given class.
    """

    picture: Picture
    suggested: int
    confidence: float
    given_confidence: float


@dataclass(frozen=True)
class PartFacts:
    """What the pictures of a part are like.

    Attributes:
        name: "train", "val" or "test".
        counts: pictures per class.
        sizes: (width, height, how many) of the most frequent sizes, most first.
        distinct_sizes: how many sizes there are.
        smallest: (width, height) with the fewest pixels.
        largest: (width, height) with the most pixels.
        shapes: pictures that are (wider than high, higher than wide, square).
        modes: (what the files hold, how many), most first: "RGB", "L" for grey, "CMYK", "RGBA", ...
        turned: files that say by EXIF that they are to be shown turned or mirrored.
    """

    name: str
    counts: tuple[int, ...]
    sizes: tuple[tuple[int, int, int], ...]
    distinct_sizes: int
    smallest: tuple[int, int]
    largest: tuple[int, int]
    shapes: tuple[int, int, int]
    modes: tuple[tuple[str, int], ...]
    turned: int

    @property
    def images(self) -> int:
        """How many pictures it has."""
        return sum(self.counts)


@dataclass(frozen=True)
class Audit:
    """What an audit has found.

    Attributes:
        class_names: one per class index, printable.
        parts: as the run uses them.
        leaks: measured pictures that are like one of another part: of test those like a training or a validation
            picture, of val those like a training picture; for each the likest of each part.
        duplicates: pictures that are like an earlier one of their own part; for each the likest.
        contradictions: pictures that are like one of another class; for each the likest.
        odd: pictures that are broken, tiny or blank.
        shared: groups on both sides; empty where the data tell no groups.
        grouped: whether the data tell groups.
        near: whether near duplicates were looked for, beside exact ones.
        why_not_near: why they were not; "" where they were.
        seconds: wall time.
        pixels: returns a picture as it is stored, uint8 (H, W, C).
        reviewed: parts whose labels were held against what a network says that has not learnt from them.
        doubts: pictures of these parts whose label is probably wrong, the surest first.
    """

    class_names: tuple[str, ...]
    parts: tuple[PartFacts, ...]
    leaks: tuple[Alike, ...]
    duplicates: tuple[Alike, ...]
    contradictions: tuple[Alike, ...]
    odd: tuple[Odd, ...]
    shared: tuple[Shared, ...]
    grouped: bool
    near: bool
    why_not_near: str
    seconds: float
    pixels: Callable[[Picture], np.ndarray] = field(repr=False, compare=False)
    reviewed: tuple[str, ...] = ()
    doubts: tuple[Doubted, ...] = ()

    def part(self, name: str) -> PartFacts | None:
        """Return what is known of a part; None where there is none."""
        return next((part for part in self.parts if part.name == name), None)

    def leaked(self, part: str, into: str = "train") -> tuple[Alike, ...]:
        """Return the pictures of `part` that are like one of the part `into`."""
        return tuple(each for each in self.leaks if each.first.part == part and each.second.part == into)

    def leaked_indices(self, part: str) -> frozenset[int]:
        """Return the places, in their split, of the pictures of `part` that are like a training picture."""
        return frozenset(each.first.index for each in self.leaked(part))

    def of_kind(self, kind: str) -> Sequence[Odd]:
        """Return the odd pictures of a kind."""
        return [each for each in self.odd if each.kind == kind]

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not (self.leaks or self.duplicates or self.contradictions or self.odd or self.shared or self.doubts)
