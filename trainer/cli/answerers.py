"""Who answers: the run or the exported file that a word names, by the options that say how sure an answer must be."""

from __future__ import annotations

from pathlib import Path

from registry.errors import RecipeError
from trainer.cli.inputs import say
from trainer.export.exported import load_exported
from trainer.export.formats import is_exported, trust
from trainer.run.answering import Answerer, Sureness, share, unfitted
from trainer.run.folder import RunFolder
from trainer.run.loading import load


def answerer_of(path: Path, calibrated: bool | None, abstain_below: float | None) -> Answerer:
    """Load what answers; where no temperature could be fitted for it, that is said.

    Args:
        path: a run's folder, or an exported file.
        calibrated: as `trainer.load` takes it; None of a file, which holds its temperature.
        abstain_below: as `trainer.load` takes it.

    Raises:
        CheckpointError: it is neither, has no weights, or no temperature where that is asked for.
        RecipeError: a file is asked to tell its probabilities otherwise, or its recipe no longer fits this version.
    """
    if not is_exported(path):
        run = load(path, calibrated=calibrated, abstain_below=abstain_below)
        asked = run.recipe.answers.calibrated if calibrated is None else calibrated
        if asked and (why := unfitted(RunFolder.open(path))):
            say(why)
        return run
    if calibrated is not None:
        raise RecipeError(
            f"{path}: whether its probabilities are calibrated was settled when it was exported",
            "export the run again with answers.calibrated, or ask the run",
        )
    if asked_of := trust(path):
        say(asked_of)
    file = load_exported(path)
    if abstain_below is not None:
        file.sureness = Sureness(abstain_below=share(abstain_below))
    return file
