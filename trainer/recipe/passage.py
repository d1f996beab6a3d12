"""What the second tier finds out about transforms: made-up images pass through `augment` and `eval` as in a run.

Owns the passes and whom to blame where one fails. Knows no model; transforms come built (trial.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from registry.errors import UserError
from trainer.data.pipeline import Pipeline
from trainer.recipe.draft import Draft
from trainer.recipe.known import DataKnown
from trainer.recipe.recipe import Spec

IMAGES = 4  # that are made up

Shape = tuple[int, int, int]  # (channels, height, width)


@dataclass(frozen=True)
class Passage:
    """The transforms of one recipe.

    Attributes:
        draft: the recipe.
        known: how large images are and how many channels they have.
        make: builds a component; None where it raised, which was reported.
    """

    draft: Draft
    known: DataKnown
    make: Callable[[Spec], Any]

    def evaluation(self, prepared: Callable[[tuple[int, int]], None]) -> Shape:
        """Run both lists and report what is wrong with them.

        Args:
            prepared: is told (height, width) after evaluation's transforms, before those of training are built.

        Returns:
            What the model is given in evaluation.
        """
        data = self.draft.recipe.data
        after = self._made(data.preprocess)
        found = self._pass("data.eval", self._made(data.eval), after)
        shape = found or (self.known.channels, *self.known.size)
        prepared(shape[1:])
        self._pass("data.augment", self._made(data.augment), after)
        return shape

    def _made(self, specs: Sequence[Spec]) -> list[Any] | None:
        made = [self.make(spec) for spec in specs]
        return None if any(one is None for one in made) else made

    def _pass(self, path: str, stages: list[Any] | None, after: list[Any] | None) -> Shape | None:
        """Run one list of transforms and `preprocess`; None where that cannot be done."""
        if stages is None or after is None:
            return None
        try:
            return self._shape(stages, after)
        except UserError as error:
            if self.known.image_size is not None or not isinstance(error, _SizeError):
                self._blame(path, stages, after, error)
            return None

    def _shape(self, stages: list[Any], after: list[Any]) -> Shape:
        generator = torch.Generator().manual_seed(0)
        size = (IMAGES, *self.known.size, self.known.channels)
        images = torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)
        pipeline = Pipeline(stages, after, seed=0, backend=self.draft.recipe.data.augment_backend)
        indices = torch.arange(IMAGES)
        try:
            pipeline.uint8(images, epoch=1, indices=indices)
            done = pipeline.apply(images, epoch=1, indices=indices)
        except UserError as error:
            raise _SizeError(error.message, error.hint) from error
        except Exception as error:  # whatever a transform of somebody else's raises, the recipe named it
            raise _SizeError(f"the transforms raise {type(error).__name__}: {error}") from error
        return int(done.shape[1]), int(done.shape[2]), int(done.shape[3])

    def _blame(self, path: str, stages: list[Any], after: list[Any], error: UserError) -> None:
        """Report a failed pass at the first transform with which it fails."""
        for count in range(len(stages) + 1):
            try:
                self._shape(stages[:count], [])
            except UserError as first:
                self.draft.report("R075", f"{path}.{count - 1}" if count else path, first.message, first.hint)
                return
        for count in range(1, len(after) + 1):
            try:
                self._shape(stages, after[:count])
            except UserError as first:
                self.draft.report("R075", f"data.preprocess.{count - 1}", first.message, first.hint)
                return
        self.draft.report("R075", path, error.message, error.hint)


class _SizeError(UserError):
    """Made-up images did not pass; where nobody says how large images are, that proves nothing."""
