"""The experiment: a recipe's live objects on its real data, for the stages of a run.

Everything that must be fresh for a stage (optimizer, schedule, precision, metrics) is a method; what the whole run
shares (data, model, loss, penalties, report) is an attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

from registry.catalogue.catalog import Catalogue
from registry.contracts import Callback, Metric, ReportPart
from registry.errors import RecipeError
from registry.metrics.counting import CrossEntropy
from registry.models.pretrained import architecture_only, listening
from registry.recording import Sink
from trainer.data.batches import Batches
from trainer.data.features import FeatureBatches
from trainer.data.pipeline import Pipeline
from trainer.data.singly import naming
from trainer.data.splits import LoadedData, Part
from trainer.data.store import LazyStore
from trainer.engine import precision as precisions
from trainer.engine import rng
from trainer.engine.criterion import Loss
from trainer.engine.device import choose_device, tune_backends
from trainer.engine.folding import folded
from trainer.engine.guard import Guard
from trainer.engine.modules import load_learnt
from trainer.engine.precision import Precision
from trainer.engine.processes import ONE, Mixer, Processes
from trainer.engine.schedule import Schedule
from trainer.engine.step import Penalty, Step
from trainer.engine.training_mode import frozen_statistics, train
from trainer.engine.weights import load_weights
from trainer.experiment.assembly import Assembly
from trainer.experiment.components import build
from trainer.experiment.dataset import no_reference, place_of, read_data, usable_deviations
from trainer.experiment.facts import Facts
from trainer.experiment.features import Features, Keeping, NotKeptError, is_part_frozen, why_not
from trainer.experiment.groups import Bind, ParameterGroups, learnt_by
from trainer.experiment.measuring import Measured, open_measured
from trainer.experiment.trained import Trained
from trainer.recipe import patterns
from trainer.recipe.reading.references import LR_FOUND
from trainer.recipe.recipe import CROSS_ENTROPY, Recipe, Reference, Spec

KNOWN_WITHOUT_DATA = {"data.num_classes", "data.class_names", "data.image_size", "run.epochs"}
PREPARE_IMAGES = 5_000  # training images a model's own `prepare` is shown

Which = Literal["train", "val", "test"]


class Course(NamedTuple):
    """What a training goes over.

    Attributes:
        learning: what a step calls on a training batch.
        forward: what is called on a validation batch.
        train: training batches.
        val: validation batches.
    """

    learning: nn.Module
    forward: nn.Module
    train: Batches
    val: Batches


@dataclass
class Experiment(Assembly):
    """Live objects of one recipe.

    Attributes:
        recipe: what was asked for.
        catalogue: what its names mean.
        device: where the model lies.
        data: the parts and their facts.
        facts: run-time values.
        model: the network, prepared, on the device.
        loss: plain loss.
        penalties: regularizers with their parameters.
        report: parts of the report.
        log: takes one line.
        trained: what a checkpoint tells of the run; None for a new one.
        processes: that share every batch.
    """

    recipe: Recipe
    catalogue: Catalogue
    device: torch.device
    data: LoadedData
    facts: Facts
    log: Callable[[str], None]
    trained: Trained | None = None
    processes: Processes = ONE
    model: nn.Module = field(init=False)
    loss: Loss = field(init=False)
    penalties: Sequence[Penalty] = field(init=False)
    report: Sequence[ReportPart] = field(init=False)

    # -------------------------------------------------------------------------------------------------------- building
    @classmethod
    def from_recipe(
        cls,
        recipe: Recipe,
        catalogue: Catalogue,
        *,
        log: Callable[[str], None],
        trained: Trained | None = None,
        processes: Processes = ONE,
        say: Callable[[str], None] | None = None,
    ) -> Experiment:
        """Read the data and build everything the run shares.

        Args:
            recipe: checked.
            catalogue: what its names mean.
            log: takes one line.
            trained: of the checkpoint that a resumed run goes on from: its weights come from there and what was
                measured of the data is not measured again; None for a new run.
            processes: that share every batch.
            say: takes one line of a process that waits for another; `log` where omitted.

        Raises:
            RecipeError: a component refuses its arguments.
            DataError: the data are missing or do not fit.
        """
        experiment = cls._on_data(recipe, catalogue, log, trained, processes, say)
        if trained is not None:
            measured = {name for name in trained.facts if name.startswith("data.")}
            experiment.facts.take(measured - KNOWN_WITHOUT_DATA, trained.fact)
        experiment._build()
        return experiment

    @classmethod
    def of_images(cls, recipe: Recipe, catalogue: Catalogue, *, log: Callable[[str], None]) -> Experiment:
        """Read the data for whoever looks at nothing but images: no network is built, an empty one stands for it.

        Raises:
            DataError: the data are missing or do not fit.
        """
        experiment = cls._on_data(recipe, catalogue, log)
        experiment.model, experiment.penalties, experiment.report = nn.Identity(), (), ()
        return experiment

    @classmethod
    def _on_data(
        cls,
        recipe: Recipe,
        catalogue: Catalogue,
        log: Callable[[str], None],
        trained: Trained | None = None,
        processes: Processes = ONE,
        say: Callable[[str], None] | None = None,
    ) -> Experiment:
        """Read the data and define what they tell."""
        rng.seed_everything(recipe.seed)
        device = processes.device(recipe.train.device, recipe.origins.get("train.device", recipe.file))
        tune_backends(device, deterministic=recipe.train.deterministic)
        with processes.first_on_machine(say or log):
            data = read_data(recipe, catalogue, log)
        log(data.describe(place_of(recipe, catalogue)))
        experiment = cls(recipe, catalogue, device, data, Facts(), log, trained, processes)
        experiment._define_facts()
        return experiment

    @classmethod
    def of_trained(cls, trained: Trained, *, log: Callable[[str], None]) -> tuple[Experiment, Measured]:
        """Build what a finished run is measured with, from its checkpoint, and open the data that its recipe names.

        Returns:
            The experiment, its model with the trained weights; and what there is to measure on.

        Raises:
            DataError: the data are missing or do not fit the network.
            CheckpointError: the weights do not fit the recipe's model.
        """
        recipe = trained.recipe
        rng.seed_everything(recipe.seed)
        device = choose_device(recipe.train.device)
        tune_backends(device, deterministic=recipe.train.deterministic)
        measured = open_measured(trained, log)
        experiment = cls(recipe, trained.catalogue, device, measured.data, Facts(), log, trained)
        experiment._define_facts()
        experiment.facts.take({*experiment.facts, *trained.facts} - KNOWN_WITHOUT_DATA, trained.fact)
        experiment._build()
        trained.load_into(experiment.model)
        load_learnt(experiment.loss, trained.loss, trained.loss_buffers)
        return experiment, measured

    def _define_facts(self) -> None:
        data, facts = self.data, self.facts
        facts.define("data.num_classes", lambda: len(data.class_names))
        facts.define("data.class_names", lambda: list(data.class_names))
        facts.define("data.mean", lambda: list(data.mean))
        facts.define("data.std", lambda: usable_deviations(data.std, self.recipe))
        facts.define("data.image_size", lambda: list(self.input_shape[1:]))
        facts.define("data.train_size", lambda: len(data.train.indices))
        facts.define("run.epochs", lambda: self.recipe.train.epochs)
        facts.define("run.steps_per_epoch", lambda: self.steps_per_epoch)
        facts.define("run.total_steps", lambda: self.steps_per_epoch * self.recipe.train.epochs)

    def _build(self) -> None:
        recipe = self.recipe
        self._begin_reading()
        rng.seed_everything(recipe.seed)
        self.model = self._model()
        self.loss = self._on_device(self.new_loss(self._balanced_weights()))
        if learnt := learnt_by(self.loss):
            names = ", ".join(name.removeprefix("loss: ") for name in learnt)
            self.log(f"loss {recipe.loss.type}: {names} learn with the network, in a parameter group of their own")
        self.penalties = [self.new_penalty(spec, self.model) for spec in recipe.regularizers]
        for penalty in self.penalties:
            self._on_device(penalty.regularizer)
        self.report = [self._part_of_report(spec) for spec in recipe.report]
        self.processes.draw_apart(recipe.seed)

    def _part_of_report(self, spec: Spec) -> ReportPart:
        """Build a part of the report; one that keeps pictures beside another of its type is told its own name."""
        part: ReportPart = self.make(spec)
        if spec.renamed and hasattr(part, "label"):
            part.label = spec.name
        return part

    def _begin_reading(self) -> None:
        """Have the pictures of the first steps read while the network is built."""
        part, section = self.data.train, self.recipe.data
        enough = len(part) >= (section.batch_size if section.drop_last else 1)
        if isinstance(part.store, LazyStore) and enough and not self.recipe.train.freeze:
            self.batches("train").begin(0)

    def _on_device(self, part: Any) -> Any:
        return part.to(self.device) if isinstance(part, nn.Module) else part

    def _balanced_weights(self) -> torch.Tensor:
        """One factor per class, N / (C * count): float32 (C,), mean 1 over the training samples.

        C is the number of classes that have any. Another can only be met in validation, where it counts as without
        weights, 1: nothing is known of how it should.
        """
        counts = torch.tensor(self.class_counts)
        factors = int(counts.sum()) / (int((counts > 0).sum()) * counts.clamp(min=1)).float()
        return torch.where(counts > 0, factors, 1.0)

    @property
    def class_counts(self) -> Sequence[int]:
        """Training images per class."""
        if self.trained is not None and self.trained.class_counts is not None:
            return self.trained.class_counts
        counts: list[int] = torch.bincount(self.data.train.targets, minlength=len(self.data.class_names)).tolist()
        return counts

    def count_classes(self) -> int:
        """Return how many classes the data have."""
        return len(self.data.class_names)

    def bind(self, reference: Reference) -> object:
        """Return what the data, the run or the LR finder have told."""
        return self.facts[reference.path]

    def _model(self) -> nn.Module:
        with nullcontext() if self.trained is None else architecture_only(), listening() as loaded:
            model: nn.Module = self.new_model(self.input_shape)
        for line in loaded:
            self.log(line)
        model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        prepare = getattr(model, "prepare", None)
        if callable(prepare) and len(self.data.train):
            prepare(self._sample_for_prepare())
        train = self.recipe.train
        if train.start_from is not None and self.trained is None:
            head = patterns.select(["@head"], model)
            self.log(load_weights(model, Path(train.start_from), self.data.class_names, head))
        self.freeze(model)
        model = self._with_norms_of_the_whole_batch(model) if train.sync_norm else model
        self._tell_frozen_statistics(model)
        return model

    def _with_norms_of_the_whole_batch(self, model: nn.Module) -> nn.Module:
        """Return the network with `train.sync_norm`.

        Raises:
            RecipeError: it does not lie on a GPU.
        """
        if self.device.type != "cuda":
            place = self.recipe.origins.get("train.sync_norm", self.recipe.file)
            raise RecipeError(
                f"{place}: train.sync_norm is of torch's SyncBatchNorm, which works on GPUs; this is {self.device}",
                "leave it out: BatchNorm counts over each process's share",
            )
        return self.processes.normed(model)

    def _tell_frozen_statistics(self, model: nn.Module) -> None:
        count = len(frozen_statistics(model))
        if not count:
            return
        said = "their statistics stay as they are (train.frozen_statistics: update lets them move)"
        if self.recipe.train.frozen_statistics == "update":
            said = "their statistics move all the same (train.frozen_statistics: update)"
        self.log(f"frozen norm layers: {count}; {said}")

    def _sample_for_prepare(self) -> torch.Tensor:
        part = self.data.train
        positions = torch.randperm(len(part.indices), generator=torch.Generator().manual_seed(self.recipe.seed))
        sample = replace(part, indices=part.indices[positions[:PREPARE_IMAGES]])
        # By batches, so that no more than one lies there as it is stored; whole ones, since every process prepares.
        batches = self._batches(sample, training=False, processes=ONE)
        return torch.cat([batch.images for batch in batches.epoch(0)]).float()

    # ------------------------------------------------------------------------------------------------- data as batches
    @cached_property
    def train_pipeline(self) -> Pipeline:
        """What happens to training images."""
        return self.new_pipeline(self.recipe.data.augment, self.device)

    @cached_property
    def eval_pipeline(self) -> Pipeline:
        """What happens to all other images."""
        return self.new_pipeline(self.recipe.data.eval, self.device)

    def transform_lines(self) -> list[str]:
        """Say which training transforms run in batches, which image by image and why, and what is done beside them."""
        if self.input_shape:  # both pipelines end in `preprocess`: what it makes is known once an image went through
            self.train_pipeline.scales = self.eval_pipeline.scales
        return self.train_pipeline.log_lines()

    @cached_property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of what the model is given in evaluation."""
        if self.trained is not None:
            return self.trained.input_shape
        part = self.data.val
        one = part.indices[:1]
        with naming(part.store.describe, one):
            shape = self.eval_pipeline.apply(part.store.gather(one), epoch=0, indices=one).shape
        return int(shape[1]), int(shape[2]), int(shape[3])

    def part(self, which: Which) -> Part:
        """Return a part of the data.

        Raises:
            KeyError: there is no such part.
        """
        part = getattr(self.data, which)
        if part is None:
            raise KeyError(which)
        return part  # type: ignore[no-any-return]

    def batches(self, which: Which | Part) -> Batches:
        """Return the batches of a part: shuffled and augmented for "train", in order otherwise."""
        if which == "train":
            return self._train_batches
        return self._batches(which if isinstance(which, Part) else self.part(which), training=False)

    @cached_property
    def _train_batches(self) -> Batches:
        """The training batches: the same object for everybody, since it may have begun to read."""
        return self._batches(self.data.train, training=True)

    def _batches(
        self,
        part: Part,
        *,
        training: bool,
        processes: Processes | None = None,
        kind: Callable[..., Batches] = Batches,
        **options: Any,
    ) -> Batches:
        """Return the batches of a part.

        Args:
            part: the images.
            training: whether they are learnt from.
            processes: that share them; those of the experiment where omitted.
            kind: of batches.
            options: to take in place of what `training` and the recipe say.
        """
        section, processes = self.recipe.data, processes or self.processes
        settings: dict[str, Any] = {
            "batch_size": section.batch_size if training else section.eval_batch_size,
            "seed": self.recipe.seed,
            "shuffle": training,
            "drop_last": training and section.drop_last,
            "device": self.device,
            "balanced": training and section.sampler == "balanced",
            "workers": section.workers,
            "sharing": processes.sharing,
            "neighbours": processes.on_this_machine,
        }
        return kind(part, self.train_pipeline if training else self.eval_pipeline, **{**settings, **options})

    @cached_property
    def course(self) -> Course:
        """What a training goes over: images, or what frozen layers make of them where that is kept."""
        features = self._features()
        if features is None:
            return Course(self._folded(), self.forward, self.batches("train"), self.batches("val"))
        head = self._compiled(features.head)
        train, val = (
            self._batches(part, training=name == "train", kind=FeatureBatches, features=features.parts[name])
            for name, part in (("train", self.data.train), ("val", self.data.val))
        )
        return Course(head, head, train, val)

    def _folded(self) -> nn.Module:
        """Return what a training step calls on images, frozen norm layers folded into the convolutions before them."""
        if not self.still or self.learning is not self.model:  # it learns throughout, or is compiled or shared
            return self.learning
        images = torch.rand((2, *self.input_shape), generator=torch.Generator().manual_seed(0)).to(self.device)
        mode = [(module, module.training) for module in self.model.modules()]
        self.train_mode()
        try:
            with self.precision().autocast():
                return folded(self.model, self.still, images)
        finally:
            for module, training in mode:
                module.training = training

    def _features(self) -> Features | None:
        """Compute what frozen layers make of the images; None where it is not kept, which is said."""
        train = self.recipe.train
        if train.cache_features == "off" or not is_part_frozen(self.model.parameters()):
            return None
        drawn, count = self.train_pipeline.drawn, self.processes.count
        reason = why_not(mixes=train.mix is not None, processes=count, drawn=drawn)
        once: dict[str, Any] = {"shuffle": False, "drop_last": False, "balanced": False}
        try:
            if reason:
                raise NotKeptError(reason)
            keeping = Keeping(self.model, self.train_mode, self.precision(), self.log, self.recipe.train.compile)
            images = self._batches(self.data.train, training=True, **once)
            return keeping.features({"train": images, "val": self.batches("val")})
        except NotKeptError as error:
            self.log(f"frozen layers: what they make of an image is computed in every step: {error}")
            return None

    @cached_property
    def steps_per_epoch(self) -> int:  # type: ignore[override]  # worked out when first asked for
        """Optimizer steps per epoch."""
        return -(-len(self.batches("train")) // self.recipe.train.accumulate)

    @property
    def images_per_step(self) -> float:
        """Images of an optimizer step, on average: the last of an epoch may have fewer."""
        most = self.steps_per_epoch * self.recipe.data.batch_size * self.recipe.train.accumulate
        return min(most, len(self.data.train)) / max(self.steps_per_epoch, 1)

    # ------------------------------------------------------------------------------------------------ fresh for a stage
    def precision(self) -> Precision:
        """Return the number format, with a scaler of its own where it has one."""
        return precisions.choose(self.recipe.train.precision, self.device)[0]

    def describe_precision(self) -> str:
        """Return the number format and why it was chosen."""
        precision, reason = precisions.choose(self.recipe.train.precision, self.device)
        products = precisions.products(precision, self.device, deterministic=self.recipe.train.deterministic)
        return f"{precision.name} ({reason}{products})"

    def metrics(self) -> dict[str, Metric]:
        """Return fresh metrics by key."""
        return {spec.key: self.new_metric(spec) for spec in self.recipe.train.metrics}

    @cached_property
    def groups(self) -> ParameterGroups:
        """Which learnt parameters go into which group."""
        return ParameterGroups.of(self.recipe.optimizer, self.model, self.loss)

    def evaluation_metrics(self) -> dict[str, Metric]:
        """Return fresh metrics of validation and test by key: the recipe's, and the plain cross entropy first."""
        return {CROSS_ENTROPY: CrossEntropy(), **self.metrics()}

    def optimizer(self, found: float | None = None) -> Optimizer:
        """Return a fresh optimizer over the trained parameters.

        Args:
            found: the learning rate to take for the one that the LR finder looks for; None for the recipe's own.

        Raises:
            RecipeError: upstream refuses the arguments, or nothing is left to train.
        """
        spec = self.recipe.optimizer
        groups = self.groups if found is None else self.groups.swept()
        parameters = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        if not parameters:
            raise RecipeError(f"{spec.origin}: no parameter is left to train", "loosen train.freeze")
        fused = self.device.type in ("cpu", "cuda") and not {"foreach", "fused", "capturable"} & set(spec.arguments)
        supplied = {"fused": True} if fused else {}
        bind = None if found is None else self._bind_found(found)
        return self.new_optimizer(groups, {**parameters, **learnt_by(self.loss)}, bind, **supplied)

    def swept_rates(self, lr: float) -> list[float]:
        """Return each group's learning rate where a sweep has come to `lr`: those that are not found stay."""
        return self.groups.swept().rates(self._bind_found(lr))

    def _bind_found(self, lr: float) -> Bind:
        return lambda reference: lr if reference.path == LR_FOUND else self.bind(reference)

    def schedule(self, optimizer: Optimizer) -> Schedule:
        """Return a fresh schedule on `optimizer`."""
        return self.new_schedule(optimizer, self.groups)

    def step(self, optimizer: Optimizer, precision: Precision | None = None, guard: Guard | None = None) -> Step:
        """Return what takes optimizer steps over the training batches of `course`."""
        return Step(
            self.course.learning,
            self.loss,
            optimizer,
            precision or self.precision(),
            self.penalties,
            self.recipe.train.clip_norm,
            guard or Guard(self.device),
            self.processes,
        )

    @cached_property
    def modules(self) -> dict[str, nn.Module]:
        """What has a state of its own beside the model, by the role it plays."""
        roles = {"loss": self.loss, "mix": self.mix}
        roles.update({f"regularizer {penalty.name}": penalty.regularizer for penalty in self.penalties})
        return {role: part for role, part in roles.items() if isinstance(part, nn.Module)}

    @cached_property
    def still(self) -> Sequence[nn.Module]:
        """Layers that stay in evaluation mode while the model trains."""
        return frozen_statistics(self.model) if self.recipe.train.frozen_statistics == "keep" else ()

    def train_mode(self) -> None:
        """Put the model into training mode."""
        train(self.model, self.still)

    @cached_property
    def forward(self) -> nn.Module:
        """The model, compiled where the recipe asks for it."""
        return self._compiled(self.model)

    @cached_property
    def learning(self) -> nn.Module:
        """What a training step calls on images: `forward`, with what sums gradients over the processes within."""
        carried = self.processes.carried(self.model, self.modules.values(), self.input_shape)
        return self.forward if carried is self.model else self._compiled(carried)

    def _compiled(self, model: nn.Module) -> nn.Module:
        return torch.compile(model) if self.recipe.train.compile else model  # type: ignore[return-value]

    @cached_property
    def mix(self) -> Any:
        """What mixes the images of a batch; None without `train.mix`."""
        spec = self.recipe.train.mix
        return None if spec is None else self._on_device(self.new_mix(spec))

    @cached_property
    def mixer(self) -> Callable[[int, int], Mixer] | None:
        """(epoch, step) -> what mixes that step's batches, by a generator of its own; None without `train.mix`."""
        if self.mix is None:
            return None
        mix, seed = self.mix, self.recipe.seed

        def for_step(epoch: int, step: int) -> Mixer:
            generator = torch.Generator().manual_seed(rng.derived_seed("mix", seed, epoch, step))
            return lambda images, targets: mix(images, targets, generator)

        return for_step


def build_callbacks(recipe: Recipe, catalogue: Catalogue) -> tuple[list[Sink], list[Callback]]:
    """Build the entries of `callbacks:`; sinks are wanted before the data are read.

    Raises:
        RecipeError: one refuses its arguments.
    """
    built = [build(spec, supplied={}, bind=no_reference, catalogue=catalogue) for spec in recipe.callbacks]
    for spec, callback in zip(recipe.callbacks, built, strict=True):
        if spec.renamed and isinstance(callback, Callback):
            callback.called = spec.name
    sinks = [each for each in built if isinstance(each, Sink)]
    return sinks, [each for each in built if isinstance(each, Callback)]
