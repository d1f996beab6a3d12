"""The second tier: what must be built to be judged. Needs torch, no data.

The recipe is tried (trial.py) with the facts that its dataset declares, or stand-ins for them; what a constructor
raises becomes a problem at its place. `tier3.py` repeats this with the truth.
"""

from __future__ import annotations

from pathlib import Path

from registry.catalogue.catalog import Catalogue
from trainer.experiment.known import CHANNELS, DataKnown
from trainer.experiment.trial import Trial
from trainer.recipe.checks import lengths
from trainer.recipe.checks.draft import Draft
from trainer.recipe.problems import COMMAND_LINE, Collector, Problem, Sources
from trainer.recipe.recipe import Recipe


def check_built(recipe: Recipe, catalogue: Catalogue, known: DataKnown | None = None) -> tuple[Problem, ...]:
    """Build what a recipe names and return what is wrong with it, by position; warnings are among them.

    Args:
        recipe: without problems in its text.
        catalogue: what it names.
        known: facts of the data; what the dataset declares, else stand-ins, where omitted.
    """
    problems = Collector(sources_of(recipe))
    draft = Draft(recipe, catalogue, problems)
    Trial(draft, known or declared(draft)).run()
    return (*problems.sorted("error"), *problems.sorted("warning"))


def declared(draft: Draft) -> DataKnown:
    """Return what the dataset's entry declares, stand-ins for the rest."""
    facts = draft.data_facts
    return DataKnown(
        facts.classes,
        facts.channels or CHANNELS,
        facts.image_size,
        lengths.train_images(draft),
    )


def sources_of(recipe: Recipe) -> Sources:
    """Return the texts that a recipe came from, to quote from; a file that is gone is not quoted."""
    sources = Sources()
    sources.add(recipe.file, recipe.text)
    for file in sorted({origin.file for origin in recipe.origins.values()} - {recipe.file, COMMAND_LINE}):
        if Path(file).is_file():
            sources.add(file, Path(file).read_text(encoding="utf-8-sig"))
    sources.lines[COMMAND_LINE] = list(recipe.overrides)
    return sources
