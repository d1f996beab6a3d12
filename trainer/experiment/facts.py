"""Run-time values: what the data and the run tell once they are known, for a recipe to refer to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any


class Facts(Mapping[str, Any]):
    """What `$data...`, `$run...` and `$lr_finder...` stand for; each is worked out when first asked for."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}
        self._lazy: dict[str, Callable[[], Any]] = {}

    def define(self, name: str, value: Callable[[], Any]) -> None:
        """Let `name` stand for what `value` returns."""
        self._known.pop(name, None)
        self._lazy[name] = value

    def take(self, names: Iterable[str], value: Callable[[str], Any]) -> None:
        """Let each of `names` stand for what `value` returns for it."""
        for name in names:
            self.define(name, partial(value, name))

    def __getitem__(self, name: str) -> Any:
        if name not in self._known:
            self._known[name] = self._lazy[name]()
        return self._known[name]

    def known(self, also: Iterable[str] = ()) -> dict[str, Any]:
        """Return the values that something has asked for, and those named in `also`, as plain values."""
        asked = {name: self[name] for name in also if name in self._lazy}
        return {**self._known, **asked}

    def __iter__(self) -> Iterator[str]:
        return iter(self._lazy)

    def __len__(self) -> int:
        return len(self._lazy)
