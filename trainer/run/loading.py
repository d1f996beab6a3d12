"""A run in a notebook or script: its network with classes and preprocessing, without its data, and what it reached.

run = trainer.load("runs/quickstart/20260131-120000")
run.predict("cat.jpg")            # [[("cat", 0.98), ...]]: an answer per picture; a PIL image, an array or a list, too
run.answers("cat.jpg")            # ["cat"], or ["not sure"] where `abstain_below` says so
run.explain("cat.jpg")            # a figure of where the network looked
run.model(run.preprocess("cat.jpg"))
pandas.DataFrame(run.history)     # a row per epoch

How a run looks in one line and as a card is glance.py's, what pictures may be pictures.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from registry.datasets.decoding import Decoding
from registry.errors import RecipeError
from registry.printing import one_line
from registry.reports.cam import explain
from registry.reports.cam_figure import Look, figure_of
from registry.reports.cam_methods import METHODS
from registry.reports.gradcam import Method
from registry.reports.layers import panel_layers, select_layers, visits
from registry.reports.pictures import as_rgb
from trainer.data.fitting import Fitting
from trainer.data.pipeline import Pipeline
from trainer.data.singly import naming
from trainer.engine.device import choose_device
from trainer.engine.evaluation import evaluation_mode
from trainer.engine.last_inputs import last_inputs
from trainer.experiment.dataset import shrinking_of
from trainer.experiment.trained import Trained
from trainer.recipe.checks.expect import Verdict
from trainer.recipe.recipe import Recipe
from trainer.run import glance
from trainer.run.answering import AS_TOLD, Answerer, Sureness, sureness
from trainer.run.folder import RunFolder
from trainer.run.pictures import Pictures, Reader, name_of, several

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FROM_FILES = ("ImageFolder", "Table")  # datasets whose arguments say how files become pixels
PIXELS_AT_ONCE = 64 * 224 * 224  # of pictures that pass through the network together
DECODED_AT_ONCE = 64_000_000  # pixels of pictures that wait for that, before they are made small: 192 MB as RGB


@dataclass(frozen=True, repr=False)
class LoadedRun(Answerer):
    """A run with its trained network, ready to use.

    Attributes:
        model: best weights, or the last where there are no best; eval mode.
        class_names: one per class index.
        recipe: what it was trained by.
        folder: the run's files; `folder.path` is where it lies.
        pipeline: evaluation transforms and preprocessing.
        channels: of the images it was trained on before its own transforms: 3 for RGB, 1 for grey.
        size: (height, width) of the images it was trained on before its own transforms; None where they vary.
        input_shape: (channels, height, width) of the model's input.
        device: where the model lies.
        sureness: by which temperature probabilities are told, and below which one the answer is "not sure".
        verdicts: on the recipe's expectations, over all seeds and folds, from `trainer.train`; empty where none was.
        exit_code: what the command line would end with, from `trainer.train`: 8 where an expectation was missed.
    """

    model: nn.Module
    class_names: tuple[str, ...]
    recipe: Recipe
    folder: RunFolder
    pipeline: Pipeline
    channels: int
    size: tuple[int, int] | None
    input_shape: tuple[int, int, int]
    device: torch.device
    sureness: Sureness = AS_TOLD
    verdicts: Sequence[Verdict] = ()
    exit_code: int = 0

    # ------------------------------------------------------------------------------------------------ what it reached
    @cached_property
    def history(self) -> list[dict[str, float]]:
        """One row per epoch, as in metrics.jsonl; `pandas.DataFrame(run.history)` makes a table of it."""
        return self.folder.read_history()

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What summary.json holds: status, best, final, test, ...; empty where the run has none yet."""
        return self.folder.read_json("summary.json")

    def __repr__(self) -> str:
        """Return the run in one line."""
        return glance.line(self.recipe, self.folder.path, self.summary)

    def _repr_html_(self) -> str:
        """Return the card that a notebook shows: name, answer and curve."""
        return glance.card(self.recipe, self.folder.path, self.summary, self.history)

    # --------------------------------------------------------------------------------------------------------- pictures
    def images(self, pictures: Pictures) -> list[np.ndarray]:
        """Return pictures as uint8 (H, W, C) of the channels and, where it has one size only, the size of the data.

        Args:
            pictures: paths, PIL images, or uint8 arrays (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), RGB; transparent
                pixels become white, as in the training images. One alone is a list of one; an array (N, H, W, C)
                holds several.

        Raises:
            DataError: one is no readable picture.
        """
        return list(self._read(pictures))

    def shown(self, pictures: Pictures) -> list[np.ndarray]:
        """Return pictures as the model sees them before normalising, uint8 (H, W, C), sizes may differ."""
        images = self.images(pictures)
        if not images:
            return []
        indices = torch.arange(len(images))
        with naming(_naming(pictures), indices):
            return self.pipeline.shown(images, epoch=0, indices=indices)

    def preprocess(self, pictures: Pictures) -> Tensor:
        """Return the model's input for pictures that it gives one size, float32 (n, C, H, W)."""
        images = self.images(pictures)
        if not images:
            return torch.zeros((0, *self.input_shape), device=self.device)
        return self._prepared(pictures, images, 0)

    def logits(self, pictures: Pictures) -> Tensor:
        """Return the model's answers, float32 (n, C); pictures may differ in size, however many there are."""
        answers = [self._answers(inputs) for inputs in self._batches(pictures)]
        # Some networks take no empty batch.
        return torch.cat(answers) if answers else torch.zeros((0, len(self.class_names)))

    def probabilities(self, pictures: Pictures) -> Tensor:
        """Return how likely each class is for each picture, float32 (n, C), calibrated where that was asked for."""
        return self.sureness.probabilities(self.logits(pictures))

    def embedded(self, pictures: Pictures) -> tuple[Tensor, Tensor]:
        """Return `probabilities` and beside them what the network's last layer was given, float32 (n, d)."""
        with last_inputs(self.model) as given:
            probabilities = self.probabilities(pictures)
        return probabilities, torch.cat(given) if given else torch.zeros((0, 0))

    def explain(
        self,
        pictures: Pictures,
        *,
        target: str | None = None,
        layers: str | Sequence[str] | None = None,
        method: Method = "GradCAM",
    ) -> Figure:
        """Return a matplotlib figure of where the network looked: a row per picture, the photo and a map per layer.

        Args:
            pictures: as for `predict`, one or more.
            target: name of the class whose evidence is shown; the predicted class where omitted.
            layers: names or patterns of layers, or one of them; the last layer of each map size, the deepest four,
                where omitted.
            method: how maps follow from activations and gradients.

        Raises:
            RecipeError: there is no picture, no such class, layer or method, or the network has no layer with a map.
        """
        if target is not None and target not in self.class_names:
            names = ", ".join(map(one_line, self.class_names[:20]))
            raise RecipeError(f"no class is named {target!r}", f"the classes are {names}")
        if method not in METHODS:
            raise RecipeError(f"no method is named {method!r}", f"the methods are {', '.join(METHODS)}")
        patterns = None if layers is None else _patterns(layers)
        looks = [self._look(each, place, target, patterns, method) for place, each in enumerate(several(pictures))]
        if not looks:
            raise RecipeError("there is no picture to explain", "hand in one or more: run.explain('cat.jpg')")
        return figure_of(looks)

    def _look(self, picture: Any, place: int, target: str | None, layers: Sequence[str] | None, method: Method) -> Look:
        inputs = self.preprocess([picture])
        seen = visits(self.model, inputs)
        names = panel_layers(seen) if layers is None else select_layers(layers, seen)
        if not names:
            raise RecipeError(f"model {self.recipe.model.type} has no layer with a map of more than one cell")
        answers = self.sureness.probabilities(self._answers(inputs))[0]
        chosen = int(answers.argmax()) if target is None else self.class_names.index(target)
        found = explain(self.model, inputs, names, torch.tensor([chosen]), method)
        (photo,) = self.shown([picture])
        return Look(
            name=Path(name_of(picture, place)).name,
            photo=as_rgb(photo),
            answer=f"{one_line(self.class_names[chosen])} {100 * float(answers[chosen]):.1f} %",
            maps={name: maps[0, 0] for name, maps in found.maps.items()},
        )

    # ---------------------------------------------------------------------------------------------------------- batches
    def _read(self, pictures: Pictures) -> Iterator[np.ndarray]:
        decoding = decoding_of(self.recipe)
        reader, fitting = Reader(decoding), Fitting(self.channels, self.size, decoding.ground)
        shrinking = shrinking_of(self.recipe.data)
        for place, picture in enumerate(several(pictures)):
            if shrinking is not None:
                yield fitting.apply(shrinking(fitting.coloured(reader.read(picture, place, shrinking.factor))))
            elif (factors := self.pipeline.factors(epoch=0, indices=torch.tensor([place]))) is not None:
                (factor,) = factors
                yield fitting.reduced(reader.read(picture, place, fitting.at_size(factor)), factor)
            else:
                yield fitting.apply(reader.read(picture, place))

    def _batches(self, pictures: Pictures) -> Iterator[Tensor]:
        """Yield the model's input of pictures in their order, as many together as can be and fit in."""
        pictures = several(pictures)
        first = 0
        for together in self._together(self._read(pictures)):
            yield self._prepared(pictures, together, first)
            first += len(together)

    def _together(self, images: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
        """Yield images in lists: of one size each, unless the transforms give all of them one."""
        one_size = self.pipeline.gives_one_size
        area = self.input_shape[1] * self.input_shape[2]
        together: list[np.ndarray] = []
        decoded = passed = 0
        for image in images:
            own = image.shape[0] * image.shape[1]
            decoded, passed = decoded + own, passed + (area if one_size else own)
            full = decoded > DECODED_AT_ONCE or passed > PIXELS_AT_ONCE
            if together and (full or not (one_size or image.shape == together[0].shape)):
                yield together
                together, decoded, passed = [], own, area if one_size else own
            together.append(image)
        if together:
            yield together

    def _prepared(self, pictures: Pictures, images: list[np.ndarray], first: int) -> Tensor:
        """Return the model's input of images that are pictures from number `first` on."""
        indices = torch.arange(first, first + len(images))
        with naming(_naming(pictures), indices):
            return self.pipeline.apply(images, epoch=0, indices=indices).to(self.device)

    def _answers(self, inputs: Tensor) -> Tensor:
        with evaluation_mode(self.model), torch.inference_mode():
            answer: Tensor = self.model(inputs).float().cpu()
        return answer.clone()


def load(
    run: str | Path, device: str = "auto", *, calibrated: bool | None = None, abstain_below: float | None = None
) -> LoadedRun:
    """Load a run's best weights, or its last where it has no best yet.

    Args:
        run: the run folder.
        device: where to put the model.
        calibrated: whether probabilities are told by the run's temperature; as its recipe says where None.
        abstain_below: probability below which the answer is "not sure"; as its recipe says where None.

    Raises:
        CheckpointError: it is no run, has no whole checkpoint, or no temperature where that is asked for.
        RecipeError: its recipe no longer fits this version, or `abstain_below` is no probability.
    """
    folder = RunFolder.open(Path(run).expanduser())
    trained = Trained.read(folder.path)
    recipe, where = trained.recipe, choose_device(str(device))
    how = sureness(trained, folder, calibrated=calibrated, abstain_below=abstain_below)
    model = trained.model()
    model.to(where, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return LoadedRun(
        model=model,
        class_names=trained.class_names,
        recipe=recipe,
        folder=folder,
        pipeline=trained.new_pipeline(recipe.data.eval, where),
        channels=trained.channels,
        size=trained.stored_size,
        input_shape=trained.input_shape,
        device=where,
        sureness=how,
    )


def _patterns(layers: object) -> list[str]:
    """Return names or patterns of layers that were handed in, one alone as a list of one."""
    named = [layers] if isinstance(layers, str) else list(layers) if isinstance(layers, Iterable) else []
    if not named or not all(isinstance(each, str) and each for each in named):
        raise RecipeError(f"layers are names or patterns of layers, got {layers!r}", "as in layers=['layer1.2']")
    return named


def _naming(pictures: Pictures) -> Callable[[int], str]:
    """Return what names a picture by its place."""
    each = several(pictures)
    return lambda place: name_of(each[place], place)


def decoding_of(recipe: Recipe) -> Decoding:
    """Return how the run's own images became pixels."""
    dataset = recipe.data.dataset
    said = dataset.arguments if dataset.type in FROM_FILES else {}
    return Decoding.of(
        **{name: said[name] for name in ("white_level", "bits", "channels", "background") if name in said}
    )
