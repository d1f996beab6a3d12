"""Dry run of the transforms: made-up images pass through `augment` and `eval` as in a run.

A part of the second tier of checks. Owns the passes, what both lists must agree in, and which transform a failure is
reported at. Knows no model; how transforms are built is handed in by trial.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from registry.errors import RecipeError, UserError
from trainer.data.pipeline import MAKES_ONE_SIZE, Pipeline
from trainer.experiment.known import DataKnown
from trainer.recipe.checks.draft import Draft
from trainer.recipe.checks.transforms import is_sometimes, report_random
from trainer.recipe.recipe import Reference, Spec

IMAGES = 4  # that are made up
EPOCHS = 3  # in which each passes: what depends on chance differs in one of them

Shape = tuple[int, int, int]  # (channels, height, width)


@dataclass(frozen=True)
class Shapes:
    """What a model is given.

    Attributes:
        evaluation: outside training.
        training: in training, where that is another and it is certain; None otherwise.
    """

    evaluation: Shape
    training: Shape | None


@dataclass(frozen=True)
class Passage:
    """The transforms of one recipe, tried.

    A list of transforms is called `stages` once it is built, and the built `data.preprocess`, which follows `augment`
    and `eval` alike, `preprocess`.

    Attributes:
        draft: the recipe.
        known: how large images are and how many channels they have.
        make: builds a component; None where it raised, which was reported.
    """

    draft: Draft
    known: DataKnown
    make: Callable[[Spec], Any]

    def shapes(self, prepared: Callable[[tuple[int, int]], None]) -> Shapes:
        """Run both lists and report what is wrong with them.

        Args:
            prepared: is told (height, width) after evaluation's transforms, before those of training are built.

        Returns:
            What the model is given.
        """
        data = self.draft.recipe.data
        preprocess, eval_stages = self._built(data.preprocess), self._built(data.eval)
        if preprocess is not None and eval_stages is not None and self._other_channels(eval_stages, preprocess):
            return Shapes(self._stored, None)
        evaluated = self._pass("data.eval", eval_stages, preprocess)
        shape = evaluated or self._stored
        prepared(shape[1:])
        train_stages = self._built(data.augment)
        trained = self._pass("data.augment", train_stages, preprocess)
        if evaluated is None or trained is None:
            return Shapes(shape, None)
        assert eval_stages is not None
        assert train_stages is not None
        assert preprocess is not None
        self._random(eval_stages, preprocess)
        certain = self.known.image_size is not None or all(map(_gives_one_size, (eval_stages, train_stages)))
        self._differences(evaluated, trained, certain, train_stages, eval_stages)
        differs = certain and trained[0] == evaluated[0] and trained != evaluated
        return Shapes(shape, trained if differs else None)

    @property
    def _stored(self) -> Shape:
        """The shape of images as they are stored."""
        return (self.known.channels, *self.known.size)

    def _differences(
        self, evaluated: Shape, trained: Shape, certain: bool, train_stages: list[Any], eval_stages: list[Any]
    ) -> None:
        """Report images that are of one shape in training and of another in evaluation.

        Args:
            evaluated: shape in evaluation.
            trained: shape in training.
            certain: the sizes are the data's, not made up.
            train_stages: of `augment`.
            eval_stages: of `eval`.
        """
        if evaluated[0] != trained[0]:
            text = f"training images have {_channels(trained)}, all others {_channels(evaluated)}"
            place = self._changing(train_stages, eval_stages, of=slice(0, 1))
            self.draft.report("R102", place, text, "put what changes channels into data.augment and data.eval alike")
        elif certain and evaluated != trained:
            text = f"training images are {trained[1]} x {trained[2]}, all others {evaluated[1]} x {evaluated[2]}"
            place = self._changing(train_stages, eval_stages, of=slice(1, 3))
            self.draft.report("W030", place, text, "is a Resize or crop missing in data.eval or data.augment?")

    def _changing(self, train_stages: list[Any], eval_stages: list[Any], of: slice) -> str:
        """Return the path of the first transform after which images are of another shape than before."""
        for path, stages in (("data.augment", train_stages), ("data.eval", eval_stages)):
            for count in range(1, len(stages) + 1):
                if self._shape(stages[:count], [])[of] != self._stored[of]:
                    return f"{path}.{count - 1}"
        return "data.augment"

    def _other_channels(self, stages: list[Any], preprocess: list[Any]) -> bool:
        """Report statistics of another number of channels than the images have where they are normalised."""
        before = len(self.draft.problems.found)
        for index, spec in enumerate(self.draft.recipe.data.preprocess):
            written = {name: self._count(spec.arguments.get(name)) for name in ("mean", "std")}
            if spec.type != "Normalize" or not any(written.values()):
                continue
            try:
                channels = self._shape(stages, preprocess[:index])[0]
            except UserError:  # said where the whole list passes
                continue
            for name, count in written.items():
                if count not in (0, 1, channels):
                    text = f"transform Normalize.{name}: {count} numbers for images of {_channels((channels, 0, 0))}"
                    self.draft.report("R103", f"{spec.path}.{name}", text, "write one number per channel")
        return len(self.draft.problems.found) > before

    def _count(self, value: object) -> int:
        """Return how many numbers a statistic has: one per stored channel where it refers to the data's own."""
        if isinstance(value, Reference):
            return self.known.channels if value.path in ("data.mean", "data.std") else 0
        return len(value) if isinstance(value, (list, tuple)) else 0

    def _random(self, stages: list[Any], preprocess: list[Any]) -> None:
        """Warn of the first transform of each list by which the same image comes out otherwise in another epoch."""
        data = self.draft.recipe.data
        for path, specs, first, second in (
            ("data.eval", data.eval, stages, []),
            ("data.preprocess", data.preprocess, [], preprocess),
        ):
            for count in range(1, len(specs) + 1):
                if not self._is_repeatable(first[:count], second[:count]):
                    if not is_sometimes(self.draft, specs[count - 1]):  # the text told that already
                        report_random(self.draft, specs[count - 1], f"{path}.{count - 1}")
                    break

    def _is_repeatable(self, stages: list[Any], preprocess: list[Any]) -> bool:
        """Say whether images come out of some transforms alike in every epoch."""
        try:
            done = [self._run(stages, preprocess, epoch) for epoch in range(1, EPOCHS + 1)]
        except UserError:  # said where the whole list passes
            return True
        return all(torch.equal(done[0], other) for other in done[1:])

    def _built(self, specs: Sequence[Spec]) -> list[Any] | None:
        """Build a list of transforms; None where one of them raised, which was reported."""
        built = [self.make(spec) for spec in specs]
        return None if any(one is None for one in built) else built

    def _pass(self, path: str, stages: list[Any] | None, preprocess: list[Any] | None) -> Shape | None:
        """Run one list of transforms and `preprocess`; None where that cannot be done."""
        if stages is None or preprocess is None:
            return None
        try:
            return self._shape(stages, preprocess)
        except UserError as error:
            if self.known.image_size is not None or not isinstance(error, _SizeError):
                self._blame(path, stages, preprocess, error)
            return None

    def _shape(self, stages: list[Any], preprocess: list[Any]) -> Shape:
        """Return the shape that images have behind some transforms."""
        channels, height, width = self._run(stages, preprocess, epoch=1).shape[1:]
        return int(channels), int(height), int(width)

    def _run(self, stages: list[Any], preprocess: list[Any], epoch: int) -> Tensor:
        """Return what becomes of the made-up images, float32 (n, C, H, W).

        Raises:
            _SizeError: they do not pass.
            RecipeError: the transforms make no pipeline, or floats where grey levels belong.
        """
        generator = torch.Generator().manual_seed(0)
        size = (IMAGES, *self.known.size, self.known.channels)
        images = torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)
        pipeline = Pipeline(stages, preprocess, seed=0, backend=self.draft.recipe.data.augment_backend)
        indices = torch.arange(IMAGES)
        try:
            pipeline.uint8(images, epoch=epoch, indices=indices)
            return pipeline.apply(images, epoch=epoch, indices=indices)
        except RecipeError:  # of whatever size images are
            raise
        except UserError as error:
            raise _SizeError(error.message, error.hint) from error
        except Exception as error:  # whatever a transform of somebody else's raises, the recipe named it
            raise _SizeError(f"the transforms raise {type(error).__name__}: {error}") from error

    def _blame(self, path: str, stages: list[Any], preprocess: list[Any], error: UserError) -> None:
        """Report a failed pass at the first transform with which it fails."""
        for count in range(len(stages) + 1):
            try:
                self._shape(stages[:count], [])
            except UserError as first:
                self.draft.report("R075", f"{path}.{count - 1}" if count else path, first.message, first.hint)
                return
        for count in range(1, len(preprocess) + 1):
            try:
                self._shape(stages, preprocess[:count])
            except UserError as first:
                self.draft.report("R075", f"data.preprocess.{count - 1}", first.message, first.hint)
                return
        self.draft.report("R075", path, error.message, error.hint)


class _SizeError(UserError):
    """Made-up images did not pass; where nobody says how large images are, that proves nothing."""


def _gives_one_size(stages: list[Any]) -> bool:
    """Tell whether images of any size have one size after a list."""
    return any(type(one).__name__ in MAKES_ONE_SIZE and one.p >= 1 for one in stages)


def _channels(shape: Shape) -> str:
    return "1 channel" if shape[0] == 1 else f"{shape[0]} channels"
