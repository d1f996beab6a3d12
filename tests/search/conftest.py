"""What the tests of sweeps share: a tiny recipe, a sweep over it, and workers in this process."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

RECIPE = """
version: 1
name: tiny
seed: 1
data: {dataset: {type: Shapes, train_size: 32, val_size: 16, test_size: 16}, batch_size: 16}
model: {type: SmallCNN, width: 4}
optimizer: {type: SGD, lr: 0.02}
train: {epochs: 4, precision: fp32}
callbacks: []
report: []
"""
SWEEP = """
version: 1
sweep: mine
recipe: tiny.yaml
search:
  optimizer.lr: {type: FloatDistribution, low: 1e-3, high: 1.0, log: true}
sampler: {type: RandomSampler, seed: 1}
objective: {metric: val/loss, at: final}
confirm: none
trials: 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with the recipe in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def written(here: Path) -> Callable[..., str]:
    """Write a sweep: SWEEP, in which each given section replaces the one of its key."""

    def write(*sections: str, without: tuple[str, ...] = (), name: str = "sweep.yaml") -> str:
        found = re.findall(r"^(\w+):(.*(?:\n .*)*)\n", SWEEP, re.MULTILINE)
        given = {section.partition(":")[0]: section.partition(":")[2] for section in sections}
        whole = {**dict(found), **given}
        text = "".join(f"{key}:{value}\n" for key, value in whole.items() if key not in without)
        (here / name).write_text(text)
        return name

    return write
