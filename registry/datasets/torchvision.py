"""Torchvision's classification datasets, opened split by split under torchvision's own names.

Every name of `torchvision_table.TABLE` is an attribute of this module, a function that opens one split:

    registry.datasets.torchvision:MNIST (root="data", *, split="train", download=True) -> ImageSource

and `open_torchvision("MNIST", split, download, root="data")` is the same. Its signature has the user's arguments with
upstream's defaults, then `split` and `download`, which are the engine's, as are all of upstream's other arguments.
Upstream is imported when a dataset is opened or the catalogue is built, not before.
"""

from __future__ import annotations

import importlib
import inspect
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from registry.catalogue.markers import Text
from registry.contracts import ImageSource
from registry.datasets.archives import TIMEOUT
from registry.datasets.source import MissingSplit
from registry.datasets.torchvision_table import TABLE
from registry.errors import DataError

if TYPE_CHECKING:
    from registry.catalogue.adoption import Found

__all__: list[str] = []

ROOT = "folder that holds the data, in upstream's layout; relative to the working directory."
OFFLINE = "`recipes/quickstart.yaml` needs no download"


def open_torchvision(name: str, split: str, download: bool, **arguments: object) -> ImageSource:
    """Open one split of an upstream dataset.

    Args:
        name: in `TABLE`.
        split: one of its splits.
        download: let upstream fetch what is missing; data that are there are never asked for again.
        arguments: the user's.

    Raises:
        MissingSplit: it has no such split.
        DataError: the data are missing or damaged.
    """
    from registry.datasets.upstream import TorchvisionSource

    entry = TABLE[name]
    if split not in entry.splits:
        raise MissingSplit(f"{name} has no split {split!r}; it has {', '.join(entry.splits)}")
    given = {(entry.user[key].upstream or key) if key in entry.user else key: value for key, value in arguments.items()}
    given.update(entry.splits[split])
    if entry.rooted:
        given.setdefault("root", "data")
    cls = getattr(importlib.import_module("torchvision.datasets"), name)
    dataset = _construct(name, cls, given, download and entry.downloads)
    labels = _pcam_labels(dataset) if name == "PCAM" else None
    source = TorchvisionSource(dataset, f"{name} {split}", entry.facts.channels or 3, labels)
    declared = entry.facts.class_names
    if declared is not None and not hasattr(dataset, "classes"):
        source.class_names = declared
    return source


def _construct(name: str, cls: Callable[..., Any], given: Mapping[str, object], download: bool) -> Any:
    """Make upstream's object from what is there; fetch only what is not."""
    takes_download = "download" in _parameters(cls)
    try:
        return cls(**given, **({"download": False} if takes_download else {}))
    except ImportError as error:
        raise DataError(f"{name} needs a package that is not installed: {error}", "install it with pip") from error
    except (RuntimeError, OSError, ValueError) as error:
        if not (download and takes_download):
            raise _missing(name, given, error) from error
    try:
        with _impatient():
            return cls(**given, download=True)
    except (RuntimeError, OSError, ValueError) as error:
        raise _missing(name, given, error) from error


def _missing(name: str, given: Mapping[str, object], error: Exception) -> DataError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return DataError(
        f"{name} cannot be opened from {given.get('root', 'data')}/: {reason}",
        f"put the files of torchvision.datasets.{name} there as its documentation says; {OFFLINE}",
    )


@contextmanager
def _impatient() -> Iterator[None]:
    """Give up connections without an answer after seconds; upstream sets no limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _parameters(cls: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return a class's parameters and, where it passes the rest on, those of its base."""
    found = dict(inspect.signature(cls).parameters)
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in found.values()) and isinstance(cls, type):
        found = {**inspect.signature(cls.__mro__[1]).parameters, **found}
    return found


def _pcam_labels(dataset: Any) -> Any:
    """Read all labels at once; upstream opens the file anew for every one."""
    file = dataset._base_folder / dataset._FILES[dataset._split]["targets"][0]
    with dataset.h5py.File(file) as content:
        return content["y"][:, 0, 0, 0].astype("int64")


# ------------------------------------------------------------------------------------------------------------ catalogue
class Opener:
    """What the catalogue and a recipe get for a name: opens a split, with a signature of its own.

    Args:
        name: in `TABLE`.
    """

    def __init__(self, name: str) -> None:
        entry = TABLE[name]
        self.name = name
        self.facts = entry.facts
        documents = {"root": ROOT} if entry.rooted else {}
        documents.update({key: argument.doc for key, argument in entry.user.items()})
        lines = "\n".join(f"    {key}: {text}" for key, text in documents.items())
        self.__name__ = name
        self.__doc__ = f"{entry.about[0].upper()}{entry.about[1:]}.\n\nArgs:\n{lines}\n"

    @property
    def __signature__(self) -> inspect.Signature:
        entry = TABLE[self.name]
        upstream = _parameters(getattr(importlib.import_module("torchvision.datasets"), self.name))
        named, only = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
        made = (
            [inspect.Parameter("root", named, default="data", annotation=Annotated[str, Text("path")])]
            if entry.rooted
            else []
        )
        for key, argument in entry.user.items():
            default = upstream[argument.upstream or key].default
            made.append(inspect.Parameter(key, only, default=default, annotation=argument.type))
        made += [inspect.Parameter("split", only, annotation=str), inspect.Parameter("download", only, annotation=bool)]
        return inspect.Signature(made)

    def __call__(self, root: str | None = None, *, split: str, download: bool, **arguments: object) -> ImageSource:
        if root is not None:
            arguments["root"] = root
        return open_torchvision(self.name, split, download, **arguments)


def __getattr__(name: str) -> Opener:
    if name not in TABLE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return Opener(name)


@dataclass(frozen=True)
class TorchvisionDatasets:
    """Adopt the table; a rule for `registry.catalogue.adoption.Registry.rules`."""

    def find(self) -> Iterator[Found]:
        """Yield the datasets by name."""
        from registry.catalogue.adoption import Change, Found

        for name in TABLE:
            change = Change(facts={"upstream": f"torchvision.datasets:{name}"})
            yield Found(name, f"{__name__}:{name}", Opener(name), change, own=False, package="torchvision")
