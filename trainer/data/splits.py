"""Which images are trained on, which choose the best epoch, and which are held out.

Owns the rules of the recipe's `data.val` and `data.limit`, and what follows from the training part alone: mean and
standard deviation. Knows nothing of batches; opens datasets only through the function it is given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from registry.contracts import DataFacts, ImageSource
from registry.datasets.source import MissingSplit
from registry.errors import DataError
from trainer.data.store import Store, open_store
from trainer.recipe.recipe import Data, Fraction

DEFAULT_SHARE = Fraction(0.1)  # of the training split, where a dataset has no validation split of its own
STATISTICS_CHUNK = 512  # images whose pixels are counted at a time


@dataclass(frozen=True)
class Part:
    """Images that serve one purpose.

    Attributes:
        name: "train", "val" or "test".
        store: the dataset split they lie in.
        indices: their places in the split, int64 (n,), ascending.
        dataset_split: the split's own name.
    """

    name: str
    store: Store
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
        test: images held out, evaluated once at the end; None where there are none.
        class_names: one per class index.
        channels: 3 for RGB, 1 for grey.
        image_size: (height, width) in pixels; None where images differ in size.
        selected_on: the split that chooses: "test" when the recipe says `val: test`.
    """

    train: Part
    val: Part
    test: Part | None
    class_names: tuple[str, ...]
    channels: int
    image_size: tuple[int, int] | None
    selected_on: str

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

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
        counts = _histogram(self.train)  # exact: the pixels are whole numbers
        values = torch.arange(256, dtype=torch.float64) / 255
        share = counts.double() / counts.sum(1, keepdim=True)
        mean = share @ values
        variance = share @ values.square() - mean.square()
        return tuple(mean.tolist()), tuple(variance.clamp_min(0).sqrt().tolist())


def open_data(
    section: Data,
    open_split: Callable[[str], ImageSource],
    facts: DataFacts,
    *,
    seed: int,
    log: Callable[[str], None],
) -> LoadedData:
    """Open a dataset and divide it as the recipe says.

    Args:
        section: the recipe's `data`.
        open_split: opens a split of the dataset by name.
        facts: what the dataset declares.
        seed: the recipe's; `limit` draws with it.
        log: takes a line for the run's log.

    Returns:
        The parts, with what is known of all of them.

    Raises:
        DataError: a split that does not exist or is empty, classes that differ between splits or from what the dataset
            declares, a share that leaves nothing.
    """
    declared = tuple(facts.splits)
    if isinstance(section.val, str):
        _check_split(section.val, declared)
    store = open_store(open_split("train"))
    _check_store(store, "train", facts)
    everything = torch.arange(len(store))

    val_split = section.val if isinstance(section.val, str) else "val"
    val_store = None
    if isinstance(section.val, str) or (section.val is None and "val" in declared):
        val_store = _optional(open_split, val_split, required=section.val is not None)
    if val_store is not None:
        _check_store(val_store, val_split, facts, like=store)
        train = Part("train", store, everything, "train")
        val = Part("val", val_store, torch.arange(len(val_store)), val_split)
    else:
        share = section.val if isinstance(section.val, Fraction) else DEFAULT_SHARE
        held_out = draw_share(store.targets, share)
        train = Part("train", store, everything[~held_out], "train")
        val = Part("val", store, everything[held_out], "train")
        log(f"validation: {len(val)} of the {len(store)} training images ({share.fraction:g}, seed {share.seed})")

    test = None
    if "test" in declared and section.val != "test":
        test_store = _optional(open_split, "test", required=False)
        if test_store is not None:
            _check_store(test_store, "test", facts, like=store)
            test = Part("test", test_store, torch.arange(len(test_store)), "test")

    if section.limit is not None:
        train, val = (_limited(part, section.limit, seed) for part in (train, val))
    height, width, channels = store.images.shape[1:]
    return LoadedData(
        train=train,
        val=val,
        test=test,
        class_names=store.class_names,
        channels=channels,
        image_size=(height, width),
        selected_on=val_split,
    )


def draw_share(targets: Tensor, share: Fraction) -> Tensor:
    """Choose the validation part of a training split.

    The part has round(N * fraction) images; stratified, every class gives its share, whole numbers by largest remainder.

    Args:
        targets: class index of every image, int64 (N,).
        share: how much, by which seed, stratified or not.

    Returns:
        bool (N,), true for the chosen.

    Raises:
        DataError: nothing would be left on one side.
    """
    total = len(targets)
    wanted = round(total * share.fraction)
    if not 0 < wanted < total:
        raise DataError(
            f"a validation share of {share.fraction:g} of {total} training images leaves {wanted} to validate on "
            f"and {total - wanted} to learn from"
        )
    generator = torch.Generator().manual_seed(_seed("share", share.seed))
    chosen = torch.zeros(total, dtype=torch.bool)
    if not share.stratify:
        chosen[torch.randperm(total, generator=generator)[:wanted]] = True
        return chosen
    counts = torch.bincount(targets)
    for label, count in enumerate(_apportion(counts, wanted).tolist()):
        members = torch.nonzero(targets == label).flatten()
        chosen[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return chosen


def _limited(part: Part, limit: int, seed: int) -> Part:
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
    for label, count in enumerate(quota.tolist()):
        members = part.indices[part.targets == label]
        kept.append(members[torch.randperm(len(members), generator=generator)[:count]])
    return Part(part.name, part.store, torch.cat(kept).sort().values, part.dataset_split)


def _apportion(counts: Tensor, wanted: int) -> Tensor:
    """Divide `wanted` in proportion to `counts`, in whole numbers by largest remainder, ties to the lower class."""
    exact = counts.double() * wanted / counts.sum()
    whole = exact.floor().long()
    rest = wanted - int(whole.sum())
    order = torch.argsort(exact - whole, descending=True, stable=True)
    whole[order[:rest]] += 1
    return whole


def _seed(purpose: str, seed: int) -> int:
    """Return a generator seed of 63 bits for one purpose."""
    return int.from_bytes(hashlib.blake2b(f"{purpose}/{seed}".encode(), digest_size=8).digest(), "big") >> 1


def _optional(open_split: Callable[[str], ImageSource], name: str, *, required: bool) -> Store | None:
    try:
        return open_store(open_split(name))
    except MissingSplit:
        if required:
            raise
        return None


def _check_split(name: str, declared: tuple[str, ...]) -> None:
    if name not in declared:
        raise DataError(f"data.val names the split {name!r}; the dataset has {', '.join(declared)}")
    if name == "train":
        raise DataError(
            "data.val: train would choose the best epoch on the images it learnt from",
            "name another split, or cut a share off: val: {fraction: 0.1}",
        )


def _check_store(store: Store, split: str, facts: DataFacts, like: Store | None = None) -> None:
    """Refuse a split that is empty or contradicts what is known."""
    if len(store) == 0:
        raise DataError(f"split {split!r} of the dataset has 0 images")
    classes = len(store.class_names)
    if facts.class_names is not None and classes != len(facts.class_names):
        raise DataError(f"the dataset declares {len(facts.class_names)} classes, but split {split!r} has {classes}")
    low, high = int(store.targets.min()), int(store.targets.max())
    if low < 0 or high >= classes:
        raise DataError(f"split {split!r} has class indices {low}..{high}, but {classes} class names")
    if like is not None and store.class_names != like.class_names:
        raise DataError(
            f"split {split!r} has {classes} classes, 'train' has {len(like.class_names)}, and their names differ: "
            f"{_difference(like.class_names, store.class_names)}"
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


def _histogram(part: Part) -> Tensor:
    """Count each pixel value per channel, int64 (C, 256)."""
    store = part.store
    channels = store.images.shape[-1]
    counts = torch.zeros(channels * 256, dtype=torch.int64)
    offset = torch.arange(channels, dtype=torch.int32) * 256
    for indices in part.indices.split(STATISTICS_CHUNK):
        pixels = store.gather(indices).to(torch.int32).add_(offset).flatten()
        counts += torch.bincount(pixels, minlength=channels * 256)
    return counts.view(channels, 256)
