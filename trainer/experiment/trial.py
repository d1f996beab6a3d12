"""Dry run of a recipe, the second tier of checks: everything is built once from stand-ins, to see what happens.

Parts are built as a run builds them (assembly.py), but the model lies on the meta device, parameters take no memory,
and images are made up. Transforms are tried by passage.py, loss and metrics by measures.py, what is frozen is looked at
by frozen.py. Knows nothing of where facts of the data come from (checking.py).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from registry.catalogue.catalog import Catalogue
from registry.catalogue.suggest import nearest
from registry.errors import CheckpointError, UserError
from registry.files import kind_of
from registry.patterns import matches
from registry.reports import layers as cam_layers
from registry.reports.layers import Visit
from trainer.engine.schedule import Schedule
from trainer.experiment.assembly import Assembly
from trainer.experiment.frozen import WEIGHTS, check_frozen, check_penalties, check_statistics
from trainer.experiment.groups import ParameterGroups, learnt_by, named_groups
from trainer.experiment.known import CLASSES, DataKnown
from trainer.experiment.measures import try_loss, try_metric
from trainer.experiment.passage import Passage, Shapes
from trainer.recipe.checks import lengths
from trainer.recipe.checks.classes import told
from trainer.recipe.checks.draft import Draft
from trainer.recipe.checks.schedules import VANISHED
from trainer.recipe.patterns import KINDS, select, unmatched
from trainer.recipe.problems import did_you_mean, listed
from trainer.recipe.reading.references import LR_FOUND
from trainer.recipe.recipe import Recipe, Reference, Spec

T = TypeVar("T")

STEPS_PER_EPOCH = 1_000  # where a dataset declares nothing
READABLE = 5  # px: below, a map cannot tell places apart
LONGEST_REHEARSAL = 100_000  # steps of a schedule that a trial goes through; a third of a second
DEAD_SHARE = 0.1  # of a run that may pass with no rate to speak of


@dataclass
class StandIns(Assembly):
    """The assembly of a trial, with stand-ins for run-time values that are not known yet.

    What the dataset declares, or what was read of it, is taken as it is; the rest is made up.

    Attributes:
        recipe: what was asked for.
        catalogue: what its names mean.
        classes: to tell apart.
        facts: run-time values.
        steps_per_epoch: optimizer steps per epoch.
    """

    recipe: Recipe
    catalogue: Catalogue
    classes: int
    facts: dict[str, object]
    steps_per_epoch: int

    def count_classes(self) -> int:
        """Return how many classes there are taken to be."""
        return self.classes

    def bind(self, reference: Reference) -> object:
        """Return what stands in for a run-time value."""
        return self.facts[reference.path]

    def take_classes(self, count: int) -> None:
        """Go on with another number of classes."""
        self.classes = count
        self.facts |= _facts_of_classes(count)

    def take_size(self, size: tuple[int, int]) -> None:
        """Go on with the (height, width) of images after evaluation's transforms, which a run refers to as well."""
        self.facts["data.image_size"] = list(size)


@dataclass
class Trial:
    """The dry run of one recipe.

    Attributes:
        draft: the recipe, without problems in its text.
        known: facts of the data, stand-ins among them.
        resumed: the weights are a checkpoint's: what they once came from may be gone and is not looked for.
    """

    draft: Draft
    known: DataKnown
    resumed: bool = False

    def __post_init__(self) -> None:
        self.recipe = self.draft.recipe
        self.parts = self._assembly()
        self._classes_are_open = self.known.num_classes is None and told(self.draft) is None

    def run(self) -> None:
        """Build everything and report what is wrong to the draft."""
        self._classes()
        shapes = self.images()
        shape = shapes.evaluation
        model = self._model(shape)
        if model is not None and shapes.training is not None:
            self._logits(model, shapes.training, "data.augment")
        if model is not None:
            self._patterns(model)
            self._layers(model, shape)
            self._batch_of_one(model)
        loss = self._loss()
        if model is not None:
            self._optimizer_and_scheduler(model, loss)
        self._rest()
        self._start_from()

    def images(self) -> Shapes:
        """Send images through the transforms and return what becomes of them; report what is wrong to the draft."""
        return Passage(self.draft, self.known, self.make).shapes(self.parts.take_size)

    def _assembly(self) -> StandIns:
        recipe, known, said = self.recipe, self.known, told(self.draft)
        classes = known.num_classes or (said.number if said is not None else CLASSES)
        steps = STEPS_PER_EPOCH
        if known.train_images is not None:
            steps = max(1, lengths.steps_per_epoch(self.draft, known.train_images))
        finder = recipe.lr_finder
        facts: dict[str, object] = {
            **_facts_of_classes(classes, known.class_names),
            "data.mean": [0.5] * known.channels,
            "data.std": [0.25] * known.channels,
            "data.image_size": list(known.size),
            "data.train_size": known.train_images or steps * recipe.data.batch_size,
            "run.epochs": recipe.train.epochs,
            "run.steps_per_epoch": steps,
            "run.total_steps": steps * recipe.train.epochs,
            LR_FOUND: math.sqrt(finder.start * finder.end) if finder is not None else 0.1,
        }
        return StandIns(recipe, self.draft.catalogue, classes, facts, steps)

    def _classes(self) -> None:
        """Report data of one class: whatever the network answers would be right."""
        if self.known.num_classes == 1:
            text = f"{self.recipe.data.dataset.type} has 1 class, there is nothing to tell apart"
            entry = self.draft.entry(self.recipe.data.dataset)
            hint = "is data.dataset.root one level too high? It holds train, val and test, or one folder per class"
            if entry.parameter("target") is not None:
                hint = "is data.dataset.target the column of the classes?"
            self.draft.report("R080", "data.dataset", text, hint if entry.parameter("root") is not None else "")

    # ------------------------------------------------------------------------------------------------------- building
    def make(self, spec: Spec) -> Any:
        """Build a component that nothing is supplied to; None where it raised, which is reported at its place."""
        return self._tried(spec, lambda: self.parts.make(spec))

    def _tried(self, spec: Spec, built: Callable[[], T]) -> T | None:
        """Return what `built` builds of a component; None where it raised, which is reported at its place."""
        with self._reported("R071", spec.path, str(self.draft.entry(spec).facts.get("instead", ""))):
            return built()
        return None

    @contextmanager
    def _reported(self, rule: str, path: str, hint: str = "") -> Iterator[None]:
        """Turn an error that a user can mend into a problem at `path`; `hint`, where given, replaces its own."""
        try:
            yield
        except UserError as error:
            place = self.draft.place(path)
            text = error.message.removeprefix(f"{place}: ").removeprefix(f"{path}: ")
            self.draft.report(rule, path, text, hint or error.hint)

    # ---------------------------------------------------------------------------------------------------------- model
    def _model(self, shape: tuple[int, int, int]) -> nn.Module | None:
        """Return the model on the meta device after a dry run; None where it cannot be built or run."""
        spec = self.recipe.model
        if not self.draft.sound(spec.path):
            return None
        before = len(self.draft.problems.found)
        with torch.device("meta"):
            model = self._tried(spec, lambda: self.parts.new_model(shape, without=WEIGHTS))
        if len(self.draft.problems.found) > before or not isinstance(model, nn.Module):
            return None
        self._weights(shape)
        logits = self._logits(model.to("meta").eval(), shape, "model")
        if logits is None:
            return None
        adopted = self.draft.entry(spec).target.startswith("registry.models.")  # these give one output, or are told to
        if not adopted:
            self._in_training(model, shape)
        if isinstance(logits, Tensor) and logits.dim() == 2 and self._classes_are_open:
            self.parts.take_classes(logits.shape[1])  # a head of its own size: the data will tell whether it is right
        if isinstance(logits, Tensor) and logits.shape != (2, self.parts.classes):
            got = " x ".join(map(str, logits.shape[1:]))
            text = f"model {spec.type} gives {got} numbers per image, and there are {self.parts.classes} classes"
            self.draft.report("R071", "model", text, "leave num_classes out: the engine supplies it")
        return model

    def _weights(self, shape: tuple[int, int, int]) -> None:
        """Report a file of pretrained weights that is not there, is none, or is another network's."""
        spec = self.recipe.model
        adopted = self.draft.entry(spec).target.startswith("registry.models.")  # what others load, only they know
        if self.resumed or not adopted or spec.arguments.get("weights") is None:
            return
        with self._reported("R071", spec.path):
            try:
                with torch.device("meta"):
                    self.parts.new_model(shape)
            except CheckpointError as error:
                path = f"{spec.path}.weights"
                self.draft.report("R205", path, f"{path}: {error.message}", error.hint)

    def _logits(self, model: nn.Module, shape: tuple[int, int, int], path: str) -> object:
        """Return what a model on the meta device answers; None where it takes no images of this shape."""
        try:
            with torch.no_grad():
                return model(torch.empty((2, *shape), device="meta"))
        except Exception as on_meta:
            if not _needs_numbers(on_meta):
                self._cannot_take(shape, path, on_meta)
                return None
        try:  # it looks at the images' values, which tensors without numbers have not
            with torch.no_grad():
                logits = self._with_numbers(shape)(torch.zeros(2, *shape))
        except Exception as error:
            self._cannot_take(shape, path, error)
            return None
        return logits.to("meta") if isinstance(logits, Tensor) else logits

    def _with_numbers(self, shape: tuple[int, int, int]) -> nn.Module:
        """Return the model as it is on the CPU, for one that looks at its images' values; no draw is taken for it."""
        with torch.random.fork_rng(devices=[]):
            model: nn.Module = self.parts.new_model(shape, without=WEIGHTS)
        return model.eval()

    def _cannot_take(self, shape: tuple[int, int, int], path: str, error: Exception) -> None:
        said = " ".join(str(error).split())
        channels, height, width = shape
        text = f"model {self.recipe.model.type} cannot take images of {channels} x {height} x {width}: {said}"
        self.draft.report("R071", path, text[:300])

    def _in_training(self, model: nn.Module, shape: tuple[int, int, int]) -> None:
        """Report a model that gives something else than logits while it trains, as auxiliary heads do."""
        with suppress(Exception), torch.no_grad():  # what fails on tensors without numbers may work
            found = model.train()(torch.empty((2, *shape), device="meta"))
            if not isinstance(found, Tensor):
                text = (
                    f"model {self.recipe.model.type} gives {type(found).__name__} in training, not a tensor of logits"
                )
                self.draft.report("R071", "model", text, "return the logits alone, in training as in evaluation")
        model.eval()

    def _patterns(self, model: nn.Module) -> None:
        """Report patterns that mean no parameter, and a model of which nothing is left to learn."""
        recipe = self.recipe
        lists: list[tuple[str, Sequence[str]]] = [("train.freeze", recipe.train.freeze)]
        named = named_groups(recipe.optimizer)
        lists += [(f"optimizer.groups.{i}.match", group.match) for i, group in enumerate(named)]
        for spec in recipe.regularizers:
            lists += [(f"{spec.path}.{name}", spec.arguments.get(name) or ()) for name in ("include", "exclude")]
        for path, patterns in lists:
            for pattern in unmatched(patterns, model):
                at = f"{path}.{list(patterns).index(pattern)}"
                text = f"{path}: no parameter of {recipe.model.type} fits '{pattern}'"
                self.draft.report("R070", at, text, _near(pattern, model))
        frozen = set(select(recipe.train.freeze, model))
        if frozen and len(frozen) == len(list(model.parameters())):
            text = "train.freeze: every parameter is frozen, nothing is left to learn"
            self.draft.report("R072", "train.freeze", text)
            return
        check_penalties(self.draft, model, frozen)
        check_frozen(self.draft, model, frozen)

    def _layers(self, model: nn.Module, shape: tuple[int, int, int]) -> None:
        """Hold the layers that parts of the report name against the model's maps."""
        named = [(spec, spec.arguments["layers"]) for spec in self.recipe.report if spec.arguments.get("layers")]
        if not named:
            return
        try:
            seen = cam_layers.visits(model, torch.empty((1, *shape), device="meta"))
        except Exception as error:
            if not _needs_numbers(error):
                raise
            seen = cam_layers.visits(self._with_numbers(shape), torch.zeros(1, *shape))
        for spec, patterns in named:
            for index, pattern in enumerate(patterns):
                self._layer(spec, index, pattern, seen, model)

    def _layer(self, spec: Spec, index: int, pattern: str, seen: Sequence[Visit], model: nn.Module) -> None:
        """Report a pattern that means no layer, or one whose map is missing or too small to tell places apart."""
        path = f"{spec.path}.layers.{index}"
        sizes = {visit.name: visit.map_shape for visit in seen}
        if not any(matches(pattern, visit.name) for visit in seen if visit.name):
            text = f"{spec.path}.layers: {self.recipe.model.type} has no layer '{pattern}'"
            near = "layers have names, no kinds" if pattern.startswith("@") else _near(pattern, model)
            hint = f"{near}; maps: {cam_layers.layers_by_size(seen)}"
            self.draft.report("R073", path, text, hint)
            return
        with self._reported("R073", path):
            for name in cam_layers.select_layers([pattern], seen):
                _, height, width = sizes[name] or (0, 0, 0)
                if min(height, width) < READABLE:
                    text = f"the map of {name} is {height} x {width}: too small to say where the network looked"
                    self.draft.report("W011", path, text, "take an earlier layer as well")

    def _batch_of_one(self, model: nn.Module) -> None:
        """Report a last batch of one image that BatchNorm has no statistics of."""
        data, images = self.recipe.data, self.known.train_images
        if images is None or data.drop_last or images % data.batch_size != 1 or images == 1:
            return
        if any("BatchNorm" in cls.__name__ for module in model.modules() for cls in type(module).__mro__):
            count = f"{images:,} training images leave one for the last batch of {data.batch_size}"
            text = f"{count}, and the model has BatchNorm"
            self.draft.report("W012", "data.batch_size", text, "set data.drop_last: true, or another batch_size")

    # ------------------------------------------------------------------------------------------ optimizer and scheduler
    def _optimizer_and_scheduler(self, model: nn.Module, loss: object) -> None:
        """Build both as a run does, on stand-ins that have the parameters' shapes and take no memory."""
        spec, parts = self.recipe.optimizer, self.parts
        parts.freeze(model)
        check_statistics(self.draft, model)
        self._empty_groups(model)
        groups = ParameterGroups.of(spec, model, loss)
        real = {**dict(model.named_parameters()), **learnt_by(loss)}
        parameters = {name: nn.Parameter(torch.zeros(()).expand(p.shape)) for name, p in real.items()}
        optimizer = None
        if any(group.names for group in groups.groups):
            optimizer = self._tried(spec, lambda: parts.new_optimizer(groups, parameters))
        if optimizer is None:  # refused; the scheduler is still worth a look
            groups = ParameterGroups(spec.arguments["lr"], groups.groups[:1])
            optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
        with self._reported("R071", "scheduler"):
            self._rehearse(parts.new_schedule(optimizer, groups))

    def _empty_groups(self, model: nn.Module) -> None:
        """Report groups that get nothing because an earlier one, or `train.freeze`, has it all."""
        learnt = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        taken: set[str] = set()
        for index, group in enumerate(named_groups(self.recipe.optimizer)):
            meant, path = set(select(group.match, model)), f"optimizer.groups.{index}"
            if meant and not meant & learnt:
                text = f"{path}: all that it matches is frozen by train.freeze, so it changes nothing"
                self.draft.report("W061", path, text, "leave it out")
            elif meant and not meant & learnt - taken:
                text = f"{path}: the groups before it have taken all that it matches"
                self.draft.report("R076", path, text, "the first that matches wins: put the narrower group first")
            taken |= meant

    def _rehearse(self, schedule: Schedule) -> None:
        """Move the rates through the whole run where its length is known, and look at the way they take."""
        spec, by_step = self.recipe.scheduler, schedule.every_step
        units = self.recipe.train.epochs * (self.parts.steps_per_epoch if by_step else 1)
        unknown = by_step and self.known.train_images is None
        if spec is None or spec.type == "ReduceLROnPlateau" or unknown or units > LONGEST_REHEARSAL:
            return
        rates, unit = self._rates(schedule, units), "step" if by_step else "epoch"
        if isinstance(rates, _Ended):
            self._ends_early(spec, rates, units, unit)
            return
        if (lowest := min(rates)) < 0:
            text = f"scheduler {spec.type}: the learning rate is {lowest:.4g} in {unit} {rates.index(lowest) + 1:,}"
            self.draft.report("R116", "scheduler", text, "a rate below 0 climbs where it should descend")
            return
        least = VANISHED * max(rates)
        alive = max((index for index, rate in enumerate(rates) if rate > least), default=units) + 1
        if units - alive > DEAD_SHARE * units:
            text = f"scheduler {spec.type}: the learning rate is practically 0 after {unit} {alive:,} of {units:,}"
            self.draft.report("W062", "scheduler", text, "nothing is learnt from there on: stretch it over the run")

    def _rates(self, schedule: Schedule, units: int) -> list[float] | _Ended:
        """Return the rate of each unit, steps or epochs; where the schedule raises on the way, when and what."""
        rates = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch misses the optimizer's steps
            for done in range(1, units + 1):
                rates.append(schedule.lr)
                try:
                    schedule.step_finished()
                    if not schedule.every_step or done % self.parts.steps_per_epoch == 0:
                        schedule.epoch_finished({})
                except Exception as error:  # of torch, or of a plug-in: the recipe named it
                    return _Ended(done, str(error))
        return rates

    def _ends_early(self, spec: Spec, ended: _Ended, units: int, unit: str) -> None:
        words = f"{units:,} {unit}{'' if units == 1 else 's'}"
        where = f"in {unit} {ended.unit:,} it raises: {ended.said}"
        text = f"scheduler {spec.type} ends before the run, which takes {words}: {where}"
        self.draft.report("R053", "scheduler", text, "leave its length out: the engine supplies it")

    # ---------------------------------------------------------------------------------------------------- all the rest
    def _loss(self) -> object:
        """Build the loss, try it on made-up logits and return it; None where it cannot be built."""
        if not self.draft.sound("loss"):
            return None
        before, classes = len(self.draft.problems.found), self.parts.classes
        balanced = torch.linspace(0.5, 1.5, classes)  # a stand-in
        loss = self._tried(self.recipe.loss, lambda: self.parts.new_loss(balanced))
        if loss is not None and len(self.draft.problems.found) == before:
            try_loss(self.draft, loss, classes)
        return loss

    def _rest(self) -> None:
        """Build what needs no model, and try the metrics on made-up logits."""
        recipe, draft, parts = self.recipe, self.draft, self.parts
        for spec in (*recipe.regularizers, *recipe.callbacks, *recipe.report):
            self.make(spec)
        mix = recipe.train.mix
        if mix is not None:
            self._tried(mix, lambda: parts.new_mix(mix))
        for spec in recipe.train.metrics:
            metric = self._tried(spec, partial(parts.new_metric, spec)) if draft.sound(spec.path) else None
            if metric is not None:
                try_metric(draft, spec, metric, parts.classes, certain=self.known.num_classes is not None)

    def _start_from(self) -> None:
        """Report weights to start from that are not there; what is in them is looked at when they are loaded."""
        path = self.recipe.train.start_from
        if path is None or self.resumed:
            return
        if not Path(path).exists():
            self.draft.report("R074", "train.start_from", f"train.start_from: there is no '{path}'")
        elif (kind := kind_of(Path(path).stat().st_mode)) not in ("a file", "a folder"):
            self.draft.report(
                "R074", "train.start_from", f"train.start_from: '{path}' is {kind}, not a file or run folder"
            )


@dataclass(frozen=True)
class _Ended:
    """A schedule that raised before the run is over: in which step or epoch, from 1, and what it said."""

    unit: int
    said: str


def _facts_of_classes(count: int, names: Sequence[str] | None = None) -> dict[str, object]:
    if names is None or len(names) != count:
        names = [f"class {index}" for index in range(count)]
    return {"data.num_classes": count, "data.class_names": list(names)}


def _near(pattern: str, model: nn.Module) -> str:
    """Return the hint for a pattern that means nothing."""
    modules = [name for name, _ in model.named_modules() if name]
    top = [name for name, _ in model.named_children()]
    others = [kind for kind in KINDS if kind != pattern]
    return did_you_mean(nearest(pattern, [*modules, *others]), f"its parts are {listed(top)}")


def _needs_numbers(error: Exception) -> bool:
    """Whether a network has asked a tensor without numbers for one."""
    return "meta tensor" in str(error) or "data-dependent" in str(error).lower()
