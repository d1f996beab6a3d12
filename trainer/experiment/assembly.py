"""Assembly: the one way to build each part of a recipe, for a run and for its trial.

Owns what the engine supplies to which part, and what is frozen, penalised and grouped. What is known of the data is for
the subclasses to say: `Experiment`, which has read them, the trial's `StandIns`, and `Trained`, whose checkpoint tells.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from registry.catalogue.catalog import Catalogue
from registry.contracts import Metric
from trainer.data.pipeline import Pipeline
from trainer.engine.criterion import Loss
from trainer.engine.schedule import Schedule
from trainer.engine.step import Penalty
from trainer.experiment.components import build
from trainer.experiment.groups import Bind, ParameterGroups, make_schedule
from trainer.recipe import patterns
from trainer.recipe.recipe import Recipe, Reference, Spec


class Assembly(ABC):
    """Builds the parts of one recipe.

    Attributes:
        recipe: what was asked for.
        catalogue: what its names mean.
        steps_per_epoch: optimizer steps per epoch.
    """

    recipe: Recipe
    catalogue: Catalogue
    steps_per_epoch: int

    @abstractmethod
    def count_classes(self) -> int:
        """Return how many classes there are to tell apart."""

    @abstractmethod
    def bind(self, reference: Reference) -> object:
        """Return what a run-time reference stands for."""

    def make(self, spec: Spec, /, **supplied: object) -> Any:
        """Build one component, run-time values bound, `supplied` filled in where the user did not say.

        Raises:
            RecipeError: it refuses its arguments.
        """
        return build(spec, supplied=supplied, bind=self.bind, catalogue=self.catalogue)

    # ----------------------------------------------------------------------------------------------------------- parts
    def new_pipeline(self, specs: Sequence[Spec], device: torch.device) -> Pipeline:
        """Build `augment` or `eval`, with `preprocess` after it."""
        section = self.recipe.data
        return Pipeline(
            [self.make(spec) for spec in specs],
            [self.make(spec) for spec in section.preprocess],
            seed=self.recipe.seed,
            backend=section.augment_backend,
            device=device,
            reduces=section.decode == "reduced",
        )

    def new_model(self, shape: tuple[int, int, int], without: Mapping[str, object] | None = None) -> Any:
        """Build the network.

        Args:
            shape: (channels, height, width) of what it is given.
            without: arguments to take in place of the recipe's, where it has them.
        """
        spec, (channels, height, width) = self.recipe.model, shape
        instead = {name: value for name, value in (without or {}).items() if name in spec.arguments}
        size = height if height == width else (height, width)
        return self.make(
            replace(spec, arguments={**spec.arguments, **instead}),
            num_classes=self.count_classes(),
            in_channels=channels,
            image_size=size,
        )

    def freeze(self, model: nn.Module) -> None:
        """Have the parameters that `train.freeze` means take no gradients."""
        for name in patterns.select(self.recipe.train.freeze, model):
            model.get_parameter(name).requires_grad_(False)

    def new_loss(self, balanced: Tensor) -> Loss:
        """Build the loss; `balanced` are its class weights, (C,), where the recipe says so."""
        spec = self.recipe.loss
        by_name, asks = spec.arguments.get("weight"), self.catalogue.entry("loss", spec.type).facts.get("computed", {})
        if isinstance(by_name, Mapping) and "weight" in asks:
            names = self.bind(Reference("data.class_names"))
            weights = [by_name.get(name, 1.0) for name in cast("list[str]", names)]
            spec = replace(spec, arguments={**spec.arguments, "weight": weights})
        loss: Loss = self.make(spec, weight=balanced, num_classes=self.count_classes())
        return loss

    def new_metric(self, spec: Spec) -> Metric:
        """Build a metric."""
        metric: Metric = self.make(spec, num_classes=self.count_classes(), task="multiclass")
        return metric

    def new_mix(self, spec: Spec) -> Any:
        """Build what mixes the images of a batch."""
        return self.make(spec, num_classes=self.count_classes())

    def new_penalty(self, spec: Spec, model: nn.Module) -> Penalty:
        """Build a regularizer, with the parameters it acts on that learn."""
        regularizer = self.make(spec)
        selected = set(patterns.select(regularizer.include or ("**",), model))
        selected -= set(patterns.select(regularizer.exclude or (), model))
        parameters = [p for name, p in model.named_parameters() if name in selected and p.requires_grad]
        return Penalty(spec.key, regularizer, parameters)

    def new_optimizer(
        self, groups: ParameterGroups, parameters: Mapping[str, Tensor], bind: Bind | None = None, **supplied: object
    ) -> Optimizer:
        """Build the optimizer.

        Args:
            groups: which parameters go into which group.
            parameters: by name.
            bind: gives run-time references their values; `self.bind` where None.
            supplied: where the recipe does not say.
        """
        bind, spec = bind or self.bind, self.recipe.optimizer
        optimizer: Optimizer = self.make(
            replace(spec, arguments={**spec.arguments, "lr": groups.base_rate(bind)}),
            params=groups.arguments(parameters, bind),
            **supplied,
        )
        return optimizer

    def new_schedule(self, optimizer: Optimizer, groups: ParameterGroups) -> Schedule:
        """Build the learning-rate schedule of `optimizer`, whose groups are `groups`."""
        return make_schedule(
            self.recipe.scheduler,
            optimizer,
            groups,
            make=self.make,
            bind=self.bind,
            epochs=self.recipe.train.epochs,
            steps_per_epoch=self.steps_per_epoch,
        )
