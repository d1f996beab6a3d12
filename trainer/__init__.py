"""What happens to a recipe: it is read and checked (recipe), built (experiment), run (engine, stages) and kept.

For notebooks: `trainer.load(RUN)` gives the model, classes and preprocessing of a run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.run.loading import LoadedRun


def load(run: str | Path, device: str = "auto") -> LoadedRun:
    """Load a finished run; see `trainer.run.loading.load`."""
    from trainer.run.loading import load as act  # torch is imported only when it is wanted

    return act(run, device)
