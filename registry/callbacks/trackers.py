"""What sinks that speak to other people's trackers have in common: their extra, what they remember, what they send.

Owns <run>/<tracker>.json, by which a resumed run goes on in the tracker's own run: its name there, and the last epoch
it has. A tracker takes no number back, so an epoch that is trained again after a kill is not sent again: it is the
same.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from registry import files
from registry.errors import RecipeError

SENT = ("report.html", "recipe.yaml", "resolved.yaml", "summary.json")  # as artefacts, where they are
FOLDERS = ("figures", "gradcam")  # whose pictures are


def require(package: str, callback: str) -> None:
    """Refuse a callback whose package is not installed, before anything is run.

    Raises:
        RecipeError: naming the extra.
    """
    if importlib.util.find_spec(package) is None:
        hint = f'install it: pip install "recipe-trainer[{package}]"'
        raise RecipeError(f"callback {callback} needs the package {package}", hint)


class Memory:
    """What a tracker's sink must know again after a resume.

    Args:
        folder: of the run.
        tracker: its name, and that of the file.
    """

    def __init__(self, folder: Path, tracker: str) -> None:
        self._folder, self._path = folder, folder / f"{tracker}.json"
        self.values: dict[str, Any] = {}
        if self._path.exists():
            self.values = json.loads(files.read_text(self._path))

    def keep(self, **values: Any) -> None:
        """Write values down beside those that are there."""
        self.values |= values
        files.write(self._path, json.dumps(self.values).encode(), below=self._folder, lasting=False)

    def is_new(self, epoch: int) -> bool:
        """Whether the tracker does not have an epoch yet."""
        return epoch > int(self.values.get("epoch", 0))


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """Return the numbers that a tracker can draw."""
    return {key: float(value) for key, value in values.items() if math.isfinite(value)}


def artefacts(folder: Path) -> Iterator[Path]:
    """Yield what a run leaves to look at: the report, the recipe, the figures."""
    for name in SENT:
        if (folder / name).is_file():
            yield folder / name
    for name in FOLDERS:
        yield from sorted(path for path in (folder / name).rglob("*.png") if path.is_file())
