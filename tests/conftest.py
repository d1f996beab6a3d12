"""What several test folders share: recipes from text, built experiments, the real CIFAR-10."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from registry.threads import share_cores

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
share_cores()  # before a test imports torch: several suites may run on one machine
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # as many threads as the workers leave each of them
    os.environ.setdefault(
        "OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])))
    )


if "PYTEST_XDIST_WORKER" not in os.environ:  # the workers find it in their environment
    _cache = tempfile.TemporaryDirectory(prefix="recipe-trainer-cache-", ignore_cleanup_errors=True)
    os.environ["XDG_CACHE_HOME"] = _cache.name  # what tests keep must push nothing of their user's out


def pytest_configure(config: pytest.Config) -> None:
    """Let xdist deal files out in the order of collection: by default those of few tests come last, however long."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what waits for other processes, so that no worker waits for another at the end."""
    items.sort(key=lambda item: not {"processes", "survival"} & set(item.path.parts))


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Iterator[object]:
    """Let half a letter in what a test printed travel from a worker: what sends it takes none."""
    return _whole((yield))


def _whole(value: object) -> object:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    return type(value)(map(_whole, value)) if isinstance(value, (list, tuple)) else value


@pytest.fixture
def write_recipe(tmp_path: Path) -> Callable[..., Path]:
    """Write recipe text to a file and return its path."""

    def write(text: str, name: str = "recipe.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def experiment_of(write_recipe: Callable[..., Path]) -> Callable[..., object]:
    """Build the experiment of recipe text."""
    from trainer.experiment.experiment import Experiment
    from trainer.recipe.load import load_recipe
    from trainer.recipe.problems import render

    def make(text: str, overrides: Sequence[str] = ()) -> Experiment:
        loaded = load_recipe(write_recipe(text), overrides)
        assert loaded.recipe is not None, render(loaded.problems)
        assert loaded.catalogue is not None
        return Experiment.from_recipe(loaded.recipe, loaded.catalogue, log=lambda _: None)

    return make


@pytest.fixture(scope="session")
def cifar_root() -> Path:
    """The folder that holds the real cifar-10-batches-py, or skip."""
    root = Path(os.environ.get("TRAINER_DATA", "data"))
    if not (root / "cifar-10-batches-py" / "test_batch").exists():
        pytest.skip(f"no real CIFAR-10 in {root}; set TRAINER_DATA to the folder that holds cifar-10-batches-py")
    return root


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium, or skip."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium here; Debian's package is named chromium")
