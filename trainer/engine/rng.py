"""Random states: capture, restore, and seeds derived by key.

Order and augmentation are keyed (registry.transforms.draws) and need none of this; what is left is the model's own
randomness (initial weights, dropout), which draws from the global generators.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def derived_seed(*key: int | str) -> int:
    """Return a 63-bit seed that depends on all of `key`, e.g. ("mix", seed, epoch, step)."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def capture() -> dict[str, Any]:
    """Return every global random state as plain values and tensors (`weights_only` loads them)."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    state: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": [
            name,
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two states of `capture` are alike: nothing was drawn in between."""
    return bool(_plain(one) == _plain(other))


def _plain(state: Any) -> Any:
    if isinstance(state, Mapping):
        return {name: _plain(part) for name, part in state.items()}
    if isinstance(state, (list, tuple)):
        return [_plain(part) for part in state]
    return state.tolist() if isinstance(state, torch.Tensor) else state


def restore(state: Mapping[str, Any]) -> None:
    """Put back what `capture` returned, as far as its devices are here: a run may continue with fewer GPUs, or none."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        for device, each in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
            torch.cuda.set_rng_state(each.cpu(), device)


@contextmanager
def untouched_randomness() -> Iterator[None]:
    """Leave every global random state as it was found."""
    before = capture()
    try:
        yield
    finally:
        restore(before)
