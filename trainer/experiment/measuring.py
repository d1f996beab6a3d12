"""Evaluation data of a finished run: matched to what the network was trained on, never the other way round.

    classes         by name; fewer are fine, unknown ones are an error, another order is mapped
    pixels          channels and size as in training, as `predict` does it
    parts           those of the training where the images still are the same; of other images, all that are given
    training data   images that the network has learnt from are told by their pixels and left out

A folder without splits is measured whole: it has no part to hold out, since nothing is learnt. "val" is what the run
chose its best epoch on, a share of the training split or a split; where that is not the dataset's own split "val", that
one is measured beside it as "split val", and as "val" where it stands alone. Measures nothing itself
(trainer/stages/evaluate.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from registry.contracts import ImageSource
from registry.datasets.source import MissingSplit, UnchosenSplit
from registry.errors import DataError
from registry.printing import composed_otherwise, one_line
from trainer.data.cache import Packed
from trainer.data.content import Digests
from trainer.data.fingerprint import print_of, same
from trainer.data.fitting import Fitting
from trainer.data.memory import Budget, physical_memory
from trainer.data.opening import open_store
from trainer.data.reading import Factor
from trainer.data.splits import LoadedData, Part, divided, lacking, limited, readable
from trainer.data.standing import StandIn
from trainer.data.store import AnyStore, LazyStore, Store
from trainer.experiment.dataset import split_opener
from trainer.experiment.trained import Trained
from trainer.recipe.fast import fast_limit
from trainer.recipe.problems import COMMAND_LINE, listed
from trainer.recipe.recipe import DEFAULT_VAL, Fraction

Log = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """The data that a network is measured on.

    Attributes:
        parts: each on its own, in this order; at least one.
        data: the same as a run's data; a part that is not there is empty, and so is the training part.
        own: names of the parts that are known to be the run's own.
    """

    parts: tuple[Part, ...]
    data: LoadedData
    own: frozenset[str]


class UnknownClasses(DataError):
    """A split has images of classes that the network does not know."""


def open_measured(trained: Trained, log: Log) -> Measured:
    """Open the data that the recipe names, for measuring alone.

    Args:
        trained: what the network was trained with, and the recipe that names the data.
        log: takes a line for what is left out or made to fit.

    Raises:
        DataError: there is no image, a class is unknown, or all images have been learnt from.
    """
    recipe = trained.recipe
    fixes, given = recipe.data.fixes, recipe.origins.get("data.fixes")
    if fixes is None or (given is not None and given.file == COMMAND_LINE):
        return _Measuring(trained, log).measured()
    said: list[str] = []
    with suppress(DataError):  # other pictures of the same names may not fit the list
        corrected = _Measuring(trained, said.append).measured()
        if corrected.own or not trained.prints:
            for line in said:
                log(line)
            return corrected
    log(
        f"data.fixes ({fixes}) is about the run's own pictures, which these are not: their labels are taken as they are"
    )
    return _Measuring(replace(trained, recipe=replace(recipe, data=replace(recipe.data, fixes=None))), log).measured()


class _Measuring:
    """The data of one measurement while they are opened; the arguments are those of `open_measured`."""

    def __init__(self, trained: Trained, log: Log) -> None:
        self._trained, self._log = trained, log
        self._open_split = split_opener(trained.recipe, trained.catalogue)
        self._section = trained.recipe.data
        self._budget = Budget(physical_memory())
        self._fitting = Fitting(trained.channels, trained.stored_size)

    def measured(self) -> Measured:
        """Open the splits that there are and choose the parts to measure on."""
        chosen = self._section.val
        own = chosen if isinstance(chosen, str) else "val" if chosen is None else ""  # split that "val" is; "" for none
        stores = {split: self._store(split) for split in dict.fromkeys((own, "val", "test")) if split}
        held_out = {split: store for split, store in stores.items() if store is not None}
        train = self._training_store(needed=not held_out)
        parts = []
        if train is not None and {own, "val"} & held_out.keys() and self._is_unseen(train):
            parts.append(_all_of("train", train, "train"))
        elif train is not None and own not in held_out:
            parts.append(self._of_training_split(train, beside="val" in held_out))
        for split, store in held_out.items():
            name = "val" if split == own else split
            taken = {part.name for part in parts}
            parts.append(self._held_out(f"split {name}" if name in taken else name, store, split))
        kept = tuple(sorted((part for part in parts if len(part)), key=_place))
        if not kept:
            raise DataError(
                "there is no image to measure on" + (": the network has learnt from all of them" if parts else ""),
                "name images that it has not seen: data.dataset.root=...",
            )
        ours = frozenset(part.name for part in kept if self._trained.prints and self._is_own(part))
        return Measured(kept, self._as_data(kept, own or "val"), ours)

    # ----------------------------------------------------------------------------------------------------------- stores
    def _store(self, split: str) -> AnyStore | None:
        """Open a split and match it to the network; None where there is none."""
        try:
            source = self._open_split(split)
        except MissingSplit as error:
            if isinstance(error, UnchosenSplit):
                self._log(f"warning: {error.message}")
            return None
        for remark in getattr(source, "remarks", tuple)():
            self._log(one_line(remark))
        on_bad_image = self._section.on_bad_image
        glances = self._trained.tells_files  # then pixels would say nothing of what was learnt from
        store = open_store(source, on_bad_image=on_bad_image, log=self._log, budget=self._budget, glances=glances)
        self._name_classes(store, split)
        return store if self._fitting.suits(store.channels, store.image_size) else self._fitted(store, split)

    def _training_store(self, *, needed: bool) -> AnyStore | None:
        """Open the training split; None where there is none, or where others are measured and it has unknown classes.

        Args:
            needed: whether there is nothing else to measure on.
        """
        try:
            return self._store("train")
        except UnknownClasses as error:
            if needed:
                raise
            self._log(f"split 'train' is left out: {error.message}")
            return None

    def _name_classes(self, store: AnyStore, split: str) -> None:
        """Give a store's labels the network's numbers, by the names of the classes."""
        own, names = store.class_names, self._trained.class_names
        present = set(store.targets.tolist())
        unknown = [name for number, name in enumerate(own) if number in present and name not in names]
        if unknown:
            raise UnknownClasses(
                f"split {split!r} has classes that the network was not trained on: {listed(unknown)}; "
                f"it knows {listed(names)}",
                composed_otherwise(unknown, names)
                or "give their folders or labels the network's names, or leave them out; fewer classes are fine",
            )
        numbers = torch.tensor([names.index(name) if name in names else -1 for name in own], dtype=torch.int64)
        store.targets, store.class_names = numbers[store.targets], names
        if present and (lacks := lacking(store.targets, names)):
            self._log(f"split {split!r} has no image of {lacks}")

    def _fitted(self, store: AnyStore, split: str) -> AnyStore:
        """Return a store whose images have the channels and the size of the training images."""
        as_trained = _described(self._fitting.channels, self._fitting.size)
        self._log(
            f"the images of split {split!r} ({_described(store.channels, store.image_size)}) "
            f"are made to fit those that the network was trained on ({as_trained})"
        )
        source = _FittedSource(store.source, self._fitting)
        if isinstance(store, LazyStore):
            made: AnyStore = LazyStore(source, self._fitting.channels, store.bad, store.survey)
        else:
            pixels = np.stack([self._fitting.apply(image) for image in store.images.numpy()])
            made = Store(source, Packed(pixels, store.bad, store.digests))
        made.targets, made.class_names, made.left_out = store.targets, store.class_names, store.left_out
        return made

    # ------------------------------------------------------------------------------------------------------------ parts
    def _held_out(self, name: str, store: AnyStore, split: str) -> Part:
        """Return a split that training holds out: the run's own part, or else all of it."""
        whole = _all_of(name, store, split)
        own = self._limited(whole) if name in ("val", "test") else whole
        if self._is_own(own):
            self._tell_learnt(own)
            return own
        return self._without_learnt(whole)

    def _of_training_split(self, store: AnyStore, *, beside: bool) -> Part:
        """Return the run's own validation share of a training split, or else all of it.

        Args:
            store: the training split.
            beside: whether the dataset has a split "val" beside it.
        """
        val, whole = self._section.val, _all_of("val", store, "train")
        share = val if isinstance(val, Fraction) else DEFAULT_VAL
        with suppress(DataError):  # other images, of which no such share can be had
            own = self._limited(divided(store, share)[1])
            if self._is_own(own):
                self._tell_learnt(own)
                return own
        part = self._without_learnt(whole)
        why = "no longer has the share that the run chose on" if beside else "has no 'val' beside it"
        self._log(f"val: {len(part):,} of the {len(whole):,} images of split 'train', which {why}")
        return part

    def _limited(self, part: Part) -> Part:
        """Return as many images of a part as the run took under `data.limit` or `--fast`."""
        few = fast_limit(self._trained.recipe)
        limit = self._section.limit if few is None else few
        if part.name == "test":  # which `data.limit` leaves whole
            return part if few is None else replace(part, indices=part.indices[:few])
        return part if limit is None else limited(part, limit, self._trained.recipe.seed)

    def _is_own(self, part: Part) -> bool:
        """Whether a part is the one that the run had under this name; where its checkpoint does not tell, it is."""
        prints = self._trained.prints
        return not prints or same(prints.get(part.name), print_of(part))

    def _is_unseen(self, store: AnyStore) -> bool:
        """Whether the network is known to have learnt from no image of a store."""
        learnt, digests = self._trained.learnt, self._digests(store)
        return learnt is not None and digests is not None and not np.isin(digests, learnt.numpy()).any()

    def _digests(self, store: AnyStore) -> Digests | None:
        """Return the digests of a store's images that can be held against those learnt from; None without."""
        return store.contents if self._trained.tells_files else store.digests

    def _seen(self, part: Part) -> torch.Tensor | None:
        """Return which images of a part the network has learnt from, bool (n,); None where that cannot be told."""
        learnt, digests = self._trained.learnt, self._digests(part.store)
        if learnt is None or digests is None:
            return None
        return torch.from_numpy(np.isin(digests[part.indices.numpy()], learnt.numpy()))

    def _tell_learnt(self, part: Part) -> None:
        """Say where images of the run's own part lie among its training images as well."""
        seen = self._seen(part)
        if seen is not None and seen.any():
            self._log(
                f"warning: {int(seen.sum()):,} of the {len(part):,} {part.name} images are among those that the "
                "network has learnt from, pixel for pixel"
            )

    def _without_learnt(self, part: Part) -> Part:
        """Return a part without the images that the network has learnt from."""
        seen = self._seen(part)
        if seen is None:
            self._log(
                f"warning: these {part.name} images are not the run's own, and whether the network has learnt from "
                "some cannot be told: their pixels, or those of its training images, were not looked at"
            )
            return part
        if seen.any():
            count = f"{int(seen.sum()):,} of the {len(part):,} {part.name} images"
            self._log(f"{count} are left out: the network has learnt from them")
        return replace(part, indices=part.indices[~seen])

    # ----------------------------------------------------------------------------------------------------------- result
    def _as_data(self, parts: Sequence[Part], val_split: str) -> LoadedData:
        """Return the parts in the form of a run's data."""
        store, named = parts[0].store, {part.name: part for part in parts}
        nothing = torch.zeros(0, dtype=torch.int64)
        return LoadedData(
            train=Part("train", store, nothing, "train"),
            val=named.get("val", Part("val", store, nothing, val_split)),
            test=named.get("test"),
            class_names=self._trained.class_names,
            channels=self._fitting.channels,
            image_size=self._fitting.size,
            selected_on=val_split,
        )


class _FittedSource(StandIn):
    """A source whose images are made to fit; what it knows of their places (masks) does not fit any more."""

    def __init__(self, source: ImageSource, fitting: Fitting) -> None:
        super().__init__(source)
        self._fitting = fitting

    def image(self, index: int) -> NDArray[np.uint8]:
        """Return image `index`, fitted."""
        return self._fitting.apply(self._source.image(index))

    def reduced(self, index: int, factor: Factor) -> NDArray[np.uint8]:
        """Return image `index`, fitted, decoded smaller as training did."""
        reduced = getattr(self._source, "reduced", None)
        if reduced is None:
            return self.image(index)
        return self._fitting.reduced(reduced(index, self._fitting.at_size(factor)), factor)

    def packed(self) -> None:
        """Return None: it was opened already."""
        return


def _place(part: Part) -> int:
    """Return where a part stands among those measured: the one that the run reported stands last."""
    order = ("train", "val", "test")
    return order.index(part.name) if part.name in order else -1


def _all_of(name: str, store: AnyStore, split: str) -> Part:
    return Part(name, store, readable(store), split)


def _described(channels: int, size: tuple[int, int] | None) -> str:
    colour = "grey" if channels == 1 else "RGB"
    return f"{colour}, of several sizes" if size is None else f"{colour}, {size[0]} x {size[1]}"
