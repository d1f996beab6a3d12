"""Train, validation and test parts: which images are trained on, which choose the best epoch, which are held out.

Owns the rules of the recipe's `data.val` and `data.limit`, and what follows from the training part alone: mean and
standard deviation. Knows nothing of batches; opens datasets only through the function it is given.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from registry.contracts import DataFacts, ImageSource
from registry.datasets.source import MissingSplit, UnchosenSplit
from registry.errors import DataError
from registry.printing import composed_otherwise, one_line
from trainer.data.dealing import deal, deal_groups
from trainer.data.memory import Budget, physical_memory
from trainer.data.opening import look_at, open_store
from trainer.data.store import AnyStore
from trainer.data.survey import mean_and_deviation
from trainer.recipe.problems import listed
from trainer.recipe.recipe import DEFAULT_VAL, Data, Fraction

NAMED_CLASSES = 12  # that the log names


@dataclass(frozen=True)
class Part:
    """A part of the data: images that serve one purpose, such as training or validation.

    Attributes:
        name: "train", "val" or "test".
        store: the dataset split they lie in.
        indices: their places in the split, int64 (n,), ascending.
        dataset_split: the split's own name.
    """

    name: str
    store: AnyStore
    indices: Tensor
    dataset_split: str

    def __len__(self) -> int:
        return len(self.indices)

    @cached_property
    def targets(self) -> Tensor:
        """Class indices of the part's images, int64 (n,)."""
        return self.store.targets[self.indices]


@dataclass(frozen=True)
class LoadedData:
    """Everything a run learns from and is measured on.

    Attributes:
        train: images learnt from.
        val: images that choose the best epoch.
        test: images held out, evaluated at the end; None where there are none.
        class_names: one per class index.
        channels: 3 for RGB, 1 for grey.
        image_size: (height, width) in pixels; None where images differ in size.
        selected_on: the split that chooses: "test" when the recipe says `val: test`.
        fixes: what `data.fixes` has changed, in words; "" without.
    """

    train: Part
    val: Part
    test: Part | None
    class_names: tuple[str, ...]
    channels: int
    image_size: tuple[int, int] | None
    selected_on: str
    fixes: str = ""

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def describe(self, where: str) -> str:
        """Say which classes there are, where they come from and how many images serve for what, in one line.

        Args:
            where: what the images lie in.
        """
        count = self.num_classes
        names = ", ".join(map(one_line, self.class_names[:NAMED_CLASSES])) + (", ..." if count > NAMED_CLASSES else "")
        sizes = [f"{len(self.train):,} training", f"{len(self.val):,} validation"]
        sizes += [] if self.test is None else [f"{len(self.test):,} test"]
        classes = "1 class" if count == 1 else f"{count:,} classes"
        return f"{classes}: {names} from {one_line(where)} ({', '.join(sizes)} images)"

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean per channel over all pixels of the training part, in 0..1."""
        return self._moments[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation per channel over all pixels of the training part, in 0..1."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return mean_and_deviation(*self.train.store.sums(self.train.indices))


def open_data(
    section: Data,
    open_split: Callable[[str], ImageSource],
    facts: DataFacts,
    *,
    seed: int,
    log: Callable[[str], None],
    few: int | None = None,
) -> LoadedData:
    """Open a dataset and divide it as the recipe says.

    Args:
        section: the recipe's `data`.
        open_split: opens a split of the dataset by name.
        facts: what the dataset declares.
        seed: the recipe's; `limit` draws with it.
        log: takes a line for the run's log.
        few: images of each part that are used and decoded, for a fast run; None for all that the recipe uses.

    Returns:
        The parts, with what is known of all of them.

    Raises:
        DataError: a split that does not exist or is empty, classes that differ between splits or from what the dataset
            declares, a share that leaves nothing.
    """
    if isinstance(section.val, str):
        _check_split(section.val, tuple(facts.splits))
    selected_on = section.val if isinstance(section.val, str) else "val"
    splits = _Splits(section, open_split, facts, log, Budget(physical_memory()), undecoded=few is not None)
    store = splits.opened("train")
    train, val = splits.train_and_val(store)
    limit = section.limit if few is None else few
    if limit is not None:
        train, val = (limited(part, limit, seed) for part in (train, val))
    test_store = None if selected_on == "test" else splits.optional("test", store)
    test = None if test_store is None else _whole("test", test_store, "test")
    if few is None:
        for part in (val, test):
            if part is not None and (lacks := lacking(part.targets, store.class_names)):
                log(f"{part.name} has no image of {lacks}")
    else:
        test = None if test is None else splits.looked_at(replace(test, indices=test.indices[:few]))
        train, val = splits.looked_at(train), splits.looked_at(val)
    return LoadedData(
        train=train,
        val=val,
        test=test,
        class_names=store.class_names,
        channels=store.channels,
        image_size=store.image_size,
        selected_on=selected_on,
    )


def lacking(targets: Tensor, class_names: Sequence[str]) -> str:
    """Return the classes that have no image, in one line; "" where each has one.

    Args:
        targets: class indices of the images, int64 (n,).
        class_names: one per class index.
    """
    present = set(targets.tolist())
    return listed([one_line(name) for number, name in enumerate(class_names) if number not in present])


def readable(store: AnyStore) -> Tensor:
    """Return the indices of a store's images without those known to be unreadable, and those left out by decision."""
    readable = torch.ones(len(store), dtype=torch.bool)
    readable[[*store.bad, *store.left_out]] = False
    return readable.nonzero().flatten()


def divided(store: AnyStore, share: Fraction) -> tuple[Part, Part]:
    """Cut the validation part off a training split.

    Raises:
        DataError: nothing would be left on one side, or the dataset does not tell the groups.
    """
    indices = readable(store)
    groups = group_numbers(store.source, share)
    held_out = draw_share(store.targets[indices], share, None if groups is None else groups[indices.numpy()])
    return Part("train", store, indices[~held_out], "train"), Part("val", store, indices[held_out], "train")


def grouped_by(source: ImageSource, share: Fraction) -> str:
    """Return the column that says what a share keeps together: the recipe's, else the dataset's; "" for none."""
    return share.group or str(getattr(source, "group", ""))


def group_numbers(source: ImageSource, share: Fraction) -> NDArray[np.int64] | None:
    """Return the group of every image of a split, from 0, int64 (N,); None where nothing belongs together.

    An image of which the column says nothing is a group of its own.

    Raises:
        DataError: the dataset has no such column.
    """
    name = grouped_by(source, share)
    if not name:
        return None
    column = getattr(source, "column", None)
    if column is None:
        raise DataError(
            f"data.val.group: the dataset has no column {name!r}: its images stand in no table",
            "list them in one: dataset: {type: Table, file: labels.csv}",
        )
    said = [text or f"\0{index}" for index, text in enumerate(column(name))]
    numbers: NDArray[np.int64] = np.unique(np.array(said, dtype=object), return_inverse=True)[1].astype(np.int64)
    return numbers.reshape(-1)


def draw_share(targets: Tensor, share: Fraction, groups: NDArray[np.int64] | None = None) -> Tensor:
    """Choose the validation part of a training split.

    Of images, the part has round(N * fraction), or N / folds; stratified, every class gives its share, rounded by
    largest remainder. Whole groups come as near to that as they can.

    Args:
        targets: class index of every image, int64 (N,).
        share: how much, by which seed, stratified or not.
        groups: number of every image's group, from 0, int64 (N,); None where nothing belongs together.

    Returns:
        bool (N,), true for the chosen.

    Raises:
        DataError: nothing would be left on one side.
    """
    total = len(targets)
    wanted = share.count(total)
    if not 0 < wanted < total:
        raise DataError(
            f"a validation share of {share.share:g} of {total} training images leaves {wanted} to validate on "
            f"and {total - wanted} to learn from"
        )
    if groups is not None or share.folds is not None:
        return torch.from_numpy(_dealt(targets.numpy(), share, groups))
    generator = torch.Generator().manual_seed(_seed("share", share.seed))
    chosen = torch.zeros(total, dtype=torch.bool)
    if not share.stratify:
        chosen[torch.randperm(total, generator=generator)[:wanted]] = True
        return chosen
    quota = _apportion(torch.bincount(targets), wanted)
    for members, count in zip(by_class(targets), quota.tolist(), strict=True):
        chosen[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return chosen


def limited(part: Part, limit: int, seed: int) -> Part:
    """Keep `limit` images, as many of each class as of any other while there are any."""
    if limit >= len(part):
        return part
    counts = torch.bincount(part.targets)
    quota = torch.zeros_like(counts)
    left = limit
    while left > 0:  # fill the classes evenly; those that run out leave more to the others
        open_classes = torch.nonzero(quota < counts).flatten()
        give = max(1, left // len(open_classes))
        for label in open_classes.tolist():
            more = min(give, int(counts[label] - quota[label]), left)
            quota[label] += more
            left -= more
    generator = torch.Generator().manual_seed(_seed("limit", seed))
    kept = []
    for members, count in zip(by_class(part.targets), quota.tolist(), strict=True):
        kept.append(members[torch.randperm(len(members), generator=generator)[:count]])
    return Part(part.name, part.store, part.indices[torch.cat(kept)].sort().values, part.dataset_split)


def by_class(targets: Tensor) -> tuple[Tensor, ...]:
    """Return the positions of each class, ascending, int64 (n,) each; empty where it has none.

    Args:
        targets: class index of every image, int64 (N,).
    """
    ordered: Tensor = targets.argsort(stable=True)
    return tuple(ordered.split(torch.bincount(targets).tolist()))


@dataclass(frozen=True)
class _Splits:
    """A dataset whose splits are opened one after the other.

    Attributes:
        section: the recipe's `data`.
        open_split: opens a split by name.
        facts: what the dataset declares.
        log: takes a line.
        budget: of memory, which the splits share.
        undecoded: images are looked at only once it is known which are used.
    """

    section: Data
    open_split: Callable[[str], ImageSource]
    facts: DataFacts
    log: Callable[[str], None]
    budget: Budget
    undecoded: bool

    def opened(self, name: str, like: AnyStore | None = None) -> AnyStore:
        """Open a split that must exist; its classes must be those of `like`."""
        source = self.open_split(name)
        for remark in getattr(source, "remarks", tuple)():
            self.log(one_line(remark))
        store = open_store(
            source,
            on_bad_image=self.section.on_bad_image,
            log=self.log,
            budget=self.budget,
            undecoded=self.undecoded,
            glances=self.section.on_bad_image == "fail" and name != "test",  # a test image is needed only at the end
        )
        _check_store(store, name, self.facts, like)
        return store

    def optional(self, name: str, like: AnyStore) -> AnyStore | None:
        """Open a split that may be missing; None where it is."""
        try:
            return self.opened(name, like) if name in self.facts.splits else None
        except MissingSplit as error:
            if isinstance(error, UnchosenSplit):
                self.log(f"warning: {error.message}")
            return None

    def train_and_val(self, store: AnyStore) -> tuple[Part, Part]:
        """Return the training and the validation part: a split each, or shares of the training split.

        Args:
            store: the training split.
        """
        val = self.section.val
        if val is not None and val != "val":
            self._say_unused(store)
        if isinstance(val, str):
            return _whole("train", store, "train"), _whole("val", self.opened(val, store), val)
        held_out = self.optional("val", store) if val is None else None
        if held_out is not None:
            return _whole("train", store, "train"), _whole("val", held_out, "val")
        share = val if isinstance(val, Fraction) else DEFAULT_VAL
        parts = divided(store, share)
        count, total = len(parts[1]), len(parts[0]) + len(parts[1])
        how = f"{share.share:g}" if share.folds is None else f"fold {share.fold or 0} of {share.folds}, from 0"
        own = str(getattr(store.source, "group", ""))
        if share.group and own and share.group != own:
            self.log(
                f"warning: data.val.group {share.group!r} takes the place of the dataset's own, {own!r}: what belongs "
                "together by that may lie on both sides"
            )
        whole = f", whole groups of {one_line(grouped)}" if (grouped := grouped_by(store.source, share)) else ""
        self.log(f"validation: {count} of {total} training images ({how}{whole}, seed {share.seed})")
        if share.folds is not None and (few := _fewer_than(share.folds, store)):
            self.log(f"fewer than {share.folds} training images are of {few}: not every fold has one to validate on")
        return parts

    def _say_unused(self, store: AnyStore) -> None:
        """Warn where the reader holds images out that `data.val` passes over."""
        count_of = getattr(store.source, "count_of", None)
        if count_of is not None and (count := count_of("val")):
            images = "1 image is" if count == 1 else f"{count:,} images are"
            self.log(
                f"warning: {images} in the dataset's own split val and not used, since data.val says otherwise; "
                "without data.val they choose the best epoch"
            )

    def looked_at(self, part: Part) -> Part:
        """Look at the images of a part of an undecoded split; return it without those that cannot be read."""
        images = part.indices.numpy()
        look_at(part.store, images, on_bad_image=self.section.on_bad_image, log=self.log, budget=self.budget)
        kept = ~torch.isin(part.indices, torch.tensor(part.store.bad, dtype=torch.int64))
        return replace(part, indices=part.indices[kept])


def _fewer_than(count: int, store: AnyStore) -> str:
    """Return the classes that have images, but fewer than `count`, in one line."""
    counts = torch.bincount(store.targets[readable(store)], minlength=len(store.class_names)).tolist()
    return listed([one_line(name) for name, there in zip(store.class_names, counts, strict=True) if 0 < there < count])


def _dealt(targets: NDArray[np.int64], share: Fraction, groups: NDArray[np.int64] | None) -> NDArray[np.bool_]:
    """Choose validation's side of what is dealt out: bool (N,)."""
    classes = targets if share.stratify else np.zeros_like(targets)
    generator = np.random.default_rng(_seed("share" if share.folds is None else "folds", share.seed))
    if groups is None:
        return _on_side(deal(classes, share.folds or 2, generator), share)
    found, numbers = np.unique(groups, return_inverse=True)
    sides = (share.share, 1 - share.share) if share.folds is None else (share.share,) * share.folds
    if len(found) < len(sides):
        what = f"data.val.folds: {share.folds} folds" if share.folds is not None else "data.val: a share"
        have = "all training images are of one group" if len(found) == 1 else f"there are {len(found)} groups"
        raise DataError(
            f"{what} of whole groups cannot be had: {have}",
            "is data.val.group the column of what belongs together?",
        )
    return _on_side(deal_groups(classes, numbers.reshape(-1), sides, generator), share)


def _on_side(dealt: NDArray[np.int64], share: Fraction) -> NDArray[np.bool_]:
    """Return which images validation has: those of its fold, else those of the first side."""
    chosen: NDArray[np.bool_] = dealt == (share.fold or 0)
    return chosen


def _whole(name: str, store: AnyStore, split: str) -> Part:
    """Return a part of all images of a split that can be read."""
    return Part(name, store, readable(store), split)


def _apportion(counts: Tensor, wanted: int) -> Tensor:
    """Divide `wanted` in proportion to `counts`, in whole numbers by largest remainder, ties to the lower class.

    For its remainder no class is taken whole while another has a remainder: training keeps the only image of a class.
    """
    exact = counts.double() * wanted / counts.sum()
    whole = exact.floor().long()
    rest = wanted - int(whole.sum())
    remainder = exact - whole
    # from the first to the last: a remainder, one that takes the class whole, none
    rank = torch.where(remainder > 0, 1 - (whole + 1 >= counts).double(), -1.0)
    order = torch.argsort(rank + remainder / 2, descending=True, stable=True)
    whole[order[:rest]] += 1
    return whole


def _seed(purpose: str, seed: int) -> int:
    """Return a generator seed of 63 bits for one purpose."""
    return int.from_bytes(hashlib.blake2b(f"{purpose}/{seed}".encode(), digest_size=8).digest(), "big") >> 1


def _check_split(name: str, declared: tuple[str, ...]) -> None:
    if declared and name not in declared:  # one that declares nothing is asked and answers for itself
        raise DataError(f"data.val names the split {name!r}; the dataset has {', '.join(declared)}")
    if name == "train":
        raise DataError(
            "data.val: train would choose the best epoch on the images it learnt from",
            "name another split, or cut a share off: val: {fraction: 0.1}",
        )


def _check_store(store: AnyStore, split: str, facts: DataFacts, like: AnyStore | None) -> None:
    """Refuse a split that is empty or contradicts what is known."""
    if len(store) == 0:
        raise DataError(f"split {split!r} of the dataset has 0 images")
    classes = len(store.class_names)
    if namesakes := [name for name, count in Counter(store.class_names).items() if count > 1]:
        raise DataError(
            f"split {split!r} has more than one class called {listed(map(repr, namesakes))}",
            "give each a name of its own: classes are told apart by them",
        )
    if facts.class_names is not None and classes != len(facts.class_names):
        raise DataError(f"the dataset declares {len(facts.class_names)} classes, but split {split!r} has {classes}")
    low, high = int(store.targets.min()), int(store.targets.max())
    if low < 0 or high >= classes:
        raise DataError(f"split {split!r} has class indices {low}..{high}, but {classes} class names")
    if like is not None and store.class_names != like.class_names:
        raise DataError(
            f"split {split!r} has {classes} classes, 'train' has {len(like.class_names)}, and their names differ: "
            f"{_difference(like.class_names, store.class_names)}",
            composed_otherwise(store.class_names, like.class_names)
            or "give the classes the same names in every split; in folders these are the folders' names",
        )


def _difference(train: tuple[str, ...], other: tuple[str, ...]) -> str:
    parts = []
    for title, names in (
        ("only in train", [name for name in train if name not in other]),
        ("only there", [name for name in other if name not in train]),
    ):
        if names:
            parts.append(f"{title}: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}")
    return "; ".join(parts) or "their order differs"
